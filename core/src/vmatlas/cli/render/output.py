"""Where output goes: a terminal gets colours, everything else plain text; JSON and CSV are the same everywhere."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vmatlas.cli.render.table import Table, plain_lines


def show(*tables: Table) -> None:
    """Tables on standard output. Plain text has no titles, legends and notes; an empty line stands between tables."""
    if sys.stdout.isatty():
        from vmatlas.cli.render.terminal import print_tables

        print_tables(tables, sys.stdout)
        return
    for number, table in enumerate(tables):
        if number:
            sys.stdout.write("\n")
        sys.stdout.write("\n".join(plain_lines(table)) + "\n")


def show_json(value: object) -> None:
    """A value as JSON: ASCII, indented by two; everything is kept, foreign bytes of paths as surrogate escapes.

    In one piece: a container of Python writes each piece to the pipe by itself (PYTHONUNBUFFERED).
    """
    from vmatlas.cli.render.json import pretty

    sys.stdout.write(pretty(value) + "\n")


def show_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Rows as CSV (RFC 4180, but with "\\n" at the end of lines), with a line of titles.

    Empty is None; lists are joined by spaces; paths are the bytes that they are.
    """
    import csv
    import io

    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in rows:
        writer.writerow([_csv_cell(row.get(column)) for column in columns])
    sys.stdout.flush()
    sys.stdout.buffer.write(text.getvalue().encode("utf-8", "surrogateescape"))


def _csv_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value))
    return str(value)
