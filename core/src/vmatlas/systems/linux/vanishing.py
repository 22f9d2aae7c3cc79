"""Memory that vanishes while it is asked about: exec puts other memory in its place, the process ends, or its first
thread does and the others live on. What is done then, here and at the other end of a wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import TypeVar

from vmatlas.backend import Reading
from vmatlas.errors import NoSuchProcess, TornRead
from vmatlas.systems.linux.host import LinuxProcess
from vmatlas.systems.linux.stat import Stat, parse_stat

STAT = "stat"

_Answer = TypeVar("_Answer")

ATTEMPTS = 20
"""How often a process may replace its memory while it is read, before that is said: 95 ms of pauses between them."""


def ask_until_told(
    pid: int,
    *,
    ask: Callable[[int | None], _Answer | None],
    look: Callable[[], Stat],
    threads: Callable[[], Iterable[int]],
    by: int | None = None,
) -> _Answer | None:
    """The answer of a process; None for a kernel thread, which has no memory.

    `ask` asks through the process, or through one of its threads; None: the memory is gone. `look` tells what has
    become of the process then. `threads`: the others, if any. `by` is the thread that was to be asked, where one was
    named: then no other is.

    Raises NoSuchProcess for a zombie none of whose threads answers, or of which the thread has ended; TornRead, and
    what `ask` and `look` raise.
    """
    for attempt in range(ATTEMPTS):
        if (answer := ask(None)) is not None:
            return answer
        state = look()
        if state.is_kernel_thread:
            return None
        if state.is_gone and by is not None and any(thread != by for thread in threads()):
            raise NoSuchProcess(
                f"thread {by} of process {pid} has ended; others of it live on",
                pid=pid,
                hint="ask the process without naming a thread",
            )
        if state.is_gone:
            return _ask_other_threads(pid, ask, threads(), state.name)
        time.sleep(0.0005 * attempt)  # alive: exec has put other memory in place, or is about to
    raise TornRead(f"process {pid} replaced its memory (exec) during each of {ATTEMPTS} readings", pid=pid)


def _ask_other_threads(
    pid: int, ask: Callable[[int | None], _Answer | None], threads: Iterable[int], command: str
) -> _Answer:
    for thread in threads:
        try:
            if (answer := ask(thread)) is not None:
                return answer
        except (NoSuchProcess, OSError):
            continue
    raise NoSuchProcess(f"process {pid} ({command}) has ended; it is a zombie without memory", pid=pid)


def read_until_told(
    process: LinuxProcess, file: str, stream: str, read: Callable[[LinuxProcess], Reading | None]
) -> Reading:
    """What `read` gives for a process of this machine; for a kernel thread the empty stream, beside its `stat`.

    `read` asks `file` of the process, or of one of its threads. The descriptor of a file belongs to the memory that the
    process had when it was opened: where that is gone, the file is opened anew.

    Raises what `ask_until_told` and `read` raise.
    """
    stat = b""

    def look() -> Stat:
        nonlocal stat
        process.forget(file)
        stat = process.read_file(STAT)
        if not stat:
            raise NoSuchProcess(f"there is no process {process.pid}", pid=process.pid)
        return parse_stat(stat, pid=process.pid)

    def ask(thread: int | None) -> Reading | None:
        if thread is None:
            return read(process)
        with closing(process.by_thread(thread)) as other:
            return read(other)

    try:
        answer = ask_until_told(process.pid, ask=ask, look=look, threads=process.other_threads, by=process.thread)
    except NoSuchProcess:
        if process.thread is None or process.is_there():
            raise
        raise NoSuchProcess(f"thread {process.thread} of process {process.pid} has ended", pid=process.pid) from None
    return Reading({stream: b"", STAT: stat}) if answer is None else answer
