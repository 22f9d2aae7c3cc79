"""Which pages of a process are in memory, out of the entries of PAGEDATA. Pure.

The entries are split wherever PG_HWMAPPED changes, so they are runs of pages already. PG_MODIFIED and PG_REFERENCED
tell nothing beside it: on 6.4.1 the three came together or not at all. A guard is an entry of its own in every map.
"""

from __future__ import annotations

import sys
from array import array
from itertools import chain, islice, pairwise

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData
from vmatlas.model import Kind
from vmatlas.model.pages import PageRuns, PageState, RunColumns
from vmatlas_qnx.decode import checked_entries, kind_of
from vmatlas_qnx.flags import MapFlags
from vmatlas_qnx.layout import ByteOrder, Entry

PAGES = "pages-pagedata"
"""The stream: how many ranges were asked about, the start and the end of each (u64 all), and behind them the entries
of the whole process as the kernel wrote them, in its byte order."""

_WORD = 8


def pack(entries: bytes, ranges: tuple[tuple[int, int], ...], byte_order: ByteOrder) -> bytes:
    """The stream `PAGES` of what the kernel told. No process has the last byte of 64 bits: it is not asked about."""
    below = [(start, min(end, 2**64 - 1)) for start, end in ranges if start < 2**64 - 1]
    return _numbers([len(below), *chain.from_iterable(below)], byte_order).tobytes() + entries


def decode_pages(capture: Capture, told: PageState) -> PageRuns:
    """The stream `PAGES`, which tells so much. Pure. Raises MalformedData."""
    data, order = capture.stream(PAGES), capture.system.byte_order
    count = int.from_bytes(data[:_WORD], order)
    begin = _WORD + 2 * _WORD * count
    if len(data) < max(_WORD, begin):
        raise MalformedData(PAGES, 0, "as many ranges as it says, 16 bytes each", found=data[:24], pid=capture.pid)
    numbers = _numbers(data[_WORD:begin], order).tolist()
    ranges = list(zip(numbers[0::2], numbers[1::2], strict=True))
    if any(start >= end for start, end in ranges) or any(this[1] > after[0] for this, after in pairwise(ranges)):
        raise MalformedData(PAGES, _WORD, "ranges in order, none of them empty", found=data[:24], pid=capture.pid)
    columns = RunColumns()
    at = 0
    for entry in checked_entries(capture, PAGES, data[begin:], begin=begin):
        if not entry.flags & MapFlags.PG_HWMAPPED:
            continue
        end, state = entry.vaddr + entry.size, _state(entry).value
        while at < len(ranges) and ranges[at][1] <= entry.vaddr:
            at += 1
        for first, last in islice(ranges, at, None):
            if first >= end:
                break
            columns.start.append(max(first, entry.vaddr))
            columns.end.append(min(last, end))
            columns.state.append(state)
    return PageRuns(columns.joined(), capture.origin, told, incomplete=capture.incomplete)


def _state(entry: Entry) -> PageState:
    """Of pages that are in memory. Device memory, and what may be such, is of neither sort."""
    kind = kind_of(entry, None)
    if kind in (Kind.ANONYMOUS, Kind.STACK, Kind.GUARD) or (kind is Kind.FILE and MapFlags(entry.flags).is_anonymous):
        return PageState.PRESENT | PageState.ANONYMOUS  # the second: data of a program, which is its own copy
    return PageState.PRESENT | PageState.FILE if kind in (Kind.FILE, Kind.SHARED_MEMORY) else PageState.PRESENT


def _numbers(of: bytes | list[int], byte_order: ByteOrder) -> array[int]:
    made = array("Q", of)
    if byte_order != sys.byteorder:
        made.byteswap()
    return made
