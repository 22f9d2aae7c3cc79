"""On which memory nodes pages lie: a line for each region, a column for each node."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from vmatlas.cli.render.maps import alarms, headline, legend, origin_json, style_of
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, label_of, one_line, range_text, size_text
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
    columns = (
        Column("RANGE"),
        Column("PERM"),
        Column("SIZE", right=True),
        *(Column(f"N{node}", right=True) for node in sums),
        Column("POLICY"),
        Column("NAME", crops=True),
    )

    def amount(size: int) -> str:
        return size_text(size, exact=exact) if size or exact else NOTHING

    rows = [
        Row(
            (
                range_text(region.start, region.end),
                region.permissions,
                size_text(region.size, exact=exact),
                *(amount(use.nodes.get(node, 0)) if use is not None else NOTHING for node in sums),
                NOTHING if use is None else one_line(use.policy),
                label_of(region),
            ),
            style_of(region),
            alarms(region, 1, 4 + len(sums)),
        )
        for region, use in told
    ]
    if rows:
        total = size_text(space.total, exact=exact)
        rows.append(Row(("total", "", total, *map(amount, sums.values()), "", ""), "heading"))
    return Table(
        columns,
        rows,
        title=headline(space),
        legend=legend(region.kind for region in space),
        empty="no region passes",
        feet=1 if rows else 0,
    )


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
        "start": region.start,
        "end": region.end,
        "size": region.size,
        "protection": region.protection.letters,
        "shared": region.shared,
        "kind": region.kind.label,
        "path": region.path,
        "name": region.name,
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
    own = ["start", "end", "size", "protection", "shared", "kind", "policy"]
    return [*own, *nodes, "path", "name"], rows
