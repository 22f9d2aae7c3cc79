"""The kernel's structures as data: `kinfo_vmentry` and the part of `kinfo_proc` that tells who a process is.

From <sys/user.h>; `kinfo_vmentry` has one layout on all processors since FreeBSD 7.1, `kinfo_proc` differs by the width
of a pointer, and only that of 64-bit processors is here. Pure: no call is made.
"""

from __future__ import annotations

import enum
import struct
from typing import Literal

ByteOrder = Literal["little", "big"]

CTL_KERN = 1
KERN_PROC = 14
KERN_BOOTTIME = 21
KERN_PROC_PID = 1
KERN_PROC_PROC = 8
KERN_PROC_VMMAP = 32
"""Numbers of sysctl's tree (<sys/sysctl.h>)."""

VMENTRY_FIELDS = (
    ("structsize", "I", 0),
    ("type", "I", 4),
    ("start", "Q", 8),
    ("end", "Q", 16),
    ("offset", "Q", 24),
    ("vn_fileid", "Q", 32),
    ("vn_fsid_freebsd11", "I", 40),
    ("flags", "I", 44),
    ("resident", "I", 48),
    ("private_resident", "I", 52),
    ("protection", "I", 56),
    ("ref_count", "I", 60),
    ("shadow_count", "I", 64),
    ("vn_type", "I", 68),
    ("vn_size", "Q", 72),
    ("vn_rdev_freebsd11", "I", 80),
    ("vn_mode", "H", 84),
    ("status", "H", 86),
    ("vn_fsid_or_obj", "Q", 88),
    ("vn_rdev", "Q", 96),
)
"""Name, code of `struct`, offset. The kernel's int fields are read unsigned: a count of pages that has passed 2**31
(8 TiB) would wrap to a negative one. After 8 spare words the path begins."""

PATH_AT = 136
VMENTRY_SIZE = 1160
"""The whole structure, path included. A packed record is cut after the path and rounded up to 8 bytes."""
PATH_ROOM = 1024

_VMENTRY_CODES = "".join(code for _, code, _ in VMENTRY_FIELDS)
_VMENTRY = {"little": struct.Struct("<" + _VMENTRY_CODES), "big": struct.Struct(">" + _VMENTRY_CODES)}


def vmentry(byte_order: ByteOrder) -> struct.Struct:
    """The fixed part of a record, without the spare words and the path."""
    return _VMENTRY[byte_order]


class EntryType(enum.IntEnum):
    """KVME_TYPE_...: what lies at the bottom of what is mapped."""

    NONE = 0
    """No object yet: never touched, or a PROT_NONE reservation."""
    DEFAULT = 1
    """Anonymous memory; since FreeBSD 14 it is SWAP."""
    VNODE = 2
    SWAP = 3
    """Memory that may have swap behind it: shared memory, and anonymous memory that has been swapped (14: all)."""
    DEVICE = 4
    PHYS = 5
    """Pages that are never paged out: the page that the kernel gives to every process, large-page shared memory."""
    DEAD = 6
    SG = 7
    MGTDEVICE = 8
    GUARD = 9
    UNKNOWN = 255


VNODE_TYPES = {
    1: "regular", 2: "directory", 3: "block", 4: "character", 5: "link", 6: "socket", 7: "fifo", 8: "bad"
}  # fmt: skip
"""KF_VTYPE_...; 0 is none."""
CHARACTER_DEVICE = 4

ATTRIBUTES_VALID = 0x1
"""KF_ATTR_VALID of `status`: the vn_ fields were filled."""

MAX_PROTECTION_SHIFT = 16
"""KVME_MAX_PROT_READ, WRITE and EXEC are those of the protection, shifted (kernels newer than 13.2)."""

PROC_SIZE = 1088
"""sizeof(struct kinfo_proc) where pointers have 64 bits."""
_PID_AT, _PPID_AT, _UID_AT, _START_AT, _FLAG_AT, _STAT_AT, _COMM_AT = 72, 76, 168, 336, 368, 388, 447
PROC_FIELDS = {
    "pid": (_PID_AT, "i"),
    "ppid": (_PPID_AT, "i"),
    "uid": (_UID_AT, "I"),
    "start": (_START_AT, "qq"),
    "flag": (_FLAG_AT, "q"),
    "stat": (_STAT_AT, "b"),
    "comm": (_COMM_AT, "20s"),
}
"""Offset, and code of `struct`; `start` is a timeval (seconds and microseconds since 1970)."""

P_KPROC = 0x4
"""A process of the kernel. (P_SYSTEM is no such sign: init has it too.)"""
P_WEXIT = 0x2000
"""It is ending: procfs has no files of it any more, and it is no zombie yet."""
SZOMB = 5
STATES = {1: "I", 2: "R", 3: "S", 4: "T", 5: "Z", 6: "W", 7: "L"}
"""SIDL, SRUN, SSLEEP, SSTOP, SZOMB, SWAIT, SLOCK, as ps(1) writes them."""

MINCORE_INCORE = 0x1
MINCORE_SUPER = 0x60
"""Of the byte that mincore(2) tells of a page (<sys/mman.h>): in memory; and, as a mask, mapped as a part of a
superpage: 1, 2 or 3 (shifted by 5) is its size by getpagesizes(3). Before 13 it was 0x20 alone."""


def device_numbers(number: int) -> tuple[int, int]:
    """Major and minor of a 64-bit dev_t (<sys/types.h>, since FreeBSD 12)."""
    major = (number >> 32) & 0xFFFFFF00 | (number >> 8) & 0xFF
    minor = (number >> 24) & 0xFF00 | number & 0xFFFF00FF
    return major, minor
