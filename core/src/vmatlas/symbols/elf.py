"""Program headers of ELF files, and the address that a mapped byte has in its file: what addr2line and objdump want.

The layout is that of the System V ABI, chapter "Program Header": 32 and 64 bits, either byte order, every processor.
No I/O: a few bytes from the beginning of a file are enough.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from vmatlas.model import Protection, Region

HEAD = 65536
"""So many bytes of a file are asked for: linkers put the program headers behind the ELF header, at its beginning."""

MOST_SEGMENTS = 64
"""Linkers make four to a dozen. Each may have to be looked up for each, and a file is whoever's who is looked at."""

_MAGIC = b"\x7fELF"
_ORDERS = {1: "<", 2: ">"}
_HEADERS = {1: "HHIIIIIHHHHHH", 2: "HHIQQQIHHHHHH"}
"""Elf32_Ehdr, Elf64_Ehdr, from e_type (at 16) on."""
_PROGRAM_HEADERS = {1: "IIIIIIII", 2: "IIQQQQQQ"}
"""Elf32_Phdr; Elf64_Phdr, which has p_flags in the second place."""
_BITS = {1: 32, 2: 64}
_EXECUTABLE, _SHARED = 2, 3
_LOAD = 1
_RELRO = 0x6474E552  # PT_GNU_RELRO
_NUMBER_ELSEWHERE = 0xFFFF
"""PN_XNUM: the number of program headers stands in a section header."""
_RIGHTS = {4: Protection.READ, 2: Protection.WRITE, 1: Protection.EXECUTE}


