"""The same question to every process of a target, side by side, answered in the order of pids as they come.

Threads do it: the compiled twins let go of the interpreter while the kernel answers. An agent answers one question at
a time, so at the other end of a wire the processes are asked one after another. A process that does not answer in time
is told as such, and another thread does what the one that waits for it would have done.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from errno import ENOMEM
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vmatlas import api, arguments, registry
from vmatlas.api import Pids
from vmatlas.backend import Listing, ListsNumbers, Patient, Roll, Target, TellsWaits
from vmatlas.errors import NoSuchProcess, OperationFailed, TargetLost, Unanswered, Unsupported, UsageError, VmatlasError
from vmatlas.model import AddressSpace, Filter, ProcessInfo
from vmatlas.patience import LOOK, Crew, Errand
from vmatlas.process import Choices, Process
from vmatlas.rounds import MOST, MOST_REMOTE, Rounds, rounds_of
from vmatlas.target.local import LOCAL
from vmatlas.threads import allowed
from vmatlas.values import dataclass

if TYPE_CHECKING:
    from vmatlas.selection.resolving import Selected

_Answer = TypeVar("_Answer")
_Item = TypeVar("_Item")
_Outcomes = TypeVar("_Outcomes")

MOST_THREADS = 8
PATIENCE = 5.0
"""Seconds: how long a process may be silent."""

PATIENCE_HINT = "to wait longer: --patience SECONDS (in Python: patience=)"
"""What there is to do about a question that was given up."""

_AHEAD = 4
"""How many processes a thread are asked before the first of them was taken."""
_AHEAD_OF_QUICK = 32
"""The same where answers come quickly, and are small therefore."""
_QUICK = 0.005
"""Seconds for half of those that are asked. To wake the one who wants the answers takes as long as to ask a small
process: so it is woken for several at once, and by this later at the most."""
_FAR_AHEAD = 256
"""How many are asked in all while the first of them is silent."""
_SOON = 0.2
"""Seconds of silence after which another thread takes over what comes next."""


@dataclass(frozen=True, slots=True)
class Surveyed(Generic[_Answer]):
    """What one process answered, or why it could not."""

    process: ProcessInfo
    answer: _Answer | None
    error: VmatlasError | None
    number: int
    """Of the processes that were asked, from 1."""
    count: int
    """How many processes there are to ask."""


_Outcome = tuple[_Answer | None, VmatlasError | None]


def survey(
    ask: Callable[[Process], _Answer],
    *,
    target: Target | None = None,
    backend: str | None = None,
    threads: int | None = None,
    patience: float = PATIENCE,
    among: Pids | None = None,
) -> Listing[Surveyed[_Answer]]:
    """Asks each process that is not the kernel's own; `ask` runs in other threads.

    `among`: not all, but these (`vmatlas.select` gives some; a number is whoever has it now), each of which is asked as
    the one that it was then: where another process has its number now, it has ended. Where one has, and words chose it,
    those that they choose now are asked as well.

    What it gives is iterated over: in order of pid, and then those that came meanwhile, where others had ended before
    they were asked. Its `incomplete` says why processes may be missing: the system does not list them for the caller
    (Linux: the mount option hidepid of /proc), or they came and went faster than they could be asked. Those that are
    listed and may not be read are there, with the error.

    `threads`: how many, by default one for each processor, at most 8 (or VMATLAS_THREADS). `patience`: for how many
    seconds a question may make no way (its thread uses no processor; no frame comes from an agent) until it is given
    up, which is an Unanswered in the place of the answer; one that is at work may take ten times as long. Its thread
    stays in the kernel until that answers, or the program ends. Where the system has no thread to spare, this one asks,
    and waits. Raises UsageError, Unsupported and TargetLost, which would be the same for each process.
    """
    arguments.function(ask, "ask")
    check_threads(threads)
    check_patience(patience)
    if backend is not None:
        registry.backend(backend)
    place = api.place_of(target)
    if among is not None:
        chosen = Chosen(place, among, patience)
        return Listing(_survey(ask, chosen, backend, threads, patience), None, lambda: chosen.gap)
    everyone = _Everyone(place)
    return Listing(_survey(ask, everyone, backend, threads, patience), place, lambda: everyone.gap)


def processes_given(among: Pids, place: Target) -> list[ProcessInfo]:
    """Who that is now, each once; where it has ended, with the number and the start time that it had.

    Raises UsageError for what are no processes, and for one that lives elsewhere.
    """
    from vmatlas.selection.resolving import known

    try:
        is_one = isinstance(among, int) or hasattr(among, "pid")
    except ValueError:  # multiprocessing's, once closed
        is_one = True
    given: Any = [among] if is_one else among
    hint = "vmatlas.select(...) gives such, and vmatlas.processes()"
    wrong = UsageError(f"{arguments.shown(among)} are no processes", hint=hint)
    if isinstance(given, bytes | bytearray | memoryview):  # whose parts are numbers, and mean none of anybody's
        raise wrong
    listed = arguments.iterated(given, wrong)
    infos = [each if isinstance(each, ProcessInfo) else known(each, place) for each in listed]
    return list({(info.pid, info.start_time): info for info in infos}.values())


class Chosen:
    """Processes that were chosen before; where one has ended meanwhile and words chose it (`vmatlas.select`), whom they
    choose now: it may go on in a child. In rounds, as everybody is asked: see `vmatlas.rounds`."""

    def __init__(self, place: Target, among: Pids, patience: float) -> None:
        """Raises UsageError for what are no processes."""
        from vmatlas.selection.resolving import Selected

        self.place = place
        self.count = 0
        self._found = processes_given(among, place)
        self._patience = patience
        self._words = among if isinstance(among, Selected) and among.may_choose_others else None
        lists = MOST if place is LOCAL else MOST_REMOTE
        self._rounds = Rounds(self._listed, most=1 if self._words is None else lists)
        self._untold: str | None = None

    def _listed(self) -> dict[int, int | None]:
        if self._rounds.asked and self._words is not None:
            found, self._untold = self._chosen_now(self._words)
            self._found = self._found if found is None else found
        return {each.pid: each.start_time for each in self._found}

    def _chosen_now(self, words: Selected) -> tuple[list[ProcessInfo] | None, str | None]:
        def look(words: Selected) -> tuple[list[ProcessInfo] | None, str | None]:
            try:
                return words.chosen_now(self.place), None
            except VmatlasError as error:
                return None, f"who else '{words.selection}' chooses is not known: {error}"

        def given_up(*_: object) -> tuple[None, str]:
            return None, f"who else '{words.selection}' chooses was not told in {self._patience:g} s"

        return next(iter(ask_each(look, [words], 1, self._patience, given_up)))[1]

    def __iter__(self) -> Iterator[list[ProcessInfo]]:
        for new in self._rounds:
            wanted = set(new)
            found = [each for each in self._found if each.pid in wanted and not each.kernel]
            self.count += len(found)
            yield found

    def ended(self) -> None:
        """One could not be asked: it had ended."""
        self._rounds.ended()

    @property
    def gap(self) -> str | None:
        """See `Roll`."""
        came_and_went = None if self._words is None else self._rounds.gap
        return "; ".join(filter(None, (self._untold, came_and_went))) or None


class _Everyone:
    """The processes of a target that are not the kernel's own, in rounds (see `vmatlas.rounds`)."""

    def __init__(self, place: Target) -> None:
        self.place = place
        self._system = LOCAL.system if place is LOCAL and isinstance(LOCAL.system, ListsNumbers) else None
        self._rounds = Rounds(self._listed) if self._system is None else rounds_of(self._system)
        self._found: dict[int, ProcessInfo] = {}
        self._unlisted: str | None = None
        self.count = 0

    def _listed(self) -> dict[int, int | None]:
        found = self.place.processes()
        self._found = {process.pid: process for process in found}
        self._unlisted = found.gap if isinstance(found, Roll) else None
        return {process.pid: process.start_time for process in self._found.values()}

    def __iter__(self) -> Iterator[list[ProcessInfo]]:
        for numbers in self._rounds:
            told = self._found.get if self._system is None else dict(self._system.among(numbers)).get
            infos = [told(number) for number in numbers]
            for _ in range(infos.count(None)):
                self._rounds.ended()
            found = [info for info in infos if info is not None and not info.kernel]
            self.count += len(found)
            yield found

    def ended(self) -> None:
        """One could not be asked: it had ended. Also of a zombie, which may have become one since it was listed."""
        self._rounds.ended()

    @property
    def gap(self) -> str | None:
        """See `Roll`."""
        return "; ".join(filter(None, (self._unlisted, self._rounds.gap))) or None


