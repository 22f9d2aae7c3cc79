"""What a process writes or uses meanwhile, and on which memory nodes its pages lie, is told as it is, or refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import vmatlas
from vmatlas import AccessDenied, Unsupported, UsageError, operations
from vmatlas.backend import Target
from vmatlas.conformance.ground import Ground
from vmatlas.model.numa import node_totals
from vmatlas.target.agent import AgentProcess, AgentTarget, required

NOBODY = 65534
Record = Callable[[str, object], None]


def test_pages_that_are_written_meanwhile_are_told_or_refused(
    ground: Ground, reader: Target, record_property: Record
) -> None:
    ground.lay(0, 16)
    worker, page = ground.worker, ground.page
    required(worker.touch(ground.start, 12 * page, write=1), "touching")

    def write(_: float) -> None:
        required(worker.touch(ground.at(3), 2 * page, write=2), "writing")
        required(worker.touch(ground.at(6), 2 * page), "reading")
        required(worker.touch(ground.at(13), page, write=1), "touching")

    with vmatlas.open(worker.pid, target=reader) as process:
        with pytest.raises((UsageError, Unsupported)):
            operations.written(process, 0, wait=write)  # not forced
        try:
            told = operations.written(process, 0, force=True, wait=write)
        except Unsupported as refused:
            record_property("refused", str(refused))
            return
    inside = told.runs.within(ground.start, ground.end)
    found = [((run.start - ground.start) // page, (run.end - ground.start) // page) for run in inside]
    assert found == [(3, 5), (13, 14)]
    region = told.space.find(ground.start)
    assert region is not None and told.is_sure(region) in (True, None)


def test_a_mapping_that_is_made_meanwhile_is_marked_as_a_whole(
    ground: Ground, reader: Target, record_property: Record
) -> None:
    worker, page = ground.worker, ground.page

    def make(_: float) -> None:
        ground.lay(0, 8)
        required(worker.touch(ground.at(2), page, write=1), "touching")
        required(worker.touch(ground.at(5), page), "reading the page of zeros")

    with vmatlas.open(worker.pid, target=reader) as process:
        try:
            told = operations.written(process, 0, force=True, wait=make)
        except Unsupported as refused:
            record_property("refused", str(refused))
            return
    inside = told.runs.within(ground.start, ground.end)
    assert (ground.at(2), ground.at(3)) in [(run.start, run.end) for run in inside]
    assert inside.find(ground.at(1)) is None, "never touched"
    region = told.space.find(ground.start)
    assert region is not None and told.is_sure(region) in (False, None)


def test_what_is_used_meanwhile_is_told_or_refused(ground: Ground, reader: Target, record_property: Record) -> None:
    ground.lay(0, 16)
    worker, page = ground.worker, ground.page
    required(worker.touch(ground.start, 8 * page, write=1), "touching")
    with vmatlas.open(worker.pid, target=reader) as process:
        try:
            idle = operations.working_set(process, 0, force=True, wait=lambda _: None)
            used = operations.working_set(
                process,
                0,
                force=True,
                wait=lambda _: required(worker.touch(ground.at(8), 8 * page, write=1), "touching"),
            )
        except Unsupported as refused:
            record_property("refused", str(refused))
            return
    before, after = idle.space.find(ground.start), used.space.find(ground.start)
    assert before is not None and after is not None
    assert idle.in_region(before) == 0, "nobody touched it since the marks were cleared"
    assert used.in_region(after) == 8 * page, "pages that are touched for the first time have their mark"


def test_memory_nodes_are_told_or_refused(ground: Ground, reader: Target, record_property: Record) -> None:
    ground.lay(0, 16)
    required(ground.worker.touch(ground.at(1), 5 * ground.page, write=1), "touching")
    with vmatlas.open(ground.worker.pid, target=reader) as process:
        try:
            uses = {use.start: use for use in process.numa()}
        except Unsupported as refused:
            record_property("refused", str(refused))
            return
    assert uses[ground.start].resident == 5 * ground.page
    assert sum(node_totals(uses.values()).values()) >= 5 * ground.page


def test_marks_of_another_user_s_process_are_not_cleared(agent_target: AgentTarget, worker: AgentProcess) -> None:
    if agent_target.agent.hello.fields.get("user") != "0":
        pytest.skip("the agent is not root, so it cannot make a process of another user")
    stranger = agent_target.agent.spawn()
    try:
        required(stranger.become(NOBODY, NOBODY), "becoming nobody")
        with vmatlas.open(worker.pid, target=agent_target.asked_by(stranger)) as process:
            marks = process.clears_marks()
            if marks is None:
                return
            for which in ("referenced", "written"):
                with pytest.raises((AccessDenied, Unsupported)):
                    marks.clear_marks(which)
    finally:
        stranger.end()
        stranger.reap()
