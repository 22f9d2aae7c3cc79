"""`struct procmap_query` and its numbers, declared once (include/uapi/linux/fs.h, since 6.11: commit ed5d583a88a9).

Headers of distributions lack it for years to come, so nothing is taken from them.
"""

from __future__ import annotations

import enum
import struct

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

PROCMAP_QUERY = 0xC0686611
"""_IOWR('f', 17, struct procmap_query). The same number on every processor: where the direction takes three bits (MIPS,
PowerPC, SPARC, Alpha), reading and writing together (6 << 29) are the same bits as elsewhere (3 << 30)."""

SIZE = 104

FIELDS = (
    ("size", "Q", 0),
    ("query_flags", "Q", 8),
    ("query_addr", "Q", 16),
    ("vma_start", "Q", 24),
    ("vma_end", "Q", 32),
    ("vma_flags", "Q", 40),
    ("vma_page_size", "Q", 48),
    ("vma_offset", "Q", 56),
    ("inode", "Q", 64),
    ("dev_major", "I", 72),
    ("dev_minor", "I", 76),
    ("vma_name_size", "I", 80),
    ("build_id_size", "I", 84),
    ("vma_name_addr", "Q", 88),
    ("build_id_addr", "Q", 96),
)
"""Name, type (as in the module struct) and offset of each field. There is no padding."""


def record(byte_order: Literal["little", "big"]) -> struct.Struct:
    """The structure in a byte order."""
    return struct.Struct(("<" if byte_order == "little" else ">") + "".join(kind for _, kind, _ in FIELDS))


class QueryFlags(enum.IntFlag):
    """What is asked. Conditions are ANDed. Without COVERING_OR_NEXT a region that fails one gives ENOENT."""

    READABLE = 0x01
    WRITABLE = 0x02
    EXECUTABLE = 0x04
    SHARED = 0x08
    COVERING_OR_NEXT = 0x10
    FILE_BACKED = 0x20


VMA_READABLE, VMA_WRITABLE, VMA_EXECUTABLE, VMA_SHARED = 0x01, 0x02, 0x04, 0x08
"""Bits of vma_flags: the same as the query's."""

MAX_NAME = 4096
"""The kernel gives no longer name, its NUL byte included (PATH_MAX): ENAMETOOLONG."""

MAX_BUILD_ID = 20
"""BUILD_ID_SIZE_MAX of include/linux/buildid.h."""

UNTOLD = ((0xFFFF0000, 0xFFFF1000), (0xFFFFFFFFFF600000, 0xFFFFFFFFFF601000))
"""Where the kernel itself has a page in every process that the ioctl never tells and the text does: [vectors] of 32-bit
ARM, and [vsyscall] of x86-64 (`get_gate_vma` in arch/*). On other processors these are addresses like any."""
