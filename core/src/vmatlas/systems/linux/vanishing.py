"""Memory that vanishes while it is asked about: exec puts other memory in its place, the process ends, or its first
thread does and the others live on. What is done then, here and at the other end of a wire."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing

from vmatlas.backend import Reading
from vmatlas.contracts import TypeVar
from vmatlas.errors import MalformedData, NoSuchProcess, TornRead, Unanswered
from vmatlas.systems.linux.host import LinuxProcess
from vmatlas.systems.linux.stat import Stat, has_ended, parse_stat

STAT = "stat"

_Answer = TypeVar("_Answer")

ATTEMPTS = 20
"""How often a process may replace its memory while it is read, before that is said: 95 ms of pauses between them."""

MOST_ASKED = 20_000
"""So many threads are asked for the memory of a process whose first thread has ended, in all attempts together."""


def ask_until_told(
    pid: int,
    *,
    ask: Callable[[int | None], _Answer | None],
    look: Callable[[], Stat],
    threads: Callable[[], Iterable[int]],
    is_ending: Callable[[int], bool],
    by: int | None = None,
    most: int = MOST_ASKED,
) -> _Answer | None:
    """The answer of a process; None for a kernel thread, which has no memory.

    `ask` asks through the process, or through one of its threads; None: the memory is gone. `look` tells what has
    become of the process then. `threads`: the others, best those first that began last, since a thread may beget the
    next and end, for ever; `most` of them are asked. `is_ending`: whether a thread is on its way out, or gone. `by` is
    the thread that was to be asked, where one was named: then no other is.

    Who did not answer has not ended for that: the process's own count of threads tells it, or all of them are ending.
    Raises NoSuchProcess for a zombie, or where the thread that was named has ended; TornRead, Unanswered, and what
    `ask` and `look` raise.
    """
    left = most
    state: Stat | None = None
    for attempt in range(ATTEMPTS):
        if (answer := ask(None)) is not None:
            return answer
        state = look()
        if state.is_kernel_thread:
            return None
        if state.is_gone and not state.has_others:
            raise has_ended(state, pid)
        if state.is_gone and by is not None:
            raise NoSuchProcess(
                f"thread {by} of process {pid} has ended; others of it live on",
                pid=pid,
                hint="ask the process without naming a thread",
            )
        for thread in threads() if state.is_gone else ():
            if not left:
                raise Unanswered(
                    f"none of {most:,} threads of process {pid} that were asked has memory to tell of, "
                    "and it is said to have more",
                    pid=pid,
                )
            left -= 1
            if (answer := _ask_thread(ask, thread)) is not None:
                return answer
        time.sleep(0.0005 * attempt)  # alive: exec has put other memory in place, or is about to
    if state is None or not state.is_gone:
        raise TornRead(f"process {pid} replaced its memory (exec) during each of {ATTEMPTS} readings", pid=pid)
    listed = set(threads())
    # Who is ending begets no thread any more: when all were, and there is no other since, nobody lives on.
    if listed and all(map(is_ending, listed)) and listed.issuperset(threads()):
        raise has_ended(state, pid)
    raise TornRead(
        f"process {pid} ({state.name}) lives on in threads that ended during each of {ATTEMPTS} readings", pid=pid
    )


def _ask_thread(ask: Callable[[int | None], _Answer | None], thread: int) -> _Answer | None:
    try:
        return ask(thread)
    except NoSuchProcess:  # it has ended
        return None


def read_until_told(process: LinuxProcess, stream: str, read: Callable[[LinuxProcess], Reading | None]) -> Reading:
    """What `read` gives for a process of this machine; for a kernel thread the empty stream, beside its `stat`.

    `read` asks the process, or one of its threads; None where the memory that it asked about is gone.

    Raises what `ask_until_told` and `read` raise.
    """
    stat = b""

    def look() -> Stat:
        nonlocal stat
        stat = process.read_file(STAT)
        if not stat:
            raise NoSuchProcess(f"there is no process {process.pid}", pid=process.pid)
        return parse_stat(stat, pid=process.pid)

    def ask(thread: int | None) -> Reading | None:
        if thread is None:
            return read(process)
        with closing(process.by_thread(thread)) as other:  # no descriptor left, say, is no end of a thread
            return read(other)

    def is_ending(thread: int) -> bool:
        try:
            with closing(process.by_thread(thread)) as other:
                return parse_stat(other.read_file(STAT), pid=process.pid).is_gone
        except (NoSuchProcess, MalformedData):  # gone; an empty stat: going
            return True

    try:
        answer = ask_until_told(
            process.pid,
            ask=ask,
            look=look,
            threads=process.other_threads,
            is_ending=is_ending,
            by=process.thread,
        )
    except NoSuchProcess:
        if process.thread is None or process.is_there():
            raise
        raise NoSuchProcess(f"thread {process.thread} of process {process.pid} has ended", pid=process.pid) from None
    return Reading({stream: b"", STAT: stat}) if answer is None else answer