def _survey(
    ask: Callable[[Process], _Answer],
    everyone: _Everyone | Chosen,
    backend: str | None,
    threads: int | None,
    patience: float,
) -> Iterator[Surveyed[_Answer]]:
    place = everyone.place
    several = (threads or allowed(MOST_THREADS)) if place is LOCAL else 1
    choices: Choices = {}

    def one(process: ProcessInfo, where: Target) -> _Outcome[_Answer]:
        return _asked(ask, process, where, place, backend, choices)

    def given_up(process: ProcessInfo, errand: Errand[_Outcome[_Answer]]) -> _Outcome[_Answer]:
        return _too_late(process, errand, place)

    # An agent has limits of its own: the wire tells a silence from a slow answer better than a clock here.
    with place.patiently(patience) if isinstance(place, Patient) else contextlib.nullcontext() as patient:
        number = 0
        for found in everyone:
            if patient is None:
                outcomes = ask_each(lambda process: one(process, place), found, several, patience, given_up)
            else:
                outcomes = ((process, one(process, patient)) for process in found)
            for process, (answer, error) in outcomes:
                if isinstance(error, NoSuchProcess):
                    everyone.ended()
                number += 1
                yield Surveyed(process, answer, error, number, everyone.count)


def _asked(
    ask: Callable[[Process], _Answer],
    process: ProcessInfo,
    where: Target,
    place: Target,
    backend: str | None,
    choices: Choices | None = None,
) -> _Outcome[_Answer]:
    try:
        opened = api.opened(process.pid, where, backend, choices=choices)
    except Unsupported as error:  # of this process alone: an agent cannot be asked for one numbered 0
        return None, error
    except (UsageError, TargetLost):
        raise
    except VmatlasError as error:
        return None, error
    try:
        with opened as asked:
            check_identity(process, asked.start_time)
            return ask(asked), None
    except (UsageError, Unsupported, TargetLost):
        raise
    except Unanswered as error:
        return None, unanswered(process.pid, process.name, error.seconds, error.waits_for, place)
    except VmatlasError as error:
        return None, error
    except MemoryError:
        return None, OperationFailed(
            f"no memory is left for what process {process.pid} has to tell",
            errno=ENOMEM,
            errno_name="ENOMEM",
            pid=process.pid,
        )


