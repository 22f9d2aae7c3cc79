"""Core files of Linux processes: a capture of one, and the address space that it decodes to.

A kernel's core has a program header for each region, with its range and rights, whatever of it was dumped. The names of
files come from the note NT_FILE, the [stack] and the [vdso] from the auxiliary vector, both provable. What no core has
is told as None: what is shared, devices and inodes, the heap, names of anonymous memory.
gdb's `gcore` leaves regions out, and writes more rights than there were; qemu-user joins regions, and names none.
"""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import compress

from vmatlas.capture import Capture
from vmatlas.errors import MalformedData
from vmatlas.files.elf_core import HEADER, NOTES, SEGMENTS, Core, Segments, parse_header, regions_in
from vmatlas.model import UNKNOWN, AddressSpace, Consistency, Kind, Label, Protection, Query, SystemInfo, Thread
from vmatlas.model.columns import NO_LABEL, UNKNOWN_BYTE
from vmatlas.model.crash import Crash
from vmatlas.model.facts import Meaning, Packer, columns_of
from vmatlas.symbols.table import build_id_of_head
from vmatlas.systems.linux.naming import tell_without_sharing
from vmatlas_linux_procfs.core_notes import (
    AT_EXECFN,
    AT_PAGESZ,
    AT_RANDOM,
    AT_SYSINFO_EHDR,
    X86_64,
    Mapped,
    Told,
    crash_of,
    told_by,
)

_VSYSCALL = 0xFFFFFFFFFF600000
_USUAL_PAGE = 4096
BUILD_IDS = "build-ids"
"""The stream with the build ids of mapped files, read from the first page of each."""
_FIRST_PAGE = 4096
_MOST_FILES = 4096
_MANY_RIGHTS = 16
_NEVER = "a core file tells neither what is shared, nor devices and inodes, nor which memory is the heap"


class LinuxCores:
    """See `vmatlas.files.contract.ReadsCores`."""

    def capture_of_core(self, core: Core, *, name: str, time: float) -> Capture:
        """Raises MalformedData."""
        header = parse_header(core.header, name)
        told = told_by(header, core.notes)
        page, assumed = _page_size(told, core)
        gaps = [*_gaps(told), *assumed, *([core.incomplete] if core.incomplete else [])]
        return Capture(
            streams={HEADER: core.header, SEGMENTS: core.segments, NOTES: core.notes} | _build_ids(told.mapped, core),
            system=SystemInfo(
                system="linux",
                release="",
                version="",
                machine=told.machine,
                byte_order=header.byte_order,
                pointer_width=header.bits,
                page_size=page,
            ),
            pid=told.pid or 0,
            backend="linux-procfs",
            distribution="vmatlas-linux-procfs",
            query=Query(),
            time=time,
            pointer_width=header.bits,
            consistency=Consistency.FROZEN,
            incomplete="; ".join(gaps),
            name=told.program,
        )


CORES = LinuxCores()


def _gaps(told: Told) -> list[str]:
    """What the map lacks for who wrote it."""
    if told.by_qemu:
        gaps = ["qemu-user wrote it, which joins neighbours and names no file"]
    elif told.by_gdb:
        gaps = [
            "gdb wrote it (gcore), which leaves regions out and shows --- as r--, --x as r-x, -w- as rw-",
            *([] if told.header.bits == 64 else ["offsets of files are cut to 32 bits"]),
        ]
    else:
        gaps = [_NEVER]
    if told.mapped is None and not told.by_qemu:
        gaps.append("it has no names of files: NT_FILE is missing, as in cores of many regions")
    if told.pid is None:
        gaps.append("the process's number is not told (0 stands for it)")
    return gaps


def _page_size(told: Told, core: Core) -> tuple[int, list[str]]:
    """The page size, and what is to be said of it."""
    if (size := told.auxv.get(AT_PAGESZ, 0)) and not size & (size - 1):
        return size, []
    alignments = set(Segments(told.header, core.segments).alignment)
    likely = [size for size in alignments if size >= _USUAL_PAGE and not size & (size - 1) and size <= 1 << 20]
    return min(likely, default=_USUAL_PAGE), ["the page size is not told, and taken from how regions are aligned"]


