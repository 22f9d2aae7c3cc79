"""Minidumps of Linux processes: the map that they hold is that of /proc/PID/maps, or they hold none and say so."""

from __future__ import annotations

import gzip
import struct
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import (
    Capture,
    Consistency,
    Kind,
    MalformedData,
    Protection,
    Unsupported,
    VmatlasError,
    operations,
    remains,
)
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas.conformance.thorough import examples
from vmatlas.files import minidump
from vmatlas.model.crash import Crash
from vmatlas_linux_procfs import BACKEND

from .core_files import truth
from .minidump_files import AMD64, ARM, ARM64, MACOS, MAPS, WINDOWS, X86, Dump, memory_info, recorded, whole

LLDB, CRASHPAD = "lldb-21-x86_64", "crashpad-0.14.0-x86_64"


def capture_of(content: bytes) -> Capture:
    found = remains.read_bytes(content, "dump", 0.0)
    assert found is not None
    return found


def crash_of(dump: Dump) -> Crash:
    return BACKEND.crash(capture_of(dump.made()))


def test_map_in_a_dump_of_lldb_is_that_of_the_process() -> None:
    space = vmatlas.replay(capture_of(recorded(LLDB)))
    assert list(space) == list(truth(LLDB))
    assert (space.pid, space.origin.name, space.system.page_size) == (24241, "mini", 4096)
    assert (space.consistency, space.incomplete) == (Consistency.FROZEN, None)
    assert [each.number for each in space.origin.threads or ()] == [24241, 24244, 24245]


def test_several_streams_of_one_type_are_all_seen() -> None:
    """lldb has an exception for each thread; the one that a signal went to may be any of them."""
    dump = whole()
    exception = next(row for row, (kind, _) in enumerate(dump.streams) if kind == 6)
    told = dump.streams.pop(exception)
    dump.exception(42, 19, 0x4C4C4442, 0x400010).exception(44, 19, 0x4C4C4442, 0x400010)
    dump.streams.append(told)
    dump.stream(0, b"nobody used it")
    crash = crash_of(dump)
    assert (crash.signal_name, crash.fault_address, crash.threads[0].number) == ("SIGSEGV", 0x18, 43)
    stopped = BACKEND.crash(capture_of(recorded(LLDB)))
    assert (stopped.signal, len(stopped.threads)) == (None, 3)


def test_dump_of_crashpad_holds_no_map_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "dump.dmp"
    path.write_bytes(recorded(CRASHPAD))
    with pytest.raises(Unsupported, match="holds no map"):
        vmatlas.replay(path)
    assert program.run(["maps", str(path)]) == Exit.UNSUPPORTED
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "holds no map" in printed.err
    assert "vmatlas explain" in printed.err


