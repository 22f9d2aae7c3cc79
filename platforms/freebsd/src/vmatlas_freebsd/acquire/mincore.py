"""mincore(2) of this process's own memory. FreeBSD has no such question about another process."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterator
from errno import ENOMEM

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas.errors import TornRead, Unsupported
from vmatlas.model import Query
from vmatlas_freebsd.acquire.libc import read_number, read_sysctl, tell_pages
from vmatlas_freebsd.acquire.process import process_error
from vmatlas_freebsd.decode.mincore import MINCORE, Piece, pack
from vmatlas_freebsd.decode.vmmap import bounds
from vmatlas_freebsd.layout import CTL_KERN, KERN_PROC, KERN_PROC_VMMAP

ATTEMPTS = 50
"""How often what is asked about may have been unmapped meanwhile, before that is said."""

MOST_PAGES = 1 << 16
"""Pages that one call asks about: 256 MiB of memory, by 64 KiB of answers."""

MAPPED = "vm.mincore_mapped"
"""The sysctl by which mincore tells what this process has mapped (1, as it is set by default)."""

Ranges = tuple[tuple[int, int], ...]


def probe_mincore() -> Availability:
    """Whether the kernel tells which pages this process has mapped, found out by asking about one of them."""
    page = os.sysconf("SC_PAGE_SIZE")
    own = (ctypes.c_char * 1)()
    try:
        if (why := _why_not_mapped()) is not None:
            return Availability(False, why)
        tell_pages(ctypes.addressof(own) // page * page, 1, page)
    except (OSError, AttributeError) as error:
        return Availability(False, f"mincore: {getattr(error, 'strerror', None) or error}")
    return YES


def acquire_mincore(process: LocalProcess, query: Query, own_alone: str) -> Reading:
    """What mincore tells of `query.ranges`. `own_alone`: why it is told of this process alone.

    Memory that was unmapped since the map was read is left out. Raises Unsupported (of another process; where the
    kernel does not tell what is mapped), TornRead, OperationFailed.
    """
    if process.pid != os.getpid():
        raise Unsupported(own_alone, pid=process.pid)
    if (why := _why_not_mapped()) is not None:
        raise Unsupported(why, pid=process.pid)
    page = os.sysconf("SC_PAGE_SIZE")
    pieces: list[Piece] = []
    left = query.ranges
    for _ in range(ATTEMPTS):
        try:
            for piece in _told(left, page):
                pieces.append(piece)
        except OSError as error:
            if error.errno != ENOMEM:
                raise process_error(error, process.pid, "mincore") from None
        else:
            return Reading({MINCORE: pack(page, pieces, sys.byteorder)})
        begin = pieces[-1].address + len(pieces[-1].told) * page if pieces else 0
        left = tuple(_mapped(left, begin, process.pid))
    raise TornRead(f"memory of process {process.pid} went during each of {ATTEMPTS} readings", pid=process.pid)


def _why_not_mapped() -> str | None:
    mapped = read_number(MAPPED)
    if mapped is None:
        return f"this kernel has no {MAPPED}: its mincore tells what is in memory, whoever has it mapped"
    if not mapped:
        return f"{MAPPED} is 0: mincore tells what is in memory, whoever has it mapped"
    return None


def _told(ranges: Ranges, page: int) -> Iterator[Piece]:
    for start, end in ranges:
        for at in range(start, end, MOST_PAGES * page):
            yield Piece(at, tell_pages(at, min(MOST_PAGES, (end - at) // page), page))


def _mapped(ranges: Ranges, begin: int, pid: int) -> Iterator[tuple[int, int]]:
    """The parts of the ranges from `begin` on that are mapped now. Raises OperationFailed."""
    try:
        records = read_sysctl((CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, pid))
    except OSError as error:
        raise process_error(error, pid, "sysctl kern.proc.vmmap") from None
    entries = bounds(records, sys.byteorder)
    for start, end in ranges:
        for low, high in entries:
            first, last = max(start, low, begin), min(end, high)
            if first < last:
                yield first, last
