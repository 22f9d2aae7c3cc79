"""A file that comes from others: opened once and for all, and what of it is data, what a hole that nobody wrote. It is
worth what it occupies."""

from __future__ import annotations

import errno
import io
import os
import stat
from collections.abc import Iterator

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

_SEEK_DATA: int | None = getattr(os, "SEEK_DATA", None)
_SEEK_HOLE: int | None = getattr(os, "SEEK_HOLE", None)


def open_plain(path: str | os.PathLike[str], could_be: str) -> BinaryIO:
    """A regular file, to read from. What it is, is told of what was opened: nothing takes its place between.

    Raises OSError: also for a folder, and for a pipe or a device, whose end might never come. `could_be`: what it would
    have been, for that error.
    """
    _check_plain(os.stat(path).st_mode, path, could_be)  # some devices do something when they are opened
    # A pipe that nobody writes to would keep `open` waiting.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        _check_plain(os.fstat(descriptor).st_mode, path, could_be)
        return open(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _check_plain(mode: int, path: str | os.PathLike[str], could_be: str) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), os.fspath(path))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"a pipe or a device, and no file that could be {could_be}", os.fspath(path))


def data_of(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """The pieces of a file that are no holes, between two places, each by where it begins and ends.

    By SEEK_DATA and SEEK_HOLE of lseek(2), not by the blocks that stat(2) counts: of what was just written, or is
    compressed, a file system may count none yet, or few. All is one piece where holes are not told. Where the file
    stands is left as it is. Raises OSError.
    """
    try:
        descriptor = file.fileno()
    except io.UnsupportedOperation:
        descriptor = -1
    while begin < end:
        piece = None if descriptor < 0 else _next(descriptor, begin, end)
        start, stop = (begin, end) if piece is None else piece
        if start < stop:
            yield start, stop
        begin = stop


def _next(descriptor: int, begin: int, end: int) -> tuple[int, int] | None:
    """The next piece, empty at the end where none is; None where the system does not tell."""
    if _SEEK_DATA is None or _SEEK_HOLE is None:
        return None
    before = os.lseek(descriptor, 0, os.SEEK_CUR)  # a buffer above it counts on that
    try:
        start = min(os.lseek(descriptor, begin, _SEEK_DATA), end)
        return start, end if start == end else min(os.lseek(descriptor, start, _SEEK_HOLE), end)
    except OSError as error:
        return (end, end) if error.errno == errno.ENXIO else None
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


def occupied(file: BinaryIO, size: int, enough: int) -> int:
    """How many bytes of a file of that size are no holes; it is counted no further than `enough`. Raises OSError."""
    found = 0
    for start, stop in data_of(file, 0, size):
        found += stop - start
        if found >= enough:
            break
    return min(found, max(enough, 0))
