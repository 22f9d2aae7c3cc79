"""Which pages of the process that asked are in memory, out of what mincore(2) told of each. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData
from vmatlas.model.pages import PageRuns, PageState, RunColumns
from vmatlas.patterns import pattern
from vmatlas_freebsd.layout import MINCORE_INCORE, MINCORE_SUPER, ByteOrder

MINCORE = "pages-mincore"
"""The stream: the size of a page; then for pages side by side the address and the count (8 bytes each, as the size, in
the byte order of the machine), and behind it the byte that the kernel told of each. What was asked about and is in no
piece was untouched, every page of it."""

_SIZE = {"little": struct.Struct("<Q"), "big": struct.Struct(">Q")}
_PIECE = {"little": struct.Struct("<QQ"), "big": struct.Struct(">QQ")}
_LARGEST_PAGE = 1 << 20


class Piece(NamedTuple):
    """What the kernel told of pages side by side."""

    address: int
    told: bytes
    """A byte a page."""


def pack(page: int, pieces: list[Piece], byte_order: ByteOrder) -> bytes:
    """The stream `MINCORE`: `page` bytes a page. Pieces of which every byte is 0 are left out."""
    stream = [_SIZE[byte_order].pack(page)]
    for address, told in pieces:
        if any(told):
            stream += (_PIECE[byte_order].pack(address, len(told)), told)
    return b"".join(stream)


def _state(told: int) -> int:
    """The value of the `PageState` that a byte means.

    MINCORE_REFERENCED and MINCORE_MODIFIED are the processor's bits, which the kernel clears for itself while it looks
    for pages to write out: no state is what they say.
    """
    if not told & MINCORE_INCORE:
        return PageState.NONE.value
    return (PageState.PRESENT | PageState.HUGE if told & MINCORE_SUPER else PageState.PRESENT).value


_STATES = bytes(map(_state, range(256)))
_RUN = pattern(rb"(?s)([^\0])\1*")


def decode_mincore(capture: Capture, told: PageState) -> PageRuns:
    """The stream `MINCORE`, which tells so much. Raises MalformedData."""
    data, order = capture.stream(MINCORE), capture.system.byte_order
    size, piece = _SIZE[order], _PIECE[order]
    page = size.unpack_from(data)[0] if len(data) >= size.size else 0
    if not 0 < page <= _LARGEST_PAGE or page & (page - 1):
        raise MalformedData(MINCORE, 0, "the size of a page", found=data[:8], pid=capture.pid)
    columns = RunColumns()
    at, lowest = size.size, 0
    while at < len(data):
        if len(data) - at < piece.size:
            raise MalformedData(MINCORE, at, "an address and a count", found=data[at:], pid=capture.pid)
        address, count = piece.unpack_from(data, at)
        behind = at + piece.size
        if not 0 < count <= len(data) - behind or address + count * page > 2**64 - 1:
            expected = "a count of pages, a byte for each, of addresses of 64 bits"
            raise MalformedData(MINCORE, at, expected, found=data[at:behind], pid=capture.pid)
        if address % page or address < lowest:
            expected = "the address of a page, behind all before it"
            raise MalformedData(MINCORE, at, expected, found=data[at:behind], pid=capture.pid)
        for run in _RUN.finditer(data[behind : behind + count].translate(_STATES)):
            first, last = run.span()
            columns.start.append(address + first * page)
            columns.end.append(address + last * page)
            columns.state.append(run[0][0])
        lowest, at = address + count * page, behind + count
    return PageRuns(columns.joined(), capture.origin, told, incomplete=capture.incomplete)
