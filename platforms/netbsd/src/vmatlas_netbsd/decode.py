"""The kernel's records to an address space. Pure: it never touches the system.

Byte order, pointer width and page size come from the capture's `SystemInfo` alone.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

from vmatlas.capture import Capture, check_count
from vmatlas.errors import Disordered, MalformedData, NoSuchProcess
from vmatlas.model import UNKNOWN, AddressSpace, Columns, Kind, Label, pack_device
from vmatlas.model.columns import UNKNOWN_BYTE
from vmatlas.model.system import ByteOrder
from vmatlas_netbsd.flags import KvmeFlags
from vmatlas_netbsd.layout import (
    P_SYSTEM,
    PROCESS_SIZE,
    REGION_SIZE,
    ZOMBIES,
    EntryType,
    KernelProcess,
    KernelRegion,
    device_numbers,
    process_structure,
    region_structure,
)

MAP = "map"
"""The stream with one record a region."""
PROCESS = "process"
"""The stream with the record of the process, as it was after its map was read; empty: there is none."""

SHARED_OBJECTS = b"/var/shm/.shmobj_"
"""How the file of a POSIX shared memory object is called (lib/librt/shm.c): to the kernel it is a file of tmpfs."""

_TYPES = {int(each): each.name.lower() for each in EntryType}
_NO_OBJECT = frozenset([EntryType.NONE, EntryType.UNKNOWN])
_SHARING = {False: 0, True: 1, None: UNKNOWN_BYTE}


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a record says of its region. What the system does not tell is None, never 0."""

    protection: int
    """READ 1, WRITE 2, EXECUTE 4 of `Protection`."""
    shared: bool | None
    kind: Kind
    path: bytes | None = None
    name: str | None = None
    """What the kernel calls something that is no file."""
    offset: int | None = None
    device: tuple[int, int] | None = None
    inode: int | None = None


@dataclass(frozen=True, slots=True)
class Process:
    """Who a process is. `start_time` (microseconds since 1970) is with the pid its identity: the kernel takes it when
    the process begins, and a clock that is set later does not move it.
    """

    pid: int
    parent: int | None
    name: str
    start_time: int | None
    is_zombie: bool
    is_kernel: bool


def tell(record: KernelRegion) -> Meaning:
    """What one record means.

    Private memory is copy on write, of files and anonymous alike, and shared memory is not (uvm_mmap() of
    sys/uvm/uvm_mmap.c). What belongs to a file is told when its attributes could be read: then it has a type.
    """
    shared = not record.flags & KvmeFlags.COW
    protection = record.protection & 7
    if record.type == EntryType.VNODE:
        told = record.vn_type != 0
        path = record.path.partition(b"\0")[0] or None
        is_object = shared and path is not None and path.startswith(SHARED_OBJECTS)
        return Meaning(
            protection,
            shared,
            Kind.SHARED_MEMORY if is_object else Kind.FILE,
            path=path,
            offset=record.offset,
            device=device_numbers(record.vn_fsid) if told else None,
            inode=record.vn_fileid if told else None,
        )
    if record.type in (EntryType.UNKNOWN, EntryType.NONE):
        private = Kind.ANONYMOUS if protection else Kind.GUARD
        return Meaning(protection, shared, Kind.SHARED_MEMORY if shared else private)
    if record.type == EntryType.ANON:
        return Meaning(protection, shared, Kind.SHARED_MEMORY)
    if record.type == EntryType.DEVICE:
        return Meaning(protection, shared, Kind.DEVICE)
    return Meaning(protection, shared, Kind.OTHER, name=_TYPES.get(record.type, f"type {record.type}"))


def who(record: KernelProcess) -> Process:
    """Who one record is of."""
    is_told = record.uvalid != 0  # not of a zombie
    return Process(
        pid=record.pid,
        parent=record.ppid,
        name=record.comm.partition(b"\0")[0].decode("utf-8", "surrogateescape"),
        start_time=record.ustart_sec * 1_000_000 + record.ustart_usec if is_told else None,
        is_zombie=record.realstat in ZOMBIES,
        is_kernel=bool(record.flag & P_SYSTEM),
    )


