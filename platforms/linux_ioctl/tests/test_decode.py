"""The records' decoder is pure: records of either byte order are read back exactly, all else is MalformedData."""

from __future__ import annotations

import ctypes
import time
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas import AddressSpace, Capture, Disordered, Kind, MalformedData, NoSuchProcess, Query, Region, SystemInfo
from vmatlas.conformance.thorough import examples
from vmatlas.model import Filter
from vmatlas.systems.linux import links
from vmatlas.systems.linux.procmap import FIELDS, PROCMAP_QUERY, SIZE, record
from vmatlas_linux_ioctl import BACKEND

ByteOrder = Literal["little", "big"]
CAPTURE = Path(__file__).parent / "captures" / "linux-6.18-vmas.zip"


def decoded(*, byte_order: ByteOrder = "little", query: Query | None = None, **streams: bytes) -> AddressSpace:
    system = SystemInfo("linux", "6.12", "", "x", byte_order, 64, 4096)
    return BACKEND.decode(
        Capture(streams, system, 7, "linux-ioctl", "vmatlas-linux-ioctl", query or Query(), time.time())
    )


def test_a_process_that_lives_may_have_unmapped_all_that_it_had():
    alive = b"7 (x) t " + b"1 " * 50
    assert list(decoded(vmas=b"", stat=alive)) == []
    with pytest.raises(NoSuchProcess, match="zombie"):
        decoded(
            vmas=b"",
            stat=alive.replace(b" t ", b" Z ").replace(b"1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1 1", b"0 " * 16 + b"1"),
        )
    with pytest.raises(MalformedData):
        decoded(vmas=b"")


def stream(regions: list[Region], byte_order: ByteOrder) -> bytes:
    """As the kernel fills the records (fs/proc/task_mmu.c, do_procmap_query): the oracle of the round trip."""
    layout = record(byte_order)
    records, names = b"", b""
    for region in regions:
        name = region.label.encode("utf-8", "surrogateescape")
        name = name + b"\0" if name else b""
        build_id = region.build_id or b""
        major, minor = region.device or (0, 0)
        flags = int(region.protection) | (8 if region.shared else 0)
        records += layout.pack(
            SIZE, 0x10, region.start, region.start, region.end, flags, region.page_size or 0, region.offset or 0,
            region.inode or 0, major, minor, len(name), len(build_id), 0, 0,
        )  # fmt: skip
        names += name + build_id
    return records + names


@st.composite
def records(draw: st.DrawFn) -> tuple[bytes, dict[links.Name, bool], ByteOrder]:
    """Records in order, the file system's word for their names, and a byte order."""
    byte_order: ByteOrder = draw(st.sampled_from(["little", "big"]))
    bounds = sorted(draw(st.sets(st.integers(0, 2**64 - 1), min_size=2, max_size=20)))
    layout = record(byte_order)
    made, names = b"", b""
    linked: dict[links.Name, bool] = {}
    for start, end in zip(bounds[::2], bounds[1::2], strict=False):
        offset = major = minor = inode = 0
        if draw(st.booleans()):
            offset, inode = draw(st.integers(0, 2**64 - 2)), draw(st.integers(1, 2**64 - 2))
            major, minor = draw(st.integers(0, 2**12 - 1)), draw(st.integers(0, 2**20 - 1))
            name = b"/" + draw(st.binary(max_size=60)).replace(b"\0", b"") + draw(st.sampled_from([b"", b" (deleted)"]))
            if name.endswith(b" (deleted)"):
                linked[name, inode] = draw(st.booleans())
        else:
            name = draw(st.sampled_from([b"", b"[heap]", b"[anon: a b ]", b"[stack]", b"[novel]"]))
        build_id = draw(st.sampled_from([b"", b"\1" * 8, bytes(20)]))
        made += layout.pack(
            SIZE, draw(st.integers(0, 0x3F)), start, start, end, draw(st.integers(0, 15)), 4096, offset, inode, major,
            minor, len(name) + 1 if name else 0, len(build_id), 0, 0,
        )  # fmt: skip
        names += name + b"\0" * bool(name) + build_id
    return made + names, linked, byte_order


@given(records())
@settings(max_examples=examples(300), deadline=None)
def test_records_to_space_to_records_are_the_same(made: tuple[bytes, dict[links.Name, bool], ByteOrder]) -> None:
    data, linked, byte_order = made
    regions = list(decoded(byte_order=byte_order, vmas=data, links=links.encode(linked)))
    again = bytearray(stream(regions, byte_order))
    asked = bytearray(data)
    for at in range(0, len(regions) * SIZE, SIZE):  # what was asked is no part of the answer
        again[at + 8 : at + 24] = asked[at + 8 : at + 24] = bytes(16)
    assert again == asked


def survives(byte_order: ByteOrder = "little", query: Query | None = None, **streams: bytes) -> None:
    try:
        space = decoded(byte_order=byte_order, query=query, **streams)
    except MalformedData as error:
        assert error.stream in ("vmas", "links", "mounted", "stat")
        assert 0 <= error.offset <= max(map(len, streams.values()), default=0)
    except NoSuchProcess:
        assert streams["stat"]
    else:
        assert all(a.end <= b.start for a, b in pairwise(space))
        list(space)


