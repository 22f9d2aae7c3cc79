"""Memory that a text does not list, though it is mapped: the stream `unlisted`, and how it is put into the text. Pure.

Since Linux 6.17 the text of maps is made region by region, and since 7.3 that of smaps, too. While another thread
splits, merges or replaces regions, it can lack some of them, and nothing in it tells (seen on 6.18: 24 times in
6,471,501 texts). The ioctl PROCMAP_QUERY never misses memory that is mapped all the time (36 million questions). So
whoever reads a text asks about each hole in it (see `holes`).

Memory in a hole is a torn text, or was mapped since: nobody can tell which. So the text is read again, and if that goes
on, what was found is kept beside it: for each region the record as the kernel filled it, its pointers zeroed, then its
name (vma_name_size bytes, the NUL byte included).
"""

from __future__ import annotations

from itertools import pairwise

from vmatlas.errors import Disordered, MalformedData
from vmatlas.patterns import pattern
from vmatlas.systems.linux.procmap import FIELDS, SIZE, VMA_SHARED, record
from vmatlas.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Literal

UNLISTED = "unlisted"

READINGS = 3
"""How often a text is read that shows holes where memory is, before what is in them is given beside it."""

ESCAPE = b"\\012"
"""How the text shows a newline in a name. The same four characters in a name are shown alike."""

_HEAD = pattern(rb"(?m)^([0-9a-f]{1,16})-([0-9a-f]{1,16}) ")


class Line(NamedTuple):
    """A region, and the text that tells of it."""

    start: int
    end: int
    text: bytes
    name: bytes
    """Nothing escaped; empty in what `_lines_in` gives."""
    has_file: bool


def lines_of(stream: bytes, byte_order: Literal["little", "big"]) -> list[Line]:
    """The regions of a stream `unlisted`, each with the line that the text of a 64-bit kernel has for such a one.

    Raises MalformedData.
    """
    shape = record(byte_order)
    names = [name for name, _, _ in FIELDS]
    found: list[Line] = []
    position = 0
    while position < len(stream):
        stop = position + SIZE
        fields = dict(zip(names, shape.unpack_from(stream, position), strict=True)) if stop <= len(stream) else {}
        size = fields.get("vma_name_size", 0)
        name = stream[stop : stop + size]
        if fields.get("size") != SIZE or len(name) != size or (name and name.find(b"\0") != size - 1):
            raise MalformedData(
                UNLISTED, position, f"a record of {SIZE} bytes and its name", found=stream[position : position + 40]
            )
        rights = "".join(letter if fields["vma_flags"] >> bit & 1 else "-" for bit, letter in enumerate("rwx"))
        sharing = "s" if fields["vma_flags"] & VMA_SHARED else "p"
        start, end = fields["vma_start"], fields["vma_end"]
        head = (
            f"{start:08x}-{end:08x} {rights}{sharing} {fields['vma_offset']:08x}"
            f" {fields['dev_major']:02x}:{fields['dev_minor']:02x} {fields['inode']} "
        ).encode()
        escaped = name[:-1].replace(b"\n", ESCAPE)
        text = (head.ljust(73) + escaped if escaped else head) + b"\n"
        has_file = any(fields[field] for field in ("dev_major", "dev_minor", "inode"))
        found.append(Line(start, end, text, name[:-1], has_file))
        position = stop + size
    return found


def fill(text: bytes, stream: bytes, byte_order: Literal["little", "big"]) -> bytes:
    """The text with a line for each region of the stream, in the place of those that it covers.

    A region that was told twice is one. Raises MalformedData, and Disordered where they do not fit together: then the
    map changed in a way that neither tells.
    """
    lines = _lines_in(text)
    if not _HEAD.match(text) or any(before.end > after.start for before, after in pairwise(lines)):
        return text  # who decodes it says what is wrong
    merged: list[Line] = []
    at = 0
    for line in sorted(set(lines_of(stream, byte_order))):
        while at < len(lines) and lines[at].end <= line.start:
            merged.append(lines[at])
            at += 1
        fits = line.start < line.end and (not merged or merged[-1].end <= line.start)
        while at < len(lines) and lines[at].start < line.end:
            fits = fits and line.start <= lines[at].start and lines[at].end <= line.end
            at += 1
        if not fits:
            raise Disordered(UNLISTED, 0, "regions that fit into the holes of the text", found=line.text[:40])
        merged.append(line)
    return b"".join(line.text for line in (*merged, *lines[at:]))


def _lines_in(text: bytes) -> list[Line]:
    """Each region of a text with all that is told of it."""
    heads = list(_HEAD.finditer(text))
    stops = [*(head.start() for head in heads[1:]), len(text)]
    return [
        Line(int(head[1], 16), int(head[2], 16), text[head.start() : stop], b"", False)
        for head, stop in zip(heads, stops, strict=False)
    ]


def without(stream: bytes, name: bytes, byte_order: Literal["little", "big"]) -> bytes:
    """The stream without regions of that name."""
    if name not in stream:
        return stream
    kept, position = [], 0
    for line in lines_of(stream, byte_order):
        size = SIZE + len(line.name) + bool(line.name)
        if line.name != name:
            kept.append(stream[position : position + size])
        position += size
    return b"".join(kept)


def untold(name: str, stream: bytes, byte_order: Literal["little", "big"]) -> str | None:
    """Why a reading may lack something that has such a stream; None where it lacks nothing. `name`: of the text."""
    lines = lines_of(stream, byte_order)
    if name == "smaps":
        return f"the memory in use of {len(lines)} region(s) is not told: they changed while the text was read"
    unnamed = sum(line.has_file and not line.name for line in lines)
    return f"{unnamed} region(s) lack their name: the kernel tells none so long" if unnamed else None
