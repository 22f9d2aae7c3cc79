"""Core files that are made for tests, of any word size and byte order: for plugins whose system's are not at hand."""

from __future__ import annotations

import struct
from collections.abc import Sequence


def note(name: bytes, kind: int, content: bytes, mark: str = "<") -> bytes:
    """One note, with a name that ends in a NUL, padded as all are."""
    name += b"\0"
    words = struct.pack(mark + "III", len(name), len(content), kind)
    return words + name + bytes(-len(name) % 4) + content + bytes(-len(content) % 4)


def made_core(
    loads: Sequence[tuple[int, int, int]],
    notes: bytes,
    *,
    bits: int = 64,
    mark: str = "<",
    machine: int = 62,
    os_abi: int = 0,
    notes_last: bool = False,
) -> bytes:
    """`loads`: start, size and p_flags of each piece of memory. `notes_last`: as NetBSD and OpenBSD write them, and
    then the contents of memory lie at places that are no multiple of a page."""
    header, entry = (64, 56) if bits == 64 else (52, 32)
    notes_at = header + (len(loads) + 1) * entry
    headers = [_header(bits, mark, 1, flags, notes_at + 3, start, size) for start, size, flags in loads]
    of_notes = _header(bits, mark, 4, 0, notes_at, 0, 0, len(notes))
    headers = [*headers, of_notes] if notes_last else [of_notes, *headers]
    ident = b"\x7fELF" + bytes((bits // 32, 1 if mark == "<" else 2, 1, os_abi)) + bytes(8)
    layout = mark + ("HHIQQQIHHHHHH" if bits == 64 else "HHIIIIIHHHHHH")
    fields = (4, machine, 1, 0, header, 0, 0, header, entry, len(headers), 0, 0, 0)
    return ident + struct.pack(layout, *fields) + b"".join(headers) + notes


def _header(bits: int, mark: str, kind: int, flags: int, offset: int, start: int, size: int, held: int = 0) -> bytes:
    if bits == 64:
        return struct.pack(mark + "IIQQQQQQ", kind, flags, offset, start, 0, held, size, 4)
    return struct.pack(mark + "IIIIIIII", kind, offset, start, 0, held, size, flags, 4)
