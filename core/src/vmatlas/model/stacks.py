"""Stacks that are several regions: a part that was locked (mlock), or given other rights, splits one. Pure.

On Linux the upper part alone keeps the name [stack]; the lower ones are nameless, and only the flag `gd` of smaps tells
that they are of it.
"""

from __future__ import annotations

from collections.abc import Collection

from vmatlas.model.region import Kind, Region
from vmatlas.model.space import AddressSpace


def lower_parts(space: AddressSpace) -> frozenset[int]:
    """Where nameless regions begin that touch a stack from below, or another such: they may be its lower parts."""
    columns = space.columns
    nameless = {number for number, each in enumerate(columns.labels) if each.path is None and each.name is None}
    found = set()
    touches = None
    for row in range(len(columns) - 1, -1, -1):
        if columns.kind[row] == Kind.STACK:
            touches = columns.start[row]
        elif (
            touches == columns.end[row]
            and columns.kind[row] == Kind.ANONYMOUS
            and columns.shared[row] == 0
            and columns.label[row] in nameless
        ):
            touches = columns.start[row]
            found.add(touches)
        else:
            touches = None
    return frozenset(found)


def whole_of(region: Region, parts: Collection[int], space: AddressSpace) -> tuple[int, int]:
    """From where to where the stack goes that a region is, or is a part of. `parts`: the `lower_parts` of the map."""
    start, end = region.start, region.end
    at: Region | None = region
    while at is not None and at.start in parts:
        at = space.find(at.end)
        end = end if at is None else at.end
    if region.kind is Kind.STACK or region.start in parts:
        while (below := space.find(start - 1) if start else None) is not None and below.start in parts:
            start = below.start
    return start, end
