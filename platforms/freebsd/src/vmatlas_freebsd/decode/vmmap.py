"""The records of the sysctl KERN_PROC_VMMAP to an address space. Pure: it never touches the system.

A record is a `struct kinfo_vmentry`, cut after its path and rounded up to 8 bytes; `structsize` says where the next
begins. There is no terminator: the records fill the bytes exactly. A size of 0 ends them too (as FreeBSD's own libutil
reads it), and a record longer than the structure is of a newer kernel: what is known of it is read, and the result says
that there was more.
"""

from __future__ import annotations

import struct
import sys
from array import array
from dataclasses import replace
from typing import NamedTuple

from vmatlas import compiled
from vmatlas.capture import Capture, check_count
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model import UNKNOWN, AddressSpace, Columns, pack_device
from vmatlas.model.columns import UNKNOWN_BYTE
from vmatlas.model.facts import Meaning, Packer, Rows, columns_of_rows
from vmatlas_freebsd.decode.meaning import Facts, Labels, label_of, tell
from vmatlas_freebsd.decode.process import STREAM as PROC
from vmatlas_freebsd.decode.process import judge_empty_map
from vmatlas_freebsd.flags import NO_FLAGS, KvmeFlags
from vmatlas_freebsd.layout import (
    ATTRIBUTES_VALID,
    CHARACTER_DEVICE,
    MAX_PROTECTION_SHIFT,
    PATH_AT,
    PATH_ROOM,
    VMENTRY_SIZE,
    VNODE_TYPES,
    ByteOrder,
    EntryType,
    device_numbers,
    vmentry,
)

VMMAP = "vmmap"

NATIVE = compiled.load("vmatlas_freebsd._native")
"""The compiled twin (native/decode.c), for records in this machine's byte order; None where Python serves alone."""

_NO_OBJECT = frozenset([EntryType.NONE, EntryType.GUARD])
_TYPE_NAMES = {int(each): each.name.lower() for each in EntryType}
_SHARING_CODES = {False: 0, True: 1, None: UNKNOWN_BYTE}
_LARGEST_PAGE = 2**30


class _Entry(NamedTuple):
    """The fixed fields of a record, in the order of `layout.VMENTRY_FIELDS`, without its size; and where it begins."""

    type: int
    start: int
    end: int
    offset: int
    fileid: int
    fsid_freebsd11: int
    flags: int
    resident: int
    private_resident: int
    protection: int
    ref_count: int
    shadow_count: int
    vn_type: int
    vn_size: int
    rdev_freebsd11: int
    mode: int
    status: int
    fsid_or_object: int
    rdev: int
    path: bytes
    at: int

    @property
    def object(self) -> int:
        """The kernel's number of the anonymous object on top; 0: none, not anonymous, or not told (before 13)."""
        return 0 if self.type == EntryType.VNODE else self.fsid_or_object


