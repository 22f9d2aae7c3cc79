"""`vmatlas.connect("qemu:NAME")`: a machine booted for one connection, and ended with it."""

from __future__ import annotations

import contextlib
import sys
import weakref
from functools import partial

from rich.console import Console

from vmatlas.target.agent import Agent, AgentTarget, Limits
from vmatlas.target.streams import SocketStream

from .boot import RunningMachine, boot
from .handshake import greet
from .machine import find
from .report import LiveLines


def connect_machine(name: str, limits: Limits) -> AgentTarget:
    """Boot the machine and reach its agent. Close the target to end it; it never outlives this process.

    On a terminal its stages are shown on standard error. Raises MachineError for an unknown name, NotRunnable,
    FetchError, and StageError for a machine that does not come up.
    """
    machine = find(name)
    with contextlib.ExitStack() as stages:
        lines = LiveLines([machine], Console(stderr=True, quiet=not sys.stderr.isatty()))
        with lines:
            running = stages.enter_context(
                boot(
                    machine,
                    hello=greet,
                    progress=partial(lines.fetching, machine),
                    watch=partial(lines.follow, machine),
                )
            )
        patience = limits.times(running.accelerator.scale)
        agent = Agent(_MachineStream(running), f"qemu:{name}", patience)
        target = AgentTarget(agent, on_close=lambda: end())
        # Also when nobody closes it: with the target, or before the interpreter takes threads away from under it.
        end = weakref.finalize(target, stages.pop_all().close)
        return target


class _MachineStream(SocketStream):
    """The agent's wire; when it breaks, what the machine said last stands on its console."""

    def __init__(self, running: RunningMachine) -> None:
        super().__init__(running.stream.dup())
        self._running = running

    def last_words(self) -> str:
        """The end of the console."""
        return self._running.console.last_words()
