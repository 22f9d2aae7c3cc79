"""The compiled twin gives what Python gives: for any stream, and for live processes, the short way as the long one."""

from __future__ import annotations

import ctypes
import dataclasses
import mmap
import os
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import PageState, compiled, registry
from vmatlas.backend import DirectPageSource
from vmatlas.capture import Capture
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples
from vmatlas.errors import MalformedData
from vmatlas.model import Query, SystemInfo
from vmatlas.model.pages import USUAL, PageRuns
from vmatlas.registry import Broken
from vmatlas.target.local import LOCAL
from vmatlas_linux_pagemap import acquire, decode
from vmatlas_linux_pagemap.backend import PAGEMAP, SCAN

pytestmark = pytest.mark.skipif(
    not compiled.twin(SCAN.compiled).serves, reason=f"no compiled twin here: {compiled.twin(SCAN.compiled).reason}"
)

PAGE = mmap.PAGESIZE
NOHUGEPAGE = 15
HERE = SystemInfo("linux", "6.18.44", "#1 SMP", "x86_64", sys.byteorder, 64, PAGE)
OTHER = dataclasses.replace(HERE, byte_order="big" if sys.byteorder == "little" else "little")
SOURCES = [
    each
    for each in registry.page_sources()
    if not isinstance(each, Broken) and isinstance(each, DirectPageSource) and each.system == "linux"
]
WAYS = [pytest.param(each, id=each.name) for each in SOURCES if LOCAL.offers(each)]


def outcome(source: Any, capture: Capture) -> object:
    """The runs and what is told, or all of the error."""
    try:
        runs: PageRuns = source.pages(capture)
    except MalformedData as error:
        return type(error), error.stream, error.offset, error.expected, error.found
    return runs.told, runs.columns.start.tolist(), runs.columns.end.tolist(), runs.columns.state.tolist()


def both(source: Any, data: bytes, system: SystemInfo) -> tuple[object, object]:
    capture = Capture({source.stream: data}, system, 42, source.name, source.distribution, Query(), 1.0)
    by_twin = outcome(source, capture)
    twin, decode.NATIVE = decode.NATIVE, None
    try:
        return by_twin, outcome(source, capture)
    finally:
        decode.NATIVE = twin


@st.composite
def scans(draw: st.DrawFn) -> tuple[bytes, SystemInfo]:
    """Answers that are nearly right."""
    system = draw(st.sampled_from([HERE, HERE, HERE, OTHER]))
    order = "<" if system.byte_order == "little" else ">"
    masks = draw(st.tuples(st.sampled_from([8, 0x158, 0, 0x1FF]), st.sampled_from([8, 0x158, 0x1FF])))
    data, at = b"", draw(st.integers(0, 4)) * PAGE
    for _ in range(draw(st.integers(0, 3))):
        answers = b""
        count = draw(st.integers(0, 4))
        for _ in range(count):
            start = at + draw(st.sampled_from([0, 0, PAGE, 2**40, -PAGE] if draw(st.booleans()) else [0, PAGE]))
            at = start + draw(
                st.sampled_from([PAGE, PAGE, 2 * PAGE, 0, 2**63]) if draw(st.booleans()) else st.just(PAGE)
            )
            answers += struct.pack(f"{order}3Q", start % 2**64, at % 2**64, draw(st.integers(0, 0x3FF)))
        if not draw(st.integers(0, 20)):
            count = draw(st.integers(0, 2**64 - 1))
        head = (96, 0, 0, 0, 0, count, 1024, 0, 0, 0, *masks)
        data += struct.pack(f"{order}12Q", *head) + answers
    return damaged(draw, data), system


@st.composite
def entries(draw: st.DrawFn) -> tuple[bytes, SystemInfo]:
    """Entries that are nearly right."""
    system = draw(st.sampled_from([HERE, HERE, HERE, OTHER]))
    order = "<" if system.byte_order == "little" else ">"
    page, at = draw(st.sampled_from([PAGE, PAGE, 65536, 0, 3, 2**21])), draw(st.integers(0, 9)) * PAGE
    data = struct.pack(f"{order}2Q", page, draw(st.sampled_from([0xE580, 0xE100, 0xE400, 0xFFFF])))
    for _ in range(draw(st.integers(0, 3))):
        said = draw(st.lists(st.sampled_from([0x8000, 0xA1FF, 0x4400, 0x4000, 0, 0x80, 0x7F]), max_size=6))
        address = at + draw(st.sampled_from([0, PAGE, -PAGE, 2**64 - PAGE]) if draw(st.booleans()) else st.just(0))
        count = len(said) if draw(st.integers(0, 20)) else draw(st.integers(0, 2**64 - 1))
        data += struct.pack(f"{order}2Q{len(said)}H", address % 2**64, count, *said)
        at = address + len(said) * page
    return damaged(draw, data), system


