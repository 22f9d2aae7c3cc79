"""Asking one process: its handle for a command, and how long an answer is waited for.

Another thread asks, since a question can wait in the kernel where no signal reaches it: so Ctrl-C ends the command at
once, and patience ends. What asks about this very process asks itself: another thread would be seen in the map. An
agent is asked directly, too: its wire has limits of its own, which `reach` is given.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator

from vmatlas.cli.words import Asked, reach
from vmatlas.contracts import TypeVar

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from vmatlas.backend import Target
    from vmatlas.model import AddressSpace
    from vmatlas.patience import Errand
    from vmatlas.process import Process

_Answer = TypeVar("_Answer")
_Failure: TypeAlias = "Callable[[float, str | None], Exception]"
"""Makes the error of a question that was given up, of the seconds that passed and what it waits for."""

PATIENCE = 30.0
"""Seconds, where --patience says nothing."""


_FOR_LISTS = 10.0
"""Seconds that lists of everybody have at least: each passes over who does not answer, and that takes two."""


def patience_for_lists(patience: float | None) -> float | None:
    """For a question that is made of lists: one process that does not answer must not end it."""
    return patience if patience is None else max(patience, _FOR_LISTS)


class Patiently:
    """A process that is asked, with a limit for each question."""

    def __init__(self, pid: int | None, target: Target, patience: float | None) -> None:
        self._pid = os.getpid() if pid is None and target.name == "local" else pid
        self._target = target
        self._patience = PATIENCE if patience is None else patience
        self._errand: Errand[object] | None = None
        self.process: Process

    @property
    def is_waiting(self) -> bool:
        """Whether a thread still holds the handle: then it must not be closed, which would wait for it."""
        return self._errand is not None and not self._errand.wait(0)

    def ask(self, question: Callable[[], _Answer]) -> _Answer:
        """What a question to the process gives. Raises what it raises, and Unanswered."""
        from vmatlas.target.local import LOCAL

        if self._target is not LOCAL or self._pid is None or self._pid == os.getpid():
            return question()
        from vmatlas.patience import Errand
        from vmatlas.survey import unanswered

        pid, errand = self._pid, Errand(question)
        self._errand = errand  # type: ignore[assignment]
        return _answer(
            errand,
            self._target,
            self._patience,
            lambda seconds, waits_for: unanswered(pid, self._name(), seconds, waits_for, self._target),
        )

    def _name(self) -> str:
        return next((each.name for each in self._target.processes() if each.pid == self._pid), "")

    def snapshot(self, **how: Any) -> AddressSpace:
        """Its map (`how` as of `Process.snapshot`), with its name. Raises what `ask` raises."""
        return self.ask(lambda: named(self.process.snapshot(**how), self.process))

    def rest(self, pause: Callable[[], None]) -> None:
        """A pause within a question: its time does not count."""
        if self._errand is None:
            pause()
        else:
            self._errand.rest(pause)


def _answer(errand: Errand[_Answer], target: Target, patience: float, failure: _Failure) -> _Answer:
    """By another thread. Raises what the question raises, and the failure."""
    from vmatlas.patience import Crew
    from vmatlas.survey import waits_of

    with Crew(1) as crew:
        if not errand.asked_by(crew, patience):
            raise failure(errand.age(), waits_of(target, errand.thread))
    return errand.answer()


def in_time(
    question: Callable[[Callable[[], None]], _Answer], target: Target, patience: float | None, what: str
) -> _Answer:
    """The answer to a question about a whole machine: `what` says, in an error, what did not come.

    The question is given what it calls when it has made way. Raises what it raises, and Unanswered.
    """
    from vmatlas.errors import Unanswered
    from vmatlas.patience import Errand
    from vmatlas.survey import PATIENCE_HINT
    from vmatlas.target.local import LOCAL

    if target is not LOCAL:
        return question(lambda: None)

    def failure(seconds: float, waits_for: str | None) -> Exception:
        why = f": the question waits for {waits_for}" if waits_for else ""
        return Unanswered(
            f"{what} did not come in {seconds:.3g} s{why}", seconds=seconds, waits_for=waits_for, hint=PATIENCE_HINT
        )

    errand: Errand[_Answer] = Errand(lambda: question(lambda: errand.rest(lambda: None)))
    return _answer(errand, target, PATIENCE if patience is None else patience, failure)


def named(space: AddressSpace, process: Process) -> AddressSpace:
    """A map with the name and the numbers that its process has."""
    return space.named(process.name, process.number_inside)


def instead_of(space: AddressSpace, process: Process) -> str | None:
    """Whom to ask where a whole map is empty: the first process with memory of its own. None where it is not empty, or
    no such process is listed. Raises TargetLost.
    """
    if len(space):
        return None
    others = (each for each in process.target.processes() if each.kernel is False and not each.state.startswith("Z"))
    first = min(others, key=lambda each: each.pid, default=None)
    if first is None:
        return None
    import shlex

    name = process.target.name
    listed = "vmatlas processes" + ("" if name == "local" else f" --target {shlex.quote(name)}")
    return f"process {first.pid} ({first.name}) has memory of its own; '{listed}' tells which others have"


def tell_if_kernels_own(process: Process) -> None:
    """A line on standard error when a process has no memory at all, and why; for a question that does not read its
    whole map. Raises what `Process.snapshot` raises.
    """
    from vmatlas.cli.words import tell_if_kernels, warn_if_incomplete

    if process.find(0, or_next=True) is None:
        space = process.snapshot()
        if not len(space):
            warn_if_incomplete(space)
            tell_if_kernels(space, instead_of(space, process))


def tells_memory(process: Process) -> bool:
    """Whether any backend tells the memory in use of it."""
    from vmatlas.errors import Unsupported
    from vmatlas.model import Query

    try:
        process.choice(Query(residency=True))
    except Unsupported:
        return False
    return True


@contextlib.contextmanager
def opened(
    asked: Asked, url: str, backend: str | None, patience: float | None, *, thread: int | None = None
) -> Iterator[Patiently]:
    """The process that a command names. Raises what `reach` and `vmatlas.open` raise, and Unanswered."""
    from vmatlas import api

    with reach(url, patience) as place:
        patiently = Patiently(asked.pid, place, patience)
        # The kernel may not answer the very first question: who that process is.
        patiently.process = patiently.ask(lambda: api.open(asked.pid, target=place, backend=backend, thread=thread))
        try:
            yield patiently
        finally:
            if not patiently.is_waiting:
                patiently.process.close()
