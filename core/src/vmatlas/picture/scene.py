"""The scene: what of an address space is drawn where, how large, and as what. Pure: every renderer draws the same one.

Regions stand in a line, by address, each as long as it has bytes, but for what would leave no room to the rest: a gap
is folded to a mark, a region to `fold`, so that none takes more than a quarter of the line, and addresses that are
only reserved to less, so that all of them take no more than a fifth. The line is in areas, which lie far apart. Where
pages are told, each is filled where it is in memory; else a region is filled to the part of it that is.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from vmatlas.analysis.summary import Total
from vmatlas.legible import count, escape, human
from vmatlas.model import AddressSpace, Gap, MemoryTotal, MemoryUse, Protection, Region
from vmatlas.model.pages import PageRuns, PageState
from vmatlas.picture.palette import Became, Look, Sort, sort_of

if TYPE_CHECKING:
    from vmatlas.analysis.naming import Guess

_SHARE = 4
"""No region takes more of the line than one part of so many."""

_MARKS = 800
"""A folded gap is as long as one of so many parts of the line, at the most."""

_FAR = 2**30
"""Gaps of so many bytes divide areas, and smaller ones that are larger than all that is drawn."""

MOST_AREAS = 12

_KERNEL_HALF = 2**63

MOST_RUNS = 40_000
"""Runs of pages that are drawn one by one; of more, each region is filled to the part that is in memory."""


class Piece(NamedTuple):
    """A region as it is drawn."""

    region: Region
    sort: Look
    name: str
    """What it is called, safe to show; empty for nameless memory."""
    guess: Guess | None
    """What a nameless region seems to be."""
    memory: MemoryUse | None
    """Its memory in use: `Region.memory`, made once."""
    remark: str = ""
    """What else is told of it: lines of a term, a tab, and what is told; safe to show."""

    @property
    def resident(self) -> int | None:
        """Bytes of it in memory; None where that is not told."""
        return self.region.resident

    @property
    def label(self) -> str:
        """The name, or the guess with its mark; empty where there is neither."""
        return self.name or ("" if self.guess is None else escape(self.guess.label))

    @property
    def short(self) -> str:
        """The same for where there is little room: of a path the file."""
        return short_of(self.label)

    @property
    def common(self) -> str:
        """The same for where there is less room still: what it seems to be, without whose it seems to be."""
        return self.short if self.name or self.guess is None else escape(self.guess.group_label)

    @property
    def filled(self) -> float | None:
        """The part of it that is in memory, from 0 to 1."""
        region = self.region
        return None if region.resident is None else min(region.resident / (region.end - region.start), 1.0)


class Area(NamedTuple):
    """Regions that lie near one another: those from `first` to before `last`."""

    first: int
    last: int
    begin: float
    """Where on the line it begins, in bytes as drawn."""
    end: float
    free_before: int
    """Bytes of addresses that nothing covers, between it and the area before; 0 for the first."""


class SortTotal(NamedTuple):
    """What all of a sort comes to. Bytes; None where the system does not tell."""

    sort: Look | None
    """None: all of them."""
    total: Total
    committed: int
    """Mapped with some right: what may be touched."""
    largest: int
    """The size of the largest region."""

    @property
    def shared(self) -> int | None:
        """In memory, in pages that others map too."""
        use = self.total.memory.use
        return None if use.resident is None or use.private is None else max(use.resident - use.private, 0)


class Node(NamedTuple):
    """A rectangle of the treemap, or a group of them."""

    label: str
    """Safe to show."""
    sort: Look
    value: int
    """Bytes."""
    children: tuple[Node, ...] = ()
    find: str = ""
    """What finds it in the page: words of its search."""


def short_of(label: str) -> str:
    """Of a path the file."""
    return label.rpartition("/")[2] or label if label.startswith("/") else label


class PageMark(NamedTuple):
    """Pages of a region that are drawn at their place: [start, end)."""

    start: int
    end: int
    what: str
    """present, huge, swapped, guard, zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Scene:
    """What is drawn of one address space."""

    space: AddressSpace
    pieces: tuple[Piece, ...]
    areas: tuple[Area, ...]
    begins: array[float]
    """Where each piece begins on the line, in bytes as drawn."""
    ends: array[float]
    fold: int
    """The most bytes that are drawn of a region; what is larger is folded to it."""
    reserve: float
    """The same of a region without any right, nor a file."""
    mark: float
    """The same of a gap."""
    length: float
    """Of the whole line."""
    totals: tuple[SortTotal, ...]
    """By sort, the largest first."""
    whole: SortTotal
    gaps: int
    free: int
    """Bytes in all gaps between the first region and the last of a process's own half of the addresses."""
    largest_gap: Gap | None
    tree: tuple[Node, ...]
    """What is in memory (where that is not told: the address space), by sort, then by file or name."""
    tree_tells_memory: bool
    marks: Mapping[int, Sequence[PageMark]] | None
    """By row: where pages are told and few enough. None: each region is filled to a part."""
    guards: int | None
    """Bytes of guards that no map shows; None where that is not told."""
    notes: tuple[str, ...]
    """What may be missing, for people; safe to show."""

    @property
    def title(self) -> str:
        """Whose it is, safe to show."""
        origin = self.space.origin
        return f"process {origin.pid}" + (f" ({escape(origin.name)})" if origin.name else "")

    @property
    def origin(self) -> str:
        """Where and when it was read, and by what, in a line; safe to show."""
        origin = self.space.origin
        system = origin.system
        target = "" if origin.target == "local" else f"{origin.target} · "
        moment = time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(origin.time))
        return escape(f"{target}{system.system} {system.release} {system.machine} · {origin.backend} · {moment}")

    @property
    def says(self) -> str:
        """How much there is, in a line."""
        resident = self.whole.total.resident
        used = "" if resident is None else f", {human(resident)} in memory"
        return f"{count(len(self.pieces), 'region')}, {human(self.space.total)} mapped{used}"

    @property
    def looks(self) -> tuple[Look, ...]:
        """What there may be: sorts, or what became of regions."""
        return tuple(Became) if self.pieces and isinstance(self.pieces[0].sort, Became) else tuple(Sort)

    def within(self, begin: float, end: float) -> range:
        """The rows of what lies in a part of the line."""
        return range(bisect_right(self.ends, begin), bisect_left(self.begins, end))

    def is_folded(self, row: int) -> bool:
        """Whether it is drawn shorter than it is."""
        region = self.pieces[row].region
        return region.end - region.start > (self.reserve if _is_reserved(region) else self.fold)

    @property
    def folds(self) -> str:
        """What is folded, in words; empty where nothing is."""
        rows = [row for row in range(len(self.pieces)) if self.is_folded(row)]
        reserved = sum(_is_reserved(self.pieces[row].region) for row in rows)
        told = [f"a region of more than {human(self.fold)}"] if len(rows) > reserved else []
        told += [f"reserved addresses of more than {human(round(self.reserve))}"] if reserved else []
        return ", ".join(told)


