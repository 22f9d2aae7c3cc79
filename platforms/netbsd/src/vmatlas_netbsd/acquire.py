"""Asks this machine's kernel for the map of a process. It returns the kernel's own bytes and never looks into them."""

from __future__ import annotations

import ctypes
import functools
import os
import platform
import sys
from collections.abc import Sequence
from errno import E2BIG, ENOMEM, ENOSPC, errorcode
from typing import Any

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas.systems.names import system_called
from vmatlas_netbsd.decode import MAP, PROCESS
from vmatlas_netbsd.layout import (
    CTL_KERN,
    CTL_VM,
    KERN_PROC2,
    KERN_PROC_ALL,
    KERN_PROC_PID,
    PROCESS_SIZE,
    REGION_SIZE,
    VM_PROC,
    VM_PROC_MAP,
)
from vmatlas_netbsd.story import reading_of, refusal

ATTEMPTS = 8
"""How often what is read may outgrow the room made for it, before that is said."""

MOST = 10 << 20
"""Bytes: the kernel takes no more room for a map (fill_vmentries), so it tells of some 9,000 regions at most."""


def read_map(pid: int) -> bytes:
    """The records of a map, whole. Raises OSError."""
    return _read((CTL_VM, VM_PROC, VM_PROC_MAP, pid, REGION_SIZE), MOST)


def read_process(pid: int) -> bytes:
    """The record of a process; empty when there is none. Raises OSError."""
    try:
        return _read((CTL_KERN, KERN_PROC2, KERN_PROC_PID, pid, PROCESS_SIZE, 1), PROCESS_SIZE)
    except ProcessLookupError:
        return b""


def read_processes() -> bytes:
    """The records of all processes. Raises OSError."""
    most = MOST // PROCESS_SIZE
    return _read((CTL_KERN, KERN_PROC2, KERN_PROC_ALL, 0, PROCESS_SIZE, most), most * PROCESS_SIZE)


def _read(mib: Sequence[int], most: int) -> bytes:
    """The value of a sysctl, whole. Raises OSError: E2BIG beyond `most` bytes, ENOSPC when it grows each time.

    The kernel tells the size of what is there now; it may have grown by the time it is read.
    """
    name = (ctypes.c_int * len(mib))(*mib)
    for _ in range(ATTEMPTS):
        size = ctypes.c_size_t(0)
        _call(name, None, size)
        if size.value == 0:
            return b""
        if size.value > most:
            raise OSError(E2BIG, os.strerror(E2BIG))
        size.value = min(size.value + size.value // 3 + 4 * REGION_SIZE, most)
        buffer = ctypes.create_string_buffer(size.value)
        try:
            _call(name, buffer, size)
        except OSError as error:
            if error.errno in (ENOSPC, ENOMEM):
                continue
            raise
        return buffer.raw[: size.value]
    raise OSError(ENOSPC, "what is read grows each time")


def _call(name: ctypes.Array[ctypes.c_int], buffer: ctypes.Array[ctypes.c_char] | None, size: ctypes.c_size_t) -> None:
    ctypes.set_errno(0)
    if libc().sysctl(name, ctypes.c_uint(len(name)), buffer, ctypes.byref(size), None, ctypes.c_size_t(0)) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


@functools.cache
def libc() -> Any:
    """The C library of this process."""
    return ctypes.CDLL(None, use_errno=True)


def probe() -> Availability:
    """Whether the kernel tells this process its own map."""
    if (here := system_called(platform.system())) != "netbsd":
        return Availability(False, f"it asks netbsd kernels; this is {here}")
    try:
        read_map(os.getpid())
    except (OSError, AttributeError) as error:
        return Availability(False, f"the map of this process: {error}")
    return YES


def acquire(process: LocalProcess) -> Reading:
    """The map, then who the process is: a pid goes from one process to another and never back.

    Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed.
    """
    try:
        streams = {MAP: read_map(process.pid), PROCESS: read_process(process.pid)}
    except OSError as error:
        name = errorcode.get(error.errno or 0, "")
        raise refusal(name, error.errno or 0, error.strerror or str(error), process.pid) from None
    return reading_of(streams, process.pid, process.start_time, sys.byteorder)
