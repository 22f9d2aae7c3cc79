"""What is told of each region of a map, where the region itself is not the question: a line each, the sums below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmatlas.cli.render.maps import alarms, headline, legend, style_of
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, label_of, range_text, size_text
from vmatlas.model import AddressSpace, Region

REGION_CSV = ["start", "end", "size", "protection", "shared", "kind"]
"""What stands first in a row of CSV; what is told of the region follows, and its path and name stand last."""


def amount(size: int | None, *, exact: bool) -> str:
    """Bytes; nothing for none of them, unless they are to be exact."""
    return NOTHING if size is None or not (size or exact) else size_text(size, exact=exact)


def regions_table(
    space: AddressSpace,
    columns: Sequence[Column],
    rows: Sequence[tuple[Region, Sequence[str]]],
    totals: Sequence[str],
    *,
    exact: bool,
    empty: str = "no region passes",
) -> Table:
    """`columns`: between SIZE and NAME. `rows`: some regions of the map, each with its cells for these. `totals`: the
    cells below them."""
    lines = [
        Row(
            (
                range_text(region.start, region.end),
                region.permissions,
                size_text(region.size, exact=exact),
                *cells,
                label_of(region),
            ),
            style_of(region),
            alarms(region, 1, 3 + len(columns)),
        )
        for region, cells in rows
    ]
    if lines:
        size = size_text(sum(region.size for region, _ in rows), exact=exact)
        lines.append(Row(("total", "", size, *totals, ""), "heading"))
    return Table(
        (Column("RANGE"), Column("PERM"), Column("SIZE", right=True), *columns, Column("NAME", crops=True)),
        lines,
        title=headline(space),
        legend=legend(region.kind for region, _ in rows),
        empty=empty,
        feet=1 if lines else 0,
    )


def region_json(region: Region) -> dict[str, Any]:
    """Which region it is, in brief."""
    return {
        "start": region.start,
        "end": region.end,
        "size": region.size,
        "protection": region.protection.letters,
        "shared": region.shared,
        "kind": region.kind.label,
        "path": region.path,
        "name": region.name,
    }
