"""How the map of one process is read.

Acquire and decode, again when the map changed under the reading (out of order, and different each time); or a backend's
short way, where it has one and the process lives here: then no capture is made. The short way answers or is silent:
what goes wrong, the long way says.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

from vmatlas.backend import Bounded, DirectBackend, DirectProcess, Finder, Target, TargetProcess
from vmatlas.capture import Capture
from vmatlas.choice import Choice
from vmatlas.errors import Disordered, TornRead, UsageError, VmatlasError
from vmatlas.model import AddressSpace, Query

ATTEMPTS = 50
"""How often a map that changes under the reading is read again before TornRead says so."""

ALIKE = 5
"""So many readings in a row of the same bytes: no change under the reading has put them out of order. A map that is
changed to and fro can be torn alike twice (1 in 14 of the torn readings on Linux 6.18), even three times."""


class MapReader:
    """Reads the map of one process, by the backend that was chosen for a question."""

    def __init__(self, target: Target, process: TargetProcess) -> None:
        self._target = target
        self._process = process
        self._direct = process if isinstance(process, DirectProcess) else None
        self._bounded = process if isinstance(process, Bounded) else None
        self._short_ways: dict[str, DirectBackend | None] = {}

    def question(self) -> AbstractContextManager[object]:
        """See `Bounded`; of a process of this machine nothing is bounded."""
        return nullcontext() if self._bounded is None else self._bounded.question()

    def space(self, choice: Choice, query: Query) -> AddressSpace:
        """By the short way where there is one, else by acquire and decode."""
        space = self.space_directly(choice, query)
        return self.read(choice, query)[1] if space is None else space

    def space_directly(self, choice: Choice, query: Query, *, most: int = 0) -> AddressSpace | None:
        """By the short way alone: None where there is none, or it gave up after `most` regions (0: no bound)."""
        backend = self._short_way(choice)
        if self._direct is None or backend is None:
            return None
        try:
            return self._direct.read(backend, query, most)
        except UsageError:
            raise  # of a setting that only the short way heeds
        except VmatlasError:
            return None  # the long way says it

    def read(self, choice: Choice, query: Query) -> tuple[Capture, AddressSpace]:
        """Acquire and decode, again when the map changed under the reading."""
        with self.question():
            return self._read(choice, query)

    def _read(self, choice: Choice, query: Query) -> tuple[Capture, AddressSpace]:
        backend = choice.backend
        try:
            seen: Capture | None = None
            alike = 0
            for _ in range(ATTEMPTS):
                capture = self._process.acquire(backend, query)
                try:
                    return capture, backend.decode(capture)
                except Disordered as error:
                    alike = alike + 1 if seen is not None and capture.streams == seen.streams else 1
                    if alike == ALIKE:
                        error.hint = (
                            error.hint or f"{ALIKE} readings gave the same bytes: so it is told, nothing changed"
                        )
                        raise
                    seen = capture
        except VmatlasError as error:
            raise error.located(pid=self._process.pid, target=self._target.name, backend=backend.name) from None
        raise TornRead(
            f"the map of process {self._process.pid} changed during each of {ATTEMPTS} readings",
            pid=self._process.pid,
            target=self._target.name,
            backend=backend.name,
            hint="stop the process for the reading, or use a backend that asks region by region",
        )

    def reads_like(self, choice: Choice, seen: Capture) -> bool:
        """Whether the kernel still gives the bytes of a capture; False, too, where only the long way can tell."""
        backend = self._short_way(choice)
        if self._direct is None or backend is None:
            return False
        try:
            return bool(self._direct.reads_like(backend, seen))
        except VmatlasError:
            return False  # the long way says it

    def finder(self, choice: Choice) -> Finder | None:
        """What answers point queries by the short way, to be closed by the caller; None where there is none."""
        backend = self._short_way(choice)
        if self._direct is None or backend is None:
            return None
        try:
            return self._direct.finder(backend)
        except VmatlasError:
            return None  # the long way says it

    def _short_way(self, choice: Choice) -> DirectBackend | None:
        """The backend, when it has short ways: looked up once, since that takes longer than reading a small map."""
        backend = choice.backend
        if backend.name not in self._short_ways:
            direct = backend if isinstance(backend, DirectBackend) else None
            self._short_ways[backend.name] = direct if direct and _reads_as_it_decodes(direct) else None
        return self._short_ways[backend.name]


def _reads_as_it_decodes(backend: DirectBackend) -> bool:
    """Whether its short way is of the class that its long way is of: one derived from that may decode otherwise."""
    ways = {"acquire", "decode", "read"}
    maker = next((kind for kind in type(backend).__mro__ if ways & vars(kind).keys()), None)
    return maker is None or "read" in vars(maker)
