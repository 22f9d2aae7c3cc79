"""An address space: the regions of one process at one moment, sorted and not overlapping. No I/O."""

from __future__ import annotations

import contextlib
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence

from vmatlas.arguments import flag, number, numbers, shown
from vmatlas.errors import MalformedData, UsageError, VmatlasError
from vmatlas.model.columns import MOST_REGIONS, Columns
from vmatlas.model.export import Exports
from vmatlas.model.filter import ANY, NOT_ALWAYS_TOLD, Criteria, Filter, check_filter, check_region
from vmatlas.model.memory import MemoryTotal
from vmatlas.model.region import UNKNOWN, Kind, Region
from vmatlas.model.system import Consistency, SystemInfo, Thread
from vmatlas.notebook import draw, repr_html
from vmatlas.values import NamedTuple, dataclass, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Unpack, overload

    from vmatlas.model.pages import PageRuns


class Gap(NamedTuple):
    """Addresses between two regions that no region covers: [start, end)."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Neighbours(NamedTuple):
    """What lies at an address and on both sides of it: the question of a crash handler."""

    before: Region | None
    """The last region that ends at or below the address."""
    at: Region | None
    """The region that covers the address."""
    after: Region | None
    """The first region that begins above the address."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an address space comes from."""

    system: SystemInfo
    pid: int
    backend: str
    """The name of the backend that gave it."""
    time: float
    """When it was read: seconds since 1970-01-01 UTC."""
    start_time: int | None = None
    """When the process started, in the system's own unit: with the pid, its identity."""
    thread: int | None = None
    """The thread that was asked, where one was."""
    target: str = "local"
    """The target's name."""
    consistency: Consistency = Consistency.PER_REGION
    incomplete: str | None = None
    """None, or why something may be missing."""
    private_adds_up: bool = True
    """Whether `private_resident` is a count of each region's own, of which totals can be made. FreeBSD tells the whole
    object's beside each part of it."""
    name: str | None = None
    """What the system called the process, in short, where it was asked."""
    number_inside: int | None = None
    """Its number in its own pid namespace, where that is another and was asked."""
    stack_limit: int | None = None
    """Bytes that a stack which grows by itself may have, as it was when this was captured; 2**64 - 1 where there is no
    limit. None where that was not asked, or is not told."""
    threads: tuple[Thread, ...] | None = None
    """Its threads just after the map was read, where they were asked for and the system tells them; else None."""
    guards: bool = False
    """Whether the guards that no map shows are entries of their own: see `AddressSpace.with_guards`."""


