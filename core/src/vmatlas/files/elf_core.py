"""Core files in ELF (e_type ET_CORE): the container, of every system, word size and byte order. What the notes mean is
a plugin's.

The layout is that of the System V ABI, chapters "ELF Header", "Program Header" and "Note Section". A core has a program
header for each piece of memory that it tells of (PT_LOAD), and notes (PT_NOTE), at its beginning or, of NetBSD and
OpenBSD, its end. `read_core` reads these and nothing else; what it gives is kept in a capture as it stood in the file,
and is taken apart by `parse_header`, `Segments` and `notes_in`, which are pure.

Cores are cut (RLIMIT_CORE, a full disk), and nothing marks where. What is there is told; `incomplete` says the rest.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import compress
from operator import add, and_, gt
from typing import NamedTuple

from vmatlas.capture import LARGEST, MOST_REGIONS, Capture
from vmatlas.errors import MalformedData, Unsupported
from vmatlas.files.source import Source
from vmatlas.model import AddressSpace, Consistency, Kind, Protection, Query, SystemInfo
from vmatlas.model.columns import NO_LABEL, UNKNOWN_BYTE
from vmatlas.model.facts import Meaning, Packer, columns_of
from vmatlas.model.region import UNKNOWN as _UNKNOWN
from vmatlas.model.system import ByteOrder

HEADER = "elf-header"
SEGMENTS = "elf-segments"
NOTES = "elf-notes"
"""The streams of a capture that a core gives: its ELF header, its program headers, and of its notes those kept."""

MOST_NOTES = 500_000
"""How many are looked at; a thread has three to six."""

MOST_KEPT = 1 << 26
"""Bytes of notes that are kept."""

MAGIC = b"\x7fELF"
_CORE = 4
_LOAD, _NOTE = 1, 4
_NUMBER_ELSEWHERE = 0xFFFF
"""PN_XNUM: there are as many program headers or more, and section 0 has their number in sh_info."""
_NOTE_HEADER = 12
_LONGEST_NAME = 256
_WINDOW = 1 << 16
_NEAR = 1 << 25
_ORDERS: dict[int, ByteOrder] = {1: "little", 2: "big"}
_MARKS = {"little": "<", "big": ">"}
_FEW = 16
_LOW_BITS = bytes(each & 7 for each in range(256))
_REGISTERS = frozenset(
    ((b"LINUX", None), (b"CORE", 2), (b"FreeBSD", 2), (b"FreeBSD", 0x202), (b"FreeBSD", 9), (b"OpenBSD", 0x15))
)
"""Notes that hold floating point and vector registers, several KiB for each thread, or open files (FreeBSD 9)."""

_USUAL_PAGE = 4096


class Header(NamedTuple):
    """What the ELF header tells."""

    bits: int
    byte_order: ByteOrder
    os_abi: int
    machine: int
    """The number of the processor (e_machine)."""
    at: int
    """Where the program headers begin, in bytes."""
    number: int
    """How many there are, as far as it is told here."""
    sections_at: int

    @property
    def size(self) -> int:
        """Bytes of the header."""
        return 64 if self.bits == 64 else 52

    @property
    def entry(self) -> int:
        """Bytes of a program header."""
        return 56 if self.bits == 64 else 32


class Segments:
    """Program headers, in the order of the file, a column for each field. Cut out of the bytes when it is asked for:
    there can be a million, and nobody needs all fields."""

    __slots__ = ("_entry", "_is_wide", "_low", "_swapped", "_whole", "_words")

    def __init__(self, header: Header, content: bytes) -> None:
        """Of the bytes of all program headers; what is left of one at the end is nothing."""
        self._entry = header.entry
        self._low = (24 if header.bits == 32 else 4) + (0 if header.byte_order == "little" else 3)
        self._whole = content[: len(content) - len(content) % header.entry]
        # A slice of an array with a step takes a tenth of the time of a memoryview's.
        self._words = array("Q" if header.bits == 64 else "I", self._whole)
        self._is_wide, self._swapped = header.bits == 64, header.byte_order != sys.byteorder
        if self._swapped:
            self._words.byteswap()

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def kind(self) -> array[int]:
        """`p_type`."""
        if not self._is_wide:
            return self._words[0::8]
        return array("I", self._words[0::7].tobytes())[self._swapped :: 2]  # with the flags in one word

    @property
    def flags(self) -> bytes:
        """The rights in `p_flags`: PF_X 1, PF_W 2, PF_R 4; a byte each."""
        return self._whole[self._low :: self._entry].translate(_LOW_BITS)

    @property
    def offset(self) -> array[int]:
        """`p_offset`."""
        return self._column(1, 1)

    @property
    def start(self) -> array[int]:
        """`p_vaddr`."""
        return self._column(2, 2)

    @property
    def file_size(self) -> array[int]:
        """`p_filesz`."""
        return self._column(4, 4)

    @property
    def memory_size(self) -> array[int]:
        """`p_memsz`."""
        return self._column(5, 5)

    @property
    def alignment(self) -> array[int]:
        """`p_align`."""
        return self._column(7, 6)

    def _column(self, half: int, word: int) -> array[int]:
        return self._words[word::7] if self._is_wide else array("Q", self._words[half::8])

    def rows(self, kind: int) -> list[int]:
        """Those of a kind."""
        kinds = self.kind
        if kinds.count(kind) > _FEW:
            return [row for row, each in enumerate(kinds) if each == kind]
        found: list[int] = []
        for _ in range(kinds.count(kind)):
            found.append(kinds.index(kind, found[-1] + 1 if found else 0))
        return found

    def loads(self) -> tuple[array[int], array[int], bytes, Sequence[int]]:
        """Of all that tell of memory, however little of it the file holds: start, size, `flags`, and the row."""
        kinds, starts, sizes, flags = self.kind, self.start, self.memory_size, self.flags
        first = next((row for row, kind in enumerate(kinds) if kind == _LOAD), len(kinds))
        end = next((row + 1 for row in range(len(kinds) - 1, first - 1, -1) if kinds[row] == _LOAD), first)
        rows: Sequence[int] = range(first, end)  # what is none of memory stands at an end, with all who write cores
        starts, sizes, flags = starts[first:end], sizes[first:end], flags[first:end]
        is_whole = kinds[first:end].tobytes() == array("I", (_LOAD,)).tobytes() * (end - first)
        if not is_whole or 0 in sizes:
            is_load = [each == _LOAD and size > 0 for each, size in zip(kinds[first:end], sizes, strict=True)]
            starts, sizes = (array("Q", compress(column, is_load)) for column in (starts, sizes))
            rows, flags = list(compress(rows, is_load)), bytes(compress(flags, is_load))
        return starts, sizes, flags, rows


class Note(NamedTuple):
    """One note."""

    name: bytes
    """Without the NUL that ends it: who gave the type its meaning."""
    type: int
    content: bytes
    offset: int
    """Where the content begins, in the stream (or file) that it was read from."""


class Core(NamedTuple):
    """What was read of a core file."""

    header: bytes
    segments: bytes
    notes: bytes
    system: str
    """The word of the system whose process it was: "linux"."""
    incomplete: str | None
    """None, or what the file should have and has not."""
    memory: Callable[[int, int], bytes] = lambda address, size: b""
    """The first bytes of the memory at an address where a region begins, as far as the file holds them."""


def parse_header(content: bytes, stream: str = HEADER) -> Header:
    """Raises MalformedData for what is no ELF core file; Unsupported for another ELF file."""
    if content[:4] != MAGIC:
        raise MalformedData(stream, 0, "the first bytes of an ELF file", found=content[:4])
    if len(content) < 16 or content[4] not in (1, 2) or content[5] not in _ORDERS:
        raise MalformedData(stream, 4, "an ELF file of 32 or 64 bits, little- or big-endian", found=content[4:6])
    bits, order = 32 * content[4], _ORDERS[content[5]]
    layout = struct.Struct(_MARKS[order] + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH"))
    if len(content) < 16 + layout.size:
        raise MalformedData(stream, len(content), f"an ELF header of {16 + layout.size} bytes, and the file ends")
    kind, machine, _, _, at, sections_at, _, _, entry, count, *_ = layout.unpack_from(content, 16)
    if kind != _CORE:
        what = {1: "an object file", 2: "a program", 3: "a program or a shared library"}.get(kind, "of another kind")
        raise Unsupported(f"{stream} is {what} (ELF, e_type {kind}), and no core file")
    header = Header(bits, order, content[7], machine, at, count, sections_at)
    if count and entry != header.entry:
        place = 54 if bits == 64 else 42
        raise MalformedData(stream, place, f"program headers of {header.entry} bytes, not {entry}")
    return header


_RIGHTS = bytes(bool(flags & 4) | (flags & 2) | 4 * (flags & 1) for flags in range(8)) + bytes(248)
"""From PF_X 1, PF_W 2, PF_R 4 to the numbers of `Protection`."""


def regions_in(header: Header, raw: bytes) -> tuple[array[int], array[int], bytes]:
    """Starts, ends and rights (numbers of `Protection`) of all memory that has a size, by address, of the stream
    `SEGMENTS`. Raises MalformedData with the program header."""
    firsts, sizes, flags, rows = Segments(header, raw).loads()
    listed = firsts.tolist()
    if listed != sorted(listed):  # Linux' kernel.core_sort_vma
        order = sorted(range(len(listed)), key=listed.__getitem__)
        firsts, sizes = (array("Q", map(column.__getitem__, order)) for column in (firsts, sizes))
        rows = list(map(rows.__getitem__, order))
        flags, listed = bytes(map(flags.__getitem__, order)), firsts.tolist()
    ends = list(map(add, listed, sizes))
    if any(map(gt, ends, listed[1:])):
        index = next(index for index, both in enumerate(zip(ends, listed[1:], strict=False)) if both[0] > both[1])
        expected = f"a region that begins where another ends, or above: those at {firsts[index]:#x} overlap"
        raise MalformedData(SEGMENTS, rows[index + 1] * header.entry, expected)
    if ends and ends[-1] >= _UNKNOWN:
        raise MalformedData(SEGMENTS, rows[-1] * header.entry, "a region that ends below 2^64")
    return firsts, array("Q", ends), flags.translate(_RIGHTS)


def nameless_capture(
    core: Core,
    header: Header,
    *,
    system: str,
    machines: Mapping[int, str],
    page_size: int | None,
    pid: int,
    backend: str,
    distribution: str,
    time: float,
    gaps: Iterable[str],
    name: str | None = None,
) -> Capture:
    """The capture of a core that has ranges and rights alone: what `nameless_space` takes apart.

    `machines`: what the system calls the processors that it runs on, by their number in ELF; `page_size`: None where it
    is not told, and taken for 4,096 bytes. `gaps`: what is not told, and what this one lacks.
    """
    return Capture(
        streams={HEADER: core.header, SEGMENTS: core.segments, NOTES: core.notes},
        system=SystemInfo(
            system=system,
            release="",
            version="",
            machine=machines.get(header.machine, f"elf-machine-{header.machine}"),
            byte_order=header.byte_order,
            pointer_width=header.bits,
            page_size=page_size or _USUAL_PAGE,
        ),
        pid=pid,
        backend=backend,
        distribution=distribution,
        query=Query(),
        time=time,
        pointer_width=header.bits,
        consistency=Consistency.FROZEN,
        incomplete="; ".join(gaps),
        name=name,
    )


def nameless_space(capture: Capture, *, rights: bool = True, joined: bool = False) -> AddressSpace:
    """The address space of a core that has ranges and rights alone. `rights`: not where the system writes others than
    there are; `joined`: neighbours with the same rights are one, where it cuts what is one. Raises MalformedData."""
    header = parse_header(capture.stream(HEADER))
    starts, ends, told = regions_in(header, capture.stream(SEGMENTS))
    if not rights:
        told = bytes([Protection.UNTOLD]) * len(told)
    if joined:
        kept = [
            row for row in range(len(starts)) if not row or (ends[row - 1], told[row - 1]) != (starts[row], told[row])
        ]
        lasts = [*(row - 1 for row in kept[1:]), len(starts) - 1][: len(kept)]
        starts, ends = array("Q", [starts[row] for row in kept]), array("Q", [ends[row] for row in lasts])
        told = bytes(told[row] for row in kept)
    packer = Packer()
    pieces = {
        each: packer.pack(Meaning(_UNKNOWN, _UNKNOWN, _UNKNOWN, NO_LABEL, each, UNKNOWN_BYTE, Kind.OTHER))
        for each in set(told)
    }
    offsets = array("Q", [_UNKNOWN]) * len(starts)
    columns = columns_of(starts, ends, offsets, b"".join(map(pieces.__getitem__, told)), packer.labels)
    return AddressSpace(columns, capture.origin)


def notes_in(content: bytes, byte_order: ByteOrder) -> Iterator[Note]:
    """The notes of a stream `NOTES`. Raises MalformedData where one does not lie whole in it."""
    place, count, size = 0, 0, len(content)
    unpack = struct.Struct(_MARKS[byte_order] + "III").unpack_from
    while place < size:
        if place + _NOTE_HEADER > size:
            raise MalformedData(NOTES, place, "a whole note", found=content[place:])
        name, length, kind = unpack(content, place)
        inner = place + _NOTE_HEADER + name + -name % 4
        end = inner + length + -length % 4
        if name > _LONGEST_NAME or end > size:
            raise MalformedData(NOTES, place, "a whole note", found=content[place : place + _NOTE_HEADER])
        if (count := count + 1) > MOST_NOTES:
            raise MalformedData(NOTES, place, f"at most {MOST_NOTES:,} notes")
        called = content[place + _NOTE_HEADER : place + _NOTE_HEADER + name].rstrip(b"\0")
        yield Note(called, kind, content[inner : inner + length], inner)
        place = end


def read_core(source: Source) -> Core:
    """Read what a core tells of the map, and no more.

    Raises MalformedData (with the byte) for what cannot be a core, Unsupported for one of no process and for one of a
    system that its notes do not name, OSError.
    """
    content = source.read(0, 64)
    header = parse_header(content, source.name)
    gaps: list[str] = []
    count = _count_of(header, source)
    if count > MOST_REGIONS:
        raise MalformedData(source.name, header.at, f"at most {MOST_REGIONS:,} program headers, not {count:,}")
    raw = source.read(header.at, count * header.entry)
    raw = raw[: len(raw) - len(raw) % header.entry]
    if len(raw) < count * header.entry:
        got = len(raw) // header.entry
        if not got:
            place = header.at if source.size is None else min(header.at, source.size)
            raise MalformedData(source.name, place, f"{count:,} program headers, and the file ends")
        gaps.append(f"it is cut within its program headers: {got:,} of {count:,} are there")
    segments = Segments(header, raw)
    walk = _Walk(source, header)
    offsets, sizes = segments.offset, segments.file_size
    for row in segments.rows(_NOTE):
        walk.read(offsets[row], sizes[row])
    gaps += walk.gaps
    if (told := _cut(source, segments)) is not None:
        gaps.append(told)
    return Core(
        content[: header.size],
        raw,
        b"".join(walk.kept),
        _system(walk, header, source),
        "; ".join(gaps) or None,
        _memory(source, segments),
    )


def _memory(source: Source, segments: Segments) -> Callable[[int, int], bytes]:
    """Of what is compressed no more than lies near the beginning: else it would be unpacked for a few bytes."""
    columns: list[array[int]] = []

    def read(address: int, size: int) -> bytes:
        if not columns:  # few cores are asked, and each column is cut out of the bytes
            columns.extend((segments.start, segments.offset, segments.file_size))
        starts, offsets, sizes = columns
        row = bisect_left(starts, address)
        if row == len(starts) or starts[row] != address:
            try:
                row = starts.index(address)  # they are not sorted
            except ValueError:
                return b""
        offset, held = offsets[row], sizes[row]
        if not held:
            return b""
        if source.size is None and offset > _NEAR:
            return b""
        try:
            return source.read(offset, min(size, held))
        except MalformedData:  # a compressed one does not go back
            return b""

    return read


def _count_of(header: Header, source: Source) -> int:
    """How many program headers there are.

    Of too many for the header section 0 tells, which Linux puts at the end of the file and FreeBSD behind the program
    headers. Where that is cut off, so does the place of the notes, which Linux puts behind the program headers, and
    first among them.
    """
    if header.number != _NUMBER_ELSEWHERE:
        return header.number
    at = 44 if header.bits == 64 else 28
    is_near = source.size is not None or header.sections_at < LARGEST // 16
    if header.sections_at and is_near:
        section = source.read(header.sections_at, at + 4)
        if len(section) == at + 4:
            return int(struct.unpack_from(_MARKS[header.byte_order] + "I", section, at)[0])
    first = Segments(header, source.read(header.at, header.entry))
    if len(first) and first.kind[0] == _NOTE:
        count, rest = divmod(first.offset[0] - header.at, header.entry)
        if count >= _NUMBER_ELSEWHERE and not rest:
            return count
    raise MalformedData(
        source.name,
        header.sections_at,
        "the section header that tells how many program headers there are (more than 65,534)",
    )


def _cut(source: Source, segments: Segments) -> str | None:
    """What is to be told of memory whose contents the file should have, and ends before."""
    if source.size is None:
        return None
    sizes = segments.file_size
    for row in segments.rows(_NOTE):
        sizes[row] = 0
    if not sizes.tobytes().strip(b"\0"):  # it holds no memory at all
        return None
    offsets = segments.offset
    if max(map(add, offsets, sizes)) <= source.size:
        return None
    beyond = list(map(source.size.__lt__, map(add, offsets, sizes)))
    if not any(beyond):
        return None
    kinds = segments.kind
    if 0 in sizes:
        beyond = list(map(and_, beyond, map(bool, sizes)))
    missing = sum(compress(beyond, map(_LOAD.__eq__, kinds)))
    if not missing:
        return None
    return (
        f"it is cut at byte {source.size:,}, before the contents of {missing:,} regions (which are told all the same)"
    )


class _Walk:
    """Goes from note to note of a file, and keeps what may tell of the map."""

    def __init__(self, source: Source, header: Header) -> None:
        self.kept: list[bytes] = []
        self.names: set[bytes] = set()
        self.gaps: list[str] = []
        self._source = source
        self._unpack = struct.Struct(_MARKS[header.byte_order] + "III").unpack_from
        self._seen = self._bytes_kept = self._walked = 0
        self._window, self._window_at = b"", 0

    def read(self, place: int, size: int) -> None:
        """The notes of one segment, as far as they lie whole in the file."""
        end = place + size
        if self._source.size is not None:
            end = min(end, self._source.size)
        while place < end and not self.gaps:
            head = self._bytes(place, _NOTE_HEADER)
            if len(head) < _NOTE_HEADER:
                self.gaps.append(f"its notes are cut at byte {place:,}")
                return
            name, length, kind = self._unpack(head)
            if not name and not kind:
                return  # zeros, which an editor of cores left behind the last
            inner = _NOTE_HEADER + name + -name % 4
            whole = inner + length + -length % 4
            if name > _LONGEST_NAME or place + inner + length > end:  # the last one needs not be padded
                self.gaps.append(f"its notes are cut or damaged at byte {place:,}")
                return
            self._seen += 1
            self._walked += whole
            if self._seen > MOST_NOTES or self._walked > LARGEST:
                self.gaps.append(f"its notes are more than are read, from byte {place:,} on")
                return
            called = self._bytes(place + _NOTE_HEADER, name).rstrip(b"\0")
            self.names.add(called)
            if (called, None) not in _REGISTERS and (called, kind) not in _REGISTERS:
                self._keep(place, inner + length, whole)
            place += whole

    def _keep(self, place: int, size: int, padded: int) -> None:
        self._bytes_kept += padded
        if self._bytes_kept > MOST_KEPT:
            self.gaps.append(f"its notes hold more than {MOST_KEPT:,} bytes, from byte {place:,} on")
            return
        content = self._bytes(place, size)
        if len(content) < size:
            self.gaps.append(f"its notes are cut at byte {place:,}")
            return
        self.kept.append(content.ljust(padded, b"\0"))

    def _bytes(self, place: int, size: int) -> bytes:
        """Of the file; small pieces out of a larger one that is read at once."""
        at = place - self._window_at
        if at < 0 or at + size > len(self._window):
            if size > _WINDOW:
                return self._source.read(place, size)
            self._window, self._window_at, at = self._source.read(place, _WINDOW), place, 0
        return self._window[at : at + size]


def _system(walk: _Walk, header: Header, source: Source) -> str:
    """By who named the notes: e_ident's OS ABI is 0 for most. Raises Unsupported, MalformedData."""
    names = walk.names
    for name in (b"VMCOREINFO", b"QEMU", b"XenCore", b"Xen"):
        if name in names:
            raise Unsupported(
                f"{source.name} is a dump of a whole machine (it has notes of {name.decode()}), and not of a process",
                hint="the crash utility and drgn read those",
            )
    if b"FreeBSD" in names:
        return "freebsd"
    for prefix, system in ((b"NetBSD-CORE", "netbsd"), (b"OpenBSD", "openbsd"), (b"QNX", "qnx")):
        if any(name.startswith(prefix) for name in names):
            return system
    if b"CORE" in names:
        return "linux"
    if header.os_abi == 9:
        return "freebsd"
    told = ", ".join(sorted(name.decode("latin-1") for name in names)) or "none is there"
    reason = f" ({walk.gaps[0]})" if walk.gaps else ""
    raise MalformedData(source.name, header.at, f"notes that tell which system's process it was; {told}{reason}")
