"""Processes that end, that are zombies, that are the kernel's, that are somebody else's."""

from __future__ import annotations

import contextlib
import time

import pytest

import vmatlas
from vmatlas import registry
from vmatlas.backend import Feature, Target
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import AgentProcess, AgentTarget, required

NOBODY = 65534


def test_process_is_listed_with_its_identity(reader: Target, backend: str, worker: AgentProcess) -> None:
    listed = {process.pid: process for process in reader.processes()}
    with vmatlas.open(worker.pid, target=reader, backend=backend) as process:
        assert process.start_time is not None
        assert listed[worker.pid].start_time == process.start_time
        assert not listed[worker.pid].kernel
        space = process.snapshot()
    assert (space.pid, space.start_time) == (worker.pid, process.start_time)


def test_agent_reads_itself(agent_target: AgentTarget, backend: str) -> None:
    space = vmatlas.snapshot(None, target=agent_target, backend=backend)
    assert space.pid == agent_target.agent.hello.pid
    assert len(space) > 0


def test_process_that_never_was(reader: Target, backend: str) -> None:
    free = max(process.pid for process in reader.processes()) + 1000
    with pytest.raises(vmatlas.NoSuchProcess):
        vmatlas.snapshot(free, target=reader, backend=backend)


def test_zombie_and_reaped_process_are_no_such_process(reader: Target, backend: str, agent_target: AgentTarget) -> None:
    child = agent_target.agent.spawn()
    with vmatlas.open(child.pid, target=reader, backend=backend) as process:
        assert len(process.snapshot()) > 0
        required(child.end(), "ending the child")
        _wait_for_zombie(reader, child.pid)
        with pytest.raises(vmatlas.NoSuchProcess):
            process.snapshot()
        with pytest.raises(vmatlas.NoSuchProcess):
            process.find(0x1000, or_next=True)
        with pytest.raises(vmatlas.NoSuchProcess):
            vmatlas.snapshot(child.pid, target=reader, backend=backend)
        assert required(child.reap(), "reaping the child") == child.pid
        with pytest.raises(vmatlas.NoSuchProcess):
            process.snapshot()
    with pytest.raises(vmatlas.NoSuchProcess):
        vmatlas.snapshot(child.pid, target=reader, backend=backend)


def test_process_of_the_kernel_is_an_empty_space(reader: Target, backend: str) -> None:
    # To an agent 0 means itself, so a process of that number cannot be asked for through one.
    kernel = [process for process in reader.processes() if process.kernel and process.pid]
    if not kernel:
        pytest.skip("this machine lists no process of the kernel (a container hides them)")
    space = vmatlas.snapshot(kernel[0].pid, target=reader, backend=backend)
    assert len(space) == 0
    # QNX's kernel does have memory, and tells none: then it is said. A thread of Linux' kernel has none at all.
    assert space.incomplete is None or "is the kernel itself" in space.incomplete


def test_process_of_another_user_is_refused_or_whole(
    agent_target: AgentTarget, backend: str, worker: AgentProcess
) -> None:
    if agent_target.agent.hello.fields.get("user") != "0":
        pytest.skip("the agent is not root, so it cannot make a process of another user")
    stranger = agent_target.agent.spawn()
    try:
        required(stranger.become(NOBODY, NOBODY), "becoming nobody")
        asked = agent_target.asked_by(stranger)
        if Feature.OWNERS_ONLY in registry.backend(backend).features:
            with pytest.raises(vmatlas.AccessDenied):
                vmatlas.snapshot(worker.pid, target=asked, backend=backend)
        else:  # it depends on how the system was set up: the whole map, or a refusal, and nothing between
            with contextlib.suppress(vmatlas.AccessDenied):
                found = vmatlas.snapshot(worker.pid, target=asked, backend=backend)
                assert list(found) == list(vmatlas.snapshot(worker.pid, target=agent_target, backend=backend))
    finally:
        stranger.end()
        stranger.reap()


def _wait_for_zombie(reader: Target, pid: int) -> None:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if any(process.pid == pid and process.state == "Z" for process in reader.processes()):
            return
        time.sleep(0.05)
    raise AssertionError(f"process {pid} did not become a zombie")
