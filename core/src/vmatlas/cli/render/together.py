"""The answers of several processes in one: whose each line is, and who could not be asked. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, name_text

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

_WHOSE = (Column("PID", right=True), Column("PROCESS"))


class Whose(NamedTuple):
    """Whose an answer is."""

    pid: int
    name: str | None


def of_each(told: Sequence[tuple[Whose, Table]]) -> Table:
    """One table of those that could be asked."""
    return together(told, None)


def together(
    told: Sequence[tuple[Whose, Table]], unread: Unread | None, *, order: Sequence[Sequence[Any]] | None = None
) -> Table:
    """One table, with a column for each that one of them has, and before them whose a line is.

    `order`: for each line of each table what it is put in order by, over all of them; else they follow one another.
    Whoever could not be asked has a line at the end.
    """
    columns = _union([tuple(column for column in table.columns if column.title != "PID") for _, table in told])
    rows: list[Row] = []
    feet: list[Row] = []
    for whose, table in told:
        made = list(_rows(whose, table, columns))
        body = len(made) - table.feet
        rows += made[:body]
        feet += made[body:]
    if order is not None:
        keys = [key for each in order for key in each]
        rows = [row for _, row in sorted(zip(keys, rows, strict=True), key=lambda pair: pair[0])]
    last = len(_WHOSE) + len(columns) - 1
    for whose, reason in unread_of(unread) if unread is not None else ():
        empty = [NOTHING] * max(len(columns) - 1, 0)
        cells = str(whose.pid), name_text(whose.name), *empty, escape(f"not read: {reason}")
        feet.append(Row(cells, "", {0: "heading", last: "bad"}))
    legend = dict.fromkeys(each for _, table in told for each in table.legend)
    return Table(
        (*_WHOSE, *columns) if columns else (*_WHOSE, Column("WHY")),
        [*rows, *feet],
        notes=(
            *(f"{whose.pid}: {note}" for whose, table in told for note in table.notes),
            count(len(told), "process", "processes"),
        ),
        legend=tuple(legend),
        empty=next((table.empty for _, table in told), ""),
        feet=len(feet),
    )


def _union(of: Sequence[tuple[Column, ...]]) -> tuple[Column, ...]:
    """Each column that one of them has, once, behind the one that it stands behind there."""
    found: list[Column] = []
    for columns in dict.fromkeys(of):
        at = 0
        for column in columns:
            titles = [each.title for each in found]
            if column.title in titles:
                at = titles.index(column.title) + 1
            else:
                found.insert(at, column)
                at += 1
    return tuple(found)


def _rows(whose: Whose, table: Table, columns: tuple[Column, ...]) -> Iterable[Row]:
    before = str(whose.pid), name_text(whose.name)
    places = {column.title: index for index, column in enumerate(table.columns)}
    wanted = [places.get(column.title) for column in columns]
    moved = {old: new + len(before) for new, old in enumerate(wanted) if old is not None}
    for row in table.rows:
        cells = [NOTHING if index is None else row.cells[index] for index in wanted]
        emphasis = {moved[index]: style for index, style in (row.emphasis or {}).items() if index in moved}
        # A first cell that sticks out is not the first one any more.
        yield Row((*before, *cells), row.style, {0: "heading"} | emphasis)


def unread_of(unread: Unread) -> list[tuple[Whose, str]]:
    """Who could not be asked, each with the reason."""
    silent = {process.pid: str(error) for process, error in unread.unanswered}
    return [
        (Whose(process.pid, process.known_name), silent.get(process.pid, reason))
        for reason, who in unread.unread.items()
        for process in who
    ]


def lacks(unread: Unread) -> list[tuple[str, str]]:
    """What is missing from an answer about everybody, a line each: how many processes, and why."""
    told = [(str(len(who)), f"not read: {reason}") for reason, who in unread.unread.items()]
    return told + ([(NOTHING, unread.unlisted)] if unread.unlisted is not None else [])


def unread_json(unread: Unread) -> dict[str, Any]:
    """Who could not be asked, by reason; words that chose nobody; why processes may be missing that are not listed."""
    return {
        "unread": {reason: [process.pid for process in who] for reason, who in unread.unread.items()},
        "unmatched": unread.unmatched,
        "incomplete": unread.unlisted,
    }


def together_json(told: Sequence[Mapping[str, Any]], unread: Unread) -> dict[str, Any]:
    """The answer of each, and what `unread_json` tells."""
    return {"processes": list(told), **unread_json(unread)}


def together_csv(
    told: Sequence[tuple[Whose, list[str], list[dict[str, Any]]]], unread: Unread
) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles, and the rows of each with its number and name before them; last, who could not be asked (`error`)."""
    titles = dict.fromkeys(title for _, titles, _ in told for title in titles)
    rows = [{"pid": whose.pid, "process": whose.name, **row} for whose, _, rows in told for row in rows]
    rows += [{"pid": whose.pid, "process": whose.name, "error": reason} for whose, reason in unread_of(unread)]
    return ["pid", "process", *titles, "error"], rows
