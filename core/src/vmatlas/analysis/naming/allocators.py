"""Allocators that take the place of malloc, where their library is mapped; linked into a program they do not show.

- jemalloc asks for memory in extents of its size classes, from 2 MiB on (2, 2.5, 3, 3.5, 4, 5 MiB, ...), which all are
  multiples of 512 KiB; it keeps what it has (opt.retain), and extents side by side are one region.
- mimalloc 2: segments of 32 MiB on boundaries of 32 MiB, at addresses between 2 TiB and 30 TiB that it asks for.
- PartitionAlloc (Chromium) takes super pages of 2 MiB: a page of its own records at 4 or 8 KiB, no rights up to 16 KiB,
  then what is handed out, and no rights up to the end. It is part of the program.
- tcmalloc of gperftools takes [heap] first, which the kernel names, and maps what it gets no more of there: at least
  1 MiB at once, in its pages of 8 KiB. Google's tcmalloc names its memory itself ([anon:tcmalloc_region_NORMAL]) where
  the kernel lets it, and is linked into programs.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.guess import Certainty
from vmatlas.analysis.naming.layout import KIB, MIB, Layout, size_of
from vmatlas.analysis.naming.rule import Found, Rule

_TIB = 2**40
_SUPER_PAGE = 2 * MIB


def jemalloc(layout: Layout) -> Iterator[Found]:
    """Whole extents."""
    library = layout.file(r"libjemalloc\.so(\.\d+)*")
    if library is None:
        return
    for row in layout.nameless:
        size = layout.regions[row].size
        if layout.is_data(row) and size >= 2 * MIB and size % (512 * KIB) == 0:
            signs = (f"{library} is mapped", f"{size_of(size)}, a multiple of 512 KiB as all its extents are")
            yield Found(row, "jemalloc extent", signs, Certainty.WEAK)


def tcmalloc(layout: Layout) -> Iterator[Found]:
    """What it maps beside [heap]."""
    library = layout.file(r"libtcmalloc(_minimal)?(_debug|_and_profiler)?\.so(\.\d+)*")
    if library is None:
        return
    for row in layout.nameless:
        size = layout.regions[row].size
        if layout.is_data(row) and size >= MIB and size % (8 * KIB) == 0:
            signs = (f"{library} is mapped", f"{size_of(size)}, at least 1 MiB in pages of 8 KiB")
            yield Found(row, "tcmalloc heap", signs, Certainty.WEAK)


def mimalloc(layout: Layout) -> Iterator[Found]:
    """Whole segments where it asks for them."""
    library = layout.file(r"libmimalloc(-secure|-debug)?\.so(\.\d+)*")
    if library is None:
        return
    for row in layout.nameless:
        region = layout.regions[row]
        if region.start % (32 * MIB) or region.end % (32 * MIB) or not 2 * _TIB <= region.start < 31 * _TIB:
            continue
        reserved = layout.is_reserved(row)
        signs = (
            f"{library} is mapped",
            f"{size_of(region.size)} on a boundary of 32 MiB, the size of its segments",
            "between 2 TiB and 30 TiB, where it asks for them",
        )
        yield Found(row, "reserved for mimalloc" if reserved else "mimalloc segment", signs)


def partition_alloc(layout: Layout) -> Iterator[Found]:
    """Super pages, by the page of records."""
    program = layout.file(r"chrom(e|ium)(-browser)?|electron|msedge|brave|opera|vivaldi(-bin)?")
    if program is None:
        return
    for row in layout.nameless:
        records = layout.regions[row]
        base = records.start - records.start % _SUPER_PAGE
        if records.start - base not in (4 * KIB, 8 * KIB) or records.size != 4 * KIB or not layout.is_data(row):
            continue
        guard = layout.above(row)
        first = None if guard is None or not layout.is_reserved(guard) else layout.above(guard)
        if first is None or layout.regions[first].start != base + 16 * KIB or not layout.is_data(first):
            continue
        signs = (f"{program} is mapped", f"the layout of a super page of 2 MiB, {base:#x}")
        each: int | None = row
        while each is not None and layout.is_nameless(each) and layout.regions[each].start < base + _SUPER_PAGE:
            reserved = layout.is_reserved(each)
            yield Found(each, "reserved for PartitionAlloc" if reserved else "PartitionAlloc", signs)
            each = layout.above(each)


JEMALLOC = Rule("jemalloc", "Linux, 64 bits, jemalloc 5 as a library (run: 5.3)", jemalloc, wide_only=True)
MIMALLOC = Rule("mimalloc", "Linux, 64 bits, mimalloc 2 as a library (run: 2.0.9)", mimalloc, wide_only=True)
TCMALLOC = Rule("tcmalloc", "Linux, 64 bits, gperftools as a library (run: 2.10)", tcmalloc, wide_only=True)
PARTITION_ALLOC = Rule(
    "partition-alloc",
    "Linux, 64 bits, Chromium and what is made of it (run: Chromium 156)",
    partition_alloc,
    wide_only=True,
)
