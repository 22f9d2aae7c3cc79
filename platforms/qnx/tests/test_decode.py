"""The decoder is pure: what it accepts it gives back unchanged, and everything else is MalformedData."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas import Capture, Disordered, Kind, MalformedData, NoSuchProcess, SystemInfo, VmatlasError, replay
from vmatlas.conformance.thorough import examples
from vmatlas_qnx import MAPINFO, PAGEDATA, MapFlags, names
from vmatlas_qnx.flags import RESIDENCY
from vmatlas_qnx.layout import ENTRY, FIELDS, Entry, pack_entry, read_entries, read_info

from .recorded import FOLDER, PROCESSES, X86, captured, published, recorded, recorded_names

BIG = replace(X86, byte_order="big", machine="ppc")
WIDE = SystemInfo("qnx", "8.0.0", "", "x86_64", "little", 64, 4096)
WHOLE = (FOLDER / "own_pagedata.bin").read_bytes()


def entry(vaddr: int, size: int, flags: int = 0x1080302, dev: int = 2, offset: int = 0, ino: int = 1) -> Entry:
    return Entry(vaddr, size, flags, dev, offset, ino, 0)


def packed(*entries: Entry) -> bytes:
    return b"".join(map(pack_entry, entries))


def swapped(data: bytes) -> bytes:
    """The same entries in the other byte order, by the layout alone."""
    return b"".join(pack_entry(each, "big") for each in read_entries(data, "little"))


def test_layout_is_48_bytes_without_a_hole() -> None:
    ends = [at + {"Q": 8, "I": 4}[kind] for _, kind, at in FIELDS]
    assert [at for _, _, at in FIELDS] == [0, *ends[:-1]]
    assert ends[-1] == ENTRY == len(packed(entry(0, 0)))


@pytest.mark.parametrize("process", PROCESSES)
def test_big_endian_kernel_tells_the_same(process: str) -> None:
    little = recorded(process, "pagedata").streams["pagedata"]
    big = PAGEDATA.decode(captured("pagedata", swapped(little), system=BIG))
    assert len(big) > 5
    assert list(big) == list(PAGEDATA.decode(captured("pagedata", little)))


def test_names_in_both_byte_orders() -> None:
    for order in ("little", "big"):
        answer = (0x1000).to_bytes(8, order) + b"proc/boot/libc.so.3\0rubbish"
        assert names.unpack(names.pack(0xB0300000, 0, answer, order), order) == {0xB0300000: "/proc/boot/libc.so.3"}


def test_64_bit_kernel_may_have_entries_above_4_gib() -> None:
    data = packed(entry(0x7F_0000_0000, 0x4000), entry(0xFFFF_FFFF_0000_0000, 0x1000))
    space = MAPINFO.decode(captured("mapinfo", data, system=WIDE))
    assert [region.start for region in space] == [0x7F_0000_0000, 0xFFFF_FFFF_0000_0000]
    with pytest.raises(MalformedData, match="ends at or below 0x100000000"):
        MAPINFO.decode(captured("mapinfo", data))


def test_physical_address_of_newer_kernels_is_kept() -> None:
    data = packed(entry(0x1000, 0x1000)._replace(paddr=0xABC000))
    assert MAPINFO.decode(captured("mapinfo", data, system=WIDE))[0].details["paddr"] == 0xABC000


def test_unknown_flags_are_kept_and_shown() -> None:
    [region] = MAPINFO.decode(captured("mapinfo", packed(entry(0x1000, 0x1000, 0x1080302 | 1 << 31 | 8))))
    assert int(region.flags) == 0x1080302 | 1 << 31 | 8
    assert {"0x80000000", "0x8", "private", "SYSRAM"} <= set(region.flags.labels())


def test_sharing_is_one_field_and_not_two_flags() -> None:
    assert [MapFlags(bits).labels() for bits in range(4)] == [[], ["shared"], ["private"], ["privateanonymous"]]
    space = MAPINFO.decode(
        captured("mapinfo", packed(*(entry(0x1000 * (bits + 1), 0x1000, 0x1080300 | bits) for bits in range(4))))
    )
    assert [region.shared for region in space] == [False, True, False, False]


@given(st.integers(0, 2**32 - 1))
def test_every_flag_survives(bits: int) -> None:
    [region] = PAGEDATA.decode(captured("pagedata", packed(entry(0x1000, 0x1000, bits)))).entries()
    assert int(region.flags) == bits
    shown = sum(int(label, 16) for label in region.flags.labels() if label.startswith("0x"))
    assert shown & sum(MapFlags) == 0


def test_paths_that_differ_keep_neighbours_apart() -> None:
    shared = 0x1000311
    data = packed(entry(0x1000, 0x1000, shared, 3), entry(0x2000, 0x1000, shared, 3, 0x1000))
    assert len(MAPINFO.decode(captured("mapinfo", data))) == 1
    told = b"".join(
        names.pack(at, 0, bytes(8) + path, "little")
        for at, path in ((0x1000, b"/dev/shmem/a\0"), (0x2000, b"/dev/shmem/b\0"))
    )
    space = MAPINFO.decode(captured("mapinfo", data, mapdebug=told))
    assert [region.path for region in space] == ["/dev/shmem/a", "/dev/shmem/b"]


@pytest.mark.parametrize(
    "change",
    [{"flags": 0x1080102}, {"dev": 3}, {"ino": 2}, {"flags": 0x1080312}, {"vaddr": 0x3000}],
    ids=["protection", "device", "inode", "fixed", "gap"],
)
def test_neighbours_that_differ_in_more_than_residency_stay_apart(change: dict[str, int]) -> None:
    second = entry(0x2000, 0x1000)._replace(**change)
    assert len(MAPINFO.decode(captured("mapinfo", packed(entry(0x1000, 0x1000), second)))) == 2


def test_object_whose_offset_does_not_run_on_is_another_region() -> None:
    data = packed(entry(0x1000, 0x1000, 0x1000311, 3), entry(0x2000, 0x1000, 0x1000311, 3, 0x5000))
    assert len(MAPINFO.decode(captured("mapinfo", data))) == 2


def test_zombie_without_entries_is_no_such_process_and_the_kernel_is_empty() -> None:
    info = bytearray((FOLDER / "pid2_pci-bios_procinfo.bin").read_bytes())
    assert len(MAPINFO.decode(captured("mapinfo", b"", procinfo=bytes(info)))) == 0
    info[8] |= 0x8
    with pytest.raises(NoSuchProcess, match="zombie"):
        MAPINFO.decode(captured("mapinfo", b"", procinfo=bytes(info)))


def test_process_info_is_read() -> None:
    info = read_info((FOLDER / "pid40964_pipe_procinfo.bin").read_bytes(), "little")
    assert info is not None
    assert (info.pid, info.parent, info.is_kernel, info.is_zombie) == (40964, 1, False, False)
    assert info.start_time // 10**9 == 1795315868
    kernel = read_info((FOLDER / "pid1_procnto-instr_procinfo.bin").read_bytes(), "little")
    assert kernel is not None
    assert kernel.is_kernel
    assert read_info(b"short", "little") is None


@pytest.mark.parametrize(("size", "whole"), [(0, 0), (1, None), (47, None), (48, 1), (49, None), (96, 2)])
def test_stream_of_any_size_is_its_whole_entries_or_malformed(size: int, whole: int | None) -> None:
    capture = captured("mapinfo", WHOLE[:size])
    if whole is None:
        with pytest.raises(MalformedData, match="a whole entry of 48 bytes"):
            MAPINFO.decode(capture)
    else:
        assert len(MAPINFO.decode(capture).entries()) == whole


@pytest.mark.parametrize("rest", range(1, ENTRY))
def test_partial_last_entry_is_malformed(rest: int) -> None:
    with pytest.raises(MalformedData) as caught:
        MAPINFO.decode(captured("mapinfo", packed(entry(0x1000, 0x1000)) + WHOLE[:rest]))
    assert (caught.value.stream, caught.value.offset) == ("mapinfo", ENTRY)


@pytest.mark.parametrize(
    "second",
    [entry(0x1000, 0x1000), entry(0x1800, 0x1000), entry(0x800, 0x400), entry(0x3000, 0)],
    ids=["again", "overlap", "backward", "empty"],
)
def test_entries_out_of_order_are_disordered(second: Entry) -> None:
    with pytest.raises(Disordered) as caught:
        MAPINFO.decode(captured("mapinfo", packed(entry(0x1000, 0x1000), second)))
    assert caught.value.offset == ENTRY


def test_entry_that_wraps_is_malformed() -> None:
    with pytest.raises(MalformedData):
        MAPINFO.decode(captured("mapinfo", packed(entry(2**64 - 0x1000, 0x2000)), system=WIDE))


@pytest.mark.parametrize("cut", [1, 8, 15, 16, 17, 24, 25, 40])
def test_names_cut_short_are_malformed(cut: int) -> None:
    told = names.pack(0x1000, 0, bytes(8) + b"proc/boot/ls\0", "little")
    with pytest.raises(MalformedData):
        names.unpack(told + told[: min(cut, len(told) - 1)], "little")


def test_name_of_8_bytes_or_less_or_without_its_nul_is_malformed() -> None:
    for answer in (b"", bytes(8), bytes(8) + b"no end", bytes(8) + b"two\0ends\0"):
        head = (0x1000).to_bytes(8, "little") + bytes(4) + len(answer).to_bytes(4, "little")
        with pytest.raises(MalformedData):
            names.unpack(head + answer, "little")


@pytest.mark.parametrize(("errno", "path"), [(0, b"/dev/mem"), (0, b""), (6, b"")])
def test_last_answer_for_an_address_counts_when_it_tells_no_name(errno: int, path: bytes) -> None:
    """An agent sends the answers of each round; the map may have changed between two."""
    rounds = [(0, b"/dev/shmem/gone"), (errno, path)]
    told = [names.pack(0x1000, error, b"" if error else bytes(8) + name + b"\0", "little") for error, name in rounds]
    assert names.unpack(b"".join(told), "little") == {}
    assert names.unpack(b"".join(reversed(told)), "little") == {0x1000: "/dev/shmem/gone"}


def test_name_of_what_lay_there_in_an_earlier_round_is_not_given_to_anonymous_memory() -> None:
    told = names.pack(0x1000, 0, bytes(8) + b"/dev/shmem/gone\0", "little")
    [region] = MAPINFO.decode(captured("mapinfo", packed(entry(0x1000, 0x1000)), mapdebug=told))
    assert (region.kind, region.path) == (Kind.ANONYMOUS, None)


def test_name_that_was_refused_is_none() -> None:
    assert names.unpack(names.pack(0x1000, 6, b"", "little"), "little") == {}


def _check(capture: Capture) -> None:
    """Success, or MalformedData; never anything else."""
    try:
        space = PAGEDATA.decode(capture)
    except MalformedData:
        return
    assert all(region.start < region.end for region in space)
    assert sum(entry.size for entry in space.entries()) == space.total
    list(space.entries())


@given(st.binary(max_size=400), st.binary(max_size=100), st.sampled_from([X86, BIG, WIDE]))
@settings(max_examples=examples(300), deadline=None)
def test_any_bytes_decode_or_are_malformed(data: bytes, told: bytes, system: SystemInfo) -> None:
    _check(captured("pagedata", data, system=system, mapdebug=told))


@given(st.data())
@settings(max_examples=examples(300), deadline=None)
def test_damaged_recordings_decode_or_are_malformed(draw: st.DataObject) -> None:
    data, told = bytearray(WHOLE), bytearray(recorded_names())
    for stream in (data, told):
        for _ in range(draw.draw(st.integers(0, 4))):
            stream[draw.draw(st.integers(0, len(stream) - 1))] = draw.draw(st.integers(0, 255))
        del stream[draw.draw(st.integers(0, len(stream))) :]
    _check(captured("pagedata", bytes(data), mapdebug=bytes(told)))


@given(st.integers(0, 91 * ENTRY))
@settings(max_examples=examples(100), deadline=None)
def test_recording_cut_short_is_malformed_or_its_whole_entries(length: int) -> None:
    if length % ENTRY:
        with pytest.raises(MalformedData):
            PAGEDATA.decode(captured("pagedata", WHOLE[:length]))
    else:
        assert len(PAGEDATA.decode(captured("pagedata", WHOLE[:length])).entries()) == length // ENTRY


ANY_ENTRY = st.builds(
    Entry,
    vaddr=st.just(0),
    size=st.integers(1, 4).map(lambda pages: pages * 4096),
    flags=st.integers(0, 2**32 - 1),
    dev=st.integers(0, 5) | st.integers(0, 2**32 - 1),
    offset=st.integers(0, 2**64 - 1),
    ino=st.integers(0, 2) | st.integers(0, 2**64 - 1),
    paddr=st.integers(0, 2**64 - 1),
)


@given(st.lists(st.tuples(ANY_ENTRY, st.integers(0, 2)), max_size=12), st.sampled_from(["little", "big"]))
@settings(max_examples=examples(200), deadline=None)
def test_entries_in_order_are_all_there_with_any_flags_devices_and_sizes(
    made: list[tuple[Entry, int]], order: str
) -> None:
    entries, at = [], 0x1000
    for each, gap in made:
        at += gap * 4096
        entries.append(each._replace(vaddr=at))
        at += each.size
    system = replace(WIDE, byte_order="big" if order == "big" else "little")
    data = b"".join(pack_entry(each, system.byte_order) for each in entries)
    space = PAGEDATA.decode(captured("pagedata", data, system=system))
    own = space.entries()
    assert [(region.start, region.size, int(region.flags)) for region in own] == [
        (e.vaddr, e.size, e.flags) for e in entries
    ]
    assert [region.details["ino"] if e.ino < 2**64 - 1 else e.ino for region, e in zip(own, entries, strict=True)] == [
        e.ino for e in entries
    ]
    assert all(int(region.flags) & int(RESIDENCY) == 0 for region in space)
    assert all(a.end <= b.start for a, b in pairwise(space))


def test_saved_capture_is_replayed_by_name(tmp_path: object) -> None:
    from pathlib import Path

    place = Path(str(tmp_path)) / "own.zip"
    capture = recorded("own", "pagedata")
    capture.save(place)
    assert list(replay(Capture.load(place))) == list(PAGEDATA.decode(capture))


def test_published_example_is_one_region_a_mapping() -> None:
    space = PAGEDATA.decode(published())
    assert [region.kind for region in space] == [Kind.GUARD, Kind.STACK] * 5 + [
        Kind.FILE,
        Kind.FILE,
        Kind.HEAP,
        Kind.FILE,
        Kind.FILE,
    ]


def test_recorded_flags_are_all_named() -> None:
    for process in PROCESSES:
        for region in PAGEDATA.decode(recorded(process, "pagedata")).entries():
            assert not [label for label in region.flags.labels() if label.startswith("0x")]


def test_wrong_stream_names_what_is_there() -> None:
    with pytest.raises(VmatlasError, match="there are: other"):
        MAPINFO.decode(captured("other", b""))
