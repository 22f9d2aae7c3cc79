"""Settles names that the map leaves open, and carries the answers in a capture.

A name that ends in " (deleted)" is an unlinked file, or a file whose name really ends so. The kernel's map cannot tell;
the file system can. `settle` asks it on the process's machine, `encode` and `decode` carry the answers as the stream
`links`: for each name "1" (a file of just this name is mapped) or "0", the name, and a NUL byte.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from vmatlas.errors import MalformedData

STREAM = "links"


def settle(names: Iterable[tuple[bytes, int]], root: str) -> dict[bytes, bool]:
    """For each (name, inode): whether a file of just this name, with this inode, is there below `root` (the process's).

    A device number is not compared: on btrfs and overlayfs the map's differs from stat's.
    """
    linked: dict[bytes, bool] = {}
    for name, inode in names:
        try:
            linked[name] = linked.get(name, False) or os.stat(os.fsencode(root) + name).st_ino == inode
        except OSError:  # not there, or not ours to look at: then the kernel's suffix is the likelier reading
            linked.setdefault(name, False)
    return linked


def encode(linked: Mapping[bytes, bool]) -> bytes:
    """The stream."""
    return b"".join((b"1" if there else b"0") + name + b"\0" for name, there in linked.items())


def decode(stream: bytes) -> dict[bytes, bool]:
    """Raises MalformedData."""
    linked: dict[bytes, bool] = {}
    position = 0
    while position < len(stream):
        stop = stream.find(b"\0", position)
        if stop < 0 or stream[position : position + 1] not in (b"0", b"1"):
            raise MalformedData(STREAM, position, "'0' or '1', a name, and a NUL byte", found=stream[position:])
        linked[stream[position + 1 : stop]] = stream[position : position + 1] == b"1"
        position = stop + 1
    return linked
