"""V8 (node, Chromium, Electron, Deno): pages of its heap, its range of code.

src/heap/memory-chunk-layout.h, src/utils/allocation.cc: the heap is made of pages of 256 KiB on boundaries of 256 KiB;
an object that is larger has a page of its own, as large as it is. Without pointer compression (node) each is mapped at
a random address, so it stands alone, far from what else is mapped. The code range is reserved in one piece, 512 MiB on
x86-64 (128 MiB in versions before 9), 128 or 256 MiB on arm64, with what is used of it executable; node maps a second
copy of the functions that are built in there, from its own file.
With pointer compression and the sandbox (Chromium) 1 TiB is reserved on a boundary of 4 GiB, with at least 32 GiB
without rights on both sides; the heap lies in its first 4 GiB, the contents of buffers beyond. Pointer compression
without the sandbox reserves 4 GiB, which other programs do, too: that is not told.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.layout import GIB, KIB, MIB, Layout, size_of
from vmatlas.analysis.naming.rule import Found, Rule
from vmatlas.model import Protection

PROGRAMS = (
    r"node|nodejs|libnode\.so(\.\d+)*|libv8(_monolith|_libbase)?\.so|d8|deno|electron|chrome|chromium|chrome_crashpad"
)
_PAGE = 256 * KIB
_ALONE = 16 * MIB
"""A page of the heap is so far from its neighbours, at the least: 2**46 bytes are drawn from."""
_RANGES = (512 * MIB, 256 * MIB, 128 * MIB)
_CAGE = 4 * GIB
_SANDBOX, _SANDBOX_GUARD = 1024 * GIB, 32 * GIB


def _is_alone(layout: Layout, row: int) -> bool:
    region = layout.regions[row]
    before = layout.regions[row - 1].end if row else 0
    after = layout.regions[row + 1].start if row + 1 < len(layout.regions) else 2**64
    return region.start - before >= _ALONE and after - region.end >= _ALONE


def pages(layout: Layout) -> Iterator[Found]:
    """Pages that stand alone."""
    program = layout.file(PROGRAMS)
    if program is None:
        return
    for row in layout.nameless:
        region = layout.regions[row]
        if region.start % _PAGE or not region.protection & Protection.READ or not _is_alone(layout, row):
            continue
        size = "256 KiB, V8's page"
        if region.size != _PAGE:
            size = f"{size_of(region.size)}: a page of one large object, or one that was cut to what it holds"
        signs = (f"{program} is mapped", "begins on a boundary of 256 KiB, alone at an address that was drawn", size)
        yield Found(row, "V8 heap", signs)


def code_range(layout: Layout) -> Iterator[Found]:
    """A reservation with executable memory in it."""
    program = layout.file(PROGRAMS)
    if program is None:
        return
    told = 0
    for row in layout.nameless:
        start = layout.regions[row].start
        if start % _PAGE or start < told:
            continue
        for size in _RANGES:
            rows = layout.span(start, start + size)
            if rows is None or not layout.how_many(rows, layout.is_code):
                continue
            signs = (f"{program} is mapped", f"{size_of(size)} on a boundary of 256 KiB, executable memory within")
            for each in rows:
                reserved = layout.is_reserved(each)
                yield Found(each, "reserved for the V8 code range" if reserved else "V8 code range", signs)
            told = start + size
            break


def sandbox(layout: Layout) -> Iterator[Found]:
    """What is reserved for the sandbox, and the heap at its start."""
    program = layout.file(PROGRAMS)
    if program is None:
        return
    for guard in layout.nameless:
        if not layout.is_reserved(guard) or layout.regions[guard].size < _SANDBOX_GUARD:
            continue
        start = layout.regions[guard].end
        rows = []
        row = layout.above(guard)
        while row is not None and layout.is_nameless(row) and layout.regions[row].start < start + _SANDBOX:
            rows.append(row)
            row = layout.above(row)
        if start % _CAGE or not rows or layout.regions[rows[-1]].end < start + _SANDBOX:
            continue
        size = size_of(layout.regions[guard].size)
        sign = f"1 TiB from a boundary of 4 GiB, {start:#x}, with {size} without rights below it"
        for each in [guard, *rows]:
            in_cage = layout.regions[each].start < start + _CAGE
            name = "V8 heap" if in_cage else "V8 sandbox"
            if layout.is_reserved(each):
                name = "reserved for the V8 sandbox"
            yield Found(each, name, (f"{program} is mapped", sign))


_SPEAKS = "Linux, 64 bits, programs that V8 is known to be in (run: node 20)"
PAGES = Rule("v8-heap", f"{_SPEAKS}, without pointer compression", pages, wide_only=True)
CODE_RANGE = Rule("v8-code-range", _SPEAKS, code_range, wide_only=True)
SANDBOX = Rule("v8-sandbox", "Linux, 64 bits, V8 with its sandbox (run: Chromium 156)", sandbox, wide_only=True)
