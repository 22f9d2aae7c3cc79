"""On which memory nodes the pages of a process lie (NUMA), region by region. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class NumaUse(NamedTuple):
    """What a system with memory nodes tells of one region."""

    start: int
    """Where the region begins; how far it goes, the map says."""
    policy: str
    """Where its pages are to be taken from, in the system's words: "default", "bind:0-1"."""
    nodes: Mapping[int, int]
    """Bytes in memory on each node that has some of it. None has any of what was never touched."""
    page_size: int | None
    """Bytes of the pages that were counted; None where that is not told."""
    details: Mapping[str, int | str]
    """The system's other words, as they stand (Linux: anon, dirty, mapped, mapmax, ... in pages; file)."""

    @property
    def resident(self) -> int:
        """Bytes on all nodes together."""
        return sum(self.nodes.values())


def node_totals(uses: Iterable[NumaUse]) -> dict[int, int]:
    """Bytes on each node, by its number."""
    found: dict[int, int] = {}
    for use in uses:
        for node, size in use.nodes.items():
            found[node] = found.get(node, 0) + size
    return dict(sorted(found.items()))
