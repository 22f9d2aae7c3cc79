"""The records of PROCMAP_QUERY to an address space. Pure: it never touches the system.

The stream `vmas` holds the records as the kernel filled them, one after another, both pointers zeroed; then, for each
record in order, its name (vma_name_size bytes, the NUL byte included) and its build id (build_id_size bytes). The
first count of records whose names make up just the rest of the stream is the count.

native/decode.c does the same where it was built. It gives up on all that is unusual, so errors and their offsets are
told here alone.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Mapping
from itertools import accumulate, compress, count, repeat
from operator import add, ne
from typing import Literal

from vmatlas import compiled
from vmatlas.capture import Capture
from vmatlas.errors import Disordered, MalformedData
from vmatlas.model import ANY, AddressSpace, Columns, Region
from vmatlas.model.facts import Packer, Rows, columns_of, columns_of_rows, meaning_of
from vmatlas.systems.linux import judge_empty_map, links, tell
from vmatlas.systems.linux.order import in_order
from vmatlas.systems.linux.procmap import FIELDS, SIZE, VMA_SHARED

VMAS = "vmas"
STAT = "stat"

NATIVE = compiled.load("vmatlas_linux_ioctl._native")
"""The compiled twin; None where this module serves alone."""

FACT = struct.Struct("=QQQII")
"""A fact of the compiled twin: vma_flags, inode, page size, device; then the name (native/decode.h)."""

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
            judge_empty_map(capture.streams.get(STAT), VMAS, pid=capture.pid, of_memory=True)
        return AddressSpace(Columns(), capture.origin)
    settled = links.Settled.of(capture.streams)
    if NATIVE is not None and capture.system.byte_order == sys.byteorder:
        rows: Rows | None = NATIVE.decode(data)
        if rows is not None:
            return AddressSpace(columns_of_native(rows, settled), capture.origin)
    fields = split(data, capture.system.byte_order)
    columns = _columns(fields, data, settled)
    space = in_order(columns, capture.origin)
    if isinstance(space, int):
        at = space * SIZE
        expected = "a region that begins where the one before it ends, or above"
        raise Disordered(VMAS, at, expected, found=data[at : at + 40], pid=capture.pid)
    return space


def columns_of_native(rows: Rows, settled: links.Settled) -> Columns:
    """The columns of what the compiled twin took apart."""
    facts = [(*FACT.unpack_from(text), text[FACT.size :]) for text, _ in rows.facts()]
    meanings = _Meanings(settled.seeing((name, major, minor) for _, _, _, major, minor, name in facts))
    packed = [meanings[flags, major, minor, inode, name] for flags, inode, _, major, minor, name in facts]
    columns = columns_of_rows(rows, b"".join(packed), meanings.labels)
    columns.page_size = rows.number(0)
    return columns


def model_of(fact: bytes) -> Region | None:
    """A region of such a fact, at offset 0 where it has a file; None where only the file system can tell its name."""
    flags, inode, page_size, major, minor = FACT.unpack_from(fact)
    name = fact[FACT.size :]
    if links.is_open(name, (major, minor)) or (inode and not name):
        return None
    meanings = _Meanings(links.NOTHING)
    bound = array("Q", [0])
    columns = columns_of(bound, bound, bound, meanings[flags, major, minor, inode, name], meanings.labels)
    columns.page_size = array("Q", [page_size])
    return columns.region(0)


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

    def __init__(self, settled: links.Settled) -> None:
        super().__init__()
        self._settled = settled
        self._packer = Packer()
        self.labels = self._packer.labels

    def __missing__(self, key: tuple[int, int, int, int, bytes]) -> bytes:
        flags, major, minor, inode, name = key
        label, kind = tell(
            name,
            protection=flags & 7,
            shared=bool(flags & VMA_SHARED),
            major=major,
            has_file=bool(major or minor or inode),
            linked=self._settled.linked.get((name, inode), False),
            mounted=self._settled.mounted.get((major, minor)),
        )
        meaning = meaning_of(
            protection=flags & 7,
            shared=bool(flags & VMA_SHARED),
            major=major,
            minor=minor,
            inode=inode,
            label=label,
            kind=kind,
        )
        facts = self[key] = self._packer.pack(meaning)
        return facts


def _columns(fields: Mapping[str, array[int]], data: bytes, settled: links.Settled) -> Columns:
    names, build_ids = texts(fields, data)
    meanings = _Meanings(settled.seeing(zip(names, fields["dev_major"], fields["dev_minor"], strict=True)))
    keys = zip(fields["vma_flags"], fields["dev_major"], fields["dev_minor"], fields["inode"], names, strict=True)
    facts = b"".join(map(meanings.__getitem__, keys))
    columns = columns_of(fields["vma_start"], fields["vma_end"], fields["vma_offset"], facts, meanings.labels)
    columns.page_size = fields["vma_page_size"]
    if any(build_ids):
        columns.build_id = [build_id or None for build_id in build_ids]
    return columns
