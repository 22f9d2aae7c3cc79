"""Core files of FreeBSD: made after two real ones (11.0 i386, 11.1 amd64) with the records that a 13.2 kernel gave."""

from __future__ import annotations

import re
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import Capture, Consistency, Kind, MalformedData, Unsupported, VmatlasError, operations, remains
from vmatlas.conformance.made_core import made_core, note
from vmatlas.conformance.thorough import examples
from vmatlas_freebsd import SYSCTL

from .test_recorded import CAPTURES, NAMES, by_sysctl

COUNTER, POINTER = 0x202123, 0x7FFFFFFFE800


def records(name: str) -> bytes:
    return (CAPTURES / f"{name}.vmmap.bin").read_bytes()


def status(thread: int, signal: int, bits: int = 64, machine: int = 62) -> bytes:
    """A prstatus_t with two registers."""
    content = bytearray(400)
    signal_at, _, registers = (36, 40, 48) if bits == 64 else (20, 24, 28)
    struct.pack_into("<ii", content, signal_at, signal, thread)
    counter, pointer = (136, 160) if machine == 62 else (52, 64)
    size = 8 if bits == 64 else 4
    for at, value in ((counter, COUNTER), (pointer, POINTER & (256**size - 1))):
        content[registers + at : registers + at + size] = (value & (256**size - 1)).to_bytes(size, "little")
    return note(b"FreeBSD", 1, bytes(content))


def lwp(signal: int, code: int, address: int) -> bytes:
    """A ptrace_lwpinfo, behind its size."""
    content = bytearray(164)
    struct.pack_into("<ii", content, 0, 160, 100)
    struct.pack_into("<iii", content, 52, signal, 0, code)
    struct.pack_into("<Q", content, 76, address)
    return note(b"FreeBSD", 17, bytes(content))


def process(pid: int, bits: int = 64) -> bytes:
    content = bytearray(4 + 1088)
    struct.pack_into("<i", content, 4 + (72 if bits == 64 else 40), pid)
    return note(b"FreeBSD", 8, bytes(content))


def vmmap(content: bytes) -> bytes:
    return note(b"FreeBSD", 10, struct.pack("<i", 1160) + content)


def notes(name: str, bits: int = 64, machine: int = 62) -> bytes:
    pair = "<QQQQ" if bits == 64 else "<IIII"
    info = bytearray(16 if bits == 64 else 8)
    return b"".join(
        (
            note(b"FreeBSD", 3, bytes(info) + b"mapper".ljust(17, b"\0") + b"mapper -x".ljust(81, b"\0") + bytes(12)),
            status(100, 11, bits, machine),
            note(b"FreeBSD", 2, bytes(512)),
            lwp(11, 1, 0x18),
            status(101, 0, bits, machine),
            process(53, bits),
            note(b"FreeBSD", 9, b"TOKEN=secret"),
            vmmap(records(name)),
            note(b"FreeBSD", 14, struct.pack("<ii", 4, 1302001)),
            note(b"FreeBSD", 16, struct.pack("<i", 16) + struct.pack(pair, 6, 4096, 0, 0)),
        )
    )


def capture_of(content: bytes) -> Capture:
    found = remains.read_bytes(content, "core", 1.0)
    assert found is not None
    return found


WITH_REGIONS = [name for name in NAMES if name not in ("pid0",)]


@pytest.mark.parametrize("name", WITH_REGIONS)
def test_map_in_a_core_is_what_the_kernel_told_of_the_process(name: str) -> None:
    """The records begin at byte 4 of the note, so they are not aligned to 8."""
    space = vmatlas.replay(capture_of(made_core([(0x200000, 4096, 4)], notes(name), os_abi=9)))
    assert list(space) == list(by_sysctl(name))
    assert (space.pid, space.origin.name, space.system.release) == (53, "mapper", "13.2")
    assert (space.consistency, space.incomplete) == (Consistency.FROZEN, None)
    assert [each.number for each in space.origin.threads or ()] == [100, 101]


def test_core_of_a_32_bit_process_has_the_same_records() -> None:
    content = made_core([(0x400000, 4096, 4)], notes("i386", 32, 3), bits=32, machine=3, os_abi=9)
    space = vmatlas.replay(capture_of(content))
    assert list(space) == list(by_sysctl("i386"))
    assert (space.pid, space.system.machine, space.system.pointer_width) == (53, "i386", 32)
    crash = SYSCTL.crash(capture_of(content))
    assert (crash.signal_name, crash.threads[0].program_counter) == ("SIGSEGV", COUNTER)
    assert crash.fault_address is None  # the layout of that note is known of 64 bits alone


def test_zeros_behind_the_records_end_them() -> None:
    whole = notes("mapper").replace(vmmap(records("mapper")), vmmap(records("mapper") + bytes(40)))
    assert list(vmatlas.replay(capture_of(made_core([], whole)))) == list(by_sysctl("mapper"))


def test_core_without_its_map_tells_its_memory_and_what_is_missing() -> None:
    whole = notes("mapper").replace(vmmap(records("mapper")), b"")
    space = vmatlas.replay(capture_of(made_core([(0x200000, 4096, 4), (0x300000, 8192, 6)], whole)))
    assert [(each.start, each.end, each.permissions, each.kind) for each in space] == [
        (0x200000, 0x201000, "r--?", Kind.OTHER),
        (0x300000, 0x302000, "rw-?", Kind.OTHER),
    ]
    assert "leave out what has no rights" in (space.incomplete or "")
    crash = SYSCTL.crash(capture_of(made_core([(0x200000, 4096, 4)], whole)))
    assert "memory that was not written is left out" in crash.left_out
    assert not SYSCTL.crash(capture_of(made_core([(0x200000, 4096, 4)], notes("mapper")))).left_out


