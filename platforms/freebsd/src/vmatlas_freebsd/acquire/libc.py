"""sysctl(3) through this machine's libc. It knows numbers and bytes, and nothing of what they mean."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from errno import ENOMEM, EOVERFLOW
from typing import Any

ATTEMPTS = 8
"""How often what is read may outgrow the room made for it, before that is said."""

LARGEST = 2**30
"""Bytes: the most that one answer may have."""


@functools.cache
def libc() -> Any:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def read_sysctl(mib: Sequence[int]) -> bytes:
    """The value of a sysctl, whole. Raises OSError with the kernel's errno.

    The kernel tells the size of what is there now; it may have grown by the time it is read, which gives ENOMEM and the
    beginning of the value. So there is a third more room than it said, and more each time that was not enough.
    """
    numbers = (ctypes.c_int * len(mib))(*mib)
    room = 0
    for _ in range(ATTEMPTS):
        size = ctypes.c_size_t(0)
        _check(libc().sysctl(numbers, ctypes.c_uint(len(mib)), None, ctypes.byref(size), None, ctypes.c_size_t(0)))
        if not size.value:
            return b""
        room = max(size.value + size.value // 3, 2 * room)
        if room > LARGEST:
            raise OSError(EOVERFLOW, f"more than {LARGEST:,} bytes")
        buffer = (ctypes.c_char * room)()
        size.value = room
        failed = libc().sysctl(numbers, ctypes.c_uint(len(mib)), buffer, ctypes.byref(size), None, ctypes.c_size_t(0))
        if not failed:
            return bytes(memoryview(buffer)[: size.value])
        if ctypes.get_errno() != ENOMEM:
            _check(failed)
    raise OSError(ENOMEM, f"the answer outgrew the room made for it {ATTEMPTS} times")


def read_number(name: str) -> int | None:
    """A whole number among the sysctls, by its name; None when the kernel has no such one, or it may not be read."""
    value = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(value))
    failed = libc().sysctlbyname(name.encode(), ctypes.byref(value), ctypes.byref(size), None, ctypes.c_size_t(0))
    return None if failed or size.value != ctypes.sizeof(value) else int(value.value)


def tell_pages(address: int, pages: int, page: int) -> bytes:
    """What mincore(2) tells of pages of this process, a byte for each. Raises OSError: ENOMEM where one is not mapped.

    There is a byte of room before: old kernels write the zeros of what was never touched one place too low, and so
    leave the last one unwritten (sys/vm/vm_mmap.c); it is 0 from the beginning.
    """
    room = (ctypes.c_char * (1 + pages))()
    told = ctypes.c_void_p(ctypes.addressof(room) + 1)
    _check(libc().mincore(ctypes.c_void_p(address), ctypes.c_size_t(pages * page), told))
    return bytes(memoryview(room)[1:])


def _check(failed: int) -> None:
    if failed:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
