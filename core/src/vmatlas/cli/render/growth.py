"""What grows over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmatlas.analysis.slopes import Verdict
from vmatlas.analysis.trend import Trend, Trends, order
from vmatlas.cli.render.maps import origin_json, where_and_when, who
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, foot, growth_text, size_text
from vmatlas.cli.render.together import Whose, together, together_csv, together_json

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

CSV_COLUMNS = (
    *("by", "key", "verdict", "per_hour", "low", "high", "chance", "first", "last", "gained"),
    *("space_per_hour", "space_first", "space_last", "start", "end", "guess"),
)

_STYLES = {Verdict.GROWS: "change.grown", Verdict.SHRINKS: "change.shrunk", Verdict.STEADY: "note"}
_MOST_SURE = 0.0005
"""A chance below it is told as a confidence of more than 99.9 %."""


def trends_table(found: Trends, by: str | None, *, everything: bool, exact: bool) -> Table:
    """A line for each group that did not stay as it is (or for all), what grows first, and one for all memory."""
    chosen = _shown(found, by, everything=everything)
    columns = (
        Column("VERDICT"),
        Column("PER-HOUR", right=True),
        Column("AT-LEAST", right=True, leaves=3),
        Column("CONFIDENCE", right=True, leaves=2),
        Column("NOW", right=True),
        Column("GAINED", right=True),
        Column("SPACE/HOUR", right=True, leaves=4),
        Column("BY"),
        Column("WHERE", leaves=5, below=True),
        Column("GUESS", leaves=1, below=True),
        Column("NAME", crops=True),
    )
    rows = [_row(each, exact=exact) for each in chosen]
    rows += [_row(each, exact=exact, style="heading") for each in found.of("all")]
    followed = "address space" if found.measure == "size" else f"memory in use ({found.measure})"
    hidden = len(_chosen(found, by)) - len(chosen)
    steady = f"; {count(hidden, 'group')} stayed as they are (--all)" if hidden else ""
    note = f"{followed} of {count(found.moments, 'moment')} in {found.seconds:,.0f} s{steady}"
    title = who(found.last), *where_and_when(found.last)
    return Table(columns, rows, title=title, notes=(note,), feet=len(found.of("all")))


def several_table(
    told: Sequence[tuple[str | None, Trends]], by: str | None, unread: Unread, *, everything: bool, exact: bool
) -> Table:
    """The lines of several series (each with its file) or processes, what grows first before all others."""
    tables = []
    for file, found in told:
        table = trends_table(found, by, everything=everything, exact=exact)
        if file is not None:
            shown = [
                row._replace(cells=(escape(file), *row.cells), emphasis=_moved(row.emphasis)) for row in table.rows
            ]
            table = table._replace(columns=(Column("FILE", leaves=6), *table.columns), rows=shown)
        tables.append((_whose(found), table))
    keys = [[order(each) for each in _shown(found, by, everything=everything)] for _, found in told]
    return together(tables, unread, order=keys)


def _moved(emphasis: dict[int, str] | None) -> dict[int, str] | None:
    return None if emphasis is None else {place + 1: style for place, style in emphasis.items()}


def _whose(found: Trends) -> Whose:
    return Whose(found.last.pid, found.last.origin.name)


def _shown(found: Trends, by: str | None, *, everything: bool) -> list[Trend]:
    return [each for each in _chosen(found, by) if everything or each.verdict is not Verdict.STEADY]


def _row(each: Trend, *, exact: bool, style: str = "") -> Row:
    where = NOTHING if each.where is None else f"{each.where[0]:x}-{each.where[1]:x}"
    cells = (
        each.verdict.value.replace(" ", "-").replace(",", ""),
        growth_text(round(each.slope), exact=exact),
        growth_text(round(each.low), exact=exact),
        _confidence(each.chance),
        size_text(each.last, exact=exact),
        growth_text(each.gained, exact=exact),
        growth_text(round(each.space_slope), exact=exact),
        each.by,
        where,
        NOTHING if each.guess is None else escape(each.guess),
        foot(each.key) if each.by == "all" else escape(each.key) or NOTHING,
    )
    return Row(cells, style, {0: _STYLES.get(each.verdict, "")} if not style else None)


def _confidence(chance: float | None) -> str:
    if chance is None:
        return NOTHING
    return ">99.9%" if chance < _MOST_SURE else f"{100 * (1 - chance):.1f}%"


def _chosen(found: Trends, by: str | None) -> Sequence[Trend]:
    return [each for each in found if each.by != "all" and by in (None, each.by)]


def trends_json(found: Trends, by: str | None) -> dict[str, Any]:
    """Every group, what grows first; bytes, and bytes an hour."""
    return {
        **origin_json(found.last),
        "moments": found.moments,
        "seconds": found.seconds,
        "measure": found.measure,
        "total": _told(found.of("all")[0]) if found.of("all") else None,
        "trends": [_told(each) for each in _chosen(found, by)],
    }


def _told(each: Trend) -> dict[str, Any]:
    return {
        "by": each.by,
        "key": each.key,
        "verdict": each.verdict.value,
        "per_hour": each.slope,
        "low": each.low,
        "high": each.high,
        "chance": each.chance,
        "first": each.first,
        "last": each.last,
        "gained": each.gained,
        "space_per_hour": each.space_slope,
        "space_first": each.space_first,
        "space_last": each.space_last,
        "start": None if each.where is None else each.where[0],
        "end": None if each.where is None else each.where[1],
        "guess": each.guess,
    }


def several_json(told: Sequence[tuple[str | None, Trends]], by: str | None, unread: Unread) -> dict[str, Any]:
    """The same of several series (each with its file) or processes, and who could not be read."""
    return together_json([{"file": file, **trends_json(found, by)} for file, found in told], unread)


def several_csv(
    told: Sequence[tuple[str | None, Trends]], by: str | None, unread: Unread
) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows of several."""
    titles = ["file", *CSV_COLUMNS]
    rows = [(_whose(found), titles, [{"file": file, **row} for row in trends_csv(found, by)]) for file, found in told]
    return together_csv(rows, unread)


def trends_csv(found: Trends, by: str | None) -> list[dict[str, Any]]:
    """A row for each."""
    return [_told(each) for each in _chosen(found, by)]
