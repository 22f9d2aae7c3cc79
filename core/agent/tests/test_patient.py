"""A survey by an agent goes on when a question is stuck there: a child of the agent asks, and then another one."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

import vmatlas
from vmatlas import Unanswered
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import Agent, AgentTarget
from vmatlas.target.patient import PatientAgent


def test_a_question_that_is_stuck_is_given_up_and_the_next_is_answered(start: Callable[..., Agent]) -> None:
    target = AgentTarget(start())
    with target.patiently(PATIENCE) as patient:
        assert isinstance(patient.agent, PatientAgent)
        space = vmatlas.snapshot(os.getpid(), target=patient)
        assert len(space) > 10
        stuck = patient.agent._child
        assert stuck is not None and stuck.pid != target.agent.hello.pid
        os.kill(stuck.pid, signal.SIGSTOP)
        patient.agent._seconds = 1.0
        with pytest.raises(Unanswered) as given_up:
            vmatlas.snapshot(os.getpid(), target=patient)
        patient.agent._seconds = PATIENCE
        assert given_up.value.seconds >= 1
        assert vmatlas.snapshot(os.getpid(), target=patient)[0].start == space[0].start
        assert patient.agent._child is not None and patient.agent._child.pid != stuck.pid
    assert target.agent.ping(b"alive") == b"alive"


def test_a_survey_by_an_agent_tells_who_did_not_answer(
    start: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AgentTarget(start())
    target.system_info  # noqa: B018  (asked once, before anything is stuck)
    sleeper = subprocess.Popen(["sleep", "3600"])  # anybody else's may end meanwhile
    one = sleeper.pid
    ask = PatientAgent.ask

    def stop_at(agent: PatientAgent, operation: Any, payload: bytes = b"", **how: Any) -> Any:
        if operation.name == "ACQUIRE" and one.to_bytes(4, "little") in payload and agent._child is not None:
            os.kill(agent._child.pid, signal.SIGSTOP)
        return ask(agent, operation, payload, **how)

    monkeypatch.setattr(PatientAgent, "ask", stop_at)
    try:
        answers = {process.pid: answer for process, answer in vmatlas.snapshots(target, patience=1.0)}
    finally:
        sleeper.kill()
        sleeper.wait()
    error = answers[one]
    assert isinstance(error, Unanswered) and f"process {one} (" in str(error)
    assert sum(isinstance(answer, vmatlas.AddressSpace) for answer in answers.values()) > 0


def test_an_agent_that_can_have_no_child_is_asked_itself(
    start: Callable[..., Agent], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = AgentTarget(start())

    def refuse(agent: Agent, program: bytes = b"") -> None:
        raise vmatlas.OperationFailed("spawn failed on the target: ENOTSUP")

    monkeypatch.setattr(Agent, "spawn", refuse)
    with target.patiently(PATIENCE) as patient:
        assert len(vmatlas.snapshot(os.getpid(), target=patient)) > 10