def test_dump_without_a_map_is_explained_by_its_modules(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = operations.explain(capture_of(recorded(CRASHPAD)))
    assert found.crash.fault_address == 0x7F16BCE0A123
    assert (found.crash.signal_name, found.fault, len(found.space)) == ("SIGSEGV", None, 0)
    assert [each.name for each in found.crash.modules][-2:] == ["libc.so.6", "ld-linux-x86-64.so.2"]
    assert found.crash.modules[0].build_id == bytes.fromhex("f1323e053e3e77a0f1ba90ca7032392ab3aaae4d")
    assert found.instruction is not None
    assert found.instruction.module is not None
    assert found.instruction.module.name == "/tmp/sample/bin/mini"
    assert found.threads[0].number == 24145
    assert "holds no map" in found.text
    assert "nothing is mapped" not in found.text
    path = tmp_path / "dump.dmp"
    path.write_bytes(recorded(CRASHPAD))
    assert program.run(["explain", str(path)]) == Exit.OK
    shown = capsys.readouterr().out
    assert shown.startswith("Process 24145 (mini) was stopped by SIGSEGV")
    assert "/tmp/sample/bin/mini" in shown


def test_exceptions_registers_are_those_of_the_crash() -> None:
    first, second = crash_of(whole()).threads
    assert (first.number, first.stack_pointer, first.program_counter) == (43, 0x600100, 0x400123)
    assert second.number == 42


@pytest.mark.parametrize("processor", [AMD64, ARM64, X86, ARM])
def test_two_registers_are_told_on_each_processor(processor: int) -> None:
    dump = Dump(processor=processor).threads((42, 0x600800, 0x400123)).stream(0x47670009, MAPS)
    (thread,) = crash_of(dump).threads
    assert (thread.stack_pointer, thread.program_counter) == (0x600800, 0x400123)
    found = capture_of(dump.made()).system
    assert found.pointer_width == (64 if processor in (AMD64, ARM64) else 32)


ADDRESSES = {
    "an access": ((11, 1, 0x18), 0x18, ""),
    "abort, where the same bytes are the sender": ((6, -6, 0x3E8000004D2), None, "SIGABRT is sent for none"),
    "kill": ((11, -1, 0x4D2), None, "sent by a process"),
    "no code beside it": ((11, 0, 0x45), None, "0x45 is an address or who sent the signal"),
    "no code beside what can be no number": ((11, 0, 0x7F5140000045), 0x7F5140000045, ""),
    "not canonical": ((11, 128, 0), None, "canonical"),
    "lldb's": ((11, 0x4C4C4442, 0x400123), None, "lldb writes the instruction's"),
}


@pytest.mark.parametrize("which", ADDRESSES)
def test_address_of_a_fault_is_told_where_it_is_one(which: str) -> None:
    told, address, why = ADDRESSES[which]
    crash = crash_of(Dump().threads((42, 1, 2)).exception(42, *told).stream(0x47670009, MAPS))
    assert crash.fault_address == address
    assert why in crash.no_address


def test_dump_that_the_program_asked_for_has_no_signal() -> None:
    for code in (-1, 0x43507378):
        assert crash_of(Dump().threads((42, 1, 2)).exception(42, code, 0, 0)).signal is None


def test_list_of_memory_serves_where_the_text_is_missing() -> None:
    told = memory_info([(0x1000, 0x1000, 0x20, 0x20000), (0x2000, 0x3000, 4, 0x40000), (0x8000, 0x1000, 1, 0x20000)])
    space = vmatlas.replay(capture_of(Dump().stream(16, told).made()))
    assert [(each.start, each.size, each.permissions) for each in space] == [
        (0x1000, 0x1000, "r-xp"),
        (0x2000, 0x3000, "rw-s"),
        (0x8000, 0x1000, "---p"),
    ]
    assert {(each.kind, each.path, each.offset, each.inode) for each in space} == {(Kind.OTHER, None, None, None)}
    assert "Windows' words" in (space.incomplete or "")
    both = Dump().stream(16, told).stream(0x47670009, MAPS)
    assert vmatlas.replay(capture_of(both.made()))[0].path == "/bin/x"


def test_rights_that_are_no_windows_rights_are_untold() -> None:
    (region,) = vmatlas.replay(capture_of(Dump().stream(16, memory_info([(0x1000, 0x1000, 3, 9)])).made()))
    assert (region.protection, region.shared) == (Protection.UNTOLD, None)


def test_compressed_dump_and_its_capture_give_the_same(tmp_path: Path) -> None:
    content = whole().made()
    (tmp_path / "dump.gz").write_bytes(gzip.compress(content))
    told = list(vmatlas.replay(tmp_path / "dump.gz"))
    assert told == list(vmatlas.replay(capture_of(content)))
    capture_of(content).save(tmp_path / "dump.vmatlas")
    assert list(vmatlas.replay(tmp_path / "dump.vmatlas")) == told
    assert operations.explain(tmp_path / "dump.vmatlas").text == operations.explain(capture_of(content)).text
    assert "a null pointer and an offset of 24" in operations.explain(capture_of(content)).text


def test_memory_of_a_dump_is_neither_kept_nor_its_environment() -> None:
    dump = whole().stream(5, b"secret" * 100).stream(0x47670007, b"TOKEN=secret\0")
    assert b"secret" not in b"".join(capture_of(dump.made()).streams.values())


@pytest.mark.parametrize(("platform", "name"), [(WINDOWS, "windows"), (MACOS, "macos"), (0x9999, "0x9999")])
def test_dump_of_another_system_is_refused_by_name(platform: int, name: str) -> None:
    with pytest.raises(Unsupported, match=name):
        capture_of(Dump(platform=platform).stream(0x47670009, MAPS).made())


def test_streams_that_overlap_are_refused_with_the_byte() -> None:
    content = bytearray(whole().made())
    at = struct.unpack_from("<I", content, 12)[0]
    _, _, offset = struct.unpack_from("<III", content, at)
    struct.pack_into("<I", content, at + 12 + 8, offset + 4)
    with pytest.raises(MalformedData, match="a stream behind that of type 0x7") as refused:
        capture_of(bytes(content))
    assert refused.value.offset == at + 12


def test_dump_without_the_word_of_its_system_is_refused() -> None:
    dump = whole()
    dump.streams = [each for each in dump.streams if each[0] != 7]
    with pytest.raises(MalformedData, match="which system's process"):
        capture_of(dump.made())


def test_dump_that_is_cut_tells_what_is_there_or_where_it_ends() -> None:
    content = whole().made()
    lines = MAPS.count(b"\n")
    for size in range(4, len(content), 17):
        try:
            space = vmatlas.replay(capture_of(content[:size]))
        except VmatlasError:
            continue
        assert len(space) < lines or space.incomplete is None or "cut" in space.incomplete, size
        assert len(space) == lines or "cut within its stream" in (space.incomplete or ""), size


@pytest.mark.parametrize(("at", "number"), [(8, 2**32 - 1), (8, 5000), (12, 2**32 - 1), (4, 7)])
def test_header_that_asks_for_too_much_is_refused_with_the_byte(at: int, number: int) -> None:
    content = bytearray(whole().made())
    struct.pack_into("<I", content, at, number)
    with pytest.raises(MalformedData):
        capture_of(bytes(content))


def test_billions_of_threads_or_modules_are_as_many_as_there_are() -> None:
    for kind in (3, 4):
        dump = Dump().stream(0x47670009, MAPS).stream(kind, struct.pack("<I", 2**32 - 1) + bytes(108))
        capture = capture_of(dump.made())
        assert "of the 4,294,967,295 entries" in (capture.incomplete or "")


def test_streams_of_more_than_is_read_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(minidump, "MOST_KEPT", 1000)
    with pytest.raises(MalformedData, match="that are read"):
        capture_of(whole().stream(3, bytes(2000)).made())


NUMBERS = st.one_of(st.integers(0, 64), st.sampled_from([2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
SOURCES = [recorded(LLDB)[:13000], recorded(CRASHPAD)[:9000], whole().made(), whole(X86).made(),
           Dump().stream(16, memory_info([(0x1000, 0x1000, 4, 0x20000)] * 3)).made()]  # fmt: skip


@settings(max_examples=examples(200), deadline=None)
@given(
    st.sampled_from(SOURCES),
    st.lists(st.tuples(st.integers(0, 20_000), NUMBERS), max_size=6),
    st.integers(0, 20_000),
)
def test_dump_of_any_numbers_gives_a_map_in_order_or_an_error_of_ours(
    content: bytes, changes: list[tuple[int, int]], cut: int
) -> None:
    damaged = bytearray(content)
    for place, number in changes:
        struct.pack_into("<I", damaged, place % (len(damaged) - 4), number)
    for piece in (bytes(damaged), bytes(damaged[:cut])):
        with suppress(VmatlasError):
            capture = remains.read_bytes(piece, "dump", 0.0)
            if capture is None:
                continue
            BACKEND.crash(capture)
            with suppress(VmatlasError):
                operations.explain(capture)
            assert vmatlas.replay(capture).columns.first_disorder() is None


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=300))
def test_pieces_of_any_bytes_are_read_or_refused(content: bytes) -> None:
    with suppress(MalformedData):
        minidump.read_minidump(minidump.Pieces(content))
