"""What this plugin gives to agents: native/acquire.c, and how an agent is asked about pages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.capture import LARGEST
from vmatlas.errors import Unsupported
from vmatlas.model import Query
from vmatlas.model.pages import PageState
from vmatlas.systems.linux.proc import told_by
from vmatlas.systems.linux.remote import read_streams
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_linux_pagemap.acquire import too_many
from vmatlas_linux_pagemap.decode import ENTRIES, SCANNED
from vmatlas_linux_pagemap.layout import COMPILED_OUT, HEAD_SIZE, PRESENT
from vmatlas_linux_pagemap.question import Masks, below_the_top, masks_of

SCAN_SOURCE = "linux.pagemap_scan"
ENTRIES_SOURCE = "linux.pagemap"

MOST_RANGES = 2000
"""So many ranges one request has at the most (core/agent/PROTOCOL.md: 4,000 addresses)."""


def probe_scan(process: RemoteProcess) -> Availability:
    """Whether the kernel there knows the ioctl: a question about a page of the agent's own where nothing is."""
    try:
        process.streams(SCAN_SOURCE, flags=_flags(Masks(PRESENT, PRESENT)), ranges=())
    except AgentRefused as refused:
        if refused.errno_name == "ENOTTY":
            return Availability(False, "the kernel is older than 6.7: no PAGEMAP_SCAN ioctl (ENOTTY)")
        if refused.errno_name == "ENOENT" and refused.by_kernel:
            return Availability(False, COMPILED_OUT)
        return Availability(False, refused.message)
    return YES


def probe_entries(process: RemoteProcess) -> Availability:
    """Whether /proc there has the file."""
    try:
        process.streams(ENTRIES_SOURCE, ranges=())
    except AgentRefused as refused:
        if refused.errno_name == "ENOENT" and refused.by_kernel:
            return Availability(False, COMPILED_OUT)
        return Availability(False, refused.message)
    return YES


def _flags(masks: Masks) -> int:
    return masks.anyof | masks.told << 32


def ask_scan(process: RemoteProcess, query: Query) -> Reading:
    """The answers of PAGEMAP_SCAN, asked on the machine itself."""
    flags = _flags(masks_of(query.pages or PageState.NONE))
    return Reading({SCANNED: b"".join(_answers(process, query, SCAN_SOURCE, SCANNED, flags))})


def ask_entries(process: RemoteProcess, query: Query) -> Reading:
    """The entries of pagemap, read on the machine itself."""
    first, *others = _answers(process, query, ENTRIES_SOURCE, ENTRIES, 0)
    return Reading({ENTRIES: first + b"".join(each[HEAD_SIZE:] for each in others)})


def _answers(process: RemoteProcess, query: Query, source: str, stream: str, flags: int) -> Iterator[bytes]:
    """One for as many ranges as a request may have."""
    if process.emulator is not None:
        raise Unsupported(told_by(process.emulator), pid=process.pid)
    ranges = below_the_top(query.ranges, process.system.machine, process.system.page_size)
    size = 0
    for first in range(0, len(ranges) or 1, MOST_RANGES):
        part = ranges[first : first + MOST_RANGES]
        answer = read_streams(process, source, stream, empty_means_gone=False, flags=flags, ranges=part)
        size += len(answer.get(stream, b""))
        if size > LARGEST:
            raise too_many(process.pid)
        yield answer.get(stream, b"")


_FILES = tuple(Path(__file__).parents[2] / "native" / file for file in ("acquire.c", "scan.c", "entries.c"))

SCAN_SOURCES = AgentSources(
    system="linux",
    files=_FILES,
    table="vmatlas_linux_pagemap_sources",
    names=(SCAN_SOURCE,),
    probe=probe_scan,
    ask=ask_scan,
)
ENTRIES_SOURCES = AgentSources(
    system="linux",
    files=_FILES,
    table="vmatlas_linux_pagemap_sources",
    names=(ENTRIES_SOURCE,),
    probe=probe_entries,
    ask=ask_entries,
)
