"""Questions that are asked again and again by a thread of their own, so that whoever shows the answers never waits."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from vmatlas.cli.asking import named
from vmatlas.cli.survey import TotalsSurvey
from vmatlas.cli.whom import choose
from vmatlas.cli.words import Chooses
from vmatlas.errors import OperationFailed, Unsupported, VmatlasError
from vmatlas.patience import THREAD

if TYPE_CHECKING:
    from vmatlas.analysis import Difference
    from vmatlas.analysis.naming import Guess
    from vmatlas.analysis.summary import Total
    from vmatlas.backend import Target
    from vmatlas.model import AddressSpace, Kind, MemoryUse, ProcessInfo, Region
    from vmatlas.process import Process
    from vmatlas.totals import ProcessMemory

_Answer = TypeVar("_Answer")

_FREE = 1.0
"""Seconds that a thread which does not ask may take to end."""


class Repeated(Generic[_Answer]):
    """A question, asked every so many seconds until `stop`.

    It rests for as long as it took at the least: on a machine with much to ask, half of the time is for others.
    """

    def __init__(
        self,
        ask: Callable[[], _Answer],
        tell: Callable[[_Answer | Exception], object],
        every: float,
        wire: threading.Lock,
        *,
        end: Callable[[], object] = lambda: None,
    ) -> None:
        """`ask` and `tell` run in the thread, and `end` when there is nothing more to ask. `wire` is held while it
        asks: an agent answers one question at a time."""
        self._ask, self._tell, self._every, self._wire, self._end = ask, tell, every, wire, end
        self._is_over = False
        self.is_paused = False
        self._wake = threading.Event()
        self._asking: float | None = None
        self._thread = threading.Thread(target=self._run, name=THREAD, daemon=True)

    def start(self) -> None:
        """Ask for the first time. Raises OperationFailed where the system has no thread to spare."""
        try:
            self._thread.start()
        except RuntimeError:
            raise OperationFailed("there is no thread to be had to ask", hint="let there be more (ulimit -u)") from None

    @property
    def waits(self) -> float:
        """For how many seconds the question that is asked now has no answer; 0: none is asked."""
        since = self._asking
        return 0.0 if since is None else time.monotonic() - since

    def again(self) -> None:
        """Ask at once, paused or not."""
        self._wake.set()

    def stop(self) -> None:
        """Ask no more. A thread that waits for the kernel is left behind, and ends with the program."""
        self._is_over = True
        self._wake.set()
        if self._thread.ident is not None and self._asking is None:
            self._thread.join(_FREE)

    def _run(self) -> None:
        while not self._is_over:
            self._wake.clear()
            found: _Answer | Exception
            self._asking = begun = time.monotonic()
            try:
                with self._wire:
                    found = self._ask()
            except Exception as error:  # told to the one who shows
                found = error
            took = time.monotonic() - begun
            if not self._is_over:
                with contextlib.suppress(RuntimeError):  # who shows is gone
                    self._tell(found)
            self._asking = None
            rest = max(self._every - took, took)
            while not self._is_over and not self._wake.wait(rest) and self.is_paused:
                pass
        self._end()


class Listed(NamedTuple):
    """The memory in use of processes, at a moment."""

    words: Sequence[str]
    """Who was meant."""
    found: Sequence[ProcessMemory]
    unread: str
    """Who could not be read, and why, in a line; empty when everybody was."""


def totals_of(words: Sequence[str], place: Target, backend: str | None, patience: float | None) -> Listed:
    """Of whom words choose now; of everybody where there are none.

    Raises what `vmatlas.select` and `memories` raise.
    """
    among = choose([Chooses(word) for word in words], place, patience) if words else None
    survey = TotalsSurvey(place, backend, patience, among)
    found = survey.found(regions=False, silently=True)
    notes = [survey.words(ended=False), *(str(error) for _, error in (among.unmatched if among is not None else ()))]
    return Listed(words, found, "; ".join(filter(None, (*notes, survey.unlisted))))


class Look(NamedTuple):
    """One process at a moment, against the moment when it was first looked at."""

    space: AddressSpace
    regions: Sequence[Region]
    guesses: dict[int, Guess]
    difference: Difference
    kinds: Mapping[Kind, Total]
    first_kinds: Mapping[Kind, Total]
    seconds: float
    """Since that first moment."""
    grown: dict[int, MemoryUse | None]
    """Of regions that changed, by their starts: what they gained in memory."""


class Opened:
    """One process, looked at again and again."""

    def __init__(self, info: ProcessInfo, place: Target, backend: str | None) -> None:
        self.info = info
        self._place, self._backend = place, backend
        self._process: Process | None = None
        self._first: AddressSpace | None = None
        self._first_kinds: Mapping[Kind, Total] = {}
        self._begun = 0.0

    def look(self) -> Look:
        """Its map, with the memory in use where that is told. Raises what `vmatlas.open` and `snapshot` raise."""
        from vmatlas import api
        from vmatlas.analysis import diff, summarize
        from vmatlas.analysis.naming import name_regions
        from vmatlas.survey import check_identity

        if self._process is None:
            process = api.open(self.info.pid, target=self._place, backend=self._backend)
            try:
                check_identity(self.info, process.start_time)
            except VmatlasError:
                process.close()
                raise
            self._process = process
        try:
            space = self._process.snapshot(residency=True, threads=True)
        except Unsupported:
            space = self._process.snapshot(threads=True)
        space = named(space, self._process)
        now = time.monotonic()
        if self._first is None:
            self._first, self._begun = space, now
            self._first_kinds = summarize(space).kinds
        difference = diff(self._first, space)
        grown = {each.after.start: each.memory for each in difference.changes if each.after is not None}
        return Look(
            space,
            list(space),
            name_regions(space),
            difference,
            summarize(space).kinds,
            self._first_kinds,
            now - self._begun,
            grown,
        )

    def from_now(self) -> None:
        """What grows is told from the next look on."""
        self._first = None

    def close(self) -> None:
        """Let it go."""
        if self._process is not None:
            self._process.close()
