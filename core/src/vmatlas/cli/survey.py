"""Asks one process or every process of a target the same, and keeps count of those that cannot be read and why."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Container, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from vmatlas import errors
from vmatlas.cli.asking import instead_of, named, opened
from vmatlas.cli.exits import Exit, exit_of, say
from vmatlas.cli.render.text import count, one_line
from vmatlas.cli.words import Asked, Chooses, only_one, tell_if_kernels, warn_of_gaps

if TYPE_CHECKING:
    from vmatlas.backend import Listing, Target
    from vmatlas.model import AddressSpace, ProcessInfo
    from vmatlas.process import Process
    from vmatlas.selection.resolving import Selected
    from vmatlas.totals import ProcessMemory

_Answer = TypeVar("_Answer")

_REDRAW = 0.1  # seconds
_LONG = 0.5  # seconds, from which on there is a bar
_NAMED = 8
"""So many of those that could not be read are named."""

_REASONS = {
    errors.NoSuchProcess: "ended meanwhile, or zombies",
    errors.AccessDenied: "no right to read",
    errors.TornRead: "changed too fast",
    errors.Unanswered: "did not answer in time",
}


_SHORT = dict.fromkeys(("EMFILE", "ENFILE"), "for want of descriptors") | {"ENOMEM": "for want of memory"}
"""By errno: what this program is short of, which needs no line for each."""


def sources_of(
    sources: Sequence[Asked | Chooses | str], everyone: bool, command: str
) -> str | Asked | Sequence[Asked | Chooses] | None:
    """A capture's file, one process, words that choose some, or None: every process.

    Raises UsageError unless there is one of these.
    """
    if bool(sources) is everyone:
        raise errors.UsageError("give processes, a capture's file, or --all", hint=f"vmatlas {command} --help")
    words = [source for source in sources if not isinstance(source, str)]
    if len(words) == len(sources):
        return only_one(words) or words or None
    if len(sources) > 1:
        file = next(source for source in sources if isinstance(source, str))
        raise errors.UsageError(
            f"'{file}' chooses no process", hint=f"by a name: name:{file}; a capture's file stands alone"
        )
    return str(sources[0])


def of_one(
    source: Asked,
    target: str,
    backend: str | None,
    patience: float | None,
    judge: Callable[[AddressSpace, Process], _Answer],
    *,
    residency: bool,
) -> tuple[AddressSpace, _Answer]:
    """The map of one process, and what `judge` makes of it."""
    with opened(source, target, backend, patience) as asked:

        def both() -> tuple[AddressSpace, _Answer]:
            space = named(asked.process.snapshot(residency=residency), asked.process)
            return space, judge(space, asked.process)

        space, answer = asked.ask(both)
        instead = instead_of(space, asked.process)
    warn_of_gaps(space.pid, space.incomplete)
    tell_if_kernels(space, instead)
    return space, answer


class Unread:
    """Who could not be read, and why."""

    def __init__(self, among: Selected | None = None) -> None:
        """`among`: who is asked; None: everybody."""
        self.among = among
        self.unread: dict[str, list[ProcessInfo]] = {}
        """Who, by reason."""
        self.read = 0
        self.unanswered: list[tuple[ProcessInfo, errors.Unanswered]] = []
        """Who did not answer in time."""
        self.unlisted: str | None = None if among is None else among.incomplete
        """Why processes may be missing that the system does not list."""
        self._hints: dict[str, int] = {}
        """What to do, and for how many."""
        self._is_incomplete = bool(among is not None and among.unmatched)

    def miss(self, process: ProcessInfo, error: errors.VmatlasError) -> None:
        """One that was not read."""
        reason = next((words for kind, words in _REASONS.items() if isinstance(error, kind)), str(error))
        if isinstance(error, errors.OperationFailed) and not isinstance(error, errors.NotStarted):
            reason = _SHORT.get(error.errno_name, reason)
        self.unread.setdefault(reason, []).append(process)
        if isinstance(error, errors.AccessDenied | errors.NotStarted):
            if error.hint is not None:
                self._hints[error.hint] = self._hints.get(error.hint, 0) + 1
        if isinstance(error, errors.Unanswered):
            self.unanswered.append((process, error))
        if exit_of(error) is not Exit.NO_SUCH_PROCESS:
            self._is_incomplete = True

    def who(self) -> set[tuple[int, int | None]]:
        """Their numbers, with the times when they started."""
        return {(each.pid, each.start_time) for listed in self.unread.values() for each in listed}

    @property
    def unmatched(self) -> list[str]:
        """Words that chose nobody, while others did."""
        return [] if self.among is None else [word for word, _ in self.among.unmatched]

    def tell(self) -> Exit:
        """Say how many could not be read and why, and whether all were there to be asked.

        Incomplete when anybody who has memory was not read; no such process when all who were chosen had ended.
        """
        for _, error in self.unanswered:
            say(str(error), hint=error.hint if error is self.unanswered[-1][1] else None)
        if self.unread:
            unread = sum(map(len, self.unread.values()))
            known = f"{count(self.read, 'process', 'processes')} read, {unread:,} not: {self.words()}"
            say(known, hint=self._hint())
        if self.unlisted is not None:
            say(self.unlisted)
        if self.is_incomplete:
            return Exit.INCOMPLETE
        return Exit.NO_SUCH_PROCESS if self.among is not None and self.unread and not self.read else Exit.OK

    @property
    def is_incomplete(self) -> bool:
        """Whether anybody who has memory was not read, or may be missing."""
        return self._is_incomplete or self.unlisted is not None

    def tell_new(self, told: set[object]) -> bool:
        """The same as `tell`, of what is not in `told`, which gets it: for who looks again and again. Whether there was
        anything."""
        silent = [(who, error) for who, error in self.unanswered if ("silent", who.pid, who.start_time) not in told]
        told.update(("silent", who.pid, who.start_time) for who, _ in silent)
        for _, error in silent:
            say(str(error), hint=error.hint if error is silent[-1][1] else None)
        unread = {(reason, each.pid, each.start_time) for reason, who in self.unread.items() for each in who} - told
        told.update(unread)
        if unread:
            say(f"{len(unread):,} more not read: {self.words()}", hint=self._hint())
        is_new = self.unlisted is not None and self.unlisted not in told
        if self.unlisted is not None and is_new:
            told.add(self.unlisted)
            say(self.unlisted)
        return bool(silent or unread or is_new)

    def _hint(self) -> str | None:
        """Where they differ, the most frequent first."""
        often = sorted(self._hints, key=lambda hint: -self._hints[hint])
        return "; ".join(f"{self._hints[hint]:,}: {hint}" if often[1:] else hint for hint in often) or None

    def _note_missing(self, asked: Listing[Any]) -> None:
        """What may be missing among those that were asked, once all were."""
        gaps = [self.unlisted, asked.incomplete]
        if self.among is None and not self.read and not self.unread:  # whoever asks is one
            gaps.append("no process is listed that has memory")
        self.unlisted = "; ".join(filter(None, gaps)) or None

    def words(self, *, ended: bool = True) -> str:
        """Who was not read, and why, in one line; empty when everybody was. `ended`: also who ended meanwhile."""
        told = [each for each in self.unread.items() if ended or each[0] != _REASONS[errors.NoSuchProcess]]
        ranked = sorted(told, key=lambda item: -len(item[1]))
        return ", ".join(f"{len(who)} {reason}{_whose(reason, who)}" for reason, who in ranked)


class Survey(Unread, Generic[_Answer]):
    """Iterate over it for each process with its answer; afterwards it knows who could not be read."""

    def __init__(
        self,
        target: Target,
        backend: str | None,
        patience: float | None,
        ask: Callable[[Process], tuple[str | None, _Answer]],
        among: Selected | None = None,
    ) -> None:
        """`ask` runs in other threads, and gives with the answer why its map may lack something, or None. `patience`:
        see `vmatlas.survey`."""
        super().__init__(among)
        self._target, self._backend, self._patience, self._ask = target, backend, patience, ask
        self._again: list[ProcessInfo] | None = None

    def ask_again(self, pids: Container[int]) -> None:
        """The next time that it is iterated over, of those who were chosen these are asked."""
        assert self.among is not None
        self._again = [process for process in self.among if process.pid in pids]
        self.read = 0

    def __iter__(self) -> Iterator[tuple[ProcessInfo, _Answer]]:
        """Processes of the kernel have no memory of their own and are left out."""
        from vmatlas.survey import PATIENCE, survey

        patience = PATIENCE if self._patience is None else self._patience
        with _progress() as show:
            among = self.among if self._again is None else self._again
            found = survey(self._ask, target=self._target, backend=self._backend, patience=patience, among=among)
            for each in found:
                show(each.process, each.number, each.count)
                if each.error is not None:
                    self.miss(each.process, each.error)
                elif each.answer is not None:
                    incomplete, answer = each.answer
                    warn_of_gaps(each.process.pid, incomplete)
                    self._is_incomplete |= incomplete is not None
                    self.read += 1
                    yield each.process, answer
            self._note_missing(found)


def judging(
    judge: Callable[[AddressSpace, Process], _Answer], *, residency: bool
) -> Callable[[Process], tuple[str | None, _Answer]]:
    """What a `Survey` asks: for the map, of which `judge` makes the answer."""

    def ask(asked: Process) -> tuple[str | None, _Answer]:
        space = asked.snapshot(residency=residency)
        return space.incomplete, judge(space, asked)

    return ask


@contextlib.contextmanager
def telling(survey: Unread, show: Callable[[], None]) -> Iterator[None]:
    """Who is interrupted shows what it has found: a process with much to look at makes a survey last."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        show()
        say(f"interrupted: this is what was found in {count(survey.read, 'process', 'processes')}")
        raise


