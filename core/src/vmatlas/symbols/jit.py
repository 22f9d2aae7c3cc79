"""The map of what a JIT made, as perf reads it: /tmp/perf-PID.map, a line "START SIZE NAME" each, hexadecimal. Pure but
for the bytes that are asked for.

By tools/perf/Documentation/jit-interface.txt of Linux. A JIT that makes code anew where other code lay writes one more
line, so of those that hold an address the last counts: the file is read from its end, and no further than to the last
address that is asked for. It is the process's to write: a line that holds none of these costs no memory.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable

from vmatlas.symbols.table import LONGEST_NAME, Read, Symbol

LARGEST = 1 << 28
"""Bytes of such a file that are read, from its end."""
MOST_LINES = 4_000_000
"""Lines of it that are looked at."""

_PIECE = 1 << 16
_LONGEST = LONGEST_NAME + 64
"""Bytes of a line; a longer one is none."""

_NUMBER = rb"(?:0x)?([0-9a-f]{1,16})"
_LINE = re.compile(rb"^[ \t]*+" + _NUMBER + rb"[ \t]++" + _NUMBER + rb"[ \t]([^\n]+)$", re.MULTILINE | re.IGNORECASE)
"""As perf reads it, by strtoull: .NET writes capitals."""


def jit_names(read: Read, size: int, addresses: Iterable[int]) -> dict[int, Symbol]:
    """What lies at these addresses of the process, of those that some line holds; the file has `size` bytes.

    Raises what `read` raises.
    """
    wanted = sorted(set(addresses))
    found: dict[int, Symbol] = {}
    at, lowest, left = size, max(size - LARGEST, 0), MOST_LINES
    rest = b""  # of the line whose beginning is not read yet
    while wanted and left > 0 and at > lowest:
        begin = max(at - _PIECE, lowest)
        block = read(begin, at - begin) + rest
        at = begin
        if begin:  # the first line may have begun further up
            rest, _, block = block.partition(b"\n")
            rest = rest[: _LONGEST + 1]
        lines = _LINE.findall(block)
        left -= len(lines)
        for start_at, length, name in reversed(lines):
            start = int(start_at, 16)
            if start > wanted[-1] or (end := start + int(length, 16)) <= wanted[0] or len(name) > LONGEST_NAME:
                continue
            first, last = bisect_left(wanted, start), bisect_left(wanted, end)
            if first < last:
                called = name.partition(b"\0")[0].decode("utf-8", "surrogateescape")
                found |= {each: Symbol(called, each - start, source="perf map") for each in wanted[first:last]}
                del wanted[first:last]
                if not wanted:
                    break
    return found