def scene_of(
    space: AddressSpace,
    *,
    guesses: Mapping[int, Guess] | None = None,
    pages: PageRuns | None = None,
    notes: Iterable[str] = (),
    became: Sequence[tuple[Became, str]] | None = None,
) -> Scene:
    """What is drawn of an address space.

    `guesses`: what `name_regions` says of the whole map. `pages`: of the same process, read after the map. `notes`:
    what else is to be told beside it. `became`: of each region, where two spaces are
    compared, what became of it, which is its sort then, and what is told of that (`Piece.remark`).
    """
    regions = list(space)
    code = {_file(each) for each in regions if each.path is not None and each.protection & Protection.EXECUTE}
    code.discard(None)
    known = guesses or {}
    names: dict[str, str] = {}
    pieces = []
    for row, region in enumerate(regions):
        label = region.label
        name = names.get(label)
        if name is None:
            name = names[label] = escape(label)
        sort: Look = sort_of(region, _file(region) in code) if became is None else became[row][0]
        remark = "" if became is None else became[row][1]
        pieces.append(Piece(region, sort, name, known.get(region.start), region.memory, remark))
    fold, reserve, mark = _folds(regions)
    begins, ends, areas = _line(regions, fold, reserve, mark)
    totals, whole = _totals(pieces, adds_up=space.origin.private_adds_up)
    found = [gap for gap in space.gaps() if gap.end < _KERNEL_HALF or gap.start >= _KERNEL_HALF]
    use = whole.total.memory.use if became is None else whole.total.memory.at_least  # a part of a region tells nothing
    tells = use.resident is not None
    tree = _tree(pieces, tells) if became is None else ()
    marks = None if pages is None else _marks(space, pages)
    told = [escape(each) for each in notes]
    if space.incomplete is not None:
        told.insert(0, escape(f"the map may lack something: {space.incomplete}"))
    return Scene(
        space,
        tuple(pieces),
        tuple(areas),
        begins,
        ends,
        fold,
        reserve,
        mark,
        ends[-1] if len(ends) else 0.0,
        totals,
        whole,
        len(found),
        sum(gap.size for gap in found),
        max(found, key=lambda gap: gap.size, default=None),
        tree,
        tells,
        marks,
        None if pages is None else pages.bytes_of(PageState.GUARD) if PageState.GUARD & pages.told else None,
        tuple(told),
    )


def _file(region: Region) -> tuple[str | None, object, object] | None:
    return None if region.path is None else (region.path, region.device, region.inode)


def _is_reserved(region: Region) -> bool:
    """Whether it is only kept free: nothing can be in it."""
    return not region.protection and region.path is None


