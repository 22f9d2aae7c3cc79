"""What is written, or looked at, meanwhile: the marks are cleared when it is forced, and when they will be told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import vmatlas
from vmatlas import AccessDenied, Kind, PageRun, PageRuns, PageState, Protection, Region, Unsupported, UsageError
from vmatlas import operations as ops
from vmatlas.model import AddressSpace
from vmatlas.model.region import SystemFlags
from vmatlas.operations import tracking

from ..strategies import ORIGIN

PAGE = 4096
P, S, Z, D = PageState.PRESENT, PageState.SWAPPED, PageState.ZERO, PageState.SOFT_DIRTY
TOLD = P | S | Z | D


class Flags(SystemFlags):
    """As a backend tells them."""

    SD = 1

    def labels(self) -> list[str]:
        return ["rd", "sd"] if self else ["rd"]


def region(first: int, last: int, *, whole: bool | None = False, referenced: int | None = None) -> Region:
    return Region(
        first * PAGE,
        last * PAGE,
        Protection(3),
        shared=False,
        kind=Kind.ANONYMOUS,
        flags=None if whole is None else Flags(int(whole)),
        details={} if referenced is None else {"Referenced": referenced},
    )


class Fake(vmatlas.Process):
    """A process of which the marks can be cleared: as much of a `Process` as is asked."""

    pid = 42  # type: ignore[assignment]

    def __init__(self, regions: list[Region], runs: list[tuple[int, int, PageState]] | None = None) -> None:
        self.regions, self.runs = regions, runs or []
        self.told = TOLD
        self.done: list[object] = []
        self.refuses: Exception | None = None

    @property
    def target(self) -> Any:
        return type("Target", (), {"name": "board"})

    def clears_marks(self) -> Any:
        return self

    def clear_marks(self, which: str) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.done.append(which)

    def pages(self, *, between: tuple[int, int] | None = None, of: PageState) -> PageRuns:
        self.done.append("pages")
        if of & ~self.told == Z:
            raise Unsupported("no zeros")
        listed = [] if between else [PageRun(a * PAGE, b * PAGE, state & of, of) for a, b, state in self.runs]
        return PageRuns.of([each for each in listed if each.state], ORIGIN, of & self.told)

    def snapshot(self, *, residency: bool = False, where: Any = None) -> AddressSpace:
        self.done.append("map")
        space = AddressSpace.of(self.regions, ORIGIN)
        return space if where is None else space.where(where)

    def wait(self, seconds: float) -> None:
        self.done.append(seconds)


def written(fake: Fake, **more: Any) -> ops.Written:
    return ops.written(fake, 2.5, wait=fake.wait, **{"force": True, **more})  # type: ignore[arg-type]


def working_set(fake: Fake, **more: Any) -> ops.WorkingSet:
    return ops.working_set(fake, 2.5, wait=fake.wait, **{"force": True, **more})  # type: ignore[arg-type]


def test_pages_that_hold_something_and_are_marked_were_written() -> None:
    marked = [(1, 2, P), (2, 4, P | D), (4, 5, D), (5, 6, P | Z | D), (6, 7, S | D), (20, 21, P | D)]
    fake = Fake([region(1, 8), region(8, 9)], marked)
    told = written(fake)
    assert fake.done == ["pages", "written", 2.5, "pages", "map"]  # nothing is cleared before it is known to be told
    assert [(run.start // PAGE, run.end // PAGE) for run in told.runs] == [(2, 4), (6, 7)]
    assert [told.in_region(each) // PAGE for each in told.space] == [3, 0]
    assert told.seconds >= 0


def test_a_region_that_is_marked_as_a_whole_is_not_sure() -> None:
    fake = Fake([region(1, 2), region(2, 3, whole=True), region(3, 4, whole=None)])
    assert [written(fake).is_sure(each) for each in fake.regions] == [True, False, None]


def test_runs_are_cut_at_the_regions_that_pass() -> None:
    fake = Fake([region(1, 4), region(4, 8)], [(2, 6, P | D)])
    told = written(fake, where="in=1000-2000")
    assert [(run.start // PAGE, run.end // PAGE) for run in told.runs] == [(2, 4)]


@pytest.mark.parametrize(("ask", "which"), [(written, "written"), (working_set, "referenced")])
def test_nothing_is_cleared_without_force(ask: Callable[..., object], which: str) -> None:
    fake = Fake([region(1, 2, referenced=0)])
    with pytest.raises(
        UsageError, match=f"the marks of what was {which} would be cleared.* cannot be undone"
    ) as caught:
        ask(fake, force=False)
    assert "--force" in (caught.value.hint or "")
    assert which not in fake.done


def test_what_is_not_told_is_refused_before_anything_is_cleared() -> None:
    fake = Fake([region(1, 2)])
    fake.told = P | S | Z
    with pytest.raises(Unsupported, match="CONFIG_MEM_SOFT_DIRTY"):
        written(fake)
    with pytest.raises(Unsupported, match="does not tell which memory was looked at"):
        working_set(fake)
    assert not {"written", "referenced", 2.5} & set(fake.done)


def test_zeros_are_asked_for_where_they_are_told() -> None:
    fake = Fake([region(1, 4)], [(1, 2, P | D)])
    fake.told = P | S | D
    assert written(fake).runs.total == PAGE


def test_the_working_set_is_what_was_looked_at_since() -> None:
    fake = Fake([region(1, 5, referenced=2 * PAGE), region(5, 6, referenced=0)])
    told = working_set(fake)
    assert fake.done == ["map", "referenced", 2.5, "map"]
    assert ([told.in_region(each) for each in told.space], told.total) == ([2 * PAGE, 0], 2 * PAGE)


def test_who_may_not_clear_is_told_so() -> None:
    fake = Fake([region(1, 2, referenced=0)])
    fake.refuses = AccessDenied("no right")
    with pytest.raises(AccessDenied):
        written(fake)
    assert 2.5 not in fake.done


@pytest.mark.parametrize("seconds", [-1, float("nan"), float("inf"), "x", None, True, 1e10])
def test_what_is_no_time_is_refused(seconds: Any) -> None:
    with pytest.raises(UsageError, match="no time to look"):
        ops.written(Fake([]), seconds, force=True)  # type: ignore[arg-type]


def test_the_working_set_of_this_process_has_what_it_just_touched() -> None:
    """Its own marks: nobody else's."""
    import mmap

    with mmap.mmap(-1, 512 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made, vmatlas.open() as process:
        for page in range(512):
            made[page * mmap.PAGESIZE] = 1

        def touch(_: float) -> None:
            for page in range(256):
                made[page * mmap.PAGESIZE] = 2

        try:
            told = tracking.working_set(process, 0, force=True, wait=touch)
        except (Unsupported, AccessDenied) as error:
            pytest.skip(str(error))
        assert 0 < told.total <= (told.space.memory.use.resident or 0)
