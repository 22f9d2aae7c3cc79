"""Pages by mincore(2): what its bytes mean, and asking about oneself, against a kernel that is played."""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable
from errno import EFAULT, ENOMEM
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas import Capture, MalformedData, PageState, Query, SystemInfo, TornRead, Unsupported
from vmatlas.errors import OperationFailed
from vmatlas.model.pages import PageRuns
from vmatlas.registry import page_sources
from vmatlas.target.local import LocalTarget
from vmatlas_freebsd import MINCORE
from vmatlas_freebsd.acquire import mincore
from vmatlas_freebsd.decode.mincore import MINCORE as STREAM
from vmatlas_freebsd.decode.mincore import Piece, pack
from vmatlas_freebsd.system import FREEBSD

from .test_vmmap import one

if TYPE_CHECKING:
    from .conftest import FakeKernel

ByteOrder = Literal["little", "big"]
PAGE = os.sysconf("SC_PAGE_SIZE")
P, H = PageState.PRESENT, PageState.HUGE
BASE = 0x8_2000_0000
INCORE, REFERENCED, MODIFIED, REFERENCED_OTHER, MODIFIED_OTHER, SUPER, LARGER = 1, 2, 4, 8, 0x10, 0x20, 0x40
"""Of <sys/mman.h>; the last two are MINCORE_PSIND(1) and (2), which MINCORE_SUPER masks."""


def runs_of(stream: bytes, order: ByteOrder = "little") -> PageRuns:
    board = SystemInfo("freebsd", "14.3-RELEASE", "", "amd64", order, 64, 4096)
    return MINCORE.pages(Capture({STREAM: stream}, board, 7, "freebsd-mincore", "vmatlas-freebsd", Query(), 0.0))


def layout(runs: PageRuns, page: int = 4096) -> list[tuple[int, int, PageState]]:
    return [((run.start - BASE) // page, (run.end - BASE) // page, run.state) for run in runs]


@pytest.mark.parametrize("order", ["little", "big"])
def test_a_byte_says_whether_a_page_is_in_memory_and_of_a_superpage(order: ByteOrder) -> None:
    told = [0, INCORE, INCORE | REFERENCED | MODIFIED, 0, INCORE | SUPER | 0x1E, INCORE | LARGER, INCORE | 0x60, 0]
    runs = runs_of(pack(4096, [Piece(BASE, bytes(told))], order), order)
    assert layout(runs) == [(1, 3, P), (4, 7, P | H)]
    assert runs.told == P | H == MINCORE.states


def test_what_others_did_with_a_page_does_not_bring_it_into_memory() -> None:
    others = REFERENCED_OTHER | MODIFIED_OTHER
    assert layout(runs_of(pack(4096, [Piece(BASE, bytes([others, INCORE | others, SUPER]))], "little"))) == [(1, 2, P)]


def test_runs_of_pieces_that_touch_are_one_and_pieces_of_nothing_are_left_out() -> None:
    pieces = [Piece(BASE, b"\0\1"), Piece(BASE + 2 * 4096, b"\3"), Piece(BASE + 3 * 4096, bytes(100))]
    stream = pack(4096, pieces, "little")
    assert len(stream) == 8 + (16 + 2) + (16 + 1)
    assert layout(runs_of(stream)) == [(1, 3, P)]
    assert list(runs_of(pack(4096, [], "little"))) == []


@given(
    st.lists(st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=40)), max_size=8),
    st.sampled_from([4096, 16384]),
)
def test_any_answers_are_read_back_page_by_page(told: list[tuple[int, bytes]], page: int) -> None:
    pieces: list[Piece] = []
    expected: dict[int, PageState] = {}
    at = BASE
    for gap, each in told:
        at += gap * page
        pieces.append(Piece(at, each))
        for byte in each:
            if byte & INCORE:
                expected[at] = P | H if byte & 0x60 else P
            at += page
    runs = runs_of(pack(page, pieces, "little"))
    assert {at: run.state for run in runs for at in range(run.start, run.end, page)} == expected
    assert all(this.end < after.start or this.state != after.state for this, after in pairwise(runs))


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        b"\1",
        struct.pack("<Q", 0),
        struct.pack("<Q", 4095),
        struct.pack("<Q", 1 << 21),
        pack(4096, [Piece(BASE, b"\1")], "big"),
        pack(4096, [Piece(BASE, b"\1\1")], "little")[:-1],
        pack(4096, [Piece(BASE, b"\1")], "little") + b"\1",
        pack(4096, [Piece(BASE + 1, b"\1")], "little"),
        pack(4096, [Piece(BASE, b"\1\1"), Piece(BASE + 4096, b"\1")], "little"),
        pack(4096, [Piece(2**64 - 4096, b"\1")], "little"),
        struct.pack("<QQQ", 4096, BASE, 0),
        struct.pack("<QQQ", 4096, BASE, 2**63),
    ],
)
def test_what_is_damaged_is_told(stream: bytes) -> None:
    with pytest.raises(MalformedData, match=STREAM):
        runs_of(stream)


