"""The walk against a scripted kernel: what it makes of a map that changes between two questions, and of errors."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from errno import EBADF, ENAMETOOLONG, ENOENT, ENOTTY, ESRCH
from typing import NamedTuple

import pytest

from vmatlas import AddressSpace, Capture, OperationFailed, Query, SystemInfo, TornRead, Unsupported
from vmatlas.model import Filter
from vmatlas.systems.linux import LinuxProcess, vanishing
from vmatlas.systems.linux.procmap import SIZE, record
from vmatlas_linux_ioctl import BACKEND, acquire
from vmatlas_linux_ioctl.question import kernel_flags

LAYOUT = record("little")


class Vma(NamedTuple):
    start: int
    end: int
    flags: int = 1
    name: bytes = b""
    inode: int = 0


class Kernel:
    """Answers PROCMAP_QUERY from a list, and changes the list after a given number of questions."""

    def __init__(self, *vmas: Vma, then: dict[int, list[Vma]] | None = None, limit_of_name: int = 4096) -> None:
        self.vmas = list(vmas)
        self.then = then or {}
        self.limit_of_name = limit_of_name
        self.asked: list[int] = []

    def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
        fields = LAYOUT.unpack(argument)
        flags, address = fields[1], fields[2]
        self.asked.append(address)
        if len(self.asked) in self.then:
            self.vmas = self.then[len(self.asked)]
        for vma in self.vmas:
            fits = vma.flags & flags & 0xF == flags & 0xF and (vma.inode or not flags & 0x20)
            if vma.end > address and (vma.start <= address or flags & 0x10):
                if fits:
                    return self._answer(argument, fields, vma)
                if not flags & 0x10:
                    break
        raise OSError(ENOENT, "no match")

    def _answer(self, argument: bytearray, asked: tuple[int, ...], vma: Vma) -> int:
        name = vma.name + b"\0" if vma.name else b""
        if asked[13]:
            if len(name) > min(asked[11], self.limit_of_name):
                raise OSError(ENAMETOOLONG, "too long")
            ctypes.memmove(asked[13], name, len(name))
        else:
            name = b""
        device = (8, 1) if vma.inode else (0, 0)
        LAYOUT.pack_into(
            argument,
            0,
            *asked[:3],
            vma.start,
            vma.end,
            vma.flags,
            4096,
            0,
            vma.inode,
            *device,
            len(name),
            0,
            *asked[13:],
        )
        return 0


Ask = Callable[..., AddressSpace]


class Ordinary(LinuxProcess):
    """This very process, read as any other."""

    is_self = False  # type: ignore[assignment]


@pytest.fixture(params=[Ordinary, LinuxProcess], ids=["another", "oneself"])
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Walk over a scripted map: into memory that grows, and into memory that does not."""

    def asked(kernel: Callable[..., int], query: Query | None = None) -> AddressSpace:
        monkeypatch.setattr(acquire, "NATIVE", None)
        monkeypatch.setattr(acquire.fcntl, "ioctl", kernel)
        process: LinuxProcess = request.param(os.getpid())
        try:
            reading = acquire.acquire(process, query or Query())
        finally:
            process.close()
        system = SystemInfo("linux", "6.12", "", "x", "little", 64, 4096)
        capture = Capture(
            reading.streams, system, 7, BACKEND.name, BACKEND.distribution, query or Query(), 0.0,
            incomplete=reading.incomplete,
        )  # fmt: skip
        return BACKEND.decode(capture)

    return asked


def bounds(space: AddressSpace) -> list[tuple[int, int]]:
    return [(region.start >> 12, region.end >> 12) for region in space]


def pages(*bounds: tuple[int, int]) -> list[Vma]:
    """Regions by page number; writable or not in turn, so that none is like the one before."""
    return [Vma(start << 12, end << 12, 1 + 2 * (row % 2)) for row, (start, end) in enumerate(bounds)]


