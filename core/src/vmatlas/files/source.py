"""Bytes at places of a file: no more of it is read than is asked for, and what is read is counted."""

from __future__ import annotations

import errno
import os
import stat
from types import TracebackType
from typing import Protocol


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
    """A regular file. Close it."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises OSError: also for a folder, and for a pipe or a device, whose end might never come."""
        self.name = os.path.basename(os.fspath(path)) or os.fspath(path)
        self.bytes_read = 0
        # A pipe that nobody writes to would keep `open` waiting.
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            found = os.fstat(self._descriptor)
            if stat.S_ISDIR(found.st_mode):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
            if not stat.S_ISREG(found.st_mode):
                raise OSError(errno.EINVAL, "a pipe or a device, and no file that could be read", os.fspath(path))
        except OSError:
            os.close(self._descriptor)
            raise
        self.size: int = found.st_size
        self.time = round(found.st_mtime, 6)
        """When it was last changed: seconds since 1970-01-01 UTC, to the microsecond, as captures keep it."""
        self._written = found.st_mtime_ns

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

    def close(self) -> None:
        """Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class BytesSource:
    """Bytes that are at hand: what came through a pipe."""

    def __init__(self, content: bytes, name: str) -> None:
        self.name = name
        self.size: int | None = len(content)
        self.bytes_read = len(content)
        self._content = content

    def read(self, offset: int, size: int) -> bytes:
        """See `Source`."""
        return self._content[offset : offset + size]
