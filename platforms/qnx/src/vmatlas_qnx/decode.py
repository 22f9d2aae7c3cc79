"""Arrays of `procfs_mapinfo` to an address space. Pure: it never touches the system.

The stream `mapinfo` or `pagedata` holds the entries as the kernel wrote them. The kernel splits a mapping wherever its
residency changes; a region here is what such neighbours are together, and `entries()` gives the kernel's own.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from vmatlas import compiled
from vmatlas.capture import Capture, check_count
from vmatlas.errors import Disordered, MalformedData, NoSuchProcess
from vmatlas.model import UNKNOWN, AddressSpace, Columns, Kind, Label, Protection
from vmatlas.model.facts import Meaning, Packer, Rows, columns_of_rows
from vmatlas_qnx import names
from vmatlas_qnx.flags import RESIDENCY, MapFlags, Sharing
from vmatlas_qnx.layout import ENTRY, Entry, ProcessInfo, read_entries, read_info

MAPINFO = "mapinfo"
PAGEDATA = "pagedata"
PROCESS = "procinfo"

NATIVE = compiled.load("vmatlas_qnx._native")
"""The compiled twin (native/decode.c), for entries in this machine's byte order; None where Python serves alone."""

OBJECT_NONE, OBJECT_PLAIN, OBJECT_SHARED, OBJECT_ELF = 0, 2, 3, 4
"""What `dev` was seen to be on 6.4.1: a guard; anonymous, physical or plain file; shared memory or a file of the boot
image; a program or library."""


_PAGE_BITS = int(RESIDENCY)  # a number: the complement of a flag would lose the bits without a name


