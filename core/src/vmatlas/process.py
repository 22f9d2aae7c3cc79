"""A handle on a process: what stands between a question and a backend.

Here is the choice, the part of a filter that the kernel cannot apply, and the identity of the process.
"""

from __future__ import annotations

import contextlib
import functools
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from types import NotImplementedType, TracebackType

from vmatlas import arguments, registry
from vmatlas.backend import (
    THREADS,
    Backend,
    ClearsMarks,
    Feature,
    Finder,
    HasName,
    LimitsRegions,
    OpensFiles,
    ReadsFiles,
    ReadsNuma,
    ReadsThreads,
    SeesFiles,
    Target,
    TargetProcess,
    TellsGuards,
    TellsMembership,
    TellsNuma,
    TellsStackLimit,
    TellsThreads,
    TellsTotals,
    is_blind,
)
from vmatlas.choice import Choice, choose
from vmatlas.errors import AccessDenied, MalformedData, NoSuchProcess, Unsupported, UsageError, VmatlasError
from vmatlas.model import (
    ANY,
    AddressSpace,
    Criteria,
    FileNow,
    Filter,
    IncompleteResult,
    MemoryUse,
    Neighbours,
    Query,
    Question,
    Region,
    Thread,
)
from vmatlas.model.filter import check_filter, check_region
from vmatlas.model.space import check_space
from vmatlas.notebook import draw
from vmatlas.reading import MapReader, PageReader
from vmatlas.target.local import LOCAL
from vmatlas.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    import weakref
    from typing import Any, TypeAlias, Unpack

    from vmatlas.analysis import Difference
    from vmatlas.analysis.audit import Evidence
    from vmatlas.capture import Capture
    from vmatlas.model.numa import NumaUse
    from vmatlas.model.pages import PageRuns, PageState
    from vmatlas.symbols import Elf

ALWAYS_ASKED = 256
"""Up to so many addresses, `find_many` asks about each: a map of some hundred regions takes longer to read."""

REGIONS_A_QUESTION = 1
"""How many regions are read and decoded in the time of one question about an address; docs/speed.md has the figures."""

Choices: TypeAlias = "dict[tuple[Question, bool, Filter], Choice]"
"""Who answers which question at a target: the same for each of its processes."""

WHOLE_MAP = Query()
TOTALS = Query(totals=True)


_FIRST_STEP, _LARGEST_STEP = 16, 4096
_TOP = 2**64


def _address(address: int) -> int:
    try:
        number = arguments.number(address)
    except TypeError:
        told = arguments.shown(address)
        raise UsageError(f"{told} is no address", hint="give a whole number of bytes") from None
    if not 0 <= number < _TOP:
        told = f"{number:#x}" if number.bit_length() <= 128 else f"of {number.bit_length()} bits"
        raise UsageError(f"address {told} does not fit in 64 bits")
    return number


def _addresses(addresses: Iterable[int]) -> array[int]:
    try:
        listed = addresses if isinstance(addresses, list) else list(addresses)
    except TypeError:
        raise UsageError(
            f"{arguments.shown(addresses)} is no list of addresses", hint="one address is asked for by find"
        ) from None
    with contextlib.suppress(OverflowError, TypeError):
        return arguments.numbers(listed)
    return array("Q", map(_address, listed))  # says which one is no address


