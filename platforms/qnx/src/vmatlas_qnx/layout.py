"""The structures and numbers of QNX's procfs, declared once (<sys/procfs.h>, <sys/debug.h>).

A device command's number is (size << 16) + (class 0x08 << 8) + its own number + the direction (0x40000000 from the
driver, 0xC0000000 both ways), so the kernel checks the size of the structure that a program was built with.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import Literal, NamedTuple

ByteOrder = Literal["little", "big"]

MAPINFO = 0x40300802
PAGEDATA = 0x40300814
PROCESS_INFO = 0x41100801
MAPDEBUG = 0xC0100803
MAPDEBUG_BASE = 0x40100803
"""Of the program itself: the kernel's own process has a name by this alone."""

ENTRY = 48
"""Bytes of a `procfs_mapinfo`. The same on 32-bit and 64-bit kernels: every field has a fixed size."""

FIELDS = (
    ("vaddr", "Q", 0),
    ("size", "Q", 8),
    ("flags", "I", 16),
    ("dev", "I", 20),
    ("offset", "Q", 24),
    ("ino", "Q", 32),
    ("paddr", "Q", 40),
)
"""Name, type (as in the module struct) and offset of each field. `paddr` is reserved, and 0, before 7.0."""

INFO = 272
"""Bytes of a `procfs_info`."""

INFO_PID, INFO_PARENT, INFO_FLAGS, INFO_START_TIME = 0, 4, 8, 112
"""Where the process's id, its parent's, its flags (u32) and its start time in ns stand."""

PROCESS_ZOMBIE, PROCESS_OF_KERNEL = 0x8, 0x8000
"""Flags of a process: its memory is gone (_NTO_PF_ZOMBIE); it runs with the kernel's rights (_NTO_PF_RING0)."""

NAME_AT = 8
"""MAPDEBUG takes an address (u64) and gives a path behind it. **Never ask with a buffer of so few bytes**: the kernel
then keeps the lock of the target's address space, and the target hangs for good."""

NAME_ROOM = 1040
"""Bytes of the buffer for MAPDEBUG: PATH_MAX is 1,024."""

_SIGN = {"little": "<", "big": ">"}


class Entry(NamedTuple):
    """One `procfs_mapinfo`."""

    vaddr: int
    size: int
    flags: int
    dev: int
    offset: int
    ino: int
    paddr: int


class ProcessInfo(NamedTuple):
    """What is used of a `procfs_info`."""

    pid: int
    parent: int
    flags: int
    start_time: int

    @property
    def is_kernel(self) -> bool:
        """Whether it is the kernel and process manager, which has no address space of its own."""
        return bool(self.flags & PROCESS_OF_KERNEL) or self.pid == 1

    @property
    def is_zombie(self) -> bool:
        """Whether it has ended and waits for its parent."""
        return bool(self.flags & PROCESS_ZOMBIE)


def read_entries(data: bytes, byte_order: ByteOrder) -> list[Entry]:
    """The whole entries at the front of some bytes; a part of one at the end is left out."""
    data = data[: len(data) // ENTRY * ENTRY]
    columns: dict[str, array[int]] = {kind: array(kind, data) for kind in ("Q", "I")}
    if byte_order != sys.byteorder:
        for column in columns.values():
            column.byteswap()
    parts = (columns[kind][at // struct.calcsize(kind) :: ENTRY // struct.calcsize(kind)] for _, kind, at in FIELDS)
    return list(map(Entry._make, zip(*parts, strict=True)))


def pack_entry(entry: Entry, byte_order: ByteOrder = "little") -> bytes:
    """The bytes of an entry."""
    return struct.pack(_SIGN[byte_order] + "".join(kind for _, kind, _ in FIELDS), *entry)


def read_info(data: bytes, byte_order: ByteOrder) -> ProcessInfo | None:
    """None when there are too few bytes."""
    if len(data) < INFO_START_TIME + 8:
        return None
    sign = _SIGN[byte_order]
    pid, parent, flags = struct.unpack_from(f"{sign}IiI", data, INFO_PID)
    (start,) = struct.unpack_from(f"{sign}Q", data, INFO_START_TIME)
    return ProcessInfo(pid, parent, flags, start)
