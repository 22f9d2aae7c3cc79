"""What grows over time, of many maps of one process: each kind, use, file, name, and nameless memory. Pure.

Nameless memory is put together by where it lies: ranges that touch at any moment are one. What is there at the last
moment, and was at the first or has grown since it came, is a group by its addresses; of the rest, which came as it is
or went, all of one protection and one class of sizes are a group.
"""

from __future__ import annotations

import dataclasses
import itertools
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar, overload

from vmatlas import arguments
from vmatlas.analysis.slopes import Judgement, Verdict, judged
from vmatlas.analysis.summary import use_of
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Region
from vmatlas.model.columns import Columns
from vmatlas.model.memory import FIELDS, SWAPPED
from vmatlas.model.region import UNKNOWN
from vmatlas.model.space import check_space

MOST_MOMENTS = 240
"""So many at the most are kept and compared, as evenly spread as may be, the first and the last among them."""

GROUPS = ("nameless", "name", "file", "guess", "kind", "use", "all")
"""What regions are put together by. The first three are all memory, each once; so are kinds, uses, and "all". A guess
is at nameless memory that is there at the last moment."""

SINGLE = GROUPS[:3]

MEASURES = ("held", *(name for name in FIELDS if not name.startswith("proportional_")))
"""Numbers of the memory in use that may be followed: those of `MemoryUse`, and `held`: in memory or in swap."""

_RANKS = {verdict: rank for rank, verdict in enumerate(Verdict)}
_Item = TypeVar("_Item")


@dataclass(frozen=True, slots=True, repr=False)
class Trend:
    """What became of some regions that have something in common."""

    by: str
    """Of `GROUPS`."""
    key: str
    """A kind, a use, a path (with " (deleted)" where it is), a name; of nameless memory its addresses or its class."""
    verdict: Verdict
    slope: float
    """Bytes of memory in use an hour (of address space, where the memory in use is not told)."""
    low: float
    """At the least, with a confidence of 95 %."""
    high: float
    """At the most."""
    chance: float | None
    """How likely such an order is where nothing grows nor shrinks (0.01: confidence 99 %). None: too few moments."""
    first: int
    """Bytes at the first moment."""
    last: int
    """Bytes at the last."""
    space_slope: float
    """Bytes of address space an hour."""
    space_first: int
    space_last: int
    where: tuple[int, int] | None = None
    """Of nameless memory: the range, at the last moment, of the region that gained most."""
    guess: str | None = None
    """What that region seems to be, with a mark: a guess (`name_regions`)."""

    def __repr__(self) -> str:
        return f"<Trend of {self.by} {self.key!r}: {self.verdict.value}, {self.slope:+,.0f} bytes an hour>"

    @property
    def gained(self) -> int:
        """Bytes from the first moment to the last."""
        return self.last - self.first


@dataclass(frozen=True, slots=True, repr=False)
class Trends(Sequence[Trend]):
    """What became of each group, what grows first; single groups before the kinds and uses that they are part of."""

    found: tuple[Trend, ...]
    moments: int
    """How many maps were compared."""
    seconds: float
    """From the first to the last."""
    measure: str
    """What was followed: one of `MEASURES`, or "size" (of address space)."""
    last: AddressSpace

    def __len__(self) -> int:
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> Trend: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Trend]: ...

    def __getitem__(self, index: int | slice) -> Trend | Sequence[Trend]:
        return self.found[index]

    def __repr__(self) -> str:
        grows = sum(each.verdict is Verdict.GROWS and each.by in SINGLE for each in self.found)
        return f"<Trends of pid {self.last.pid}: {grows} grow, of {self.moments} moments in {self.seconds:,.0f} s>"

    def of(self, by: str) -> list[Trend]:
        """Those of one of `GROUPS`."""
        return [each for each in self.found if each.by == by]


def trends(spaces: Iterable[tuple[float, AddressSpace]], measure: str = "held") -> Trends:
    """What grows in one process, of its maps at several times (seconds of a clock that nobody sets, not going back).

        with vmatlas.Series.open("leak.vmatlas") as series:
            for each in vmatlas.trends_of(series):
                print(each.verdict.value, each.slope, each.by, each.key)

    The maps are taken one by one and not kept; the same object again says that nothing changed. `measure`: which number
    of the memory in use is followed (`MEASURES`); where it is not told, the address space is.

    Raises UsageError for fewer than two moments, and for what is no map.
    """
    followed = Followed(measure)
    for time, space in _given(spaces):
        followed.look(time, space)
    return followed.trends()


def _given(spaces: Iterable[tuple[float, AddressSpace]]) -> Iterator[tuple[float, AddressSpace]]:
    wrong = UsageError(f"{arguments.shown(spaces)} is no series of times and maps", hint="give (seconds, space) pairs")
    for each in arguments.iterated(spaces, wrong):
        if not (isinstance(each, tuple) and len(each) == 2 and isinstance(each[0], int | float)):
            raise wrong
        check_space(each[1])
        yield each


