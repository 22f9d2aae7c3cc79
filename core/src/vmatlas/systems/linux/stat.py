"""/proc/PID/stat: the little of it that tells whether a process has memory, and who it is. Pure: bytes to values."""

from __future__ import annotations

from vmatlas.errors import MalformedData, NoSuchProcess, TornRead
from vmatlas.model import ProcessInfo
from vmatlas.values import NamedTuple

PF_EXITING = 0x00000004
PF_KTHREAD = 0x00200000
"""Bits of the field `flags` (include/linux/sched.h)."""


class Stat(NamedTuple):
    """Fields of /proc/PID/stat (proc_pid_stat(5))."""

    pid: int
    name: str
    """At most 15 bytes; any byte may stand in it, parentheses and newlines too."""
    state: str
    parent: int
    flags: int
    start_time: int
    """Clock ticks since boot."""
    resident: int = 0
    """Pages in memory."""
    threads: int = 1
    """How many there are, a first one that has ended too until all have."""

    @property
    def is_kernel_thread(self) -> bool:
        """It has no address space and never will."""
        return bool(self.flags & PF_KTHREAD)

    @property
    def has_others(self) -> bool:
        """There are more threads of the process: it has not ended, whatever became of this one."""
        return self.threads > 1

    @property
    def lives_on(self) -> bool:
        """Its first thread has ended, of which the rest is told, and others of it live on."""
        return self.state == "Z" and self.has_others

    @property
    def is_gone(self) -> bool:
        """A zombie, dead, or on the way out: its memory is gone."""
        return self.state in ("Z", "X", "x") or bool(self.flags & PF_EXITING)


_LONGEST = 2048
"""Bytes: 52 numbers of 64 bits and a name have no more. So no number is longer than Python makes one of."""


def parse_stat(data: bytes, *, pid: int | None = None) -> Stat:
    """Raises MalformedData."""
    opened, closed = data.find(b" ("), data.rfind(b") ")
    try:
        if len(data) > _LONGEST:
            raise ValueError
        fields = data[closed + 2 :].split()
        return Stat(
            pid=int(data[:opened]),
            name=data[opened + 2 : closed].decode("utf-8", "surrogateescape"),
            state=fields[0].decode("ascii"),
            parent=int(fields[1]),
            flags=int(fields[6]),
            start_time=int(fields[19]),
            resident=int(fields[21]) if len(fields) > 21 else 0,
            threads=int(fields[17]),
        )
    except (ValueError, IndexError):
        raise MalformedData("stat", 0, "PID (NAME) STATE and 49 numbers", found=data, pid=pid) from None


def process_of(stat: Stat) -> ProcessInfo:
    """Who it is, as far as this file alone tells."""
    return ProcessInfo(
        pid=stat.pid,
        parent=stat.parent,
        name=stat.name,
        start_time=stat.start_time,
        state=stat.state,
        kernel=stat.is_kernel_thread,
        lives_on=stat.lives_on,
    )


def has_ended(stat: Stat, pid: int) -> NoSuchProcess:
    """What to raise for a process whose memory is gone."""
    return NoSuchProcess(f"process {pid} ({stat.name}) has ended; it is a zombie without memory", pid=pid)


def judge_empty_map(stat: bytes | None, stream: str, *, pid: int, of_memory: bool = False) -> None:
    """What an empty map means: returns for a kernel thread, whose address space is empty.

    `of_memory`: it was told of memory that is there (of what exec or the end left behind it is told that it is gone); a
    process that lives may have unmapped all that it had.

    Raises NoSuchProcess for a zombie or a process on the way out, TornRead for one that lives on in other threads, and
    MalformedData when there is nothing to tell by.
    """
    if stat is None:
        raise MalformedData(stream, 0, "at least one region (an empty map needs the stream 'stat' beside it)", pid=pid)
    parsed = parse_stat(stat, pid=pid)
    if parsed.is_kernel_thread:
        return
    if parsed.is_gone and parsed.has_others:
        raise TornRead(f"process {pid} ({parsed.name}) lives on in other threads than the one that was read", pid=pid)
    if parsed.is_gone:
        raise has_ended(parsed, pid)
    if not of_memory:
        raise MalformedData(stream, 0, f"the regions of process {pid} ({parsed.name}), which is alive", pid=pid)