def damaged(draw: st.DrawFn, data: bytes) -> bytes:
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.binary(max_size=9)) + data[at + draw(st.integers(0, 9)) :]
    return data


@given(scans() | st.tuples(st.binary(max_size=300), st.just(HERE)))
@settings(max_examples=examples(100), deadline=None)
def test_any_answers_decode_alike(data: tuple[bytes, SystemInfo]) -> None:
    by_twin, by_python = both(SCAN, *data)
    assert by_twin == by_python


@given(entries() | st.tuples(st.binary(max_size=300), st.just(HERE)))
@settings(max_examples=examples(100), deadline=None)
def test_any_entries_decode_alike(data: tuple[bytes, SystemInfo]) -> None:
    by_twin, by_python = both(PAGEMAP, *data)
    assert by_twin == by_python


def test_the_twin_does_the_work_for_whatever_is_usual() -> None:
    """One that always gave up would pass all of the above."""
    head = struct.pack("=12Q", 96, 0, 0, 0, 0, 2, 1024, 0, 0, 0, 8, 8)
    answers = struct.pack("=6Q", PAGE, 2 * PAGE, 8, 2 * PAGE, 5 * PAGE, 8)
    runs = decode.NATIVE.decode_scan(head + answers, decode.states_of_categories(PageState.PRESENT))
    assert [column.tolist() for column in runs] == [[PAGE], [5 * PAGE], [1]]
    data = struct.pack("=4Q3H", PAGE, 0xE580, 7 * PAGE, 3, 0x8000, 0x8000, 0x4000)
    runs = decode.NATIVE.decode_entries(data, decode.states_of_entries(PAGEMAP.states))
    assert [len(column) for column in runs] == [2, 2, 2]


@pytest.mark.parametrize("count", [1023, 1024, 1025, 2048, 5000])
@pytest.mark.parametrize("step", [1, 2])
def test_more_runs_than_there_is_room_for_at_once_decode_alike(count: int, step: int) -> None:
    head = struct.pack("=12Q", 96, 0, 0, 0, 0, count, 1024, 0, 0, 0, 0x58, 0x58)
    pages = [(at * step * PAGE, (at * step + 1) * PAGE, 8 if at % 7 < 5 else 0x48) for at in range(1, count + 1)]
    answers = b"".join(struct.pack("=3Q", *page) for page in pages)
    by_twin, by_python = both(SCAN, head + answers, HERE)
    assert by_twin == by_python
    assert sum(end - start for start, end in zip(*by_twin[1:3], strict=True)) == count * PAGE  # type: ignore[index]
    data = struct.pack("=2Q", PAGE, 0xE580)
    data += struct.pack(f"=2Q{count}H", PAGE, count, *(0x8000 if at % 3 else 0xA000 for at in range(count)))
    by_twin, by_python = both(PAGEMAP, data, HERE)
    assert by_twin == by_python


@pytest.fixture
def sleeper() -> Iterator[int]:
    with subprocess.Popen(["sleep", "3600"]) as process:
        yield process.pid
        process.kill()


