"""What lies inside regions: runs of pages that are in the same state, held column by column. No I/O.

A region says what may be there, its pages say what is: in memory, in swap, never touched, a guard that no map shows.
A gibibyte has 262,144 pages of 4 KiB, and mostly a handful of runs. A run takes 20 bytes.
"""

from __future__ import annotations

import enum
import operator
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import compress, count, islice
from typing import TYPE_CHECKING, Any, overload

from vmatlas.arguments import number, shown
from vmatlas.errors import UsageError
from vmatlas.model.export import PageExports
from vmatlas.model.filter import check_region
from vmatlas.notebook import repr_html
from vmatlas.values import NamedTuple, dataclass, field

if TYPE_CHECKING:
    from vmatlas.model.region import Region
    from vmatlas.model.space import Origin
    from vmatlas.model.system import SystemInfo


class PageState(enum.Flag):
    """What is told of a page. Which of these a system tells, `PageRuns.told` says; a page can be in several."""

    NONE = 0
    PRESENT = 1
    """In memory, and mapped: whatever its rights. The shared page of zeros is present, too."""
    SWAPPED = 2
    """Not in memory, and its content kept elsewhere. On Linux never told of shared memory; and a page that was not
    touched reads as swapped where userfaultfd watches it, and a guard where GUARD is not told (6.13 to 6.15)."""
    FILE = 4
    """In memory, and of a file or of a shared memory object."""
    ANONYMOUS = 8
    """In memory, and of neither (the shared page of zeros, too)."""
    ZERO = 16
    """Only read so far: the shared page of zeros is mapped there, which takes no memory."""
    HUGE = 32
    """Mapped as a part of a huge page: one of the system's own making, or one that was set aside (Linux: hugetlb, also
    before it is touched; not on POWER). On Linux a huge page that was split by a change of rights is none any more."""
    GUARD = 64
    """A guard that no map shows (Linux: MADV_GUARD_INSTALL): to touch it is a fault."""
    SOFT_DIRTY = 128
    """Written since the process's bits were last cleared (Linux: clear_refs), or in a mapping made since then."""
    WRITTEN = 256
    """Written since the process itself last protected it (Linux: userfaultfd, WP_ASYNC); of memory watched so alone."""
    EXCLUSIVE = 512
    """In memory, and mapped by this process alone."""

    @property
    def words(self) -> list[str]:
        """Its names, as text: "soft-dirty"."""
        return [(each.name or "").lower().replace("_", "-") for each in self]

    @classmethod
    def of(cls, words: Iterable[str]) -> PageState:
        """From its names. Raises UsageError."""
        found = cls.NONE
        for word in words:
            if word not in _WORDS:
                raise UsageError(f"'{word}' is no state of a page", hint=f"states: {', '.join(_WORDS)}")
            found |= _WORDS[word]
        return found


_WORDS = {state.words[0]: state for state in PageState}

USUAL = PageState.PRESENT | PageState.SWAPPED | PageState.ZERO | PageState.HUGE | PageState.GUARD
"""What is asked for when nothing is said: all that costs little. FILE and ANONYMOUS cost five times as much on Linux,
since the kernel looks at what it knows of each page."""


class PageRun(NamedTuple):
    """Pages side by side that are in the same state: [start, end)."""

    start: int
    end: int
    state: PageState
    told: PageState
    """Which states were asked for and told."""

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start

    def says(self, state: PageState) -> bool | None:
        """Whether the pages are in that state (in one of them, of several); None where none of it is told."""
        check_state(state)
        if state & self.state:
            return True
        return False if state & self.told == state else None

    def __repr__(self) -> str:
        return f"<PageRun {self.start:#x}-{self.end:#x} {' '.join(self.state.words) or 'nothing'}>"


def check_state(state: object) -> None:
    """Raises UsageError for what is no state of pages."""
    if not isinstance(state, PageState) or not state:
        raise UsageError(f"{shown(state)} is no state of a page", hint="give a vmatlas.PageState")


def check_range(between: object) -> tuple[int, int]:
    """A range of addresses, [start, end), as two numbers. Raises UsageError."""
    try:
        start, end = map(number, between)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        raise UsageError(f"{shown(between)} is no range of addresses", hint="give (start, end), in bytes") from None
    if not 0 <= start <= end <= 2**64:
        raise UsageError(f"{shown(between)} is no range of addresses", hint="start, then end, at most 2**64")
    return start, end


def _numbers() -> array[int]:
    return array("Q")


