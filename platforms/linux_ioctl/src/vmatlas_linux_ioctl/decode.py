"""The records of PROCMAP_QUERY to an address space. Pure: it never touches the system.

The stream `vmas` holds the records as the kernel filled them, one after another, both pointers zeroed; then, for each
record in order, its name (vma_name_size bytes, the NUL byte included) and its build id (build_id_size bytes). The
first count of records whose names make up just the rest of the stream is the count.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Mapping
from itertools import accumulate, compress, count, repeat
from operator import add, ne
from typing import Literal

from vmatlas.capture import Capture
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model import ANY, AddressSpace, Columns
from vmatlas.systems.linux import Namer, judge_empty_map, links
from vmatlas.systems.linux.facts import columns_of, pack_facts
from vmatlas_linux_ioctl.layout import FIELDS, SIZE, VMA_SHARED

VMAS = "vmas"
STAT = "stat"

_ASKED = ("query_flags", "query_addr", "vma_name_addr", "build_id_addr")
_STRIDES = tuple(
    (name, kind, at // array(kind).itemsize, SIZE // array(kind).itemsize)
    for name, kind, at in FIELDS
    if name not in _ASKED
)
"""Of each field that is an answer: its place in the records as one array of its kind, and the step to the next."""


def decode(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    data = capture.stream(VMAS)
    if not data:
        if capture.query.address is None and capture.query.where == ANY:
            judge_empty_map(capture.streams.get(STAT), VMAS, pid=capture.pid)
        return AddressSpace(Columns(), capture.origin)
    fields = split(data, capture.system.byte_order)
    linked = links.decode(capture.streams.get(links.STREAM, b""))
    columns = _columns(fields, data, linked)
    row = columns.first_disorder()
    if row is not None:
        expected = "a region after the one before it, and not empty"
        raise Disordered(VMAS, row * SIZE, expected, found=data[row * SIZE : row * SIZE + 40], pid=capture.pid)
    return AddressSpace(columns, capture.origin)


def split(data: bytes, byte_order: Literal["little", "big"]) -> dict[str, array[int]]:
    """The records at the front of a stream: a column for each field.

    Raises MalformedData when no count of records fits its length.
    """
    most = len(data) // SIZE
    columns = _fields(data[: most * SIZE], byte_order)
    behind = accumulate(map(add, columns["vma_name_size"], columns["build_id_size"]))
    lengths = list(map(add, behind, count(SIZE, SIZE)))
    records = lengths.index(len(data)) + 1 if len(data) in lengths else most
    row = next(compress(count(), map(ne, columns["size"][:records], repeat(SIZE))), None)
    if row is not None:
        raise MalformedData(VMAS, row * SIZE, f"a record of {SIZE} bytes", found=data[row * SIZE : row * SIZE + 8])
    if not lengths or lengths[records - 1] != len(data):
        expected = "as many bytes of names as the records before them say"
        raise MalformedData(VMAS, most * SIZE, expected, found=data[most * SIZE :])
    return columns if records == most else {name: column[:records] for name, column in columns.items()}


def _fields(records: bytes, byte_order: Literal["little", "big"]) -> dict[str, array[int]]:
    """Each field that the kernel fills, cut out of the records by its stride."""
    arrays = {kind: array(kind, records) for kind in ("Q", "I")}
    if byte_order != sys.byteorder:
        for each in arrays.values():
            each.byteswap()
    return {name: arrays[kind][first::step] for name, kind, first, step in _STRIDES}


def texts(fields: Mapping[str, array[int]], data: bytes) -> tuple[list[bytes], list[bytes]]:
    """The name of each record, without its NUL byte, and the build id of each. Raises MalformedData."""
    names: list[bytes] = []
    build_ids: list[bytes] = []
    position = len(fields["size"]) * SIZE
    for name_size, build_id_size in zip(fields["vma_name_size"], fields["build_id_size"], strict=True):
        stop = position + name_size
        if name_size and data.find(b"\0", position, stop) != stop - 1:
            expected = f"a name of record {len(names)} that ends with its only NUL byte"
            raise MalformedData(VMAS, position, expected, found=data[position:stop])
        names.append(data[position : stop - 1] if name_size else b"")
        position = stop + build_id_size
        build_ids.append(data[stop:position])
    return names, build_ids


class _Meanings(dict[tuple[int, int, int, int, bytes], bytes]):
    """What each distinct (vma_flags, major, minor, inode, name) means, packed, worked out when first met."""

    def __init__(self, linked: Mapping[links.Name, bool]) -> None:
        super().__init__()
        self.namer = Namer(linked)

    def __missing__(self, key: tuple[int, int, int, int, bytes]) -> bytes:
        flags, major, minor, inode, name = key
        label, kind = self.namer.tell(name, inode, flags & 7, bool(major or minor or inode))
        facts = self[key] = pack_facts(
            protection=flags & 7,
            shared=bool(flags & VMA_SHARED),
            major=major,
            minor=minor,
            inode=inode,
            label=label,
            kind=kind,
        )
        return facts


def _columns(fields: Mapping[str, array[int]], data: bytes, linked: Mapping[links.Name, bool]) -> Columns:
    meanings = _Meanings(linked)
    names, build_ids = texts(fields, data)
    keys = zip(fields["vma_flags"], fields["dev_major"], fields["dev_minor"], fields["inode"], names, strict=True)
    facts = b"".join(map(meanings.__getitem__, keys))
    columns = columns_of(fields["vma_start"], fields["vma_end"], fields["vma_offset"], facts, meanings.namer.labels)
    columns.page_size = fields["vma_page_size"]
    if any(build_ids):
        columns.build_id = [build_id or None for build_id in build_ids]
    return columns