class _Piece(NamedTuple):
    """A region without a name."""

    start: int
    end: int
    rights: str
    held: int


@dataclass(slots=True)
class _Moment:
    """What one map adds up to."""

    time: float
    groups: dict[tuple[str, str], tuple[int, int]]
    """Address space and memory in use, by what regions have in common."""
    pieces: list[_Piece]
    told: int
    """Of how many regions the memory in use is told."""
    untold: int
    """Of how many it is not, which may have some: regions that changed while they were read."""


@dataclass(slots=True)
class _Row:
    """The numbers of one group, one for each moment."""

    sizes: list[int]
    held: list[int]


class Followed:
    """Takes maps one after another, and keeps what they add up to of as many as are wanted."""

    def __init__(self, measure: str = "held") -> None:
        """Raises UsageError for what is none of `MEASURES`."""
        if measure not in MEASURES:
            raise UsageError(
                f"{arguments.shown(measure)} is no measure of memory in use", hint=f"there are {', '.join(MEASURES)}"
            )
        self._measure = measure
        self._moments: list[_Moment] = []
        self._step = self._seen = 0
        self._newest: tuple[AddressSpace, _Moment] | None = None

    def look(self, time: float, space: AddressSpace) -> None:
        """One more map. Raises UsageError where the time goes back."""
        if self._newest is not None and time < self._newest[1].time:
            raise UsageError("the times of the maps go back", hint="seconds of time.monotonic, or since the first")
        if self._newest is not None and space is self._newest[0]:
            known = self._newest[1]
            moment = _Moment(time, known.groups, known.pieces, known.told, known.untold)
        else:
            moment = _added_up(time, space, self._measure)
        self._newest = space, moment
        if self._seen % (self._step + 1) == 0:
            self._moments.append(moment)
            if len(self._moments) > MOST_MOMENTS:
                self._moments, self._step = self._moments[::2], 2 * self._step + 1
        self._seen += 1

    def trends(self) -> Trends:
        """What grows in them. Raises UsageError for fewer than two."""
        if self._newest is None or self._seen < 2:
            raise UsageError("what grows is told of two moments and more", hint="record more of them")
        space, newest = self._newest
        moments = self._moments if self._moments[-1] is newest else [*self._moments, newest]
        is_told = any(moment.told for moment in moments)
        whole = [moment for moment in moments if not moment.untold]
        if is_told and 2 * len(whole) >= max(len(moments), 4):  # what lacks something would look like memory given back
            moments = whole
        rows = _rows(moments)
        from vmatlas.analysis.naming import name_regions

        guesses = name_regions(space)
        nameless, places = _nameless(moments, {start: guess.group_label for start, guess in guesses.items()})
        times = [moment.time for moment in moments]
        found = []
        for (by, key), row in [*rows.items(), *nameless.items()]:
            where = places.get(key) if by == "nameless" else None
            guess = guesses.get(where[0]) if where is not None else None
            found.append(_trend(by, key, times, row, is_told, where, None if guess is None else guess.label))
        found.sort(key=order)
        measure = self._measure if is_told else "size"
        return Trends(tuple(found), len(moments), times[-1] - times[0], measure, space)


def order(each: Trend) -> tuple[int, int, float, str, str]:
    """What grows first comes first."""
    level = 0 if each.by in SINGLE else 1 if each.by == "guess" else 2
    return _RANKS[each.verdict], level, -each.slope, each.by, each.key


def _trend(
    by: str, key: str, times: list[float], row: _Row, is_told: bool, where: tuple[int, int] | None, guess: str | None
) -> Trend:
    space = judged(times, row.sizes)
    judgement: Judgement = judged(times, row.held) if is_told else space
    followed = row.held if is_told else row.sizes
    hour = 3600.0
    return Trend(
        by=by,
        key=key,
        verdict=judgement.verdict,
        slope=judgement.slope.middle * hour,
        low=judgement.slope.low * hour,
        high=judgement.slope.high * hour,
        chance=judgement.chance,
        first=followed[0],
        last=followed[-1],
        space_slope=space.slope.middle * hour,
        space_first=row.sizes[0],
        space_last=row.sizes[-1],
        where=where,
        guess=guess,
    )


def _added_up(time: float, space: AddressSpace, measure: str) -> _Moment:
    groups: dict[tuple[str, str], tuple[int, int]] = {}
    pieces: list[_Piece] = []
    told = untold = 0
    for region, number in _measured(space, measure):
        if number is not None:
            told += 1
        elif region.protection:
            untold += 1
        held = number or 0
        size = region.end - region.start
        for group in _groups_of(region):
            old = groups.get(group, (0, 0))
            groups[group] = old[0] + size, old[1] + held
        if not region.label:
            pieces.append(_Piece(region.start, region.end, region.permissions, held))
    return _Moment(time, groups, pieces, told, untold)