@given(
    st.dictionaries(st.sampled_from(["vmas", "links", "mounted", "stat"]), st.binary(max_size=400)),
    st.sampled_from(["little", "big"]),
    st.sampled_from([Query(), Query(address=1), Query(where=Filter(shared=True))]),
)
@settings(max_examples=examples(500), deadline=None)
def test_arbitrary_bytes_are_malformed_or_read(streams: dict[str, bytes], byte_order: ByteOrder, query: Query) -> None:
    survives(byte_order, query, **streams)


@given(st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), max_size=6), st.integers(0, 3000), st.booleans())
@settings(max_examples=examples(500), deadline=None)
def test_damaged_capture_is_malformed_or_read(changes: list[tuple[int, int]], cut: int, records_only: bool) -> None:
    streams = dict(Capture.load(CAPTURE).streams)
    data = bytearray(streams["vmas"][: cut if cut < 2000 else None])
    for at, value in changes:
        if data:
            data[at % (min(len(data), SIZE * 3) if records_only else len(data))] = value
    survives(**{**streams, "vmas": bytes(data)})


@given(st.permutations(range(23)))
@settings(max_examples=examples(50), deadline=None)
def test_records_in_another_order_are_disordered(order: list[int]) -> None:
    streams = Capture.load(CAPTURE).streams
    space = BACKEND.decode(Capture.load(CAPTURE))
    data = stream([space[row] for row in order], "little")
    if order == sorted(order):
        assert decoded(vmas=data, links=streams["links"]) == space
    else:
        with pytest.raises(Disordered):
            decoded(vmas=data)


def test_recorded_capture_tells_the_program_that_it_is_of() -> None:
    space = BACKEND.decode(Capture.load(CAPTURE))
    assert len(space) == 23
    program = [region for region in space if region.path == "/tmp/atlas/child"]
    assert {region.build_id for region in program} == {bytes.fromhex("c13b164da8aed21fdac060dca2f8c57c95ef68ac")}
    assert {Kind.FILE, Kind.HEAP, Kind.STACK, Kind.VDSO, Kind.VVAR, Kind.GUARD} <= {region.kind for region in space}
    assert {region.page_size for region in space} == {4096}


class ProcmapQuery(ctypes.Structure):
    """struct procmap_query as include/uapi/linux/fs.h declares it, laid out by the C ABI."""

    _fields_ = (
        *((name, ctypes.c_uint64) for name in ("size", "query_flags", "query_addr", "vma_start", "vma_end")),
        *((name, ctypes.c_uint64) for name in ("vma_flags", "vma_page_size", "vma_offset", "inode")),
        *((name, ctypes.c_uint32) for name in ("dev_major", "dev_minor", "vma_name_size", "build_id_size")),
        *((name, ctypes.c_uint64) for name in ("vma_name_addr", "build_id_addr")),
    )


def test_layout_is_that_of_the_c_structure() -> None:
    assert ctypes.sizeof(ProcmapQuery) == SIZE == record("big").size == record("little").size
    for name, kind, offset in FIELDS:
        field = getattr(ProcmapQuery, name)
        assert (field.offset, field.size) == (offset, {"Q": 8, "I": 4}[kind])
    assert hex(PROCMAP_QUERY) == hex(3 << 30 | SIZE << 16 | ord("f") << 8 | 17)


def one(**changed: int) -> bytes:
    fields = {name: 0 for name, _, _ in FIELDS}
    fields |= {"size": SIZE, "vma_start": 0x1000, "vma_end": 0x2000, "vma_flags": 1, "vma_page_size": 4096}
    return record("little").pack(*{**fields, **changed}.values())


@pytest.mark.parametrize(
    ("data", "offset"),
    [
        (one()[:-1], 0),
        (one() + b"x", SIZE),
        (one(vma_name_size=3), SIZE),
        (one(size=96), 0),
        (one() + one(vma_start=0x2000, vma_end=0x3000, size=0), SIZE),
        (one(vma_name_size=3) + b"/ab", SIZE),
        (one(vma_name_size=3) + b"a\0\0", SIZE),
        (one(vma_name_size=2**32 - 1, build_id_size=2**32 - 1), SIZE),
    ],
)
def test_malformed_records_are_told_with_their_place(data: bytes, offset: int) -> None:
    with pytest.raises(MalformedData) as raised:
        decoded(vmas=data)
    assert (raised.value.stream, raised.value.offset) == ("vmas", offset)


def named(name: bytes, **changed: int) -> bytes:
    return one(vma_name_size=len(name) + 1, **changed) + name + b"\0"


def test_offset_beside_a_path_is_kept_where_no_device_is_told() -> None:
    region = decoded(vmas=named(b"/bin/x", vma_offset=0x9000))[0]
    assert (region.offset, region.device, region.inode, region.path) == (0x9000, None, None, "/bin/x")
    assert decoded(vmas=named(b"[heap]", vma_offset=0x9000))[0].offset is None


def test_record_of_no_bytes_is_left_out_and_said_to_be() -> None:
    space = decoded(vmas=one() + one(vma_start=0x3000, vma_end=0x3000) + one(vma_start=0x4000, vma_end=0x5000))
    assert [region.start for region in space] == [0x1000, 0x4000]
    assert "1 region of no bytes" in (space.incomplete or "")


def test_no_record_at_all_is_an_answer_to_a_question_for_some_and_not_for_all() -> None:
    assert len(decoded(vmas=b"", query=Query(address=4096))) == 0
    assert len(decoded(vmas=b"", query=Query(where=Filter(shared=True)))) == 0
    with pytest.raises(MalformedData):
        decoded(vmas=b"")
