"""Files that are compressed: gzip, xz, zstd, lz4, told by their first bytes. They are unpacked from the beginning as
far as is needed, and no further than a capture of that size on disk may unpack to (`vmatlas.capture.most`): the
headers and notes of a core lie at its beginning, 60 GB of memory behind them. So a file that was made to fill memory
does not. Nor does one that was made to take time: its streams are counted, and so is what it has of nothing but NULs,
as a hole of a file reads (a frame of zstd or lz4 that is to be skipped has up to 4 GiB, and may be one hole).

gzip and xz are Python's own. zstd is since 3.14; before, and for lz4, the packages zstandard and lz4 do it, where they
are installed.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Protocol

from vmatlas.capture import ALWAYS_READ, LARGEST, most
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.files.source import Source

FURTHEST = LARGEST
"""How many bytes are unpacked at the most, to come to what is needed."""

_MOST_STREAMS = 1 << 16
"""So many follow one another at the most, each of which costs microseconds though nothing may be in it: 256 MiB are
4,096 of those that bgzip makes."""
_MOST_NULS = ALWAYS_READ
"""Bytes of the compressed file, in pieces that hold no other."""

_KEPT = 1 << 23
"""Bytes that are kept behind what was read last; a reader goes on, and looks back a little."""
_PIECE = 1 << 16
_MOST_MEMORY = 1 << 27
"""What the writer's settings may make a decompressor take: the largest that zstd and xz take where nobody says more."""

