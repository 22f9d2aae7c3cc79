"""What /proc/PID/pagemap tells of a page: 8 bytes for each (Documentation/admin-guide/mm/pagemap.rst).

Whoever may read the map may read it, whatever the rights of the page; only the page's frame is kept from most.
"""

from __future__ import annotations

import os
import sys

ENTRY = 8
_GUARD = 1 << 58
"""Since Linux 6.16: MADV_GUARD_INSTALL was there. Comes with SWAPPED, which the marker looked like before."""
_SWAPPED = 1 << 62


def is_guard(descriptor: int, address: int, page_size: int) -> bool | None:
    """Whether the page at an address is a guard page; None where the kernel does not tell. Raises OSError."""
    told = os.pread(descriptor, ENTRY, address // page_size * ENTRY)
    if len(told) != ENTRY:  # the process has ended, or the address is above all that it can have
        return None
    entry = int.from_bytes(told, sys.byteorder)
    if entry & _GUARD:
        return True
    return None if entry & _SWAPPED else False
