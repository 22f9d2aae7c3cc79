"""The map of what a JIT made, as perf reads it: /tmp/perf-PID.map, a line "START SIZE NAME" each, hexadecimal. Pure.

By tools/perf/Documentation/jit-interface.txt of Linux. A JIT that makes code anew where other code lay writes one more
line, so of those at one address the last counts.
"""

from __future__ import annotations

import re

from vmatlas.symbols.table import SymbolTable

LARGEST = 1 << 28
"""Bytes of such a file that are read."""

_LINE = re.compile(rb"^(?:0x)?([0-9a-f]{1,16}) (?:0x)?([0-9a-f]{1,16}) ([^\n]+)$", re.MULTILINE)


def parse_jit_map(text: bytes) -> SymbolTable | None:
    """None for what has no such line. Addresses are those of the process."""
    rows = {int(found[1], 16): (int(found[2], 16), found.start(3)) for found in _LINE.finditer(text)}
    if not rows:
        return None
    order = sorted(rows)
    names = text.replace(b"\n", b"\0") + b"\0"
    ends, places = [start + rows[start][0] for start in order], [rows[start][1] for start in order]
    return SymbolTable(order, ends, places, names, "perf map")