@pytest.fixture
def striped() -> Iterator[tuple[int, int]]:
    """3,000 pages of which every second one was touched: more runs than the kernel gives in one piece."""
    with mmap.mmap(-1, 3000 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        view = ctypes.c_char.from_buffer(made)
        at = ctypes.addressof(view)
        del view
        # Where the system makes huge pages by itself, these would be some.
        ctypes.CDLL(None).madvise(ctypes.c_void_p(at), ctypes.c_size_t(3000 * PAGE), NOHUGEPAGE)
        for page in range(0, 3000, 2):
            made[page * PAGE] = 1
        yield at, at + 3000 * PAGE


def by_both_ways(source: DirectPageSource, pid: int | None, query: Query) -> tuple[PageRuns | None, PageRuns]:
    process = LOCAL.open(pid)
    try:
        short = process.read_pages(source, query)
        return short, source.pages(process.acquire(source, query)).telling(query.pages)  # type: ignore[arg-type]
    finally:
        process.close()


@pytest.mark.parametrize("of", [PageState.PRESENT, USUAL, USUAL | PageState.FILE | PageState.ANONYMOUS])
@pytest.mark.parametrize("source", WAYS)
def test_the_short_way_tells_what_the_long_one_tells(
    source: DirectPageSource, of: PageState, striped: tuple[int, int]
) -> None:
    start, end = striped
    some = ((start, start + 10 * PAGE), (start + 99 * PAGE, start + 2100 * PAGE))
    for ranges in ((striped,), some, ((start - PAGE, end),)):
        short, long = by_both_ways(source, None, Query(pages=of, ranges=ranges))
        assert short == long
        assert len(long) > 1000


@pytest.mark.parametrize("source", WAYS)
def test_the_short_way_tells_another_process_alike(source: DirectPageSource, sleeper: int) -> None:
    of = USUAL | PageState.FILE | PageState.ANONYMOUS
    ranges = tuple((each.start, each.end) for each in vmatlas.snapshot(sleeper))
    deadline = time.monotonic() + PATIENCE
    while True:  # it may have only just begun, and touch more yet
        short, long = by_both_ways(source, sleeper, Query(pages=of, ranges=ranges))
        if short == long or time.monotonic() > deadline:
            break
    assert short == long and long.bytes_of(PageState.PRESENT)


def test_the_whole_address_space_is_scanned_without_a_map(striped: tuple[int, int]) -> None:
    if not (answers := LOCAL.offers(SCAN)):
        pytest.skip(answers.reason)
    with vmatlas.open() as process:
        everything = process.pages(of=PageState.PRESENT)
        assert everything.within(*striped) == process.pages(between=striped, of=PageState.PRESENT)
        by_map = process.pages_in(process.snapshot(), of=PageState.PRESENT)
    assert everything.within(*striped) == by_map.within(*striped)


@pytest.mark.parametrize("source", WAYS)
def test_the_short_way_is_silent_about_memory_that_is_gone(source: DirectPageSource, sleeper: int) -> None:
    process = LOCAL.open(sleeper)
    query = Query(pages=PageState.PRESENT, ranges=((PAGE, 2**40),) if source.passes_holes else ())
    try:
        assert process.read_pages(source, query) is not None
        os.kill(sleeper, signal.SIGKILL)
        os.waitid(os.P_PID, sleeper, os.WEXITED | os.WNOWAIT)
        assert process.read_pages(source, query) is None
    finally:
        process.close()


def test_a_long_reading_is_ended_by_a_signal() -> None:
    """Entries of 256 TiB of untouched memory: minutes of reading, if nothing ended it."""
    if not (answers := LOCAL.offers(PAGEMAP)):
        pytest.skip(answers.reason)
    query = Query(pages=PageState.PRESENT, ranges=((PAGE, 2**47 - 2 * PAGE),))
    process = LOCAL.open(None)
    timer = threading.Timer(0.05, signal.pthread_kill, (threading.get_ident(), signal.SIGUSR2))

    class Enough(Exception):
        pass

    def handle(*_: object) -> None:
        raise Enough

    before = signal.signal(signal.SIGUSR2, handle)
    try:
        with pytest.raises(Enough):
            timer.start()
            process.read_pages(PAGEMAP, query)
            time.sleep(PATIENCE)
    finally:
        timer.join()
        signal.signal(signal.SIGUSR2, before)
        process.close()


def test_python_alone_takes_the_long_way(monkeypatch: pytest.MonkeyPatch, striped: tuple[int, int]) -> None:
    if not WAYS:
        pytest.skip("this kernel tells nothing of pages")
    with vmatlas.open() as process:
        by_twin = process.pages(between=striped, of=PageState.PRESENT)
        monkeypatch.setattr(acquire, "NATIVE", None)
        monkeypatch.setattr(decode, "NATIVE", None)
        assert process.pages(between=striped, of=PageState.PRESENT) == by_twin
