"""A scripted kernel: processes and their maps behind a libc that only looks like FreeBSD's."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from errno import EINVAL, ENOENT, ENOMEM, ESRCH
from pathlib import Path
from typing import Any

import pytest

from vmatlas.conformance.scripted_libc import ScriptedSysctl
from vmatlas_freebsd.acquire import libc, map_text
from vmatlas_freebsd.layout import PROC_FIELDS, PROC_SIZE

CAPTURES = Path(__file__).parent / "captures"


@dataclass
class FakeProcess:
    pid: int
    started: int = 5_000_000
    """Microseconds since boot."""
    state: int = 3
    flag: int = 0
    name: bytes = b"sleep"
    parent: int = 1
    maps: list[bytes | int] = field(default_factory=list)
    """The answers to the readings of its map, one after another, the last again; a number is an errno."""


class FakeKernel(ScriptedSysctl):
    """Tells the exact size; ENOMEM, with the beginning, when the room is too small."""

    def __init__(self) -> None:
        super().__init__(ENOMEM)
        self.processes: dict[int, FakeProcess] = {}
        self.boot_times = [1_700_000_000_000_000]
        self.numbers: dict[str, int] = {}
        self.growth: list[int] = []
        """Bytes by which the map has grown between a size probe and the reading, one for each."""
        self.mapped: list[tuple[int, int]] = []
        """Of the process that asks: what mincore finds mapped, as addresses."""
        self.told: dict[int, int] = {}
        """What mincore tells of a page, by its address; 0 of others."""
        self.asked: list[tuple[int, int]] = []
        """What mincore was asked about: addresses and bytes."""
        self.refuses: int | None = None
        """The errno that mincore gives."""

    def add(self, pid: int, **known: Any) -> FakeProcess:
        self.processes[pid] = FakeProcess(pid, **known)
        return self.processes[pid]

    def record(self, process: FakeProcess) -> bytes:
        data = bytearray(PROC_SIZE)
        struct.pack_into("<I", data, 0, PROC_SIZE)
        started = process.started + self.boot_times[0]
        values: dict[str, tuple[Any, ...]] = {
            "pid": (process.pid,), "ppid": (process.parent,), "uid": (0,), "flag": (process.flag,),
            "start": divmod(started, 1_000_000), "stat": (process.state,), "comm": (process.name,),
        }  # fmt: skip
        for name, (at, code) in PROC_FIELDS.items():
            struct.pack_into("<" + code, data, at, *values[name])
        return bytes(data)

    def value(self, mib: tuple[int, ...], reading: bool) -> bytes | int:
        match mib:
            case (1, 21):
                time = self.boot_times[0]
                if reading and len(self.boot_times) > 1:
                    self.boot_times.pop(0)
                return struct.pack("<qq", *divmod(time, 1_000_000))
            case (1, 14, 8, 0):
                return b"".join(self.record(self.processes[pid]) for pid in sorted(self.processes, reverse=True))
            case (1, 14, 1, pid):
                return self.record(self.processes[pid]) if pid in self.processes else ESRCH
            case (1, 14, 32, pid) if pid in self.processes:
                maps = self.processes[pid].maps
                answer = maps[0]
                if reading and len(maps) > 1:
                    maps.pop(0)
                if reading and self.growth and isinstance(answer, bytes):
                    answer += bytes(self.growth.pop(0))
                return answer
            case (1, 14, 32, _):
                return ESRCH
        return EINVAL

    def mincore(self, address: Any, length: Any, vector: Any) -> int:
        """As sys/vm/vm_mmap.c has it: a byte a page; ENOMEM, and nothing to go by, where one page is not mapped."""
        page = os.sysconf("SC_PAGE_SIZE")
        start = address.value or 0
        end = start + length.value
        assert not start % page and not length.value % page
        self.asked.append((start, length.value))
        covered = start
        for low, high in sorted(self.mapped):
            if low <= covered < high:
                covered = high
        if self.refuses is not None or covered < end:
            ctypes.set_errno(ENOMEM if self.refuses is None else self.refuses)
            return -1
        told = bytes(self.told.get(at, 0) for at in range(start, end, page))
        ctypes.memmove(vector.value, told, len(told))
        return 0

    def sysctlbyname(self, name: bytes, value: Any, size: Any, new: Any, new_size: Any) -> int:
        assert (new, new_size.value) == (None, 0)
        if name.decode() not in self.numbers:
            ctypes.set_errno(ENOENT)
            return -1
        value._obj.value = self.numbers[name.decode()]
        return 0


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> FakeKernel:
    made = FakeKernel()
    monkeypatch.setattr(libc, "libc", lambda: made)
    made.add(os.getpid(), maps=[(CAPTURES / "sh.vmmap.bin").read_bytes()])
    return made


@pytest.fixture
def procfs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder in place of /proc, with the reader in it."""
    (tmp_path / "curproc").mkdir()
    (tmp_path / "curproc" / "map").write_bytes(b"")
    monkeypatch.setattr(map_text, "PROC_FOLDER", str(tmp_path))
    yield tmp_path
