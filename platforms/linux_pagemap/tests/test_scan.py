"""The loop over PAGEMAP_SCAN against a kernel that is played: with its traps, and with what it may refuse."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable
from typing import Any

import pytest

from vmatlas.backend import Reading
from vmatlas.capture import Capture
from vmatlas.errors import OperationFailed, TornRead, Unsupported
from vmatlas.model import Query
from vmatlas.model.pages import USUAL, PageRuns, PageState
from vmatlas.target.local import LOCAL
from vmatlas_linux_pagemap import acquire
from vmatlas_linux_pagemap.backend import SCAN
from vmatlas_linux_pagemap.layout import GUARD, PAGEMAP_SCAN, PRESENT, SWAPPED
from vmatlas_linux_pagemap.question import below_the_top

PAGE = 4096
PIECE = 512
"""The kernel walks in pieces of so many answers (fs/proc/task_mmu.c), and of the last keeps only where it began."""


class Kernel:
    """Plays the ioctl: answers about pages, by their numbers."""

    def __init__(self, pages: dict[int, int], *, known: int = 0x1FF, top: int = 2**47 // PAGE) -> None:
        self.pages, self.known, self.top = pages, known, top
        self.calls = 0
        self.gone = False
        self.most: int | None = None
        """It gives no more at once than this, whatever room there is."""

    def __call__(self, descriptor: object, request: int, argument: bytearray) -> int:
        assert request == PAGEMAP_SCAN
        size, _, start, end, _, vec, room, _, _, _, anyof, told = struct.unpack("=12Q", argument)
        assert size == 96 and start % PAGE == 0
        self.calls += 1
        if (anyof | told) & ~self.known:
            raise OSError(errno.EINVAL, "Invalid argument")
        if end > self.top * PAGE:
            raise OSError(errno.EFAULT, "Bad address")
        if room and not vec:
            raise OSError(errno.EINVAL, "Invalid argument")
        if self.gone:
            return 0
        wanted = sorted(page for page, has in self.pages.items() if has & anyof and start <= page * PAGE < end)
        given = wanted[: min(room, self.most or room)]
        array_at = (struct.pack("=3Q", page * PAGE, (page + 1) * PAGE, self.pages[page] & told) for page in given)
        write_at(vec, b"".join(array_at))
        if len(given) == len(wanted) <= PIECE:
            walk_end = end
        elif len(given) == len(wanted):
            walk_end = wanted[(len(wanted) - 1) // PIECE * PIECE] * PAGE  # stale: where the last piece began
        else:
            walk_end = wanted[len(given)] * PAGE
        struct.pack_into("=Q", argument, 32, walk_end)
        return len(given)


def write_at(address: int, data: bytes) -> None:
    import ctypes

    ctypes.memmove(address, data, len(data))


@pytest.fixture
def play(monkeypatch: pytest.MonkeyPatch) -> Callable[[Kernel], Kernel]:
    def begin(kernel: Kernel) -> Kernel:
        monkeypatch.setattr(acquire.fcntl, "ioctl", kernel)
        return kernel

    return begin


def asked(of: PageState = USUAL, ranges: tuple[tuple[int, int], ...] = ((PAGE, 2**40),)) -> PageRuns:
    process = LOCAL.system.open(_own(), None)
    query = Query(pages=of, ranges=ranges)
    try:
        reading: Reading = acquire.acquire_scan(process, query)
    finally:
        process.close()
    capture = Capture(reading.streams, LOCAL.system_info, 1, "linux-procfs", "vmatlas-linux-procfs", query, 1.0)
    return SCAN.pages(capture).telling(of)


def _own() -> int:
    import os

    return os.getpid()


def pages_of(runs: PageRuns) -> list[int]:
    return [at // PAGE for run in runs for at in range(run.start, run.end, PAGE)]


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 1000, 1023, 1024, 1025, 1536, 2048, 5000])
def test_no_page_is_given_twice_and_none_left_out_though_walk_end_is_stale(
    count: int, play: Callable[[Kernel], Kernel]
) -> None:
    pages = {2 * each + 1: PRESENT for each in range(count)}
    kernel = play(Kernel(pages))
    assert pages_of(asked()) == sorted(pages)
    assert kernel.calls <= count // acquire.ROOM + 2


def test_a_kernel_that_gives_less_than_there_is_room_for_has_given_all(play: Callable[[Kernel], Kernel]) -> None:
    kernel = play(Kernel(dict.fromkeys(range(1, 9, 2), PRESENT)))
    assert pages_of(asked()) == [1, 3, 5, 7] and kernel.calls == 1


def test_pages_side_by_side_that_are_alike_are_one_run_across_calls_and_ranges(
    play: Callable[[Kernel], Kernel],
) -> None:
    play(Kernel(dict.fromkeys(range(1, 3000), PRESENT)))
    runs = asked(ranges=((PAGE, 1500 * PAGE), (1500 * PAGE, 4000 * PAGE)))
    assert [(run.start // PAGE, run.end // PAGE) for run in runs] == [(1, 3000)]


def test_a_kernel_that_knows_no_guards_is_asked_again_without(play: Callable[[Kernel], Kernel]) -> None:
    kernel = play(Kernel({1: PRESENT, 3: SWAPPED}, known=0xFF))
    runs = asked()
    assert runs.told == USUAL & ~PageState.GUARD
    assert [run.state for run in runs] == [PageState.PRESENT, PageState.SWAPPED]
    assert kernel.calls == 2


def test_it_is_not_asked_for_every_page_where_nothing_is_left_to_ask_for(play: Callable[[Kernel], Kernel]) -> None:
    kernel = play(Kernel({1: PRESENT}, known=0xFF))
    runs = asked(PageState.GUARD)
    assert (list(runs), runs.told, kernel.calls) == ([], PageState.NONE, 1)


def test_what_is_told_is_known_though_nothing_is_asked_about(play: Callable[[Kernel], Kernel]) -> None:
    play(Kernel({1: PRESENT}, known=0xFF))
    runs = asked(ranges=())
    assert (list(runs), runs.told) == ([], USUAL & ~PageState.GUARD)


def test_a_guard_is_not_taken_for_swap(play: Callable[[Kernel], Kernel]) -> None:
    play(Kernel({1: SWAPPED | GUARD, 2: SWAPPED}))
    assert [run.state for run in asked(PageState.SWAPPED)] == [PageState.SWAPPED]
    assert [run.state for run in asked()] == [PageState.GUARD, PageState.SWAPPED]


def test_what_lies_above_the_process_s_own_memory_is_left_out(play: Callable[[Kernel], Kernel]) -> None:
    play(Kernel({1: PRESENT}))
    above = 0xFFFFFFFFFF600000
    assert pages_of(asked(ranges=((PAGE, 2 * PAGE), (above, above + PAGE)))) == [1]


@pytest.mark.parametrize("top", [2, 3, 1000, 2**35])
def test_a_range_that_reaches_above_it_is_asked_about_up_to_there(top: int, play: Callable[[Kernel], Kernel]) -> None:
    play(Kernel({1: PRESENT, top - 1: PRESENT, top: PRESENT}, top=top))
    assert pages_of(asked(ranges=((PAGE, 2**64 - PAGE),))) == sorted({1, top - 1})


@pytest.mark.parametrize(
    ("machine", "top"), [("x86_64", 2**56 - PAGE), ("aarch64", 2**56 - PAGE), ("s390x", 2**64 - PAGE)]
)
def test_it_is_never_asked_about_addresses_of_which_a_kernel_takes_a_part_alone(machine: str, top: int) -> None:
    assert below_the_top(((PAGE, 2**64 - PAGE),), machine, PAGE) == [(PAGE, top)]
    assert below_the_top(((PAGE, 2 * PAGE), (top, 2**64 - 1)), machine, PAGE) == [(PAGE, 2 * PAGE)]


@pytest.mark.parametrize("ranges", [(), ((PAGE, 2 * PAGE),)])
def test_a_process_without_memory_is_never_scanned(
    ranges: tuple[tuple[int, int], ...], play: Callable[[Kernel], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = play(Kernel({1: PRESENT}))
    monkeypatch.setattr(acquire, "tells_soft_dirty", lambda: False)
    monkeypatch.setattr(acquire.os, "pread", lambda *_: b"")  # what pagemap of such a process gives where it opens
    with pytest.raises(TornRead):  # it is alive: so it is asked again, as after exec, and then given up
        asked(ranges=ranges)
    assert kernel.calls == 0


def test_another_refusal_is_told(play: Callable[[Kernel], Kernel], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    monkeypatch.setattr(acquire.fcntl, "ioctl", refuse)
    with pytest.raises(OperationFailed, match="PAGEMAP_SCAN of process"):
        asked()


def test_more_than_can_be_kept_is_refused_with_what_to_do(
    play: Callable[[Kernel], Kernel], monkeypatch: pytest.MonkeyPatch
) -> None:
    play(Kernel({2 * each: PRESENT for each in range(1, 3000)}))
    monkeypatch.setattr(acquire, "LARGEST", 30_000)
    with pytest.raises(Unsupported, match="more is told") as caught:
        asked()
    assert "between=" in (caught.value.hint or "")


def test_older_kernels_are_told_by_their_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> int:
        raise OSError(errno.ENOTTY, "Inappropriate ioctl for device")

    monkeypatch.setattr(acquire.fcntl, "ioctl", refuse)
    assert "older than 6.7" in SCAN.probe().reason
