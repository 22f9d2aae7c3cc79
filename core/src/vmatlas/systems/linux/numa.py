"""/proc/PID/numa_maps to values: where the pages of each region lie. Pure.

A line is the region's start, its policy, and words: `N0=12` pages on node 0, `kernelpagesize_kB=4`, `anon=`, `dirty=`,
`mapped=`, `file=`, `heap`, `stack`, `huge` (proc(5), fs/proc/task_mmu.c: `show_numa_map`). A policy may hold a blank
("prefer (many):0", "weighted interleave:0-1"). The path has blanks, tabs, newlines and `=` as octal. A huge page of
hugetlb counts one, in its own size. Needs CONFIG_NUMA.
"""

from __future__ import annotations

import re

from vmatlas.errors import MalformedData
from vmatlas.model.numa import NumaUse
from vmatlas.systems.linux.proc import lines_of

NUMA_MAPS = "numa_maps"

_WORD = re.compile(rb" (?=[A-Za-z]\w*=|heap\b|stack\b|huge\b)")
_START = re.compile(rb"[0-9a-f]{1,16}")
_NODE = re.compile(rb"N(\d{1,6})")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_MOST_LINES = 1 << 20


def parse_numa(text: bytes, *, pid: int | None = None) -> tuple[NumaUse, ...]:
    """One for each line. Raises MalformedData."""
    found: list[NumaUse] = []
    offset = 0
    for line in lines_of(text) if text else ():
        found.append(_line(line, offset, pid))
        offset += len(line) + 1
        if len(found) > _MOST_LINES:
            raise MalformedData(NUMA_MAPS, offset, f"at most {_MOST_LINES:,} lines", pid=pid)
    return tuple(found)


def _line(line: bytes, offset: int, pid: int | None) -> NumaUse:
    start, _, rest = line.partition(b" ")
    policy, *words = _WORD.split(rest)
    if not _START.fullmatch(start) or not policy:
        raise MalformedData(NUMA_MAPS, offset, "an address and a policy", found=line[:80], pid=pid)
    pages: dict[int, int] = {}
    details: dict[str, int | str] = {}
    for word in words:
        key, equals, value = word.partition(b"=")
        if (node := _NODE.fullmatch(key)) and value.isdigit() and len(value) <= 15:
            pages[int(node[1])] = int(value)
        elif value.isdigit() and len(value) <= 15:
            details[key.decode()] = int(value)
        else:
            details[key.decode("ascii", "replace")] = _text(value) if equals else ""
    size = details.pop("kernelpagesize_kB", None)
    if pages and not isinstance(size, int):
        raise MalformedData(NUMA_MAPS, offset, "kernelpagesize_kB beside the pages of a node", found=line[:80], pid=pid)
    page = size * 1024 if isinstance(size, int) else None
    nodes = {node: count * (page or 0) for node, count in sorted(pages.items())}
    return NumaUse(int(start, 16), policy.decode("ascii", "replace"), nodes, page, details)


def _text(value: bytes) -> str:
    plain = _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 0xFF]), value)
    return plain.decode("utf-8", "surrogateescape")
