"""How long an answer is waited for: a question is asked by another thread, and watched by the one who wants it.

The kernel can keep a question waiting for as long as somebody else holds the lock of a process's memory (a file system
that does not answer is enough), and no signal but SIGKILL ends such a wait. So the threads are daemons: what waits in
them ends with the program, and nobody waits for them. This module imports nothing of vmatlas.
"""

from __future__ import annotations

import contextlib
import mmap
import queue
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Generic, TypeVar

_Answer = TypeVar("_Answer")

THREAD = "vmatlas"
"""The name of the threads."""

AT_MOST = 10
"""A question that is worked on may take so many times the patience: what only looks alive is given up as well."""

LOOK = 0.1
"""Seconds between two looks at a question that is waited for."""

_WORK = 0.01
"""Of the time between two looks: a thread that had so much of a processor is at work, and not waiting."""

_MOST_THREADS = 64
"""Of a crew, with those that took over from threads that wait."""

_ROOM = 64 << 20
"""Bytes of address space that a thread finds free: its stack (8 MiB as a rule), and what it works in."""

_FREE = 1.0
"""Seconds that a thread with nothing to do may take to end."""


class Errand(Generic[_Answer]):
    """One question, and its answer once there is one."""

    def __init__(self, work: Callable[[], _Answer]) -> None:
        self._work = work
        self._claim = threading.Lock()
        self._done = threading.Event()
        self._answer: _Answer
        self._error: BaseException | None = None
        self._clock: int | None = None
        self._began: float | None = None
        self._moved = 0.0
        self._worked = 0.0
        self.thread: int | None = None
        """The system's number of the thread that asks; None before it does."""
        self.is_replaced = False
        """Another thread took over what this one would have done next."""

    def asked_by(self, crew: Crew, patience: float) -> bool:
        """Let a crew that is free run it; whether it is done, else it is overdue. A signal can interrupt the wait.

        Where the system has no thread to spare this one runs it, and waits.
        """
        crew.begin(self)
        if not crew.is_able:
            self.run()
        while not self.wait(LOOK):
            if self.is_overdue(patience):
                return False
        return True

    def rest(self, pause: Callable[[], None]) -> None:
        """For the work itself, in its thread: a pause, whose time is no silence."""
        self._began = None
        try:
            pause()
        finally:
            self._worked = _worked(self._clock)
            self._moved = time.monotonic()
            self._began = self._moved

    def run(self) -> None:
        """Ask, in this thread, unless another does already. What goes wrong is kept for `answer`."""
        if not self._claim.acquire(blocking=False):
            return
        try:
            self.thread = threading.get_native_id()
            self._clock = _clock_of_this_thread()
            self._worked = _worked(self._clock)
            self._moved = time.monotonic()
            self._began = self._moved
            self._answer = self._work()
        except BaseException as error:  # told to the one who wants the answer
            self._error = error
        finally:
            self._done.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is done, at the latest after so long."""
        return self._done.wait(seconds)

    def answer(self) -> _Answer:
        """The answer, once it is done. Raises what asking raised."""
        if self._error is not None:
            raise self._error
        return self._answer

    def silent(self) -> float:
        """How long its thread has made no way, in seconds: it had next to nothing of a processor. 0: not begun.

        Looked at now and then: what happens between two looks is seen at the second.
        """
        if self._began is None:
            return 0.0
        now, worked = time.monotonic(), _worked(self._clock)
        if worked - self._worked > _WORK * (now - self._moved):
            self._moved, self._worked = now, worked
        return now - self._moved

    def age(self) -> float:
        """Seconds since it began; 0 when it has not."""
        return 0.0 if self._began is None else time.monotonic() - self._began

    def is_overdue(self, patience: float) -> bool:
        """Whether it has made no way for so many seconds, or takes far longer than that."""
        return self.silent() >= patience or self.age() >= AT_MOST * patience


def _clock_of_this_thread() -> int | None:
    """The clock of what this thread has of a processor, which other threads may read; None: this system has none."""
    if not hasattr(time, "pthread_getcpuclockid"):
        return None
    return time.pthread_getcpuclockid(threading.get_ident())


def _worked(clock: int | None) -> float:
    """Seconds of a processor."""
    if clock is None:
        return 0.0
    try:
        return time.clock_gettime(clock)
    except OSError:  # the thread has ended
        return 0.0


class Crew:
    """Threads that run errands in the order in which they came; a context manager that waits for no errand."""

    def __init__(self, threads: int) -> None:
        self._errands: queue.SimpleQueue[Errand[object] | None] = queue.SimpleQueue()
        self._hired: list[threading.Thread] = []
        self._asked: dict[threading.Thread, Errand[object]] = {}
        self._able = 0
        for _ in range(threads):
            if not self._hire():
                break

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(queue.Empty):  # what was not begun is not begun any more
            while True:
                self._errands.get_nowait()
        for _ in self._hired:
            self._errands.put(None)
        # A thread that comes back to an interpreter which is about to end is ended by it. Until Python 3.14 that is
        # pthread_exit(3), which loads a library, and aborts the program where no descriptor is left for it.
        for thread in self._hired:
            errand = self._asked.get(thread)
            if errand is None or errand.wait(0):
                thread.join(_FREE)

    @property
    def is_able(self) -> bool:
        """Whether there is a thread that does not wait for ever."""
        return self._able > 0

    def _hire(self) -> bool:
        """Whether one more could be had: the system may have no thread to spare."""
        if len(self._hired) >= _MOST_THREADS:
            return False
        thread = threading.Thread(target=self._work, name=THREAD, daemon=True)
        try:
            # Without the memory to begin, a thread begins never, and whoever started it waits for that without a limit.
            mmap.mmap(-1, _ROOM, flags=mmap.MAP_PRIVATE | mmap.MAP_ANON, prot=0).close()
            thread.start()
        except (RuntimeError, MemoryError, OSError):  # RLIMIT_NPROC, a full address space
            return False
        self._hired.append(thread)
        self._able += 1
        return True

    def _work(self) -> None:
        me = threading.current_thread()
        while (errand := self._errands.get()) is not None:
            self._asked[me] = errand
            errand.run()
            del self._asked[me]  # an answer is kept by whoever wants it
            if errand.is_replaced:
                return
            del errand

    def begin(self, errand: Errand[_Answer]) -> None:
        """Let the next free thread run it."""
        self._errands.put(errand)  # type: ignore[arg-type]

    def take_over(self, errand: Errand[_Answer]) -> None:
        """Let another thread do what comes after an errand that waits, if there is one to be had."""
        if not errand.is_replaced and self._hire():
            errand.is_replaced = True
            self._able -= 1

    def give_up(self, errand: Errand[_Answer]) -> None:
        """The same, for an errand whose end nobody waits for any more."""
        self.take_over(errand)
        if not errand.is_replaced:
            errand.is_replaced = True
            self._able -= 1