@dataclass(slots=True, eq=False)
class RunColumns:
    """One entry a run in each column. Sorted, not overlapping; no two that touch are in the same state."""

    start: array[int] = field(default_factory=_numbers)
    end: array[int] = field(default_factory=_numbers)
    state: array[int] = field(default_factory=lambda: array("I"))
    """The value of a `PageState`."""

    def __len__(self) -> int:
        return len(self.start)

    def take(self, rows: Iterable[int]) -> RunColumns:
        """The given rows, in the order given."""
        listed = rows if isinstance(rows, range) else list(rows)
        columns = (self.start, self.end, self.state)
        return RunColumns(*(array(each.typecode, map(each.__getitem__, listed)) for each in columns))

    def joined(self) -> RunColumns:
        """The same, with runs that touch and are in the same state as one."""
        starts, states = self.start.tolist(), self.state
        touching = list(map(operator.eq, islice(starts, 1, None), self.end.tolist()))
        if True not in touching:
            return self
        joins = bytes(map(operator.and_, touching, map(operator.eq, islice(states, 1, None), states)))
        if 1 not in joins:
            return self
        first = [True, *(not each for each in joins)]
        last = [*(not each for each in joins), True]
        return RunColumns(
            array("Q", compress(starts, first)),
            array("Q", compress(self.end, last)),
            array("I", compress(states, first)),
        )

    def telling(self, told: PageState) -> RunColumns:
        """The same, of which no more is told than these states: runs in none of them are left out."""
        kept = {state: state & told.value for state in set(self.state.tolist())}
        if all(kept.values()):
            if all(state == left for state, left in kept.items()):
                return self.joined()
            return RunColumns(self.start, self.end, array("I", map(kept.__getitem__, self.state))).joined()
        rows = [row for row, state in enumerate(self.state) if kept[state]]
        some = self.take(rows)
        return RunColumns(some.start, some.end, array("I", map(kept.__getitem__, some.state))).joined()

    def first_disorder(self) -> int | None:
        """The first row that is empty or backward, or begins before the row before it ends; None when all is right."""
        starts, ends = self.start.tolist(), self.end.tolist()
        if all(map(operator.lt, starts, ends)) and not any(map(operator.gt, ends, islice(starts, 1, None))):
            return None
        backward = next(compress(count(), map(operator.ge, starts, ends)), len(self))
        overlap = next(compress(count(1), map(operator.gt, ends, islice(starts, 1, None))), len(self))
        return min(backward, overlap)


