"""What `import vmatlas` gives: a handle on a process, and the one-shot forms of its questions.

Here is what stands between a question and a backend: the choice, reading again when a map changed under the reading,
the part of a filter that the kernel cannot apply, and the identity of the process.
"""

from __future__ import annotations

import functools
import math
import operator
import os
import time
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import NotImplementedType, TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Unpack, runtime_checkable

from vmatlas import registry
from vmatlas.backend import DirectBackend, DirectProcess, Feature, Finder, SeesFiles, Target, TargetProcess
from vmatlas.capture import Capture
from vmatlas.choice import Choice, choose
from vmatlas.errors import Disordered, NoSuchProcess, TornRead, Unsupported, UsageError, VmatlasError
from vmatlas.model import (
    ANY,
    AddressSpace,
    Criteria,
    Filter,
    IncompleteResult,
    Neighbours,
    ProcessInfo,
    Query,
    Question,
    Region,
)
from vmatlas.target.local import LOCAL

if TYPE_CHECKING:
    from vmatlas.analysis import Difference

ATTEMPTS = 50
"""How often a map that changes under the reading is read again before TornRead says so."""

ALWAYS_ASKED = 16
"""Up to so many addresses, `find_many` asks about each: the whole map is not worth reading for them."""

REGIONS_A_QUESTION = 2
"""How many regions are read and decoded in the time of one question about an address; docs/speed.md has the figures."""

WHOLE_MAP = Query()

_LONGEST_INTERVAL = 86400.0 * 366

_FIRST_STEP, _LARGEST_STEP = 16, 4096
_TOP = 2**64
_KERNEL_HALF = 2**63


def _reads_as_it_decodes(backend: DirectBackend) -> bool:
    """Whether its short way is of the class that its long way is of: one derived from that may decode otherwise."""
    ways = {"acquire", "decode", "read"}
    maker = next((kind for kind in type(backend).__mro__ if ways & vars(kind).keys()), None)
    return maker is None or "read" in vars(maker)


@runtime_checkable
class HasPid(Protocol):
    """Anything that knows its process: `subprocess.Popen`, `psutil.Process`, `multiprocessing.Process`."""

    @property
    def pid(self) -> int | None:
        """The process id."""
        ...


Pid: TypeAlias = int | HasPid | None
"""A process: its number, None for the one that asks, or anything with `.pid`."""


def _pid(process: Pid) -> int | None:
    if process is None:
        return None
    candidate: Any = process if isinstance(process, int) else getattr(process, "pid", process)
    try:
        if isinstance(candidate, bool):
            raise TypeError
        pid = operator.index(candidate)
    except TypeError:
        raise UsageError(
            f"{process!r} is no process id", hint="give a whole number, None for this process, or an object with .pid"
        ) from None
    if not 0 <= pid < 2**31:
        raise UsageError(f"{pid} is no process id", hint="process ids are whole numbers from 0")
    return pid


def _place(target: Target | None) -> Target:
    place: Any = LOCAL if target is None else target
    if isinstance(place, str):
        raise UsageError(f"{place!r} is no target", hint=f"target=vmatlas.connect({place!r}), and close it afterwards")
    found: Target = place
    return found


def _address(address: int) -> int:
    try:
        number = operator.index(address)
    except TypeError:
        raise UsageError(f"{address!r} is no address", hint="give a whole number of bytes") from None
    if not 0 <= number < _TOP:
        raise UsageError(f"address {number:#x} does not fit in 64 bits")
    return number


