"""AddressSanitizer: its shadow and its allocator lie at fixed addresses.

compiler-rt/lib/asan/asan_mapping.h, x86-64 Linux: low shadow from 0x7fff8000 (mapped from the page of the allocator
before it, 0x7fff7000), a gap without rights, high shadow from 0x02008fff7000; the allocator's 4 TiB from
0x600000000000. Where the kernel has CONFIG_ANON_VMA_NAME newer ones give names themselves ([anon:low shadow]).
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.layout import Layout
from vmatlas.analysis.naming.rule import Found, Rule

_SHADOW = (
    (0x7FFF7000, 0x8FFF7000, "AddressSanitizer's low shadow"),
    (0x8FFF7000, 0x2008FFF7000, "AddressSanitizer's shadow gap"),
    (0x2008FFF7000, 0x10007FFF8000, "AddressSanitizer's high shadow"),
)
_ALLOCATOR = (0x600000000000, 0x640000000000)


def shadow(layout: Layout) -> Iterator[Found]:
    """All of it or nothing: the three parts at their places, then the allocator's."""
    spans = [layout.span(start, end) for start, end, _ in _SHADOW]
    if layout.space.system.machine != "x86_64" or None in spans:
        return
    sign = "the three parts of the shadow lie where AddressSanitizer puts them on x86-64"
    for (start, end, name), rows in zip(_SHADOW, spans, strict=True):
        for row in rows or ():
            yield Found(row, name, (f"{start:#x} to {end:#x}", sign))
    signs = (f"within {_ALLOCATOR[0]:#x} to {_ALLOCATOR[1]:#x}, where AddressSanitizer's allocator lies", sign)
    for row in layout.nameless:
        region = layout.regions[row]
        if _ALLOCATOR[0] <= region.start and region.end <= _ALLOCATOR[1]:
            reserved = layout.is_reserved(row)
            yield Found(row, f"{'reserved for ' * reserved}AddressSanitizer's allocator", signs)


SHADOW = Rule(
    "asan-shadow", "Linux on x86-64, AddressSanitizer of GCC and Clang with its usual shadow", shadow, wide_only=True
)