class Process:
    """A process whose memory map is asked, held by identity: repeated questions cost one call each.

    Made by `open`; a context manager. A pid that is reused is never taken for the old process. Safe to use from
    several threads.
    """

    def __init__(
        self, target: Target, process: TargetProcess, backend: str | None, choices: Choices | None = None
    ) -> None:
        """`choices`: those that were made for others of this target, with this backend; they are added to."""
        self._target = target
        self._process = process
        self._backend = backend
        self._choices: Choices = {} if choices is None else choices
        self._reader = MapReader(target, process)
        self._pages = PageReader(target, process)
        self._finder: Finder | None = None
        self._is_closed = False
        self._elves: dict[object, Elf | None] = {}

    @property
    def pid(self) -> int:
        """The process id on the target."""
        return self._process.pid

    @property
    def start_time(self) -> int | None:
        """When the process started, in the system's own unit: with the pid, its identity."""
        return self._process.start_time

    @property
    def name(self) -> str | None:
        """What the system calls it, in short (Linux: comm, as it is now); None where that is not told."""
        return self._process.name_now() if isinstance(self._process, HasName) else None

    @property
    def number_inside(self) -> int | None:
        """Its number in its own pid namespace, where that is another (1: the first of a container); else None."""
        return self._process.number_inside() if isinstance(self._process, HasName) else None

    @property
    def target(self) -> Target:
        """Where it lives."""
        return self._target

    picture = draw

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
        if not isinstance(query, Query):
            raise UsageError(f"{arguments.shown(query)} is no query", hint="give a vmatlas.Query")
        key = query.question, query.build_ids, query.where
        found = self._choices.get(key)
        if found is None:
            found = self._choices[key] = choose(self._target, query, self._backend)
        return found

    def _asked(self, choice: Choice, query: Query) -> tuple[Choice, AddressSpace]:
        """The answer, and who gave it: where it lacks names that the filter is about, whoever tells them all is asked.

        So is nobody where the backend was named, or no other tells what is asked: the answer says itself what it lacks.
        """
        space = self._reader.space(choice, query)
        if choice.asked_for or not query.where.looks_at_names or not _lacks_names(space, choice.backend):
            return choice, space
        try:
            other = choose(self._target, query, needs=Feature.LONG_FILE_NAME)
        except Unsupported:
            return choice, space
        return other, self._reader.space(other, query)

    def needs_residency(self, where: Filter) -> bool:
        """Whether the memory in use must be asked for so that a filter can be applied.

        For flags, page sizes and the system's own keys it need not where no backend tells the memory in use: then one
        tells them without it, or none does.
        """
        check_filter(where)
        if where.asks_residency or not where.wants_residency:
            return where.asks_residency
        try:
            self.choice(Query(residency=True))
        except Unsupported:
            return False
        return True

    @arguments.flags_checked
    def snapshot(
        self,
        *,
        residency: bool = False,
        build_ids: bool = False,
        where: Filter | str | None = None,
        strict: bool = False,
        threads: bool = False,
        guards: bool = False,
        **criteria: Unpack[Criteria],
    ) -> AddressSpace:
        """The whole map, or the regions that pass a filter.

        `residency` asks for the memory in use (dearer: the kernel walks the page tables), `build_ids` for the ELF
        build id of each file (dearer: it reads the files), `threads` for what the method of that name gives
        (`Origin.threads`). `guards` asks for the guards that no map shows, as entries of their own
        (`AddressSpace.with_guards`): not with `residency`, and Unsupported where nothing tells them. `where` is a
        `Filter` or its text, `criteria` are the keywords of `Filter.of`; a filter on what is told with the memory in
        use asks for it by itself. With `strict`, a result that may lack something raises IncompleteResult.

        Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, UsageError, IncompleteResult.
        """
        wanted = ANY
        query = WHOLE_MAP
        if where is not None or criteria or residency or build_ids:
            wanted = Filter.of(where, **criteria)
            residency = residency or self.needs_residency(wanted)
            if guards and residency:
                raise _not_both()
            query = Query(residency=residency, build_ids=build_ids, where=ANY if guards else wanted)
        _, space = self._asked(self.choice(query), query)
        if guards:
            from vmatlas.model.pages import PageState

            space = space.with_guards(self.pages_in(space, of=PageState.GUARD))
        if wanted != ANY:
            space = space.where(wanted)
        if threads:
            space = space.with_threads(self.threads())
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
        residency = self.needs_residency(wanted)
        if or_next is not False:
            or_next = arguments.flag(or_next, "or_next")
        query = Query(address=_address(address), or_next=or_next, residency=residency, where=wanted)
        choice = self.choice(query)
        found = self._search(choice, query)
        if self._finder is None:
            self._make_finder(choice)
        if found is None and not choice.asked_for and Feature.ABOVE_USER not in choice.backend.features:
            if or_next or is_blind(choice.backend, query.address):
                return self._search_above(query)
        return found

    def _search(self, choice: Choice, query: Query) -> Region | None:
        """Goes on above what passed the kernel's part of the filter and did not pass ours."""
        with self._reader.question():
            while True:
                assert query.address is not None
                choice, space = self._asked(choice, query)
                found = space.part(query.where).find(query.address, or_next=query.or_next)
                is_walk = query.or_next and Feature.WALK in choice.backend.features
                if found is not None or not is_walk or len(space) < query.limit:
                    return found
                above = self._above(space, query.address, choice)
                query = replace(query, address=above, limit=min(query.limit * 4, _LARGEST_STEP))

    def _above(self, space: AddressSpace, address: int, choice: Choice) -> int:
        """Where a walk goes on that was to begin at an address. Raises MalformedData when that is no way on."""
        end = space[-1].end
        if end > address:
            return end
        source = choice.backend.source
        expected = f"regions at or above {address:#x}, where the walk was to go on"
        raise MalformedData(source, 0, expected, pid=self.pid, target=self._target.name, backend=choice.backend.name)

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
        whatever takes less time. Where another backend answers the one than the
        other, what only one of them tells depends on it (Linux: `page_size` is None where the map was read); a backend
        named in `open` tells the same each time. Raises what `snapshot` raises.
        """
        numbers = _addresses(addresses)
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
            space = self._reader.space_directly(whole, WHOLE_MAP, most=len(addresses) * REGIONS_A_QUESTION)
            if space is not None:
                return space.find_many(addresses)
        found = finder.find_many(addresses)
        if not isinstance(found, NotImplementedType):
            return found
        self._forget_stale_finder()
        return None

    def _make_finder(self, choice: Choice) -> None:
        if self._is_closed:
            return
        self._finder = self._reader.finder(choice)
        if self._finder is not None:
            import weakref

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
        """The region at the address, the one before and the one after. Raises what `snapshot` raises.

        Guards that no map shows (Linux: MADV_GUARD_INSTALL) are looked for in these three: the one at the address, and
        the next on both sides, are entries as `snapshot(guards=True)` has them, where they are told.
        """
        return self.neighbours_in(self.snapshot(), address)

    def neighbours_in(self, space: AddressSpace, address: int) -> Neighbours:
        """The same, in a map that was read already; without the guards in one with the memory in use, which is told of
        whole regions. Raises NoSuchProcess, UsageError, TargetLost.
        """
        from vmatlas.model.pages import PageState

        check_space(space)
        place = _address(address)
        found = space.neighbours(place)
        near = [each for each in found if each is not None]
        if not near or space.origin.guards or near[0].resident is not None:
            return found
        try:
            guards = self.pages_in(space, between=(near[0].start, near[-1].end), of=PageState.GUARD)
        except (Unsupported, AccessDenied):  # the map is what is told
            return found
        return AddressSpace.of(near, space.origin).with_guards(guards).neighbours(place) if guards else found

    def iterate(self, *, where: Filter | str | None = None, **criteria: Unpack[Criteria]) -> Iterator[Region]:
        """The regions one after another, without keeping them: a backend that can walk is asked piece by piece.

        Pieces are read at different times. A region that grows downward, or merges with the one below, between two of
        them can overlap the last region of the piece before; otherwise none is given twice. Raises what `snapshot`
        raises.
        """
        wanted = Filter.of(where, **criteria)
        whole = Query(where=wanted, residency=self.needs_residency(wanted))
        choice = self.choice(whole)
        if Feature.WALK not in choice.backend.features:
            yield from self.snapshot(where=wanted)
            return
        yield from self._walk(choice, replace(whole, address=0, or_next=True, limit=_FIRST_STEP))

    def _walk(self, choice: Choice, query: Query) -> Iterator[Region]:
        """The regions from the query's address on, by a backend that can walk, piece by piece."""
        question = self._reader.question()
        while query.address is not None and query.address < _TOP:
            with question:  # all steps are one question; what is done with the regions between them is none of it
                choice, space = self._asked(choice, query)
            if Feature.WALK not in choice.backend.features:  # it tells all, those below, too
                yield from (region for region in space.part(query.where) if region.end > query.address)
                return
            yield from space.part(query.where)
            if len(space) < query.limit:
                return
            above = self._above(space, query.address, choice)
            query = replace(query, address=above, limit=min(query.limit * 4, _LARGEST_STEP))

    def memory(self) -> MemoryUse:
        """The memory in use of the whole process: no map is made where the system tells it so (Linux: smaps_rollup).

        Elsewhere, and where the kernel has no such file, it is the sum over the regions: see `AddressSpace.memory`.
        Nothing is told of a process of the kernel.

        Raises NoSuchProcess, AccessDenied, TornRead, TargetLost, and Unsupported where no backend tells it.
        """
        try:
            choice = self.choice(TOTALS)
            return self._totals(choice, self._ask_totals(choice))
        except Unsupported:
            return self.snapshot(residency=True).memory.use

    def _ask_totals(self, choice: Choice) -> Capture:
        try:
            with self._reader.question():
                return self._process.acquire(choice.backend, TOTALS)
        except VmatlasError as error:
            raise error.located(pid=self.pid, target=self._target.name, backend=choice.backend.name) from None

    def _totals(self, choice: Choice, capture: Capture) -> MemoryUse:
        backend = choice.backend
        if not isinstance(backend, TellsTotals):
            raise Unsupported(f"the backend '{backend.name}' does not tell totals", backend=backend.name)
        try:
            return backend.totals(capture)
        except VmatlasError as error:
            raise error.located(pid=self.pid, target=self._target.name, backend=backend.name) from None

    def pages(
        self,
        *,
        where: Filter | str | None = None,
        between: tuple[int, int] | None = None,
        of: PageState | None = None,
        **criteria: Unpack[Criteria],
    ) -> PageRuns:
        """What lies inside the regions: runs of pages that are in one of the states `of`, with the states they are in.

        `where` and `criteria` say in which regions, as in `snapshot`; `between` is a range of addresses, [start, end).
        Without `of` it is all that costs little: PRESENT, SWAPPED, ZERO, HUGE and GUARD, as far as they are told here.
        `PageRuns.told` says which are: what a kernel cannot tell is not in it. Pages in none of the states, never
        touched above all, are in no run. The map is read first, and the pages after it: what is mapped or unmapped
        meanwhile is not seen, or read as untouched.

        On Linux by PAGEMAP_SCAN (6.7), else by /proc/PID/pagemap, which takes longer, and tells less (EXCLUSIVE is told
        by it alone): the plugin vmatlas-linux-pagemap. Raises what `snapshot` raises; Unsupported also where nothing
        tells the states that were asked for.
        """
        from vmatlas.model.pages import USUAL, check_range, check_state

        if of is not None:
            check_state(of)
        start, end = (0, _TOP) if between is None else check_range(between)
        wanted = Filter.of(where, **criteria) if where is not None or criteria else ANY
        passes_all = wanted is ANY or wanted == ANY  # the former takes no comparison of thirty fields
        source, system = self._pages.source(of or USUAL, all_of_it=of is not None), self._target.system_info
        if passes_all and source.passes_holes and system.pointer_width == 64:
            # To a kernel of 32 bits a range that is wider than its addresses is another one.
            page = system.page_size
            first, last = start // page * page, min(-(-end // page) * page, _TOP - page)
            ranges: tuple[tuple[int, int], ...] = ((first, last),) if first < last else ()
        elif between is None:
            space = self.snapshot(where=wanted)
            ranges = _whole_pages(space.columns.start, space.columns.end, system.page_size)
        else:
            regions = list(self._regions_in(start, end, wanted))
            edges = [each.start for each in regions], [each.end for each in regions]
            ranges = _whole_pages(*edges, system.page_size, start, end)
        return self._pages.runs(source, of or USUAL, ranges).within(start, end)

    def _regions_in(self, start: int, end: int, wanted: Filter) -> Iterator[Region]:
        """The regions that pass and reach into a range: where somebody can walk, no more of the map is read."""
        query = Query(
            address=start, or_next=True, limit=_FIRST_STEP, residency=self.needs_residency(wanted), where=wanted
        )
        choice = self.choice(query)
        if Feature.WALK not in choice.backend.features:
            yield from self.snapshot(where=wanted)
            return
        for region in self._walk(choice, query):
            if region.start >= end:
                return
            yield region

    def pages_in(
        self, space: AddressSpace, *, between: tuple[int, int] | None = None, of: PageState | None = None
    ) -> PageRuns:
        """The same, of the regions of a map that was read already. Raises what `pages` raises."""
        from vmatlas.model.pages import USUAL, check_range, check_state

        check_space(space)
        if of is not None:
            check_state(of)
        start, end = (0, _TOP) if between is None else check_range(between)
        source = self._pages.source(of or USUAL, all_of_it=of is not None)
        ranges = _whole_pages(space.columns.start, space.columns.end, space.system.page_size, start, end)
        return self._pages.runs(source, of or USUAL, ranges).within(start, end)

    def threads(self) -> tuple[Thread, ...] | None:
        """Its threads, each with its name and where its stack pointer stands, as far as that may be asked.

        None where the system does not tell. On Linux: two small files of each thread, of at most 4,096 (256 through an
        agent); a thread that ends meanwhile is left out. Raises TargetLost.
        """
        stream = self._threads_told()
        return None if stream is None else threads_of(stream, self._target.system_info.system, self.pid)

    def numa(self) -> tuple[NumaUse, ...]:
        """On which memory nodes its pages lie, by region, in order. Nothing is told of a process of the kernel's own.

        On Linux by /proc/PID/numa_maps: the kernel walks all page tables. Raises what `snapshot` raises; Unsupported
        where the system has no such nodes, or does not tell.
        """
        told = self._process.numa_told() if isinstance(self._process, TellsNuma) else None
        known = registry.system(self._target.system_info.system)
        if told is None or not isinstance(known, ReadsNuma):
            raise Unsupported(
                "it is not told here on which memory nodes pages lie (Linux: CONFIG_NUMA)",
                pid=self.pid,
                target=self._target.name,
            )
        return known.numa_of(told, self.pid)

    def clears_marks(self) -> ClearsMarks | None:
        """What clears the marks of its pages; None where nobody can. For `vmatlas.operations`."""
        return self._process if isinstance(self._process, ClearsMarks) else None

    def _threads_told(self) -> bytes | None:
        return self._process.threads_told() if isinstance(self._process, TellsThreads) else None

    @arguments.flags_checked
    def capture(
        self, *, residency: bool = False, build_ids: bool = False, threads: bool = False, guards: bool = False
    ) -> Capture:
        """The kernel's bytes for the whole map, found to be whole and consistent; with `residency`, those of the totals
        as well, where the system tells them (`replay_memory`); with `threads`, what it tells of those; with `guards`,
        what it tells of guards that no map shows: `replay` then has them as `snapshot(guards=True)` has.

        Raises what `snapshot` raises."""
        if guards and residency:
            raise _not_both()
        query = Query(residency=residency, build_ids=build_ids)
        found, space = self._reader.read(self.choice(query), query)
        if guards:
            found = self._with_guards(found, space)
        if residency:
            found = self._with_totals(found)
        if threads and (told := self._threads_told()) is not None:
            found = replace(found, streams={**found.streams, THREADS: told})
        # Of another machine it would take one more question, which a slow line feels.
        limit = self.stack_limit() if threads or self._target.name == "local" else None
        return replace(found, name=self.name, number_inside=self.number_inside, stack_limit=limit)

    def _with_guards(self, found: Capture, space: AddressSpace) -> Capture:
        """What tells the guards beside the map, asked for just after it."""
        from vmatlas.model.pages import PageState

        source = self._pages.source(PageState.GUARD, all_of_it=True)
        ranges = _whole_pages(space.columns.start, space.columns.end, space.system.page_size)
        told = self._pages.read(source, PageState.GUARD, ranges)[0]
        return replace(found, streams={**found.streams, source.stream: told.stream(source.stream)})

    def _with_totals(self, found: Capture) -> Capture:
        """The totals beside the map, asked for just after it. They are left out of what has ended meanwhile."""
        try:
            choice = self.choice(TOTALS)
            if choice.backend.name != found.backend:
                return found
            totals = self._ask_totals(choice)
        except (Unsupported, NoSuchProcess):
            return found
        told = {name: content for name, content in totals.streams.items() if name not in found.streams and content}
        return replace(found, streams={**found.streams, **told})

    def watch(
        self,
        interval: float = 1.0,
        *,
        residency: bool = False,
        others: bool = False,
        wait: Callable[[float], object] = time.sleep,
    ) -> Iterator[Difference]:
        """What changes, each time that something does; ends when the process ends.

        Looks every `interval` seconds, and costs little when nothing changed: the kernel's bytes are compared with
        those of the last look, and nothing is made of them. What changes and changes back between two looks is not
        seen. What other processes change is no change, unless `others`: see `diff`. `wait` sleeps for some seconds;
        what it raises ends the watch. Raises what `snapshot` raises, but
        NoSuchProcess only for a process that was gone at the first look.
        """
        try:
            is_interval = not isinstance(interval, bool) and 0 <= interval <= arguments.LONGEST
        except (TypeError, OverflowError):
            is_interval = False
        residency, others = arguments.flag(residency, "residency"), arguments.flag(others, "others")
        arguments.function(wait, "wait")
        if not is_interval:
            raise UsageError(f"{arguments.shown(interval)} is no interval", hint="give seconds, from 0 to a year")
        return self._watch(interval, Query(residency=residency), others, wait)

    def _watch(
        self, interval: float, query: Query, others: bool, wait: Callable[[float], object]
    ) -> Iterator[Difference]:
        from vmatlas.analysis import diff

        choice = self.choice(query)
        seen, before = self._reader.read(choice, query)
        while True:
            wait(interval)
            if self._reader.reads_like(choice, seen):
                continue
            try:
                capture, after = self._reader.read(choice, query)
            except NoSuchProcess:
                return
            if capture.streams == seen.streams:
                continue
            difference = diff(before, after, others=others)
            seen, before = capture, after
            if difference:
                yield difference

    def elf_address(self, address: int, region: Region | None = None) -> int | None:
        """The address of a mapped byte in the addresses of its ELF file: what `addr2line` and `objdump` take.

        For programs, position-independent or not, shared objects, their data and their zeros (.bss), of every
        processor. `region` is the one that `find` gave for the address, to save the question. None where the address
        lies in no such file, and where the file cannot be read: it takes the right to follow /proc/PID/map_files, or
        that it is the program itself, or still lies at its path, as the process sees it (another file there is not
        taken for it).
        Raises what `snapshot` raises.
        """
        from vmatlas.symbols.places import elf_place

        number = _address(address)
        if region is not None:
            check_region(region)
        at = self.find(number) if region is None else region
        if at is None or not at.covers(number):
            return None
        page = self._target.system_info.page_size
        found = elf_place(number, at, elf_of=self._elf, lookup=self.find, page=page)
        return None if found is None else found[0]

    def opens_files(self) -> OpensFiles | None:
        """What opens the files that this process has mapped; None where its target or its system does not."""
        return self._process if isinstance(self._process, OpensFiles) else None

    def file_size(self, region: Region) -> int | None:
        """Bytes in the very file that a region shows, as it is now, whatever it is called; None where it has none, and
        where that is not told."""
        from vmatlas.symbols.places import OF_FILES

        check_region(region)
        if not region.inode or region.kind not in OF_FILES or not isinstance(self._process, ReadsFiles):
            return None
        return self._process.file_size(region)

    def why_unread(self, region: Region) -> str | None:
        """Why nothing is read of the file that a region shows, in words: no right to, or it is gone, or its file system
        may not answer, or a sandbox refuses the call.

        None where it is read, where the region shows none, and where no file is read at all (a system without).
        """
        check_region(region)
        if not self._reads(region) or not isinstance(self._process, ReadsFiles):
            return None
        return self._process.why_unread(region)

    @staticmethod
    def _reads(region: Region) -> bool:
        """Whether a region can show a file that is read."""
        from vmatlas.symbols.places import OF_FILES

        return region.path is not None and region.kind in OF_FILES

    def _elf(self, region: Region) -> Elf | None:
        """The program headers of the file that a region shows; read once for each file."""
        key = region.device, region.inode, region.path
        if key not in self._elves:
            from vmatlas.symbols.elf import HEAD, parse_elf

            head = self._process.file_head(region, HEAD) if isinstance(self._process, ReadsFiles) else None
            self._elves[key] = None if head is None else parse_elf(head)
        return self._elves[key]

    def guard_at(self, address: int) -> bool | None:
        """Whether a guard page lies there that the map does not show (Linux: MADV_GUARD_INSTALL); None: not told."""
        place = _address(address)
        if isinstance(self._process, TellsGuards):
            return self._process.guard_at(place)
        from vmatlas.model.pages import PageState

        try:
            return self.pages(between=(place, place + 1), of=PageState.GUARD).find(place) is not None
        except Unsupported:
            return None

    def stack_limit(self) -> int | None:
        """Bytes that a stack which grows by itself may have now (Linux: "Max stack size" of /proc/PID/limits).

        2**64 - 1 where there is no limit; None where that is not told (other systems).
        """
        return self._process.stack_limit() if isinstance(self._process, TellsStackLimit) else None

    def file_lookup(self) -> Callable[[Region], FileNow] | None:
        """What stands now at the path of a mapped file: what is asked of the file system.

        For as long as the handle is open. None where the target's file system cannot be asked.
        """
        return self._process.file_now if isinstance(self._process, SeesFiles) else None

    def evidence(self) -> Evidence:
        """What `audit` may ask beside the map, for as long as the handle is open; None in it is not told here."""
        from vmatlas.analysis.audit.evidence import Evidence

        process = self._process
        sees = process if isinstance(process, SeesFiles) else None
        system: object = LOCAL.system if self._target is LOCAL else None
        limits = system if isinstance(system, LimitsRegions) else None
        members = system if isinstance(system, TellsMembership) else None
        return Evidence(
            file_now=None if sees is None else sees.file_now,
            look_again=self._with_flags,
            guard_at=self.guard_at if isinstance(process, TellsGuards) else None,
            threads=self.threads,
            hidden_guards=self._hidden_guards,
            file_rights=None if sees is None else sees.file_rights,
            seals=None if sees is None else sees.seals,
            elf=self._elf if isinstance(process, ReadsFiles) else None,
            changed=self._copied,
            most_regions=None if limits is None else limits.most_regions,
            known_files=None if sees is None else sees.known_files,
            unmounted=None if sees is None else sees.unmounted,
            misnamed=None if sees is None else sees.misnamed,
            belongs_to=None if members is None else self._belonging(members.belongs_to),
            doubt=None if members is None else self._belonging(members.doubt),
        )

    def _hidden_guards(self) -> list[tuple[int, int]] | None:
        """The guards that no map shows; None where they are not told."""
        from vmatlas.model.pages import PageState

        try:
            return [(run.start, run.end) for run in self.pages(of=PageState.GUARD)]
        except (Unsupported, AccessDenied):
            return None

    def _with_flags(self) -> AddressSpace | None:
        """The map with what tells the parts of a stack; None where the backend that was named does not tell it."""
        with contextlib.suppress(Unsupported, UsageError):
            return self.snapshot(residency=True)
        return None

    def _copied(self, ranges: Iterable[tuple[int, int]]) -> list[tuple[int, int]] | None:
        """Of ranges of mapped files the pages that are copies; None where pages are not told."""
        from vmatlas.model.pages import PageState

        of = PageState.ANONYMOUS | PageState.SWAPPED
        try:
            found = self._pages.runs(self._pages.source(of, all_of_it=True), of, tuple(ranges))
        except (Unsupported, AccessDenied):
            return None
        return [(run.start, run.end) for run in found]

    def _belonging(self, asks: Callable[[int, int | None, str], str | None]) -> Callable[[str], str | None]:
        return functools.cache(lambda what: asks(self.pid, self.start_time, what))


