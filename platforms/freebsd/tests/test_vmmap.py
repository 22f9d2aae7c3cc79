"""The records' decoder is pure: records of any size and byte order are read back exactly, all else is MalformedData."""

from __future__ import annotations

import ctypes
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas import AddressSpace, Capture, Disordered, Kind, MalformedData, NoSuchProcess, Protection, Query, SystemInfo
from vmatlas.conformance.thorough import examples
from vmatlas_freebsd import SYSCTL
from vmatlas_freebsd.layout import PATH_AT, PATH_ROOM, VMENTRY_FIELDS, VMENTRY_SIZE, EntryType, device_numbers, vmentry

ByteOrder = Literal["little", "big"]
CAPTURES = Path(__file__).parent / "captures"
SYSTEM = SystemInfo("freebsd", "14.3-RELEASE", "", "amd64", "little", 64, 4096)
PAGE = 4096


def decoded(data: bytes, byte_order: ByteOrder = "little", **streams: bytes) -> AddressSpace:
    system = replace(SYSTEM, byte_order=byte_order)
    streams = {"vmmap": data, **streams}
    return SYSCTL.decode(Capture(streams, system, 7, "freebsd-sysctl", "vmatlas-freebsd", Query(), time.time()))


def one(path: bytes = b"", size: int | None = None, byte_order: ByteOrder = "little", **changed: int) -> bytes:
    """A record as sys/kern/kern_proc.c packs it: cut after the path's NUL, rounded up to 8 bytes."""
    packed = (PATH_AT + len(path) + 1 + 7) // 8 * 8
    fields = {name: 0 for name, _, _ in VMENTRY_FIELDS}
    fields |= {"structsize": packed if size is None else size, "type": 1, "start": 0x1000, "end": 0x2000}
    head = vmentry(byte_order).pack(*{**fields, **changed}.values())
    return (head + bytes(PATH_AT - len(head)) + path).ljust(packed, b"\0")


class KinfoVmentry(ctypes.Structure):
    """struct kinfo_vmentry as <sys/user.h> declares it, laid out by the C ABI."""

    _fields_ = (
        ("structsize", ctypes.c_int),
        ("type", ctypes.c_int),
        *((name, ctypes.c_uint64) for name in ("start", "end", "offset", "vn_fileid")),
        ("vn_fsid_freebsd11", ctypes.c_uint32),
        *((name, ctypes.c_int) for name in ("flags", "resident", "private_resident", "protection")),
        *((name, ctypes.c_int) for name in ("ref_count", "shadow_count", "vn_type")),
        ("vn_size", ctypes.c_uint64),
        ("vn_rdev_freebsd11", ctypes.c_uint32),
        ("vn_mode", ctypes.c_uint16),
        ("status", ctypes.c_uint16),
        ("vn_fsid_or_obj", ctypes.c_uint64),
        ("vn_rdev", ctypes.c_uint64),
        ("spare", ctypes.c_int * 8),
        ("path", ctypes.c_char * PATH_ROOM),
    )


def test_layout_is_that_of_the_c_structure() -> None:
    assert (ctypes.sizeof(KinfoVmentry), KinfoVmentry.path.offset) == (VMENTRY_SIZE, PATH_AT)
    for name, code, offset in VMENTRY_FIELDS:
        field = getattr(KinfoVmentry, name)
        assert (field.offset, field.size) == (offset, {"Q": 8, "I": 4, "H": 2}[code])
    assert vmentry("little").size == vmentry("big").size == KinfoVmentry.spare.offset


U32, U64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
PATHS = st.one_of(st.just(b""), st.binary(max_size=1022).map(lambda name: b"/" + name.replace(b"\0", b"\n")))


@st.composite
def records(draw: st.DrawFn) -> tuple[list[dict[str, Any]], ByteOrder]:
    byte_order: ByteOrder = draw(st.sampled_from(["little", "big"]))
    bounds = sorted(draw(st.sets(U64, min_size=2, max_size=16)))
    made = []
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        fields = {
            name: draw({"Q": U64, "I": U32, "H": st.integers(0, 65535)}[code]) for name, code, _ in VMENTRY_FIELDS
        }
        fields |= {"start": start, "end": end, "type": draw(st.sampled_from([*EntryType, 10, 2**31]))}
        del fields["structsize"]
        made.append({"path": draw(PATHS), **fields})
    return made, byte_order


