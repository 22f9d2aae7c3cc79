"""Several processes, looked at again and again: everybody in one round, those that have ended told and left out.

Who is looked at was chosen before the first round: whoever begins later is not among them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from vmatlas.cli.exits import say
from vmatlas.cli.survey import Unread
from vmatlas.errors import NoSuchProcess, OperationFailed, TornRead, UsageError, VmatlasError

if TYPE_CHECKING:
    from vmatlas.cli.whom import Whom
    from vmatlas.model import ProcessInfo
    from vmatlas.process import Process

MOST = 256
"""Processes that are looked at in one round, each of which has a file or its numbers kept."""

_PASSES = (TornRead, OperationFailed)
"""What the next round may not meet."""

_Answer = TypeVar("_Answer")


class Look(NamedTuple, Generic[_Answer]):
    """What one process answered in one round."""

    clock: float
    """Of the round: the same for all of it."""
    process: ProcessInfo
    answer: _Answer


class Looks(Unread, Generic[_Answer]):
    """Iterate over it for what each process answers, round after round; it ends with the last of them, or in time."""

    def __init__(
        self,
        ask: Callable[[Process], _Answer],
        whom: Whom,
        backend: str | None,
        patience: float | None,
        every: float,
        seconds: float | None,
    ) -> None:
        """`every`, `seconds`: how far rounds are apart, and for how long there are any. `ask` runs in other threads.

        Raises UsageError for too many processes, and for what is no length of time.
        """
        from vmatlas.recording import check_times

        super().__init__(whom.selected)
        check_times(every, seconds)
        self._ask, self._place, self._backend, self._patience = ask, whom.place, backend, patience
        self._every, self._seconds = every, seconds
        self._left = {process.pid: process for process in whom.selected if not process.kernel}
        if len(self._left) > MOST:
            raise UsageError(f"{len(self._left)} processes are too many to look at in a round", hint=f"at most {MOST}")
        self._seen: set[int] = set()

    def __iter__(self) -> Iterator[Look[_Answer]]:
        from vmatlas.recording import next_look

        passing: dict[int, VmatlasError] = {}
        due = begun = time.monotonic()
        end = None if self._seconds is None else begun + self._seconds
        while self._left:
            yield from self._round(passing)
            following = next_look(due, self._every, time.monotonic(), end)
            if following is None:
                break
            due = following
            time.sleep(max(due - time.monotonic(), 0))
        for process in [each for each in self._left.values() if each.pid in passing and each.pid not in self._seen]:
            self.drop(process, passing[process.pid])

    def _round(self, passing: dict[int, VmatlasError]) -> Iterator[Look[_Answer]]:
        from vmatlas.survey import PATIENCE, survey

        patience = PATIENCE if self._patience is None else self._patience
        now, among = time.monotonic(), list(self._left.values())
        for each in survey(self._ask, target=self._place, backend=self._backend, patience=patience, among=among):
            process = each.process
            if isinstance(each.error, _PASSES):
                passing[process.pid] = each.error
            elif each.error is not None:
                self.drop(process, each.error)
            elif each.answer is not None and process.pid in self._left:
                if process.pid not in self._seen:
                    self._seen.add(process.pid)
                    self.read += 1
                yield Look(now, process, each.answer)

    def drop(self, process: ProcessInfo, error: VmatlasError) -> None:
        """One that is looked at no more, and why."""
        self._left.pop(process.pid, None)
        if process.pid in self._seen:
            if isinstance(error, NoSuchProcess):
                say(f"process {process.pid} ({process.name}) has ended")
                return
            self.read -= 1
        self.miss(process, error)
