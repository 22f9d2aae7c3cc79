"""Mappings of what has a path: regular files, and devices."""

from __future__ import annotations

import os
import stat

from vmatlas.errors import UsageError
from vmatlas.model import Protection
from vmatlas.operations.checks import check_address, check_descriptor, check_path, check_protection, check_size
from vmatlas.operations.mapping import Mapping
from vmatlas.operations.memory import Memory
from vmatlas.target.program import MapFlag

_SYSFS = "/sys"


def map_file(
    memory: Memory,
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
        descriptor = check_descriptor(file)
        name = f"descriptor {descriptor}"
    else:
        name = check_path(file, "file")
        descriptor = os.open(file, _open_flags(writes_file))
    try:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode):
            raise UsageError(f"{name} is no regular file", hint="a device is mapped by map_device")
        if not unsafe and _is_in_sysfs(told):
            raise UsageError(
                f"{name} lies in sysfs, where a regular file may be the registers of a device",
                hint="unsafe=True maps it all the same: a wrong register can stop the machine",
            )
        rest = told.st_size - offset
        length = rest if size is None else size
        if rest <= 0 or length > rest:
            # Touching a page beyond the end of a file kills the process (SIGBUS).
            raise UsageError(
                f"{name} has {told.st_size:,} bytes: from offset {offset:,} on there are {max(rest, 0):,} to map"
                + ("" if size is None else f", not {size:,}")
            )
        return memory.place(
            length,
            protection,
            MapFlag.SHARED if shared else MapFlag.NONE,
            descriptor=descriptor,
            offset=offset,
            at=at,
            replace=replace,
            unsafe=unsafe,
            what=name,
            limit=rest,
        )
    finally:
        if not isinstance(file, int):
            os.close(descriptor)


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
    name = check_path(device, "device")
    if not unsafe:
        raise UsageError(
            f"mapping the device {name} needs unsafe=True",
            hint="what touching a device does is not known here: a wrong register can stop the machine",
        )
    descriptor = os.open(device, _open_flags(bool(protection & Protection.WRITE)) | getattr(os, "O_SYNC", 0))
    try:
        mode = os.fstat(descriptor).st_mode
        if not (stat.S_ISCHR(mode) or stat.S_ISBLK(mode)):
            raise UsageError(f"{name} is no device", hint="a file is mapped by map_file")
        flags = MapFlag.SHARED if shared else MapFlag.NONE
        return memory.place(length, protection, flags, descriptor=descriptor, offset=offset, what=name, limit=length)
    finally:
        os.close(descriptor)


def _is_in_sysfs(told: os.stat_result) -> bool:
    """Linux: Documentation/PCI/sysfs-pci.rst, resource0..N. By the file system, whatever path led there.

    A sysfs that is mounted anywhere but at /sys is not known here, nor one of another network namespace.
    """
    return os.path.ismount(_SYSFS) and os.stat(_SYSFS).st_dev == told.st_dev


def _open_flags(writes: bool) -> int:
    return (os.O_RDWR if writes else os.O_RDONLY) | os.O_CLOEXEC
