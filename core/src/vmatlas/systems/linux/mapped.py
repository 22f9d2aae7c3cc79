"""The first bytes of a file that another process has mapped: of that very file, and never at the price of waiting.

A file system may not answer (FUSE, a network), and what stands at a path may be a pipe or a device by now. So a file is
looked at before it is opened to be read, only a regular file is, and another thread does it, which can be left behind.
"""

from __future__ import annotations

import os
import stat

from vmatlas.model import Region
from vmatlas.patience import Crew, Errand

PATIENCE = 3.0
"""Seconds for a file system to answer; it is asked nothing more afterwards, for as long as this process lives."""

_LOOK = os.O_PATH | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

_silent: set[object] = set()
"""Devices whose file system did not answer."""


def head(directory: int, region: Region, size: int) -> bytes | None:
    """At most `size` bytes from the beginning; `directory` is a descriptor of the process's folder in /proc."""
    if region.path is None or region.device in _silent:
        return None
    own = os.dup(directory)  # the thread may outlive the handle of the process

    def ask() -> bytes | None:
        try:
            return _head(own, region, size)
        finally:
            os.close(own)

    errand = Errand(ask)
    with Crew(1) as crew:
        if errand.asked_by(crew, PATIENCE):
            return errand.answer()
    _silent.add(region.device)
    return None


def _head(directory: int, region: Region, size: int) -> bytes | None:
    by_range = b"map_files/%x-%x" % (region.start, region.end)
    if (found := _read(by_range, directory, size)) is not None:
        return found
    path = region.path_bytes
    return None if path is None else _read(b"root" + path, directory, size, region)


def _read(path: bytes, directory: int, size: int, expected: Region | None = None) -> bytes | None:
    """A regular file's beginning; with `expected` only if it is the file of that region."""
    try:
        looked = os.open(path, _LOOK, dir_fd=directory)
    except OSError:
        return None
    try:
        if not _is_meant(os.fstat(looked), expected):
            return None
        descriptor = os.open(f"/proc/self/fd/{looked}", _READ)
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)
    except OSError:
        return None
    finally:
        os.close(looked)


def _is_meant(found: os.stat_result, expected: Region | None) -> bool:
    if not stat.S_ISREG(found.st_mode):
        return False
    if expected is None:
        return True
    if found.st_ino != expected.inode:
        return False
    # Numbers of devices that are no disks (major 0: btrfs, overlayfs) are not the same in maps and in stat(2).
    device = expected.device
    comparable = device is not None and device.major and os.major(found.st_dev)
    return not comparable or (os.major(found.st_dev), os.minor(found.st_dev)) == device
