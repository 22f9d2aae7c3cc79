"""The agent's half in C: run under the sanitizers against a scripted /proc."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from errno import EACCES, EINTR, ENOMEM, EPIPE, ESRCH
from pathlib import Path

import pytest

from vmatlas.conformance.scripted_kernel import Asked, ScriptedKernel
from vmatlas_linux_procfs.unlisted import lines_of

HERE = Path(__file__).parent
NATIVE = HERE.parent / "native"
STAT = {"stat": b"s" * 300}
CLOSED = ["close text", "close folder"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ScriptedKernel:
    sources = [NATIVE / file for file in ("acquire.c", "text_file.c", "holes.c")]
    return ScriptedKernel(tmp_path_factory.mktemp("native"), HERE / "native" / "driver.c", *sources, headers=[NATIVE])


@pytest.mark.parametrize(("source", "file"), [(0, "maps"), (1, "smaps")])
def test_text_comes_whole_with_the_stat_before_it(kernel: ScriptedKernel, source: int, file: str) -> None:
    asked = kernel.ask(46, source=source, stat=300, text=[4096, 4096, 100], again=1)
    assert asked.streams == STAT | {file: b"m" * 8292}
    assert list(asked.streams) == ["stat", file]
    assert (asked.error, asked.refused, asked.failed) == (0, False, "")
    opened, closed = (["openat maps"], ["close maps"]) if file == "smaps" else ([], [])
    calls = ["open /proc/46", "openat stat", "close stat", f"openat {file}", *opened]
    assert asked.calls == [*calls, "close text", *closed, "close folder"]


def test_thread_is_read_in_its_own_folder(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, tid=47, stat=300, text=[100, -ENOMEM])
    assert asked.calls[0] == "open /proc/46/task/47"
    assert asked.failed == "read /proc/46/task/47/maps"


def test_process_without_memory_has_a_stat_and_no_text(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, stat=300)
    assert (asked.streams, asked.error) == (STAT, 0)


def test_signals_end_nothing(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, stat=[-EINTR, 300], text=[-EINTR, 100, -EINTR, 50], again=[-EINTR, 1])
    assert (asked.streams, asked.error) == (STAT | {"maps": b"m" * 150}, 0)


@pytest.mark.parametrize(("again", "error"), [([], ESRCH), ([-ESRCH], ESRCH), ([-EACCES], EACCES)])
def test_text_that_memory_going_away_may_have_cut_is_refused(
    kernel: ScriptedKernel, again: Sequence[int], error: int
) -> None:
    """A process that was waited for meanwhile says ESRCH, and one whose memory alone is gone says nothing at all."""
    asked = kernel.ask(46, stat=300, text=[4096, 100], again=again or [0])
    assert (asked.error, asked.refused, asked.failed) == (error, False, "read again /proc/46/maps")
    assert asked.calls[-2:] == CLOSED


@pytest.mark.parametrize("text", [[-ENOMEM], [4096, -ENOMEM]])
def test_error_of_the_kernel_is_told_with_what_explains_it(kernel: ScriptedKernel, text: list[int]) -> None:
    asked = kernel.ask(46, stat=300, text=text)
    assert (asked.error, asked.refused, asked.failed) == (ENOMEM, False, "read /proc/46/maps")
    assert asked.streams["stat"] == STAT["stat"]
    assert asked.calls[-2:] == CLOSED


@pytest.mark.parametrize("puts", [0, 1, 2])
def test_source_stops_when_nobody_takes_what_it_puts(kernel: ScriptedKernel, puts: int) -> None:
    asked = kernel.ask(46, stat=300, text=[4096, 4096, 100], puts=puts)
    assert (asked.error, asked.failed) == (EPIPE, "")
    assert asked.streams == ([{}, STAT, STAT | {"maps": b"m" * 4096}][puts])
    assert asked.calls[-1] == "close folder"


def test_process_that_went_before_its_stat_was_read_is_told_so(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, stat=-ESRCH)
    assert (asked.streams, asked.error, asked.failed) == ({}, ESRCH, "read /proc/46/stat")
    assert asked.calls[-2:] == ["close stat", "close folder"]


def found_in(asked: Asked) -> list[tuple[int, int, bytes]]:
    lines = lines_of(asked.streams.get("unlisted", b""), sys.byteorder)
    return [(line.start, line.end, line.name) for line in lines]


@pytest.mark.parametrize("source", [0, 1])
@pytest.mark.parametrize(
    ("lines", "mapped", "expected"),
    [
        ([16, 32, 64, 80], [16, 32, 64, 80], []),
        ([16, 32, 64, 80], [16, 32, 40, 48, 50, 60, 64, 80], [(40, 48), (50, 60)]),
        ([16, 32, 64, 80], [8, 16, 16, 32, 64, 80], [(8, 16)]),
        ([16, 32, 64, 80], [16, 32, 64, 80, 90, 100], [(90, 100)]),
        ([16, 32, 64, 80], [16, 40, 60, 80], [(16, 40), (60, 80)]),  # the one below has grown up, the one above down
        ([16, 32, 32, 48, 40, 64], [16, 64], []),  # what is out of order is for the decoder to say
    ],
)
def test_memory_in_the_holes_of_the_text_comes_beside_it(
    kernel: ScriptedKernel, source: int, lines: list[int], mapped: list[int], expected: list[tuple[int, int]]
) -> None:
    asked = kernel.ask(46, source=source, stat=300, lines=lines, mapped=mapped, again=1)
    assert (asked.error, found_in(asked)) == (0, [(*bounds, b"/n") for bounds in expected])


def test_on_a_kernel_without_the_ioctl_the_text_stands_as_it_is(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, stat=300, lines=[16, 32, 64, 80], again=1)
    assert (asked.error, list(asked.streams)) == (0, ["stat", "maps"])


@pytest.mark.parametrize("error", [ESRCH, ENOMEM])
def test_ioctl_that_fails_is_told_when_the_text_was_whole(kernel: ScriptedKernel, error: int) -> None:
    asked = kernel.ask(46, stat=300, lines=[16, 32, 64, 80], mapped=[0, 1], errno=error, again=1)
    assert (asked.error, asked.failed) == (error, "ioctl PROCMAP_QUERY /proc/46/maps")
    assert asked.calls[-2:] == CLOSED


def test_source_stops_when_nobody_takes_what_was_in_a_hole(kernel: ScriptedKernel) -> None:
    asked = kernel.ask(46, stat=300, lines=[16, 32, 64, 80], mapped=[40, 48], again=1, puts=3)
    assert (asked.error, asked.failed) == (EPIPE, "")
