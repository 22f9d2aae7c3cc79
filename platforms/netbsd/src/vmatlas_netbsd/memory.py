"""Memory operations of NetBSD: the POSIX subset, placement, a nameless memory object. The kernel of NetBSD 11 carried
them out through the agent; with Python on a NetBSD they were never run.

The numbers are those of sys/sys/mman.h and sys/sys/resource.h; the tests hold this against a scripted libc.
"""

from __future__ import annotations

import ctypes
import os
from errno import ENOSYS

from vmatlas.operations.contract import Ability
from vmatlas.operations.posix import Numbers, PosixCalls, refuse
from vmatlas.operations.values import Advice
from vmatlas.target.program import MapFlag

ADVICE = {
    Advice.NORMAL: 0,
    Advice.RANDOM: 1,
    Advice.SEQUENTIAL: 2,
    Advice.WILLNEED: 3,
    Advice.DONTNEED: 4,  # pages may leave memory, and keep what is in them (sys_madvise)
    Advice.FREE: 6,
}

FLAGS = {
    MapFlag.FIXED: 0x10,
    # MAP_TRYFIXED: another place where something is there; the place that came is compared (mmap(2)).
    MapFlag.FIXED_NOT_OVER: 0x400,
    MapFlag.NO_RESERVE: 0x40,
    MapFlag.LOCKED: 0x800,  # MAP_WIRED
    MapFlag.STACK: 0x2000,
}

_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2
_F_ADD_SEALS, _F_SEAL_SHRINK = 16, 2

_NO_MREMAP = "NetBSD's mremap has other rules, and is not used"


class NetBSDMemory(PosixCalls):
    """NetBSD."""

    system = "netbsd"
    distribution = "vmatlas-netbsd"
    numbers = Numbers(
        shared=1, private=2, anonymous=0x1000, wait=4, no_wait=1, invalidate=2, flags=FLAGS, advice=ADVICE
    )
    abilities = PosixCalls.abilities | Ability.PLACE | Ability.MEMORY_OBJECT
    lock_resource = 6
    lacking = {  # noqa: RUF012  (a table of the class, never changed)
        Ability.MOVE: _NO_MREMAP,
        Ability.KEEP_OLD: _NO_MREMAP,
        Ability.RESIZE: _NO_MREMAP,
        Ability.LOCK_ON_FAULT: "NetBSD locks pages at once",
        Ability.ADVISE_PROCESS: "NetBSD has no call that advises another process",
    }

    def open_memory(self, name: str, size: int) -> int:
        """memfd_create (since 11), sealed so that nobody can shrink it under a mapping. ENOSYS before."""
        import fcntl

        call = getattr(self.libc, "memfd_create", None)
        if call is None:
            raise refuse("memfd_create", ENOSYS)
        descriptor = int(call(os.fsencode(name), ctypes.c_uint(_MFD_CLOEXEC | _MFD_ALLOW_SEALING)))
        if descriptor < 0:
            raise refuse("memfd_create")
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, _F_ADD_SEALS, _F_SEAL_SHRINK)
        except OSError as error:
            os.close(descriptor)
            raise refuse(f"a memory object of {size:,} bytes", error.errno) from None
        return descriptor


OPERATIONS = NetBSDMemory()