class Process:
    """A process whose memory map is asked, held by identity: repeated questions cost one call each.

    Made by `open`; a context manager. A pid that is reused is never taken for the old process. Safe to use from
    several threads.
    """

    def __init__(self, target: Target, process: TargetProcess, backend: str | None) -> None:
        self._target = target
        self._process = process
        self._backend = backend
        self._choices: dict[tuple[Question, bool, Filter, bool], Choice] = {}
        self._direct = process if isinstance(process, DirectProcess) else None
        self._short_ways: dict[str, DirectBackend | None] = {}
        self._finder: Finder | None = None
        self._is_closed = False

    @property
    def pid(self) -> int:
        """The process id on the target."""
        return self._process.pid

    @property
    def start_time(self) -> int | None:
        """When the process started, in the system's own unit: with the pid, its identity."""
        return self._process.start_time

    @property
    def target(self) -> Target:
        """Where it lives."""
        return self._target

    def close(self) -> None:
        """Let go of the descriptors; questions raise UsageError from then on. Safe to call twice."""
        self._forget_finder()
        self._is_closed = True
        self._process.close()

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<vmatlas.Process {self.pid} on {self._target.name}>"

    def choice(self, query: Query) -> Choice:
        """Which backend answers a query, and why. Raises Unsupported, UsageError."""
        key = query.question, query.build_ids, query.where, (query.address or 0) >= _KERNEL_HALF
        found = self._choices.get(key)
        if found is None:
            found = self._choices[key] = choose(self._target, query, self._backend)
        return found

    def snapshot(
        self,
        *,
        residency: bool = False,
        build_ids: bool = False,
        where: Filter | str | None = None,
        strict: bool = False,
        **criteria: Unpack[Criteria],
    ) -> AddressSpace:
        """The whole map, or the regions that pass a filter.

        `residency` asks for the memory in use (dearer: the kernel walks the page tables), `build_ids` for the ELF
        build id of each file (dearer: it reads the files). `where` is a `Filter` or its text, `criteria` are the
        keywords of `Filter.of`; a filter on the resident size asks for residency by itself. With `strict`, a result
        that may lack something raises IncompleteResult.

        Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, UsageError, IncompleteResult.
        """
        wanted = ANY
        query = WHOLE_MAP
        if where is not None or criteria or residency or build_ids:
            wanted = Filter.of(where, **criteria)
            query = Query(residency=residency or wanted.asks_residency, build_ids=build_ids, where=wanted)
        space = self._space(self.choice(query), query)
        if wanted != ANY:
            space = space.where(wanted)
        if strict and space.incomplete is not None:
            raise IncompleteResult(
                f"the map of process {self.pid} may lack something: {space.incomplete}", space, target=self._target.name
            )
        return space

    def find(
        self, address: int, *, or_next: bool = False, where: Filter | str | None = None, **criteria: Unpack[Criteria]
    ) -> Region | None:
        """The region that covers the address and passes the filter; with `or_next`, else the next above that does.

        Asks the kernel. Raises what `snapshot` raises.
        """
        self._forget_stale_finder()  # after exec there is another memory to ask about
        wanted = Filter.of(where, **criteria)
        query = Query(address=_address(address), or_next=or_next, residency=wanted.asks_residency, where=wanted)
        choice = self.choice(query)
        found = self._search(choice, query)
        if self._finder is None:
            self._make_finder(choice)
        if found is None and or_next and not choice.asked_for:
            if Feature.ABOVE_USER not in choice.backend.features:
                return self._search_above(query)
        return found

    def _search(self, choice: Choice, query: Query) -> Region | None:
        """Goes on above what passed the kernel's part of the filter and did not pass ours."""
        while True:
            assert query.address is not None
            space = self._space(choice, query)
            found = space.where(query.where).find(query.address, or_next=query.or_next)
            is_walk = query.or_next and Feature.WALK in choice.backend.features
            if found is not None or not is_walk or len(space) < query.limit:
                return found
            query = replace(query, address=space[-1].end, limit=min(query.limit * 4, _LARGEST_STEP))

    def _search_above(self, query: Query) -> Region | None:
        """Asks a backend that sees what lies above the process's own memory; where there is none, nothing is seen."""
        try:
            choice = choose(self._target, query, needs=Feature.ABOVE_USER)
        except Unsupported:
            return None
        return self._search(choice, query)

    def find_many(self, addresses: Iterable[int]) -> list[Region | None]:
        """The region that covers each address, in the order of the addresses.

        Few addresses are asked for one by one (all that lie in one region together), many by one reading of the map:
        whatever takes less time (docs/speed.md says where it turns). Raises what `snapshot` raises.
        """
        listed = addresses if isinstance(addresses, list) else list(addresses)
        try:
            numbers = array("Q", listed)
        except (OverflowError, TypeError):
            numbers = array("Q", map(_address, listed))  # says which one is no address
        found = self._ask_each(numbers)
        return self.snapshot().find_many(numbers) if found is None else found

    def _ask_each(self, addresses: array[int]) -> list[Region | None] | None:
        """By questions about single addresses; None where reading the map is quicker, or nobody answers such ones."""
        if not addresses:
            return None
        whole = self.choice(WHOLE_MAP)
        if self._finder is None:
            self._make_finder(self.choice(Query(address=addresses[0])))
        finder = self._finder
        if finder is None:
            return None
        if len(addresses) > ALWAYS_ASKED:
            # The reading stops where it has cost as much as the questions would: at most twice the better way.
            space = self._space_directly(whole, WHOLE_MAP, most=len(addresses) * REGIONS_A_QUESTION)
            if space is not None:
                return space.find_many(addresses)
        found = finder.find_many(addresses)
        if not isinstance(found, NotImplementedType):
            return found
        self._forget_stale_finder()
        return None

    def _make_finder(self, choice: Choice) -> None:
        backend = self._short_way(choice)
        if self._direct is None or backend is None or self._is_closed:
            return
        try:
            self._finder = self._direct.finder(backend)
        except VmatlasError:
            return  # the long way says it
        if self._finder is not None:
            # In the place of the method: what stands between a question and the kernel is then one call into C.
            self._finder.hand_on_to(functools.partial(_find_the_long_way, weakref.ref(self)))
            vars(self)["find"] = self._finder.ask

    def _forget_stale_finder(self) -> None:
        if self._finder is not None and self._finder.is_stale():
            self._forget_finder()

    def _forget_finder(self) -> None:
        finder, self._finder = self._finder, None
        vars(self).pop("find", None)
        if finder is not None:
            finder.close()

    def neighbours(self, address: int) -> Neighbours:
        """The region at the address, the one before and the one after. Raises what `snapshot` raises."""
        return self.snapshot().neighbours(_address(address))

    def iterate(self, *, where: Filter | str | None = None, **criteria: Unpack[Criteria]) -> Iterator[Region]:
        """The regions one after another, without keeping them: a backend that can walk is asked piece by piece.

        Pieces are read at different times. A region that grows downward, or merges with the one below, between two of
        them can overlap the last region of the piece before; otherwise none is given twice. Raises what `snapshot`
        raises.
        """
        wanted = Filter.of(where, **criteria)
        whole = Query(where=wanted, residency=wanted.asks_residency)
        choice = self.choice(whole)
        if Feature.WALK not in choice.backend.features:
            yield from self.snapshot(where=wanted)
            return
        address, step = 0, _FIRST_STEP
        while address < _TOP:
            space = self._space(choice, Query(address=address, or_next=True, limit=step, where=wanted))
            yield from space.where(wanted)
            if len(space) < step:
                return
            address, step = space[-1].end, min(step * 4, _LARGEST_STEP)

    def capture(self, *, residency: bool = False, build_ids: bool = False) -> Capture:
        """The kernel's bytes for the whole map, found to be whole and consistent. Raises what `snapshot` raises."""
        query = Query(residency=residency, build_ids=build_ids)
        return self._read(self.choice(query), query)[0]

    def watch(
        self, interval: float = 1.0, *, residency: bool = False, wait: Callable[[float], object] = time.sleep
    ) -> Iterator[Difference]:
        """What changes, each time that something does; ends when the process ends.

        Looks every `interval` seconds, and costs little when nothing changed: the kernel's bytes are compared with
        those of the last look, and nothing is made of them. What changes and changes back between two looks is not
        seen. `wait` sleeps for some seconds; what it raises ends the watch. Raises what `snapshot` raises, but
        NoSuchProcess only for a process that was gone at the first look.
        """
        if not (math.isfinite(interval) and 0 <= interval <= _LONGEST_INTERVAL):
            raise UsageError(f"{interval!r} is no interval", hint="give seconds, from 0")
        return self._watch(interval, Query(residency=residency), wait)

    def _watch(self, interval: float, query: Query, wait: Callable[[float], object]) -> Iterator[Difference]:
        from vmatlas.analysis import diff

        choice = self.choice(query)
        seen, before = self._read(choice, query)
        while True:
            wait(interval)
            if self._reads_like(choice, seen):
                continue
            try:
                capture, after = self._read(choice, query)
            except NoSuchProcess:
                return
            if capture.streams == seen.streams:
                continue
            difference = diff(before, after)
            seen, before = capture, after
            if difference:
                yield difference

    def _reads_like(self, choice: Choice, seen: Capture) -> bool:
        backend = self._short_way(choice)
        if self._direct is None or backend is None:
            return False
        try:
            return bool(self._direct.reads_like(backend, seen))
        except VmatlasError:
            return False  # the long way says it

    def file_lookup(self) -> Callable[[str], int | None] | None:
        """What `audit` asks of the file system: the inode at a path, as the process sees it. For as long as it is open.

        None where the target's file system cannot be asked.
        """
        return self._process.inode_of if isinstance(self._process, SeesFiles) else None

    def _short_way(self, choice: Choice) -> DirectBackend | None:
        """The backend, when it has short ways: looked up once, since that takes longer than reading a small map."""
        backend = choice.backend
        if backend.name not in self._short_ways:
            direct = backend if isinstance(backend, DirectBackend) else None
            self._short_ways[backend.name] = direct if direct and _reads_as_it_decodes(direct) else None
        return self._short_ways[backend.name]

    def _space(self, choice: Choice, query: Query) -> AddressSpace:
        """By the short way where there is one, else by acquire and decode."""
        space = self._space_directly(choice, query)
        return self._read(choice, query)[1] if space is None else space

    def _space_directly(self, choice: Choice, query: Query, *, most: int = 0) -> AddressSpace | None:
        backend = self._short_way(choice)
        if self._direct is None or backend is None:
            return None
        try:
            return self._direct.read(backend, query, most)
        except VmatlasError:
            return None  # the long way says it

    def _read(self, choice: Choice, query: Query) -> tuple[Capture, AddressSpace]:
        """Acquire and decode, again when the map changed under the reading."""
        backend = choice.backend
        try:
            for _ in range(ATTEMPTS):
                capture = self._process.acquire(backend, query)
                try:
                    return capture, backend.decode(capture)
                except Disordered as error:
                    torn = error
        except VmatlasError as error:
            raise error.located(pid=self.pid, target=self._target.name, backend=backend.name) from error.__cause__
        raise TornRead(
            f"the map of process {self.pid} changed during each of {ATTEMPTS} readings",
            pid=self.pid,
            target=self._target.name,
            backend=backend.name,
            hint="stop the process for the reading, or use a backend that asks region by region",
        ) from torn


