"""The records of PROCMAP_QUERY to an address space. Pure: it never touches the system.

The stream `vmas` holds the records as the kernel filled them, one after another, both pointers zeroed; then, for each
record in order, its name (vma_name_size bytes, the NUL byte included) and its build id (build_id_size bytes). The
first count of records whose names make up just the rest of the stream is the count.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from typing import Literal

from vmatlas.capture import Capture
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model import ANY, UNKNOWN, AddressSpace, Columns, pack_device
from vmatlas.systems.linux import Namer, judge_empty_map, links
from vmatlas_linux_ioctl.layout import SIZE, VMA_SHARED, record

VMAS = "vmas"
STAT = "stat"

_Record = tuple[int, ...]
# What a distinct (vma_flags, device, inode, name) means: protection, shared, device, inode, label, kind.
_Facts = tuple[int, int, int, int, int, int]


def decode(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    data = capture.stream(VMAS)
    if not data:
        if capture.query.address is None and capture.query.where == ANY:
            judge_empty_map(capture.streams.get(STAT), VMAS, pid=capture.pid)
        return AddressSpace(Columns(), capture.origin)
    records = split(data, capture.system.byte_order)
    linked = links.decode(capture.streams.get(links.STREAM, b""))
    columns = _columns(records, data, linked)
    row = columns.first_disorder()
    if row is not None:
        expected = "a region after the one before it, and not empty"
        raise Disordered(VMAS, row * SIZE, expected, found=data[row * SIZE : row * SIZE + 40], pid=capture.pid)
    return AddressSpace(columns, capture.origin)


def split(data: bytes, byte_order: Literal["little", "big"]) -> list[_Record]:
    """The records at the front of a stream. Raises MalformedData when no count of them fits its length."""
    layout = record(byte_order)
    records: list[_Record] = []
    names = 0
    for offset in range(0, len(data) - SIZE + 1, SIZE):
        fields = layout.unpack_from(data, offset)
        if fields[0] != SIZE:
            raise MalformedData(VMAS, offset, f"a record of {SIZE} bytes", found=data[offset : offset + 8])
        records.append(fields)
        names += fields[11] + fields[12]
        if offset + SIZE + names == len(data):
            return records
    expected = "as many bytes of names as the records before them say"
    raise MalformedData(VMAS, len(records) * SIZE, expected, found=data[len(records) * SIZE :])


def _columns(records: list[_Record], data: bytes, linked: Mapping[links.Name, bool]) -> Columns:
    namer = Namer(linked)
    known: dict[tuple[int, int, int, int, bytes], _Facts] = {}
    facts: list[_Facts] = []
    build_ids: list[bytes | None] = []
    position = len(records) * SIZE
    for row, fields in enumerate(records):
        flags, inode, major, minor, name_size, build_id_size = fields[5], *fields[8:13]
        name = data[position : position + name_size]
        if name_size and (not name.endswith(b"\0") or b"\0" in name[:-1]):
            raise MalformedData(VMAS, position, f"a name of record {row} that ends with its only NUL byte", found=name)
        name = name[:-1]
        position += name_size
        build_ids.append(data[position : position + build_id_size] or None)
        position += build_id_size
        key = flags, major, minor, inode, name
        meaning = known.get(key)
        if meaning is None:
            has_file = bool(major or minor or inode)
            label, kind = namer.tell(name, inode, flags & 7, has_file)
            meaning = known[key] = (
                flags & 7,
                bool(flags & VMA_SHARED),
                pack_device(major, minor) if has_file else UNKNOWN,
                inode if has_file else UNKNOWN,
                label,
                kind,
            )
        facts.append(meaning)
    protection, shared, device, inodes, labels, kinds = zip(*facts, strict=True)
    return Columns(
        start=array("Q", [fields[3] for fields in records]),
        end=array("Q", [fields[4] for fields in records]),
        offset=array(
            "Q", [UNKNOWN if there == UNKNOWN else fields[7] for fields, there in zip(records, device, strict=True)]
        ),
        device=array("Q", device),
        inode=array("Q", inodes),
        protection=array("B", protection),
        shared=array("B", shared),
        kind=array("B", kinds),
        label=array("I", labels),
        labels=namer.labels,
        page_size=array("Q", [fields[6] for fields in records]),
        build_id=build_ids if any(build_ids) else None,
    )
