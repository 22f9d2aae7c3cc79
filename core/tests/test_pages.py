"""Runs of pages: found, cut, joined, added up and exported as a page by page list of the same would be."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.errors import MalformedData, UsageError
from vmatlas.model import Kind, Protection, Region
from vmatlas.model.pages import USUAL, PageRun, PageRuns, PageState, RunColumns

from .strategies import ORIGIN, space_of

PAGE = 4096
FIRST = 0x7F0000000000
PAGES = 24
TOLD = PageState.PRESENT | PageState.SWAPPED | PageState.GUARD
states = st.sampled_from([PageState.PRESENT, PageState.SWAPPED, PageState.GUARD, PageState.NONE])
told_pages = st.lists(states, max_size=PAGES)
places = st.integers(-2, PAGES + 2).map(lambda page: FIRST + page * PAGE)


def run(first: int, last: int, state: PageState = PageState.PRESENT, told: PageState = TOLD) -> PageRun:
    return PageRun(FIRST + first * PAGE, FIRST + last * PAGE, state, told)


def runs_of(pages: list[PageState]) -> PageRuns:
    """Of pages one after another; those in no state are left out."""
    return PageRuns.of([run(page, page + 1, state) for page, state in enumerate(pages) if state], ORIGIN, TOLD)


def listed(runs: PageRuns) -> dict[int, PageState]:
    """The state of each page, by its address."""
    return {address: each.state for each in runs for address in range(each.start, each.end, PAGE)}


@given(told_pages)
def test_runs_say_of_each_page_what_was_told_of_it_and_no_two_could_be_one(pages: list[PageState]) -> None:
    runs = runs_of(pages)
    assert listed(runs) == {FIRST + page * PAGE: state for page, state in enumerate(pages) if state}
    assert not any((one.end, one.state) == (other.start, other.state) for one, other in pairwise(runs))
    assert runs.columns.first_disorder() is None
    for page, state in enumerate(pages):
        found = runs.find(FIRST + page * PAGE + 7)
        assert (None if found is None else found.state) == (state or None)
    assert runs.find(FIRST - 1) is None and runs.find(FIRST + len(pages) * PAGE) is None


@given(told_pages, places, places)
def test_a_cut_has_the_pages_of_its_range_and_no_others(pages: list[PageState], one: int, other: int) -> None:
    start, end = sorted((one, other))
    runs = runs_of(pages)
    assert listed(runs.within(start, end)) == {at: state for at, state in listed(runs).items() if start <= at < end}
    if start < end:
        assert runs.of_region(Region(start, end, Protection.READ)) == runs.within(start, end)
    assert runs.within(0, 2**64) == runs
    assert listed(runs) == listed(runs_of(pages))  # a cut leaves what it was cut from as it was


@given(told_pages, st.sampled_from([*TOLD, TOLD, PageState.GUARD | PageState.SWAPPED]))
def test_sums_are_those_of_the_pages(pages: list[PageState], wanted: PageState) -> None:
    runs = runs_of(pages)
    count = sum(1 for state in pages if state & wanted)
    assert runs.bytes_of(wanted) == count * PAGE
    assert runs.where(wanted).total == count * PAGE
    assert runs.sums() == {state: sum(PAGE for each in pages if each & state) for state in TOLD}
    assert runs.total == sum(PAGE for state in pages if state)


@given(told_pages)
def test_exports_say_the_same(pages: list[PageState]) -> None:
    runs = runs_of(pages)
    rows = runs.to_dicts()
    for row, each in zip(rows, runs, strict=True):
        assert (row["start"], row["end"], row["size"]) == (each.start, each.end, each.size)
        assert {name for name, said in row.items() if said is True} == {(s.name or "").lower() for s in each.state}
        assert row["file"] is None and row["soft_dirty"] is None
    assert json.loads(runs.to_json()) == rows
    assert pickle.loads(pickle.dumps(runs)) == runs
    table = runs.to_arrow()
    table.validate(full=True)
    assert table.to_pylist() == rows
    assert table.schema == runs_of([]).to_arrow().schema
    held = runs.to_numpy()
    assert [column.tolist() for column in held.values()] == [list(each) for each in _columns(runs.columns)]
    assert not any(column.flags.writeable for column in held.values())


def _columns(columns: RunColumns) -> tuple[object, ...]:
    return columns.start, columns.end, columns.state


def test_what_was_not_told_is_none_and_never_no() -> None:
    (one,) = runs_of([PageState.PRESENT])
    assert (one.says(PageState.PRESENT), one.says(PageState.GUARD), one.says(PageState.FILE)) == (True, False, None)
    assert one.says(PageState.GUARD | PageState.FILE) is None
    assert one.says(PageState.PRESENT | PageState.FILE) is True
    assert runs_of([]).bytes_of(PageState.FILE) is None
    assert runs_of([]).bytes_of(PageState.FILE | PageState.GUARD) is None
    with pytest.raises(UsageError, match="not told which pages are file"):
        runs_of([]).where(PageState.FILE)


def test_a_run_takes_at_most_24_bytes() -> None:
    columns = RunColumns()
    assert sum(each.itemsize for each in (columns.start, columns.end, columns.state)) <= 24


def test_runs_are_a_sequence_that_shows_itself_in_a_line() -> None:
    runs = runs_of([PageState.PRESENT, PageState.PRESENT, PageState.GUARD])
    assert [*runs] == [run(0, 2), run(2, 3, PageState.GUARD)]
    assert runs[-1] == runs[1] and runs[1:] == runs_of([PageState.NONE, PageState.NONE, PageState.GUARD])
    assert run(0, 2) in runs and run(0, 1) not in runs and FIRST in runs and FIRST - 1 not in runs
    assert repr(runs) == "<PageRuns of pid 4321: 2 runs, 12,288 bytes, by linux-procfs>"
    assert repr(runs[1]) == "<PageRun 0x7f0000002000-0x7f0000003000 guard>"
    with pytest.raises(IndexError):
        runs[2]
    with pytest.raises(ValueError, match="backward"):
        runs[::-1]
    assert runs != [] and runs != replace_told(runs, USUAL)


def replace_told(runs: PageRuns, told: PageState) -> PageRuns:
    return PageRuns(runs.columns, replace(runs.origin), told)


def test_what_are_no_runs_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap or are empty"):
        PageRuns.of([run(0, 2), run(1, 3)], ORIGIN, TOLD)
    with pytest.raises(ValueError, match="overlap or are empty"):
        PageRuns.of([run(1, 1)], ORIGIN, TOLD)
    with pytest.raises(ValueError, match="says what is not told"):
        PageRuns.of([run(0, 1, PageState.FILE)], ORIGIN, TOLD)
    for wrong in (None, 5, [5], [ORIGIN]):
        with pytest.raises(UsageError):
            PageRuns.of(wrong, ORIGIN, TOLD)  # type: ignore[arg-type]


ranges = st.lists(st.tuples(st.integers(0, PAGES), st.integers(1, 4)), max_size=6)


def regions_of(bounds: list[tuple[int, int]]) -> list[Region]:
    """In order, each after a gap and of some pages."""
    made, at = [], 0
    for number, (gap, size) in enumerate(bounds):
        start = at + gap % 3
        at = start + size
        made.append(
            Region(
                FIRST + start * PAGE,
                FIRST + at * PAGE,
                Protection(3),
                offset=number * 16 * PAGE,
                path=f"/f{number}",
                inode=number,
                kind=Kind.FILE,
            )
        )
    return made


@given(ranges, told_pages)
def test_guards_become_entries_and_everything_else_stays_as_it_was(
    bounds: list[tuple[int, int]], pages: list[PageState]
) -> None:
    space = space_of(regions_of(bounds))
    runs = runs_of(pages)
    guards = {at for at, state in listed(runs).items() if state is PageState.GUARD}
    seen = space.with_guards(runs)
    assert seen.origin.guards and seen.columns.first_disorder() is None
    assert seen.total == space.total
    for before in space:
        for at in range(before.start, before.end, PAGE):
            found = seen.find(at)
            assert found is not None
            assert found.kind is (Kind.GUARD if at in guards else before.kind)
            moved = found.start - before.start
            assert found == before._replace(
                start=found.start, end=found.end, kind=found.kind, offset=(before.offset or 0) + moved
            )
    if not any(before.covers(at) for before in space for at in guards):
        assert seen == space


def test_only_what_tells_guards_makes_entries_of_them() -> None:
    space = space_of(regions_of([(0, 2)]))
    with pytest.raises(UsageError, match="tell no guards"):
        space.with_guards(PageRuns.of([], ORIGIN, PageState.PRESENT))
    with pytest.raises(UsageError, match="whole regions"):
        space_of([region._replace(resident=4096) for region in space]).with_guards(runs_of([]))


def test_more_guards_than_a_map_has_regions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vmatlas.model.space.MOST_REGIONS", 8)
    every_second = [PageState.GUARD, PageState.PRESENT] * 4
    assert len(space_of(regions_of([(0, 8)])).with_guards(runs_of(every_second))) == 8
    with pytest.raises(MalformedData, match="at most 8 regions with the guards in them"):
        space_of(regions_of([(0, 12)])).with_guards(runs_of(every_second * 4))


def test_states_have_words() -> None:
    assert PageState.of(["soft-dirty", "guard"]) == PageState.SOFT_DIRTY | PageState.GUARD
    for state in PageState:
        assert PageState.of(state.words) == state
    with pytest.raises(UsageError, match="'dirty' is no state of a page"):
        PageState.of(["dirty"])
