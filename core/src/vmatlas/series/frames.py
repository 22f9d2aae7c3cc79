"""The frames of a series' file: what is appended whole, and how it is told from what was cut. No vmatlas value in them.

A file begins with `MAGIC`. Each frame is its kind (a letter), the length of what it holds (32 bits), the CRC-32 of
these five bytes, the CRC-32 of what it holds, and that; numbers little-endian.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from vmatlas.capture import ALWAYS_READ, DENSEST, LARGEST_FILE, SERIES
from vmatlas.errors import MalformedData, UsageError
from vmatlas.extents import data_of

FORMAT = 2
"""The number of the format of series; that of single captures is `vmatlas.capture.FORMAT`."""

MAGIC = SERIES + b"%d\n" % FORMAT

SESSION, WHOLE, CHANGED, SAME = b"H", b"W", b"D", b"S"
"""Who recorded what follows; a moment as it is; one told by the moment before; one of the same bytes as that."""

_KINDS = frozenset([SESSION, WHOLE, CHANGED, SAME])
_HEAD = struct.Struct("<cI")
_CHECKS = struct.Struct("<I")
_SIZE = _HEAD.size + 2 * _CHECKS.size
_PIECE = 1 << 20
MOST_BEGIN = 1 << 16


class Frame(NamedTuple):
    """One frame, and where in the file it stands."""

    kind: bytes
    begin: bytes
    """The first bytes of what it holds, at most `MOST_BEGIN`."""
    length: int
    """Bytes of what it holds."""
    offset: int
    end: int


class Cut(NamedTuple):
    """The end of a file is a frame that was not written to its end."""

    offset: int
    size: int


def packed(kind: bytes, content: bytes) -> bytes:
    """A frame as it is written."""
    head = _HEAD.pack(kind, len(content))
    return head + _CHECKS.pack(zlib.crc32(head)) + _CHECKS.pack(zlib.crc32(content)) + content


def check_begin(file: BinaryIO, shown: str) -> None:
    """Raises UsageError for a newer format, MalformedData for what is no series."""
    file.seek(0)
    begin = file.read(len(MAGIC) + 16)
    if begin.startswith(MAGIC):
        return
    number = begin.removeprefix(SERIES).partition(b"\n")[0] if begin.startswith(SERIES) else b""
    if number.isdigit() and int(number) > FORMAT:
        raise UsageError(
            f"the series has format {int(number)}, and this version of vmatlas reads up to {FORMAT}",
            hint="read it by the version that wrote it, or a newer one",
        )
    error = MalformedData(shown, 0, f"{MAGIC!r}", found=begin)
    error.message = f"{shown} is no series of vmatlas: it is {'a file of another kind' if begin else 'empty'}"
    raise error


def frames(file: BinaryIO, shown: str, size: int, on_disk: int) -> Iterator[Frame | Cut]:
    """All of a file of so many bytes, one after another; a `Cut` at the end where the last one is not whole.

    Of a file with holes frames are read for `DENSEST` times the bytes that it occupies (`on_disk`), but 16 MiB in any
    case. Raises MalformedData for that, and for a frame that is damaged and has others behind it: nothing that was cut
    looks so.
    """
    offset = len(MAGIC)
    worth = max(ALWAYS_READ, DENSEST * on_disk)
    while offset < size:
        file.seek(offset)
        head = file.read(_SIZE)
        if len(head) < _SIZE:
            yield Cut(offset, size - offset)
            return
        kind, length = _HEAD.unpack_from(head)
        (check_of_head,) = _CHECKS.unpack_from(head, _HEAD.size)
        (check,) = _CHECKS.unpack_from(head, _HEAD.size + _CHECKS.size)
        if zlib.crc32(head[: _HEAD.size]) != check_of_head:
            if not _is_zero(file, offset, size):  # some file systems leave zeros where a write was lost
                raise MalformedData(shown, offset, "the head of a frame, with its check", found=head)
            yield Cut(offset, size - offset)
            return
        if kind not in _KINDS or length > LARGEST_FILE:
            raise MalformedData(shown, offset, f"a frame of a kind that there is, of at most {LARGEST_FILE:,} bytes")
        end = offset + _SIZE + length
        if end > size:
            yield Cut(offset, size - offset)
            return
        if end > worth:
            raise MalformedData(shown, offset, f"frames within {worth:,} bytes: the file occupies {on_disk:,}")
        begin = file.read(min(length, MOST_BEGIN))
        if not _has_check(file, begin, length, check):
            if end < size and not _is_zero(file, end, size):
                raise MalformedData(shown, offset + _SIZE, "what a frame holds, as its check says it was")
            yield Cut(offset, size - offset)
            return
        yield Frame(kind, begin, length, offset, end)
        offset = end


def content_of(file: BinaryIO, shown: str, offset: int, end: int) -> bytes:
    """What the frame holds that stands there, and was found whole before. Raises MalformedData where it changed."""
    file.seek(offset)
    whole = file.read(end - offset)
    content = whole[_SIZE:]
    if len(whole) != end - offset or zlib.crc32(content) != _CHECKS.unpack_from(whole, _HEAD.size + _CHECKS.size)[0]:
        raise MalformedData(shown, offset, "the frame that stood there when the file was opened")
    return content


def _has_check(file: BinaryIO, begin: bytes, length: int, check: int) -> bool:
    """Whether that is the check of so many bytes, of which the first were read."""
    found, left = zlib.crc32(begin), length - len(begin)
    while left and (piece := file.read(min(_PIECE, left))):
        found, left = zlib.crc32(piece, found), left - len(piece)
    return not left and found == check


def _is_zero(file: BinaryIO, offset: int, size: int) -> bool:
    """Whether nothing but zeros stands there, to the end, and no more are written than one frame may have."""
    left = LARGEST_FILE
    for start, stop in data_of(file, offset, size):
        file.seek(start)
        while start < stop:
            piece = file.read(min(_PIECE, stop - start))
            left -= len(piece)
            if not piece or piece.strip(b"\0") or left < 0:
                return not piece
            start += len(piece)
    return True


to_disk = getattr(os, "fdatasync", os.fsync)
"""Which some systems lack."""


def append(descriptor: int, frame: bytes, at: int) -> int:
    """Write a frame behind what is whole, and have it on the disk; where the next one goes.

    Raises OSError, and leaves what was whole as it was: the file ends there again.
    """
    try:
        left, place = memoryview(frame), at
        while left:
            written = os.pwrite(descriptor, left, place)
            left, place = left[written:], place + written
        to_disk(descriptor)
    except BaseException:
        os.ftruncate(descriptor, at)
        raise
    return place