_MAGICS = {b"\x1f\x8b": "gzip", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd", b"\x04\x22\x4d\x18": "lz4"}
_UNPACKS = {"gzip": "gzip -d", "xz": "xz -d", "zstd": "zstd -d", "lz4": "lz4 -d"}


class _Decompressor(Protocol):
    """As those of the standard library for xz (lzma) and zstd."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def packing_of(head: bytes) -> str | None:
    """The word for how a file with these first bytes is compressed; None where it is not."""
    return next((word for magic, word in _MAGICS.items() if head.startswith(magic)), None)


class PackedSource:
    """What a compressed file unpacks to, read in order: what lies far behind the last place cannot be had again."""

    size: int | None = None

    def __init__(self, source: Source, packing: str, on_disk: int) -> None:
        """`on_disk`: bytes of the compressed file, its holes not counted.

        Raises Unsupported where nothing here unpacks that.
        """
        self.name = source.name
        self._source = source
        self._packing = packing
        self._new = _decompressors(packing)
        self._decompressor = self._new()
        self._furthest = most(on_disk)
        self._streams = 1
        self._nuls = 0
        self._place = 0
        self._kept = bytearray()
        self._base = 0
        """The place of the first byte that is kept."""
        self._ended = False
        self.cut_short: str | None = None
        """None, or why there may be more than it unpacked to."""

    @property
    def bytes_read(self) -> int:
        """Of the compressed file."""
        return self._source.bytes_read

    def read(self, offset: int, size: int) -> bytes:
        """See `Source`. Raises MalformedData for a place beyond what it may unpack to, or far before the last one."""
        if offset < self._base:
            raise MalformedData(self.name, offset, "parts in order: it is compressed", hint=self._hint)
        if offset + size > FURTHEST:
            raise self._too_far(FURTHEST, offset)
        while not self._ended and self._base + len(self._kept) < offset + size:
            if self._base + len(self._kept) > self._furthest:
                raise self._too_far(self._furthest, self._furthest)
            if len(self._kept) > 2 * _KEPT and self._base + _KEPT < offset:
                self._drop(min(offset, self._base + len(self._kept)) - _KEPT)
            self._kept += self._piece()
        found = bytes(self._kept[offset - self._base : offset - self._base + size])
        if offset - self._base > 2 * _KEPT:
            self._drop(offset - _KEPT)
        return found

    @property
    def _hint(self) -> str:
        return f"unpack it first: {_UNPACKS[self._packing]}"

    def _too_far(self, most: int, at: int) -> MalformedData:
        expected = f"what tells the map within the first {most:,} bytes that it unpacks to"
        return MalformedData(self.name, at, expected, hint=self._hint)

    def _drop(self, before: int) -> None:
        """Bytes before a place are not kept any longer."""
        del self._kept[: max(0, before - self._base)]
        self._base = max(self._base, before)

    def _piece(self) -> bytes:
        """Some more bytes; none at the end."""
        try:
            while True:
                given = b""
                if self._decompressor.eof:
                    given = self._decompressor.unused_data or self._taken()
                    if not given.strip(b"\0"):  # nothing, or what pads a tape
                        self._ended = True
                        return b""
                    self._streams += 1
                    if self._streams > _MOST_STREAMS:
                        expected = f"at most {_MOST_STREAMS:,} streams of {self._packing}, one behind another"
                        raise MalformedData(self.name, self._place, expected, hint=self._hint)
                    self._decompressor = self._new()
                elif self._decompressor.needs_input:
                    given = self._taken()
                    if not given:
                        self._ended = True
                        self.cut_short = (
                            f"the compressed file ends at byte {self._place:,} before its {self._packing} does"
                        )
                        return b""
                if piece := self._decompressor.decompress(given, _PIECE):
                    return piece
        except (MemoryError, MalformedData):
            raise
        except Exception as error:  # each of them has errors of its own
            if not self._base and not self._kept:
                raise MalformedData(self.name, 0, f"a file that {self._packing} unpacks ({error})") from None
            self._ended = True
            self.cut_short = f"the compressed file is damaged before byte {self._place:,} ({error})"
            return b""

    def _taken(self) -> bytes:
        given = self._source.read(self._place, _PIECE)
        self._place += len(given)
        if given and not given.strip(b"\0"):
            self._nuls += len(given)
            if self._nuls > _MOST_NULS:
                expected = f"something of {self._packing} within {_MOST_NULS:,} bytes that are 0"
                raise MalformedData(self.name, self._place, expected, hint=self._hint)
        return given


class _Gzip:
    """zlib's decompressor in the shape of the others."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(max_length, 0))


class _Zstandard:
    """That of the package zstandard, which gives all that its input holds at once: it is given little at a time."""

    _AT_A_TIME = 256
    """Bytes, of which at most 8 MiB can come: four make a block of 128 KiB."""

    def __init__(self, module: Any) -> None:
        self._inner = module.ZstdDecompressor(max_window_size=_MOST_MEMORY).decompressobj()
        self._waiting = b""
        self._place = 0

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._inner.unused_data) + self._waiting[self._place :] if self.eof else b""

    @property
    def needs_input(self) -> bool:
        return self._place >= len(self._waiting)

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        if data:
            self._waiting, self._place = self._waiting[self._place :] + data, 0
        given = self._waiting[self._place : self._place + self._AT_A_TIME]
        self._place += len(given)
        return bytes(self._inner.decompress(given))


def _decompressors(packing: str) -> Callable[[], _Decompressor]:
    """What makes a decompressor. Raises Unsupported."""
    if packing == "gzip":
        return _Gzip
    if packing == "xz":
        import lzma

        return lambda: lzma.LZMADecompressor(memlimit=_MOST_MEMORY)
    made = _zstd() if packing == "zstd" else _lz4()
    if made is None:
        package = {"zstd": "zstandard", "lz4": "lz4"}[packing]
        raise Unsupported(
            f"the file is compressed by {packing}, which nothing that is installed unpacks",
            hint=f"pip install {package}, or unpack it first: {_UNPACKS[packing]}",
        )
    return made


def _zstd() -> Callable[[], _Decompressor] | None:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        try:
            import zstandard  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            return None
        return lambda: _Zstandard(zstandard)
    largest = {zstd.DecompressionParameter.window_log_max: _MOST_MEMORY.bit_length() - 1}
    found: Callable[[], _Decompressor] = lambda: zstd.ZstdDecompressor(options=largest)  # noqa: E731
    return found


def _lz4() -> Callable[[], _Decompressor] | None:
    try:
        from lz4 import frame  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError:
        return None
    found: Callable[[], _Decompressor] = frame.LZ4FrameDecompressor
    return found
