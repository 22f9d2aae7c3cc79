"""Memory operations of QNX Neutrino: the POSIX subset. Never run on a QNX with Python.

The protections and flags of mmap are those that 6.4 tells of its mappings; MS_ and POSIX_MADV_ are remembered from
sys/mman.h and unverified. The tests hold this against a scripted libc.
"""

from __future__ import annotations

import ctypes
import os
import stat
from errno import ENOSYS

from vmatlas.operations.contract import Ability, Promise
from vmatlas.operations.posix import Numbers, PosixCalls, refuse
from vmatlas.operations.values import Advice
from vmatlas.target.program import MapFlag

ADVICE = {
    Advice.NORMAL: 0,
    Advice.SEQUENTIAL: 1,
    Advice.RANDOM: 2,
    Advice.WILLNEED: 3,
    Advice.DONTNEED: 4,
}
"""POSIX_MADV_ of SDP 7.0 and newer."""

FLAGS = {
    MapFlag.FIXED: 0x10,
    MapFlag.NO_RESERVE: 0x80,  # MAP_LAZY: memory when it is touched
    MapFlag.STACK: 0x1000,
    MapFlag.POPULATE: 0,  # what is not lazy is there at once
}

_NO_MREMAP = "QNX has no mremap"


class QnxMemory(PosixCalls):
    """QNX Neutrino.

    It cannot place over nothing: the address is a hint there, and the place that came is compared.
    """

    system = "qnx"
    distribution = "vmatlas-qnx"
    numbers = Numbers(
        shared=1,
        private=2,
        anonymous=0x80000,
        wait=2,
        no_wait=1,
        invalidate=4,
        read=0x100,
        write=0x200,
        execute=0x400,
        flags=FLAGS,
        advice=ADVICE,
    )
    abilities = PosixCalls.abilities
    promises = Promise.ALIKE_AGAIN_IS_ONE
    lacking = {  # noqa: RUF012  (a table of the class, never changed)
        Ability.PLACE: "QNX takes an address as a hint, or replaces what is there",
        Ability.MOVE: _NO_MREMAP,
        Ability.KEEP_OLD: _NO_MREMAP,
        Ability.RESIZE: _NO_MREMAP,
        Ability.LOCK_ON_FAULT: "QNX locks pages at once",
        Ability.MEMORY_OBJECT: "QNX has no memfd; POSIX shared memory with a name serves",
        Ability.ADVISE_PROCESS: "QNX has no call that advises another process",
    }

    def is_memory_object(self, told: os.stat_result) -> bool:
        """A special file with a name (S_IFNAM of sys/stat.h; unverified)."""
        return stat.S_IFMT(told.st_mode) == 0x5000

    def advise(self, address: int, size: int, number: int) -> None:
        """posix_madvise, which gives the errno itself; 6.x has none, which is ENOSYS."""
        call = getattr(self.libc, "posix_madvise", None)
        if call is None:
            raise refuse("posix_madvise", ENOSYS)
        if error := int(call(ctypes.c_void_p(address), ctypes.c_size_t(size), ctypes.c_int(number))):
            raise refuse("posix_madvise", error)


OPERATIONS = QnxMemory()
