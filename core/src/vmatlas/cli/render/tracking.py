"""What was written, or looked at, meanwhile: a line for each region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vmatlas.cli.render.maps import alarms, headline, legend, origin_json, style_of
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, label_of, range_text, size_text
from vmatlas.model import AddressSpace, Region
from vmatlas.operations import WorkingSet, Written

_DOUBT = "?"
"""Behind a number that may be too large."""


def _table(
    space: AddressSpace,
    titles: Sequence[str],
    rows: Sequence[tuple[Region, Sequence[str]]],
    totals: Sequence[str],
    *,
    exact: bool,
    empty: str,
) -> Table:
    columns = (
        Column("RANGE"),
        Column("PERM"),
        Column("SIZE", right=True),
        *(Column(title, right=True) for title in titles),
        Column("NAME", crops=True),
    )
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
            alarms(region, 1, 3 + len(titles)),
        )
        for region, cells in rows
    ]
    if lines:
        size = size_text(sum(region.size for region, _ in rows), exact=exact)
        lines.append(Row(("total", "", size, *totals, ""), "heading"))
    return Table(
        columns,
        lines,
        title=headline(space),
        legend=legend(region.kind for region, _ in rows),
        empty=empty,
        feet=1 if lines else 0,
    )


def _region_json(region: Region) -> dict[str, Any]:
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


_OWN = ["start", "end", "size", "protection", "shared", "kind"]


def written_table(told: Written, *, exact: bool) -> Table:
    """The regions in which something was written."""
    rows = []
    for region in told.space:
        if size := told.in_region(region):
            doubt = _DOUBT if told.is_sure(region) is False else ""
            rows.append((region, [size_text(size, exact=exact) + doubt]))
    total = size_text(told.runs.total, exact=exact)
    return _table(told.space, ["WRITTEN"], rows, [total], exact=exact, empty="nothing was written")


def written_json(told: Written) -> dict[str, Any]:
    """Where the map comes from; how long it was looked; each region with what was written in it, and where."""
    value = origin_json(told.space)
    value["pages_backend"] = told.runs.origin.backend
    value["seconds"] = told.seconds
    value["regions"] = [
        {
            **_region_json(region),
            "written": told.in_region(region),
            "sure": told.is_sure(region),
            "runs": [{"start": run.start, "end": run.end} for run in told.runs.of_region(region)],
        }
        for region in told.space
    ]
    value["totals"] = {"written": told.runs.total}
    return value


def written_csv(told: Written) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows: a row for each region."""
    return [*_OWN, "written", "sure", "path", "name"], written_json(told)["regions"]


def working_set_table(told: WorkingSet, *, exact: bool) -> Table:
    """Every region, with how much of it was looked at."""

    def amount(size: int | None) -> str:
        return NOTHING if size is None or not (size or exact) else size_text(size, exact=exact)

    rows = [(region, [amount(region.resident), amount(told.in_region(region))]) for region in told.space]
    totals = [amount(told.space.memory.use.resident), amount(told.total)]
    return _table(told.space, ["RESIDENT", "REFERENCED"], rows, totals, exact=exact, empty="no region passes")


def working_set_json(told: WorkingSet) -> dict[str, Any]:
    """Where the map comes from; how long it was looked; each region with how much of it was looked at."""
    value = origin_json(told.space)
    value["seconds"] = told.seconds
    value["regions"] = [
        {**_region_json(region), "resident": region.resident, "referenced": told.in_region(region)}
        for region in told.space
    ]
    value["totals"] = {"resident": told.space.memory.use.resident, "referenced": told.total}
    return value


def working_set_csv(told: WorkingSet) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows: a row for each region."""
    return [*_OWN, "resident", "referenced", "path", "name"], working_set_json(told)["regions"]
