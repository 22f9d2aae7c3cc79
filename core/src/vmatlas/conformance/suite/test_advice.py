"""Advice to another process, through the agent: exact results, each error by its meaning, or refused as declared."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

import vmatlas
from vmatlas import AccessDenied, NoSuchProcess, Unsupported, operations
from vmatlas.conformance.ground import Ground
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import AddressSpace
from vmatlas.operations import Ability, Advice
from vmatlas.operations.systems import operations_of
from vmatlas.target.agent import AgentProcess, AgentTarget, required

NOBODY = 65534


@pytest.fixture(autouse=True)
def _able(agent_target: AgentTarget, worker: AgentProcess) -> None:
    """Goes on where the system can advise other processes; else asserts that it is refused, and skips."""
    try:
        system = operations_of(agent_target.system_info.system)
    except Unsupported as missing:
        pytest.skip(missing.message)
    if Ability.ADVISE_PROCESS not in system.abilities:
        with pytest.raises(Unsupported) as refused:
            operations.advise(worker.pid, [], Advice.COLD, target=agent_target)
        assert system.lacks(Ability.ADVISE_PROCESS) in str(refused.value)
        answer = agent_target.agent.advise_process(worker.pid, [], 0)
        assert not answer.ok, "the target advised a process, which its plugin declares it cannot"
        pytest.skip(f"refused as declared: {refused.value.message}")
    if agent_target.agent.hello.fields.get("user") != "0":
        pytest.skip("the agent is not root: advising takes CAP_SYS_NICE")
    answer = agent_target.agent.advise_process(worker.pid, [], system.advice_number(Advice.COLD) or 0)
    if answer.errno_name == "ENOSYS" and is_declared_newer(agent_target, Advice.COLD):
        with pytest.raises(Unsupported) as refused:
            operations.advise(worker.pid, [], Advice.COLD, target=agent_target, dry_run=True)
        pytest.skip(f"refused as declared: {refused.value.message}: {refused.value.hint}")


def is_declared_newer(target: AgentTarget, advice: Advice) -> bool:
    """Whether the plugin declares that kernels take the advice from a release on that is newer than the target's."""
    since = operations_of(target.system_info.system).advised_since(advice)
    first, second = (
        tuple(int(number) for number in re.findall(r"\d+", release or "")[:2])
        for release in (target.agent.hello.fields.get("release"), since)
    )
    return () < first < second


@pytest.mark.parametrize("advice", [Advice.COLD, Advice.PAGEOUT, Advice.WILLNEED])
def test_regions_of_a_query_are_advised_whole(agent_target: AgentTarget, ground: Ground, advice: Advice) -> None:
    ground.lay(10, 100)
    worker = ground.worker
    required(worker.touch(ground.at(10), 100 * ground.page, write=1), "touching")
    space = vmatlas.snapshot(worker.pid, target=agent_target).where(kind=vmatlas.Kind.ANONYMOUS)
    assert space.find(ground.at(10)) is not None
    try:
        advised = operations.advise(worker.pid, space, advice, target=agent_target)
    except Unsupported as refused:
        if not is_declared_newer(agent_target, advice):
            raise
        pytest.skip(f"refused as declared: {refused.message}: {refused.hint}")
    assert (advised.asked, advised.advised, advised.complete) == (space.total, space.total, True)
    assert worker.peek(ground.at(10), 1) == b"\x01"


def test_huge_pages_are_made_or_refused_with_the_reason(agent_target: AgentTarget, ground: Ground) -> None:
    placed = ground.lay(0, 16)
    try:
        advised = operations.advise(
            ground.worker.pid, [(placed.start, placed.end)], Advice.COLLAPSE, target=agent_target
        )
    except Unsupported as refused:
        pytest.skip(f"the kernel does not collapse: {refused.message}")
    assert advised.complete or advised.failure is not None


def test_more_than_1024_ranges_go_in_batches(agent_target: AgentTarget, worker: AgentProcess) -> None:
    ground = Ground(worker, 2500)
    ground.lay(0, 2500)
    ranges = [(ground.at(page), ground.at(page + 1)) for page in range(0, 2500, 2)]
    advised = operations.advise(worker.pid, ranges, Advice.COLD, target=agent_target)
    assert (advised.ranges, advised.advised) == (1250, 1250 * ground.page)


