"""From bytes to runs of pages: what was packed is read back, in both byte orders; foreign bytes are refused."""

from __future__ import annotations

import dataclasses
import struct
import sys
from array import array
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas.capture import Capture
from vmatlas.conformance.thorough import examples
from vmatlas.errors import MalformedData
from vmatlas.model import Query, SystemInfo
from vmatlas.model.pages import USUAL, PageRuns, PageState
from vmatlas_linux_pagemap import layout
from vmatlas_linux_pagemap.backend import PAGEMAP, SCAN
from vmatlas_linux_pagemap.decode import ENTRIES, SCANNED
from vmatlas_linux_pagemap.question import Masks, masks_of, state_of_categories, told_by_masks

PAGE = 4096
LITTLE = SystemInfo("linux", "6.18.44", "#1 SMP", "x86_64", "little", 64, PAGE)
BIG = dataclasses.replace(LITTLE, machine="s390x", byte_order="big")
systems = st.sampled_from([LITTLE, BIG])
EVERYTHING = masks_of(~PageState.EXCLUSIVE)


def captured(stream: str, data: bytes, system: SystemInfo = LITTLE) -> Capture:
    return Capture({stream: data}, system, 42, "linux-procfs", "vmatlas-linux-procfs", Query(), 1.0)


def order(system: SystemInfo) -> str:
    return "<" if system.byte_order == "little" else ">"


def scanned(answers: list[tuple[int, int, int]], masks: Masks = EVERYTHING, system: SystemInfo = LITTLE) -> bytes:
    """One call that gave these."""
    head = (96, 0, 0, 0, 0, len(answers), 1024, 0, 0, 0, masks.anyof, masks.told)
    return struct.pack(f"{order(system)}12Q", *head) + b"".join(struct.pack(f"{order(system)}3Q", *a) for a in answers)


def pieces(*found: tuple[int, list[int]], page: int = PAGE, bits: int = 0xE580, system: SystemInfo = LITTLE) -> bytes:
    packed = struct.pack(f"{order(system)}2Q", page, bits)
    for address, entries in found:
        packed += struct.pack(f"{order(system)}2Q{len(entries)}H", address, len(entries), *entries)
    return packed


@st.composite
def answers(draw: st.DrawFn) -> list[tuple[int, int, int]]:
    """In order, with holes and without."""
    found, at = [], draw(st.integers(0, 2**40)) * PAGE
    for gap, size, categories in draw(
        st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3), st.integers(1, 0x1FF)), max_size=12)
    ):
        start = at + gap * PAGE
        at = start + size * PAGE
        found.append((start, at, categories))
    return found


def listed(runs: PageRuns) -> dict[int, PageState]:
    return {at: run.state for run in runs for at in range(run.start, run.end, PAGE)}


@given(answers(), systems, st.integers(0, 12))
@settings(max_examples=examples(100), deadline=None)
def test_answers_of_several_calls_are_read_back(
    found: list[tuple[int, int, int]], system: SystemInfo, cut: int
) -> None:
    data = scanned(found[:cut], system=system) + scanned(found[cut:], system=system)
    runs = SCAN.pages(captured(SCANNED, data, system))
    expected = {
        at: state
        for start, end, categories in found
        if (state := state_of_categories(categories, runs.told))
        for at in range(start, end, PAGE)
    }
    assert listed(runs) == expected
    assert not any(one.end == other.start and one.state == other.state for one, other in pairwise(runs))


@pytest.mark.parametrize(
    ("categories", "state"),
    [
        (layout.PRESENT, PageState.PRESENT | PageState.ANONYMOUS),
        (layout.PRESENT | layout.FILE, PageState.PRESENT | PageState.FILE),
        (layout.PRESENT | layout.PFNZERO, PageState.PRESENT | PageState.ZERO | PageState.ANONYMOUS),
        (layout.SWAPPED, PageState.SWAPPED),
        (layout.SWAPPED | layout.GUARD, PageState.GUARD),  # a guard has the bit of swap as well
        (layout.HUGE, PageState.HUGE),  # untouched, of huge pages that were set aside
        (layout.WRITTEN, PageState.NONE),  # of memory that nobody watches it says nothing, or anything
        (layout.WRITTEN | layout.WPALLOWED, PageState.WRITTEN),
        (layout.SOFT_DIRTY, PageState.SOFT_DIRTY),
    ],
)
def test_what_categories_mean(categories: int, state: PageState) -> None:
    assert state_of_categories(categories, ~PageState.EXCLUSIVE) == state


@given(st.sets(st.sampled_from([*~PageState.EXCLUSIVE]), min_size=1))
@settings(max_examples=examples(100), deadline=None)
def test_what_is_asked_for_is_told_where_the_kernel_knows_all(states: set[PageState]) -> None:
    of = PageState.NONE
    for each in states:
        of |= each
    masks = masks_of(of)
    assert told_by_masks(masks) & of == of
    assert masks.anyof, "without a bit to ask for, the kernel gives every page"


def test_files_are_asked_about_where_they_are_named_alone_since_that_takes_five_times_as_long() -> None:
    cheap = masks_of(USUAL | PageState.SOFT_DIRTY | PageState.WRITTEN)
    assert not (cheap.anyof | cheap.told) & layout.FILE
    assert not told_by_masks(cheap) & (PageState.FILE | PageState.ANONYMOUS)
    for each in (PageState.FILE, PageState.ANONYMOUS):
        assert masks_of(each).told & layout.FILE


