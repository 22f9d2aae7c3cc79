"""HotSpot, the JVM of OpenJDK (libjvm.so is mapped): heap, code cache, class space, metaspace.

- Code cache: the only memory that is writable and executable at once; reserved in one piece, 240 MiB with tiered
  compilation in segments, 48 MiB without (-XX:ReservedCodeCacheSize), the unused rest without rights.
- Class space: 1 GiB (-XX:CompressedClassSpaceSize), reserved behind the archive of classes that is shared
  (classes.jsa), so that both are reached by 32-bit pointers; since JDK 25 a page without rights lies below them.
- Heap: with compressed pointers (up to 32 GiB) it is reserved so that it ends at 4 GiB or lies below 32 GiB, where
  nothing else of a 64-bit process is put without being asked for; what is archived of it is mapped from classes.jsa.
  A larger one lies anywhere, in one reservation, and nothing else that a JVM reserves comes near its size: its card
  tables and mark bitmaps are at most 1/64 of it each. ZGC's is a memfd, which the kernel names (/memfd:java_heap).
- Metaspace (JDK 17 and newer): nodes of 64 MiB on boundaries of 4 MiB, committed in granules of 64 KiB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from vmatlas.analysis.naming.guess import Certainty
from vmatlas.analysis.naming.layout import GIB, KIB, MIB, Layout, size_of
from vmatlas.analysis.naming.rule import Found, Rule

_JVM = r"libjvm\.so"
_ARCHIVE = r".*\.jsa"
_CODE_CACHES = (48 * MIB, 240 * MIB)
_CLASS_SPACE, _CLASS_SPACE_BOUNDARY = GIB, 16 * MIB
_NODE, _ROOT_CHUNK, _GRANULE = 64 * MIB, 4 * MIB, 64 * KIB
_UNSCALED, _REACHED = 4 * GIB, 32 * GIB
_SMALLEST_HEAP = 2 * MIB
_LARGE = 32
"""A piece of a large heap is at least this part of what touches it; a mark bitmap is a 64th, and two touch at most."""


def code_cache(layout: Layout) -> Iterator[Found]:
    """Runs of what is executable and what has no rights."""
    if layout.file(_JVM) is None:
        return
    for run in layout.runs():
        rows = [row for row in run if layout.is_code(row)]
        if not rows:
            continue
        first = rows[0]
        start = layout.regions[first].start
        for size in _CODE_CACHES:
            whole = layout.span(start, start + size)
            if whole is not None and _is_of_code(layout, whole):
                signs = ("libjvm.so is mapped", f"{size_of(size)} from the first executable page: its usual size")
                yield from _named(layout, whole, "JVM code cache", signs)
                break
        else:
            for row in rows:
                signs = ("libjvm.so is mapped", "executable memory of no file")
                yield Found(row, "JVM code cache", signs, Certainty.WEAK)


def _is_of_code(layout: Layout, rows: range) -> bool:
    return layout.how_many(rows, layout.is_code) + layout.how_many(rows, layout.is_reserved) == len(rows)


def _named(
    layout: Layout, rows: Iterable[int], name: str, signs: tuple[str, ...], certainty: Certainty = Certainty.STRONG
) -> Iterator[Found]:
    for row in rows:
        reserved = layout.is_reserved(row)
        yield Found(row, f"reserved for the {name}" if reserved else name, signs, certainty)


def _archives(layout: Layout) -> list[int]:
    if layout.file(_ARCHIVE) is None:
        return []
    return [row for row, region in enumerate(layout.regions) if (region.path or "").endswith(".jsa")]


def class_space(layout: Layout) -> Iterator[Found]:
    """1 GiB that begins behind the archive, on a boundary of 16 MiB, and what is reserved between the two."""
    if layout.file(_JVM) is None:
        return
    for archive in _archives(layout):
        start = -(-layout.regions[archive].end // _CLASS_SPACE_BOUNDARY) * _CLASS_SPACE_BOUNDARY
        rows = []
        row = layout.above(archive)
        while row is not None and (layout.is_data(row) or layout.is_reserved(row)):
            rows.append(row)
            row = layout.above(row) if layout.regions[row].end < start + _CLASS_SPACE else None
        if not rows or layout.regions[rows[-1]].end != start + _CLASS_SPACE:
            continue
        signs = ("libjvm.so is mapped", f"up to 1 GiB from {start:#x}, the boundary of 16 MiB behind the class archive")
        zone = layout.below(archive)
        if zone is not None and layout.is_reserved(zone) and layout.regions[zone].size == layout.page:
            rows.insert(0, zone)
        yield from _named(layout, rows, "JVM class space", signs)


def heap(layout: Layout) -> Iterator[Found]:
    """What touches below 32 GiB, where pointers of 32 bits reach."""
    if layout.file(_JVM) is None:
        return
    archives = set(_archives(layout))
    row = 0
    while row < len(layout.regions) and layout.regions[row].end <= _REACHED:
        rows = [row]
        while (above := layout.above(rows[-1])) is not None and _goes_on(layout, above):
            rows.append(above)
        row = rows[-1] + 1
        own = [each for each in rows if layout.is_data(each) or layout.is_reserved(each)]
        start, end = layout.regions[rows[0]].start, layout.regions[rows[-1]].end
        if len(own) + len(archives & set(rows)) < len(rows) or end - start < _SMALLEST_HEAP or start % _GRANULE:
            continue
        if layout.is_reserved(rows[0]):  # a heap has been begun
            continue
        signs = ["libjvm.so is mapped", f"{size_of(end - start)} below 32 GiB, where pointers of 32 bits reach"]
        certainty = Certainty.WEAK
        if end in (_UNSCALED, _REACHED):
            certainty = Certainty.STRONG
            signs.append(f"ends at {size_of(end)}")
        if archives & set(rows):
            certainty = Certainty.STRONG
            signs.append("archived objects of classes.jsa are mapped within")
        yield from _named(layout, own, "JVM heap", tuple(signs), certainty)


def _goes_on(layout: Layout, row: int) -> bool:
    """Whether a heap may reach into this row: one that ends at 4 GiB ends there, whatever begins at it."""
    region = layout.regions[row]
    return region.end <= _REACHED and region.start != _UNSCALED


def large_heap(layout: Layout) -> Iterator[Found]:
    """The large pieces of what touches over more than 32 GiB, and what lies between them, or was taken beside them."""
    if layout.file(_JVM) is None:
        return
    archives = set(_archives(layout))

    def is_own(row: int) -> bool:
        return layout.is_data(row) or layout.is_reserved(row) or row in archives

    row = 0
    while row < len(layout.regions):
        if not is_own(row):
            row += 1
            continue
        rows = [row]
        while (above := layout.above(rows[-1])) is not None and is_own(above):
            rows.append(above)
        row = rows[-1] + 1
        size = layout.regions[rows[-1]].end - layout.regions[rows[0]].start
        large = [place for place, each in enumerate(rows) if layout.regions[each].size * _LARGE >= size]
        if size <= _REACHED or not large:
            continue
        first, last = large[0], large[-1]
        while first and layout.is_data(rows[first - 1]):
            first -= 1
        while last + 1 < len(rows) and not layout.is_reserved(rows[last + 1]):
            last += 1
        if layout.is_data(rows[large[-1]]) and last + 1 < len(rows):  # what is left of one that is nearly full
            last += 1
        signs = ("libjvm.so is mapped", "of more than 32 GiB that touch: no other part of a JVM is as large")
        own = [each for each in rows[first : last + 1] if each not in archives]
        yield from _named(layout, own, "JVM heap", signs, Certainty.WEAK)


def lone_class_space(layout: Layout) -> Iterator[Found]:
    """Without an archive (-Xshare:off) it begins where the heap ends, so that 32-bit pointers reach both."""
    if layout.file(_JVM) is None or _archives(layout):
        return
    for start in (_UNSCALED, _REACHED):
        rows = layout.span(start, start + _CLASS_SPACE)
        if rows is not None and layout.is_reservation(rows):
            signs = ("libjvm.so is mapped, and no archive of classes", f"1 GiB from {size_of(start)}")
            yield from _named(layout, rows, "JVM class space", signs, Certainty.WEAK)


def metaspace(layout: Layout) -> Iterator[Found]:
    """Nodes of 64 MiB."""
    if layout.file(_JVM) is None:
        return
    told = 0
    for row in layout.nameless:
        start = layout.regions[row].start
        if start % _ROOT_CHUNK or start < told or not layout.is_data(row):
            continue
        rows = layout.span(start, start + _NODE)
        # No more pieces than granules, and at least two: what is used, and the rest.
        if rows is None or not 2 <= len(rows) <= _NODE // _GRANULE or not layout.is_reservation(rows):
            continue
        if any(layout.regions[each].size % _GRANULE for each in rows):
            continue
        told = start + _NODE
        signs = ("libjvm.so is mapped", "64 MiB on a boundary of 4 MiB, each piece a multiple of 64 KiB")
        yield from _named(layout, rows, "JVM metaspace", signs, Certainty.WEAK)


_SPEAKS = "Linux, 64 bits, HotSpot (libjvm.so is mapped; run: OpenJDK 17)"
CODE_CACHE = Rule("jvm-code-cache", _SPEAKS, code_cache, wide_only=True)
CLASS_SPACE = Rule(
    "jvm-class-space", f"{_SPEAKS}, with the class space's usual size and an archive", class_space, wide_only=True
)
LONE_CLASS_SPACE = Rule(
    "jvm-class-space-alone",
    f"{_SPEAKS}, with the class space's usual size and no archive",
    lone_class_space,
    wide_only=True,
)
HEAP = Rule("jvm-heap", f"{_SPEAKS}, heaps of at most 32 GiB (compressed pointers), not ZGC", heap, wide_only=True)
LARGE_HEAP = Rule(
    "jvm-heap-large",
    f"{_SPEAKS.removesuffix(')')} and 25), heaps of more than 32 GiB, not ZGC",
    large_heap,
    wide_only=True,
)
METASPACE = Rule(
    "jvm-metaspace", "Linux, 64 bits, HotSpot of JDK 17 and newer (libjvm.so is mapped)", metaspace, wide_only=True
)
