"""Go: the arenas of its heap.

runtime/malloc.go (`mallocinit`): the first 64 MiB are asked for at 0x00c000000000 (arm64: 0x4000000000), further ones
directly above, 64 MiB each; as much of them as is used is writable, in steps of 4 MiB at first, the rest has no rights.
Kernels with CONFIG_ANON_VMA_NAME tell it themselves, of programs made by Go 1.25 and newer: [anon: Go: heap]. That is
no guess then, and this rule is silent.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.layout import MIB, Layout
from vmatlas.analysis.naming.rule import Found, Rule

_FIRST = {"x86_64": 0xC000000000, "aarch64": 0x4000000000}
_ARENA = 64 * MIB


def arenas(layout: Layout) -> Iterator[Found]:
    """From the address where Go asks for its first arena, as far as memory touches."""
    first = _FIRST.get(layout.space.system.machine, 0xC000000000)
    row = layout.at(first)
    rows = []
    while row is not None and layout.is_nameless(row) and (layout.is_data(row) or layout.is_reserved(row)):
        rows.append(row)
        row = layout.above(row)
    end = layout.regions[rows[-1]].end if rows else first
    if end == first or (end - first) % _ARENA:
        return
    signs = (
        f"begins at {first:#x}, where Go asks for its first arena",
        f"whole arenas of 64 MiB: {(end - first) // _ARENA}",
    )
    for row in rows:
        yield Found(row, "Go heap" if layout.is_data(row) else "reserved for the Go heap", signs)


ARENAS = Rule(
    "go-heap", "Linux, 64 bits, Go 1.11 and newer, as long as its first arena is mapped", arenas, wide_only=True
)
