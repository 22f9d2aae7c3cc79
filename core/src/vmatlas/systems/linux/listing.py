"""What is asked of many processes, one of which may not answer: /proc/PID/stat above all.

While a process executes a program the kernel keeps others from looking at it, and it may stay in there for ever: a file
that is closed on the way, on a file system that does not answer, is enough. Reading `stat` waits then, and so does
reading the link `exe` (measured on 6.18: both take exec_update_lock), where only SIGKILL ends the wait; `comm` and
`status` do not.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from vmatlas.backend import bare
from vmatlas.model import ProcessInfo
from vmatlas.patience import AT_MOST, Crew, Errand
from vmatlas.systems.linux.proc import key_of, numbers_of, user_in

SILENCE = 2.0
"""Seconds after which a process is passed over."""

_LOOK = 0.02
"""Seconds for which one is waited for before others are asked meanwhile, by another thread."""

_MOST_OF_A_LOOK = 0.1

_MOST_AT_ONCE = 256
"""So many are waited for at a time: as many threads."""

_Found = bytes | OSError
_Asked = TypeVar("_Asked")
_Answer = TypeVar("_Answer")


class _Way:
    """One thread's way through those who are left to ask, which ends at who does not answer."""

    def __init__(self, left: deque[int], ask: Callable[[int], None]) -> None:
        self._left, self._ask = left, ask
        self._at: int | None = None
        self._seen: int | None = None
        self._since = self._looked = time.monotonic()
        self._silent = 0.0
        self.errand = Errand(self._go)

    def _go(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._at = self._left.popleft()
                self._ask(self._at)

    def look(self) -> tuple[bool, bool]:
        """Whether who is asked may keep others waiting, and has for so long that it is passed over."""
        now = time.monotonic()
        # Of what passed between two looks little counts: where all stood still (a machine that was paused) nobody is
        # silent for that.
        self._silent += min(now - self._looked, _MOST_OF_A_LOOK)
        self._looked = now
        if self._seen != self._at:
            self._seen, self._since, self._silent = self._at, now, 0.0
        elif self.errand.silent() == 0.0:  # it worked since, or has not begun
            self._silent = 0.0
        return self._silent >= _LOOK, self._silent >= SILENCE or now - self._since >= AT_MOST * SILENCE


def ask_each(asked: Sequence[_Asked], ask: Callable[[_Asked], _Answer]) -> list[_Answer | None]:
    """The answer of each, in their order; None for who did not answer in `SILENCE`: those are waited for together.

    `ask` runs in other threads; what it raises ends all.
    """
    answers: dict[int, _Answer] = {}

    def ask_at(at: int) -> None:
        answers[at] = ask(asked[at])

    left = deque(range(len(asked)))
    ways: list[_Way] = []
    with contextlib.ExitStack() as crews:
        crews.callback(left.clear)  # who comes back late asks nobody else
        while left or ways:
            if not ways or (left and len(ways) < _MOST_AT_ONCE and all(way.look()[0] for way in ways)):
                ways.append(_Way(left, ask_at))
                crew = crews.enter_context(Crew(1))
                crew.begin(ways[-1].errand)
                if not crew.is_able:  # the system has no thread to spare: this one asks, and waits
                    ways[-1].errand.run()
            ways[-1].errand.wait(_LOOK)
            for way in [way for way in ways if way.errand.wait(0)]:
                way.errand.answer()
                ways.remove(way)
            ways = [way for way in ways if not way.look()[1]]
    found = dict(answers)
    return [found.get(at) for at in range(len(asked))]


def read_stats(pids: list[int]) -> Iterator[tuple[int, _Found | None]]:
    """What each process's `stat` says, or the error of reading it; None: it does not answer."""
    return zip(pids, ask_each(pids, _stat_of), strict=True)


def _stat_of(pid: int) -> _Found:
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            return file.read(4096)
    except OSError as error:
        return error


def describe_silent(pid: int) -> ProcessInfo | None:
    """A process as `comm` and `status` tell it, which do not wait; its start time they do not tell. None: gone.

    Its number alone where they cannot be read for another reason (no descriptor left, no memory): who asks more of it
    is told which.
    """
    try:
        with open(f"/proc/{pid}/comm", "rb", buffering=0) as file:
            name = file.read(256).removesuffix(b"\n").decode("utf-8", "surrogateescape")
        with open(f"/proc/{pid}/status", "rb", buffering=0) as file:
            status = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    except OSError:
        return bare(pid)
    parent, inside = key_of(status, b"PPid"), numbers_of(status)
    return ProcessInfo(
        pid=pid,
        parent=int(parent) if parent.isdigit() and len(parent) <= 10 else None,
        name=name,
        start_time=None,
        state=key_of(status, b"State")[:1].decode("ascii", "replace"),
        kernel=key_of(status, b"Kthread") == b"1",
        user=user_in(status),
        number_inside=inside[-1] if len(inside) > 1 else None,
    )
