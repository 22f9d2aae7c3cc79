"""The processes of a target."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape
from vmatlas.model import ProcessInfo

CSV_COLUMNS = ("pid", "parent", "name", "state", "kernel", "start_time")

_COLUMNS = (
    Column("PID", right=True),
    Column("PARENT", right=True),
    Column("STATE"),
    Column("KERNEL"),
    Column("NAME", crops=True),
)


def processes_table(processes: Sequence[ProcessInfo]) -> Table:
    """A line for each."""
    rows = [
        Row(
            (
                str(process.pid),
                NOTHING if process.parent is None else str(process.parent),
                escape(process.state) or NOTHING,
                NOTHING if process.kernel is None else "yes" if process.kernel else "no",
                escape(process.name) or NOTHING,
            ),
            "note" if process.kernel else "",
            {} if process.kernel else {0: "heading"} | ({2: "warning"} if process.state == "Z" else {}),
        )
        for process in processes
    ]
    kernel = sum(bool(process.kernel) for process in processes)
    return Table(
        _COLUMNS, rows, notes=(f"{count(len(processes), 'process', 'processes')}, {kernel} of them the kernel's",)
    )


def processes_dicts(processes: Sequence[ProcessInfo]) -> list[dict[str, Any]]:
    """A dictionary for each."""
    return [{column: getattr(process, column) for column in CSV_COLUMNS} for process in processes]
