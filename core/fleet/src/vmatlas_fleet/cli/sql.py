"""`vmatlas sql`: a data set of a fleet, asked by SQL."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import csv_option, json_option, shape_options
from vmatlas.cli.words import refuse_both
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vmatlas.cli.render.table import Table
    from vmatlas_fleet.sql import Result

_AT_ONCE = 64
"""Rows that are written at once."""


@click.command("sql", short_help="Ask a data set of a fleet by SQL, or by a query that ships.")
@click.argument("statement", metavar="[SQL]", required=False)
@click.option("--data", "location", metavar="DATASET", help="The data set that 'vmatlas fleet record --to' made.")
@click.option("--query", "name", metavar="NAME", help="A query that ships, instead of SQL.")
@click.option("--set", "settings", metavar="NAME=VALUE", multiple=True, help="A parameter of that query. Repeated.")
@click.option("--queries", "lists", is_flag=True, help="List the queries that ship; with --query one of them, whole.")
@click.option("--tables", "describes", is_flag=True, help="List the tables, their columns, and the functions.")
@json_option
@csv_option
@shape_options
def command(
    statement: str | None,
    location: str | None,
    name: str | None,
    settings: tuple[str, ...],
    lists: bool,
    describes: bool,
    as_json: bool,
    as_csv: bool,
) -> int:
    """Ask a data set of a fleet by SQL. DuckDB answers, on this machine, with at most 16 threads and 2 GiB of memory.

    \b
    Examples:
      vmatlas sql --queries
      vmatlas sql --query old-libraries --set library=libssl --set before=3 --data atlas
      vmatlas sql "select host, size_text(sum(size)) from regions_now group by all" --data atlas
      vmatlas sql --tables

    A table has all that was ever recorded; NAME_now has of each host what its newest recording told. See docs/fleet.md.
    """
    from vmatlas.cli.render.shape import chosen_shape
    from vmatlas_fleet import queries

    refuse_both(as_json, as_csv)
    if describes:
        return _describe()
    if lists:
        return _list(name)
    if (statement is None) is (name is None):
        raise UsageError("give SQL or --query", hint="vmatlas sql --queries lists those that ship")
    if settings and name is None:
        raise UsageError("--set goes with --query")
    if location is None:
        raise UsageError("give the data set: --data DATASET", hint="vmatlas fleet record makes one")
    given = dict(map(_setting, settings))
    parameters: dict[str, str] = {}
    if name is not None:
        found = queries.query(name)
        statement, parameters = found.sql, found.values(given)
    from vmatlas_fleet.sql import ask, ask_by_rows, opened

    assert statement is not None
    with opened(location) as connection:
        if as_csv and not chosen_shape().reverse:
            _stream_csv(*ask_by_rows(connection, statement, parameters))
            return Exit.OK
        result = ask(connection, statement, parameters)
    show_result(result, as_json=as_json, as_csv=as_csv)
    return Exit.OK


def _stream_csv(columns: tuple[str, ...], rows: Iterator[tuple[Any, ...]]) -> None:
    """Rows as CSV, as they come: no answer is too long for that."""
    from itertools import islice

    from vmatlas.cli.render.output import show_csv
    from vmatlas.cli.render.shape import chosen_shape

    rows = islice(rows, chosen_shape().limit)
    titled = True
    while (some := list(islice(rows, _AT_ONCE))) or titled:
        show_csv(columns, [dict(zip(columns, map(plain, row), strict=True)) for row in some], titled=titled)
        titled = False


def _setting(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise UsageError(f"--set '{text}' is no NAME=VALUE")
    return name, value


def show_result(result: Result, *, as_json: bool, as_csv: bool) -> None:
    """Rows as a table, JSON or CSV."""
    from vmatlas.cli.render.output import show, show_csv, show_json

    if as_json or as_csv:
        rows = [dict(zip(result.columns, map(plain, row), strict=True)) for row in result.rows]
        show_json(rows) if as_json else show_csv(result.columns, rows)
        return
    if result.columns:
        show(table_of(result))


def table_of(result: Result) -> Table:
    """Rows as a table."""
    from vmatlas.cli.render.table import Column, Row, Table
    from vmatlas.cli.render.text import escape

    right = [
        any(isinstance(row[number], (int, float)) and not isinstance(row[number], bool) for row in result.rows)
        for number in range(len(result.columns))
    ]
    columns = tuple(Column(title, right=each) for title, each in zip(result.columns, right, strict=True))
    return Table(columns, [Row(tuple(escape(_told(value)) for value in row)) for row in result.rows], empty="no rows")


def plain(value: Any) -> Any:
    """As JSON takes it."""
    if isinstance(value, (str, int, float, bool, type(None))):
        return value
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    return _told(value)


def _told(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, datetime):
        return value.isoformat(sep=" ", timespec="seconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, (list, tuple)):
        return " ".join(map(_told, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={_told(each)}" for key, each in value.items())
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _list(name: str | None) -> int:
    from vmatlas.cli.render.output import show, show_words
    from vmatlas.cli.render.table import Column, Row, Table
    from vmatlas_fleet import queries

    if name is not None:
        found = queries.query(name)
        parameters = [f"--set {each.name}={each.default}   {each.meaning}" for each in found.parameters]
        show_words([found.title, found.purpose, *parameters, "", *found.sql.splitlines()])
        return Exit.OK
    all_of_them = [queries.query(each) for each in queries.names()]
    rows = [
        Row((each.name, " ".join(f"{one.name}={one.default}" for one in each.parameters) or "-", each.title))
        for each in all_of_them
    ]
    show(Table((Column("query"), Column("parameters"), Column("answers")), rows))
    return Exit.OK


def _describe() -> int:
    from vmatlas.cli.render.output import show
    from vmatlas.cli.render.table import Column, Row, Table
    from vmatlas_fleet.sql import FUNCTIONS, VIEWS, tables

    columns = [Row((table.name, each.name, each.type, each.meaning)) for table in tables() for each in table.columns]
    views = [Row((name, meaning)) for name, meaning in VIEWS.items()]
    functions = [Row((name, meaning)) for name, (meaning, _) in FUNCTIONS.items() if meaning]
    show(
        Table((Column("table"), Column("column"), Column("type"), Column("what it is")), columns),
        Table((Column("view"), Column("what it is")), views),
        Table((Column("function"), Column("gives")), functions),
    )
    return Exit.OK
