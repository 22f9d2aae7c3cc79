"""`struct pm_scan_arg`, `struct page_region`, and the entries of /proc/PID/pagemap: each number declared once.

include/uapi/linux/fs.h (since 6.7: commit 52526ca7fdb9), Documentation/admin-guide/mm/pagemap.rst. Headers of
distributions lack the first two for years to come, so nothing is taken from them.
"""

from __future__ import annotations

import struct
from typing import Literal

from vmatlas.model.pages import PageState

PAGEMAP_SCAN = 0xC0606610
"""_IOWR('f', 16, struct pm_scan_arg). The same number on every processor: see `vmatlas.systems.linux.procmap`."""

SCAN_SIZE = 96
"""sizeof(struct pm_scan_arg). Any other is refused: there is no room to grow."""

SCAN_FIELDS = (
    ("size", 0),
    ("flags", 8),
    ("start", 16),
    ("end", 24),
    ("walk_end", 32),
    ("vec", 40),
    ("vec_len", 48),
    ("max_pages", 56),
    ("category_inverted", 64),
    ("category_mask", 72),
    ("category_anyof_mask", 80),
    ("return_mask", 88),
)
"""Name and offset of each field; all have 64 bits."""

REGION_SIZE = 24
"""sizeof(struct page_region): start, end, categories."""

WPALLOWED, WRITTEN, FILE, PRESENT, SWAPPED, PFNZERO, HUGE, SOFT_DIRTY, GUARD = (1 << bit for bit in range(9))
"""PAGE_IS_*. GUARD since 6.16; the rest since there is the ioctl."""

FIRST_KNOWN = 0xFF
"""The categories that every kernel with the ioctl knows."""

CATEGORIES = {
    PageState.PRESENT: PRESENT,
    PageState.SWAPPED: SWAPPED,
    PageState.FILE: FILE,
    PageState.ZERO: PFNZERO,
    PageState.HUGE: HUGE,
    PageState.GUARD: GUARD,
    PageState.SOFT_DIRTY: SOFT_DIRTY,
}
"""States that are a category each."""

ENTRY = 8
"""Bytes that /proc/PID/pagemap has for a page."""

ENTRY_SOFT_DIRTY = 1 << 55
UPPER = 48
"""The bits of an entry from here on say what a page is, those below which frame it has: that is told to root alone."""

UPPER_BITS = {
    PageState.PRESENT: 1 << 15,
    PageState.SWAPPED: 1 << 14,
    PageState.FILE: 1 << 13,
    PageState.GUARD: 1 << 10,
    PageState.EXCLUSIVE: 1 << 8,
    PageState.SOFT_DIRTY: 1 << 7,
}
"""States that are a bit each, of the upper 16 of an entry. GUARD (bit 58) since 6.16; EXCLUSIVE 56, SOFT_DIRTY 55."""

COMPILED_OUT = "this kernel has no /proc/PID/pagemap: it takes CONFIG_PROC_PAGE_MONITOR"
"""What ENOENT of one's own /proc/self/pagemap means."""

PIECE_SIZE = 16
"""Of the stream `pages-entries`: what stands before the entries of pages side by side, address and count."""

HEAD_SIZE = 16
"""Of the same: what stands first, the size of a page and the bits (of the upper 16) that the kernel tells."""


def scan_record(byte_order: Literal["little", "big"]) -> struct.Struct:
    """`struct pm_scan_arg` in a byte order."""
    return struct.Struct(("<" if byte_order == "little" else ">") + "Q" * len(SCAN_FIELDS))


def pair(byte_order: Literal["little", "big"]) -> struct.Struct:
    """Two numbers of 64 bits."""
    return struct.Struct(("<" if byte_order == "little" else ">") + "QQ")
