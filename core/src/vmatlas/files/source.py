"""Bytes at places of a file: no more of it is read than is asked for, and what is read is counted."""

from __future__ import annotations

import os
from typing import BinaryIO, Protocol

from vmatlas.capture import DENSEST, LARGEST
from vmatlas.extents import occupied


class Source(Protocol):
    """Where the bytes of a container come from."""

    @property
    def name(self) -> str:
        """What errors call it."""
        ...

    @property
    def size(self) -> int | None:
        """Bytes in all; None where that is known at the end alone (what is compressed)."""
        ...

    @property
    def bytes_read(self) -> int:
        """How many have been read so far."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """So many bytes from a place on; fewer where they end. Raises OSError, MalformedData."""
        ...


class FileSource:
    """A regular file that was opened (`vmatlas.extents.open_plain`), and stays open as long as this is used."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        """`name`: what errors call it."""
        self.name = name
        self.bytes_read = 0
        self._file = file
        self._descriptor = file.fileno()
        found = os.fstat(self._descriptor)
        self.size: int = found.st_size
        self.time = round(found.st_mtime, 6)
        """When it was last changed: seconds since 1970-01-01 UTC, to the microsecond, as captures keep it."""
        self._written = found.st_mtime_ns

    @property
    def on_disk(self) -> int:
        """Bytes that it takes up, its holes not counted: what it may unpack to goes by that, and it is counted no
        further than matters there. Raises OSError."""
        return occupied(self._file, self.size, LARGEST // DENSEST)

    def read(self, offset: int, size: int) -> bytes:
        """See `Source`. What came to the file after it was opened is not read."""
        size = min(size, self.size - offset)
        pieces: list[bytes] = []
        while size > 0:
            piece = os.pread(self._descriptor, min(size, 1 << 24), offset)
            if not piece:  # it was cut since
                break
            pieces.append(piece)
            offset, size = offset + len(piece), size - len(piece)
            self.bytes_read += len(piece)
        return b"".join(pieces)

    def has_changed(self) -> bool:
        """Whether somebody wrote to it since it was opened."""
        now = os.fstat(self._descriptor)
        return (now.st_size, now.st_mtime_ns) != (self.size, self._written)


class BytesSource:
    """Bytes that are at hand: what came through a pipe."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.size: int | None = len(content)
        self.bytes_read = self.on_disk = len(content)
        self._content = content

    def read(self, offset: int, size: int) -> bytes:
        """See `Source`."""
        return self._content[offset : offset + size]
