"""What a record of the kernel means: each claim is a sentence of NetBSD's sources."""

from __future__ import annotations

import time
from typing import Any

import pytest

from vmatlas import Capture, Kind, NoSuchProcess, Protection, Query, Region
from vmatlas_netbsd import BACKEND, KvmeFlags
from vmatlas_netbsd.decode import PROCESS, parse_processes
from vmatlas_netbsd.layout import EntryType, process_structure
from vmatlas_netbsd.story import refusal

from .test_decode import SYSTEM, decoded, packed

COW, VNODE, NONE = KvmeFlags.COW, EntryType.VNODE, EntryType.UNKNOWN


def region(**fields: Any) -> Region:
    return decoded(packed(**{"protection": 3, "max_protection": 7, **fields}))[0]


def process(**changed: Any) -> bytes:
    fields = {
        "flag": 0, "pid": 7, "ppid": 1, "uid": 0, "comm": b"sleep", "uvalid": 1, "ustart_sec": 5, "ustart_usec": 6,
        "realstat": 2,
    }  # fmt: skip
    return process_structure("little").pack(*(fields | changed).values())


@pytest.mark.parametrize(
    ("type", "flags", "protection", "shared", "kind"),
    [
        (NONE, COW, 3, False, Kind.ANONYMOUS),
        (NONE, COW, 0, False, Kind.GUARD),
        (NONE, 0, 3, True, Kind.SHARED_MEMORY),
        (EntryType.NONE, COW, 3, False, Kind.ANONYMOUS),
        (EntryType.ANON, 0, 3, True, Kind.SHARED_MEMORY),
        (EntryType.DEVICE, 0, 3, True, Kind.DEVICE),
        (VNODE, COW, 5, False, Kind.FILE),
        (VNODE, 0, 1, True, Kind.FILE),
        (EntryType.SUBMAP, 0, 3, True, Kind.OTHER),
        (77, COW, 3, False, Kind.OTHER),
    ],
)
def test_kind_and_sharing(type: int, flags: int, protection: int, shared: bool, kind: Kind) -> None:
    told = region(type=type, flags=flags, protection=protection)
    assert (told.kind, told.shared, told.protection) == (kind, shared, Protection(protection))
    assert told.max_protection == Protection(7)
    assert told.flags == flags


def test_file_is_told_with_its_path_offset_device_and_inode() -> None:
    told = region(type=VNODE, path=b"/bin/sh", offset=0x3000, vn_type=1, vn_fileid=99, vn_fsid=(5 << 20) | (4 << 8) | 3)
    assert (told.path, told.offset, told.inode) == ("/bin/sh", 0x3000, 99)
    assert told.device == (4, 5 << 8 | 3)
    unread = region(type=VNODE, path=b"", vn_type=0)
    assert (unread.path, unread.inode, unread.device) == (None, None, None)


def test_what_belongs_to_files_alone_is_not_told_of_memory() -> None:
    told = region(type=NONE, flags=COW, offset=2**64 - 1, vn_fileid=1, path=b"/left/over")
    assert (told.path, told.offset, told.inode, told.device) == (None, None, None, None)
    assert told.details["type"] == "unknown"
    assert told.details.get("object_pages") is None


def test_unknown_flags_and_protections_are_kept_or_masked() -> None:
    told = region(flags=0x80000001, protection=0xF3, type=NONE)
    assert told.flags == 0x80000001
    assert told.protection == Protection(3)


def test_type_without_a_name_is_called_by_its_number() -> None:
    assert region(type=77).name == "type 77"
    assert region(type=EntryType.KERN).name == "kern"


@pytest.mark.parametrize(
    ("changed", "start_time", "zombie", "kernel"),
    [
        ({}, 5_000_006, False, False),
        ({"flag": 0x200, "pid": 0}, 5_000_006, False, True),
        ({"realstat": 5, "uvalid": 0}, None, True, False),
        ({"realstat": 3}, 5_000_006, True, False),
        ({"realstat": 4}, 5_000_006, False, False),
    ],
)
def test_who_a_process_is(changed: dict[str, Any], start_time: int | None, zombie: bool, kernel: bool) -> None:
    [found] = parse_processes(process(**changed), "little")
    assert (found.start_time, found.is_zombie, found.is_kernel) == (start_time, zombie, kernel)
    assert (found.name, found.parent) == ("sleep", 1)


def test_empty_map_is_the_kernels_or_gone() -> None:
    def empty(**changed: Any) -> Capture:
        streams = {"map": b"", PROCESS: process(**changed)}
        return Capture(streams, SYSTEM, 7, BACKEND.name, BACKEND.distribution, Query(), time.time())

    assert len(BACKEND.decode(empty(flag=0x200))) == 0
    with pytest.raises(NoSuchProcess):
        BACKEND.decode(empty(realstat=5))


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("EFAULT", "there is no process 7"),
        ("E2BIG", "more regions than this kernel tells"),
        ("EINVAL", "it came with NetBSD 8"),
    ],
)
def test_refusals_of_this_kernel(name: str, says: str) -> None:
    assert says in refusal(name, 1, "sysctl vm.proc.map", 7).message