@given(records())
@settings(max_examples=examples(300), deadline=None)
def test_records_read_back_as_they_were_packed(made: tuple[list[dict[str, Any]], ByteOrder]) -> None:
    rows, byte_order = made
    space = decoded(b"".join(one(byte_order=byte_order, **row) for row in rows), byte_order)
    assert [(region.start, region.end) for region in space] == [(row["start"], row["end"]) for row in rows]
    assert space.incomplete is None
    for region, row in zip(space, rows, strict=True):
        assert region.flags == row["flags"]
        assert region.protection == row["protection"] & 7
        assert (region.resident, region.private_resident) == (row["resident"] * PAGE, row["private_resident"] * PAGE)
        if row["type"] == EntryType.VNODE:
            assert (region.path_bytes or b"") == row["path"]
            assert region.offset == (None if row["offset"] == 2**64 - 1 else row["offset"])
            assert (region.inode is None) >= bool(not row["status"] & 1)
        else:
            assert (region.path, region.offset, region.inode, region.device) == (None, None, None, None)
        if row["type"] not in (EntryType.NONE, EntryType.GUARD):
            assert region.details["ref_count"] == row["ref_count"]
        if row["flags"] & 1:
            assert region.shared is False


def survives(data: bytes, **streams: bytes) -> None:
    try:
        space = decoded(data, **streams)
    except MalformedData as error:
        assert error.stream in ("vmmap", "proc")
        assert 0 <= error.offset <= max(len(data), *(len(each) for each in streams.values()), 0)
    except NoSuchProcess:
        assert streams["proc"]
    else:
        assert all(a.end <= b.start for a, b in pairwise(space))
        list(space)


@given(st.binary(max_size=600), st.one_of(st.none(), st.binary(max_size=1200)))
@settings(max_examples=examples(500), deadline=None)
def test_arbitrary_bytes_are_malformed_or_read(data: bytes, proc: bytes | None) -> None:
    survives(data, **({} if proc is None else {"proc": proc}))


@given(
    st.sampled_from(sorted(path.name for path in CAPTURES.glob("*.vmmap.bin") if path.stat().st_size)),
    st.lists(st.tuples(st.integers(0, 2**20), st.integers(0, 255)), max_size=6),
    st.one_of(st.none(), st.integers(0, 20000)),
    st.booleans(),
)
@settings(max_examples=examples(500), deadline=None)
def test_damaged_recording_is_malformed_or_read(
    name: str, changes: list[tuple[int, int]], cut: int | None, heads: bool
) -> None:
    data = bytearray((CAPTURES / name).read_bytes()[:cut])
    for at, value in changes:
        if data:
            data[at % min(len(data), 160 if heads else len(data))] = value
    survives(bytes(data))


@pytest.mark.parametrize("size", [7, 8, 1, 135, 128, 137, 145, 152, 1160, 2**31, 2**32 - 8])
def test_record_of_a_size_that_cannot_be_is_malformed(size: int) -> None:
    with pytest.raises(MalformedData) as raised:
        decoded(one() + one(start=0x2000, end=0x3000, size=size))
    assert (raised.value.stream, raised.value.offset) == ("vmmap", 144)


@pytest.mark.parametrize("rest", [b"x", b"\0\0", b"\0\0\0"])
def test_less_than_a_size_at_the_end_is_malformed(rest: bytes) -> None:
    with pytest.raises(MalformedData) as raised:
        decoded(one() + rest)
    assert raised.value.offset == 144


def test_size_of_0_ends_the_records() -> None:
    assert len(decoded(one() + bytes(144))) == 1
    assert decoded(one() + bytes(144)).incomplete is None
    behind = decoded(one() + bytes(4) + one(start=0x5000, end=0x6000))
    assert len(behind) == 1
    assert behind.incomplete == "148 bytes after the end of the records are not read"


def test_record_of_a_newer_kernel_is_read_as_far_as_it_is_known_and_the_result_says_so() -> None:
    longer = one(b"/bin/x", type=2, size=1200).ljust(1200, b"\xee")
    space = decoded(longer + one(start=0x2000, end=0x3000))
    assert (len(space), space[0].path) == (2, "/bin/x")
    assert "of a newer kernel" in str(space.incomplete)


def test_whole_unpacked_structures_are_read_alike() -> None:
    whole = one(b"/bin/x", type=2, size=VMENTRY_SIZE).ljust(VMENTRY_SIZE, b"\0")
    space = decoded(whole + one(start=0x2000, end=0x3000, size=VMENTRY_SIZE).ljust(VMENTRY_SIZE, b"\0"))
    assert ([region.path for region in space], space.incomplete) == (["/bin/x", None], None)


def test_path_without_an_end_stops_at_its_record() -> None:
    assert decoded(one(b"/x", type=2)[:-5] + b"/aaaa")[0].path_bytes == b"/x"
    full = b"/" + b"a" * (PATH_ROOM - 1)
    assert decoded(one(b"", type=2, size=VMENTRY_SIZE)[:PATH_AT] + full)[0].path_bytes == full


