"""The processes of a target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, name_text, size_text
from vmatlas.model import ProcessInfo

CSV_COLUMNS = (
    *("pid", "parent", "name", "state", "kernel", "start_time", "user", "resident", "number_inside", "lives_on"),
    "user_name",
)

_COLUMNS = (
    Column("PID", right=True),
    Column("PARENT", right=True),
    Column("USER", right=True),
    Column("STATE"),
    Column("RESIDENT", right=True),
    Column("KERNEL", leaves=1),
    Column("NAME", crops=True),
)
LIVES_ON = "+threads"
"""Behind the state Z of a process that is no zombie: its first thread has ended, and others live on."""

_INSIDE = Column("INSIDE", right=True)
"""Where there is a process with another number in its own pid namespace."""


def processes_table(processes: Sequence[ProcessInfo], users: Mapping[int, str]) -> Table:
    """A line for each, the kernel's own last; `users` names them, where names are known."""
    inside = any(process.number_inside is not None for process in processes)
    rows = [
        Row(
            (
                str(process.pid),
                NOTHING if process.parent is None else str(process.parent),
                NOTHING if process.user is None else escape(users.get(process.user, str(process.user))),
                (escape(process.state) or NOTHING) + (LIVES_ON if process.lives_on else ""),
                size_text(process.resident, exact=False),
                NOTHING if process.kernel is None else "yes" if process.kernel else "no",
                *([NOTHING if process.number_inside is None else str(process.number_inside)] if inside else []),
                name_text(process.known_name),
            ),
            "note" if process.kernel else "",
            {} if process.kernel else {0: "heading"} | ({3: "warning"} if process.state == "Z" else {}),
        )
        for process in sorted(processes, key=lambda process: bool(process.kernel))
    ]
    kernel = sum(bool(process.kernel) for process in processes)
    columns = (*_COLUMNS[:-1], *([_INSIDE] if inside else []), _COLUMNS[-1])
    return Table(
        columns, rows, notes=(f"{count(len(processes), 'process', 'processes')}, {kernel} of them the kernel's",)
    )


def processes_dicts(processes: Sequence[ProcessInfo], users: Mapping[int, str]) -> list[dict[str, Any]]:
    """A dictionary for each; `users` names them, where names are known."""
    return [
        {
            **{column: getattr(process, column) for column in CSV_COLUMNS[:-1]},
            "name": process.known_name,
            CSV_COLUMNS[-1]: None if process.user is None else users.get(process.user),
        }
        for process in processes
    ]