def parse_processes(data: bytes, byte_order: ByteOrder) -> list[Process]:
    """Records of processes, one after another. Raises MalformedData."""
    if over := len(data) % PROCESS_SIZE:
        raise MalformedData(PROCESS, len(data) - over, f"a record of {PROCESS_SIZE} bytes", found=data[-over:])
    return [who(KernelProcess._make(fields)) for fields in process_structure(byte_order).iter_unpack(data)]


def decode(capture: Capture) -> AddressSpace:
    """Raises MalformedData, Disordered, NoSuchProcess."""
    data, order = capture.stream(MAP), capture.system.byte_order
    if not data:
        _judge_empty_map(capture.streams.get(PROCESS), order, capture.pid)
        return AddressSpace(Columns(), capture.origin)
    check_count(MAP, len(data) // REGION_SIZE, pid=capture.pid)
    if over := len(data) % REGION_SIZE:
        expected = f"a record of {REGION_SIZE} bytes"
        raise MalformedData(MAP, len(data) - over, expected, found=data[-over:], pid=capture.pid)
    columns = _columns([KernelRegion._make(fields) for fields in region_structure(order).iter_unpack(data)])
    if (row := columns.first_disorder()) is not None:
        at, expected = row * REGION_SIZE, "a region after the one before it, and not empty"
        raise Disordered(MAP, at, expected, found=data[at : at + REGION_SIZE], pid=capture.pid)
    return AddressSpace(columns, capture.origin)


def _columns(records: list[KernelRegion]) -> Columns:
    columns = Columns(labels=[Label()])
    columns.flags, columns.max_protection = [], array("B")
    known: dict[tuple[bytes | None, str | None], int] = {(None, None): 0}
    for record in records:
        meaning = tell(record)
        called = (meaning.path, meaning.name)
        if called not in known:
            known[called] = len(columns.labels)
            path = None if meaning.path is None else meaning.path.decode("utf-8", "surrogateescape")
            columns.labels.append(Label(path=path, name=meaning.name))
        columns.start.append(record.start)
        columns.end.append(record.end)
        columns.protection.append(meaning.protection)
        columns.shared.append(_SHARING[meaning.shared])
        columns.kind.append(meaning.kind)
        columns.label.append(known[called])
        columns.flags.append(KvmeFlags(record.flags))
        columns.max_protection.append(record.max_protection & 7)
        columns.offset.append(UNKNOWN if meaning.offset is None else meaning.offset)
        columns.device.append(UNKNOWN if meaning.device is None else pack_device(*meaning.device))
        columns.inode.append(UNKNOWN if meaning.inode is None else meaning.inode)
    columns.details = {
        "type": [_TYPES.get(record.type, f"type {record.type}") for record in records],
        "object_pages": array("Q", (record.pages if record.type not in _NO_OBJECT else UNKNOWN for record in records)),
        "ref_count": array("Q", (record.ref_count if record.type not in _NO_OBJECT else UNKNOWN for record in records)),
        "wired_count": array("Q", (record.wired_count for record in records)),
        "inheritance": array("Q", (record.inheritance for record in records)),
        "advice": array("Q", (record.advice for record in records)),
    }
    return columns


def _judge_empty_map(data: bytes | None, byte_order: ByteOrder, pid: int) -> None:
    """An empty map is a process of the kernel, or there is an error to raise."""
    if data is None:
        raise MalformedData(MAP, 0, f"at least one region (an empty map needs the stream '{PROCESS}')", pid=pid)
    found = parse_processes(data, byte_order)
    if not found or found[0].is_zombie:
        raise NoSuchProcess(f"process {pid} has ended; it has no memory", pid=pid)
    if not found[0].is_kernel:
        raise MalformedData(MAP, 0, f"the regions of process {pid} ({found[0].name}), which is alive", pid=pid)