class TotalsSurvey(Unread):
    """The memory in use of each process, by the system's own totals; afterwards it knows who could not be read."""

    def __init__(
        self, target: Target, backend: str | None, patience: float | None, among: Selected | None = None
    ) -> None:
        super().__init__(among)
        self._target, self._backend, self._patience = target, backend, patience

    def found(self, *, regions: bool = True, silently: bool = False) -> list[ProcessMemory]:
        """Those that could be read, each once: sums are made of them. `regions`: how many each has; `silently`: without
        a bar."""
        from vmatlas.survey import PATIENCE
        from vmatlas.totals import each_once, memories

        patience = PATIENCE if self._patience is None else self._patience
        with contextlib.nullcontext(_nothing) if silently else _progress() as show:
            found = memories(self._target, backend=self._backend, regions=regions, patience=patience, among=self.among)
            answers = []
            for number, each in enumerate(found, 1):
                show(each.process, number, None)
                answers.append(each)
        told = []
        for each in each_once(answers):
            if each.error is None:
                told.append(each)
            else:
                self.miss(each.process, each.error)
        self.read += len(told)
        self._note_missing(found)
        return told


def _whose(reason: str, processes: list[ProcessInfo]) -> str:
    """Their numbers and names, as far as a line has room for them; of those that have ended nobody asks."""
    if reason == _REASONS[errors.NoSuchProcess]:
        return ""
    named = [f"{process.pid} {one_line(process.name)}".rstrip() for process in processes[:_NAMED]]
    return f" ({', '.join(named)}{', ...' if len(processes) > _NAMED else ''})"


def _nothing(*_: object) -> None:
    """Show nothing."""


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[ProcessInfo, int, int | None], None]]:
    """A bar on standard error while it is a terminal, once the work is long, gone at the end; nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda *_: None
        return
    due = time.monotonic() + _LONG
    draw: Callable[[ProcessInfo, int, int | None], None] | None = None
    with contextlib.ExitStack() as stack:

        def show(process: ProcessInfo, number: int, of: int | None) -> None:
            nonlocal due, draw
            if time.monotonic() < due:
                return
            due = time.monotonic() + _REDRAW
            if draw is None:
                draw = _bar(stack)
            draw(process, number, of)

        yield show


def _bar(stack: contextlib.ExitStack) -> Callable[[ProcessInfo, int, int | None], None]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}", markup=False)
    # No thread of its own to draw it: there may be none to spare.
    bar = stack.enter_context(Progress(*columns, console=Console(stderr=True), transient=True, auto_refresh=False))
    task = bar.add_task("", total=None)

    def draw(process: ProcessInfo, number: int, of: int | None) -> None:
        bar.update(task, completed=number, total=of, description=one_line(process.name), refresh=True)

    return draw