def test_a_kernel_that_knows_no_guards_tells_none() -> None:
    masks = masks_of(USUAL).without(layout.GUARD)
    assert told_by_masks(masks) == USUAL & ~PageState.GUARD
    assert told_by_masks(masks_of(PageState.GUARD).without(layout.GUARD)) == PageState.NONE
    runs = SCAN.pages(captured(SCANNED, scanned([(PAGE, 2 * PAGE, layout.SWAPPED)], masks)))
    assert [run.state for run in runs] == [PageState.SWAPPED]
    assert runs.told == USUAL & ~PageState.GUARD


@given(st.lists(st.sampled_from([0x8000, 0xA000, 0x8100, 0x4000, 0x4400, 0x0080, 0x8180]), min_size=1), systems)
@settings(max_examples=examples(100), deadline=None)
def test_entries_are_read_back(entries: list[int], system: SystemInfo) -> None:
    first = 0x7F00_0000_0000
    runs = PAGEMAP.pages(captured(ENTRIES, pieces((first, entries), system=system), system))
    assert runs.told == PAGEMAP.states
    names = {
        0x8000: PageState.PRESENT | PageState.ANONYMOUS,
        0xA000: PageState.PRESENT | PageState.FILE,
        0x8100: PageState.PRESENT | PageState.ANONYMOUS | PageState.EXCLUSIVE,
        0x4000: PageState.SWAPPED,
        0x4400: PageState.GUARD,
        0x0080: PageState.SOFT_DIRTY,
        0x8180: PageState.PRESENT | PageState.ANONYMOUS | PageState.EXCLUSIVE | PageState.SOFT_DIRTY,
    }
    assert listed(runs) == {first + page * PAGE: names[entry] for page, entry in enumerate(entries)}


def test_bits_that_a_kernel_does_not_set_are_not_told() -> None:
    runs = PAGEMAP.pages(captured(ENTRIES, pieces((PAGE, [0x4400, 0x8080]), bits=0xE100)))
    assert runs.told == PAGEMAP.states & ~(PageState.GUARD | PageState.SOFT_DIRTY)
    assert [run.state for run in runs] == [PageState.SWAPPED, PageState.PRESENT | PageState.ANONYMOUS]


def test_nothing_scanned_is_nothing() -> None:
    assert list(SCAN.pages(captured(SCANNED, b""))) == []
    assert list(PAGEMAP.pages(captured(ENTRIES, b""))) == []


@pytest.mark.parametrize(
    ("stream", "data", "expected"),
    [
        (SCANNED, b"x" * 95, "a record of 96 bytes"),
        (SCANNED, bytes(96), "a record of 96 bytes with the masks"),
        (SCANNED, scanned([(0, PAGE, 8)])[:-1], "1 answers of 24 bytes"),
        (SCANNED, scanned([]) + scanned([], Masks(8, 8)), "the masks of the first"),
        (SCANNED, scanned([(PAGE, PAGE, 8)]), "pages in order"),
        (SCANNED, scanned([(PAGE, 3 * PAGE, 8), (2 * PAGE, 4 * PAGE, 8)]), "pages in order"),
        (ENTRIES, bytes(8), "16 bytes that tell the size"),
        (ENTRIES, pieces(page=4095), "the size of a page"),
        (ENTRIES, pieces(bits=1), "the size of a page, and bits"),
        (ENTRIES, pieces() + bytes(8), "an address and a count"),
        (ENTRIES, pieces((0, [0x8000]))[:-1], "1 entries of 2 bytes"),
        (ENTRIES, pieces((2**64 - PAGE, [0x8000])), "addresses of 64 bits"),
        (ENTRIES, pieces((PAGE, [0x8000, 0x8000]), (PAGE, [0x8000])), "pages in order"),
    ],
)
def test_foreign_bytes_are_refused_with_what_was_expected(stream: str, data: bytes, expected: str) -> None:
    source = SCAN if stream == SCANNED else PAGEMAP
    with pytest.raises(MalformedData, match=expected):
        source.pages(captured(stream, data))


@given(st.binary(max_size=400), st.sampled_from([SCAN, PAGEMAP]), systems)
@settings(max_examples=examples(100), deadline=None)
def test_arbitrary_bytes_are_runs_or_refused(data: bytes, source: type, system: SystemInfo) -> None:
    try:
        runs = source.pages(captured(source.stream, data, system))  # type: ignore[attr-defined]
    except MalformedData:
        return
    assert runs.columns.first_disorder() is None


@given(answers(), st.integers(0, 400), st.binary(min_size=1, max_size=8))
@settings(max_examples=examples(100), deadline=None)
def test_damaged_answers_are_runs_or_refused(found: list[tuple[int, int, int]], at: int, damage: bytes) -> None:
    data = scanned(found)
    data = data[:at] + damage + data[at + len(damage) :]
    try:
        runs = SCAN.pages(captured(SCANNED, data))
    except MalformedData:
        return
    assert runs.columns.first_disorder() is None


class Arg:
    """struct pm_scan_arg, include/uapi/linux/fs.h, field by field."""

    FIELDS = (
        "size", "flags", "start", "end", "walk_end", "vec", "vec_len", "max_pages", "category_inverted",
        "category_mask", "category_anyof_mask", "return_mask",
    )  # fmt: skip


def test_the_structure_is_that_of_the_header() -> None:
    assert [(name, 8 * place) for place, name in enumerate(Arg.FIELDS)] == list(layout.SCAN_FIELDS)
    assert layout.SCAN_SIZE == 8 * len(Arg.FIELDS) == layout.scan_record("big").size
    direction, letter, number = 3, ord("f"), 16
    assert direction << 30 | layout.SCAN_SIZE << 16 | letter << 8 | number == layout.PAGEMAP_SCAN
    assert array("Q").itemsize * 3 == layout.REGION_SIZE
    assert sys.byteorder in ("little", "big")
