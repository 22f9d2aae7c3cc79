"""Memory operations of FreeBSD: the POSIX subset, placement, its own advice. Run by hand with Python on 13.2.

The numbers are those of sys/mman.h; the tests hold this against a scripted libc. FreeBSD has no mremap and no way to
advise another process.
"""

from __future__ import annotations

import ctypes
import os

from vmatlas.operations.contract import Ability, Promise
from vmatlas.operations.posix import Numbers, PosixCalls, refuse
from vmatlas.operations.values import Advice
from vmatlas.target.program import MapFlag

ADVICE = {
    Advice.NORMAL: 0,
    Advice.RANDOM: 1,
    Advice.SEQUENTIAL: 2,
    Advice.WILLNEED: 3,
    Advice.DONTNEED: 4,
    Advice.FREE: 5,
    Advice.NOSYNC: 6,
    Advice.AUTOSYNC: 7,
    Advice.DONTDUMP: 8,  # MADV_NOCORE
    Advice.DODUMP: 9,  # MADV_CORE
    Advice.PROTECT: 10,
}

FLAGS = {
    MapFlag.FIXED: 0x10,
    MapFlag.FIXED_NOT_OVER: 0x10 | 0x4000,  # MAP_FIXED | MAP_EXCL
    MapFlag.STACK: 0x400,
    MapFlag.NO_RESERVE: 0,  # nothing is reserved anyway
}

_MFD_CLOEXEC, _MFD_ALLOW_SEALING = 1, 2
_F_ADD_SEALS, _F_SEAL_SHRINK = 19, 2

_NO_MREMAP = "FreeBSD has no mremap"


class FreeBSDMemory(PosixCalls):
    """FreeBSD."""

    system = "freebsd"
    distribution = "vmatlas-freebsd"
    numbers = Numbers(
        shared=1, private=2, anonymous=0x1000, wait=0, no_wait=1, invalidate=2, flags=FLAGS, advice=ADVICE
    )
    abilities = PosixCalls.abilities | Ability.PLACE | Ability.MEMORY_OBJECT
    promises = Promise.LOCKS_ARE_TOLD | Promise.HINTS_SUCCEED | Promise.ALIKE_AGAIN_IS_ONE
    lock_resource = 6  # sys/resource.h
    # MAP_EXCL over something: vm_map_insert says "no space", which mmap passes on as ENOMEM (sys/vm/vm_mmap.c).
    occupied = frozenset({"EEXIST", "ENOMEM"})
    lacking = {  # noqa: RUF012  (a table of the class, never changed)
        Ability.MOVE: _NO_MREMAP,
        Ability.KEEP_OLD: _NO_MREMAP,
        Ability.RESIZE: _NO_MREMAP,
        Ability.LOCK_ON_FAULT: "FreeBSD locks pages at once",
        Ability.ADVISE_PROCESS: "FreeBSD has no call that advises another process",
    }

    def why_unasked(self, advice: Advice) -> str | None:
        """vm_map_madvise judges the advice before the range; MADV_PROTECT never comes there (kern_madvise)."""
        return "FreeBSD protects the whole process by it, whatever the range" if advice is Advice.PROTECT else None

    def open_memory(self, name: str, size: int) -> int:
        """memfd_create (since 13.0), sealed so that nobody can shrink it under a mapping."""
        import fcntl

        flags = ctypes.c_uint(_MFD_CLOEXEC | _MFD_ALLOW_SEALING)
        descriptor = int(self.libc.memfd_create(os.fsencode(name), flags))
        if descriptor < 0:
            raise refuse("memfd_create")
        try:
            os.ftruncate(descriptor, size)
            fcntl.fcntl(descriptor, _F_ADD_SEALS, _F_SEAL_SHRINK)
        except OSError as error:
            os.close(descriptor)
            raise refuse(f"a memory object of {size:,} bytes", error.errno) from None
        return descriptor


OPERATIONS = FreeBSDMemory()