def _find_the_long_way(process: weakref.ref[Process], *arguments: Any, **more: Any) -> Region | None:
    """What a finder hands on. It does not keep the handle alive: that would stay open until garbage is collected."""
    asked = process()
    if asked is None:
        raise UsageError("the handle of the process is gone", hint="keep it for as long as it is asked")
    return Process.find(asked, *arguments, **more)


def open(
    pid: Pid = None, *, target: Target | None = None, backend: str | None = None, thread: int | None = None
) -> Process:
    """A handle on a process.

    `pid` is a number, None for the process that asks (on another machine: the agent), or anything with `.pid`.
    `backend` names one backend for all its questions; otherwise each question goes to the one that answers it best.
    `thread` asks through one thread of the process (Linux: /proc/PID/task/TID/maps).

    Raises NoSuchProcess, AccessDenied, Unsupported, UsageError.
    """
    place = _place(target)
    if backend is not None:
        registry.backend(backend)
    number, task = _pid(pid), _pid(thread)
    try:
        return Process(place, place.open(number, task), backend)
    except VmatlasError as error:
        raise error.located(target=place.name) from error.__cause__


def snapshot(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    thread: int | None = None,
    residency: bool = False,
    build_ids: bool = False,
    where: Filter | str | None = None,
    strict: bool = False,
    **criteria: Unpack[Criteria],
) -> AddressSpace:
    """The memory map of a process: `open` and `Process.snapshot` in one."""
    with open(pid, target=target, backend=backend, thread=thread) as process:
        return process.snapshot(residency=residency, build_ids=build_ids, where=where, strict=strict, **criteria)