def test_map_that_stands_still_is_walked_with_one_question_a_region(ask: Ask) -> None:
    kernel = Kernel(*pages((1, 2), (2, 4), (9, 10)))
    assert bounds(ask(kernel)) == [(1, 2), (2, 4), (9, 10)]
    assert [address >> 12 for address in kernel.asked] == [0, 2, 4, 10]


def test_region_that_grew_backward_over_what_was_told_is_asked_anew(ask: Ask) -> None:
    # (3,4) merges with (4,6) after it was told.
    kernel = Kernel(*pages((1, 2), (3, 4), (4, 6), (8, 9)), then={3: pages((1, 2), (3, 6), (8, 9))})
    assert bounds(ask(kernel)) == [(1, 2), (3, 6), (8, 9)]


def test_region_that_swallowed_several_is_told_once(ask: Ask) -> None:
    kernel = Kernel(*pages((1, 2), (2, 3), (3, 4), (4, 6)), then={4: pages((1, 6))})
    assert bounds(ask(kernel)) == [(1, 6)]


def test_region_split_behind_the_walk_leaves_the_answer_possible(ask: Ask) -> None:
    kernel = Kernel(*pages((1, 5), (5, 9)), then={2: pages((1, 3), (3, 5), (5, 7), (7, 9))})
    assert bounds(ask(kernel)) == [(1, 5), (5, 7), (7, 9)]


def test_names_stay_with_their_regions_when_the_walk_goes_back(ask: Ask) -> None:
    a, b = Vma(0x1000, 0x2000, name=b"/a", inode=1), Vma(0x2000, 0x3000, name=b"/longer", inode=2)
    c = Vma(0x3000, 0x4000, name=b"/c", inode=3)
    kernel = Kernel(a, b, c, then={3: [a, b._replace(end=0x4000), c._replace(start=0x4000, end=0x5000)]})
    told = [(region.start, region.end, region.path) for region in ask(kernel)]
    assert told == [(0x1000, 0x2000, "/a"), (0x2000, 0x4000, "/longer"), (0x4000, 0x5000, "/c")]


def test_walk_from_an_address_never_goes_back_below_it(ask: Ask) -> None:
    # Asked from page 5 on: (4,8) covers it; then it is split and its upper part merges with what follows.
    kernel = Kernel(*pages((4, 8), (8, 10)), then={2: pages((4, 5), (5, 10))})
    query = Query(address=5 << 12, or_next=True, limit=10)
    assert bounds(ask(kernel, query)) == [(5, 10)]
    assert min(kernel.asked) == 5 << 12


def test_map_that_never_stands_still_is_a_torn_read(ask: Ask) -> None:
    class Restless(Kernel):
        def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
            # Whatever is asked lies in the middle of a region; below that stands a small one.
            address = LAYOUT.unpack(argument)[2]
            self.vmas = [Vma(0x1000, 0x2000)] if address < 0x1000 else [Vma(0x1000, address + 0x1000)]
            return super().__call__(descriptor, request, argument)

    with pytest.raises(TornRead, match="changed faster than it could be read"):
        ask(Restless())


