"""Asks one process or every process of a target the same, and keeps count of those that cannot be read and why."""

from __future__ import annotations

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from vmatlas import errors
from vmatlas.cli.exits import Exit, exit_of, say
from vmatlas.cli.options import Asked, warn_of_gaps
from vmatlas.cli.render.text import count, one_line

if TYPE_CHECKING:
    from vmatlas.backend import Target
    from vmatlas.model import AddressSpace, ProcessInfo
    from vmatlas.process import Process

_Answer = TypeVar("_Answer")

_REASONS = {
    errors.NoSuchProcess: "ended meanwhile, or zombies",
    errors.AccessDenied: "no right to read",
    errors.TornRead: "changed too fast",
}


def check_choice(source: Asked | str | None, everyone: bool, command: str) -> None:
    """Raises UsageError unless either a process or a capture was named, or all processes were."""
    if (source is None) is not everyone:
        raise errors.UsageError("give a process id, a capture's file, or --all", hint=f"vmatlas {command} --help")


class Survey(Generic[_Answer]):
    """Iterate over it for each process with its answer; afterwards it knows who could not be read."""

    def __init__(
        self, target: Target, backend: str | None, judge: Callable[[AddressSpace, Process], _Answer], *, residency: bool
    ) -> None:
        """`judge` makes the answer of a map; it runs in other threads."""
        self._target, self._backend, self._judge, self._residency = target, backend, judge, residency
        self.unread: Counter[str] = Counter()
        """How many, by reason."""
        self.read = 0
        self._hint: str | None = None
        self._is_incomplete = False

    def of_one(self, pid: int | None) -> tuple[int, AddressSpace, _Answer]:
        """One process: its number, its map, and the answer."""
        from vmatlas import api

        with api.open(pid, target=self._target, backend=self._backend) as asked:
            space, answer = self._ask(asked)
            warn_of_gaps(space.pid, space.incomplete)
            return asked.pid, space, answer

    def _ask(self, asked: Process) -> tuple[AddressSpace, _Answer]:
        space = asked.snapshot(residency=self._residency)
        return space, self._judge(space, asked)

    def _judged(self, asked: Process) -> tuple[str | None, _Answer]:
        space, answer = self._ask(asked)
        return space.incomplete, answer

    def __iter__(self) -> Iterator[tuple[ProcessInfo, _Answer]]:
        """Processes of the kernel have no memory of their own and are left out."""
        from vmatlas.survey import survey

        with _progress() as show:
            for each in survey(self._judged, target=self._target, backend=self._backend):
                show(each.process, each.number, each.count)
                if each.error is not None:
                    self._count(each.error)
                elif each.answer is not None:
                    incomplete, answer = each.answer
                    warn_of_gaps(each.process.pid, incomplete)
                    self.read += 1
                    yield each.process, answer

    def _count(self, error: errors.VmatlasError) -> None:
        reason = next((words for kind, words in _REASONS.items() if isinstance(error, kind)), str(error))
        self.unread[reason] += 1
        if isinstance(error, errors.AccessDenied):
            self._hint = error.hint
        if exit_of(error) is not Exit.NO_SUCH_PROCESS:
            self._is_incomplete = True

    def tell(self) -> Exit:
        """Say how many could not be read and why: incomplete when any of them still has memory."""
        if self.unread:
            reasons = ", ".join(f"{number} {reason}" for reason, number in self.unread.most_common())
            known = f"{count(self.read, 'process', 'processes')} read, {self.unread.total():,} not: {reasons}"
            say(known, hint=self._hint)
        return Exit.INCOMPLETE if self._is_incomplete else Exit.OK


@contextlib.contextmanager
def _progress() -> Iterator[Callable[[ProcessInfo, int, int], None]]:
    """A bar on standard error while it is a terminal, gone at the end; nothing elsewhere."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}")
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=None)

        def show(process: ProcessInfo, number: int, of: int) -> None:
            name = one_line(process.name).replace("[", "\\[")
            bar.update(task, completed=number, total=of, description=name)

        yield show
