"""A picture as lines of text: totals as bars, the address space as blocks, or as letters where there are no colours.

Pure: lines of spans, each with the name of a style. What paints them is the command line's; `plain` needs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from vmatlas.legible import human
from vmatlas.picture.palette import LETTERS, SAYS, Look, Sort
from vmatlas.picture.scene import Area, Cell, Scene, SortTotal, cells

_BLOCKS = "\N{LIGHT SHADE}\N{MEDIUM SHADE}\N{DARK SHADE}\N{FULL BLOCK}"
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_NOTHING_KNOWN = "\N{DARK SHADE}"
_RESERVED, _FREE = "\N{BOX DRAWINGS LIGHT HORIZONTAL}", " "
_ADDRESS, _NAMES, _GAP = 16, 26, 2
_LEAST = 20
"""Cells of a line, or the names have no room beside it."""

LINES = 24
"""So many of the map at the most, and as many as there are areas."""


class Span(NamedTuple):
    """A piece of a line."""

    text: str
    """Safe to show."""
    style: str = ""
    """`sort.NAME`, `change.NAME`, "heading", "note" or "warning"; empty for none."""


Line = list[Span]


def plain(lines: Iterable[Line]) -> str:
    """The same without styles."""
    return "".join("".join(span.text for span in line).rstrip() + "\n" for line in lines)


def style_of(sort: Look) -> str:
    """The name of the style of a sort, or of a change."""
    return f"{'sort' if isinstance(sort, Sort) else 'change'}.{sort.value}"


def picture(scene: Scene, width: int, *, colours: bool, head: Sequence[str] = ()) -> Iterator[Line]:
    """Of one address space: whose (or what `head` says), the totals, the map, and what its signs mean."""
    for number, told in enumerate(head or (scene.title, scene.says, scene.origin)):
        yield from wrapped(told, width, "" if number else "heading")
    for note in scene.notes:
        yield from wrapped(f"! {note}", width, "warning")
    yield []
    yield from _totals(scene, width, colours=colours)
    yield []
    yield from _map(scene, width, colours=colours)
    yield []
    yield from _legend(scene, width, colours=colours)


def wrapped(text: str, width: int, style: str) -> Iterator[Line]:
    """On as many lines as it takes."""
    import textwrap

    for line in textwrap.wrap(text, max(width, 20), break_on_hyphens=False) or [""]:
        yield [Span(line, style)]


# Totals


def _totals(scene: Scene, width: int, *, colours: bool) -> Iterator[Line]:
    use = scene.whole.total.memory.use
    tells = use.resident is not None
    columns: list[tuple[str, Callable[[SortTotal], str]]] = [
        ("SIZE", lambda each: human(each.total.size)),
        ("COMMITTED", lambda each: human(each.committed)),
    ]
    if tells:
        columns.append(("IN-MEMORY", lambda each: _size(each.total.resident)))
    if use.private is not None:
        columns.append(("PRIVATE", lambda each: _size(each.total.private_resident)))
        columns.append(("SHARED", lambda each: _size(each.shared)))
    if use.swapped:
        columns.append(("SWAP", lambda each: _size(each.total.memory.use.swapped)))
    columns.append(("REGIONS", lambda each: f"{each.total.regions:,}"))
    columns.append(("LARGEST", lambda each: human(each.largest)))
    names = max(len(sort.value) for sort in scene.looks)

    def told(each: SortTotal) -> list[str]:
        return [tell(each) for _, tell in columns]

    for leaving in ("LARGEST", "SHARED", "COMMITTED", "PRIVATE", "SWAP", "REGIONS"):  # where there is no room for all
        if names + sum(max(len(title), 5) + _GAP for title, _ in columns) > width:
            columns = [each for each in columns if each[0] != leaving]
    titles = [title for title, _ in columns]
    rows = [(each, told(each)) for each in (*scene.totals, scene.whole)]
    widths = [max(len(title), *(len(row[column]) for _, row in rows)) for column, title in enumerate(titles)]
    room = min(width - names - sum(widths) - _GAP * (len(widths) + 1), 30)
    bar = room if room >= 8 else 0
    most = max((_weight(each, tells) for each in scene.totals), default=0) or 1
    first = "IN-MEMORY" if tells else "SIZE"
    head = "SORT".ljust(names) + (f"  {first[:bar].ljust(bar)}" if bar else "")
    yield [Span(head + _right(titles, widths), "heading")]
    for each, row in rows:
        if each.sort is None:
            yield [Span("all".ljust(names) + " " * (bar + _GAP if bar else 0) + _right(row, widths), "heading")]
            continue
        line = [Span(each.sort.value.ljust(names), style_of(each.sort))]
        if bar:
            drawn = _bar(_weight(each, tells) / most, bar, colours=colours)
            line += [Span("  "), Span(drawn.ljust(bar), style_of(each.sort))]
        yield [*line, Span(_right(row, widths))]
    if scene.largest_gap is not None:
        gap = scene.largest_gap
        told_gap = f"free between regions {human(scene.free)}, the largest gap {human(gap.size)} at {gap.start:x}"
        yield from wrapped(told_gap, width, "note")


def _weight(each: SortTotal, tells: bool) -> int:
    return (each.total.resident or 0) if tells else each.total.size


def _right(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "".join(f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True))


def _size(value: int | None) -> str:
    return "-" if value is None else human(value)


def _bar(part: float, width: int, *, colours: bool) -> str:
    if not colours:
        return "#" * (max(round(part * width), 1) if part else 0)
    eighths = max(round(part * width * 8), 1) if part else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")


# The map


def _map(scene: Scene, width: int, *, colours: bool) -> Iterator[Line]:
    if not scene.pieces:
        yield [Span("no region: a process of the kernel's own has no memory", "note")]
        return
    names = _NAMES if width - _ADDRESS - _NAMES - 2 * _GAP >= _LEAST else 0
    inner = max(width - _ADDRESS - _GAP - (names + _GAP if names else 0), 8)
    scale = _scale(scene, inner)
    yield from wrapped(f"from low addresses to high; a cell is {human(max(round(scale), 1))}", width, "note")
    for number, area in enumerate(scene.areas):
        if number:
            words = f"{human(area.free_before)} free"
            if scene.pieces[area.first].region.start >= 2**63 > scene.pieces[area.first - 1].region.start:
                words = "the kernel's half of the addresses"
            yield [Span(" " * (_ADDRESS + _GAP)), Span(words, "note")]
        for line in range(_lines(area, scale, inner)):
            begin = area.begin + line * inner * scale
            end = min(begin + inner * scale, area.end)
            yield list(_line(scene, (begin, end, scale), inner if names else 0, colours=colours))


def _scale(scene: Scene, inner: int) -> float:
    """Bytes as drawn in a cell."""
    low = scene.space.system.page_size / 2
    high = max(scene.length / inner, low)
    most = max(LINES, len(scene.areas) + 8)
    if sum(_lines(area, low, inner) for area in scene.areas) <= most:
        return low
    for _ in range(40):
        middle = math.sqrt(low * high)
        if sum(_lines(area, middle, inner) for area in scene.areas) > most:
            low = middle
        else:
            high = middle
    return high


def _lines(area: Area, scale: float, inner: int) -> int:
    return max(math.ceil((area.end - area.begin) / scale / inner - 1e-9), 1)


def _line(scene: Scene, line: tuple[float, float, float], names_at: int, *, colours: bool) -> Iterator[Span]:
    begin, end, scale = line
    rows = scene.within(begin, end)
    first = scene.pieces[rows[0]].region.start if rows else 0
    if rows and scene.begins[rows[0]] < begin:
        region = scene.pieces[rows[0]].region
        part = (begin - scene.begins[rows[0]]) / (scene.ends[rows[0]] - scene.begins[rows[0]])
        page = scene.space.system.page_size
        first = region.start + int(part * region.size) // page * page
    yield Span(f"{first:>{_ADDRESS}x}" + " " * _GAP, "note")
    text, style, many = "", "", 0
    for cell in cells(scene, begin, end, scale):
        many += 1
        sign, next_style = _sign(cell, colours=colours), "" if cell.sort is None else style_of(cell.sort)
        if next_style != style and text:
            yield Span(text, style)
            text = ""
        text, style = text + sign, next_style
    yield Span(text, style)
    if names_at and (told := _names(scene, rows, begin, end)):
        yield Span(" " * (names_at - many + _GAP) + told, "note")


def _sign(cell: Cell, *, colours: bool) -> str:
    if cell.sort is None or cell.mapped < 0.05:
        return _FREE if colours else "."
    if cell.sort is Sort.RESERVED:
        return _RESERVED if colours else LETTERS[cell.sort]
    if not colours:
        letter = LETTERS[cell.sort]
        return letter if cell.filled is None or cell.filled >= 0.5 else letter.lower()
    if cell.filled is None:
        return _NOTHING_KNOWN
    return _BLOCKS[min(int(cell.filled * 3.999), 3)]


def _names(scene: Scene, rows: range, begin: float, end: float) -> str:
    """What most of a line is, as far as there is room for it."""
    lengths: dict[str, float] = {}
    for row in rows:
        label = scene.pieces[row].short
        if label:
            part = min(scene.ends[row], end) - max(scene.begins[row], begin)
            lengths[label] = lengths.get(label, 0.0) + part
    told = ""
    for label in sorted(lengths, key=lambda each: -lengths[each]):
        joined = f"{told}, {label}" if told else label
        if len(joined) > _NAMES:
            return told or f"{label[: _NAMES - 1]}…"
        told = joined
    return told


def _legend(scene: Scene, width: int, *, colours: bool) -> Iterator[Line]:
    for total in scene.totals:
        if total.sort is not None:
            sign = "█" if colours else LETTERS[total.sort]
            sign = _RESERVED if colours and total.sort is Sort.RESERVED else sign
            told = f"{total.sort.value}: {SAYS[total.sort]}"
            yield [Span(f"{sign} ", style_of(total.sort)), Span(told[: max(width - 2, 10)], "note")]
    if not scene.tree_tells_memory:
        words = "What is in memory is not told here."
    elif colours:
        words = "░▒▓█ none, some, most, all of it in memory."
    else:
        words = "A capital: most of it is in memory; a small letter: most of it is not; a dot: free."
    if scene.folds:
        words += f" {scene.folds[0].upper()}{scene.folds[1:]}: folded to that."
    yield from wrapped(words, width, "note")