class Segment(NamedTuple):
    """A part of a file that is loaded into memory (PT_LOAD). Bytes."""

    offset: int
    """Where it begins in the file."""
    address: int
    """Where it begins in the addresses of the file, to which a load adds its bias."""
    file_size: int
    memory_size: int
    """More than `file_size`: zeros follow (.bss)."""
    protection: Protection

    def pages(self, page: int) -> tuple[int, int]:
        """[start, end) in the file, of the whole pages that are mapped for it."""
        end = self.offset + self.file_size
        return self.offset - self.offset % page, -(-end // page) * page


class Elf(NamedTuple):
    """What is told of an ELF file: a program, or a shared object (a position-independent program is one)."""

    bits: int
    is_fixed: bool
    """A program that is loaded where its addresses say (ET_EXEC)."""
    segments: tuple[Segment, ...]
    """Those that have bytes in the file or in memory, in the order of the file."""
    relro: tuple[int, int] | None = None
    """[start, end) of what the loader is to make read-only once it is done (PT_GNU_RELRO), in the file's addresses."""

    def bias_of(self, region: Region, page: int) -> int | None:
        """What was added to the file's addresses where a region shows it; None where no segment of its rights is there.

        `page` is the system's page size in bytes.
        """
        if region.offset is None:
            return None
        executable = region.protection & Protection.EXECUTE
        for segment in self.segments:
            low, high = segment.pages(page)
            if segment.protection & Protection.EXECUTE == executable and low <= region.offset < high:
                return region.start - region.offset + segment.offset - segment.address
        return None


def parse_elf(head: bytes) -> Elf | None:
    """From the first bytes of a file; None for what is no program or shared object, or whose headers lie beyond, and
    for one of more than `MOST_SEGMENTS` segments."""
    if len(head) < 16 or head[:4] != _MAGIC:
        return None
    size, order = head[4], _ORDERS.get(head[5])
    if size not in _HEADERS or order is None:
        return None
    try:
        kind, _, _, _, at, _, _, _, entry, count, *_ = struct.unpack_from(order + _HEADERS[size], head, 16)
        layout = struct.Struct(order + _PROGRAM_HEADERS[size])
        if kind not in (_EXECUTABLE, _SHARED) or entry < layout.size or count == _NUMBER_ELSEWHERE:
            return None
        found = []
        relro = None
        for index in range(count):
            fields = layout.unpack_from(head, at + index * entry)
            if size == 2:
                word, flags, offset, address, _, file_size, memory_size, _ = fields
            else:
                word, offset, address, _, file_size, memory_size, flags, _ = fields
            if word == _RELRO:
                relro = address, address + memory_size
            if word == _LOAD and memory_size and file_size <= memory_size:
                rights = Protection.NONE
                for bit, right in _RIGHTS.items():
                    rights |= right if flags & bit else Protection.NONE
                found.append(Segment(offset, address, file_size, memory_size, rights))
                if len(found) > MOST_SEGMENTS:
                    return None
    except (struct.error, OverflowError):  # beyond the bytes that are here; beyond any that a file can have
        return None
    return Elf(_BITS[size], kind == _EXECUTABLE, tuple(found), relro)


Lookup = Callable[[int], Region | None]
"""The region that covers an address."""


def place_in_elf(elf: Elf, region: Region, address: int, *, page: int, lookup: Lookup) -> int | None:
    """The address in the file's own addresses of a byte that a region of the file shows; None where it has none.

    A page of a file can be mapped for two segments, at two addresses: then what tells is that all segments of a load
    lie where one bias puts them, so the others are looked up. `page` is the system's page size in bytes.
    """
    if region.offset is None:
        return None
    place = region.offset + address - region.start
    found: dict[int, Segment] = {}
    for segment in elf.segments:
        low, high = segment.pages(page)
        if segment.file_size and low <= place < high:
            found.setdefault(segment.address - segment.offset, segment)
    if len(found) > 1:
        size = region.end - region.start
        whole = {
            shift: segment
            for shift, segment in found.items()
            if segment.pages(page)[0] <= region.offset and region.offset + size <= segment.pages(page)[1]
        }
        # What reaches beyond all of them was mapped by no loader, but to read the file: each byte is its segment's own.
        own = {shift: each for shift, each in found.items() if each.offset <= place < each.offset + each.file_size}
        found = whole or (own if len(own) == 1 else found)
    if region.protection == Protection.NONE:
        # A loader reserves the whole span by mapping the file, and leaves what lies between two segments without
        # rights: the file shows there, and no segment does. One that lost its rights lies where the others say.
        found = {
            shift: each for shift, each in found.items() if not each.protection or _is_bias(elf, region, shift, lookup)
        }
    shift = _best(elf, region, place, found, lookup)
    told = None if shift is None else place + shift
    return told if told is not None and 0 <= told < 2**elf.bits else None


def _best(elf: Elf, region: Region, place: int, found: dict[int, Segment], lookup: Lookup) -> int | None:
    """From file offset to address, by the segment that the region is mapped for; None when nothing tells which."""
    if len(found) < 2:
        return next(iter(found), None)
    ranked = []
    for shift, segment in found.items():
        bias = region.start - (region.offset or 0) - shift
        agreeing = sum(_lies(each, bias, region, lookup) for each in elf.segments)
        is_exact = segment.offset <= place < segment.offset + segment.file_size
        rank = (elf.is_fixed and bias == 0, agreeing, is_exact, segment.protection == region.protection)
        ranked.append((rank, shift))
    ranked.sort()
    return None if ranked[-1][0] == ranked[-2][0] else ranked[-1][1]


def _is_bias(elf: Elf, region: Region, shift: int, lookup: Lookup) -> bool:
    """Whether all segments are mapped where they are if this region is mapped for the one of the shift."""
    bias = region.start - (region.offset or 0) - shift
    return all(_lies(each, bias, region, lookup) for each in elf.segments if each.file_size)


def _lies(segment: Segment, bias: int, region: Region, lookup: Lookup) -> bool:
    """Whether a segment of the region's file is mapped where a bias puts it."""
    start = bias + segment.address
    there = lookup(start) if segment.file_size and 0 <= start < 2**64 else None
    return (
        there is not None
        and there.offset is not None
        and (there.device, there.inode, there.path) == (region.device, region.inode, region.path)
        and there.offset + start - there.start == segment.offset
    )


def place_in_bss(elf: Elf, bias: int, address: int) -> int | None:
    """The file's own address of a byte that no byte of the file stands for: zeros behind a segment (.bss)."""
    own = address - bias
    for segment in elf.segments:
        if segment.address + segment.file_size <= own < segment.address + segment.memory_size:
            return own
    return None