def _build_ids(mapped: Mapped | None, core: Core) -> dict[str, bytes]:
    """The stream of build ids: of each file whose first page is mapped, and in the core, where it begins and its id."""
    found: list[bytes] = []
    seen: set[bytes] = set()
    rows = zip(mapped.starts, mapped.offsets, mapped.names, strict=False) if mapped is not None else ()
    for start, offset, name in rows:
        if offset or name in seen or len(seen) >= _MOST_FILES:
            continue
        seen.add(name)
        build_id = build_id_of_head(core.memory(start, _FIRST_PAGE))
        if build_id is not None:
            found.append(struct.pack("<QB", start, len(build_id)) + build_id)
    return {BUILD_IDS: b"".join(found)} if found else {}


def _read_build_ids(content: bytes) -> dict[int, bytes]:
    """Raises MalformedData."""
    found: dict[int, bytes] = {}
    place = 0
    while place < len(content):
        size = content[place + 8] if place + 9 <= len(content) else len(content)
        if place + 9 + size > len(content):
            raise MalformedData(BUILD_IDS, place, "a whole build id", found=content[place : place + 9])
        found[int.from_bytes(content[place : place + 8], "little")] = content[place + 9 : place + 9 + size]
        place += 9 + size
    return found


def decode_core(capture: Capture) -> AddressSpace:
    """Raises MalformedData."""
    header = parse_header(capture.stream(HEADER))
    raw = capture.stream(SEGMENTS)
    told = told_by(header, capture.stream(NOTES))
    starts, ends, rights = regions_in(header, raw)
    names, offsets = _named(told.mapped, starts, ends)
    if told.mapped is not None:
        starts, ends, rights, names, offsets = _with_unsaved(told.mapped, starts, ends, rights, names, offsets)
    facts, labels = _facts(told, starts, ends, rights, names)
    columns = columns_of(starts, ends, offsets, facts, labels)
    if told.mapped is not None and (ids := _read_build_ids(capture.streams.get(BUILD_IDS, b""))):
        columns.build_id = _ids_of_regions(told.mapped, ids, names)
    threads = [
        Thread(each.number, None, each.stack_pointer or None, None if each.stack_pointer else "untold")
        for each in told.threads
        if each.number is not None
    ]
    origin = replace(capture.origin, threads=tuple(sorted(threads)))
    return AddressSpace(columns, origin)


def _ids_of_regions(mapped: Mapped, ids: Mapping[int, bytes], names: Sequence[int]) -> list[bytes | None]:
    """For each region the build id of its file: that of the first page of it mapped last, going upward."""
    by_row: list[bytes | None] = []
    last: dict[bytes, bytes | None] = {}
    for start, offset, name in zip(mapped.starts, mapped.offsets, mapped.names, strict=False):
        if not offset:
            last[name] = ids.get(start, last.get(name))
        by_row.append(last.get(name))
    return [by_row[row] if row >= 0 else None for row in names]


def decode_crash(capture: Capture) -> Crash:
    """Raises MalformedData."""
    return crash_of(told_by(parse_header(capture.stream(HEADER)), capture.stream(NOTES)))


def _named(mapped: Mapped | None, starts: array[int], ends: array[int]) -> tuple[list[int], array[int]]:
    """For each region the row of its name in NT_FILE, or -1; and its offset in the file."""
    count = len(starts)
    names, offsets = [-1] * count, array("Q", [UNKNOWN]) * count
    if mapped is None:
        return names, offsets
    at = 0
    for row, (start, end, offset) in enumerate(zip(mapped.starts, mapped.ends, mapped.offsets, strict=True)):
        at = bisect_left(starts, start, at)
        if at == count:
            break
        if starts[at] == start:
            names[at], offsets[at] = row, offset
            if ends[at] >= end:
                continue
            at += 1
        # One that is split in the file has its name in NT_FILE once.
        while at < count and starts[at] < end:
            names[at], offsets[at] = row, min(offset + starts[at] - start, UNKNOWN - 1)
            at += 1
    return names, offsets