def find(
    pid: Pid,
    address: int,
    or_next: bool = False,
    *,
    target: Target | None = None,
    backend: str | None = None,
    where: Filter | str | None = None,
    **criteria: Unpack[Criteria],
) -> Region | None:
    """The region that covers an address: `open` and `Process.find` in one."""
    with open(pid, target=target, backend=backend) as process:
        return process.find(address, or_next=or_next, where=where, **criteria)


def find_many(
    pid: Pid, addresses: Iterable[int], *, target: Target | None = None, backend: str | None = None
) -> list[Region | None]:
    """The region that covers each address: `open` and `Process.find_many` in one."""
    with open(pid, target=target, backend=backend) as process:
        return process.find_many(addresses)


def neighbours(pid: Pid, address: int, *, target: Target | None = None, backend: str | None = None) -> Neighbours:
    """What lies at an address and on both sides of it: `open` and `Process.neighbours` in one."""
    with open(pid, target=target, backend=backend) as process:
        return process.neighbours(address)


def iterate(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    where: Filter | str | None = None,
    **criteria: Unpack[Criteria],
) -> Iterator[Region]:
    """The regions one after another: `open` and `Process.iterate` in one."""
    with open(pid, target=target, backend=backend) as process:
        yield from process.iterate(where=where, **criteria)


