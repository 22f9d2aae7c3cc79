"""Minidumps (Microsoft's MiniDumpWriteDump, Breakpad, Crashpad, lldb): the container, of every system. What its streams
mean is a plugin's.

The layout is that of minidumpapiset.h: a header, and a directory of streams, each a type, a size and a place. Numbers
are little-endian on every processor. The same type can come more than once (lldb writes an exception for each thread),
and a type of 0 is an entry that nobody used: so it is a list, and no dictionary.

`read_minidump` reads the directory; `Minidump.content` reads one stream. What was read is kept as pieces with their
places (`pieces`), which a capture holds and `Pieces` reads again: of a dump of gigabytes some kilobytes.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from vmatlas.errors import MalformedData, Unsupported
from vmatlas.files.source import Source

STREAM = "minidump"
"""The stream of a capture that holds the pieces."""

MAGIC = b"MDMP"
MOST_STREAMS = 4096
"""Writers make a dozen or two."""
MOST_KEPT = 1 << 26
"""Bytes that are read of one dump."""
_LONGEST_NAME = 1 << 16

THREADS, MODULES, EXCEPTION, SYSTEM, MISC, MEMORY_INFO = 3, 4, 6, 7, 15, 16
"""Types of streams that every system has."""
_HEADER = struct.Struct("<4sIIIIIQ")
_ENTRY = struct.Struct("<III")
_SYSTEM_AT = 20
"""Of the stream SYSTEM: where the platform stands."""
_SYSTEM_SIZE = 56
_PLATFORMS = {2: "windows", 0x8101: "macos", 0x8102: "ios", 0x8201: "linux", 0x8202: "solaris", 0x8203: "android",
              0x8204: "playstation", 0x8205: "nacl", 0x8206: "fuchsia"}  # fmt: skip


class Stream(NamedTuple):
    """An entry of the directory."""

    type: int
    size: int
    offset: int
    entry: int
    """Where the entry itself stands."""


class Module(NamedTuple):
    """An entry of the list of modules: a program or a library, from its first segment to its last."""

    base: int
    size: int
    name: str
    build_id: bytes | None


class MemoryInfo(NamedTuple):
    """An entry of the list of memory, in Windows' words."""

    start: int
    size: int
    state: int
    protection: int
    type: int


