"""The text of FreeBSD's /proc/PID/map to an address space. Pure: it never touches the system.

A line for each entry (sys/fs/procfs/procfs_map.c), fields parted by one space:

    START END RESIDENT PRIVATE OBJECT rwx REFS SHADOWS OBJECTFLAGS COW|NCOW NC|NNC TYPE PATH CH|NCH UID

PATH is "-", or an absolute path in which nothing is escaped: it may hold spaces, so a line is read from both ends; it
may hold newlines, so a file name can forge whole lines. What breaks the columns, the order or the bounds is refused; a
forged line that fits between its neighbours cannot be told from a real one. The sysctl has no such weakness.
"""

from __future__ import annotations

import re
from array import array
from dataclasses import replace

from vmatlas.capture import Capture, check_count
from vmatlas.errors import CR_LF, Disordered, MalformedData
from vmatlas.model import UNKNOWN, AddressSpace, Columns
from vmatlas.model.columns import UNKNOWN_BYTE
from vmatlas_freebsd.decode.meaning import Facts, Labels, tell
from vmatlas_freebsd.decode.process import STREAM as PROC
from vmatlas_freebsd.decode.process import judge_empty_map
from vmatlas_freebsd.flags import NO_FLAGS, KvmeFlags
from vmatlas_freebsd.layout import EntryType

MAP = "map"

CUT_AT = 1_048_575
"""Bytes: where the kernel cuts the text without a word, in the middle of a line [seen on 13.2]."""

CUT = f"the kernel cuts this text at {CUT_AT:,} bytes: regions are missing; use the backend freebsd-sysctl"
"""Why a text of that length is incomplete."""

_NUMBER = rb"(-?[0-9]{1,10})"
_LINE = re.compile(
    rb"0x([0-9a-f]{1,16}) 0x([0-9a-f]{1,16}) " + _NUMBER + rb" " + _NUMBER + rb" (0|0x[0-9a-f]{1,16}) ([r-][w-][x-]) "
    + _NUMBER + rb" " + _NUMBER + rb" 0x([0-9a-f]{1,8}) (N?COW) (N?NC)"
    rb" ([a-z]{1,16}) (-|/.*) (?:CH ([0-9]{1,10})|NCH -1)"
)  # fmt: skip
_SHAPE = "START END RESIDENT PRIVATE OBJECT rwx REFS SHADOWS FLAGS COW|NCOW NC|NNC TYPE PATH CH|NCH UID"
_HINT = (
    "a file name with a newline gives such lines; the backend freebsd-sysctl reads the same map without this weakness"
)

_TYPES = {
    b"none": EntryType.NONE,
    b"default": EntryType.DEFAULT,
    b"swap": EntryType.SWAP,
    b"vnode": EntryType.VNODE,
    b"device": EntryType.DEVICE,
    b"phys": EntryType.PHYS,
    b"dead": EntryType.DEAD,
    b"unknown": EntryType.UNKNOWN,
}
_NAMED = frozenset([EntryType.DEAD, EntryType.UNKNOWN])

_OBJ_ANON = 0x10
"""Anonymous memory, in the object's flags since FreeBSD 13 (before, the bit had another meaning)."""
_ANON_SINCE = 13
_OBJ_ONEMAPPING = 0x2000
"""An anonymous object that one map alone has (sys/vm/vm_object.h). A fork takes it from what it shares; it comes back
when the last other map is gone. Parts of one mapping, shadows of others and page faults leave it as it is."""
_FLAGS = {
    (b"NCOW", b"NNC"): NO_FLAGS,
    (b"NCOW", b"NC"): KvmeFlags.NEEDS_COPY,
    (b"COW", b"NNC"): KvmeFlags.COW,
    (b"COW", b"NC"): KvmeFlags.COW | KvmeFlags.NEEDS_COPY,
}
_RIGHTS = {b"r": 1, b"w": 2, b"x": 4}
_SHARING_CODES = {False: 0, True: 1, None: UNKNOWN_BYTE}
_LARGEST_PAGE = 2**30