@given(st.binary(max_size=200))
def test_any_bytes_are_pages_or_malformed(stream: bytes) -> None:
    for head in (b"", struct.pack("<Q", 4096)):
        with contextlib.suppress(MalformedData):
            runs_of(head + stream)


# asking


@pytest.fixture
def asked(kernel: FakeKernel) -> FakeKernel:
    """A kernel that tells of the process that asks: 16 pages mapped, of which some were touched."""
    kernel.numbers[mincore.MAPPED] = 1
    kernel.mapped = [(BASE, BASE + 16 * PAGE)]
    kernel.told = {BASE + PAGE: 7, BASE + 2 * PAGE: 1, BASE + 9 * PAGE: 0x21}
    kernel.processes[os.getpid()].maps = [one(start=BASE, end=BASE + 16 * PAGE)]
    return kernel


def ask(*ranges: tuple[int, int]) -> list[tuple[int, int, PageState]]:
    reading = MINCORE.acquire(FREEBSD.open(os.getpid(), None), Query(pages=P, ranges=ranges))
    assert reading.incomplete is None
    capture = Capture(reading.streams, FREEBSD.info(), os.getpid(), MINCORE.name, "vmatlas-freebsd", Query(), 0.0)
    return layout(MINCORE.pages(capture), PAGE)


def test_own_pages_are_asked_by_range(asked: FakeKernel) -> None:
    assert ask((BASE, BASE + 16 * PAGE)) == [(1, 3, P), (9, 10, P | H)]
    assert ask((BASE + 2 * PAGE, BASE + 3 * PAGE), (BASE + 9 * PAGE, BASE + 12 * PAGE)) == [(2, 3, P), (9, 10, P | H)]
    assert ask() == []


