"""The flags of `procfs_mapinfo`: what mmap() was told, the protection, and what the page tables say.

Numbers from <sys/mman.h> of QNX Neutrino; each but CONSTRAINED was seen on a running 6.4.1 kernel.
"""

from __future__ import annotations

import enum

from vmatlas.model import Protection, SystemFlags


class MapFlags(SystemFlags, boundary=enum.KEEP):
    """The flags of one entry. The low two bits are one field, the way of sharing: see `sharing`."""

    SHARED = 0x1
    PRIVATE = 0x2
    FIXED = 0x10
    ELF = 0x20
    NOSYNCFILE = 0x40
    LAZY = 0x80
    PROT_READ = 0x100
    PROT_WRITE = 0x200
    PROT_EXEC = 0x400
    PROT_NOCACHE = 0x800
    STACK = 0x1000
    BELOW = 0x2000
    NOINIT = 0x4000
    PHYS = 0x10000
    NOX64K = 0x20000
    BELOW16M = 0x40000
    ANON = 0x80000
    PG_MODIFIED = 0x100000
    PG_REFERENCED = 0x200000
    PG_HWMAPPED = 0x400000
    SYSRAM = 0x1000000
    CONSTRAINED = 0x2000000

    @property
    def sharing(self) -> Sharing:
        """The field of the low two bits."""
        return Sharing(int(self) & 3)

    @property
    def protection(self) -> Protection:
        """The mapping's own, whatever the page tables hold at the moment."""
        return Protection(int(self) >> 8 & 7)

    @property
    def is_anonymous(self) -> bool:
        """Memory without an object behind it: MAP_ANON, or MAP_PRIVATEANON as older kernels tell the same."""
        return bool(self & MapFlags.ANON) or self.sharing is Sharing.PRIVATE_ANONYMOUS

    @property
    def of_stack(self) -> bool:
        """Part of a stack: the guard below it and the part that was not touched yet belong to it."""
        return bool(self & MapFlags.STACK)

    def labels(self) -> list[str]:
        """As in <sys/mman.h>, without MAP_; the low two bits as the one field that they are."""
        rest = super(MapFlags, MapFlags(self & ~3)).labels()
        return rest if self.sharing is Sharing.FILE else [self.sharing.name.replace("_", "").lower(), *rest]


class Sharing(enum.IntEnum):
    """MAP_TYPE's low two bits."""

    FILE = 0
    SHARED = 1
    PRIVATE = 2
    PRIVATE_ANONYMOUS = 3


RESIDENCY = MapFlags.PG_MODIFIED | MapFlags.PG_REFERENCED | MapFlags.PG_HWMAPPED
"""Bits that say what the page tables hold, not what the mapping is. PAGEDATA has them, MAPINFO has them cleared."""
