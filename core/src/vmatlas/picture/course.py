"""A series: what each sort, file and name had at each moment, and the map of each, all on one line. Pure.

The line is of all addresses that were mapped at any moment, so what stays where it is stands still in the picture. Of a
long series as many moments are drawn as can be told apart.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape as quoted
from itertools import pairwise
from typing import Any, NamedTuple

from vmatlas.errors import UsageError
from vmatlas.legible import escape, human
from vmatlas.model import AddressSpace, Kind, Protection, Region
from vmatlas.picture import html, text
from vmatlas.picture.palette import LIGHT, LIGHT_GROUND, Look, Sort
from vmatlas.picture.scene import Scene, scene_of
from vmatlas.picture.text import Line, Span, style_of

MOST_MOMENTS = 120

ROWS, CELLS = 12, 200
"""Of the map of a moment: lines, and cells of each."""

_UNTOLD = 10
"""In the place of tenths that are in memory, where that is not told."""

_MOST_NAMES = 8
_NAMED = (Sort.IMAGE, Sort.ANONYMOUS, Sort.SHARED, Sort.HEAP, Sort.FILE, Sort.STACK, Sort.KERNEL, Sort.DEVICE)
"""The colours of names, which stand for no sort there."""

_WIDTH, _HEIGHT, _LEFT, _TOP, _BELOW = 1200, 300, 70, 14, 26
_SPARKS = "▁▂▃▄▅▆▇█"


class Band(NamedTuple):
    """What has something in common, over time."""

    label: str
    """Safe to show."""
    look: Look
    values: tuple[int, ...]
    """Bytes, at each moment."""


@dataclass(frozen=True, slots=True)
class CourseView:
    """What became of an address space over time."""

    base: Scene
    """Of all addresses that were mapped at any moment."""
    last: Scene
    elapsed: tuple[float, ...]
    """Seconds since the first moment."""
    times: tuple[float, ...]
    """Seconds since 1970."""
    sorts: tuple[Band, ...]
    """The most at the last moment first."""
    names: tuple[Band, ...]
    maps: tuple[bytes, ...]
    """Of each moment a byte for each cell: 0 for free, else 1, 11 for each look, and tenths in memory."""
    tells_memory: bool
    of: int
    """So many moments the series has."""

    @property
    def title(self) -> str:
        """Whose, safe to show."""
        return f"{self.last.title}, over time"

    @property
    def says(self) -> str:
        """What there is to see, in a line."""
        totals = [sum(band.values[index] for band in self.sorts) for index in (0, -1)]
        what = "in memory" if self.tells_memory else "mapped"
        shown = f"{len(self.elapsed):,} of {self.of:,}" if len(self.elapsed) < self.of else f"{self.of:,}"
        return f"{shown} moments in {_seconds(self.elapsed[-1])}: from {human(totals[0])} to {human(totals[1])} {what}"

    def article(self) -> str:
        """In HTML."""
        what = "in memory" if self.tells_memory else "of addresses (what is in memory is not told)"
        plots = "".join(
            f"<section>\n<h2>{name} <small>bytes {what}, over time</small></h2>\n"
            f'<div class="wide" tabindex="0" role="group" aria-label="{name}">'
            f"{_plot(bands, self.elapsed, number)}</div>\n{_legend(bands, number)}</section>\n"
            for number, (name, bands) in enumerate((("By sort", self.sorts), ("By file and name", self.names)))
        )
        present = {band.look for band in self.sorts}
        items = "".join(f"<li>{html.swatch(sort)}{sort.value}</li>" for sort in Sort if sort in present)
        many = len(self.elapsed)
        return (
            html.head(self.title, self.last.origin, self.says, self.last.notes)
            + '<section>\n<h2>A moment <small class="when"></small></h2>\n<div class="slider"><label for="moment">'
            f'moment</label><input id="moment" type="range" min="0" max="{many - 1}" value="{many - 1}" step="1">'
            "</div>\n"
            '<div class="moment" role="img" aria-label="the map of that moment"><canvas></canvas></div>\n'
            f'<ul class="legend">{items}<li>full: in memory, light: mapped; all moments are on one line of addresses'
            "</li></ul>\n</section>\n" + plots + html.data_script(self._data())
        )

    def _data(self) -> dict[str, Any]:
        maps: list[list[int] | None] = []
        for index, cells in enumerate(self.maps):
            maps.append(None if index and cells == self.maps[index - 1] else _runs(cells))
        return {
            "type": "course",
            "elapsed": [round(each, 3) for each in self.elapsed],
            "times": [round(each, 3) for each in self.times],
            "bands": [[list(band.values) for band in bands] for bands in (self.sorts, self.names)],
            "maps": maps,
            "cells": CELLS,
            "rows": _rows(self.base),
            "sorts": [sort.value for sort in Sort],
            "plot": {"left": _LEFT, "width": _WIDTH - _LEFT - 10},
        }

    def drawing(self) -> str:
        """As one SVG file."""
        height = 110
        parts = []
        for name, bands in (("By sort", self.sorts), ("By file and name", self.names)):
            words = "in memory" if self.tells_memory else "of addresses"
            parts.append(f'<text x="24" y="{height}" class="b">{name}, bytes {words}</text>\n')
            parts.append(f'<svg x="0" y="{height + 10}" width="{_WIDTH}" height="{_HEIGHT}">')
            parts.append(_areas(bands, self.elapsed, still=True) + "</svg>\n")
            height += _HEIGHT + 30
            for number, band in enumerate(bands):
                x, y = 70 + 280 * (number % 4), height + 20 * (number // 4)
                parts.append(f'<rect x="{x}" y="{y - 10}" width="12" height="12" fill="{LIGHT[band.look]}"/>')
                told = band.label if len(band.label) <= 28 else f"…{band.label[-27:]}"
                parts.append(f'<text x="{x + 18}" y="{y}">{quoted(told)}  {human(band.values[-1])}</text>\n')
            height += 20 * (1 + (len(bands) - 1) // 4) + 30
        style = (
            "text { font: 12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif; fill: #1b1f24; "
            "unicode-bidi: isolate; } text.h { font-size: 20px; font-weight: 600; } .b { font-weight: 600; } "
            ".q, .tick { fill: #5b636d; } .grid { stroke: #d9dde2; }"
        )
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" '
            f'height="{height}" role="img">\n<title>{quoted(self.title)}</title>\n<style>{style}</style>\n'
            f'<rect width="100%" height="100%" fill="{LIGHT_GROUND}"/>\n<text x="24" y="42" class="h">'
            f'{quoted(self.title)}</text>\n<text x="24" y="62">{quoted(self.says)}</text>\n'
            f'<text x="24" y="82" class="q">{quoted(self.last.origin)}</text>\n{"".join(parts)}</svg>\n'
        )

    def lines(self, width: int, *, colours: bool) -> Iterator[Line]:
        """As text."""
        for told, style in ((self.title, "heading"), (self.says, "")):
            yield from text.wrapped(told, width, style)
        yield []
        is_wide = width >= 64
        room = max(min(width - 50, 40), 10)
        for name, bands in (("SORT", self.sorts), ("FILE OR NAME", self.names)):
            numbers = f"{'FIRST':>10}{'LAST':>10}{'GAINED':>10}" if is_wide else f"{'LAST':>8}"
            yield [Span(f"{'OVER TIME':{room}}{numbers}  {name}", "heading")]
            for band in bands:
                first, last = band.values[0], band.values[-1]
                numbers = f"{human(first):>10}{human(last):>10}{_gained(band):>10}" if is_wide else f"{human(last):>8}"
                left = max(width - room - len(numbers) - 2, 8)
                label = band.label if len(band.label) <= left else f"…{band.label[1 - left :]}"
                style = style_of(band.look) if bands is self.sorts else ""
                yield [Span(_spark(band.values, room), style), Span(f"{numbers}  {label}")]
            yield []


def course(
    read: Callable[[int], AddressSpace],
    elapsed: Sequence[float],
    times: Sequence[float],
    *,
    names: Callable[[AddressSpace], dict[int, Any]] | None = None,
) -> CourseView:
    """What became of an address space over so many moments, of which `read` gives the map of each: they are asked for
    in order, twice. `names` gives guesses at what is nameless, of a map.

    Raises UsageError for fewer than two moments.
    """
    if len(elapsed) < 2:
        raise UsageError("a course has two moments at least", hint="vmatlas record --every records a series")
    chosen = range(len(elapsed))
    if len(elapsed) > MOST_MOMENTS:
        steps = {round(each * (len(elapsed) - 1) / (MOST_MOMENTS - 1)) for each in range(MOST_MOMENTS)}
        chosen = sorted(steps)  # type: ignore[assignment]
    ranges: list[tuple[int, int]] = []
    by_sort: list[dict[Look, int]] = []
    by_name: list[dict[str, int]] = []
    tells = True
    scene: Scene | None = None
    for index in chosen:
        space = read(index)
        if scene is None or space is not scene.space:
            scene = scene_of(space, guesses=None if names is None else names(space))
            ranges = _merged(ranges, list(zip(space.columns.start, space.columns.end, strict=True)))
        tells = tells and scene.tree_tells_memory
        by_sort.append(_sums(scene, lambda piece: piece.sort, tells))
        by_name.append(_sums(scene, _name_of, tells))
    assert scene is not None
    if not tells:  # of one moment it is not told: so addresses are compared, of all of them
        return _of_addresses(read, chosen, elapsed, times, names)
    return _made(scene, ranges, read, chosen, elapsed, times, by_sort, by_name, tells=True)


def _of_addresses(
    read: Callable[[int], AddressSpace],
    chosen: Sequence[int],
    elapsed: Sequence[float],
    times: Sequence[float],
    names: Callable[[AddressSpace], dict[int, Any]] | None,
) -> CourseView:
    ranges: list[tuple[int, int]] = []
    by_sort: list[dict[Look, int]] = []
    by_name: list[dict[str, int]] = []
    scene: Scene | None = None
    for index in chosen:
        space = read(index)
        scene = scene_of(space, guesses=None if names is None else names(space))
        ranges = _merged(ranges, list(zip(space.columns.start, space.columns.end, strict=True)))
        by_sort.append(_sums(scene, lambda piece: piece.sort, False))
        by_name.append(_sums(scene, _name_of, False))
    assert scene is not None
    return _made(scene, ranges, read, chosen, elapsed, times, by_sort, by_name, tells=False)


def _made(
    last: Scene,
    ranges: Sequence[tuple[int, int]],
    read: Callable[[int], AddressSpace],
    chosen: Sequence[int],
    elapsed: Sequence[float],
    times: Sequence[float],
    by_sort: Sequence[dict[Look, int]],
    by_name: Sequence[dict[str, int]],
    *,
    tells: bool,
) -> CourseView:
    cuts = _cut(ranges, [*last.space.columns.start, *last.space.columns.end])
    # What is only reserved now is folded as in the map; of what is not there any more nobody can tell.
    empty = {each.start for each in last.space if not each.protection and each.path is None}
    rights = {True: Protection.NONE, False: Protection.READ}
    blank = [Region(start, end, rights[start in empty], kind=Kind.OTHER) for start, end in cuts]
    base = scene_of(AddressSpace.of(blank, last.space.origin))
    maps: list[bytes] = []
    seen: AddressSpace | None = None
    for index in chosen:
        space = read(index)
        if space is not seen or not maps:
            maps.append(_cells(base, scene_of(space)))
        else:
            maps.append(maps[-1])
        seen = space
    return CourseView(
        base,
        last,
        tuple(elapsed[index] - elapsed[chosen[0]] for index in chosen),
        tuple(times[index] for index in chosen),
        _sort_bands(by_sort),
        _name_bands(by_name),
        tuple(maps),
        tells,
        len(elapsed),
    )


def _name_of(piece: Any) -> str:
    if piece.name:
        return str(piece.name)
    return "(nameless)" if piece.guess is None else escape(piece.guess.group_label)


def _sums(scene: Scene, key: Callable[[Any], Any], tells: bool) -> dict[Any, int]:
    found: dict[Any, int] = {}
    for piece in scene.pieces:
        value = (piece.resident or 0) if tells else piece.region.end - piece.region.start
        found[key(piece)] = found.get(key(piece), 0) + value
    return found


def _sort_bands(moments: Sequence[dict[Look, int]]) -> tuple[Band, ...]:
    present = {look for moment in moments for look, value in moment.items() if value}
    bands = [
        Band(look.value, look, tuple(moment.get(look, 0) for moment in moments)) for look in Sort if look in present
    ]
    return tuple(sorted(bands, key=lambda band: -band.values[-1]))


def _name_bands(moments: Sequence[dict[str, int]]) -> tuple[Band, ...]:
    """Those that had the most, and those that changed the most; the rest together."""
    labels = {label for moment in moments for label in moment}
    values = {label: tuple(moment.get(label, 0) for moment in moments) for label in labels}
    weight = {label: max(each) + 4 * (max(each) - min(each)) for label, each in values.items()}
    ordered = sorted(labels, key=lambda label: (-weight[label], label))
    chosen = sorted(ordered[:_MOST_NAMES], key=lambda label: (-values[label][-1], label))
    bands = [Band(label, _NAMED[number], values[label]) for number, label in enumerate(chosen) if any(values[label])]
    if rest := [values[label] for label in ordered[_MOST_NAMES:] if any(values[label])]:
        bands.append(Band(f"{len(rest):,} others", Sort.OTHER, tuple(map(sum, zip(*rest, strict=True)))))
    return tuple(bands)


def _merged(one: Sequence[tuple[int, int]], other: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """What either covers, in ranges that do not touch."""
    found: list[tuple[int, int]] = []
    for start, end in sorted([*one, *other]):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def _cut(ranges: Sequence[tuple[int, int]], edges: Sequence[int]) -> Iterator[tuple[int, int]]:
    """The same ranges in pieces: as large regions are folded one by one, so what lies between them stays to scale."""
    ordered = sorted(set(edges))
    for start, end in ranges:
        inner = ordered[bisect_right(ordered, start) : bisect_left(ordered, end)]
        yield from pairwise([start, *inner, end])


def _place(base: Scene, address: int, row: int) -> float:
    """Where on the line an address of a row stands."""
    region = base.pieces[row].region
    part = (address - region.start) / (region.end - region.start)
    return base.begins[row] + part * (base.ends[row] - base.begins[row])


def _cells(base: Scene, scene: Scene) -> bytes:
    """A byte for each cell of the map: see `CourseView.maps`."""
    many, looks = ROWS * CELLS, list(Sort)
    width = base.length / many if base.length else 1.0
    parts = array("d", bytes(8 * many))  # of what has most of the cell
    sorts = bytearray(many)
    told, filled = array("d", bytes(8 * many)), array("d", bytes(8 * many))
    starts = base.space.columns.start
    for piece in scene.pieces:
        first, last = piece.region.start, piece.region.end
        begin = _place(base, first, bisect_right(starts, first) - 1)
        end = _place(base, last, bisect_left(starts, last) - 1)
        sort = 1 + 11 * looks.index(piece.sort)  # type: ignore[arg-type]
        share = piece.filled
        for cell in range(min(int(begin / width), many - 1), min(int(end / width) + 1, many)):
            part = min(end, (cell + 1) * width) - max(begin, cell * width)
            if part <= 0:
                continue
            if part > parts[cell]:
                parts[cell], sorts[cell] = part, sort
            if share is not None:
                told[cell] += part
                filled[cell] += part * share
    return bytes(
        0 if not sort else sort + (round(9 * filled[cell] / told[cell]) if told[cell] else _UNTOLD)
        for cell, sort in enumerate(sorts)
    )


def _runs(cells: bytes) -> list[int]:
    """Values, each with how often it stands there."""
    found: list[int] = []
    for value in cells:
        if found and found[-2] == value:
            found[-1] += 1
        else:
            found += [value, 1]
    return found


def _rows(base: Scene) -> list[str]:
    """The address at which each line of the map begins."""
    found = []
    for number in range(ROWS):
        place = base.length * number / ROWS
        rows = base.within(place, base.length + 1)
        if not rows:
            found.append("")
            continue
        region = base.pieces[rows[0]].region
        drawn = base.ends[rows[0]] - base.begins[rows[0]]
        part = max(place - base.begins[rows[0]], 0.0) / drawn if drawn else 0.0
        page = base.space.system.page_size
        found.append(f"{region.start + int(part * region.size) // page * page:x}")
    return found


# The plots


def _areas(bands: Sequence[Band], elapsed: Sequence[float], *, still: bool) -> str:
    """Stacked, the first at the bottom, with the grid."""
    totals = [sum(values) for values in zip(*(band.values for band in bands), strict=True)] or [0] * len(elapsed)
    top = _round_up(max(totals, default=0))
    wide, high = _WIDTH - _LEFT - 10, _HEIGHT - _TOP - _BELOW
    span = elapsed[-1] or 1.0
    xs = [_LEFT + wide * each / span for each in elapsed]
    parts = []
    for number in range(5):
        y = _TOP + high * (1 - number / 4)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_LEFT + wide}" y1="{y:g}" y2="{y:g}"/>')
        parts.append(
            f'<text class="tick" x="{_LEFT - 8}" y="{y + 4:g}" text-anchor="end">{human(top * number // 4)}</text>'
        )
    below = [0] * len(elapsed)
    for band in bands:
        above = [low + value for low, value in zip(below, band.values, strict=True)]
        points = [f"{x:.1f},{_TOP + high * (1 - value / top):.1f}" for x, value in zip(xs, above, strict=True)]
        back = [f"{x:.1f},{_TOP + high * (1 - value / top):.1f}" for x, value in zip(xs, below, strict=True)]
        how = f'fill="{LIGHT[band.look]}"' if still else f'class="is-{band.look.value}"'
        told = f"{band.label}: {human(band.values[0])} to {human(band.values[-1])}"
        parts.append(f'<polygon {how} points="{" ".join(points + back[::-1])}"><title>{quoted(told)}</title></polygon>')
        below = above
    for at, told in _ticks(span):
        x = _LEFT + wide * at / span
        anchor = "start" if at == 0 else "end" if x > _LEFT + wide - 20 else "middle"
        parts.append(f'<text class="tick" x="{x:g}" y="{_HEIGHT - 8}" text-anchor="{anchor}">{told}</text>')
    return "\n".join(parts)


def _plot(bands: Sequence[Band], elapsed: Sequence[float], number: int) -> str:
    return (
        f'<svg class="plot" data-plot="{number}" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="stacked areas: bytes over time">\n{_areas(bands, elapsed, still=False)}\n'
        f'<line class="now" x1="{_WIDTH - 10}" x2="{_WIDTH - 10}" y1="{_TOP}" y2="{_HEIGHT - _BELOW}"/></svg>'
    )


def _legend(bands: Sequence[Band], number: int) -> str:
    """A table: of each its first value, that of the moment, and the last."""
    rows = "".join(
        f'<tr><th scope="row" class="label name">{html.swatch(band.look)}{quoted(band.label)}</th>'
        f'<td>{human(band.values[0])}</td><td data-band="{number}">{human(band.values[-1])}</td>'
        f"<td>{human(band.values[-1])}</td><td>{_gained(band)}</td></tr>\n"
        for band in reversed(bands)
    )
    return (
        '<div class="wide" tabindex="0" role="group" aria-label="what each had"><table class="growth">\n'
        '<thead><tr><th scope="col">from top to bottom</th>'
        '<th scope="col">first</th><th scope="col">at the moment</th><th scope="col">last</th>'
        f'<th scope="col">gained</th></tr></thead>\n<tbody>\n{rows}</tbody>\n</table></div>\n'
    )


def _gained(band: Band) -> str:
    size = band.values[-1] - band.values[0]
    return f"{'+' if size > 0 else '-' if size < 0 else ''}{human(abs(size))}"


def _round_up(value: int) -> int:
    """To a number that four lines of a grid divide well."""
    step = 4
    while step * 8 < value:
        step *= 2
    return max(-(-value // step) * step, 4)


_UNITS = (("ms", 0.001), ("s", 1.0), ("min", 60.0), ("h", 3600.0), ("d", 86400.0))
_STEPS = {"ms": (1, 5, 20, 100), "s": (0.5, 1, 2, 5, 10, 20, 30), "min": (1, 2, 5, 10, 20, 30), "h": (1, 2, 4, 6, 12)}
_MOST_TICKS = 8


def _ticks(span: float) -> Iterator[tuple[float, str]]:
    """Round times from 0 to the end, in seconds, and as they are told: all in one unit."""
    steps = [(step * size, unit, size) for unit, size in _UNITS for step in _STEPS.get(unit, ())]
    days = 86400.0
    while span / days > _MOST_TICKS:
        days *= 2
    seconds, unit, size = next((each for each in steps if span / each[0] <= _MOST_TICKS), (days, "d", 86400.0))
    for number in range(int(span / seconds * (1 + 1e-9)) + 1):
        yield number * seconds, f"{number * seconds / size:g} {unit}"


def _seconds(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.3g} s"
    if seconds < 7200:
        return f"{seconds / 60:.3g} min"
    return f"{seconds / 3600:.3g} h"


def _spark(values: Sequence[int], width: int) -> str:
    """As tall as each value is of the largest."""
    most = max(values) or 1
    columns = min(width, len(values))
    picked = [values[round(each * (len(values) - 1) / max(columns - 1, 1))] for each in range(columns)]
    return "".join(_SPARKS[min(int(8 * value / most), 7)] if value else " " for value in picked).ljust(width)