def watch(
    pid: Pid = None,
    interval: float = 1.0,
    *,
    target: Target | None = None,
    backend: str | None = None,
    residency: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Difference]:
    """What changes in a process, each time that something does: `open` and `Process.watch` in one."""
    with open(pid, target=target, backend=backend) as process:
        yield from process.watch(interval, residency=residency, wait=wait)


def capture(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    residency: bool = False,
    build_ids: bool = False,
) -> Capture:
    """The kernel's own bytes, to be saved (`Capture.save`) and read elsewhere (`replay`)."""
    with open(pid, target=target, backend=backend) as process:
        return process.capture(residency=residency, build_ids=build_ids)


def replay(source: Capture | str | os.PathLike[str]) -> AddressSpace:
    """The address space of a capture, or of a saved capture's file; the process need not exist any more.

    Raises OSError (the file), MalformedData, UsageError (a newer format), Unsupported (the backend is not installed:
    the hint names its distribution).
    """
    saved = source if isinstance(source, Capture) else Capture.load(source)
    backend = registry.backend(saved.backend, distribution=saved.distribution)
    try:
        return backend.decode(saved)
    except VmatlasError as error:
        raise error.located(pid=saved.pid, backend=saved.backend) from error.__cause__


def processes(target: Target | None = None) -> Iterator[ProcessInfo]:
    """Every process that may be seen on a target, in order of pid."""
    return _place(target).processes()