def _not_both() -> UsageError:
    return UsageError(
        "guards go without the memory in use, which is told of whole regions",
        hint="ask for the one, then for the other",
    )


def _whole_pages(
    starts: Iterable[int], ends: Iterable[int], page: int, start: int = 0, end: int = _TOP
) -> tuple[tuple[int, int], ...]:
    """The parts of a range of addresses that regions cover, in whole pages; those that touch are one, and those that
    overlap, as where two pieces of a walk meet (`Process.iterate`).
    """
    found: list[tuple[int, int]] = []
    lowest, highest = start // page * page, -(-end // page) * page
    for low, high in zip(starts, ends, strict=True):
        first, last = max(low, lowest), min(high, highest)
        if first >= last:
            continue
        while found and found[-1][1] >= first:
            below = found.pop()
            first, last = min(first, below[0]), max(last, below[1])
        found.append((first, last))
    return tuple(found)


def threads_of(stream: bytes, system: str, pid: int) -> tuple[Thread, ...] | None:
    """What a system of that name told of threads. Raises MalformedData, and Unsupported where no plugin knows it."""
    known = registry.system(system)
    return known.threads_of(stream, pid) if isinstance(known, ReadsThreads) else None


def _lacks_names(space: AddressSpace, backend: Backend) -> bool:
    """Whether a file has no name since the backend tells no such long one."""
    if space.incomplete is None or Feature.LONG_FILE_NAME in backend.features:
        return False
    return any(region.inode and region.path is None for region in space)


def _find_the_long_way(process: weakref.ref[Process], *arguments: Any, **more: Any) -> Region | None:
    """What a finder hands on. It does not keep the handle alive: that would stay open until garbage is collected."""
    asked = process()
    if asked is None:
        raise UsageError("the handle of the process is gone", hint="keep it for as long as it is asked")
    return Process.find(asked, *arguments, **more)
