"""The flags of one entry: `kve_flags` of <sys/sysctl.h>, with the kernel's own numbers."""

from __future__ import annotations

import enum

from vmatlas.model import SystemFlags


class KvmeFlags(SystemFlags, boundary=enum.KEEP):
    """KVME_FLAG_...; newer kernels may have more, and bits without a name are kept."""

    COW = 0x1
    """Copy on write: the mapping is private."""
    NEEDS_COPY = 0x2
    NOCOREDUMP = 0x4
    PAGEABLE = 0x8
    """Of the map as a whole, as are the next two: no sign of a stack."""
    GROWS_UP = 0x10
    GROWS_DOWN = 0x20
