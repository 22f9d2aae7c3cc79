"""On which memory nodes pages lie: a line for each region, a column for each node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from vmatlas.cli.render.maps import origin_json
from vmatlas.cli.render.regions import REGION_CSV, amount, region_json, regions_table
from vmatlas.cli.render.table import Column, Table
from vmatlas.cli.render.text import NOTHING, one_line
from vmatlas.model import AddressSpace, Region
from vmatlas.model.numa import NumaUse, node_totals


class OnNodes(NamedTuple):
    """A region, and what is told of it; None for one that is not told (it came or went meanwhile)."""

    region: Region
    use: NumaUse | None


def of_regions(space: AddressSpace, uses: Iterable[NumaUse]) -> list[OnNodes]:
    """What is told belongs to the region that begins there."""
    by_start = {use.start: use for use in uses}
    return [OnNodes(region, by_start.get(region.start)) for region in space]


def _nodes(told: Sequence[OnNodes]) -> dict[int, int]:
    return node_totals(use for _, use in told if use is not None)


def numa_table(space: AddressSpace, told: Sequence[OnNodes], *, exact: bool) -> Table:
    """A line for each region, with the bytes on each node; the sums below."""
    sums = _nodes(told)
    columns = [*(Column(f"N{node}", right=True) for node in sums), Column("POLICY")]

    def cells(use: NumaUse | None) -> list[str]:
        sizes = [None if use is None else use.nodes.get(node, 0) for node in sums]
        return [*(amount(size, exact=exact) for size in sizes), NOTHING if use is None else one_line(use.policy)]

    rows = [(region, cells(use)) for region, use in told]
    totals = [*(amount(size, exact=exact) for size in sums.values()), ""]
    return regions_table(space, columns, rows, totals, exact=exact)


def numa_json(space: AddressSpace, told: Sequence[OnNodes]) -> dict[str, Any]:
    """Where the map comes from; its regions, each with its policy and the bytes on each node; the sums."""
    value = origin_json(space)
    value["regions"] = [_region_json(*each) for each in told]
    value["totals"] = _named(_nodes(told))
    return value


def _named(nodes: dict[int, int]) -> dict[str, int]:
    return {str(node): size for node, size in nodes.items()}


def _region_json(region: Region, use: NumaUse | None) -> dict[str, Any]:
    return {
        **region_json(region),
        "policy": None if use is None else use.policy,
        "nodes": None if use is None else _named(dict(use.nodes)),
        "page_size": None if use is None else use.page_size,
        "details": {} if use is None else dict(use.details),
    }


def numa_csv(told: Sequence[OnNodes]) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows: a row for each region; sizes and addresses are decimal numbers."""
    nodes = [f"N{node}" for node in _nodes(told)]
    rows = []
    for region, use in told:
        row = _region_json(region, use)
        row |= {f"N{node}": size for node, size in (use.nodes if use is not None else {}).items()}
        rows.append(row)
    return [*REGION_CSV, "policy", *nodes, "path", "name"], rows