def _measured(space: AddressSpace, measure: str) -> Iterator[tuple[Region, int | None]]:
    """Each region with its number. What is followed as a rule is told by columns: then the regions lack details."""
    if measure != "held":
        for region in space:
            use = region.memory
            yield region, None if use is None else getattr(use, measure)
        return
    columns = space.columns
    yield from zip(dataclasses.replace(columns, details={}).regions(), held_of(columns), strict=True)


def held_of(columns: Columns) -> Iterator[int | None]:
    """`MemoryUse.held` of each row: what of it is not told makes it None, or is left out, as there."""
    resident, swapped = columns.resident, columns.details.get(SWAPPED)
    if resident is None:
        return itertools.repeat(None, len(columns))
    known = (None if number == UNKNOWN else number for number in resident)
    if not isinstance(swapped, array):
        return known
    more = (0 if number == UNKNOWN else number for number in swapped)
    return (None if number is None else number + swap for number, swap in zip(known, more, strict=True))


def _groups_of(region: Region) -> Iterator[tuple[str, str]]:
    yield "all", "total"
    yield "kind", region.kind.label
    yield "use", use_of(region).value
    if region.path is not None:
        yield "file", region.label
    elif region.name:
        yield "name", region.name


def _rows(moments: Sequence[_Moment]) -> dict[tuple[str, str], _Row]:
    keys = dict.fromkeys(key for moment in moments for key in moment.groups)
    nothing = (0, 0)
    return {
        key: _Row(
            [moment.groups.get(key, nothing)[0] for moment in moments],
            [moment.groups.get(key, nothing)[1] for moment in moments],
        )
        for key in keys
    }


@dataclass(slots=True)
class _Range:
    """Addresses in which nameless memory lay at some moment, without a hole."""

    start: int
    end: int
    at: dict[int, list[_Piece]] = field(default_factory=dict)
    """By moment, in order."""

    def is_one(self, moments: int) -> bool:
        """Whether it is a group by itself: it is there at the end, and was at the beginning or has grown since."""
        if moments - 1 not in self.at:
            return False
        first, last = (sum(each.end - each.start for each in self.at[at]) for at in (min(self.at), moments - 1))
        return 0 in self.at or last > first


def _nameless(
    moments: Sequence[_Moment], guesses: Mapping[int, str]
) -> tuple[dict[tuple[str, str], _Row], dict[str, tuple[int, int]]]:
    """The rows of nameless memory and of guesses at it, and where what gained most of each lies at the end."""
    ranges = _ranges(moments)
    rows: dict[tuple[str, str], _Row] = {}
    places: dict[str, tuple[int, int]] = {}
    best: dict[str, int] = {}
    count = len(moments)
    for each in ranges:
        stays = each.is_one(count)
        most = max(each.at.get(count - 1, []), key=lambda piece: piece.held, default=None)
        guess = None if most is None else guesses.get(most.start)
        for number, pieces in each.at.items():
            for piece in pieces:
                key = f"{each.start:x}-{each.end:x}" if stays else _class_of(piece)
                for group in (("nameless", key), ("guess", guess)):
                    if group[1] is not None:
                        row = rows.setdefault((group[0], group[1]), _Row([0] * count, [0] * count))
                        row.sizes[number] += piece.end - piece.start
                        row.held[number] += piece.held
                if number == count - 1:
                    gain = piece.held - _held_there(piece, each.at.get(0, []))
                    if gain > best.get(key, -1):
                        best[key], places[key] = gain, (piece.start, piece.end)
    return rows, places


def _ranges(moments: Sequence[_Moment]) -> list[_Range]:
    distinct = {id(moment.pieces): moment.pieces for moment in moments}.values()
    bounds = sorted({(piece.start, piece.end) for pieces in distinct for piece in pieces})
    ranges: list[_Range] = []
    for start, end in bounds:
        if ranges and start <= ranges[-1].end:
            ranges[-1].end = max(ranges[-1].end, end)
        else:
            ranges.append(_Range(start, end))
    starts = [each.start for each in ranges]
    for number, moment in enumerate(moments):
        for piece in moment.pieces:
            ranges[bisect_right(starts, piece.start) - 1].at.setdefault(number, []).append(piece)
    return ranges


def _held_there(piece: _Piece, before: Sequence[_Piece]) -> int:
    return sum(each.held for each in before if each.start < piece.end and piece.start < each.end)


def _class_of(piece: _Piece) -> str:
    """The rights and the power of two that the size begins at."""
    power = (piece.end - piece.start).bit_length() - 1
    return f"{piece.rights} of {_short(power)} to {_short(power + 1)}"


def _short(power: int) -> str:
    unit = max(power, 0) // 10
    return f"{1 << power - 10 * unit}{' KMGTPEZ'[unit].strip()}"
