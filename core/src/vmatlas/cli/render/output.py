"""Where output goes: a terminal gets colours, everything else plain text; JSON and CSV are the same everywhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from vmatlas.cli.render.colour import chosen_colours
from vmatlas.cli.render.shape import Shape, chosen_shape
from vmatlas.cli.render.table import Table, plain_lines
from vmatlas.cli.render.text import escape, one_line
from vmatlas.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vmatlas.picture.text import Line

_NO_EDGE = 1 << 20
"""The width of what is no terminal: nothing leaves, and nothing is cut."""


def show(*tables: Table) -> None:
    """Tables on standard output. Plain text has no titles, legends and notes; an empty line stands between tables."""
    tables = tuple(chosen_shape().tables(tables))
    is_terminal = sys.stdout.isatty()
    if is_terminal or chosen_colours():
        from vmatlas.cli.render.terminal import print_tables

        print_tables(tables, sys.stdout, width=None if is_terminal else _NO_EDGE)
        return
    for number, table in enumerate(tables):
        if number:
            sys.stdout.write("\n")
        sys.stdout.write("\n".join(plain_lines(table)) + "\n")


_WIDEST = 10_000
"""Columns of a picture, whatever COLUMNS says: no screen has more."""


def show_spans(draw: Callable[..., Iterator[Line]], *, apart: bool) -> None:
    """A picture on standard output, as wide as the terminal is (a pipe: as COLUMNS says), in colours where it has them.

    `apart`: another stands before it.
    """
    import shutil

    from vmatlas.cli.render.colour import wants_colours

    colours = wants_colours() if sys.stdout.isatty() else bool(chosen_colours())
    width = min(max(shutil.get_terminal_size((100, 24)).columns, 40), _WIDEST)
    lines = draw(width, colours=colours)
    if apart:
        sys.stdout.write("\n")
    if colours:
        from vmatlas.cli.render.terminal import print_spans

        print_spans(lines, sys.stdout)
        return
    from vmatlas.picture.text import plain

    sys.stdout.write(plain(lines))


def show_words(lines: Iterable[str]) -> None:
    """A paragraph on standard output, in lines that are safe to print, and an empty line behind it."""
    sys.stdout.write("".join(f"{line}\n" for line in lines) + "\n")


def show_json(value: object) -> None:
    """A value as JSON: ASCII, indented by two; everything is kept, foreign bytes of paths as surrogate escapes.

    In one piece: a container of Python writes each piece to the pipe by itself (PYTHONUNBUFFERED). Raises UsageError
    where a shape was chosen.
    """
    from vmatlas.cli.render.json import pretty

    if chosen_shape() != Shape():
        raise UsageError("--columns, --limit and --reverse go with tables and CSV", hint="JSON has all: jq chooses")
    sys.stdout.write(pretty(value, "\n"))


def show_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], *, titled: bool = True) -> None:
    """Rows as CSV (RFC 4180, but with "\\n" at the end of lines), with a line of titles unless it stands already.

    Empty is None, an empty text two quotes; lists are joined by spaces; paths are the bytes that they are, but on a
    terminal, where what does not print is escaped as in tables.
    """
    columns, rows = chosen_shape().csv(columns, list(rows))
    as_cell = _shown_csv_cell if sys.stdout.isatty() else _csv_cell
    lines = [",".join(map(as_cell, columns))] if titled else []
    lines += [",".join([as_cell(row.get(column)) for column in columns]) for row in rows]
    sys.stdout.flush()
    sys.stdout.buffer.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))


def show_text(text: bytes) -> None:
    """Lines in a format of its own, as they are; on a terminal what does not print is escaped in them, as in tables."""
    if sys.stdout.isatty():
        text = "\n".join(map(one_line, text.decode("utf-8", "surrogateescape").split("\n"))).encode()
    sys.stdout.flush()
    sys.stdout.buffer.write(text)


def _csv_cell(value: Any) -> str:
    """Quoted for whatever might end it: the csv module of Python 3.11 and 3.12 leaves a carriage return bare."""
    text = _csv_text(value)
    if text.isprintable() and "," not in text and '"' not in text and value != "":
        return text
    return '"' + text.replace('"', '""') + '"'


def _shown_csv_cell(value: Any) -> str:
    return _csv_cell(escape(_csv_text(value)))


def _csv_text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)
