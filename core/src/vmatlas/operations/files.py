"""Mappings of what has a path: regular files, and devices."""

from __future__ import annotations

import contextlib
import os
import stat

from vmatlas import arguments
from vmatlas.errors import UsageError
from vmatlas.model import Protection
from vmatlas.operations.checks import check_address, check_descriptor, check_protection, check_size
from vmatlas.operations.contract import Operations
from vmatlas.operations.mapping import Mapping
from vmatlas.operations.memory import Memory
from vmatlas.target.program import MapFlag


def map_file(
    memory: Memory,
    operations: Operations,
    file: str | bytes | os.PathLike[str] | int,
    size: int | None = None,
    offset: int = 0,
    *,
    shared: bool = False,
    protection: Protection = Protection.READ,
    at: int | None = None,
    replace: bool = False,
    unsafe: bool = False,
) -> Mapping:
    """See `vmatlas.operations.map_file`."""
    memory.require_buffers()
    check_protection(protection)
    offset = check_address(offset, page=memory.page_size, bits=63, what="offset")
    if size is not None:
        check_size(size, bits=memory.address_bits)
    writes_file = shared and bool(protection & Protection.WRITE)
    if isinstance(file, int):
        name = f"descriptor {check_descriptor(file)}"
        descriptor = os.dup(file)
    else:
        name = arguments.path(file, "file")
        # A FIFO is refused below, and must not be waited for here; to a regular file it means nothing.
        descriptor = os.open(file, _open_flags(writes_file) | os.O_NONBLOCK)
    with contextlib.ExitStack() as undoing:
        undoing.callback(os.close, descriptor)
        told = memory.safety.check_contents(operations, descriptor, name, unsafe=unsafe)
        rest = told.st_size - offset
        length = rest if size is None else size
        if rest <= 0 or length > rest:
            # Touching a page beyond the end of a file kills the process (SIGBUS).
            raise UsageError(
                f"{name} has {told.st_size:,} bytes: from offset {offset:,} on there are {max(rest, 0):,} to map"
                + ("" if size is None else f", not {size:,}")
            )
        mapping = memory.place(
            length,
            protection,
            MapFlag.SHARED if shared else MapFlag.NONE,
            descriptor=descriptor,
            offset=offset,
            at=at,
            replace=replace,
            unsafe=unsafe,
            what=name,
            page=operations.page_size_of(descriptor),
            keep_descriptor=True,  # by which `resize` asks how long the file is then
        )
        undoing.pop_all()
        return mapping


def map_device(
    memory: Memory,
    device: str | bytes | os.PathLike[str],
    size: int,
    offset: int = 0,
    *,
    protection: Protection = Protection.READ,
    shared: bool = True,
    unsafe: bool = False,
) -> Mapping:
    """See `vmatlas.operations.map_device`."""
    memory.require_buffers()
    check_protection(protection)
    length = check_size(size, bits=memory.address_bits)
    offset = check_address(offset, page=memory.page_size, bits=63, what="offset")
    name = arguments.path(device, "device")
    memory.safety.check_device(name, unsafe=unsafe)
    descriptor = os.open(device, _open_flags(bool(protection & Protection.WRITE)) | getattr(os, "O_SYNC", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            raise UsageError(f"{name} is no device", hint="a file is mapped by map_file")
        flags = MapFlag.SHARED if shared else MapFlag.NONE
        return memory.place(length, protection, flags, descriptor=descriptor, offset=offset, what=name, limit=length)
    finally:
        os.close(descriptor)


def _open_flags(writes: bool) -> int:
    return (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC
