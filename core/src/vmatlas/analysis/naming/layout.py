"""A map as the rules look at it: what lies beside what, what has no name, which files are mapped. No I/O."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate

from vmatlas.model import AddressSpace, Kind, Protection, Region, Thread
from vmatlas.once import cached_property

KIB, MIB, GIB = 2**10, 2**20, 2**30

READ_WRITE = Protection.READ | Protection.WRITE
_OWN = (Kind.ANONYMOUS, Kind.GUARD)


class Layout:
    """The regions of a map by their rows, from the lowest."""

    def __init__(self, space: AddressSpace) -> None:
        self.space = space
        self.regions: Sequence[Region] = list(space)
        self.threads: Sequence[Thread] = space.origin.threads or ()
        self._starts = list(space.columns.start)
        self._counts: dict[str, list[int]] = {}

    @property
    def page(self) -> int:
        """Bytes of the system's base page."""
        return self.space.system.page_size

    @cached_property
    def is_wide(self) -> bool:
        """Whether the process has 64-bit pointers, as far as its map tells: something of it lies above 4 GiB."""
        user = [region.end for region in self.regions if region.start < 2**63]
        return self.space.system.pointer_width == 64 and bool(user) and user[-1] > 2**32

    @cached_property
    def nameless(self) -> Sequence[int]:
        """The rows that a guess is made of: private memory to which the kernel gives neither a path nor a name."""
        return [
            row
            for row, region in enumerate(self.regions)
            if region.path is None and region.name is None and region.kind in _OWN and not region.shared
        ]

    @cached_property
    def _own(self) -> frozenset[int]:
        return frozenset(self.nameless)

    def is_nameless(self, row: int) -> bool:
        """See `nameless`."""
        return row in self._own

    def is_data(self, row: int) -> bool:
        """Nameless, readable and writable."""
        return row in self._own and self.regions[row].protection == READ_WRITE

    def is_reserved(self, row: int) -> bool:
        """Nameless, without any right."""
        return row in self._own and not self.regions[row].protection

    def is_code(self, row: int) -> bool:
        """Nameless and executable."""
        return row in self._own and bool(self.regions[row].protection & Protection.EXECUTE)

    def below(self, row: int) -> int | None:
        """The row that ends where this one begins."""
        return row - 1 if row and self.regions[row - 1].end == self.regions[row].start else None

    def above(self, row: int) -> int | None:
        """The row that begins where this one ends."""
        following = row + 1 < len(self.regions) and self.regions[row + 1].start == self.regions[row].end
        return row + 1 if following else None

    def at(self, start: int) -> int | None:
        """The row that begins there."""
        row = bisect_left(self._starts, start)
        return row if row < len(self._starts) and self._starts[row] == start else None

    def covering(self, address: int) -> int | None:
        """The row that covers the address."""
        row = bisect_left(self._starts, address + 1) - 1
        return row if row >= 0 and address < self.regions[row].end else None

    def span(self, start: int, end: int) -> range | None:
        """The rows that fill [start, end) without a hole and reach beyond neither bound; None where there are none."""
        first, last = self.at(start), bisect_left(self._starts, end) - 1
        if first is None or last < first or self.regions[last].end != end:
            return None
        return range(first, last + 1) if self._holes[last] == self._holes[first] else None

    @cached_property
    def _holes(self) -> Sequence[int]:
        """By row: how many holes lie below it."""
        found, holes, end = [], 0, None
        for region in self.regions:
            holes += region.start != end
            found.append(holes)
            end = region.end
        return found

    def how_many(self, rows: range, what: Callable[[int], bool]) -> int:
        """Of so many rows, those that are `is_data`, `is_reserved` or `is_code`: at any length for the same cost, since
        a map may be made so that every row begins a range of many."""
        name = what.__name__
        counts = self._counts.get(name)
        if counts is None:
            counts = self._counts[name] = [0, *accumulate(map(what, range(len(self.regions))))]
        return counts[rows.stop] - counts[rows.start]

    def is_reservation(self, rows: range) -> bool:
        """Whether all of them are data, or reserved for it."""
        return self.how_many(rows, self.is_data) + self.how_many(rows, self.is_reserved) == len(rows)

    def runs(self) -> Iterator[range]:
        """Rows of nameless regions that touch each other, as many together as do."""
        first = last = None
        for row in self.nameless:
            if last is not None and self.below(row) == last:
                last = row
                continue
            if first is not None and last is not None:
                yield range(first, last + 1)
            first = last = row
        if first is not None and last is not None:
            yield range(first, last + 1)

    @cached_property
    def run_bounds(self) -> Mapping[int, tuple[int, int]]:
        """By row of a nameless region: [start, end) of all those together that it touches."""
        return {
            row: (self.regions[run.start].start, self.regions[run.stop - 1].end) for run in self.runs() for row in run
        }

    def file(self, pattern: str) -> str | None:
        """The file name, without its folder, of a mapped file that fits a pattern wholly; None where there is none."""
        fits = re.compile(pattern).fullmatch
        return next((name for name in self.file_names if fits(name)), None)

    @cached_property
    def file_names(self) -> Sequence[str]:
        """Of every mapped file, without folders, in order of address, once each."""
        paths = dict.fromkeys(region.path for region in self.regions if region.path is not None)
        return list(dict.fromkeys(path.rpartition("/")[2] for path in paths))


def size_of(size: int) -> str:
    """Bytes in powers of 1024, whole: "64 MiB"; where that is not whole, in KiB."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit:,} {name}"
    return f"{size:,} bytes"
