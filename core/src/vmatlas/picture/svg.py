"""A picture as one SVG file: the same scene, still. It has no script, and everything is in it. Pure.

Text of a process has gone through `legible.escape` in the scene, and is quoted here: it is the content of elements
`text` and `title`, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from html import escape as quoted
from typing import NamedTuple

from vmatlas.legible import human
from vmatlas.picture.palette import LIGHT, LIGHT_GROUND, Look, Sort
from vmatlas.picture.scene import Area, Scene, SortTotal

WIDTH = 1200
_EDGE, _GUTTER = 24, 122
_INNER = WIDTH - 2 * _EDGE - _GUTTER
_LABEL, _BAR, _PITCH, _HEADING = 14, 17, 38, 22
_LINES = 16
"""So many at the most, and eight more than there are areas."""

_INK, _QUIET, _RULE = "#1b1f24", "#5b636d", "#c9ced5"
_LIGHT_PART = 0.3
_SANS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Noto Sans', 'DejaVu Sans', sans-serif"
_MONO = "ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace"


def drawing(scene: Scene, *, title: str = "", says: str = "", origin: str = "") -> str:
    """The picture of one address space, as text; with other words above it, where there are any."""
    head = (title or scene.title, says or scene.says, origin or scene.origin)
    parts = list(_parts(scene, head))
    height = int(parts.pop())
    style = (
        f"text {{ font: 12px {_SANS}; fill: {_INK}; unicode-bidi: isolate; }} .q {{ fill: {_QUIET}; }} "
        f".m {{ font-family: {_MONO}; font-size: 11px; }} .l {{ font-size: 11px; }} .r {{ text-anchor: end; }} "
        "text.h { font-size: 20px; font-weight: 600; } .b { font-weight: 600; }"
    )
    return (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
        f'role="img">\n<title>{quoted(head[0])}: {quoted(head[1])}</title>\n<style>{style}</style>\n'
        '<defs><pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        f'<line x1="0" y1="0" x2="0" y2="6" stroke="{_QUIET}" stroke-opacity="0.55"/></pattern></defs>\n'
        f'<rect width="100%" height="100%" fill="{LIGHT_GROUND}"/>\n{"".join(parts)}</svg>\n'
    )


def _parts(scene: Scene, head: tuple[str, str, str]) -> Iterator[str]:
    """The elements, and the height of it all at the end."""
    y = _EDGE + 18
    yield _text(_EDGE, y, head[0], "h")
    for told, style in ((head[1], ""), (head[2], "q")):
        y += 20
        yield _text(_EDGE, y, told, style)
    for note in scene.notes:
        y += 18
        yield _text(_EDGE, y, f"! {note}", "b")
    y += 26
    for part, next_y in _table(scene, y):
        yield part
        y = next_y
    y += 14
    scale = _scale(scene)
    for number, area in enumerate(scene.areas):
        if number:
            words = f"{human(area.free_before)} of free addresses"
            if scene.pieces[area.first].region.start >= 2**63 > scene.pieces[area.first - 1].region.start:
                words = "the kernel's half of the addresses"
            yield _text(_EDGE + _GUTTER, y + 14, words, "q")
            y += _HEADING
        for line in range(_lines(area, scale)):
            yield from _line(scene, area, area.begin + line * _INNER * scale, scale, y)
            y += _PITCH
    if not scene.pieces:
        yield _text(_EDGE, y + 14, "There is no region: a process of the kernel's own has no memory.", "q")
        y += _HEADING
    y += 18
    yield _text(_EDGE, y, _legend(scene), "q")
    yield str(y + _EDGE)


def _legend(scene: Scene) -> str:
    told = ["From low addresses to high, line by line, to scale but for what is folded."]
    if scene.marks is not None:
        told.append("Full: in memory, page by page.")
    elif scene.tree_tells_memory:
        told.append("Filled from below to the part that is in memory.")
    else:
        told.append("What is in memory is not told here.")
    told.append("A thin line: free addresses.")
    if scene.folds:
        told.append(f"//: {scene.folds}, folded to that.")
    return " ".join(told)


def _table(scene: Scene, y: int) -> Iterator[tuple[str, int]]:
    """The legend of colours, with what each comes to."""
    use = scene.whole.total.memory.use
    titles = ["size", "committed"]
    titles += ["in memory"] * (use.resident is not None) + ["private"] * (use.private is not None)
    titles += ["regions", "largest"]
    places = [_EDGE + 230 + 92 * number for number in range(len(titles))]
    for place, title in zip(places, titles, strict=True):
        yield _text(place, y, title, "q r"), y
    if scene.largest_gap is not None:
        gap = f"largest free gap {human(scene.largest_gap.size)} at {scene.largest_gap.start:x}"
        yield _text(WIDTH - _EDGE, y, f"{gap}; free between regions {human(scene.free)}", "q r"), y

    def cells(each: SortTotal) -> list[str]:
        told = [human(each.total.size), human(each.committed)]
        if use.resident is not None:
            told.append(_size(each.total.resident))
        if use.private is not None:
            told.append(_size(each.total.private_resident))
        return [*told, f"{each.total.regions:,}", human(each.largest)]

    for total in (*scene.totals, scene.whole):
        y += 19
        style = "r" if total.sort else "r b"
        if total.sort is not None:
            yield f'<rect x="{_EDGE}" y="{y - 10}" width="12" height="12" fill="{LIGHT[total.sort]}"/>\n', y
            if total.sort is Sort.RESERVED:
                yield f'<rect x="{_EDGE}" y="{y - 10}" width="12" height="12" fill="url(#hatch)"/>\n', y
        yield _text(_EDGE + 20, y, "all" if total.sort is None else total.sort.value, style.replace("r", "")), y
        for place, told in zip(places, cells(total), strict=True):
            yield _text(place, y, told, style), y
    yield "", y + 10


def _size(value: int | None) -> str:
    return "\N{EN DASH}" if value is None else human(value)


def _scale(scene: Scene) -> float:
    """Bytes as drawn in a pixel: as few as leave all of it room."""
    low = scene.space.system.page_size / 14
    high = max(scene.length / _INNER, low)
    most = max(_LINES, len(scene.areas) + 8)
    if sum(_lines(area, low) for area in scene.areas) <= most:
        return low
    for _ in range(40):
        middle = math.sqrt(low * high)
        if sum(_lines(area, middle) for area in scene.areas) > most:
            low = middle
        else:
            high = middle
    return high


def _lines(area: Area, scale: float) -> int:
    return max(math.ceil((area.end - area.begin) / scale / _INNER - 1e-9), 1)


class _Small(NamedTuple):
    """Regions in one pixel, which are too small to be seen."""

    pixel: int
    parts: dict[Look, float]
    filled: float
    told: bool


def _line(scene: Scene, area: Area, begin: float, scale: float, y: int) -> Iterator[str]:
    """A line of the map."""
    end = min(begin + _INNER * scale, area.end)
    left, bar = _EDGE + _GUTTER, y + _LABEL
    rows = scene.within(begin, end)
    yield _rect(left, bar + _BAR / 2 - 0.5, (end - begin) / scale, 1, _RULE)
    if rows:
        yield _text(left - 10, bar + 12, f"{_address(scene, rows[0], begin):x}", "m q r")
    labels: list[_Label] = []
    small: _Small | None = None
    for row in rows:
        x = max((scene.begins[row] - begin) / scale, 0.0)
        to = min((scene.ends[row] - begin) / scale, float(_INNER))
        if to - x < 1:
            if small is not None and small.pixel != int(x):
                yield from _pixel(small, left, bar)
                small = None
            small = small or _Small(int(x), {}, 0.0, False)
            piece = scene.pieces[row]
            small.parts[piece.sort] = small.parts.get(piece.sort, 0.0) + to - x
            if piece.filled is not None:
                small = small._replace(filled=small.filled + piece.filled * (to - x), told=True)
            continue
        if small is not None:
            yield from _pixel(small, left, bar)
            small = None
        yield from _piece(scene, row, left + x, bar, to - x, (begin, end, scale))
        if scene.pieces[row].short:
            labels.append(_Label(scene.pieces[row].short, scene.pieces[row].common, x, to))
    if small is not None:
        yield from _pixel(small, left, bar)
    once = [each._replace(text=each.fitting) for each in _joined(labels, lambda one, other: 1)]
    for each in _joined(once, lambda one, other: one + other):
        told = f"{each.many} \N{MULTIPLICATION SIGN} {each.text}" if each.many > 1 else each.text
        shown = told if len(told) <= each.room else f"{told[: each.room - 1]}…" if each.room >= 4 else ""
        if shown:
            yield _text(left + each.x, y + 11, shown, "l")


class _Label(NamedTuple):
    """What a region, or several side by side, is called above them."""

    text: str
    common: str
    x: float
    to: float
    many: int = 1
    """Of so many names."""

    @property
    def room(self) -> int:
        """So many letters."""
        return int((self.to - self.x - 6) / 5.9)

    @property
    def fitting(self) -> str:
        """The name if there is room for it; else that which neighbours may have in common with it."""
        return self.text if len(self.text) <= self.room else self.common


def _joined(labels: Sequence[_Label], many: Callable[[int, int], int]) -> list[_Label]:
    """Neighbours that are called the same have it once."""
    found: list[_Label] = []
    for each in labels:
        last = found[-1] if found else None
        if last is not None and last.text == each.text and each.x - last.to < 12:
            found[-1] = last._replace(to=each.to, many=many(last.many, each.many))
        else:
            found.append(each)
    return found


def _pixel(small: _Small, left: float, y: float) -> Iterator[str]:
    sort = max(small.parts, key=lambda each: small.parts[each])
    total = sum(small.parts.values())
    yield from _filled(sort, left + small.pixel, y, 1.0, small.filled / total if small.told and total else None)


def _piece(scene: Scene, row: int, x: float, y: float, width: float, line: tuple[float, float, float]) -> Iterator[str]:
    """A region, or what of it stands in a line."""
    piece, (begin, end, scale) = scene.pieces[row], line
    region = piece.region
    drawn = width - (1 if width >= 5 else 0)
    told = f"{region.start:x}-{region.end:x} {region.permissions} {piece.sort.value}, {human(region.size)}"
    if piece.resident is not None:
        told += f", {human(piece.resident)} in memory"
    if piece.label:
        told += f"\n{piece.label}"
    yield f"<g><title>{quoted(told)}</title>\n"
    marks = None if scene.marks is None else scene.marks.get(row, ())
    yield from _filled(piece.sort, x, y, drawn, piece.filled if marks is None else 0.0)
    shrunk = (scene.ends[row] - scene.begins[row]) / region.size
    last = -math.inf
    for mark in marks or ():
        low = scene.begins[row] + (mark.start - region.start) * shrunk
        high = scene.begins[row] + (mark.end - region.start) * shrunk
        if high <= begin or low >= end:
            continue
        left = max(x, _EDGE + _GUTTER + (low - begin) / scale)
        right = min(x + drawn, max(_EDGE + _GUTTER + (high - begin) / scale, left + 0.6))
        if right - last < 0.3 and mark.what != "guard":  # seen already, with the one before
            continue
        last = right
        yield _mark(mark.what, LIGHT[piece.sort], left, y, max(right - left, 0.5))
    if scene.is_folded(row) and width > 26:
        middle = x + width / 2
        for offset in (-4, 3):
            yield (
                f'<line x1="{_px(middle + offset - 3)}" y1="{y + _BAR + 1}" x2="{_px(middle + offset + 4)}" '
                f'y2="{y - 1}" stroke="{LIGHT_GROUND}" stroke-width="3"/>\n'
            )
    yield "</g>\n"


def _filled(sort: Look, x: float, y: float, width: float, part: float | None) -> Iterator[str]:
    colour = LIGHT[sort]
    if sort is Sort.RESERVED:
        yield _rect(x, y, width, _BAR, colour)
        if width > 4:
            yield _rect(x, y, width, _BAR, "url(#hatch)")
        return
    if part is not None and part >= 1:
        yield _rect(x, y, width, _BAR, colour)
        return
    yield _rect(x, y, width, _BAR, LIGHT_GROUND)
    yield _rect(x, y, width, _BAR, colour, 0.62 if part is None else _LIGHT_PART)
    if part:
        height = max(_BAR * part, 1.0)
        yield _rect(x, y + _BAR - height, width, height, colour)


def _mark(what: str, solid: str, x: float, y: float, width: float) -> str:
    if what == "guard":
        return (
            _rect(x, y, width, _BAR, LIGHT_GROUND)
            + _rect(x, y, width, 2, _INK)
            + _rect(x, y + _BAR - 2, width, 2, _INK)
        )
    if what == "swapped":
        return _rect(x, y, width, _BAR / 3, solid)
    return _rect(x, y + _BAR - 3, width, 3, solid) if what == "zero" else _rect(x, y, width, _BAR, solid)


def _rect(x: float, y: float, width: float, height: float, fill: str, opacity: float | None = None) -> str:
    light = "" if opacity is None else f' fill-opacity="{opacity:g}"'
    return f'<rect x="{_px(x)}" y="{_px(y)}" width="{_px(width)}" height="{_px(height)}" fill="{fill}"{light}/>\n'


def _text(x: float, y: float, told: str, style: str = "") -> str:
    kind = f' class="{style.strip()}"' if style.strip() else ""
    return f'<text x="{_px(x)}" y="{_px(y)}"{kind}>{quoted(told)}</text>\n'


def _px(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _address(scene: Scene, row: int, place: float) -> int:
    region, page = scene.pieces[row].region, scene.space.system.page_size
    if place <= scene.begins[row]:
        return region.start
    part = (place - scene.begins[row]) / (scene.ends[row] - scene.begins[row])
    return region.start + int(part * region.size) // page * page
