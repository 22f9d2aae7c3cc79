"""Asks every process of a target the same, and keeps count of those that cannot be read and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Generic, TypeVar

from vmatlas import errors
from vmatlas.cli.exits import Exit, exit_of, say
from vmatlas.cli.render.text import count

if TYPE_CHECKING:
    from vmatlas.api import Process
    from vmatlas.backend import Target
    from vmatlas.model import ProcessInfo

_Answer = TypeVar("_Answer")

_REASONS = {
    errors.NoSuchProcess: "ended meanwhile, or zombies",
    errors.AccessDenied: "no right to read",
    errors.TornRead: "changed too fast",
}


class Survey(Generic[_Answer]):
    """Iterate over it for each process with its answer; afterwards it knows who could not be read."""

    def __init__(self, target: Target, backend: str | None, ask: Callable[[Process], _Answer]) -> None:
        self._target, self._backend, self._ask = target, backend, ask
        self.unread: Counter[str] = Counter()
        """How many, by reason."""
        self.read = 0
        self._hint: str | None = None
        self._is_incomplete = False

    def __iter__(self) -> Iterator[tuple[ProcessInfo, _Answer]]:
        """Processes of the kernel have no memory of their own and are left out."""
        from vmatlas import api

        for process in self._target.processes():
            if process.kernel:
                continue
            try:
                with api.open(process.pid, target=self._target, backend=self._backend) as asked:
                    answer = self._ask(asked)
            except (errors.UsageError, errors.Unsupported, errors.TargetLost):
                raise  # it would be the same for each
            except errors.VmatlasError as error:
                self._count(error)
                continue
            self.read += 1
            yield process, answer

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