class Minidump:
    """A minidump that is being read."""

    def __init__(self, source: Source) -> None:
        """Raises MalformedData, OSError."""
        self._source = source
        self._pieces: dict[int, bytes] = {}
        self._read = 0
        self.gaps: list[str] = []
        """What it should have and has not, in words."""
        head = self._bytes(0, _HEADER.size)
        if head[:4] != MAGIC:
            raise MalformedData(source.name, 0, "the first bytes of a minidump", found=head[:4])
        if len(head) < _HEADER.size:
            raise MalformedData(
                source.name, len(head), f"a header of {_HEADER.size} bytes, and the file ends", found=head
            )
        _, version, count, at, _, self.time, _ = _HEADER.unpack(head)
        if version & 0xFFFF != 0xA793:
            raise MalformedData(source.name, 4, "version 0xa793 of minidumps", found=head[4:8])
        if count > MOST_STREAMS:
            raise MalformedData(source.name, 8, f"at most {MOST_STREAMS:,} streams, not {count:,}")
        directory = self._bytes(at, count * _ENTRY.size)
        if len(directory) < count * _ENTRY.size:
            raise MalformedData(source.name, at, f"a directory of {count:,} streams, and the file ends")
        told = [
            Stream(kind, size, offset, at + row * _ENTRY.size)
            for row, (kind, size, offset) in enumerate(_ENTRY.iter_unpack(directory))
        ]
        self.streams = [each for each in told if each.type and each.size]
        self._refuse_overlap()

    def _refuse_overlap(self) -> None:
        """Nobody who wrote two streams in one place can have meant both."""
        last: Stream | None = None
        for each in sorted(self.streams, key=lambda each: (each.offset, each.size)):
            if last is not None and each.offset < last.offset + last.size:
                words = f"a stream behind that of type {last.type:#x}, which ends at byte {last.offset + last.size:,}"
                raise MalformedData(self._source.name, each.entry, words)
            last = each

    def of(self, type: int) -> list[Stream]:
        """All streams of a type, in their order."""
        return [each for each in self.streams if each.type == type]

    def content(self, stream: Stream, *, keep: bool = True) -> bytes:
        """Of one stream, as far as the file holds it; `keep`: as one of the pieces."""
        found = self._bytes(stream.offset, stream.size, keep=keep)
        if len(found) < stream.size:
            self._cut(f"it is cut within its stream of type {stream.type:#x}, at byte {stream.offset + len(found):,}")
        return found

    def first(self, type: int) -> bytes | None:
        """The content of the first of a type; None where there is none."""
        found = self.of(type)
        return self.content(found[0]) if found else None

    def part(self, offset: int, size: int, least: int = 0) -> bytes | None:
        """Of another place of the file, that a stream points to; None (and a gap) where it does not lie in it."""
        found = self._bytes(offset, size)
        if len(found) >= (least or size):
            return found
        self._cut(f"it has not the {size:,} bytes at byte {offset:,} that a stream points to")
        return None

    def text(self, offset: int) -> str | None:
        """A string (MINIDUMP_STRING) at a place: bytes, then UTF-16."""
        head = self.part(offset, 4) if offset else None
        if head is None:
            return None
        size = int.from_bytes(head, "little")
        if size > _LONGEST_NAME or size % 2:
            self._cut(f"at byte {offset:,} there is no string of at most {_LONGEST_NAME:,} bytes")
            return None
        found = self.part(offset + 4, size) if size else b""
        return None if found is None else found.decode("utf-16-le", "replace").rstrip("\0")

    def records(self, type: int, size: int) -> Iterator[bytes]:
        """The entries of all lists of a type: a count of 32 bits, and so many of `size` bytes, perhaps aligned to 8."""
        for stream in self.of(type):
            content = self.content(stream)
            count = int.from_bytes(content[:4], "little")
            first = 8 if stream.size == 8 + count * size else 4
            whole = (len(content) - first) // size
            if count > max(0, whole):
                self._cut(f"of the {count:,} entries of its stream of type {type:#x} {max(0, whole):,} are there")
            for row in range(min(count, max(0, whole))):
                yield content[first + row * size : first + (row + 1) * size]

    def modules(self) -> list[Module]:
        """Raises MalformedData for more than are read."""
        found = []
        for each in self.records(MODULES, 108):
            base, size, name_at = struct.unpack_from("<QI8xI", each)
            record_size, record_at = struct.unpack_from("<II", each, 76)
            record = self.part(record_at, min(record_size, 256)) if record_at and record_size > 4 else None
            # Breakpad's and Crashpad's: "BpEL", and the build id. Of RSDS it is a GUID, made of the id's beginning.
            build_id = record[4:] if record is not None and record[:4] == b"LEpB" else None
            found.append(Module(base, size, self.text(name_at) or "", build_id))
        return found

    def memory_info(self) -> Iterator[MemoryInfo]:
        """The entries of all lists of memory. Raises MalformedData for sizes that no writer has."""
        for stream in self.of(MEMORY_INFO):
            content = self.content(stream)
            if len(content) < 16:
                continue
            header, size, count = struct.unpack_from("<IIQ", content)
            if header < 16 or size < 48:
                raise MalformedData(self._source.name, stream.offset, "a list of memory with entries of 48 bytes")
            whole = max(0, len(content) - header) // size
            if count > whole:
                self._cut(f"of the {count:,} entries of its list of memory {whole:,} are there")
            for row in range(min(count, whole)):
                start, length, *words = struct.unpack_from("<Q16xQIII", content, header + row * size)
                yield MemoryInfo(start, length, *words)

    @property
    def system(self) -> str:
        """The word of the system whose process it was. Raises Unsupported, MalformedData."""
        told = self._told_by_system()
        (number,) = struct.unpack_from("<I", told, _SYSTEM_AT)
        name = _PLATFORMS.get(number)
        if name is None:
            raise Unsupported(f"the minidump is of a process of a system with the number {number:#x}, which is unknown")
        return "linux" if name == "android" else name

    @property
    def processor(self) -> int:
        """Its number: PROCESSOR_ARCHITECTURE_... ."""
        return int.from_bytes(self._told_by_system()[:2], "little")

    @property
    def system_version(self) -> str:
        """The system's own words on itself; empty where there are none."""
        return self.text(int.from_bytes(self._told_by_system()[24:28], "little")) or ""

    def _told_by_system(self) -> bytes:
        told = self.first(SYSTEM)
        if told is None or len(told) < _SYSTEM_SIZE:
            place = self.of(SYSTEM)[0].entry if told is not None else 8
            raise MalformedData(self._source.name, place, "a stream that tells which system's process it was (type 7)")
        return told

    def pieces(self) -> bytes:
        """All that was read and kept, for `Pieces`."""
        return b"".join(
            struct.pack("<QQ", offset, len(content)) + content for offset, content in sorted(self._pieces.items())
        )

    def _cut(self, words: str) -> None:
        if words not in self.gaps and len(self.gaps) < 3:
            self.gaps.append(words)

    def _bytes(self, offset: int, size: int, *, keep: bool = True) -> bytes:
        known = self._pieces.get(offset, b"")
        if len(known) >= size:
            return known[:size]
        self._read += size
        if self._read > MOST_KEPT:
            raise MalformedData(self._source.name, offset, f"streams of at most {MOST_KEPT:,} bytes that are read")
        found = self._source.read(offset, size)
        if keep and found:
            self._pieces[offset] = found
        return found


class Pieces:
    """A `Source` of the pieces that a capture kept. No I/O."""

    def __init__(self, content: bytes, name: str = STREAM) -> None:
        """Raises MalformedData."""
        self.name = name
        self.size: int | None = None
        self.bytes_read = len(content)
        self._starts: list[int] = []
        self._contents: list[bytes] = []
        place = 0
        while place < len(content):
            if place + 16 > len(content):
                raise MalformedData(name, place, "a whole piece of a minidump", found=content[place:])
            offset, size = struct.unpack_from("<QQ", content, place)
            if place + 16 + size > len(content):
                raise MalformedData(name, place, "a whole piece of a minidump", found=content[place : place + 16])
            self._starts.append(offset)
            self._contents.append(content[place + 16 : place + 16 + size])
            place += 16 + size
        if self._starts != sorted(self._starts):
            raise MalformedData(name, 0, "pieces of a minidump in their order")

    def read(self, offset: int, size: int) -> bytes:
        """See `Source`: what one piece holds."""
        row = bisect_right(self._starts, offset) - 1
        if row < 0:
            return b""
        at = offset - self._starts[row]
        return self._contents[row][at : at + size]


def read_minidump(source: Source) -> Minidump:
    """Of its header and directory; the streams are read when they are asked for. Raises MalformedData, OSError."""
    return Minidump(source)
