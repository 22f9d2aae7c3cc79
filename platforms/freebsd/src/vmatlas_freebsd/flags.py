"""The flags of one entry: `kve_flags` of <sys/user.h>, with the kernel's own numbers."""

from __future__ import annotations

import enum

from vmatlas.model import SystemFlags


class KvmeFlags(SystemFlags, boundary=enum.KEEP):
    """KVME_FLAG_...; newer kernels may have more, and bits without a name are kept."""

    COW = 0x1
    """Copy on write: the mapping is private."""
    NEEDS_COPY = 0x2
    """Private, and nothing was written to it since it was made or since the last fork."""
    NOCOREDUMP = 0x4
    SUPER = 0x8
    """At least one superpage is mapped in it."""
    GROWS_UP = 0x10
    GROWS_DOWN = 0x20
    """A stack."""
    USER_WIRED = 0x40
    """Locked by mlock(2)."""
    SYSVSHM = 0x80
    """A System V segment (kernels newer than 13.2)."""
    POSIXSHM = 0x100
    """A POSIX shared memory object (kernels newer than 13.2)."""

    @property
    def locked(self) -> bool:
        """USER_WIRED."""
        return bool(self & KvmeFlags.USER_WIRED)


NO_FLAGS = KvmeFlags(0)