def test_limit_is_not_used_up_by_scratch_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A walk over oneself in pieces ended early once: the piece that scratch memory was cut from seemed the last."""
    scratch = Vma(0x2000, 0x3000, 11, acquire.LABEL, 5)
    kernel = Kernel(Vma(0x1000, 0x2000), scratch, *pages((3, 4), (4, 5), (5, 6)))
    monkeypatch.setattr(acquire.fcntl, "ioctl", kernel)
    process = LinuxProcess(os.getpid())
    data = acquire.acquire(process, Query(address=0, or_next=True, limit=3)).streams["vmas"]
    process.close()
    assert [LAYOUT.unpack_from(data, at)[3] >> 12 for at in range(0, len(data), SIZE)] == [1, 3, 4]


def test_region_without_a_name_after_scratch_memory_is_not_taken_for_it(ask: Ask) -> None:
    scratch = Vma(0x2000, 0x3000, 11, acquire.LABEL, 5)
    kernel = Kernel(Vma(0x1000, 0x2000), scratch, Vma(0x3000, 0x4000))
    assert (0x3, 0x4) in bounds(ask(kernel))


def test_name_too_long_is_left_out_and_said(ask: Ask) -> None:
    kernel = Kernel(Vma(0x1000, 0x2000, 5, b"/long" * 9, 7), Vma(0x2000, 0x3000), limit_of_name=20)
    space = ask(kernel)
    assert [(region.path, region.inode) for region in space] == [(None, 7), (None, None)]
    assert space.incomplete is not None
    assert "1 region(s) lack theirs" in space.incomplete


def test_region_whose_long_name_was_told_no_more_is_not_counted(ask: Ask) -> None:
    long = Vma(0x1000, 0x2000, 5, b"/long" * 9, 7)
    kernel = Kernel(long, then={2: [Vma(0x1000, 0x3000)]}, limit_of_name=20)
    space = ask(kernel)
    assert bounds(space) == [(1, 3)]
    assert space.incomplete is None


def failing(number: int) -> Callable[..., int]:
    def ioctl(descriptor: int, request: int, argument: bytearray) -> int:
        raise OSError(number, os.strerror(number))

    return ioctl


def test_kernel_without_the_ioctl_is_said_to_be_older(ask: Ask) -> None:
    with pytest.raises(Unsupported, match=r"older than Linux 6\.11") as raised:
        ask(failing(ENOTTY))
    assert raised.value.hint is not None
    assert "linux-procfs" in raised.value.hint


def test_error_without_a_name_of_its_own_keeps_the_kernel_s(ask: Ask) -> None:
    with pytest.raises(OperationFailed) as raised:
        ask(failing(EBADF))
    assert (raised.value.errno, raised.value.errno_name) == (EBADF, "EBADF")


def test_process_that_never_keeps_its_memory_is_a_torn_read(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanishing.time, "sleep", lambda seconds: None)
    with pytest.raises(TornRead, match=f"exec.*each of {vanishing.ATTEMPTS}"):
        ask(failing(ESRCH))


def test_memory_that_went_in_the_middle_of_a_walk_is_asked_anew(ask: Ask) -> None:
    class Executes(Kernel):
        def __call__(self, descriptor: int, request: int, argument: bytearray) -> int:
            if len(self.asked) == 2:
                self.asked.append(-1)
                self.vmas = pages((7, 8), (8, 9))
                raise OSError(ESRCH, "gone")
            return super().__call__(descriptor, request, argument)

    assert bounds(ask(Executes(*pages((1, 2), (2, 3), (3, 4))))) == [(7, 8), (8, 9)]


@pytest.mark.parametrize(
    ("where", "flags"),
    [
        (Filter(), 0),
        (Filter.of("rwx"), 7),
        (Filter.of("shared"), 8),
        (Filter.of("private"), 0),
        (Filter.of("!x"), 0),
        (Filter.of("file, r"), 0x21),
        (Filter.of("kind=file|device"), 0x20),
        (Filter.of("kind=file|heap"), 0),
    ],
)
def test_kernel_is_asked_only_what_it_can_tell(where: Filter, flags: int) -> None:
    assert kernel_flags(where) == flags


def test_memory_made_beforehand_grows_until_the_map_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    vmas = [Vma(row << 12, row + 1 << 12, 1 + 2 * (row % 2), b"/" + b"n" * 100, row) for row in range(1, 4000)]

    def kernel(descriptor: int, request: int, argument: bytearray) -> int:
        fields = LAYOUT.unpack(argument)
        row = max(fields[2] >> 12, 1)
        if row >= 4000:
            raise OSError(ENOENT, "no match")
        return Kernel()._answer(argument, fields, vmas[row - 1])

    monkeypatch.setattr(acquire.fcntl, "ioctl", kernel)
    process = LinuxProcess(os.getpid())
    data = acquire.acquire(process, Query()).streams["vmas"]
    process.close()
    assert len(data) == 3999 * (SIZE + 102)
