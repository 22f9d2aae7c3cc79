"""From the kernel's bytes to runs of pages. Pure: it never touches the system.

native/decode.c does the same where it was built, and gives up on whatever is malformed: that is told here alone.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable
from itertools import groupby
from typing import Literal

from vmatlas import compiled
from vmatlas.capture import Capture
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model.pages import PageRuns, PageState, RunColumns
from vmatlas_linux_pagemap.layout import (
    HEAD_SIZE,
    PIECE_SIZE,
    REGION_SIZE,
    SCAN_SIZE,
    UPPER_BITS,
    pair,
    scan_record,
)
from vmatlas_linux_pagemap.question import (
    Masks,
    state_of_categories,
    state_of_entry,
    states_of_categories,
    states_of_entries,
    told_by_bits,
    told_by_masks,
)

NATIVE = compiled.load("vmatlas_linux_pagemap._native")
"""The compiled twin; None where this module serves alone."""

SCANNED = "pages-scan"
"""The stream: each `struct pm_scan_arg` as the kernel left it, with the number of answers in the place of the pointer
`vec`, and behind it the answers, 24 bytes each."""

ENTRIES = "pages-entries"
"""The stream: the size of a page and the bits that the kernel tells; then for pages side by side whose entries are not
0 the address and the count, and behind it the upper 16 bits of each entry."""

_LARGEST_PAGE = 1 << 20
_KNOWN_BITS = sum(UPPER_BITS.values())

ByteOrder = Literal["little", "big"]


def decode_scan(capture: Capture) -> PageRuns:
    """The stream `SCANNED`. Raises MalformedData."""
    data, order = capture.stream(SCANNED), capture.system.byte_order
    record = scan_record(order)
    if NATIVE is not None and order == sys.byteorder and len(data) >= SCAN_SIZE:
        told = told_by_masks(Masks(*record.unpack_from(data)[10:]))
        found = NATIVE.decode_scan(data, states_of_categories(told))
        if found is not None:
            return PageRuns(RunColumns(*found), capture.origin, told, incomplete=capture.incomplete)
    masks: Masks | None = None
    answers: list[memoryview] = []
    view, at = memoryview(data), 0
    while at < len(data):
        if len(data) - at < SCAN_SIZE:
            raise MalformedData(SCANNED, at, f"a record of {SCAN_SIZE} bytes", found=data[at:], pid=capture.pid)
        fields = record.unpack_from(data, at)
        size, count, asked = fields[0], fields[5], Masks(fields[10], fields[11])
        if size != SCAN_SIZE or masks not in (None, asked):
            expected = f"a record of {SCAN_SIZE} bytes with the masks of the first"
            raise MalformedData(SCANNED, at, expected, found=data[at : at + SCAN_SIZE], pid=capture.pid)
        masks = asked
        at += SCAN_SIZE
        if count > (len(data) - at) // REGION_SIZE:
            raise MalformedData(SCANNED, at, f"{count:,} answers of {REGION_SIZE} bytes", pid=capture.pid)
        answers.append(view[at : at + count * REGION_SIZE])
        at += count * REGION_SIZE
    told = told_by_masks(masks) if masks else ~PageState.EXCLUSIVE  # none: a process of the kernel's own
    numbers = array("Q", b"".join(answers))
    if order != sys.byteorder:
        numbers.byteswap()
    starts, ends = numbers[0::3], numbers[1::3]
    columns = _columns(starts, ends, numbers[2::3], lambda categories: state_of_categories(categories, told))
    return _runs(columns, capture, told, SCANNED)


def decode_entries(capture: Capture) -> PageRuns:
    """The stream `ENTRIES`. Raises MalformedData."""
    data, order = capture.stream(ENTRIES), capture.system.byte_order
    two = pair(order)
    if not data:  # a process of the kernel's own
        return _runs(RunColumns(), capture, told_by_bits(_KNOWN_BITS), ENTRIES)
    if len(data) < HEAD_SIZE:
        raise MalformedData(ENTRIES, 0, f"{HEAD_SIZE} bytes that tell the size of a page", found=data, pid=capture.pid)
    page, bits = two.unpack_from(data)
    if not 0 < page <= _LARGEST_PAGE or page & (page - 1) or bits & ~_KNOWN_BITS:
        expected = "the size of a page, and bits that are known"
        raise MalformedData(ENTRIES, 0, expected, found=data[:HEAD_SIZE], pid=capture.pid)
    told = told_by_bits(bits)
    if NATIVE is not None and order == sys.byteorder:
        found = NATIVE.decode_entries(data, states_of_entries(told))
        if found is not None:
            return PageRuns(RunColumns(*found), capture.origin, told, incomplete=capture.incomplete)
    starts, ends, entries = array("Q"), array("Q"), array("Q")
    at = HEAD_SIZE
    while at < len(data):
        if len(data) - at < PIECE_SIZE:
            raise MalformedData(ENTRIES, at, "an address and a count", found=data[at:], pid=capture.pid)
        address, count = two.unpack_from(data, at)
        at += PIECE_SIZE
        if count > (len(data) - at) // 2 or address + count * page > 2**64 - 1:
            raise MalformedData(ENTRIES, at, f"{count:,} entries of 2 bytes, of addresses of 64 bits", pid=capture.pid)
        halves = array("H", data[at : at + count * 2])
        if order != sys.byteorder:
            halves.byteswap()
        at += count * 2
        for entry, alike in groupby(halves):
            size = page * sum(1 for _ in alike)
            starts.append(address)
            ends.append(address := address + size)
            entries.append(entry)
    columns = _columns(starts, ends, entries, lambda entry: state_of_entry(entry, told))
    return _runs(columns, capture, told, ENTRIES)


def _columns(
    starts: array[int], ends: array[int], facts: array[int], meaning: Callable[[int], PageState]
) -> RunColumns:
    """What each distinct fact means is worked out once."""
    listed = facts.tolist()
    states = {fact: meaning(fact).value for fact in set(listed)}
    if len(states) == 1:
        return RunColumns(starts, ends, array("I", states.values()) * len(facts))
    return RunColumns(starts, ends, array("I", list(map(states.__getitem__, listed))))


def _runs(columns: RunColumns, capture: Capture, told: PageState, stream: str) -> PageRuns:
    if (row := columns.first_disorder()) is not None:
        found = f"{columns.start[row]:#x}-{columns.end[row]:#x}".encode()
        raise Disordered(stream, 0, "pages in order, none twice", found=found, pid=capture.pid)
    return PageRuns(columns.telling(told), capture.origin, told, incomplete=capture.incomplete)