@pytest.mark.parametrize(
    "bounds", [(0x1000, 0x2000), (0x0, 0x2000), (0x1FFF, 0x3000), (0x5000, 0x5000), (0x6000, 0x5000)]
)
def test_regions_out_of_order_are_disordered(bounds: tuple[int, int]) -> None:
    with pytest.raises(Disordered) as raised:
        decoded(one() + one(start=bounds[0], end=bounds[1]))
    assert raised.value.offset == 144


def test_pages_of_no_size_are_refused() -> None:
    for size in (0, -4096, 2**62):
        capture = Capture({"vmmap": one()}, replace(SYSTEM, page_size=size), 7, "freebsd-sysctl", "x", Query(), 0.0)
        with pytest.raises(MalformedData, match="pages of"):
            SYSCTL.decode(capture)


def test_count_beyond_2_to_the_31_pages_is_no_negative_one() -> None:
    assert decoded(one(resident=2**31))[0].resident == 2**31 * PAGE


def test_maximum_protection_is_told_where_the_kernel_tells_it() -> None:
    space = decoded(one(protection=0x7_0001) + one(start=0x2000, end=0x3000, protection=0))
    assert [region.max_protection for region in space] == [Protection(7), Protection(0)]


def test_segments_that_the_kernel_names_are_shared_memory() -> None:
    """FreeBSD newer than 13.2: flags SYSVSHM and POSIXSHM, a segment's name as path; anonymous memory is SWAP."""
    space = decoded(
        one(type=3, vn_fsid_or_obj=0xFFFF, ref_count=1, protection=3)
        + one(b"/segment", start=0x2000, end=0x3000, type=3, flags=0x100, ref_count=2)
        + one(start=0x3000, end=0x4000, type=3, flags=0x80, ref_count=2)
        + one(start=0x4000, end=0x204000, type=5, flags=0x100, protection=3)
    )
    assert [(r.kind, r.shared, r.name) for r in space] == [
        (Kind.ANONYMOUS, None, None),
        (Kind.SHARED_MEMORY, True, "/segment"),
        (Kind.SHARED_MEMORY, True, None),
        (Kind.SHARED_MEMORY, True, None),
    ]


def test_swap_before_kernels_told_which_object_is_anonymous_is_not_judged() -> None:
    """FreeBSD 12: no object numbers. SWAP may be either."""
    space = decoded(one(type=1, ref_count=1) + one(start=0x2000, end=0x3000, type=3, ref_count=2, protection=3))
    assert [(region.kind, region.shared) for region in space] == [(Kind.GUARD, None), (Kind.ANONYMOUS, None)]


def test_the_gap_below_a_stack_has_no_offset_whatever_its_record_says() -> None:
    """FreeBSD 15: the record of the gap that a stack may grow into is a guard with an offset of 0x70003."""
    (gap,) = decoded(one(type=9, offset=0x70003, start=0x7FFFDFFFF000, end=0x7FFFFFFDF000, ref_count=0, flags=0))
    assert (gap.kind, gap.offset, gap.protection) == (Kind.GUARD, None, Protection.NONE)
    assert "object_offset" not in gap.details


def test_file_whose_attributes_are_not_valid_has_none() -> None:
    region = decoded(one(b"/x", type=2, vn_fileid=5, vn_fsid_or_obj=7, vn_size=9))[0]
    assert (region.path, region.inode, region.device) == ("/x", None, None)
    assert "vn_size" not in region.details


def test_type_without_a_name_here_is_told_by_its_number() -> None:
    space = decoded(one(type=77) + one(start=0x2000, end=0x3000, type=6))
    assert [(region.kind, region.name, region.shared) for region in space] == [
        (Kind.OTHER, "type 77", None),
        (Kind.OTHER, "dead", None),
    ]


@pytest.mark.parametrize(
    ("number", "major", "minor"), [(0x2E, 0, 0x2E), (0xFFFFFFFF8700FF01, 0xFFFFFFFF, 0x8700FF01), (0x1234, 0x12, 0x34)]
)
def test_device_numbers(number: int, major: int, minor: int) -> None:
    assert device_numbers(number) == (major, minor)


def test_time_grows_with_the_number_of_records_and_not_with_its_square() -> None:
    """Counted, not timed: the steps of the interpreter for twice the records are about twice as many."""
    assert 1.8 < steps(2000) / steps(1000) < 2.2


def steps(count: int) -> int:
    import sys

    data = b"".join(
        one(b"/p%d" % (n % 7), start=n * PAGE, end=n * PAGE + PAGE, type=2, vn_fsid_or_obj=n) for n in range(1, count)
    )
    counted = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal counted
        counted += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        decoded(data)
    finally:
        sys.settrace(before)
    return counted
