"""glibc malloc: the arenas of threads.

malloc/arena.c (`new_heap`): a thread's arena, and each further heap of it, is mapped without rights on a boundary of
HEAP_MAX_SIZE, and made writable from its start as far as it is used, so `rw-p` from the boundary and `---p` up to the
next one. HEAP_MAX_SIZE is twice the largest mmap threshold: 64 MiB with 64-bit pointers, 1 MiB with 32-bit ones (and 4
huge pages where the tunable glibc.malloc.hugetlb is 1 or more: not known here). The first arena is [heap].
A heap that is used up has no `---p` left and is not told; nor are blocks that malloc maps by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.guess import Certainty
from vmatlas.analysis.naming.layout import KIB, MIB, Layout, size_of
from vmatlas.analysis.naming.rule import Found, Rule

LIBC = r"libc\.so\.6(\.1)?|libc-2\.\d+\.so"
"""libc.so.6.1 on Alpha and Itanium; libc-2.31.so before glibc 2.34."""

_SMALLEST = 32 * KIB
"""HEAP_MIN_SIZE."""


def arenas(layout: Layout) -> Iterator[Found]:
    """Pairs of what is used and the rest."""
    libc = layout.file(LIBC)
    if libc is None:
        return
    most = 64 * MIB if layout.is_wide else MIB
    also_metaspace = layout.file(r"libjvm\.so")
    for row in layout.nameless:
        region = layout.regions[row]
        rest = layout.above(row)
        if region.start % most or not layout.is_data(row) or rest is None or not layout.is_reserved(rest):
            continue
        end = layout.regions[rest].end
        if not (_SMALLEST <= region.size < most and end >= region.start + most):
            continue
        signs = [
            f"begins on a boundary of {size_of(most)}, writable for {size_of(region.size)}",
            f"what follows has no rights up to the next boundary, {region.start + most:#x}"
            + (", and beyond" if end > region.start + most else ""),
            f"{libc} is mapped",
        ]
        certainty = Certainty.STRONG
        if also_metaspace and region.size % (64 * KIB) == 0:
            certainty = Certainty.WEAK
            signs.append("the JVM, which is mapped too, may lay out 64 MiB of metaspace so")
        yield Found(row, "glibc malloc arena", tuple(signs), certainty)
        yield Found(rest, "reserved for a glibc malloc arena", tuple(signs), certainty)


ARENAS = Rule("glibc-arena", "Linux, glibc (libc.so.6 is mapped), with HEAP_MAX_SIZE as it is compiled in", arenas)