def decode_vmmap(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    data = capture.stream(VMMAP)
    if not data:
        # The kernel answers so for its own processes alone; where the process is told beside it, that must agree.
        if PROC in capture.streams:
            judge_empty_map(capture.streams[PROC], VMMAP, capture.system.byte_order, pid=capture.pid)
        return AddressSpace(Columns(), capture.origin)
    if not 0 < capture.system.page_size <= _LARGEST_PAGE:
        raise MalformedData(VMMAP, 0, f"a system with pages of 1 to {_LARGEST_PAGE:,} bytes", pid=capture.pid)
    check_count(VMMAP, len(data) // PATH_AT, pid=capture.pid)
    if NATIVE is not None and capture.system.byte_order == sys.byteorder:
        rows: Rows | None = NATIVE.decode_vmmap(data, capture.system.page_size)
        if rows is not None:
            return AddressSpace(_columns_of_native(rows), replace(capture.origin, private_adds_up=False))
    entries, more = _entries(data, capture.system.byte_order)
    columns = _columns(entries, capture.system.page_size)
    if (row := columns.first_disorder()) is not None:
        at = entries[row].at
        expected = "a region after the one before it, and not empty"
        raise Disordered(VMMAP, at, expected, found=data[at : at + 24], pid=capture.pid)
    origin = replace(capture.origin, private_adds_up=False)  # each entry is told the pages of its whole object
    if more:
        origin = replace(origin, incomplete="; ".join(filter(None, [origin.incomplete, more])))
    return AddressSpace(columns, origin)


_FACT = struct.Struct("=QQIIII")
"""A fact of the compiled twin: device, file id, type, flags, protection, traits; then the path (native/decode.h)."""
_HAS_OBJECT, _ONE_PAGE, _HAS_ATTRIBUTES = 1, 2, 4
_DETAILS = (
    "mark", "resident", "private_resident", "protection", "type", "ref_count", "shadow_count", "object",
    "object_offset", "vn_type", "vn_size", "vn_mode", "vn_rdev",
)  # fmt: skip
"""The numbers of the compiled twin, in their order; from the type on they are details."""


def _columns_of_native(rows: Rows) -> Columns:
    """The columns of what the compiled twin took apart."""
    packer = Packer()
    numbers = {name: rows.number(number) for number, name in enumerate(_DETAILS)}
    facts = [fact for fact, _ in rows.facts()]
    objects_are_told = any(_FACT.unpack_from(fact)[-1] & _HAS_OBJECT for fact in facts)
    packed = [packer.pack(_meaning_of(fact, objects_are_told)) for fact in facts]
    columns = columns_of_rows(rows, b"".join(packed), packer.labels)
    marks = [int.from_bytes(mark, sys.byteorder) for mark in rows.marks()]
    columns.flags = rows.pick(0, [KvmeFlags(mark) if mark else NO_FLAGS for mark in marks])
    columns.resident, columns.private_resident = numbers["resident"], numbers["private_resident"]
    maximum = [each >> MAX_PROTECTION_SHIFT & 7 for each in numbers["protection"]]
    columns.max_protection = array("B", maximum) if any(maximum) else None
    details: dict[str, array[int] | list[str | None]] = {name: numbers[name] for name in _DETAILS[4:]}
    details["type"] = [_type_name(each) for each in numbers["type"]]
    details["vn_type"] = [
        None if each == UNKNOWN else VNODE_TYPES.get(each, str(each)) for each in numbers["vn_type"]
    ]  # fmt: skip
    columns.details = _those_told(details)
    return columns


def _meaning_of(fact: bytes, objects_are_told: bool) -> Meaning:
    device, fileid, kind_of_entry, bits, protection, traits = _FACT.unpack_from(fact)
    path, is_file = fact[_FACT.size :], kind_of_entry == EntryType.VNODE
    facts = _facts(
        kind_of_entry,
        KvmeFlags(bits),
        protection,
        has_object=bool(traits & _HAS_OBJECT),
        objects_are_told=objects_are_told,
        one_page=bool(traits & _ONE_PAGE),
    )
    shared, kind = tell(facts)
    has_attributes = bool(traits & _HAS_ATTRIBUTES)
    return Meaning(
        device=pack_device(*device_numbers(device)) if has_attributes else UNKNOWN,
        inode=fileid if has_attributes else UNKNOWN,
        hidden=0 if is_file else UNKNOWN,
        label=label_of(_named(path, kind_of_entry), is_file),
        protection=protection & 7,
        shared=_SHARING_CODES[shared],
        kind=kind,
    )


def _entries(data: bytes, byte_order: ByteOrder) -> tuple[list[_Entry], str]:
    """The records, and what else there was."""
    layout = vmentry(byte_order)
    found: list[_Entry] = []
    longest = position = 0
    while position < len(data):
        left = len(data) - position
        size = int.from_bytes(data[position : position + 4], byte_order) if left >= 4 else -1
        if size == 0:
            break
        if not PATH_AT <= size <= left or size % 8:
            expected = f"a record of {PATH_AT} to {left} bytes, a multiple of 8"
            raise MalformedData(VMMAP, position, expected, found=data[position : position + 8])
        fields = layout.unpack_from(data, position)
        path = data[position + PATH_AT : position + min(size, PATH_AT + PATH_ROOM)]
        found.append(_Entry._make([*fields[1:], path.partition(b"\0")[0], position]))
        longest = max(longest, size)
        position += size
    if longest > VMENTRY_SIZE:
        return (
            found,
            f"records of {longest} bytes, of a newer kernel: what follows the {VMENTRY_SIZE} known is not read",
        )
    if any(data[position:]):
        return found, f"{len(data) - position} bytes after the end of the records are not read"
    return found, ""


def bounds(data: bytes, byte_order: ByteOrder) -> list[tuple[int, int]]:
    """Where each record of a map begins and ends, in the order of the records. Raises MalformedData."""
    return [(each.start, each.end) for each in _entries(data, byte_order)[0]]


def _columns(entries: list[_Entry], page_size: int) -> Columns:
    labels = Labels()
    objects_are_told = any(each.object for each in entries)
    flags_of: dict[int, KvmeFlags] = {0: NO_FLAGS}
    columns = Columns(labels=labels.all)
    columns.flags, columns.resident, columns.private_resident = [], array("Q"), array("Q")
    for each in entries:
        is_file = each.type == EntryType.VNODE
        flags = flags_of.get(each.flags)
        if flags is None:
            flags = flags_of[each.flags] = KvmeFlags(each.flags)
        facts = _facts(
            each.type,
            flags,
            each.protection,
            has_object=each.object != 0,
            objects_are_told=objects_are_told,
            one_page=each.end - each.start == page_size,
        )
        shared, kind = tell(facts)
        has_attributes = is_file and bool(each.status & ATTRIBUTES_VALID)
        device = each.fsid_or_object or each.fsid_freebsd11
        columns.start.append(each.start)
        columns.end.append(each.end)
        columns.offset.append(each.offset if is_file else UNKNOWN)
        columns.device.append(pack_device(*device_numbers(device)) if has_attributes else UNKNOWN)
        columns.inode.append(each.fileid if has_attributes else UNKNOWN)
        columns.protection.append(each.protection & 7)
        columns.shared.append(_SHARING_CODES[shared])
        columns.kind.append(kind)
        columns.label.append(labels.number(_named(each.path, each.type), is_file))
        columns.flags.append(flags)
        columns.resident.append(each.resident * page_size)
        columns.private_resident.append(each.private_resident * page_size)
    columns.max_protection = _max_protection(entries)
    columns.details = _details(entries)
    return columns


_SELF_EXPLAINING = frozenset(each for each in EntryType if each not in (EntryType.DEAD, EntryType.SG, 255))
"""Types that a kind stands for; regions of others bear the type's name."""


def _type_name(number: int) -> str:
    return _TYPE_NAMES.get(number) or f"type {number}"


def _named(path: bytes, type: int) -> bytes:
    """What an entry is called: its path, or the word for a type that no kind stands for."""
    return path or (b"" if type in _SELF_EXPLAINING else _type_name(type).encode())


def _facts(
    type: int, flags: KvmeFlags, protection: int, *, has_object: bool, objects_are_told: bool, one_page: bool
) -> Facts:
    anonymous: bool | None = None
    if type == EntryType.DEFAULT or has_object:
        anonymous = True  # kernels that tell the number of an object tell it of anonymous ones alone
    elif objects_are_told:
        anonymous = False
    return Facts(
        type=type,
        copy_on_write=KvmeFlags.COW in flags,
        protection=protection & 7,
        anonymous=anonymous,
        grows_down=KvmeFlags.GROWS_DOWN in flags,
        shared_memory=bool(flags & (KvmeFlags.SYSVSHM | KvmeFlags.POSIXSHM)),
        one_page=one_page,
    )


def _max_protection(entries: list[_Entry]) -> array[int] | None:
    """None before kernels told it (13.2 does not): then no record has any of its bits."""
    if not any(each.protection >> MAX_PROTECTION_SHIFT & 7 for each in entries):
        return None
    return array("B", (each.protection >> MAX_PROTECTION_SHIFT & 7 for each in entries))


def _details(entries: list[_Entry]) -> dict[str, array[int] | list[str | None]]:
    """The kernel's own fields, where they say something: an entry without an object has none of them."""
    attributes = [each.type == EntryType.VNODE and bool(each.status & ATTRIBUTES_VALID) for each in entries]
    with_object = [each.type not in _NO_OBJECT for each in entries]

    def numbers(name: str, told: list[bool]) -> array[int]:
        return array(
            "Q", (getattr(each, name) if tells else UNKNOWN for each, tells in zip(entries, told, strict=True))
        )

    found: dict[str, array[int] | list[str | None]] = {
        "type": [_type_name(each.type) for each in entries],
        "ref_count": numbers("ref_count", with_object),
        "shadow_count": numbers("shadow_count", with_object),
        "object": numbers("object", [each.object != 0 for each in entries]),
        "object_offset": numbers("offset", [each.type not in _NO_OBJECT | {EntryType.VNODE} for each in entries]),
        "vn_type": [
            VNODE_TYPES.get(each.vn_type, str(each.vn_type)) if told else None
            for each, told in zip(entries, attributes, strict=True)
        ],
        "vn_size": numbers("vn_size", attributes),
        "vn_mode": numbers("mode", attributes),
        "vn_rdev": numbers(
            "rdev", [told and e.vn_type == CHARACTER_DEVICE for e, told in zip(entries, attributes, strict=True)]
        ),
    }
    return _those_told(found)


def _those_told(details: dict[str, array[int] | list[str | None]]) -> dict[str, array[int] | list[str | None]]:
    """Without the columns in which nothing is told."""
    return {key: column for key, column in details.items() if any(value not in (None, UNKNOWN) for value in column)}
