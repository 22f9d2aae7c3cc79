"""The agent's half in C: run under the sanitizers against a kernel that is played."""

from __future__ import annotations

import mmap
import sys
from errno import EACCES, EINVAL, ENOMEM, ENOTTY, EPIPE, EPROTO, ESRCH
from pathlib import Path

import pytest

from vmatlas.backend import PageSource
from vmatlas.capture import Capture
from vmatlas.conformance.scripted_kernel import Asked, ScriptedKernel
from vmatlas.model import Query, SystemInfo
from vmatlas.model.pages import PageRuns, PageState
from vmatlas_linux_pagemap.backend import PAGEMAP, SCAN
from vmatlas_linux_pagemap.layout import GUARD, PRESENT, SOFT_DIRTY, SWAPPED

HERE = Path(__file__).parent
NATIVE = HERE.parent / "native"
PAGE = mmap.PAGESIZE
SYSTEM = SystemInfo("linux", "6.18.44", "", "x86_64", sys.byteorder, 64, PAGE)
P, S, G = PageState.PRESENT, PageState.SWAPPED, PageState.GUARD
BOTH = [pytest.param(0, SCAN, id="scan"), pytest.param(1, PAGEMAP, id="entries")]
OPENED = ["open /proc/46", "openat stat", "close stat", "openat pagemap", "close folder"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ScriptedKernel:
    sources = [NATIVE / file for file in ("acquire.c", "scan.c", "entries.c")]
    return ScriptedKernel(tmp_path_factory.mktemp("native"), HERE / "native" / "driver.c", *sources, headers=[NATIVE])


def flags(anyof: int, told: int) -> int:
    return anyof | told << 32


def runs_of(asked: Asked, source: PageSource) -> PageRuns:
    assert (asked.error, asked.refused, asked.failed) == (0, False, "")
    assert asked.streams["stat"] == b"s" * 300 and list(asked.streams) == ["stat", source.stream]
    query = Query(pages=source.states)
    return source.pages(Capture(asked.streams, SYSTEM, 46, source.name, source.distribution, query, 1.0))


def layout_of(runs: PageRuns) -> list[tuple[int, int, PageState]]:
    return [(run.start // PAGE, run.end // PAGE, run.state) for run in runs]


def test_a_scan_comes_with_the_stat_before_it_and_the_masks_in_it(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(
        46, stat=300, flags=flags(PRESENT | GUARD | SWAPPED, PRESENT | GUARD | SWAPPED), address=2 * PAGE, end=9 * PAGE,
        pages=[1, 8, 3, 8, 4, 8, 6, 0x110, 9, 8],
    )  # fmt: skip
    runs = runs_of(asked, SCAN)
    assert layout_of(runs) == [(3, 5, P), (6, 7, G)]
    assert runs.told == P | S | G
    assert asked.calls == [*OPENED, "scan 9", "close pagemap"]


def test_a_kernel_that_knows_no_guards_is_asked_again_without(kernel: ScriptedKernel) -> None:
    words = flags(PRESENT | GUARD, PRESENT | GUARD)
    asked = kernel.ask(46, stat=300, flags=words, known=0xFF, address=PAGE, end=9 * PAGE, pages=[3, 8])
    runs = runs_of(asked, SCAN)
    assert (layout_of(runs), runs.told) == ([(3, 4, P)], P)
    assert [call for call in asked.calls if "scan" in call] == ["scan 9"] * 2


def test_where_nothing_is_left_to_ask_for_nothing_is_asked(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, stat=300, flags=flags(GUARD, GUARD), known=0xFF, address=PAGE, end=9 * PAGE)
    runs = runs_of(asked, SCAN)
    assert (layout_of(runs), runs.told) == ([], PageState.NONE)
    assert [call for call in asked.calls if "scan" in call] == ["scan 9"]


@pytest.mark.parametrize("is_set", [0, 1])
def test_soft_dirty_is_asked_for_where_this_kernel_sets_it(kernel: ScriptedKernel, is_set: int) -> None:
    words = flags(PRESENT | SOFT_DIRTY, PRESENT | SOFT_DIRTY)
    asked = kernel.ask(46, stat=300, soft=is_set, flags=words, address=PAGE, end=5 * PAGE, pages=[2, 0x88])
    dirty = PageState.SOFT_DIRTY if is_set else PageState.NONE
    assert layout_of(runs_of(asked, SCAN)) == [(2, 3, P | dirty)]
    runs = runs_of(
        kernel.ask(46, source=1, stat=300, soft=is_set, address=PAGE, end=5 * PAGE, pages=[2, 0x8080]), PAGEMAP
    )
    assert runs.told & PageState.SOFT_DIRTY == dirty
    assert layout_of(runs) == [(2, 3, P | PageState.ANONYMOUS | dirty)]


@pytest.mark.parametrize(("source", "of"), BOTH)
def test_without_a_range_it_is_told_what_would_be_told(kernel: ScriptedKernel, source: int, of: PageSource) -> None:
    asked = kernel.ask(46, source=source, stat=300, flags=flags(PRESENT, PRESENT), pages=[1, 8]) if not source else None
    runs = runs_of(asked or kernel.ask(46, source=source, stat=300, known=0xFF), of)
    assert len(runs) == 0
    assert runs.told == (P if not source else of.states & ~(PageState.SOFT_DIRTY | G))


def test_entries_come_in_stretches_that_say_something(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(
        46, source=1, stat=300, address=PAGE, end=4000 * PAGE,
        pages=[1, 0x8000, 2, 0x8000, 3, 0x4400, 9, 0xA100, 3999, 0x4000, 4000, 0x8000],
    )  # fmt: skip
    own, of_file = P | PageState.ANONYMOUS, P | PageState.FILE | PageState.EXCLUSIVE
    assert layout_of(runs_of(asked, PAGEMAP)) == [(1, 3, own), (3, 4, G), (9, 10, of_file), (3999, 4000, S)]
    assert len(asked.streams["pages-entries"]) == 16 + 3 * 16 + 5 * 2


@pytest.mark.parametrize(("source", "of"), BOTH)
def test_what_nobody_can_have_is_left_out(kernel: ScriptedKernel, source: int, of: PageSource) -> None:
    words = {"flags": flags(PRESENT, PRESENT)} if not source else {}
    said = 8 if not source else 0x8000
    asked = kernel.ask(46, source=source, stat=300, top=7, address=PAGE, end=2000 * PAGE, pages=[6, said], **words)
    assert [each[:2] for each in layout_of(runs_of(asked, of))] == [(6, 7)]


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize(("memory", "error"), [(0, ESRCH), (-ESRCH, ESRCH), (-EACCES, EACCES)])
def test_a_process_without_memory_is_never_scanned(
    kernel: ScriptedKernel, source: int, memory: int, error: int
) -> None:
    asked = kernel.ask(46, source=source, stat=300, memory=memory)
    assert (asked.error, asked.refused, asked.failed) == (error, False, "read /proc/46/pagemap")
    assert asked.streams == {"stat": b"s" * 300}
    assert asked.calls == [*OPENED, "close pagemap"]


@pytest.mark.parametrize(
    ("word", "value", "error", "is_refused", "failed"),
    [
        ("errno", ENOTTY, ENOTTY, False, "ioctl PAGEMAP_SCAN /proc/46/pagemap"),
        ("errno", ENOMEM, ENOMEM, False, "ioctl PAGEMAP_SCAN /proc/46/pagemap"),
        ("gone", 1, ESRCH, False, "ioctl PAGEMAP_SCAN /proc/46/pagemap"),
        ("lie", 1, EPROTO, True, "an answer that cannot be followed: /proc/46/pagemap"),
    ],
)
def test_what_the_kernel_refuses_is_told(
    kernel: ScriptedKernel, word: str, value: int, error: int, is_refused: bool, failed: str
) -> None:
    asked = kernel.ask(46, stat=300, flags=flags(PRESENT, PRESENT), address=PAGE, end=3 * PAGE, **{word: value})
    assert (asked.error, asked.refused, asked.failed) == (error, is_refused, failed)
    assert asked.calls[-1] == "close pagemap"


@pytest.mark.parametrize("source", [0, 1])
def test_a_range_that_is_no_whole_pages_is_refused_before_anything_is_opened(
    kernel: ScriptedKernel, source: int
) -> None:
    asked = kernel.ask(46, source=source, address=PAGE, end=3 * PAGE + 1)
    assert (asked.error, asked.refused, asked.calls) == (EINVAL, True, [])


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize("puts", [0, 1, 2])
def test_source_stops_when_nobody_takes_what_it_puts(kernel: ScriptedKernel, source: int, puts: int) -> None:
    words = {"flags": flags(PRESENT, PRESENT)} if not source else {}
    said = 8 if not source else 0x8000
    asked = kernel.ask(46, source=source, stat=300, address=PAGE, end=9 * PAGE, pages=[3, said], puts=puts, **words)
    assert (asked.error, asked.failed) == (EPIPE, "")
    assert asked.calls[-1] == ("close folder" if not puts else "close pagemap")
