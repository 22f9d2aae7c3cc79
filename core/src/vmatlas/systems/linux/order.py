"""An address space of the regions that a Linux kernel told, if they are in order. Pure.

Linux of some years (2.6.36 to 4.11) left the guard page of a growing stack out of what it told, so a stack of one page
has no bytes there: START-START. Such a region covers no address. It is left out, and the address space says so.
"""

from __future__ import annotations

from itertools import compress, count
from operator import ne

from vmatlas.model import AddressSpace, Columns
from vmatlas.model.space import Origin
from vmatlas.values import replace

_MOST_NAMED = 3


def in_order(columns: Columns, origin: Origin) -> AddressSpace | int:
    """The address space; or the row of the first region that ends below its start, or begins before another's end."""
    if columns.first_disorder() is None:
        return AddressSpace(columns, origin)
    kept = list(compress(count(), map(ne, columns.start, columns.end)))
    filled = columns.take(kept)
    row = filled.first_disorder()
    if row is not None:
        return kept[row]
    return AddressSpace(filled, replace(origin, incomplete=_told(origin.incomplete, columns)))


def _told(incomplete: str | None, columns: Columns) -> str:
    empty = [start for start, end in zip(columns.start, columns.end, strict=True) if start == end]
    named = ", ".join(f"{start:#x}" for start in empty[:_MOST_NAMED]) + (", ..." if len(empty) > _MOST_NAMED else "")
    more = (
        f"{len(empty)} region{'s' * (len(empty) > 1)} of no bytes left out ({named}): so some kernels tell a stack page"
    )
    return more if incomplete is None else f"{incomplete}; {more}"