def test_a_large_range_is_asked_in_pieces(asked: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mincore, "MOST_PAGES", 5)
    assert ask((BASE, BASE + 16 * PAGE)) == [(1, 3, P), (9, 10, P | H)]
    assert [size // PAGE for _, size in asked.asked] == [5, 5, 5, 1]


def test_memory_that_went_since_the_map_was_read_is_left_out(
    asked: FakeKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mincore, "MOST_PAGES", 4)
    asked.mapped = [(BASE, BASE + 6 * PAGE), (BASE + 8 * PAGE, BASE + 16 * PAGE)]
    maps = asked.processes[os.getpid()].maps
    maps[:] = [b"".join(one(start=start, end=end) for start, end in asked.mapped)]
    assert ask((BASE, BASE + 16 * PAGE)) == [(1, 3, P), (9, 10, P | H)]
    begun = [start for start, _ in asked.asked]
    assert begun.count(BASE) == 1, "what was told already is not asked again"
    asked.mapped = []
    maps[:] = [one(start=1, end=2)]
    assert ask((BASE, BASE + 16 * PAGE)) == []


def test_memory_that_goes_during_every_reading_is_told(asked: FakeKernel) -> None:
    asked.mapped = []  # while its map has it all the time
    with pytest.raises(TornRead, match="went during each of 50 readings"):
        ask((BASE, BASE + PAGE))


def test_another_error_is_told_with_its_errno(asked: FakeKernel) -> None:
    asked.refuses = EFAULT
    with pytest.raises(OperationFailed, match=r"mincore of process [0-9]+ failed: Bad address") as raised:
        ask((BASE, BASE + PAGE))
    assert (raised.value.errno_name, raised.value.pid) == ("EFAULT", os.getpid())
    asked.refuses, asked.processes[os.getpid()].maps = None, [EFAULT]
    with pytest.raises(OperationFailed, match=r"kern\.proc\.vmmap of process [0-9]+ failed"):
        ask((0, PAGE))


def test_another_process_is_refused_with_what_is_told_of_it_instead(asked: FakeKernel) -> None:
    process = FREEBSD.open(asked.add(46, maps=[b""]).pid, None)
    with pytest.raises(Unsupported, match=r"to the process itself alone.*--residency"):
        MINCORE.acquire(process, Query(pages=P, ranges=((BASE, BASE + PAGE),)))
    assert asked.asked == []


@pytest.mark.parametrize(
    ("setting", "says"), [({}, "this kernel has no vm.mincore_mapped"), ({mincore.MAPPED: 0}, "vm.mincore_mapped is 0")]
)
def test_a_kernel_that_tells_what_anybody_has_in_memory_is_not_believed(
    asked: FakeKernel, setting: dict[str, int], says: str
) -> None:
    asked.numbers = setting
    assert says in MINCORE.probe().reason
    with pytest.raises(Unsupported, match=says):
        ask((BASE, BASE + PAGE))


def test_probe_asks_about_a_page_of_its_own(asked: FakeKernel) -> None:
    asked.mapped = [(0, 2**63)]
    assert MINCORE.probe()
    ((start, size),) = asked.asked
    assert (start % PAGE, size) == (0, PAGE)
    asked.refuses = ENOMEM
    assert MINCORE.probe().reason == f"mincore: {os.strerror(ENOMEM)}"


def test_the_api_tells_own_pages_and_of_others_why_not(asked: FakeKernel) -> None:
    asked.mapped.append((BASE + 16 * PAGE, 2**63))  # where this test really is: it is probed
    machine = LocalTarget()
    machine.__dict__["system"] = FREEBSD
    with vmatlas.open(os.getpid(), target=machine) as process:
        runs = process.pages(between=(BASE, BASE + 2 * PAGE + 8))
        assert layout(runs, PAGE)[:1] == [(1, 2, P)] and runs.told == P | H
        assert (runs[-1].end - BASE, runs.origin.backend) == (2 * PAGE + 8, "freebsd-mincore")
        assert layout(process.pages(), PAGE) == [(1, 3, P), (9, 10, P | H)]
        with pytest.raises(Unsupported, match="freebsd-mincore: does not tell guard"):
            process.pages(of=PageState.GUARD)
        assert process.guard_at(BASE) is None
    asked.add(46, maps=[one(start=BASE, end=BASE + PAGE)])
    with vmatlas.open(46, target=machine) as process:
        with pytest.raises(Unsupported, match="freebsd-mincore: FreeBSD tells pages to the process itself alone"):
            process.pages()
        assert process.snapshot()[0].start == BASE


def test_a_child_by_fork_is_refused_its_parent_s_handle(asked: FakeKernel, monkeypatch: pytest.MonkeyPatch) -> None:
    process = FREEBSD.open(os.getpid(), None)
    monkeypatch.setattr(mincore.os, "getpid", lambda: process.pid + 1)
    with pytest.raises(Unsupported, match="to the process itself alone"):
        MINCORE.acquire(process, Query(pages=P, ranges=((BASE, BASE + PAGE),)))


def test_it_is_registered() -> None:
    assert MINCORE in page_sources()


@pytest.mark.parametrize("count", [1, 4096])
def test_no_byte_beside_the_answer_is_written(asked: FakeKernel, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel writes one byte before the vector: there is room for it, and it is no page's."""
    asked.mapped, asked.told = [(BASE, BASE + count * PAGE)], {BASE + (count - 1) * PAGE: 1}
    honest: Callable[..., int] = asked.mincore

    def one_too_low(address: object, length: object, vector: object) -> int:
        import ctypes

        done = honest(address, length, vector)
        ctypes.memset(vector.value - 1, 0x7F, 1)  # type: ignore[attr-defined]
        return done

    monkeypatch.setattr(asked, "mincore", one_too_low)
    assert ask((BASE, BASE + count * PAGE)) == [(count - 1, count, P)]