class AddressSpace(Exports, Sequence[Region]):
    """An immutable, sorted, non-overlapping sequence of regions.

    Regions are held in columns; a `Region` is made when one is asked for. Two address spaces are equal when their
    regions are, whatever their origin.
    """

    __slots__ = ("_entries", "columns", "origin")

    def __init__(self, columns: Columns, origin: Origin, *, entries: Columns | None = None) -> None:
        """`columns` must be in order (`Columns.first_disorder`); `entries` are the kernel's own, where they differ."""
        self.columns = columns
        self.origin = origin
        self._entries = entries

    @classmethod
    def of(cls, regions: Iterable[Region], origin: Origin) -> AddressSpace:
        """From regions in any order.

        Raises UsageError for what are no regions, and ValueError when two overlap, one is empty, or a number does not
        fit: addresses and sizes go from 0 to 2**64 - 2.
        """
        try:
            listed = list(regions)
        except TypeError:
            raise UsageError(f"{shown(regions)} is no set of regions", hint="give regions") from None
        for region in listed:
            check_region(region)
        try:
            columns = Columns.of(sorted(listed, key=lambda region: region.start))
        except OverflowError as error:
            raise ValueError(f"a region has a number that does not fit in 64 bits ({error})") from None
        if (row := columns.first_disorder()) is not None:
            raise ValueError(f"regions overlap or are empty at {columns.start[row]:#x}")
        return cls(columns, origin)

    @property
    def pid(self) -> int:
        """The process."""
        return self.origin.pid

    @property
    def start_time(self) -> int | None:
        """When the process started, in the system's own unit."""
        return self.origin.start_time

    @property
    def system(self) -> SystemInfo:
        """The system that the process runs on."""
        return self.origin.system

    @property
    def backend(self) -> str:
        """The backend that gave the regions."""
        return self.origin.backend

    @property
    def time(self) -> float:
        """When it was read: seconds since 1970-01-01 UTC."""
        return self.origin.time

    @property
    def consistency(self) -> Consistency:
        """What the kernel promised of the regions taken together."""
        return self.origin.consistency

    @property
    def incomplete(self) -> str | None:
        """None, or why something may be missing."""
        return self.origin.incomplete

    def __len__(self) -> int:
        return len(self.columns)

    if TYPE_CHECKING:

        @overload
        def __getitem__(self, index: int) -> Region: ...
        @overload
        def __getitem__(self, index: slice) -> AddressSpace: ...

    def __getitem__(self, index: int | slice) -> Region | AddressSpace:
        if isinstance(index, slice):
            rows = range(len(self))[index]
            if rows.step < 0:
                raise ValueError("an address space is sorted: a slice cannot run backward")
            return self._take(rows)
        row = operator.index(index)
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"region {shown(row)} of {len(self)}")
        return self.columns.region(row)

    def __iter__(self) -> Iterator[Region]:
        return self.columns.regions()

    def __contains__(self, value: object) -> bool:
        """Whether a region is one of these, or an address is covered."""
        if isinstance(value, Region):
            return self.find(value.start) == value
        return isinstance(value, int) and not isinstance(value, bool) and self._row(value) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AddressSpace):
            return NotImplemented
        return len(self) == len(other) and all(map(operator.eq, self, other))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<AddressSpace of pid {self.pid}: {len(self)} regions, {self.total:,} bytes, by {self.backend}>"

    _repr_html_ = repr_html
    picture = draw

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.columns, self.origin, self._entries)

    @property
    def total(self) -> int:
        """Bytes in all the regions together."""
        return sum(self.columns.end) - sum(self.columns.start)

    @property
    def memory(self) -> MemoryTotal:
        """The memory in use of all the regions together, where it was asked for (`residency`).

        Each number is a sum of the kernel's own, rounded for each region: on Linux `proportional` is less than that of
        `Process.memory` by less than 1,024 bytes a region.
        """
        return MemoryTotal.of((region.memory for region in self), private_adds_up=self.origin.private_adds_up)

    def _row(self, address: int) -> int | None:
        row = bisect_right(self.columns.start, address) - 1
        return row if row >= 0 and address < self.columns.end[row] else None

    def find(self, address: int, *, or_next: bool = False) -> Region | None:
        """The region that covers the address; with `or_next`, else the first one above it. O(log n).

        None for a number beyond 64 bits, too. Raises UsageError for what is no number, and no flag.
        """
        place = address if type(address) is int else _whole(address)
        row = self._row(place)
        if or_next is not False:
            or_next = flag(or_next, "or_next")
        if row is None:
            row = bisect_left(self.columns.start, place)
            if not or_next or row == len(self):
                return None
        return self.columns.region(row)

    def find_many(self, addresses: Iterable[int]) -> list[Region | None]:
        """The region that covers each address, in the order of the addresses. Each region is made once.

        None for a number beyond 64 bits, too: nothing can lie there.
        """
        try:
            listed = addresses if isinstance(addresses, array) else list(addresses)
        except TypeError:
            raise UsageError(f"{shown(addresses)} is no list of addresses", hint="find takes one") from None
        with contextlib.suppress(OverflowError, TypeError):
            return self.columns.find_many(listed if isinstance(listed, array) else numbers(listed))
        return [self.find(address) for address in listed]  # says which one is no address

    def neighbours(self, address: int) -> Neighbours:
        """The region at the address, the one before and the one after. O(log n)."""
        place = address if type(address) is int else _whole(address)
        at = self._row(place)
        after = bisect_right(self.columns.start, place)
        before = after - 1 if at is None else at - 1
        return Neighbours(
            self.columns.region(before) if before >= 0 else None,
            None if at is None else self.columns.region(at),
            self.columns.region(after) if after < len(self) else None,
        )

    def gaps(self) -> Iterator[Gap]:
        """The holes between regions, from the first region to the last."""
        columns = self.columns
        for row in range(1, len(columns)):
            if columns.end[row - 1] < columns.start[row]:
                yield Gap(columns.end[row - 1], columns.start[row])

    def where(self, where: Filter | str | None = None, **criteria: Unpack[Criteria]) -> AddressSpace:
        """The regions that pass a filter: a `Filter`, its text, or the keywords of `Filter.of`.

        Raises UsageError for text that is no filter, and for a number (`resident`, `private`, `page_size`, a key of the
        system's own) or a flag that no region here can have.
        """
        wanted = Filter.of(where, **criteria)
        if wanted is ANY or wanted == ANY:
            return self
        columns = self.columns
        return self._passing(
            wanted, [key for key, column in NOT_ALWAYS_TOLD.items() if getattr(columns, column) is not None]
        )

    def part(self, wanted: Filter) -> AddressSpace:
        """The same of a part of a map: what its regions do not tell, others of the map may, so it is not refused."""
        check_filter(wanted)
        return self if wanted is ANY or wanted == ANY else self._passing(wanted, NOT_ALWAYS_TOLD)

    def _passing(self, wanted: Filter, numbers: Iterable[str]) -> AddressSpace:
        if (wanted.asks_residency or wanted.wants_residency) and len(self):
            columns = self.columns
            wanted.check_told(numbers, columns.details, columns.flags or ())
        matches = wanted.matcher()
        return self._take([row for row, region in enumerate(self) if matches(region)])

    def entries(self) -> AddressSpace:
        """The kernel's own entries, where it splits regions further (QNX by residency); else the regions."""
        return self if self._entries is None else AddressSpace(self._entries, self.origin)

    def named(self, name: str | None, number_inside: int | None = None) -> AddressSpace:
        """The same, of a process that is called so, and has that number in its own pid namespace."""
        origin = replace(self.origin, name=name, number_inside=number_inside)
        return AddressSpace(self.columns, origin, entries=self._entries)

    def with_threads(self, threads: Iterable[Thread] | None) -> AddressSpace:
        """The same, of a process that has these threads: see `Origin.threads`. Raises UsageError."""
        told = None if threads is None else tuple(threads)
        if told is not None and (wrong := [each for each in told if not isinstance(each, Thread)]):
            raise UsageError(f"{shown(wrong[0])} is no thread", hint="vmatlas.Thread is one")
        return AddressSpace(self.columns, replace(self.origin, threads=told), entries=self._entries)

    def with_guards(self, pages: PageRuns) -> AddressSpace:
        """The same, with the guards that no map shows as entries of their own: of the kind GUARD, with all else as the
        region has it in which they lie, its rights too. What is left of that region stands before and behind them.

        `pages` are of this process, and tell GUARD. Raises UsageError for others, and for a map with the memory in use,
        which is told of whole regions; MalformedData where they would make more entries than `MOST_REGIONS`: a process
        may have a guard in every second page.
        """
        from vmatlas.model.pages import PageRuns, PageState

        if not isinstance(pages, PageRuns) or not pages.told & PageState.GUARD:
            raise UsageError(f"{shown(pages)} tell no guards", hint="Process.pages(of=PageState.GUARD) gives them")
        columns = self.columns
        if columns.resident is not None or columns.private_resident is not None:
            raise UsageError(
                "the memory in use is told of whole regions, not of what guards divide them into",
                hint="ask for the guards without residency",
            )
        origin = replace(self.origin, guards=True)
        rows: list[int] = []
        parts: list[tuple[int, int, bool]] = []
        last = 0
        for guard in pages.where(PageState.GUARD):
            if len(parts) > MOST_REGIONS:
                break
            row = max(bisect_right(columns.start, guard.start) - 1, 0)
            while row < len(columns) and columns.start[row] < guard.end:
                if columns.end[row] > guard.start:
                    at = columns.start[row]
                    if rows and rows[-1] == row:  # cut already: its last part is cut once more
                        at = parts.pop()[0]
                        rows.pop()
                    else:
                        rows += range(last, row)
                        parts += [(columns.start[each], columns.end[each], False) for each in range(last, row)]
                    last = row + 1
                    end = columns.end[row]
                    low, high = max(at, guard.start), min(end, guard.end)
                    cut = [(at, low, False), (low, high, True), (high, end, False)]
                    cut = [part for part in cut if part[0] < part[1]]
                    parts += cut
                    rows += [row] * len(cut)
                row += 1
        if not rows:
            return AddressSpace(columns, origin, entries=self._entries)
        rows += range(last, len(columns))
        parts += [(columns.start[each], columns.end[each], False) for each in range(last, len(columns))]
        if len(parts) > MOST_REGIONS:
            expected = f"at most {MOST_REGIONS:,} regions with the guards in them"
            raise MalformedData("pages", 0, expected, pid=self.pid, hint="without guards its map is told")
        made = columns.take(rows)
        for place, (start, end, is_guard) in enumerate(parts):
            if made.offset[place] != UNKNOWN:
                made.offset[place] += start - made.start[place]
            made.start[place], made.end[place] = start, end
            if is_guard:
                made.kind[place] = Kind.GUARD
        return AddressSpace(made, origin)

    def _take(self, rows: Sequence[int]) -> AddressSpace:
        return AddressSpace(self.columns.take(rows), self.origin)


class IncompleteResult(VmatlasError):
    """`strict=True` was asked for and something may be missing. `space` is what was read."""

    def __init__(self, message: str, space: AddressSpace, *, target: str | None = None) -> None:
        super().__init__(message, pid=space.pid, target=target, backend=space.backend)
        self.space = space


def _whole(address: object) -> int:
    """An address of another type than int, as NumPy has its own; no float, which a large one would not fit."""
    try:
        return number(address)
    except TypeError:
        raise UsageError(f"{shown(address)} is no address", hint="give a whole number of bytes") from None


def check_space(space: object) -> None:
    """Raises UsageError for what is no address space: a pid, above all."""
    if not isinstance(space, AddressSpace):
        raise UsageError(f"{shown(space)} is no address space", hint="vmatlas.snapshot(PID) gives one")


def _restore(columns: Columns, origin: Origin, entries: Columns | None) -> AddressSpace:
    return AddressSpace(columns, origin, entries=entries)
