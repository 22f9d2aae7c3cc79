"""The answers of MAPDEBUG as a stream, `mapdebug`, and what they mean. Pure.

For each question one record in the target's byte order: u64 the address that was asked, u32 errno (0: answered), u32
the size of the answer, and the answer: u64 address (for ELF objects the one that they were linked for), then the path
and its NUL byte. Anonymous memory, guards and physical memory are not asked for: they have no name of their own.
"""

from __future__ import annotations

import struct

from vmatlas.capture import check_count
from vmatlas.errors import MalformedData
from vmatlas_qnx.flags import MapFlags
from vmatlas_qnx.layout import NAME_AT, ByteOrder, Entry

STREAM = "mapdebug"

UNTOLD = (b"", b"/dev/mem", b"/dev/zero")
"""What the kernel says where it has no name: for a mapped file of a file system, too (seen on 6.4.1)."""

_HEAD = {"little": struct.Struct("<QII"), "big": struct.Struct(">QII")}


def has_name(entry: Entry) -> bool:
    """Whether it is worth asking for the name of an entry."""
    flags = MapFlags(entry.flags)
    if flags & MapFlags.ELF:
        return True
    return bool(entry.dev) and not flags.is_anonymous and not flags & MapFlags.PHYS


def pack(address: int, errno: int, answer: bytes, byte_order: ByteOrder) -> bytes:
    """One record; of the answer only what goes up to the NUL byte of its path."""
    end = answer.find(b"\0", NAME_AT)
    answer = answer if end < 0 else answer[: end + 1]
    return _HEAD[byte_order].pack(address, errno, len(answer)) + answer


def unpack(stream: bytes, byte_order: ByteOrder) -> dict[int, str]:
    """The path for each address that the kernel told a name of, by its last answer. Raises MalformedData."""
    head = _HEAD[byte_order]
    check_count(STREAM, len(stream) // head.size, what="names")
    paths: dict[int, str] = {}
    position = 0
    while position < len(stream):
        if position + head.size > len(stream):
            raise MalformedData(STREAM, position, f"a head of {head.size} bytes", found=stream[position:])
        address, errno, size = head.unpack_from(stream, position)
        paths.pop(address, None)  # an earlier round's
        begin = position + head.size
        answer = stream[begin : begin + size]
        if len(answer) != size:
            raise MalformedData(STREAM, begin, f"an answer of {size} bytes", found=answer)
        if not errno:
            if size <= NAME_AT or answer.find(b"\0", NAME_AT) != size - 1:
                expected = "an address and a path that ends with its only NUL byte"
                raise MalformedData(STREAM, begin, expected, found=answer)
            if (path := answer[NAME_AT:-1]) not in UNTOLD:
                paths[address] = _absolute(path)
        position = begin + size
    return paths


def _absolute(path: bytes) -> str:
    """The kernel leaves out the slash in front of the names of programs and libraries: they begin at the root."""
    return (path if path.startswith(b"/") else b"/" + path).decode("utf-8", "surrogateescape")
