"""The moments of a series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.series.moments import Moment
from vmatlas.series.when import shown_time

CSV_COLUMNS = ("number", "time", "elapsed", "same", "size")


def moments_table(moments: Sequence[Moment]) -> Table:
    """A line for each."""
    columns = (
        Column("MOMENT", right=True),
        Column("TIME"),
        Column("ELAPSED", right=True),
        Column("BYTES", right=True),
        Column("MAP"),
    )
    rows = [
        Row(
            (
                f"#{each.number}",
                shown_time(each.time),
                f"+{each.elapsed:.1f}s",
                str(each.size),
                "as before" if each.is_same else "changed",
            )
        )
        for each in moments
    ]
    return Table(columns, rows)


def moments_dicts(moments: Sequence[Moment]) -> list[dict[str, Any]]:
    """Times in seconds: since 1970, and since the first moment; `size` in bytes of the file."""
    return [
        {"number": each.number, "time": each.time, "elapsed": each.elapsed, "same": each.is_same, "size": each.size}
        for each in moments
    ]


def moments_json(moments: Sequence[Moment], incomplete: str | None) -> dict[str, Any]:
    """All, and why some may be missing at the end."""
    return {"incomplete": incomplete, "moments": moments_dicts(moments)}