def decode_map(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    text = capture.stream(MAP)
    origin = capture.origin
    if not text:
        judge_empty_map(capture.streams.get(PROC), MAP, capture.system.byte_order, pid=capture.pid)
        return AddressSpace(Columns(), origin)
    if not 0 < capture.system.page_size <= _LARGEST_PAGE:
        raise MalformedData(MAP, 0, f"a system with pages of 1 to {_LARGEST_PAGE:,} bytes", pid=capture.pid)
    if len(text) == CUT_AT:
        text = text[: text.rfind(b"\n") + 1]
        if origin.incomplete is None:
            origin = replace(origin, incomplete=CUT)
    check_count(MAP, text.count(b"\n"), pid=capture.pid)
    lines = _lines(text, capture.pid)
    columns = _columns(lines, capture.system.page_size, _tells_anonymous(capture.system.release))
    if (row := columns.first_disorder()) is not None:
        offset = sum(len(line[0]) + 1 for line in lines[:row])
        expected = "a region after the one before it, and not empty"
        raise Disordered(MAP, offset, expected, found=text[offset : offset + 40], pid=capture.pid, hint=_HINT)
    return AddressSpace(columns, origin)


def _lines(text: bytes, pid: int) -> list[re.Match[bytes]]:
    found: list[re.Match[bytes]] = []
    pieces = text.split(b"\n")
    offset = 0
    for number, line in enumerate(pieces, 1):
        if number == len(pieces) and not line:
            break
        match = _LINE.fullmatch(line)
        if match is None or number == len(pieces):
            expected = _SHAPE if number < len(pieces) else f"a whole line: {_SHAPE}"
            if line.endswith(b"\r") and _LINE.fullmatch(line[:-1]):
                expected = CR_LF
            raise MalformedData(MAP, offset, expected, found=line or b"\n", pid=pid, hint=_HINT)
        found.append(match)
        offset += len(line) + 1
    return found


def _tells_anonymous(release: str) -> bool:
    major = re.match(r"([0-9]{1,4})\.", release)
    return major is not None and int(major[1]) >= _ANON_SINCE


def _columns(lines: list[re.Match[bytes]], page_size: int, tells_anonymous: bool) -> Columns:
    labels = Labels()
    rows = [line.groups() for line in lines]
    objects = [int(row[4], 16) for row in rows]
    columns = Columns(labels=labels.all)
    columns.flags, columns.resident = [], array("Q")
    for row in rows:
        start, end, resident, _, _, rights, _, _, _, cow, needs_copy, word, path, _ = row
        kind_of_entry = _TYPES.get(word, EntryType.UNKNOWN)
        protection = sum(bit for letter, bit in _RIGHTS.items() if letter in rights)
        first, last = int(start, 16), int(end, 16)
        shared, kind = tell(_facts(row, kind_of_entry, protection, tells_anonymous, last - first == page_size))
        columns.start.append(first)
        columns.end.append(last)
        columns.offset.append(UNKNOWN)
        columns.device.append(UNKNOWN)
        columns.inode.append(UNKNOWN)
        columns.protection.append(protection)
        columns.shared.append(_SHARING_CODES[shared])
        columns.kind.append(kind)
        name = word if kind_of_entry in _NAMED else b""
        columns.label.append(labels.number(name if path == b"-" else path, kind_of_entry == EntryType.VNODE))
        columns.flags.append(_FLAGS[cow, needs_copy])
        columns.resident.append(_count(resident) * page_size)
    columns.details = _details(rows, objects, page_size)
    return columns


def _facts(
    row: tuple[bytes, ...],
    kind_of_entry: EntryType,
    protection: int,
    tells_anonymous: bool,
    one_page: bool,
) -> Facts:
    anonymous: bool | None = None
    object_flags = int(row[8], 16)
    if kind_of_entry == EntryType.DEFAULT:
        anonymous = True
    elif tells_anonymous:
        anonymous = bool(object_flags & _OBJ_ANON)
    return Facts(
        type=kind_of_entry,
        copy_on_write=row[9] == b"COW",
        protection=protection,
        anonymous=anonymous,
        in_other_maps=tells_anonymous and object_flags & (_OBJ_ANON | _OBJ_ONEMAPPING) == _OBJ_ANON,
        one_page=one_page,
    )


def _count(digits: bytes) -> int:
    """The kernel's int as it counts: past 2**31 it would be written as a negative number."""
    return int(digits) & 0xFFFFFFFF


def _details(
    rows: list[tuple[bytes, ...]], objects: list[int], page_size: int
) -> dict[str, array[int] | list[str | None]]:
    has_object = [row[11] != b"none" for row in rows]

    def counts(field: int, unit: int = 1) -> array[int]:
        told = zip(rows, has_object, strict=True)
        return array("Q", (_count(row[field]) * unit if tells else UNKNOWN for row, tells in told))

    found: dict[str, array[int] | list[str | None]] = {
        "type": [row[11].decode("ascii") for row in rows],
        "ref_count": counts(6),
        "shadow_count": counts(7),
        "object": array("Q", (number or UNKNOWN for number in objects)),
        "object_flags": array(
            "Q", (int(row[8], 16) if told else UNKNOWN for row, told in zip(rows, has_object, strict=True))
        ),
        "shadowed_resident": counts(3, page_size),
        "charged_user": array("Q", (UNKNOWN if row[13] is None else int(row[13]) for row in rows)),
    }
    return {key: column for key, column in found.items() if any(value not in (None, UNKNOWN) for value in column)}