def test_hole_in_the_middle_stops_there_and_is_named(agent_target: AgentTarget, ground: Ground) -> None:
    ground.lay(0, 4)
    ground.lay(5, 4)
    ranges = [(ground.at(page), ground.at(page + 3)) for page in (0, 3, 6)]
    advised = operations.advise(ground.worker.pid, ranges, Advice.COLD, target=agent_target)
    assert (advised.asked, advised.advised, advised.stopped_at) == (9 * ground.page, 3 * ground.page, ranges[1])
    assert advised.failure is not None
    assert advised.failure.errno_name == "ENOMEM"
    assert f"nothing is mapped at {ground.at(4):#x}" in advised.failure.message


def test_locked_memory_is_refused_with_the_reason(agent_target: AgentTarget, ground: Ground) -> None:
    ground.lay(0, 3)
    required(ground.worker.touch(ground.at(0), 3 * ground.page, write=1), "touching")
    required(ground.worker.lock(ground.at(1), ground.page), "locking")
    ranges = [(ground.at(page), ground.at(page + 1)) for page in range(3)]
    advised = operations.advise(ground.worker.pid, ranges, Advice.PAGEOUT, target=agent_target)
    assert (advised.advised, advised.stopped_at) == (ground.page, ranges[1])
    assert "locked" in (advised.reason or "")


def test_advice_that_no_other_process_takes_is_unsupported(agent_target: AgentTarget, ground: Ground) -> None:
    placed = ground.lay(0, 1)
    for advice in (Advice.DONTNEED, Advice.FREE):
        with pytest.raises(Unsupported, match="does not take the advice"):
            operations.advise(ground.worker.pid, [(placed.start, placed.end)], advice, target=agent_target)


def test_dry_run_does_nothing(agent_target: AgentTarget, ground: Ground) -> None:
    placed = ground.lay(0, 4)
    advised = operations.advise(
        ground.worker.pid, [(placed.start, placed.end)], Advice.PAGEOUT, target=agent_target, dry_run=True
    )
    assert (advised.asked, advised.advised, advised.dry_run) == (4 * ground.page, 0, True)


def test_pid_that_another_process_has_now_is_never_advised(agent_target: AgentTarget, ground: Ground) -> None:
    placed = ground.lay(0, 1)
    worker = ground.worker
    space = vmatlas.snapshot(worker.pid, target=agent_target)
    assert space.start_time is not None
    earlier = AddressSpace(space.columns, replace(space.origin, start_time=space.start_time - 1))
    with pytest.raises(NoSuchProcess):
        operations.advise(worker.pid, earlier, Advice.COLD, target=agent_target)
    ranges = [(placed.start, placed.size)]
    answer = agent_target.agent.advise_process(worker.pid, ranges, 20, start_time=space.start_time - 1)
    assert answer.errno_name == "ESRCH"
    assert agent_target.agent.advise_process(worker.pid, ranges, 20, start_time=space.start_time).ok


def test_zombie_and_reaped_process_are_no_such_process(agent_target: AgentTarget) -> None:
    child = agent_target.agent.spawn()
    with vmatlas.open(child.pid, target=agent_target) as process:
        space = process.snapshot().where(kind=vmatlas.Kind.ANONYMOUS)
        required(child.end(), "ending the child")
        deadline = time.monotonic() + PATIENCE
        while all(each.state != "Z" for each in agent_target.processes() if each.pid == child.pid):
            assert time.monotonic() < deadline, "the child does not end"
            time.sleep(0.05)
        with pytest.raises(NoSuchProcess):
            operations.advise(process, space, Advice.COLD)
        required(child.reap(), "reaping the child")
        with pytest.raises(NoSuchProcess):
            operations.advise(process, space, Advice.COLD)


@pytest.fixture
def stranger(agent_target: AgentTarget) -> Iterator[AgentProcess]:
    """A child of the agent that is the user nobody."""
    child = agent_target.agent.spawn()
    required(child.become(NOBODY, NOBODY), "becoming nobody")
    yield child
    child.end()
    child.reap()


def test_missing_right_is_access_denied(
    agent_target: AgentTarget, stranger: AgentProcess, worker: AgentProcess
) -> None:
    asked = agent_target.asked_by(stranger)
    for dry_run in (False, True):
        with pytest.raises(AccessDenied, match=r"\((EPERM|EACCES)\)") as refused:
            operations.advise(worker.pid, [(2**20, 2**21)], Advice.COLD, target=asked, dry_run=dry_run)
        assert "CAP_SYS_" in f"{refused.value} {refused.value.hint}"
