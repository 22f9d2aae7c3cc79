"""CPython's own allocator for small objects (obmalloc): its arenas.

Objects/obmalloc.c: mmap of 1 MiB each since 3.10 with 64-bit pointers, of 256 KiB before and with 32-bit ones; on no
boundary of their own. Arenas side by side are one region, and what else is mapped beside them joins: so a whole
multiple is one weak sign. malloc's own mappings are no such multiples, since each has a header; what lies on boundaries
of 2 MiB on both sides is a single large mapping (buffers of OpenBLAS, say), most likely. Free-threaded Python
(3.13t) uses mimalloc inside, and is not told.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from vmatlas.analysis.naming.guess import Certainty
from vmatlas.analysis.naming.layout import KIB, MIB, Layout, size_of
from vmatlas.analysis.naming.rule import Found, Rule

_PYTHON = r"(?:lib)?python3\.(\d{1,4})(?:\.so(?:\.\d+)*)?"


def arenas(layout: Layout) -> Iterator[Found]:
    """Whole multiples."""
    program = layout.file(_PYTHON)
    if program is None:
        return
    told = re.fullmatch(_PYTHON, program)
    size = MIB if layout.is_wide and told is not None and int(told[1]) >= 10 else 256 * KIB
    for row in layout.nameless:
        region = layout.regions[row]
        alone = not (region.start % (2 * MIB) or region.end % (2 * MIB))  # so the kernel puts single large mappings
        if layout.is_data(row) and region.size % size == 0 and not alone:
            signs = (f"{program} is mapped", f"{size_of(region.size)}, a multiple of the {size_of(size)} of its arenas")
            yield Found(row, "Python object arena", signs, Certainty.WEAK)


ARENAS = Rule("python-arena", "Linux, CPython 3 (python3.N or libpython3.N is mapped), with the GIL", arenas)
