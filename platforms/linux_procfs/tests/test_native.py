"""The agent's half in C: run under the sanitizers against a scripted /proc."""

from __future__ import annotations

from collections.abc import Sequence
from errno import EACCES, EINTR, ENOMEM, EPIPE, ESRCH
from pathlib import Path

import pytest

from vmatlas.conformance.scripted_kernel import ScriptedKernel

HERE = Path(__file__).parent
NATIVE = HERE.parent / "native"
STAT = {"stat": b"s" * 300}
CLOSED = ["close text", "close folder"]


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ScriptedKernel:
    sources = [NATIVE / "acquire.c", NATIVE / "text_file.c"]
    return ScriptedKernel(tmp_path_factory.mktemp("native"), HERE / "native" / "driver.c", *sources, headers=[NATIVE])


@pytest.mark.parametrize(("source", "file"), [(0, "maps"), (1, "smaps")])
def test_text_comes_whole_with_the_stat_before_it(kernel: ScriptedKernel, source: int, file: str) -> None:
    asked = kernel.ask(46, source=source, stat=300, text=[4096, 4096, 100], again=1)
    assert asked.streams == STAT | {file: b"m" * 8292}
    assert list(asked.streams) == ["stat", file]
    assert (asked.error, asked.refused, asked.failed) == (0, False, "")
    assert asked.calls == ["open /proc/46", "openat stat", "close stat", f"openat {file}", *CLOSED]


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