ADDRESSES = {
    "an access": ((11, 1, 0x18), 0x18, ""),
    "not canonical": ((10, 3, COUNTER), None, "canonical"),
    "kill": ((11, 0x10001, 0x18), None, "by a process"),
    "abort": ((6, 0x10007, 0), None, "SIGABRT is sent for none"),
}


@pytest.mark.parametrize("which", ADDRESSES)
def test_address_of_a_fault_is_told_where_it_is_one(which: str) -> None:
    told, address, why = ADDRESSES[which]
    crash = SYSCTL.crash(capture_of(made_core([], notes("mapper").replace(lwp(11, 1, 0x18), lwp(*told)))))
    assert crash.fault_address == address
    assert why in crash.no_address


def test_crash_is_explained_from_a_core() -> None:
    found = operations.explain(capture_of(made_core([], notes("mapper"))))
    assert "was stopped by SIGSEGV in thread 100" in found.text
    assert "a null pointer and an offset of 24" in found.text
    assert [each.number for each in found.threads] == [100, 101]


def test_open_files_and_registers_of_a_core_are_not_kept(tmp_path: Path) -> None:
    capture = capture_of(made_core([], notes("mapper")))
    assert not any(b"secret" in content for content in capture.streams.values())
    capture.save(tmp_path / "core.vmatlas")
    assert list(vmatlas.replay(tmp_path / "core.vmatlas")) == list(by_sysctl("mapper"))
    with pytest.raises(Unsupported):
        SYSCTL.crash(vmatlas.Capture.load(CAPTURES / "init-sysctl.vmatlas"))


@settings(max_examples=examples(150), deadline=None)
@given(
    st.sampled_from(("mapper", "i386")),
    st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 2**32 - 1)), max_size=6),
    st.integers(0, 20_000),
)
def test_core_of_any_numbers_gives_a_map_in_order_or_an_error_of_ours(
    name: str, changes: list[tuple[int, int]], cut: int
) -> None:
    content = bytearray(made_core([(0x200000, 4096, 4)], notes(name)))
    for place, number in changes:
        struct.pack_into("<I", content, place % (len(content) - 4), number)
    for each in (bytes(content), bytes(content[:cut])):
        with suppress(VmatlasError):
            capture = remains.read_bytes(each, "core", 0.0)
            if capture is None:
                continue
            with suppress(VmatlasError):
                SYSCTL.crash(capture)
            assert vmatlas.replay(capture).columns.first_disorder() is None


PROCSTATS = {"mapper-external.procstat.txt": "mapper-external", "plain-sleep.procstat.txt": "plain-sleep"}


@pytest.mark.parametrize("text", PROCSTATS)
def test_what_procstat_prints_is_read_back(text: str) -> None:
    space, known = vmatlas.replay(CAPTURES / text), by_sysctl(PROCSTATS[text])
    for ours, theirs in zip(space, known, strict=True):
        assert (ours.start, ours.end, ours.protection, ours.path) == (
            theirs.start,
            theirs.end,
            theirs.protection,
            theirs.path,
        )
        assert ours.details.get("type") == theirs.details.get("type")
        assert ours.kind is theirs.kind or (ours.kind is Kind.OTHER and ours.details["type"] == "swap")
        assert (ours.offset, ours.device, ours.inode) == (None, None, None)
        assert ours.shared in (theirs.shared, None)
    assert [each.resident for each in space] == [each.resident for each in known]
    assert space.pid in (53, 46)
    assert "neither offsets" in (space.incomplete or "")


def test_old_procstat_calls_the_column_of_flags_fl_and_has_two_letters() -> None:
    content = (CAPTURES / "plain-sleep.procstat.txt").read_bytes()
    old = re.sub(rb"(0x[0-9a-f]+ [rwx-]{3}(?: +\d+){4} [A-Z-]{2})[A-Z-]+", rb"\1", content).replace(b"FLAG ", b"FL")
    assert old != content
    told, known = vmatlas.replay(capture_of(old)), vmatlas.replay(capture_of(content))
    assert [each[:7] for each in told] == [each[:7] for each in known]


def test_odd_line_of_procstat_is_an_error_with_the_byte_or_counted() -> None:
    content = (CAPTURES / "plain-sleep.procstat.txt").read_bytes()
    odd = content.replace(b"   46     0x3c56d707b000", b"-- more --\n   46     0x3c56d707b000")
    with pytest.raises(MalformedData) as refused:
        capture_of(odd)
    assert refused.value.offset == odd.index(b"-- more")
    found = remains.read_bytes(odd, "text", 0.0, lenient=True)
    assert found is not None
    assert "1 odd line was passed over (the first: line 3)" in (found.incomplete or "")
    assert len(vmatlas.replay(found)) == len(vmatlas.replay(capture_of(content)))
    with pytest.raises(Unsupported, match="several processes"):
        capture_of(content + content.split(b"\n")[1].replace(b"   46", b"   47") + b"\n")