class PageRuns(PageExports, Sequence[PageRun]):
    """An immutable, sorted, non-overlapping sequence of runs of pages: those that are in one of the states asked for.

    What lies between two runs is in none of them, or no memory at all: the map tells which. Two are equal when their
    runs are, and what is told of them.
    """

    __slots__ = ("columns", "incomplete", "origin", "told")

    def __init__(self, columns: RunColumns, origin: Origin, told: PageState, *, incomplete: str | None = None) -> None:
        """`columns` must be in order; see `of`. `told`: the states that were asked for and are told."""
        self.columns = columns
        self.origin = origin
        self.told = told
        self.incomplete = incomplete
        """None, or why something may be missing."""

    @classmethod
    def of(cls, runs: Iterable[PageRun], origin: Origin, told: PageState) -> PageRuns:
        """From runs in any order; those that touch and are in the same state become one.

        Raises UsageError for what are no runs, and ValueError when two overlap, one is empty, or one says what is not
        told.
        """
        try:
            listed = list(runs)
        except TypeError:
            raise UsageError(f"{shown(runs)} are no runs of pages", hint="give PageRun values") from None
        if wrong := [each for each in listed if not isinstance(each, PageRun)]:
            raise UsageError(f"{shown(wrong[0])} is no run of pages", hint="give PageRun values")
        listed.sort()
        columns = RunColumns(
            array("Q", (each.start for each in listed)),
            array("Q", (each.end for each in listed)),
            array("I", (each.state.value for each in listed)),
        )
        if (row := columns.first_disorder()) is not None:
            raise ValueError(f"runs overlap or are empty at {columns.start[row]:#x}")
        if untold := [each for each in listed if each.state & ~told]:
            raise ValueError(f"a run says what is not told: {untold[0]!r}")
        return cls(columns.joined(), origin, told)

    @property
    def pid(self) -> int:
        """The process."""
        return self.origin.pid

    @property
    def system(self) -> SystemInfo:
        """The system that the process runs on."""
        return self.origin.system

    def __len__(self) -> int:
        return len(self.columns)

    @overload
    def __getitem__(self, index: int) -> PageRun: ...
    @overload
    def __getitem__(self, index: slice) -> PageRuns: ...
    def __getitem__(self, index: int | slice) -> PageRun | PageRuns:
        if isinstance(index, slice):
            rows = range(len(self))[index]
            if rows.step < 0:
                raise ValueError("runs of pages are sorted: a slice cannot run backward")
            return self._of(self.columns.take(rows))
        row = operator.index(index)
        if row < 0:
            row += len(self)
        if not 0 <= row < len(self):
            raise IndexError(f"run {shown(row)} of {len(self)}")
        return self._run(row)

    def __iter__(self) -> Iterator[PageRun]:
        return map(self._run, range(len(self)))

    def __contains__(self, value: object) -> bool:
        """Whether a run is one of these, or an address lies in one."""
        if isinstance(value, PageRun):
            return self.find(value.start) == value
        return isinstance(value, int) and not isinstance(value, bool) and self.find(value) is not None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PageRuns):
            return NotImplemented
        ours, theirs = self.columns, other.columns
        return (self.told, ours.start, ours.end, ours.state) == (other.told, theirs.start, theirs.end, theirs.state)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<PageRuns of pid {self.pid}: {len(self)} runs, {self.total:,} bytes, by {self.origin.backend}>"

    _repr_html_ = repr_html

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (self.columns, self.origin, self.told, self.incomplete)

    def _run(self, row: int) -> PageRun:
        columns = self.columns
        return PageRun(columns.start[row], columns.end[row], PageState(columns.state[row]), self.told)

    def _of(self, columns: RunColumns) -> PageRuns:
        return PageRuns(columns, self.origin, self.told, incomplete=self.incomplete)

    @property
    def total(self) -> int:
        """Bytes in all the runs together."""
        return sum(self.columns.end) - sum(self.columns.start)

    def find(self, address: int) -> PageRun | None:
        """The run in which an address lies; None where it lies in none. O(log n)."""
        try:
            place = number(address)
        except TypeError:
            raise UsageError(f"{shown(address)} is no address", hint="give a whole number of bytes") from None
        row = bisect_right(self.columns.start, place) - 1
        return self._run(row) if row >= 0 and place < self.columns.end[row] else None

    def within(self, start: int, end: int) -> PageRuns:
        """What lies in a range of addresses, [start, end); runs that reach beyond it are cut.

        Raises UsageError for what is no range.
        """
        start, end = check_range((start, end))
        columns = self.columns
        if not len(columns) or (start <= columns.start[0] and columns.end[-1] <= end):
            return self
        first, last = bisect_right(columns.end, start), bisect_left(columns.start, end)
        part = RunColumns(columns.start[first:last], columns.end[first:last], columns.state[first:last])
        if len(part):
            part.start[0] = max(part.start[0], start)
            part.end[-1] = min(part.end[-1], end)
        return self._of(part)

    def of_region(self, region: Region) -> PageRuns:
        """What lies in a region. Raises UsageError for what is none."""
        check_region(region)
        return self.within(region.start, region.end)

    def telling(self, told: PageState) -> PageRuns:
        """The same, as if no more than these states had been asked for. Raises UsageError for what are none."""
        check_state(told)
        if self.told & told == self.told:
            return self
        left = self.told & told
        return PageRuns(self.columns.telling(left), self.origin, left, incomplete=self.incomplete)

    def where(self, state: PageState) -> PageRuns:
        """The runs that are in one of these states. Raises UsageError where none of it was asked for and told."""
        self._check_told(state)
        wanted = state.value
        return self._of(self.columns.take(row for row, each in enumerate(self.columns.state) if each & wanted))

    def bytes_of(self, state: PageState) -> int | None:
        """Bytes in pages that are in one of these states; None where not all of it is told."""
        check_state(state)
        if state & self.told != state:
            return None
        wanted, columns = state.value, self.columns
        rows = zip(columns.start, columns.end, columns.state, strict=True)
        return sum(end - start for start, end, each in rows if each & wanted)

    def sums(self) -> dict[PageState, int]:
        """Bytes in each state that is told. A page in two states counts in both."""
        found = dict.fromkeys(self.told, 0)
        of_each: dict[int, int] = {}
        for start, end, state in zip(self.columns.start, self.columns.end, self.columns.state, strict=True):
            of_each[state] = of_each.get(state, 0) + end - start
        for state, size in of_each.items():
            for each in PageState(state):
                found[each] += size
        return found

    def _check_told(self, state: PageState) -> None:
        check_state(state)
        if not state & self.told:
            raise UsageError(
                f"it is not told which pages are {' or '.join(state.words)}",
                hint=f"asked for and told: {', '.join(self.told.words) or 'nothing'}",
            )


def _restore(columns: RunColumns, origin: Origin, told: PageState, incomplete: str | None) -> PageRuns:
    return PageRuns(columns, origin, told, incomplete=incomplete)