def check_identity(process: ProcessInfo, start_time: int | None) -> None:
    """Raises NoSuchProcess where the one that has its number now started at another time."""
    if None not in (process.start_time, start_time) and process.start_time != start_time:
        name = f" ({process.name})" if process.name else ""
        raise NoSuchProcess(f"process {process.pid}{name} has ended, and its number is another's now", pid=process.pid)


def _too_late(process: ProcessInfo, errand: Errand[_Outcome[_Answer]], place: Target) -> _Outcome[_Answer]:
    waits_for = waits_of(place, errand.thread)
    return None, unanswered(process.pid, process.name, errand.age(), waits_for, place)


def ask_one(
    ask: Callable[[Process], _Answer], process: ProcessInfo, place: Target, patience: float
) -> _Outcome[_Answer]:
    """The same question to one process of this machine."""
    outcomes = ask_each(
        lambda each: _asked(ask, each, place, place, None),
        [process],
        1,
        patience,
        lambda each, errand: _too_late(each, errand, place),
    )
    return next(outcome for _, outcome in outcomes)


def ask_each(
    one: Callable[[_Item], _Outcomes],
    items: Sequence[_Item],
    threads: int,
    patience: float,
    given_up: Callable[[_Item, Errand[_Outcomes]], _Outcomes],
) -> Iterator[tuple[_Item, _Outcomes]]:
    """What `one` gives for each, in order, asked in other threads; `given_up` tells of one that did not answer."""
    upcoming = iter(items)
    waiting: deque[tuple[_Item, Errand[_Outcomes]]] = deque()
    with Crew(min(threads, len(items))) as crew:

        def begin(most: int) -> None:
            while len(waiting) < most and (item := next(upcoming, None)) is not None:
                errand = Errand(functools.partial(one, item))
                waiting.append((item, errand))
                crew.begin(errand)

        ahead = _AHEAD
        begin(threads * ahead)
        while waiting:
            item, first = waiting[0]
            if crew.is_able and not first.wait(0):
                is_quick = waiting[len(waiting) // 2][1].wait(_QUICK)
                ahead = min(2 * ahead, _AHEAD_OF_QUICK) if is_quick else _AHEAD
            is_known = False
            while not is_known:
                if not crew.is_able:
                    first.run()
                if first.wait(LOOK):
                    outcome, is_known = first.answer(), True
                elif first.is_overdue(patience):
                    crew.give_up(first)
                    outcome, is_known = given_up(item, first), True
                elif silent := [errand for _, errand in waiting if errand.silent() > _SOON]:
                    for errand in silent:
                        crew.take_over(errand)
                    begin(_FAR_AHEAD)
            waiting.popleft()
            if len(waiting) <= threads * ahead // 2:
                begin(threads * ahead)
            yield item, outcome


def waits_of(place: Target, thread: int | None) -> str | None:
    """What a thread of this program waits for, where the target can tell."""
    return place.waiting_for(thread) if thread is not None and isinstance(place, TellsWaits) else None


def unanswered(pid: int, name: str, seconds: float, waits_for: str | None, place: Target) -> Unanswered:
    """The error that tells who did not answer, and why."""
    who = f"process {pid}" + (f" ({name})" if name else "")
    why = f"the question waits for {waits_for}" if waits_for else "what the question waits for is not told"
    return Unanswered(
        f"{who} did not answer in {seconds:.3g} s: {why}",
        seconds=seconds,
        waits_for=waits_for,
        pid=pid,
        target=place.name,
        hint=PATIENCE_HINT,
    )


def check_threads(threads: int | None) -> None:
    """Raises UsageError."""
    if threads is not None and arguments.whole(threads, "number of threads") < 1:
        raise UsageError(
            f"{arguments.shown(threads)} threads cannot ask anything", hint="threads is a whole number from 1"
        )


def check_patience(seconds: float) -> None:
    """Raises UsageError for what is no time to wait."""
    try:
        is_time = not isinstance(seconds, bool) and math.isfinite(seconds) and seconds > 0
    except (TypeError, OverflowError):
        is_time = False
    if not is_time:
        raise UsageError(
            f"{arguments.shown(seconds)} is no time to wait for an answer", hint="patience is in seconds, above 0"
        )


def snapshots(
    target: Target | None = None,
    *,
    backend: str | None = None,
    residency: bool = False,
    where: Filter | str | None = None,
    threads: int | None = None,
    patience: float = PATIENCE,
    among: Pids | None = None,
) -> Listing[tuple[ProcessInfo, AddressSpace | VmatlasError]]:
    """The map of every process that is not the kernel's own, or the error that tells why there is none.

    Streamed: none is kept. `residency` and `where` are as in `snapshot`; `target`, `backend`, `threads`, `patience`,
    `among`, `incomplete`, and what is raised: as of `survey`.
    """
    wanted, place = Filter.of(where), api.place_of(target)
    residency = arguments.flag(residency, "residency")

    def ask(process: Process) -> AddressSpace:
        return process.snapshot(residency=residency, where=wanted)

    found = survey(ask, target=place, backend=backend, threads=threads, patience=patience, among=among)
    answers = ((each.process, each.answer if each.error is None else each.error) for each in found)
    listed = ((process, answer) for process, answer in answers if answer is not None)
    return Listing(listed, place, lambda: found.gap)
