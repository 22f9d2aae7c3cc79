"""The memory in use is told of a known layout as it was made, by region and in the totals of its process.

A backend that tells totals tells every number; of another a number is right, or it is not told.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

import pytest

import vmatlas
from vmatlas import MemoryUse, Unsupported, registry
from vmatlas.backend import Feature, Target
from vmatlas.conformance.ground import READ, Ground, Placed, own_path
from vmatlas.operations import Advice
from vmatlas.operations.systems import operations_of
from vmatlas.target.agent import AgentProcess, AgentTarget, MapFlag, MapObject, required

FILE = own_path(b"in-use")
TOUCHED = 3
"""Pages of each part of the layout that is not touched whole."""

_TRIES = 5
"""Between two readings the system may take pages of files away, and give them back."""


class Laid(NamedTuple):
    """A known layout, with the numbers that stand for each part of it."""

    anonymous: Placed
    """8 pages, 3 of them written."""
    shared: Placed
    """The same, shared."""
    file: Placed
    """The only page of a file that has one, read."""
    written: Placed
    """The same, written in a private mapping."""
    locked: Placed | None
    """4 pages, locked; None where the caller may not lock so much."""
    page: int

    def uses(self) -> list[tuple[Placed, MemoryUse]]:
        """What each part uses, in the numbers that are certain."""
        page, some = self.page, TOUCHED * self.page
        none = MemoryUse(swapped=0, anonymous=0, file=0, shared_memory=0, huge=0, hugetlb=0, locked=0)
        own = none._replace(resident=some, proportional=some, private=some, dirty=some, anonymous=some)
        parts = [
            (self.anonymous, own),
            (self.shared, own._replace(anonymous=0, shared_memory=some)),
            (self.file, none._replace(resident=page, proportional=None, private=None, dirty=None, file=page)),
            (self.written, MemoryUse(*(number and page for number in own))),
        ]
        if self.locked is not None:
            parts.append((self.locked, MemoryUse(*(number and 4 * page for number in own))._replace(locked=4 * page)))
        return parts


@pytest.fixture
def _file(agent_target: AgentTarget) -> Iterator[None]:
    """A file of one byte on the target."""
    required(agent_target.agent.write_file(FILE, b"x", new=True), "writing a file")
    yield
    agent_target.agent.unlink(FILE)


def _tells(feature: Feature, worker: AgentProcess, reader: Target, backend: str) -> bool:
    """Whether it does; that it refuses is asserted, where it declares not to."""
    if feature in registry.backend(backend).features:
        return True
    if feature is Feature.RESIDENCY:
        with pytest.raises(Unsupported):
            vmatlas.snapshot(worker.pid, target=reader, backend=backend, residency=True)
    else:
        with vmatlas.open(worker.pid, target=reader, backend=backend) as process, pytest.raises(Unsupported):
            process.choice(vmatlas.Query(totals=True))
    return False


def lay(ground: Ground) -> Laid:
    """Make the layout."""
    worker, page = ground.worker, ground.page

    def touch(placed: Placed, pages: int, write: int | None = 1) -> None:
        required(worker.touch(placed.start, pages * page, write=write), "touching")

    anonymous = ground.lay(0, 8)
    shared = ground.lay(16, 8, flags=MapFlag.SHARED)
    file = ground.lay(32, 1, protection=READ, source=MapObject.FILE, name=FILE)
    written = ground.lay(48, 1, source=MapObject.FILE, name=FILE)
    touch(anonymous, TOUCHED)
    touch(shared, TOUCHED)
    touch(file, 1, None)
    touch(written, 1)
    locked: Placed | None = ground.lay(64, 4)
    assert locked is not None
    if worker.lock(locked.start, locked.size).ok:
        touch(locked, 4)
    else:
        ground.clear(64, 4)
        locked = None
    return Laid(anonymous, shared, file, written, locked, page)


def clear(ground: Ground, laid: Laid) -> None:
    """Unmap it."""
    for placed in (laid.anonymous, laid.shared, laid.file, laid.written, laid.locked):
        if placed is not None:
            required(ground.worker.unmap(placed.start, placed.size), "unmapping")


def test_each_part_of_a_layout_uses_what_was_put_there(
    ground: Ground, _file: None, reader: Target, backend: str
) -> None:
    if not _tells(Feature.RESIDENCY, ground.worker, reader, backend):
        return
    laid = lay(ground)
    tells_all = Feature.TOTALS in registry.backend(backend).features
    space = vmatlas.snapshot(ground.worker.pid, target=reader, backend=backend, residency=True)
    for placed, expected in laid.uses():
        region = space.find(placed.start)
        assert region is not None and (region.start, region.end) == (placed.start, placed.end)
        use = region.memory
        assert use is not None and use.resident is not None
        if not tells_all:
            assert expected.resident is not None
            assert expected.resident <= use.resident <= placed.size  # QNX gives memory when it is mapped
            continue
        for name, number in expected._asdict().items():
            if number is not None:
                assert getattr(use, name) == number, (name, use)


def test_memory_that_a_child_shares_is_private_to_neither(
    agent_target: AgentTarget, reader: Target, backend: str
) -> None:
    ground = Ground(agent_target.agent.itself)
    if not _tells(Feature.TOTALS, ground.worker, reader, backend):
        return
    page, placed = ground.page, ground.lay(4, 4)
    try:
        required(ground.worker.touch(placed.start, placed.size, write=1), "touching")
        child = agent_target.agent.spawn()
        try:
            required(child.touch(placed.start, page, write=2), "touching in the child")
            for pid in (ground.worker.pid, child.pid):
                region = vmatlas.snapshot(pid, target=reader, backend=backend, residency=True).find(placed.start)
                assert region is not None and region.memory is not None
                use = region.memory
                assert (use.resident, use.anonymous, use.private) == (4 * page, 4 * page, page)
                assert use.proportional == page + 3 * page // 2
        finally:
            child.end()
            child.reap()
    finally:
        required(ground.worker.unmap(placed.start, placed.size), "unmapping")


def test_what_is_sent_to_swap_is_in_memory_or_there(ground: Ground, reader: Target, backend: str) -> None:
    if not _tells(Feature.RESIDENCY, ground.worker, reader, backend):
        return
    placed, some = ground.lay(0, 8), TOUCHED * ground.page
    required(ground.worker.touch(placed.start, some, write=1), "touching")
    with contextlib.suppress(Unsupported):  # a system without such advice leaves it where it is
        number = operations_of(reader.system_info.system).advice_number(Advice.PAGEOUT)
        if number is not None:
            ground.worker.advise(placed.start, placed.size, number)
    space = vmatlas.snapshot(ground.worker.pid, target=reader, backend=backend, residency=True)
    region = space.find(placed.start)
    assert region is not None and region.memory is not None and region.memory.held is not None
    if Feature.TOTALS in registry.backend(backend).features:
        assert region.memory.held == some
        assert region.memory.swapped_proportional == region.memory.swapped
    else:
        assert some <= region.memory.held <= placed.size


def test_the_totals_gain_what_a_layout_uses(ground: Ground, _file: None, reader: Target, backend: str) -> None:
    if not _tells(Feature.TOTALS, ground.worker, reader, backend):
        return
    clear(ground, lay(ground))  # so that the worker has touched by now whatever it touches to do this
    with vmatlas.open(ground.worker.pid, target=reader, backend=backend) as process:
        for last in (*[False] * (_TRIES - 1), True):
            before = process.memory()
            laid = lay(ground)
            gained = process.memory().since(before)
            clear(ground, laid)
            expected = {
                name: sum(getattr(use, name) for _, use in laid.uses())
                for name in ("resident", "anonymous", "swapped", "huge", "hugetlb", "locked")
            }
            wrong = {name: (getattr(gained, name), number) for name, number in expected.items()}
            wrong = {name: pair for name, pair in wrong.items() if pair[0] != pair[1]}
            # A file that lies in a tmpfs is shared memory to the kernel's totals.
            objects = TOUCHED * ground.page, (TOUCHED + 1) * ground.page
            if not wrong and gained.proportional_shared_memory in objects:
                return
            assert not last, (wrong, gained, objects)


def test_the_totals_are_the_sum_of_the_regions(ground: Ground, _file: None, reader: Target, backend: str) -> None:
    if not _tells(Feature.TOTALS, ground.worker, reader, backend):
        return
    lay(ground)
    with vmatlas.open(ground.worker.pid, target=reader, backend=backend) as process:
        for last in (*[False] * (_TRIES - 1), True):
            before, space, after = process.memory(), process.snapshot(residency=True), process.memory()
            sums = space.memory.use
            added = [name for name in MemoryUse._fields if getattr(sums, name) is not None]
            told = {name: getattr(before, name) for name in added if getattr(before, name) is not None}
            exact = {name: number for name, number in told.items() if name != "proportional"}
            wrong = [name for name, number in exact.items() if getattr(sums, name) != number]
            # Each region's share is rounded down to a kilobyte, that of the process once.
            missing = (before.proportional or 0) - (sums.proportional or 0)
            if not wrong and 0 <= missing < 1024 * len(space):
                assert {"resident", "private", "dirty", "anonymous", "swapped", "locked"} <= exact.keys()
                return
            assert not last and before != after, (wrong, missing, before, sums)
