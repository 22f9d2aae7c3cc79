"""What was written, or looked at, meanwhile: a line for each region."""

from __future__ import annotations

from typing import Any

from vmatlas.cli.render.maps import origin_json
from vmatlas.cli.render.regions import REGION_CSV, amount, region_json, regions_table
from vmatlas.cli.render.table import Column, Table
from vmatlas.cli.render.text import size_text
from vmatlas.operations import WorkingSet, Written

_DOUBT = "?"
"""Behind a number that may be too large."""


def written_table(told: Written, *, exact: bool) -> Table:
    """The regions in which something was written."""
    rows = []
    for region in told.space:
        if size := told.in_region(region):
            doubt = _DOUBT if told.is_sure(region) is False else ""
            rows.append((region, [size_text(size, exact=exact) + doubt]))
    total = size_text(told.runs.total, exact=exact)
    columns = [Column("WRITTEN", right=True)]
    return regions_table(told.space, columns, rows, [total], exact=exact, empty="nothing was written")


def written_json(told: Written) -> dict[str, Any]:
    """Where the map comes from; how long it was looked; each region with what was written in it, and where."""
    value = origin_json(told.space)
    value["pages_backend"] = told.runs.origin.backend
    value["seconds"] = told.seconds
    value["regions"] = [
        {
            **region_json(region),
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
    return [*REGION_CSV, "written", "sure", "path", "name"], written_json(told)["regions"]


def working_set_table(told: WorkingSet, *, exact: bool) -> Table:
    """Every region, with how much of it was looked at."""
    columns = [Column("RESIDENT", right=True), Column("REFERENCED", right=True)]
    rows = [
        (region, [amount(size, exact=exact) for size in (region.resident, told.in_region(region))])
        for region in told.space
    ]
    totals = [amount(size, exact=exact) for size in (told.space.memory.use.resident, told.total)]
    return regions_table(told.space, columns, rows, totals, exact=exact)


def working_set_json(told: WorkingSet) -> dict[str, Any]:
    """Where the map comes from; how long it was looked; each region with how much of it was looked at."""
    value = origin_json(told.space)
    value["seconds"] = told.seconds
    value["regions"] = [
        {**region_json(region), "resident": region.resident, "referenced": told.in_region(region)}
        for region in told.space
    ]
    value["totals"] = {"resident": told.space.memory.use.resident, "referenced": told.total}
    return value


def working_set_csv(told: WorkingSet) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows: a row for each region."""
    return [*REGION_CSV, "resident", "referenced", "path", "name"], working_set_json(told)["regions"]
