"""An agent whose questions are given up one by one: a child of it asks in its place, and another when one is stuck.

An agent has one thread. What waits in its kernel for ever would make it deaf, and the target lost; a child of it can be
left behind.
"""

from __future__ import annotations

import contextlib
import signal

from vmatlas.errors import OperationFailed, Unanswered, VmatlasError
from vmatlas.target.asking import Answer
from vmatlas.target.program import Agent, AgentProcess
from vmatlas.target.wire import Operation


class PatientAgent(Agent):
    """The same agent, asked through a child of it that has its rights. Ends that child, and not the agent."""

    def __init__(self, agent: Agent, seconds: float) -> None:
        """`seconds`: how long no frame may come."""
        self.name = agent.name
        self.talk = agent.talk
        self.hello = agent.hello
        self.itself = AgentProcess(self, agent.hello.pid, 0)
        self._agent = agent
        self._seconds = seconds
        self._child: AgentProcess | None = None
        self._can_spawn = True

    def ask(
        self,
        operation: Operation,
        payload: bytes = b"",
        *,
        process: int = 0,
        patience: float = 0.0,
        most: int | None = None,
    ) -> Answer:
        """See `Agent.ask`. Raises Unanswered as well; the next question is another child's."""
        child = None if process else self._substitute()
        if child is None:
            return self._agent.ask(operation, payload, process=process, patience=patience, most=most)
        try:
            return self.talk.ask(
                operation, payload, process=child.pid, patience=patience, limit=self._seconds, most=most
            )
        except Unanswered:
            self.close()
            raise

    def _substitute(self) -> AgentProcess | None:
        """The child that asks; None where the agent can have none."""
        if self._child is None and self._can_spawn:
            try:
                self._child = self._agent.spawn()
            except OperationFailed:  # a system without fork, 64 children, a limit of processes
                self._can_spawn = False
        return self._child

    def close(self) -> None:
        """End the child; one that cannot be ended now ends with what it waits for."""
        child, self._child = self._child, None
        if child is not None:
            with contextlib.suppress(VmatlasError):  # what is wrong with the agent, the next question says
                child.end(signal.SIGKILL)
                child.reap(0)
