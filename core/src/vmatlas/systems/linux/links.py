"""Settles names that the map leaves open, and carries the answers in a capture.

A name that ends in " (deleted)" is an unlinked file, or a file whose name really ends so. The kernel's map cannot tell;
the file system can. `settle` asks it on the process's machine, `encode` and `decode` carry the answers as the stream
`links`: for each name "1" (a file of just this name is mapped) or "0", the inode, a space, the name, and a NUL byte.
The inode belongs to it: both of two such files may be mapped at once, under one and the same name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from vmatlas.errors import MalformedData

STREAM = "links"

Name: TypeAlias = tuple[bytes, int]
"""A name as the kernel tells it, nothing escaped, and the inode that stands with it."""

_ITEM = re.compile(rb"([01])([0-9]{1,20}) ([^\0]*)\0")


def settle(names: Iterable[Name], directory: int) -> dict[Name, bool]:
    """For each name, whether a file of just this name, with this inode, is there.

    `directory` is the process's folder in /proc. The kernel tells a path as seen from the root of the one who asks, or,
    for a file of another mount namespace, from the root of that namespace: so both places are looked at. A device
    number is not compared: on btrfs and overlayfs the map's differs from stat's.
    """
    return {(name, inode): _is_there(name, inode, directory) for name, inode in names}


def _is_there(name: bytes, inode: int, directory: int) -> bool:
    for path, folder in ((name, None), (b"root" + name, directory)):
        try:
            if os.stat(path, dir_fd=folder, follow_symlinks=False).st_ino == inode:
                return True
        except OSError:  # not there, or not ours to look at: then the kernel's suffix is the likelier reading
            continue
    return False


def encode(linked: Mapping[Name, bool]) -> bytes:
    """The stream."""
    return b"".join(b"%d%d %s\0" % (there, inode, name) for (name, inode), there in linked.items())


def decode(stream: bytes) -> dict[Name, bool]:
    """Raises MalformedData."""
    linked: dict[Name, bool] = {}
    position = 0
    while position < len(stream):
        item = _ITEM.match(stream, position)
        if item is None:
            expected = "'0' or '1', an inode, a space, a name, and a NUL byte"
            raise MalformedData(STREAM, position, expected, found=stream[position:])
        linked[item[3], int(item[2])] = item[1] == b"1"
        position = item.end()
    return linked
