"""The Python half of acquiring, against a devctl that is made up: QNX with Python is not at hand."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from vmatlas import AccessDenied, NoSuchProcess, OperationFailed, TornRead, Unsupported
from vmatlas.backend import LocalProcess
from vmatlas_qnx import PAGEDATA, names
from vmatlas_qnx.acquire import ATTEMPTS, acquire, ask_name, ask_program, error_of
from vmatlas_qnx.layout import ENTRY, INFO, MAPDEBUG, NAME_ROOM, PROCESS_INFO
from vmatlas_qnx.layout import PAGEDATA as COMMAND

from .recorded import FOLDER, captured

WHOLE = (FOLDER / "own_pagedata.bin").read_bytes()
INFORMATION = (FOLDER / "pid40964_pipe_procinfo.bin").read_bytes()


class Procfs:
    """Answers as the kernel was seen to: the count whatever fits, as many bytes as fit, a part of an entry included."""

    def __init__(self, *maps: bytes, error: int = 0, name_error: int = 0) -> None:
        self.maps = list(maps)
        self.error = error
        self.name_error = name_error
        self.asked: list[tuple[int, int]] = []

    def __call__(self, descriptor: int, command: int, buffer: bytearray) -> tuple[int, int]:
        self.asked.append((command, len(buffer)))
        if command == PROCESS_INFO:
            buffer[:] = INFORMATION
            return 0, 0
        if command == MAPDEBUG:
            buffer[8:28] = b"proc/boot/libc.so.3\0"
            return self.name_error, 0
        if self.error:
            return self.error, 0
        data = self.maps.pop(0) if len(self.maps) > 1 else self.maps[0]
        written = min(len(data), len(buffer))
        buffer[:written] = data[:written]
        return 0, len(data) // ENTRY


@pytest.fixture
def process() -> LocalProcess:
    made = LocalProcess(40964)
    made.descriptor("as", lambda: os.open(os.devnull, os.O_RDONLY))
    return made


def test_reading_is_what_the_kernel_said(process: LocalProcess) -> None:
    reading = acquire(process, "pagedata", Procfs(WHOLE))
    assert reading.streams["pagedata"] == WHOLE
    assert reading.streams["procinfo"] == INFORMATION
    assert len(INFORMATION) == INFO
    assert reading.incomplete is None
    space = PAGEDATA.decode(captured("pagedata", WHOLE, mapdebug=reading.streams[names.STREAM]))
    assert "/proc/boot/libc.so.3" in {region.path for region in space}


def test_map_that_grows_is_asked_for_again_with_more_room(process: LocalProcess) -> None:
    large = b"".join((0x1000 * (row + 1)).to_bytes(8, "little") + WHOLE[8:ENTRY] for row in range(3000))
    procfs = Procfs(WHOLE * 8, large)
    reading = acquire(process, "pagedata", procfs)
    assert reading.streams["pagedata"] == large
    rooms = [size for command, size in procfs.asked if command == COMMAND]
    assert rooms[0] < len(large) <= rooms[-1]


@pytest.mark.parametrize("first", [0, 1, 9, 10, 11])
def test_any_room_at_first_ends_with_every_entry(
    first: int, process: LocalProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules["vmatlas_qnx.acquire"], "FIRST_ROOM", first)
    ten = WHOLE[: 10 * ENTRY]
    assert acquire(process, "pagedata", Procfs(ten)).streams["pagedata"] == ten


@pytest.mark.parametrize("count", [2**20 + 1, 2**31 - 1, -1])
def test_count_that_is_none_to_make_room_for_is_said(process: LocalProcess, count: int) -> None:
    def devctl(descriptor: int, command: int, buffer: bytearray) -> tuple[int, int]:
        return 0, count

    with pytest.raises(OperationFailed, match="is told to have"):
        acquire(process, "pagedata", devctl)


def test_map_that_always_outgrows_its_room_is_said(process: LocalProcess) -> None:
    with pytest.raises(TornRead, match=f"grew during each of {ATTEMPTS}"):
        acquire(process, "pagedata", Procfs(*(bytes(ENTRY * int(600 * 2.1**number)) for number in range(10))))


def test_map_that_changes_each_time_is_marked(process: LocalProcess) -> None:
    changing = [WHOLE[: -ENTRY * (number % 2) or None] for number in range(40)]
    reading = acquire(process, "pagedata", Procfs(*changing))
    assert reading.incomplete is not None
    assert "changed" in reading.incomplete


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENXIO, NoSuchProcess),
        (errno.ESRCH, NoSuchProcess),
        (errno.ENOTTY, Unsupported),
        (errno.EPERM, AccessDenied),
        (errno.EFAULT, OperationFailed),
    ],
)
def test_errno_is_told_as_what_it_means(process: LocalProcess, number: int, expected: type[Exception]) -> None:
    with pytest.raises(expected) as caught:
        acquire(process, "pagedata", Procfs(b"", error=number))
    assert caught.type is expected


def test_errno_is_told_by_its_name() -> None:
    assert isinstance(error_of("ENOENT", 2, 7, "open"), NoSuchProcess)
    busy = error_of("EBUSY", 16, 7, "open /proc/7/as")
    assert isinstance(busy, OperationFailed)
    assert (busy.errno, busy.errno_name, busy.pid) == (16, "EBUSY", 7)


@pytest.mark.parametrize("room", range(9))
def test_mapdebug_is_never_asked_with_8_bytes_or_less(room: int) -> None:
    procfs = Procfs(WHOLE)
    with pytest.raises(ValueError, match="hangs the target"):
        ask_name(1, 0x1000, room, procfs)
    with pytest.raises(ValueError, match="hangs the target"):
        ask_program(1, room, procfs)
    assert procfs.asked == []


def test_no_other_line_of_python_names_the_command() -> None:
    naming = [
        line.strip()
        for file in Path(sys.modules["vmatlas_qnx"].__path__[0]).glob("*.py")
        for line in file.read_text().splitlines()
        if "layout.MAPDEBUG" in line or "0100803" in line or "_ask_path(" in line
    ]
    assert sorted(naming) == [
        "MAPDEBUG = 0xC0100803",
        "MAPDEBUG_BASE = 0x40100803",
        "def _ask_path(descriptor: int, command: int, address: int, room: int, devctl: Devctl) -> tuple[int, bytes]:",
        "return _ask_path(descriptor, layout.MAPDEBUG, address, room, devctl)",
        "return _ask_path(descriptor, layout.MAPDEBUG_BASE, 0, room, devctl)",
    ]


def test_every_mapdebug_of_a_reading_has_room_for_a_path(process: LocalProcess) -> None:
    procfs = Procfs(WHOLE)
    acquire(process, "pagedata", procfs)
    assert {size for command, size in procfs.asked if command == MAPDEBUG} == {NAME_ROOM}
    assert (MAPDEBUG, NAME_ROOM) in procfs.asked


def test_here_the_backend_says_that_this_is_no_qnx() -> None:
    availability = PAGEDATA.probe()
    assert not availability
    assert "not QNX" in availability.reason
