"""Two address spaces compared: what became of every range, and what each kind, file and name gained. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape as quoted
from typing import NamedTuple

from vmatlas.analysis.diff import Change, ChangeKind, Difference
from vmatlas.analysis.growth import Growth, growth_by
from vmatlas.legible import escape, human
from vmatlas.model import AddressSpace, Region
from vmatlas.picture import html, svg, text
from vmatlas.picture.palette import Became
from vmatlas.picture.scene import Scene, scene_of
from vmatlas.picture.text import Line, Span

_MOST = 12
"""Of each table the first so many: all are in `vmatlas diff --by`."""

_BY = (("kind", "Kinds"), ("file", "Files"), ("name", "Names of what has no file"))


@dataclass(frozen=True, slots=True)
class ComparisonView:
    """What became of an address space."""

    scene: Scene
    """Of what is there, and of what was there: `Became` in the place of sorts."""
    difference: Difference
    growths: tuple[tuple[str, tuple[Growth, ...]], ...]
    """By kind, file, name; the most gained first."""

    @property
    def title(self) -> str:
        """Whose, safe to show."""
        before, after = (space.origin for space in (self.difference.before, self.difference.after))
        return f"{self.scene.title}, compared" + ("" if before.pid == after.pid else f" with process {before.pid}")

    @property
    def says(self) -> str:
        """What there is to see, in a line."""
        counts = Counter(change.kind for change in self.difference.changes)
        told = [f"{counts[kind]:,} {kind.value}" for kind in ChangeKind if counts[kind]]
        memory = self.difference.memory
        used = "" if memory is None or memory.held is None else f", {_signed(memory.held)} in memory or swap"
        changes = ", ".join(told) if told else "nothing changed"
        return f"{changes}; {_signed(self.difference.growth)} of addresses{used}{self._untold}"

    @property
    def _untold(self) -> str:
        """That and why memory in use is not compared; empty where it is."""
        sides = (("before", self.difference.before), ("after", self.difference.after))
        lack = [name for name, space in sides if space and space.memory.use.held is None]
        return f"; memory in use is not compared (not told of {' nor '.join(lack)})" if lack else ""

    @property
    def origin(self) -> str:
        """From when to when, safe to show."""
        seconds = self.difference.after.time - self.difference.before.time
        return f"{self.scene.origin} · against {abs(seconds):,.0f} s {'before' if seconds >= 0 else 'after'}"

    def article(self) -> str:
        """In HTML."""
        growths = "".join(_growth_section(title, listed) for title, listed in self.growths)
        return "".join(
            (
                html.head(self.title, self.origin, self.says, self.scene.notes),
                f'<div class="side">{growths}</div>\n',
                html.map_section(self.scene, what="What became of the addresses"),
                html.list_section(self.scene),
                html.data_script(html.space_data(self.scene)),
            )
        )

    def drawing(self) -> str:
        """As one SVG file."""
        return svg.drawing(self.scene, title=self.title, says=self.says, origin=self.origin)

    def lines(self, width: int, *, colours: bool) -> Iterator[Line]:
        """As text."""
        for title, listed in self.growths:
            if listed:
                yield from text.wrapped(f"{title}, what each gained", width, "heading")
                for each in listed[:_MOST]:
                    held = "-" if each.held is None else _signed(each.held)
                    held = f"{held:>8} in memory" if width >= 64 else f"{held:>7}"
                    told = f"{held}  {_signed(each.size):>8} of addresses  {_key(each)}"
                    yield [Span(told if len(told) <= width else f"{told[: width - 1]}…")]
                yield []
        head = (self.title, self.says, self.origin)
        yield from text.picture(self.scene, width, colours=colours, head=head)


def comparison(difference: Difference, notes: Sequence[str] = ()) -> ComparisonView:
    """What became of the regions, from `difference.before` to `difference.after`, which are whole maps.

    With guesses (`Difference.with_guesses`) nameless memory is called what it seems to be.
    """
    parts = list(_parts(difference))
    space = AddressSpace.of([part.region for part in parts], difference.after.origin)
    guesses = None
    if difference.guesses is not None:
        guesses = {**difference.guesses[0], **difference.guesses[1]}
    told = list(notes)
    if difference.before.incomplete is not None:
        told.append(f"the map before may lack something: {difference.before.incomplete}")
    scene = scene_of(space, guesses=guesses, notes=told, became=[(part.became, _remark(part)) for part in parts])
    growths = [(title, tuple(growth_by(difference, by))) for by, title in _BY]
    return ComparisonView(scene, difference, tuple(growths))


class _Part(NamedTuple):
    """A region, or a part of one, and the change that it is of."""

    region: Region
    became: Became
    change: Change | None = None


def _parts(difference: Difference) -> list[_Part]:
    """What is there now, and of what is there no more what nothing else has taken; by address."""
    by_start = {change.after.start: change for change in difference.changes if change.after is not None}
    found: list[_Part] = []
    for region in difference.after:
        found += _now(region, by_start.get(region.start))
    for change in difference.changes:
        before = change.before
        if before is None or change.kind not in (ChangeKind.REMOVED, ChangeKind.SHRUNK, ChangeKind.MOVED):
            continue
        became = Became.SHRUNK if change.kind is ChangeKind.SHRUNK else Became.REMOVED
        for start, end in _uncovered(difference.after, before.start, before.end):
            found.append(_Part(_cut(before, start, end, empty=True), became, change))
    return sorted(found, key=lambda part: part.region.start)


def _now(region: Region, change: Change | None) -> list[_Part]:
    if change is None:
        return [_Part(region, Became.SAME)]
    if change.kind is ChangeKind.GROWN and change.before is not None:
        low, high = max(region.start, change.before.start), min(region.end, change.before.end)
        if low < high:
            edges = [(region.start, low, Became.GROWN), (low, high, Became.SAME), (high, region.end, Became.GROWN)]
            return [
                _Part(_cut(region, start, end, empty=False), became, change)
                for start, end, became in edges
                if start < end
            ]
    if change.kind is ChangeKind.SHRUNK:
        return [_Part(region, Became.SAME, change)]
    return [_Part(region, Became(change.kind.value), change)]


def _remark(part: _Part) -> str:
    """What became of it, in lines of a term, a tab, and what is told."""
    change = part.change
    if change is None:
        return ""
    told = [f"what became of it\t{change.kind.value}"]
    for when, region in (("was", change.before), ("is", change.after)):
        if region is not None:
            told.append(f"it {when}\t{region.start:x}-{region.end:x} {region.permissions}")
    if change.growth:
        told.append(f"addresses gained\t{_signed(change.growth)}")
    memory = change.memory
    if memory is not None and memory.held is not None:
        told.append(f"gained in memory or swap\t{_signed(memory.held)}")
    if change.fields:
        told.append(f"what differs\t{escape(', '.join(change.fields))}")
    return "\n".join(told)


def _cut(region: Region, start: int, end: int, *, empty: bool) -> Region:
    """A part of a region; how much of a part is in memory is not told, and of what is gone nothing is."""
    if (start, end) == (region.start, region.end) and not empty:
        return region
    offset = None if region.offset is None else region.offset + start - region.start
    resident = None if region.resident is None or not empty else 0
    return region._replace(
        start=start, end=end, offset=offset, resident=resident, private_resident=None, details=type(region.details)()
    )


def _uncovered(space: AddressSpace, start: int, end: int) -> Iterator[tuple[int, int]]:
    """What of a range no region covers."""
    from bisect import bisect_right

    row = max(bisect_right(space.columns.start, start) - 1, 0)
    while row < len(space) and space.columns.start[row] < end:
        low, high = space.columns.start[row], space.columns.end[row]
        if start < low:
            yield start, low
        start = max(start, high)
        row += 1
    if start < end:
        yield start, end


def _signed(size: int) -> str:
    return f"{'+' if size > 0 else '-' if size < 0 else ''}{human(abs(size))}"


def _key(each: Growth) -> str:
    return escape(each.key) or "(nameless)"


def _growth_section(title: str, listed: Sequence[Growth]) -> str:
    """What each gained or lost, with a bar to the right or to the left."""
    if not listed:
        return f'<section>\n<h2>{title}</h2>\n<p class="empty">None of them gained or lost anything.</p>\n</section>\n'
    told = any(each.held is not None for each in listed)
    shown = sorted(listed, key=lambda each: -abs(_weight(each, told)))[:_MOST]
    shown.sort(key=lambda each: -_weight(each, told))
    most = max(abs(_weight(each, told)) for each in shown) or 1
    rows = []
    for each in shown:
        weight = _weight(each, told)
        width = 50 * abs(weight) / most
        left = 50 if weight >= 0 else 50 - width
        look = Became.GROWN if weight >= 0 else Became.SHRUNK
        bar = (
            f'<svg role="img" aria-label="{_signed(weight)}"><rect x="{left:.2f}%" width="{width:.2f}%" height="100%" '
            f'class="is-{look.value}"/><line x1="50%" x2="50%" y1="0" y2="100%" class="axis"/></svg>'
        )
        held = f"<td>{'&ndash;' if each.held is None else _signed(each.held)}</td>" if told else ""
        now = 0 if each.after is None else each.after.size
        rows.append(
            f'<tr><th scope="row" class="label name">{quoted(_key(each))}</th><td class="bar">{bar}</td>{held}'
            f"<td>{_signed(each.size)}</td><td>{human(now)}</td></tr>\n"
        )
    more = "" if len(shown) == len(listed) else f'<p class="quiet">and {len(listed) - len(shown):,} that did less</p>\n'
    first = '<th scope="col">in memory or swap</th>' if told else ""
    return (
        f"<section>\n<h2>{title} <small>what each gained, or lost</small></h2>\n"
        f'<div class="wide" tabindex="0" role="group" aria-label="{title}"><table class="growth">\n'
        '<thead><tr><th scope="col">what</th>'
        f'<th scope="col" class="bar middle">lost | gained</th>{first}<th scope="col">addresses</th>'
        f'<th scope="col">size now</th></tr></thead>\n<tbody>\n{"".join(rows)}</tbody>\n</table></div>\n'
        f"{more}</section>\n"
    )


def _weight(each: Growth, told: bool) -> int:
    return (each.held or 0) if told else each.size