def _with_unsaved(
    mapped: Mapped, starts: array[int], ends: array[int], rights: bytes, names: list[int], offsets: array[int]
) -> tuple[array[int], array[int], bytes, list[int], array[int]]:
    """With what NT_FILE names and no program header tells of: of gdb's, which saves no unmodified file. No rights."""
    used = set(names)
    more = []
    last = 0
    for row in range(len(mapped.starts)):
        start, end = mapped.starts[row], mapped.ends[row]
        if row in used or not last <= start < end:
            continue
        after = bisect_left(starts, end)
        if after == 0 or ends[after - 1] <= start:
            more.append(row)
            last = end
    if not more:
        return starts, ends, rights, names, offsets
    untold = int(Protection.UNTOLD)
    rows = sorted(
        [
            *zip(starts, ends, rights, names, offsets, strict=True),
            *((mapped.starts[row], mapped.ends[row], untold, row, mapped.offsets[row]) for row in more),
        ]
    )
    return (
        array("Q", [row[0] for row in rows]),
        array("Q", [row[1] for row in rows]),
        bytes(row[2] for row in rows),
        [row[3] for row in rows],
        array("Q", [row[4] for row in rows]),
    )


def _facts(
    told: Told, starts: Sequence[int], ends: Sequence[int], rights: bytes, names: Sequence[int]
) -> tuple[bytes, list[Label]]:
    """What each region is, packed; the kind is worked out once for each different name and protection."""
    packer = Packer()
    meanings = _Meanings(packer, told.mapped)
    pieces = list(map(meanings.__getitem__, rights))  # as if none had a name, which is so of most
    for row in compress(range(len(names)), map((-1).__ne__, names)) if told.mapped is not None else ():
        pieces[row] = meanings[_MANY_RIGHTS * meanings.numbers[names[row]] + rights[row]]
    for row, (label, kind) in _special(told, starts, ends, rights, names).items():
        pieces[row] = packer.pack(_meaning(label, rights[row], kind))
    return b"".join(pieces), packer.labels


class _Meanings(dict[int, bytes]):
    """What each different (name, rights) means, packed, worked out when first met."""

    def __init__(self, packer: Packer, mapped: Mapped | None) -> None:
        super().__init__()
        self._packer = packer
        self._has_names = mapped is not None
        numbers = {name: number for number, name in enumerate(dict.fromkeys(mapped.names if mapped else ()), 1)}
        self._names = [b"", *numbers]
        self.numbers = [*(numbers[name] for name in (mapped.names if mapped else ())), 0]
        """By the row in NT_FILE; of row -1, the last, 0: no name."""

    def __missing__(self, key: int) -> bytes:
        number, rights = divmod(key, _MANY_RIGHTS)
        if number:
            label, kind = tell_without_sharing(self._names[number], protection=rights)
            meaning = _meaning(label, rights, kind)
        else:
            kind = Kind.ANONYMOUS if rights else Kind.GUARD
            meaning = _meaning(NO_LABEL, rights, kind if self._has_names else Kind.OTHER)
        packed = self[key] = self._packer.pack(meaning)
        return packed


def _meaning(label: Label, protection: int, kind: Kind) -> Meaning:
    hidden = 0 if label.path is not None or (label.name or "[")[0] != "[" else UNKNOWN
    return Meaning(UNKNOWN, UNKNOWN, hidden, label, protection, UNKNOWN_BYTE, kind)


def _special(
    told: Told, starts: Sequence[int], ends: Sequence[int], rights: bytes, names: Sequence[int]
) -> dict[int, tuple[Label, Kind]]:
    """The regions that have no file and that the auxiliary vector proves to be something."""

    def row_of(address: int | None) -> int | None:
        row = -1 if address is None else bisect_right(starts, address) - 1
        return row if address is not None and row >= 0 and address < ends[row] and names[row] < 0 else None

    found: dict[int, tuple[Label, Kind]] = {}
    stack = row_of(told.auxv.get(AT_RANDOM))
    if stack is not None and stack == row_of(told.auxv.get(AT_EXECFN)):
        found[stack] = Label(name="[stack]"), Kind.STACK
    vdso = row_of(told.auxv.get(AT_SYSINFO_EHDR))
    if vdso is not None and starts[vdso] == told.auxv[AT_SYSINFO_EHDR]:
        found[vdso] = Label(name="[vdso]"), Kind.VDSO
        # The kernel's data for it lies directly below. That is no proof of what it is, but that it is no plain memory.
        below = vdso - 1
        while below >= 0 and names[below] < 0 and ends[below] == starts[below + 1] and rights[below] == Protection.READ:
            found[below] = NO_LABEL, Kind.OTHER
            below -= 1
    if told.header.machine == X86_64 and (row := row_of(_VSYSCALL)) is not None and starts[row] == _VSYSCALL:
        found[row] = Label(name="[vsyscall]"), Kind.VSYSCALL
    return found