def decode(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    stream = PAGEDATA if PAGEDATA in capture.streams else MAPINFO
    data = capture.stream(stream)
    if not data:
        _judge_empty(capture)
        return AddressSpace(Columns(), capture.origin)
    check_count(stream, len(data) // ENTRY, what="entries", pid=capture.pid)
    order = capture.system.byte_order
    told = stream == PAGEDATA
    if NATIVE is not None and order == sys.byteorder and (space := _decode_by_twin(capture, data, told)) is not None:
        return space
    entries = checked_entries(capture, stream, data)
    answers = names.unpack(capture.streams.get(names.STREAM, b""), order)
    # A name may be an earlier round's, of what lay there before memory that is asked for none.
    named = [entry.vaddr for entry in entries if entry.vaddr in answers and names.has_name(entry)]
    paths = {address: answers[address] for address in named}
    runs = _merge(entries, paths)
    regions = [_region(run, paths, told) for run in runs]
    _find_heap(regions)
    own = [
        _Row(entry, entry.vaddr, entry.vaddr + entry.size, entry.flags, row.kind, row.path, _resident(entry, told))
        for run, row in zip(runs, regions, strict=True)
        for entry in run
    ]
    return AddressSpace(_columns(regions), capture.origin, entries=_columns(own))


_FACT = struct.Struct("=IIII")
"""A fact of the compiled twin: dev, number of the name, traits, flags (native/decode.h)."""
_IS_HEAP = 1
_MARK, _RESIDENT, _DEV, _INO, _PADDR = range(5)
"""The numbers of the compiled twin."""


def _decode_by_twin(capture: Capture, data: bytes, told: bool) -> AddressSpace | None:
    """None where the twin leaves it to Python, as all that is wrong."""
    try:
        paths = names.unpack(capture.streams.get(names.STREAM, b""), capture.system.byte_order)
    except MalformedData:
        return None  # told after what may be wrong with the entries
    numbers: dict[str | None, int] = {None: 0}
    named = array("Q")
    for address in sorted(paths):
        named.extend((address, numbers.setdefault(paths[address], len(numbers))))
    found = NATIVE.decode(data, named, _limit(capture), told)
    if found is None:
        return None
    regions, entries = (_columns_of_rows(rows, list(numbers), told) for rows in found)
    return AddressSpace(regions, capture.origin, entries=entries)


def _columns_of_rows(rows: Rows, paths: Sequence[str | None], told: bool) -> Columns:
    packer = Packer()
    packed = [packer.pack(_meaning(fact, paths)) for fact, _ in rows.facts()]
    made = columns_of_rows(rows, b"".join(packed), packer.labels)
    made.flags = rows.pick(_MARK, [MapFlags(int.from_bytes(mark, sys.byteorder)) for mark in rows.marks()])
    if told:
        made.resident = rows.number(_RESIDENT)
    made.details = {"dev": rows.number(_DEV), "ino": rows.number(_INO)}
    addresses = rows.number(_PADDR)
    if addresses.count(UNKNOWN) < len(addresses):
        made.details["paddr"] = addresses
    return made


def _meaning(fact: bytes, paths: Sequence[str | None]) -> Meaning:
    dev, name, traits, flags = _FACT.unpack(fact)
    path = paths[name]
    kind = Kind.HEAP if traits & _IS_HEAP else kind_of(Entry(0, 0, flags, dev, 0, 0, 0), path)
    return Meaning(
        device=UNKNOWN,
        inode=UNKNOWN,
        hidden=0 if _tells_offset(kind, flags, dev) else UNKNOWN,
        label=Label(path),
        protection=flags >> 8 & 7,
        shared=flags & 3 == Sharing.SHARED,
        kind=kind,
    )


def _judge_empty(capture: Capture) -> None:
    """No entries: the kernel's own process, or one whose memory is gone. Raises NoSuchProcess."""
    judge_ended(read_info(capture.streams.get(PROCESS, b""), capture.system.byte_order), capture.pid)


def judge_ended(info: ProcessInfo | None, pid: int) -> None:
    """Of a process without an entry. Raises NoSuchProcess for a zombie."""
    if info is not None and info.is_zombie:
        raise NoSuchProcess(f"process {pid} has ended; it is a zombie without memory", pid=pid)


def _limit(capture: Capture) -> int:
    """Where memory ends at the latest."""
    return min(1 << capture.system.pointer_width, UNKNOWN - 1)


def checked_entries(capture: Capture, stream: str, data: bytes, *, begin: int = 0) -> list[Entry]:
    """The entries that some bytes are, which begin at `begin` of the stream.

    Raises MalformedData for a part of an entry and for one beyond the end of memory, Disordered for one that is empty
    or out of order.
    """
    if len(data) % ENTRY:
        at = len(data) // ENTRY * ENTRY
        raise MalformedData(stream, begin + at, f"a whole entry of {ENTRY} bytes", found=data[at:], pid=capture.pid)
    entries = read_entries(data, capture.system.byte_order)
    limit = _limit(capture)
    end = 0
    for row, entry in enumerate(entries):
        at = row * ENTRY
        if entry.vaddr + entry.size > limit:
            expected = f"an entry that ends at or below {limit:#x}"
            raise MalformedData(stream, begin + at, expected, found=data[at : at + 16], pid=capture.pid)
        if not entry.size or entry.vaddr < end:
            expected = "an entry after the one before it, and not empty"
            raise Disordered(stream, begin + at, expected, found=data[at : at + 16], pid=capture.pid)
        end = entry.vaddr + entry.size
    return entries


def _merge(entries: Sequence[Entry], paths: Mapping[int, str]) -> list[list[Entry]]:
    """Neighbours that differ in nothing but residency, together."""
    runs = [[entries[0]]]
    for before, entry in pairwise(entries):
        if _differs_in_residency_alone(before, entry) and paths.get(before.vaddr) == paths.get(entry.vaddr):
            runs[-1].append(entry)
        else:
            runs.append([entry])
    return runs


def _differs_in_residency_alone(one: Entry, other: Entry) -> bool:
    flags = MapFlags(one.flags)
    if one.vaddr + one.size != other.vaddr or (one.flags ^ other.flags) & ~_PAGE_BITS or one.dev != other.dev:
        return False
    if flags.is_anonymous and one.dev != OBJECT_SHARED:
        # Of a stack the part that was never touched has ino 0, the other 1.
        return one.ino == other.ino or (flags.of_stack and {one.ino, other.ino} == {0, 1})
    if flags & (MapFlags.PHYS | MapFlags.ELF):
        return False  # never split by residency, and nothing shows that two of them belong together
    return one.ino == other.ino and other.offset == one.offset + one.size


@dataclass(slots=True)
class _Row:
    """A region, or an entry of the kernel's own, on its way into columns."""

    first: Entry
    start: int
    end: int
    flags: int
    kind: Kind
    path: str | None
    resident: int


def _resident(entry: Entry, told: bool) -> int:
    """Bytes; UNKNOWN where it was not asked: MAPINFO has the bits cleared."""
    if not told:
        return UNKNOWN
    return entry.size if entry.flags & MapFlags.PG_HWMAPPED else 0


def _region(run: Sequence[Entry], paths: Mapping[int, str], told: bool) -> _Row:
    first, last = run[0], run[-1]
    path = paths.get(first.vaddr)
    return _Row(
        first._replace(ino=last.ino),  # of a stack: 1 once some of it was touched
        first.vaddr,
        last.vaddr + last.size,
        first.flags & ~_PAGE_BITS,
        kind_of(first, path),
        path,
        sum(_resident(entry, told) for entry in run) if told else UNKNOWN,
    )


def kind_of(entry: Entry, path: str | None) -> Kind:
    """Told from what mappings were seen to become; the heap is found among its neighbours (`_find_heap`)."""
    flags = MapFlags(entry.flags)
    if flags & MapFlags.ELF or entry.dev == OBJECT_ELF:
        return Kind.FILE  # with ANON for its data; with PHYS for code that is run in place, in the boot image
    if (flags.is_anonymous and entry.dev != OBJECT_SHARED) or entry.dev == OBJECT_NONE:
        if flags.protection == Protection.NONE:
            return Kind.GUARD
        return Kind.STACK if flags.of_stack else Kind.ANONYMOUS
    if flags & MapFlags.PHYS:
        return Kind.PHYSICAL
    if entry.dev == OBJECT_SHARED:
        if flags & MapFlags.SYSRAM or (path or "").startswith("/dev/shmem/"):
            return Kind.SHARED_MEMORY
        return Kind.OTHER if path is None else Kind.FILE  # a file of the boot image, or device memory under a name
    return Kind.FILE if entry.dev == OBJECT_PLAIN else Kind.OTHER


def _find_heap(regions: Sequence[_Row]) -> None:
    """The kernel knows no heap: malloc maps anonymous memory wherever there is room. The first of it was always seen
    just above the program's own data, without MAP_FIXED, which the loader uses for what belongs to the program."""
    end = None
    for row in regions:
        flags = MapFlags(row.flags)
        if row.kind is Kind.FILE and flags & MapFlags.ELF and (end is None or row.start == end):
            end = row.end
        elif end is not None and row.start == end and row.kind is Kind.ANONYMOUS:
            if not flags & MapFlags.FIXED:
                if flags.protection == Protection.READ | Protection.WRITE:
                    row.kind = Kind.HEAP
                return
            end = row.end
        elif end is not None:
            return


def _offset(row: _Row) -> int:
    """In bytes, or UNKNOWN."""
    if not _tells_offset(row.kind, row.flags, row.first.dev):
        return UNKNOWN
    return row.first.offset if row.first.offset < 1 << 63 else UNKNOWN


def _tells_offset(kind: Kind, flags: int, dev: int) -> bool:
    """Not where there is no file, nor where the kernel's number is none to trust: of a program's or library's data, of
    files in the boot image (it is the place in the image), of physical memory (it is always 0)."""
    if kind in (Kind.PHYSICAL, Kind.GUARD, Kind.STACK, Kind.ANONYMOUS, Kind.HEAP) or not flags & MapFlags.SYSRAM:
        return False
    return not (dev == OBJECT_ELF and flags & MapFlags.PROT_WRITE)


def _columns(rows: Sequence[_Row]) -> Columns:
    labels: dict[str | None, int] = {None: 0}
    flags: dict[int, MapFlags] = {}
    made = Columns()
    for row in rows:
        made.start.append(row.start)
        made.end.append(row.end)
        made.offset.append(_offset(row))
        made.protection.append(row.flags >> 8 & 7)
        made.shared.append(row.flags & 3 == Sharing.SHARED)
        made.kind.append(row.kind)
        made.label.append(labels.setdefault(row.path, len(labels)))
        if row.flags not in flags:
            flags[row.flags] = MapFlags(row.flags)
    made.labels = [Label(path) for path in labels]
    made.device = array("Q", [UNKNOWN]) * len(rows)
    made.inode = array("Q", [UNKNOWN]) * len(rows)
    made.flags = [flags[row.flags] for row in rows]
    if any(row.resident != UNKNOWN for row in rows):
        made.resident = array("Q", (row.resident for row in rows))
    made.details = {"dev": _numbers(row.first.dev for row in rows), "ino": _numbers(row.first.ino for row in rows)}
    if any(row.first.paddr for row in rows):
        made.details["paddr"] = _numbers(row.first.paddr or UNKNOWN for row in rows)
    return made


def _numbers(values: Iterable[int]) -> array[int]:
    return array("Q", values)
