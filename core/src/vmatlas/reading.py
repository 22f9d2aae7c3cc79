"""How the map of one process is read, and what lies inside its regions.

Acquire and decode, again when the map changed under the reading (out of order, and different each time); or a backend's
short way, where it has one and the process lives here: then no capture is made. The short way answers or is silent:
what goes wrong, the long way says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from errno import ENOMEM

from vmatlas.backend import (
    Bounded,
    DirectBackend,
    DirectPages,
    DirectPageSource,
    DirectProcess,
    Finder,
    LimitsRegions,
    PageSource,
    Target,
    TargetProcess,
)
from vmatlas.choice import Choice, choose_for_pages
from vmatlas.errors import (
    Disordered,
    OperationFailed,
    TornRead,
    Unsupported,
    UsageError,
    VmatlasError,
    no_region_left,
)
from vmatlas.model import AddressSpace, Query
from vmatlas.target.local import LocalTarget

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.model.pages import PageRuns, PageState

Ranges = tuple[tuple[int, int], ...]

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
        with self._telling_shortage():
            try:
                return self._direct.read(backend, query, most)
            except UsageError:
                raise  # of a setting that only the short way heeds
            except VmatlasError:
                return None  # the long way says it

    def read(self, choice: Choice, query: Query) -> tuple[Capture, AddressSpace]:
        """Acquire and decode, again when the map changed under the reading."""
        with self.question(), self._telling_shortage():
            return self._read(choice, query)

    @contextmanager
    def _telling_shortage(self) -> Iterator[None]:
        """Want of memory, with its cause where this process has no region left: then there may be any amount free."""
        try:
            yield
        except MemoryError:
            if (hint := self._why_short()) is None:
                raise
            raise OperationFailed(
                f"no memory to read the map of process {self._process.pid} into",
                errno=ENOMEM,
                errno_name="ENOMEM",
                pid=self._process.pid,
                hint=hint,
            ) from None
        except OperationFailed as failure:
            if failure.errno_name == "ENOMEM" and failure.hint is None:
                failure.hint = self._why_short()
            raise

    def _why_short(self) -> str | None:
        system: object = self._target.system if isinstance(self._target, LocalTarget) else None
        if not isinstance(system, LimitsRegions):
            return None
        count, most = system.own_regions(), system.most_regions()
        return None if count is None or most is None else no_region_left(count, most)

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


class PageReader:
    """Asks about the pages of one process."""

    def __init__(self, target: Target, process: TargetProcess) -> None:
        self._target = target
        self._process = process
        self._direct = process if isinstance(process, DirectPages) else None
        self._chosen: dict[tuple[PageState, bool], PageSource] = {}
        self._short_ways: dict[str, DirectPageSource | None] = {}

    def source(self, of: PageState, *, all_of_it: bool) -> PageSource:
        """What is asked for these states: see `choose_for_pages`. Raises Unsupported."""
        found = self._chosen.get((of, all_of_it))
        if found is None:
            own = self._direct is not None and self._process.pid == os.getpid()
            found = self._chosen[of, all_of_it] = choose_for_pages(self._target, of, all_of_it=all_of_it, own=own)
        return found

    def runs(self, source: PageSource, of: PageState, ranges: Ranges) -> PageRuns:
        """By the short way where there is one, else by acquire and decode. Raises what those raise, and Unsupported."""
        direct = self._short_way(source)
        if direct is not None and self._direct is not None:
            try:
                found = self._direct.read_pages(direct, Query(pages=of, ranges=ranges))
            except UsageError:
                raise  # of a handle that is closed
            except VmatlasError:
                found = None  # the long way says it
            if found is not None:
                return found
        return self.read(source, of, ranges)[1]

    def read(self, source: PageSource, of: PageState, ranges: Ranges) -> tuple[Capture, PageRuns]:
        """Acquire and decode. Raises what those raise, and Unsupported where none of the states is told."""
        with self._process.question() if isinstance(self._process, Bounded) else nullcontext():
            try:
                capture = self._process.acquire(source, Query(pages=of, ranges=ranges))
                found = source.pages(capture).telling(of)
                if not found.told:
                    raise Unsupported(f"this kernel does not tell which pages are {' or '.join(of.words)}")
                return capture, found
            except VmatlasError as error:
                raise error.located(pid=self._process.pid, target=self._target.name, backend=source.name) from None

    def _short_way(self, source: PageSource) -> DirectPageSource | None:
        if source.name not in self._short_ways:
            direct = source if isinstance(source, DirectPageSource) else None
            self._short_ways[source.name] = direct if direct and _reads_as_it_decodes(direct) else None
        return self._short_ways[source.name]


def _reads_as_it_decodes(backend: DirectBackend | DirectPageSource) -> bool:
    """Whether its short way is of the class that its long way is of: one derived from that may decode otherwise."""
    ways = {"acquire", "decode", "pages", "read"}
    maker = next((kind for kind in type(backend).__mro__ if ways & vars(kind).keys()), None)
    return maker is None or "read" in vars(maker)
