"""Values as short tables in HTML, for a notebook (`_repr_html_`). Pure.

A notebook has styles and scripts of its own, and takes away what it does not trust: so each table is plain, with its
few styles in the elements, and no script. Names have gone through `legible.escape`, and are quoted.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape as quoted

from vmatlas.analysis.audit import AuditReport, Finding
from vmatlas.analysis.diff import Change, ChangeKind, Difference
from vmatlas.analysis.summary import Summary, Total
from vmatlas.legible import count, escape, human
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.model.pages import PageRuns
from vmatlas.picture.palette import LIGHT, Became, Look, sort_of

MOST = 12
"""Rows that are shown; of more the first, and how many there are."""

_NUMBER = "text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap"
_WORDS = "text-align:left;overflow-wrap:anywhere"
_MONO = f"{_WORDS};font-family:monospace;white-space:nowrap"


class _Told(str):
    """Markup that was made here; any other text is quoted."""

    __slots__ = ()


def shown(value: object) -> str:
    """A table of it. Raises TypeError for what has none."""
    if isinstance(value, AddressSpace):
        return _space(value)
    if isinstance(value, Region):
        return _regions([value], 1, "", code=set())
    if isinstance(value, Difference):
        return _difference(value)
    if isinstance(value, Summary):
        return _summary(value)
    if isinstance(value, AuditReport):
        return _findings(value.findings, f"{count(len(value), 'finding')}", value)
    if isinstance(value, Finding):
        return _findings([value], "", None)
    if isinstance(value, PageRuns):
        return _pages(value)
    raise TypeError(f"{type(value).__name__} has no table")


def sentence(told: str, regions: Sequence[tuple[str, Region]]) -> str:
    """What was said, and the regions that it is about, each with what it is in that."""
    rows = [(name, *_region(region, set())) for name, region in regions]
    return f"<p>{quoted(escape(told))}</p>{table(('', *_REGION), rows, numbers=(3, 4)) if rows else ''}"


def table(
    titles: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[int], caption: str = "", more: int = 0
) -> str:
    """Columns of words and of `numbers`, with a line for rows that are left out."""
    kept = list(rows)
    head = "".join(
        f'<th style="{_NUMBER if at in numbers else _WORDS}">{quoted(title)}</th>' for at, title in enumerate(titles)
    )
    body = "".join(f"<tr>{''.join(_cell(each, at in numbers) for at, each in enumerate(row))}</tr>" for row in kept)
    if more > 0:
        body += f'<tr><td colspan="{len(titles)}" style="{_WORDS}">and {more:,} more</td></tr>'
    above = f'<caption style="caption-side:top;text-align:left">{quoted(caption)}</caption>' if caption else ""
    return f"<table>{above}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cell(told: str, is_number: bool) -> str:
    return f'<td style="{_NUMBER if is_number else _WORDS}">{told if isinstance(told, _Told) else quoted(told)}</td>'


def swatch(look: Look) -> str:
    """A square of its colour, and its name."""
    return _Told(
        f'<span style="display:inline-block;width:.8em;height:.8em;margin-right:.5em;background:{LIGHT[look]}"></span>'
        f"{look.value}"
    )


def _size(value: int | None) -> str:
    return "\N{EN DASH}" if value is None else human(value)


def _signed(value: int | None) -> str:
    if value is None:
        return "\N{EN DASH}"
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{human(abs(value))}"


_REGION = ("addresses", "rights", "size", "in memory", "sort", "name")


def _region(region: Region, code: set[str | None]) -> tuple[str, ...]:
    is_code = region.path in code or bool(region.protection & Protection.EXECUTE)
    return (
        _Told(f'<span style="{_MONO}">{region.start:x}-{region.end:x}</span>'),
        _Told(f'<span style="{_MONO}">{region.permissions}</span>'),
        human(region.size),
        _size(region.resident),
        swatch(sort_of(region, is_code)),
        escape(region.label),
    )


def _regions(regions: Iterable[Region], of: int, caption: str, *, code: set[str | None]) -> str:
    kept = [_region(region, code) for region in regions]
    return table(_REGION, kept, numbers=(2, 3), caption=caption, more=of - len(kept))


def _space(space: AddressSpace) -> str:
    name = f" ({escape(space.origin.name)})" if space.origin.name else ""
    resident = space.memory.use.resident
    used = "" if resident is None else f", {human(resident)} in memory"
    caption = f"process {space.pid}{name}: {count(len(space), 'region')}, {human(space.total)} mapped{used}"
    if space.incomplete is not None:
        caption += f"; it may lack something: {escape(space.incomplete)}"
    code = {each.path for each in space if each.protection & Protection.EXECUTE} - {None}
    return _regions(space[:MOST], len(space), caption, code=code)


_BECAME = {kind: Became(kind.value) for kind in ChangeKind}


def _difference(difference: Difference) -> str:
    def row(change: Change) -> tuple[str, ...]:
        region, memory = change.region, change.memory
        return (
            swatch(_BECAME[change.kind]),
            _Told(f'<span style="{_MONO}">{region.start:x}-{region.end:x}</span>'),
            _Told(f'<span style="{_MONO}">{region.permissions}</span>'),
            _signed(change.growth),
            _signed(None if memory is None else memory.held),
            escape(region.label),
        )

    memory = difference.memory
    held = "" if memory is None or memory.held is None else f", {_signed(memory.held)} in memory or swap"
    caption = f"{count(len(difference.changes), 'change')}; {_signed(difference.growth)} of addresses{held}"
    titles = ("change", "addresses", "rights", "size", "in memory", "name")
    rows = [row(change) for change in difference.changes[:MOST]]
    return table(titles, rows, numbers=(3, 4), caption=caption, more=len(difference.changes) - MOST)


def _summary(summary: Summary) -> str:
    def row(name: str, total: Total) -> tuple[str, ...]:
        sizes = (human(total.size), _size(total.resident), _size(total.private_resident))
        return name, f"{total.regions:,}", *sizes

    rows = [row(use.value, total) for use, total in summary.uses.items()]
    titles = ("use", "regions", "size", "in memory", "private")
    return table(titles, [*rows, row("all", summary.total)], numbers=(1, 2, 3, 4))


def _findings(findings: Sequence[Finding], caption: str, report: AuditReport | None) -> str:
    if report is not None:
        caption += f", {len(report.allowed):,} allowed, {len(report.untold):,} that could not be told"
    rows = [
        (
            each.severity.word,
            each.id,
            "" if each.region is None else f"{each.region.start:x}-{each.region.end:x}",
            escape(each.explanation + (f"; {each.runtime}" if each.runtime else "")),
            escape(each.thing or ""),
        )
        for each in findings[:MOST]
    ]
    titles = ("severity", "finding", "addresses", "why", "name")
    return table(titles, rows, numbers=(), caption=caption, more=len(findings) - MOST)


def _pages(pages: PageRuns) -> str:
    sums = "; ".join(f"{' '.join(state.words)} {human(size)}" for state, size in pages.sums().items() if size)
    caption = f"process {pages.pid}: {count(len(pages), 'run')} of pages, {human(pages.total)}"
    rows = [
        (
            _Told(f'<span style="{_MONO}">{run.start:x}-{run.end:x}</span>'),
            human(run.size),
            " ".join(run.state.words),
        )
        for run in pages[:MOST]
    ]
    above = f"{caption}: {sums}" if sums else caption
    return table(("addresses", "size", "state"), rows, numbers=(1,), caption=above, more=len(pages) - MOST)
