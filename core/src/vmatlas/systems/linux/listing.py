"""/proc/PID/stat of many processes, one of which may not answer.

While a process executes a program the kernel keeps others from looking at it, and it may stay in there for ever: a file
that is closed on the way, on a file system that does not answer, is enough. Reading `stat` waits then (measured on
6.18: it takes exec_update_lock), where only SIGKILL ends the wait; `comm` and `status` do not.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.backend import bare
from vmatlas.model import ProcessInfo
from vmatlas.patience import Crew, Errand
from vmatlas.systems.linux.proc import keys_of

SILENCE = 2.0
"""Seconds after which a process is passed over."""

_Found = bytes | OSError


class _Reading:
    """One thread's way through the processes, which ends at the one that does not answer."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self.found: list[_Found] = []
        self.is_left = False

    def go(self) -> None:
        """Read one after another."""
        for pid in self._pids:
            try:
                with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
                    found: _Found = file.read(4096)
            except OSError as error:
                found = error
            if self.is_left:
                return
            self.found.append(found)


def read_stats(pids: list[int]) -> Iterator[tuple[int, _Found | None]]:
    """What each process's `stat` says, or the error of reading it; None: it does not answer."""
    while pids:
        reading = _Reading(pids)
        with Crew(1) as crew:
            is_through = Errand(reading.go).asked_by(crew, SILENCE)
        reading.is_left = True
        found = list(reading.found)
        yield from zip(pids, found, strict=False)
        if is_through or len(found) == len(pids):
            return
        yield pids[len(found)], None
        pids = pids[len(found) + 1 :]


def describe_silent(pid: int) -> ProcessInfo | None:
    """A process as `comm` and `status` tell it, which do not wait; its start time they do not tell. None: gone.

    Its number alone where they cannot be read for another reason (no descriptor left, no memory): who asks more of it
    is told which.
    """
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            name = file.read(256).removesuffix(b"\n").decode("utf-8", "surrogateescape")
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            told = keys_of(file.read())
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return bare(pid)
    parent = told.get(b"PPid", b"")
    return ProcessInfo(
        pid=pid,
        parent=int(parent) if parent.isdigit() and len(parent) <= 10 else None,
        name=name,
        start_time=None,
        state=told.get(b"State", b"")[:1].decode("ascii", "replace"),
        kernel=told.get(b"Kthread") == b"1",
    )
