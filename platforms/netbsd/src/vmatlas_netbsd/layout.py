"""The kernel's structures as data: name, code of `struct` and offset of each field. Pure: no call is made.

From <sys/sysctl.h> of NetBSD 10.1; both have one layout on all processors, since the kernel gives pointers as 64 bits.
"""

from __future__ import annotations

import enum
import struct
from functools import cache
from typing import NamedTuple

from vmatlas.model.system import ByteOrder

Fields = tuple[tuple[str, str, int], ...]

CTL_KERN = 1
CTL_VM = 2
KERN_PROC2 = 47
KERN_PROC_ALL = 0
KERN_PROC_PID = 1
VM_PROC = 16
VM_PROC_MAP = 1
"""Numbers of sysctl's tree (<sys/sysctl.h>, <uvm/uvm_param.h>)."""

PATH_ROOM = 1024

REGION_FIELDS: Fields = (
    ("start", "Q", 0),
    ("end", "Q", 8),
    ("offset", "Q", 16),
    ("type", "I", 24),
    ("flags", "I", 28),
    ("pages", "I", 32),
    ("wired_count", "I", 36),
    ("advice", "I", 40),
    ("protection", "I", 48),
    ("max_protection", "I", 52),
    ("ref_count", "I", 56),
    ("inheritance", "I", 60),
    ("vn_fileid", "Q", 64),
    ("vn_size", "Q", 72),
    ("vn_fsid", "Q", 80),
    ("vn_type", "I", 96),
    ("vn_mode", "I", 100),
    ("path", f"{PATH_ROOM}s", 104),
)
"""struct kinfo_vmentry. Left out: attributes (of the processor's), vn_rdev."""
REGION_SIZE = 1128

PROCESS_FIELDS: Fields = (
    ("flag", "i", 112),
    ("pid", "i", 116),
    ("ppid", "i", 120),
    ("uid", "I", 136),
    ("comm", "24s", 368),
    ("uvalid", "q", 448),
    ("ustart_sec", "I", 456),
    ("ustart_usec", "I", 460),
    ("realstat", "Q", 632),
)
"""The part of struct kinfo_proc2 that tells who a process is."""
PROCESS_SIZE = 680


class EntryType(enum.IntEnum):
    """KVME_TYPE_...: what lies below what is mapped (fill_vmentry() of sys/uvm/uvm_map.c)."""

    NONE = 0
    OBJECT = 1
    """An object of some other sort."""
    VNODE = 2
    KERN = 3
    DEVICE = 4
    ANON = 5
    """An anonymous *object*: shared memory. Anonymous memory of a process's own has none, and is UNKNOWN."""
    SUBMAP = 6
    UNKNOWN = 255
    """No object: anonymous memory."""


P_SYSTEM = 0x200
"""A process of the kernel."""
ZOMBIES = frozenset([3, 5, 6])
"""SDYING, SZOMB, SDEAD: P_ZOMBIE() of <sys/proc.h>."""


class KernelRegion(NamedTuple):
    """One record of a map, in the order of REGION_FIELDS."""

    start: int
    end: int
    offset: int
    type: int
    flags: int
    pages: int
    wired_count: int
    advice: int
    protection: int
    max_protection: int
    ref_count: int
    inheritance: int
    vn_fileid: int
    vn_size: int
    vn_fsid: int
    vn_type: int
    vn_mode: int
    path: bytes


class KernelProcess(NamedTuple):
    """One record of a process, in the order of PROCESS_FIELDS."""

    flag: int
    pid: int
    ppid: int
    uid: int
    comm: bytes
    uvalid: int
    ustart_sec: int
    ustart_usec: int
    realstat: int


def device_numbers(number: int) -> tuple[int, int]:
    """Major and minor of a dev_t (<sys/types.h>)."""
    return (number & 0xFFF00) >> 8, (number & 0xFFF00000) >> 12 | number & 0xFF


@cache
def structure(fields: Fields, size: int, byte_order: ByteOrder) -> struct.Struct:
    """A record of `size` bytes of which the fields are read and all else is passed over."""
    code, at = "<" if byte_order == "little" else ">", 0
    for _, form, offset in fields:
        code += f"{offset - at}x{form}"
        at = offset + struct.calcsize(f"={form}")
    return struct.Struct(f"{code}{size - at}x")


def region_structure(byte_order: ByteOrder) -> struct.Struct:
    """A record of a map."""
    return structure(REGION_FIELDS, REGION_SIZE, byte_order)


def process_structure(byte_order: ByteOrder) -> struct.Struct:
    """A record of a process."""
    return structure(PROCESS_FIELDS, PROCESS_SIZE, byte_order)
