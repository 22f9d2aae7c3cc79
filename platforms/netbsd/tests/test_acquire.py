"""The same questions from Python, against a libc that only looks like NetBSD's. It was never run on one."""

from __future__ import annotations

import os
from errno import E2BIG, ENOSPC, EPERM, ESRCH

import pytest

from vmatlas import AccessDenied, NoSuchProcess, Query
from vmatlas.conformance.scripted_libc import ScriptedSysctl
from vmatlas_netbsd import BACKEND, acquire
from vmatlas_netbsd.layout import PROCESS_SIZE, REGION_SIZE
from vmatlas_netbsd.system import SYSTEM

from .test_decode import packed
from .test_meaning import process

MAP = (2, 16, 1)


class Libc(ScriptedSysctl):
    """Answers as fill_vmentries() and sysctl_doeproc() do: the size without room, ENOSPC with too little."""

    def __init__(self) -> None:
        super().__init__(ENOSPC)
        self.maps: list[bytes | int] = [packed(protection=5, type=2, flags=1, path=b"/bin/sh", vn_type=1)]
        """The answers, one for each reading, the last again."""
        self.told: list[int] = []
        """Bytes that are told where the map has another size by the time it is read, one after another."""
        self.processes = {7: process(pid=7), 1: process(pid=1, comm=b"init"), 0: process(pid=0, flag=0x200)}

    def value(self, mib: tuple[int, ...], reading: bool) -> bytes | int:
        if mib[:3] == MAP:
            assert mib[4] == REGION_SIZE
            if self.told and not reading:
                return bytes(self.told.pop(0))
            return self.maps.pop(0) if len(self.maps) > 1 and reading else self.maps[0]
        assert mib[:2] == (1, 47)
        assert mib[4] == PROCESS_SIZE
        if mib[2] == 0:
            return b"".join(self.processes.values())
        return self.processes.get(mib[3], ESRCH)


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Libc:
    made = Libc()
    monkeypatch.setattr(acquire, "libc", lambda: made)
    return made


def test_map_is_read_with_who_the_process_is(kernel: Libc) -> None:
    reading = BACKEND.acquire(SYSTEM.open(7, None), Query())
    assert reading.streams == {"map": kernel.maps[0], "process": kernel.processes[7]}
    assert kernel.calls[-1][:3] == (1, 47, 1)


def test_map_that_grows_meanwhile_is_read_again(kernel: Libc) -> None:
    larger = packed() * 40
    kernel.told = [REGION_SIZE, len(larger)]  # by the first reading it has grown
    kernel.maps = [larger]
    assert acquire.read_map(7) == larger
    assert len(kernel.calls) == 4


def test_map_beyond_all_room_is_said(kernel: Libc) -> None:
    kernel.maps = [bytes(acquire.MOST + REGION_SIZE)]
    with pytest.raises(OSError, match=os.strerror(E2BIG)) as raised:
        acquire.read_map(7)
    assert raised.value.errno == E2BIG


@pytest.mark.parametrize(("number", "error"), [(EPERM, AccessDenied), (ESRCH, NoSuchProcess)])
def test_refusals_are_told_as_what_they_mean(kernel: Libc, number: int, error: type[Exception]) -> None:
    opened = SYSTEM.open(7, None)
    kernel.maps = [number]
    with pytest.raises(error):
        BACKEND.acquire(opened, Query())


def test_process_that_took_the_number_is_not_taken_for_the_old_one(kernel: Libc) -> None:
    opened = SYSTEM.open(7, None)
    kernel.processes[7] = process(pid=7, ustart_sec=6)
    with pytest.raises(NoSuchProcess, match="another process's now"):
        BACKEND.acquire(opened, Query())
    del kernel.processes[7]
    with pytest.raises(NoSuchProcess, match="there is no process 7"):
        BACKEND.acquire(opened, Query())
    with pytest.raises(NoSuchProcess):
        SYSTEM.open(7, None)


def test_processes_are_listed_in_order(kernel: Libc) -> None:
    assert [(each.pid, each.name, each.kernel) for each in SYSTEM.processes()] == [
        (0, "sleep", True),
        (1, "init", False),
        (7, "sleep", False),
    ]