_RESERVED_SHARE = 5
"""All that is reserved takes one part of so many of the line at the most."""


def _folds(regions: Sequence[Region]) -> tuple[int, float, float]:
    """The most that is drawn of a region, of one that is only reserved, and of a gap.

    Reserved addresses would leave no room to the rest: a browser reserves a thousand times what it may touch.
    """
    sizes = [each.end - each.start for each in regions if not _is_reserved(each)]
    reserved = [each.end - each.start for each in regions if _is_reserved(each)]
    if not sizes:
        sizes, reserved = reserved, []
    fold = _fold(sizes)
    drawn = float(sum(min(size, fold) for size in sizes))
    reserve, room = float(max(reserved, default=fold)), drawn / (_RESERVED_SHARE - 1)
    if sum(reserved) > room:
        left = room
        for number, size in enumerate(sorted(reserved)):  # the small ones as they are, the rest alike
            reserve = left / (len(reserved) - number)
            if size > reserve:
                break
            left -= size
    drawn += sum(min(size, reserve) for size in reserved)
    return fold, reserve, drawn / max(_MARKS, 4 * len(regions)) if regions else 0.0


def _fold(sizes: Sequence[int]) -> int:
    """The largest length of which no region takes more than its share of what is drawn; of few none is folded."""
    largest, total = max(sizes, default=0), sum(sizes)
    if len(sizes) <= _SHARE or largest * _SHARE <= total:
        return largest
    ordered = sorted(sizes)
    below, fold = total, largest
    for folded, size in enumerate(reversed(ordered), 1):
        below -= size  # of all that are smaller
        if folded >= _SHARE:
            break
        # All of the larger ones as long as `fold`: fold * SHARE = fold * folded + below
        fold = max(below // (_SHARE - folded), 1)
        smaller = ordered[-folded - 1] if folded < len(ordered) else 0
        if smaller <= fold:
            break
    return fold


def _line(
    regions: Sequence[Region], fold: int, reserve: float, mark: float
) -> tuple[array[float], array[float], list[Area]]:
    """Where each region begins and ends, and the areas."""
    lengths = [min(each.end - each.start, reserve if _is_reserved(each) else fold) for each in regions]
    drawn = sum(lengths)
    gaps = [(after.start - before.end, row) for row, (before, after) in enumerate(pairwise(regions), 1)]
    far = sorted((each for each in gaps if each[0] >= min(_FAR, max(drawn, 1))), reverse=True)[: MOST_AREAS - 1]
    breaks = {row: gap for gap, row in far}
    begins, ends = array("d"), array("d")
    areas: list[Area] = []
    at, area_begin, first, free = 0.0, 0.0, 0, 0
    for row, region in enumerate(regions):
        if row in breaks:
            areas.append(Area(first, row, area_begin, at, free))
            first, area_begin, free = row, at, breaks[row]
        elif row:
            at += min(float(region.start - regions[row - 1].end), mark)
        begins.append(at)
        at += lengths[row]
        ends.append(at)
    if regions:
        areas.append(Area(first, len(regions), area_begin, at, free))
    return begins, ends, areas


def _totals(pieces: Sequence[Piece], *, adds_up: bool) -> tuple[tuple[SortTotal, ...], SortTotal]:
    by_sort: dict[Look, list[int]] = {}
    for row, piece in enumerate(pieces):
        by_sort.setdefault(piece.sort, []).append(row)

    def of(sort: Look | None, rows: Sequence[int]) -> SortTotal:
        regions = [pieces[row].region for row in rows]
        sizes = [region.end - region.start for region in regions]
        memory = MemoryTotal.of((pieces[row].memory for row in rows), private_adds_up=adds_up)
        may = sum(size for size, region in zip(sizes, regions, strict=True) if region.protection)
        return SortTotal(sort, Total(len(rows), sum(sizes), memory), may, max(sizes, default=0))

    found = [of(sort, rows) for sort, rows in by_sort.items()]
    found.sort(key=lambda each: (-(each.total.resident or 0), -each.total.size))
    return tuple(found), of(None, range(len(pieces)))


_FEWEST = 1 / 400
"""What is less of the whole has no rectangle of its own in the treemap."""

_MOST_NODES = 40

_NAMELESS = "(nameless)"


def _tree(pieces: Sequence[Piece], tells: bool) -> tuple[Node, ...]:
    sums: dict[Look, dict[str, int]] = {}
    for piece in pieces:
        value = (piece.resident or 0) if tells else piece.region.end - piece.region.start
        if value:
            named = piece.name or ("" if piece.guess is None else escape(piece.guess.group_label)) or _NAMELESS
            group = sums.setdefault(piece.sort, {})
            group[named] = group.get(named, 0) + value
    whole = sum(sum(group.values()) for group in sums.values())
    found = []
    for sort, group in sums.items():
        ordered = sorted(group.items(), key=lambda item: (-item[1], item[0]))
        large = [item for item in ordered if item[1] >= whole * _FEWEST][:_MOST_NODES]
        if len(large) == len(ordered) - 1:
            large = ordered
        nodes = [Node(label, sort, value, find=_find(label, sort)) for label, value in large]
        if rest := ordered[len(large) :]:
            others = sum(value for _, value in rest)
            nodes.append(Node(f"{len(rest):,} {'others' if large else 'names'}", sort, others, find=sort.value))
        nodes.sort(key=lambda node: -node.value)
        found.append(Node(sort.value, sort, sum(group.values()), tuple(nodes)))
    return tuple(sorted(found, key=lambda node: -node.value))


def _find(label: str, sort: Look) -> str:
    """Of the sort what has the name, as a whole: words of it may mean something else to a search."""
    name = "nameless" if label == _NAMELESS else f'"{max(short_of(label).split(chr(34)), key=len)}"'
    return f"{sort.value} {name}"


_MARK_OF = (
    (PageState.GUARD, "guard"),
    (PageState.SWAPPED, "swapped"),
    (PageState.ZERO, "zero"),
    (PageState.HUGE, "huge"),
    (PageState.PRESENT, "present"),
)
"""The first that holds."""


def _marks(space: AddressSpace, pages: PageRuns) -> dict[int, list[PageMark]] | None:
    """By row; None where they are too many to be drawn one by one."""
    if not pages.told & PageState.PRESENT or len(pages) > MOST_RUNS:
        return None
    starts = space.columns.start
    found: dict[int, list[PageMark]] = {}
    what: dict[int, str] = {}
    columns = pages.columns
    for start, end, state in zip(columns.start, columns.end, columns.state, strict=True):
        word = what.get(state)
        if word is None:
            word = what[state] = _word_of(PageState(state))
        if not word:
            continue
        row = max(bisect_right(starts, start) - 1, 0)
        while row < len(starts) and starts[row] < end:
            low, high = max(start, starts[row]), min(end, space.columns.end[row])
            if low < high:
                listed = found.setdefault(row, [])
                if listed and listed[-1].end == low and listed[-1].what == word:
                    listed[-1] = listed[-1]._replace(end=high)
                else:
                    listed.append(PageMark(low, high, word))
            row += 1
    return found


def _word_of(state: PageState) -> str:
    if state & PageState.HUGE and not state & PageState.PRESENT:
        state &= ~PageState.HUGE  # set aside, not touched
    return next((word for each, word in _MARK_OF if state & each), "")


class Cell(NamedTuple):
    """A piece of the line, where single regions may be too small to be seen."""

    sort: Look | None
    """Of most of it; None where nothing is mapped."""
    mapped: float
    """The part of it that is mapped, from 0 to 1."""
    filled: float | None
    """The part of what is mapped that is in memory, told of at least some of it."""


def cells(scene: Scene, begin: float, end: float, width: float) -> Iterator[Cell]:
    """A part of the line in cells of that length; the last may be a part of one."""
    many = max(math.ceil((end - begin) / width - 1e-9), 1) if width else 1
    for number in range(many):
        low, high = begin + number * width, min(begin + (number + 1) * width, end)
        by_sort: dict[Look, float] = {}
        told = filled = 0.0
        for row in scene.within(low, high):
            piece = scene.pieces[row]
            part = min(scene.ends[row], high) - max(scene.begins[row], low)
            if part <= 0:
                continue
            by_sort[piece.sort] = by_sort.get(piece.sort, 0.0) + part
            share = _filled_in(scene, row, low, high)
            if share is not None:
                told += part
                filled += part * share
        sort = max(by_sort, key=lambda each: by_sort[each]) if by_sort else None
        yield Cell(
            sort, min(sum(by_sort.values()) / (high - low), 1.0) if high > low else 0.0, filled / told if told else None
        )


def _filled_in(scene: Scene, row: int, low: float, high: float) -> float | None:
    """How much of a region is in memory, within a part of the line: exactly where pages are told."""
    piece = scene.pieces[row]
    if scene.marks is None:
        return piece.filled
    region, begin, end = piece.region, scene.begins[row], scene.ends[row]
    scale = (region.end - region.start) / (end - begin) if end > begin else 0.0
    first = region.start + (max(low, begin) - begin) * scale
    last = region.start + (min(high, end) - begin) * scale
    listed = scene.marks.get(row, ())
    at = bisect_right(listed, first, key=lambda mark: mark.end)
    found = 0.0
    while at < len(listed) and listed[at].start < last:
        if listed[at].what in ("present", "huge"):
            found += min(listed[at].end, last) - max(listed[at].start, first)
        at += 1
    return found / (last - first) if last > first else 0.0
