"""Pages out of PAGEDATA: of recorded processes what the map says is in memory; ranges, byte orders, damage."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas import Capture, MalformedData, NoSuchProcess, PageState, Query
from vmatlas.backend import LocalProcess
from vmatlas.model import Kind
from vmatlas.model.pages import PageRuns
from vmatlas_qnx import PAGEDATA, PAGEDATA_PAGES
from vmatlas_qnx.acquire import acquire_pages
from vmatlas_qnx.agent import PAGES_SOURCES
from vmatlas_qnx.flags import MapFlags
from vmatlas_qnx.layout import ENTRY, read_entries
from vmatlas_qnx.pages import PAGES, pack

from .recorded import FOLDER, PROCESSES, X86, captured, recorded
from .test_acquire import INFORMATION, Procfs
from .test_agent import ENTRIES, WHOLE, Remote

P, FILE, ANONYMOUS = PageState.PRESENT, PageState.FILE, PageState.ANONYMOUS
ALL = ((0, 2**64),)


def asked(entries: bytes, ranges: tuple[tuple[int, int], ...] = ALL) -> Capture:
    return captured(PAGES, pack(entries, ranges, "little"))


def runs_of(entries: bytes, ranges: tuple[tuple[int, int], ...] = ALL) -> PageRuns:
    return PAGEDATA_PAGES.pages(asked(entries, ranges))


@pytest.mark.parametrize("process", PROCESSES)
def test_what_is_in_memory_is_what_the_map_says_of_each_region(process: str) -> None:
    entries = (FOLDER / f"{process}_pagedata.bin").read_bytes()
    space, runs = PAGEDATA.decode(recorded(process, "pagedata")), runs_of(entries)
    assert runs.told == P | FILE | ANONYMOUS
    assert len(runs)
    for region in space:
        assert runs.of_region(region).bytes_of(P) == region.resident
    assert all(before.end < after.start or before.state != after.state for before, after in pairwise(runs))


def test_pages_are_of_a_file_or_anonymous_as_their_region_is() -> None:
    space, runs = PAGEDATA.decode(recorded("own", "pagedata")), runs_of(ENTRIES)
    seen = set()
    for region in space:
        states = {run.state & (FILE | ANONYMOUS) for run in runs.of_region(region)}
        seen |= {(region.kind, state) for state in states}
        if region.kind in (Kind.STACK, Kind.HEAP, Kind.ANONYMOUS):
            assert states <= {ANONYMOUS}
        if region.kind is Kind.PHYSICAL:
            assert states <= {PageState.NONE}
    assert {(Kind.FILE, FILE), (Kind.SHARED_MEMORY, FILE), (Kind.STACK, ANONYMOUS)} <= seen


def test_runs_are_cut_to_the_ranges_that_were_asked_about() -> None:
    whole = runs_of(ENTRIES)
    large = max(whole, key=lambda run: run.size)
    middle = large.start + 4096
    cut = runs_of(ENTRIES, ((0, large.start), (middle, middle + 4096), (large.end, 2**64)))
    expected = [run for run in whole if run.end <= large.start]
    expected += [large._replace(start=middle, end=middle + 4096)]
    expected += [run for run in whole if run.start >= large.end]
    assert list(cut) == expected
    assert list(runs_of(ENTRIES, ())) == []


@given(st.lists(st.integers(0, 2**20), unique=True, max_size=12).map(sorted))
def test_any_ranges_give_what_lies_in_them(edges: list[int]) -> None:
    page = 4096
    ranges = tuple((first * page, last * page) for first, last in zip(edges[0::2], edges[1::2], strict=False))
    whole, found = runs_of(ENTRIES), runs_of(ENTRIES, ranges)
    assert sum(run.size for run in found) == sum(whole.within(*each).total for each in ranges)
    assert all(whole.find(run.start) is not None for run in found)


def test_a_board_of_the_other_byte_order_tells_the_same() -> None:
    entries = b"".join(
        b"".join(value.to_bytes(size, "big") for value, size in zip(entry, (8, 8, 4, 4, 8, 8, 8), strict=True))
        for entry in read_entries(ENTRIES, "little")
    )
    board = dataclasses.replace(X86, byte_order="big")
    there = PAGEDATA_PAGES.pages(captured(PAGES, pack(entries, ALL, "big"), system=board))
    assert there.columns.start == runs_of(ENTRIES).columns.start
    assert there.columns.state == runs_of(ENTRIES).columns.state


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\1\0\0",
        (2**60).to_bytes(8, "little"),
        pack(b"", ((0, 4096),), "little")[:-1],
        pack(ENTRIES, ALL, "little")[:-1],
        pack(ENTRIES, ((8192, 4096),), "little"),
        pack(ENTRIES, ((0, 8192), (4096, 12288)), "little"),
        pack(ENTRIES[ENTRY:] + ENTRIES[:ENTRY], ALL, "little"),
    ],
)
def test_what_is_damaged_is_told(stream: bytes) -> None:
    with pytest.raises(MalformedData, match=PAGES):
        PAGEDATA_PAGES.pages(captured(PAGES, stream))


@given(st.binary(max_size=400))
def test_any_bytes_are_pages_or_malformed(stream: bytes) -> None:
    with contextlib.suppress(MalformedData):
        PAGEDATA_PAGES.pages(captured(PAGES, stream))


def test_python_there_and_an_agent_give_the_same_stream() -> None:
    process = LocalProcess(40964)
    process.descriptor("as", lambda: os.open(os.devnull, os.O_RDONLY))
    query = Query(pages=P, ranges=((0, 2**64),))
    there = acquire_pages(process, query, Procfs(ENTRIES))
    assert there.streams == PAGES_SOURCES.ask(Remote(WHOLE), query).streams == {PAGES: pack(ENTRIES, ALL, "little")}
    assert there.incomplete is None


def test_the_kernel_itself_has_no_pages_and_says_why() -> None:
    query, kernel = Query(pages=P, ranges=ALL), bytearray(INFORMATION)
    kernel[8:12] = (0x8000).to_bytes(4, "little")
    reading = PAGES_SOURCES.ask(Remote({"procinfo": bytes(kernel), "pagedata": b""}), query)
    assert "is the kernel itself" in (reading.incomplete or "")
    assert list(PAGEDATA_PAGES.pages(captured(PAGES, reading.streams[PAGES]))) == []


def test_a_zombie_has_ended() -> None:
    query, zombie = Query(pages=P, ranges=ALL), bytearray(INFORMATION)
    zombie[8:12] = (0x8).to_bytes(4, "little")
    with pytest.raises(NoSuchProcess, match="zombie"):
        PAGES_SOURCES.ask(Remote({"procinfo": bytes(zombie), "pagedata": b""}), query)


def test_the_bits_of_a_page_came_together_in_every_recording() -> None:
    """Why PG_MODIFIED and PG_REFERENCED are told by no state: they said nothing that PG_HWMAPPED does not."""
    three = MapFlags.PG_MODIFIED | MapFlags.PG_REFERENCED | MapFlags.PG_HWMAPPED
    for process in PROCESSES:
        for entry in read_entries((FOLDER / f"{process}_pagedata.bin").read_bytes(), "little"):
            assert MapFlags(entry.flags) & three in (MapFlags(0), three)
