"""Names for addresses, held to what nm says of programs that are compiled here, whatever is left of their symbols."""

from __future__ import annotations

import ctypes
import lzma
import mmap
import os
import random
import re
import shutil
import struct
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from tests.conftest import unshared
from vmatlas import Protection, operations, symbolizing
from vmatlas.cli.program import program as command_line
from vmatlas.conformance.made_core import made_core, note
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples
from vmatlas.symbolizing import Symbolizer, symbolize_many
from vmatlas.symbols import jit
from vmatlas.symbols.jit import jit_names
from vmatlas.symbols.table import LONGEST_NAME, Sections, SymbolTable, _merged, build_id_of_head, reader_of, symbols_of
from vmatlas.values import replace

SOURCE = """
#include <stdio.h>
int table[4] = {1, 2, 3, 4};
__attribute__((noinline)) static int inner(int x) { return x * 3 + table[x & 3]; }
__attribute__((noinline)) int work(int x) { return inner(x) + 1; }
int main(void) { printf("%p\\n", (void *)work); fflush(stdout); getchar(); return work(1); }
"""
CC = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
TOOLS = all(map(shutil.which, ("nm", "objcopy", "strip")))
pytestmark = pytest.mark.skipif(CC is None or not TOOLS, reason="no C compiler, or no binutils, is installed here")


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("symbols")
    (folder / "program.c").write_text(SOURCE)
    command = [str(CC), "-O1", "-g", "-fPIE", "-pie", "-Wl,--build-id=sha1", "-rdynamic"]
    subprocess.run([*command, "-o", folder / "program", folder / "program.c"], check=True, timeout=PATIENCE)
    return folder / "program"


def needs_paths(path: Path) -> None:
    """Files are opened by paths, step by step, only where the kernel can be asked so (openat2, Linux 5.6)."""
    with vmatlas.open() as process:
        opens = process.opens_files()
        descriptor = None if opens is None else opens.own_file(os.fsencode(path))
    if descriptor is None:
        pytest.skip("this kernel, or its filter of system calls, opens no file step by step (openat2)")
    os.close(descriptor)


def tool(*words: object) -> str:
    return subprocess.run(list(map(str, words)), check=True, capture_output=True, text=True, timeout=PATIENCE).stdout


def told_by_nm(path: Path) -> dict[str, tuple[int, int]]:
    """Address and size of each function and object."""
    lines = re.findall(r"^([0-9a-f]+) ([0-9a-f]+) [tTdDbBrRwW] (\S+)$", tool("nm", "-S", path), re.MULTILINE)
    return {name: (int(address, 16), int(size, 16)) for address, size, name in lines}


def table_of(path: Path) -> SymbolTable:
    found = symbols_of(reader_of(path.read_bytes()))
    assert found is not None
    return found


def test_every_symbol_of_nm_is_found_at_each_of_its_bytes(program: Path) -> None:
    table, known = table_of(program), told_by_nm(program)
    assert table.source == ".symtab"
    assert {"work", "inner", "main", "table"} <= set(known)
    by_address: dict[int, set[str]] = {}
    for name, (address, _) in known.items():
        by_address.setdefault(address, set()).add(name)
    for address, size in known.values():
        for offset in {0, size // 2, size - 1}:
            found = table.find(address + offset)
            assert found is not None
            assert (found.offset, found.name in by_address[address]) == (offset, True)
    address, size = known["work"]
    beyond = table.find(address + size)
    assert beyond is None or beyond.name != "work"
    assert table.find(0) is None
    assert table.find(2**64 - 1) is None


def test_stripped_program_tells_what_others_may_use(program: Path, tmp_path: Path) -> None:
    stripped = tmp_path / "stripped"
    tool("strip", "-o", stripped, program)
    table, known = table_of(stripped), told_by_nm(program)
    assert table.source == ".dynsym"
    assert str(table.find(known["work"][0] + 1)) == "work+0x1"
    inner = table.find(known["inner"][0])
    assert inner is None or inner.name != "inner"


def test_small_table_that_is_packed_in_a_file_is_read(program: Path, tmp_path: Path) -> None:
    small, packed = tmp_path / "small", tmp_path / "packed"
    tool("objcopy", "--only-keep-debug", "-R", ".debug*", program, small)
    (tmp_path / "small.xz").write_bytes(lzma.compress(small.read_bytes()))
    tool("strip", "-o", packed, program)
    tool("objcopy", "--add-section", f".gnu_debugdata={tmp_path / 'small.xz'}", packed)
    table, known = table_of(packed), told_by_nm(program)
    assert table.source == ".gnu_debugdata"
    for name in ("work", "inner", "main"):
        assert str(table.find(known[name][0])) == f"{name}+0x0"


class Waiting:
    """A program that waits to be asked about."""

    def __init__(self, path: Path) -> None:
        self.process = subprocess.Popen([path], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        self.pid, self.work = self.process.pid, int(self.process.stdout.readline(), 16)

    def __enter__(self) -> Waiting:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


def test_function_of_a_process_is_named_from_its_file_and_of_a_stripped_one_from_its_debug_file(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = told_by_nm(program)
    inner = known["inner"][0] - known["work"][0]
    with Waiting(program) as run:
        first, second, third = symbolize_many(run.pid, [run.work + 2, run.work + inner, 0x10])
        assert (str(first), str(second), third) == ("work+0x2", "inner+0x0", None)
        assert first is not None
        assert (first.elf_address, first.source) == (known["work"][0] + 2, ".symtab")
        assert Path(first.file or "").name == "program"
    stripped = tmp_path / "stripped"
    tool("strip", "-o", stripped, program)
    build_id = Sections(reader_of(program.read_bytes())).build_id
    assert build_id is not None
    assert build_id_of_head(stripped.read_bytes()[:4096]) == build_id
    folder = tmp_path / "debug" / ".build-id" / build_id.hex()[:2]
    folder.mkdir(parents=True)
    monkeypatch.setattr(symbolizing, "DEBUG_FOLDERS", (str(tmp_path / "debug"),))
    with Waiting(stripped) as run:
        assert "inner" not in str(symbolize_many(run.pid, [run.work + inner])[0])
        debug = folder / f"{build_id.hex()[2:]}.debug"
        tool("objcopy", "--only-keep-debug", program, debug)
        (found,) = symbolize_many(run.pid, [run.work + inner])
        assert (str(found), found and found.source) == ("inner+0x0", "debug file")
        other = program.read_bytes().replace(build_id, bytes(len(build_id)))
        debug.write_bytes(other)  # somebody else's, under that name
        assert "inner" not in str(symbolize_many(run.pid, [run.work + inner])[0])


def test_unlinked_program_is_named_all_the_same(program: Path, tmp_path: Path) -> None:
    path = tmp_path / "gone"
    shutil.copy(program, path)
    with Waiting(path) as run:
        path.unlink()
        assert str(symbolize_many(run.pid, [run.work])[0]) == "work+0x0"


def test_many_addresses_are_named_as_each_alone(program: Path) -> None:
    needs_paths(program)
    space = vmatlas.snapshot()
    code = [each for each in space if each.kind is vmatlas.Kind.FILE and each.protection & Protection.EXECUTE]
    numbers = random.Random(1)
    addresses = [numbers.randrange(each.start, each.end) for each in code for _ in range(20)]
    with Symbolizer(space) as symbolizer:
        many = symbolizer.look_up(addresses)
        assert many == [symbolizer.look_up([address])[0] for address in addresses]
    with vmatlas.open() as process:
        assert [each.elf_address for each in many] == [process.elf_address(address) for address in addresses]
        with Symbolizer(process) as live:
            assert live.symbols(addresses) == [each.symbol for each in many]


def test_what_a_jit_wrote_for_perf_is_told(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    needs_paths(program)
    memory = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    view = ctypes.c_char.from_buffer(memory)
    address = ctypes.addressof(view)
    path = Path(f"/tmp/perf-{os.getpid()}.map")
    try:
        path.write_text(f"{address:x} 20 old\n0 zz\n{address:x} 40 LazyCompile:~f (x.js:1)\n{address + 64:x} 10 g\n")
        addresses = [address + 1, address + 64, address + 100]
        first, second, third = symbolize_many(None, addresses)
        assert (str(first), str(second), third) == ("LazyCompile:~f (x.js:1)+0x1", "g+0x0", None)
        assert first is not None
        assert (first.source, first.file, first.elf_address) == ("perf map", None, None)
        with vmatlas.open() as process, Symbolizer(process) as symbolizer:
            assert symbolizer.symbols(addresses)[1] is not None and symbolizer.why_no_jit_map is None
        os.utime(path, (0, psutil.Process().create_time() - 60))  # of one that had the number before
        with vmatlas.open() as process, Symbolizer(process) as symbolizer:
            assert symbolizer.symbols(addresses) == [None] * 3
            assert symbolizer.why_no_jit_map == (
                f"{path}: it was last written before the process started, so it is of another that had this number"
            )
        command_line.run(["find", "self", f"{addresses[0]:x}", "--symbol"])
        assert f"no names of {path}: it was last written before the process started" in capsys.readouterr().err
        if os.geteuid() == 0:
            os.chown(path, 65534, -1)
            os.utime(path)
            with vmatlas.open() as process, Symbolizer(process) as symbolizer:
                assert symbolizer.symbols(addresses) == [None] * 3
                assert "belongs neither to the user of the process nor to root" in (symbolizer.why_no_jit_map or "")
        path.unlink()
        path.symlink_to(__file__)  # nobody's but a link: not followed
        assert symbolize_many(None, addresses) == [None] * 3
    finally:
        path.unlink(missing_ok=True)
        del view
        memory.close()


OF_ANOTHER_ROOT = """
import pathlib, subprocess, sys, time, vmatlas
child = subprocess.Popen(["unshare", "--mount", "sh", "-c", "mount -t tmpfs none /tmp && echo && exec cat"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
child.stdout.readline()
stack = None
while stack is None:  # until cat runs
    stack = next((each for each in vmatlas.snapshot(child) if each.kind is vmatlas.Kind.STACK), None)
line = f"{stack.start:x} 1000 "
name = f"tmp/perf-{child.pid}.map"
pathlib.Path("/", name).write_text(line + "ours")
print(vmatlas.symbolize_many(child.pid, [stack.start])[0])
pathlib.Path(f"/proc/{child.pid}/root", name).write_text(line + "its_own")
print(vmatlas.symbolize_many(child.pid, [stack.start])[0])
child.communicate()
"""


def test_what_lies_in_our_root_under_a_number_is_not_of_a_process_with_a_root_of_its_own() -> None:
    told = unshared("--mount", 'mount -t tmpfs none /tmp && exec "$1" -c "$2"', OF_ANOTHER_ROOT)
    assert told == ["None", "its_own+0x0"]


def core_of(program: Path, *, with_page: bool = True) -> tuple[bytes, int]:
    """A core file with the program's first page, and where `work` lies in it."""
    base, head = 0x550000000000, program.read_bytes()
    lines = re.findall(r"LOAD +(0x\w+) (0x\w+) 0x\w+ (0x\w+) (0x\w+) (...)", tool("readelf", "-lW", program))
    loads, files = [], []
    for *numbers, rights in lines:
        offset, address, _, size = (int(each, 16) for each in numbers)
        start, end = (address & -4096) + base, ((address + size + 4095) & -4096) + base
        flags = 4 * ("R" in rights) + 2 * ("W" in rights) + ("E" in rights)
        loads.append((start, end - start, flags))
        files.append((start, end, offset // 4096))
    words = [len(files), 4096, *(number for each in files for number in each)]
    named = b"".join(number.to_bytes(8, "little") for number in words) + (os.fsencode(program) + b"\0") * len(files)
    status = bytearray(336)
    status[12] = status[0] = 11
    work = told_by_nm(program)["work"][0] + base
    status[112 + 128 : 112 + 136] = (work + 1).to_bytes(8, "little")
    status[32] = 7
    psinfo = bytearray(136)
    psinfo[24] = 7
    notes = b"".join(
        note(b"CORE", kind, bytes(content)) for kind, content in ((1, status), (3, psinfo), (0x46494C45, named))
    )
    content = bytearray(made_core(loads, notes))
    if with_page:
        first = 64 + 56  # the first of memory, behind the notes' program header
        content[first + 8 : first + 16] = len(content).to_bytes(8, "little")
        content[first + 32 : first + 40] = (4096).to_bytes(8, "little")
        content += head[:4096]
    return bytes(content), work


def test_function_in_a_core_is_named_where_the_same_file_lies_here(
    program: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = tmp_path / "program"
    shutil.copy(program, copy)
    needs_paths(copy)
    content, work = core_of(copy)
    core = tmp_path / "core"
    core.write_bytes(content)
    space = vmatlas.replay(core)
    build_id = Sections(reader_of(program.read_bytes())).build_id
    assert {each.build_id for each in space} == {build_id}
    (found,) = symbolize_many(space, [work + 2])
    assert (str(found), found and found.elf_address) == ("work+0x2", told_by_nm(program)["work"][0] + 2)
    told = operations.explain(core)
    assert "in work+0x1" in told.text
    assert told.instruction is not None
    assert told.instruction.elf_address == told_by_nm(program)["work"][0] + 1
    assert command_line.run(["find", str(core), f"{work:x}", "--symbol"]) == 0
    assert "work+0x0" in capsys.readouterr().out
    copy.write_bytes(copy.read_bytes().replace(build_id or b"?", bytes(20)))  # another file at that path
    assert symbolize_many(space, [work]) == [None]
    assert "work+0x1" not in operations.explain(core).text
    assert command_line.run(["find", str(core), f"{work:x}", "--symbol"]) == 0
    assert "another file lies at that path here" in capsys.readouterr().err


def test_file_that_a_core_does_not_identify_is_not_opened(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content, work = core_of(program, with_page=False)
    (tmp_path / "core").write_bytes(content)
    space = vmatlas.replay(tmp_path / "core")
    opened: list[bytes] = []
    monkeypatch.setattr("vmatlas.systems.linux.LinuxProcess.own_file", lambda _, path: opened.append(path))
    with Symbolizer(space) as symbolizer:
        (place,) = symbolizer.look_up([work])
        assert place.region is not None
        assert (place.symbol, place.elf_address, opened) == (None, None, [])
        assert "neither its build id" in (symbolizer.why_not(place.region) or "")


def test_pipe_at_the_path_of_a_core_is_not_opened(program: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "program"
    shutil.copy(program, pipe)
    content, work = core_of(pipe)
    (tmp_path / "core").write_bytes(content)
    pipe.unlink()
    os.mkfifo(pipe)
    assert symbolize_many(vmatlas.replay(tmp_path / "core"), [work]) == [None]  # and no waiting for a writer


def test_names_in_a_process_are_told_by_the_command(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Waiting(program) as run:
        assert command_line.run(["find", str(run.pid), f"{run.work + 1:x}", "--symbol", "--json"]) == 0
        assert '"name": "work"' in capsys.readouterr().out
    assert command_line.run(["find", "self", "1", "--symbol", "--neighbours"]) == 2
    assert command_line.run(["find", "1", "1", "--symbol", "--target", "ssh:nowhere"]) == 2


NUMBERS = st.one_of(st.integers(0, 64), st.sampled_from([2**31, 2**32 - 1]), st.integers(0, 2**32 - 1))
OWN = Path(sys.executable).resolve()


def test_table_of_more_symbols_than_are_read_is_told_and_not_read(
    program: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vmatlas.symbols.table.MOST_SYMBOLS", 3)
    with Waiting(program) as run:
        assert command_line.run(["find", str(run.pid), f"{run.work:x}", "--symbol"]) == 0
    assert re.search(r"no symbols of \S+: it has \d+, more than are read", capsys.readouterr().err)


def test_sections_of_a_file_are_read_once(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []

    class Counted(Sections):
        def __init__(self, read: Callable[[int, int], bytes]) -> None:
            made.append(read)
            super().__init__(read)

    monkeypatch.setattr(symbolizing, "Sections", Counted)
    monkeypatch.setattr("vmatlas.symbols.table.Sections", Counted)
    with Waiting(program) as run:
        assert str(symbolize_many(run.pid, [run.work])[0]) == "work+0x0"
    assert len(made) == 1


@settings(max_examples=examples(150), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 40_000), NUMBERS), max_size=8), st.integers(0, 40_000), st.data())
def test_file_of_any_numbers_gives_symbols_or_none(
    changes: list[tuple[int, int]], cut: int, data: st.DataObject
) -> None:
    content = bytearray(SAMPLE)
    for place, number in changes:
        at = place % (len(content) - 4)
        content[at : at + 4] = number.to_bytes(4, "little")
    for each in (bytes(content), bytes(content[:cut])):
        with suppress(OSError):
            table = symbols_of(reader_of(each))
            if table is not None:
                table.find_many([0, 1, 0x1000, 2**64 - 1, data.draw(st.integers(0, 2**64 - 1))])
            assert Sections(reader_of(each)).build_id is None or len(Sections(reader_of(each)).build_id or b"") <= 64
        build_id_of_head(each[:4096])


@settings(max_examples=examples(100), deadline=None)
@given(st.binary(max_size=200))
def test_jit_map_of_any_bytes_is_read(content: bytes) -> None:
    jit_names(reader_of(content), len(content), [0, 1, 2**64 - 1])


def elf(sections: list[tuple[int, int, int, int, int]], contents: bytes, *, entry: int = 64) -> bytes:
    """An ELF file for x86-64: sections (name, type, offset, size, link), then what they hold; section 1 has names."""
    head = struct.pack(
        "<4s12BHHIQQQIHHHHHH", b"\x7fELF", 2, 1, 1, *[0] * 9, 3, 62, 1, 0, 0, 64, 0, 64, 0, 0, entry, 0, 1
    )
    first = (0, 0, 0, len(sections) + 1, 1)  # more than the head can tell stand here
    rows = [
        struct.pack("<IIQQQQIIQQ", name, kind, 0, 0, at, size, link, 0, 0, 0)
        for name, kind, at, size, link in (first, *sections)
    ]
    return head + b"".join(row.ljust(entry, b"\0") for row in rows) + contents


def most_memory(ask: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        ask()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_names_of_sections_that_share_their_bytes_cost_no_more_than_sections() -> None:
    """65,000 sections that are all called by one MiB have 64 GiB of names."""
    count = 1000
    content = elf([], b"")
    at = len(content) + 64 * count
    content = elf([(0, 1, at, 1 << 20, 0)] * count, b"x" * (1 << 20))
    sections: list[Sections] = []
    assert most_memory(lambda: sections.append(Sections(reader_of(content)))) < 4 << 20
    assert len(sections[0].all) == count + 1 and {len(each.name) for each in sections[0].all[1:]} == {64}


def test_headers_and_notes_have_a_limit() -> None:
    """What they claim costs nobody anything to claim: a file may be all holes."""
    asked: list[int] = []

    def reads(content: bytes) -> Callable[[int, int], bytes]:
        def read(offset: int, size: int) -> bytes:
            asked.append(size)
            return content[offset : offset + size]

        return read

    Sections(reads(elf([(0, 1, 0, 0, 0)] * 1000, b"", entry=65_535)))
    assert max(asked) <= 64, "of each 65,535 bytes"
    note = struct.pack("<III", 4, 4, 3) + b"GNU\0" + b"idid"
    at = len(elf([(0, 7, 0, 0, 0)] * 1001, b""))
    zeros = [(0, 7, at + len(note), 60_000, 0)] * 1000
    content = elf([*zeros, (0, 7, at, len(note), 0)], note + bytes(60_000))
    asked.clear()
    assert Sections(reads(content)).build_id == b"idid"
    assert sum(size for size in asked if size == 60_000) < 1 << 17, "of all notes"


def test_names_of_two_tables_in_one_are_not_copied() -> None:
    """A million symbols called by one name of 64 KiB have 64 GiB of names."""
    count = 1000
    rows = list(range(1, count + 1))
    long = b"\0" + b"x" * LONGEST_NAME + b"\0"
    tables = [SymbolTable(rows, [row + 1 for row in rows], [1] * count, long, source) for source in ("a", "b")]
    tables[1] = SymbolTable([7, 5000], [8, 5001], [1, 3], b"\0q\0other\0", ".dynsym")
    merged: list[SymbolTable] = []
    assert most_memory(lambda: merged.append(_merged(*tables))) < 4 << 20
    found = [each and each.name[:9] for each in merged[0].find_many([7, 1, 5000, 6000])]
    assert found == ["x" * 9, "x" * 9, "other", None]


def perf_map(count: int) -> bytes:
    """Short lines of functions of 16 bytes; of each tenth the code was made anew."""
    lines = [b"%x 10 f%d\n" % (0x1000 + 16 * row, row) for row in range(count)]
    return b"".join(lines + [b"0x%x 0x8 g%d\n" % (0x1000 + 16 * row, row) for row in range(0, count, 10)])


@pytest.mark.parametrize("piece", [1, 7, 64, 1 << 16])
def test_the_last_line_that_holds_an_address_counts_however_the_file_is_read(
    monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    monkeypatch.setattr(jit, "_PIECE", piece)
    content = perf_map(50)
    found = jit_names(reader_of(content), len(content), [0x1000, 0x1008, 0x1010, 0x101F, 0x10A1, 0x9999, 0xFFF])
    told = {address: str(symbol) for address, symbol in found.items()}
    assert told == {0x1000: "g0+0x0", 0x1008: "f0+0x8", 0x1010: "f1+0x0", 0x101F: "f1+0xf", 0x10A1: "g10+0x1"}
    assert {(each.source, each.file, each.elf_address) for each in found.values()} == {("perf map", None, None)}


def test_lines_that_hold_nothing_that_is_asked_for_cost_no_memory() -> None:
    content = perf_map(100_000)
    tracemalloc.start()
    try:
        found = jit_names(reader_of(content), len(content), [0x1000 + 16 * 5])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert str(found[0x1050]) == "f5+0x0"
    assert len(content) > 1_500_000 and most < 4_000_000  # one piece of it with its lines


def test_no_more_of_it_is_read_than_is_stated(monkeypatch: pytest.MonkeyPatch) -> None:
    content = perf_map(1000)
    asked = [0x1000 + 16, 0x1000 + 16 * 999]
    monkeypatch.setattr(jit, "_PIECE", 64)
    read = []

    def reads(offset: int, size: int) -> bytes:
        read.append((offset, size))
        return content[offset : offset + size]

    assert set(jit_names(reads, len(content), asked[1:])) == {asked[1]}
    assert min(read)[0] > len(content) // 2, "no further than to what is asked for"
    for name, most in (("LARGEST", len(content) // 2), ("MOST_LINES", 500)):
        with monkeypatch.context() as limited:
            limited.setattr(jit, name, most)
            assert set(jit_names(reader_of(content), len(content), asked)) == {asked[1]}


def test_numbers_of_a_perf_map_are_read_as_perf_reads_them() -> None:
    content = (
        b"00007F9A2595F000 4F void [System.Private.CoreLib] System.Foo::Bar()[Tier0]\n"
        b"0X1000 0XA capital\n  2000 8  blanks\n3000\t8\ttab\nno line\n4000 8\n"
    )
    asked = [0x7F9A2595F04E, 0x1009, 0x2000, 0x3000, 0x4000, 0x7F9A2595F04F]
    found = jit_names(reader_of(content), len(content), asked)
    assert [str(found.get(each)) for each in asked] == [
        "void [System.Private.CoreLib] System.Foo::Bar()[Tier0]+0x4e",
        "capital+0x9",
        " blanks+0x0",
        "tab+0x0",
        "None",
        "None",
    ]


def test_a_name_without_an_end_is_none() -> None:
    long, longest = b"x" * (LONGEST_NAME + 1), b"y" * LONGEST_NAME
    content = b"1000 10 before\n2000 10 " + long + b"\n3000 10 " + longest + b"\n4000 10 " + long * 5 + b"\n5000 8 z"
    found = jit_names(reader_of(content), len(content), [0x1000, 0x2000, 0x3000, 0x4000, 0x5000])
    assert {address: symbol.name for address, symbol in found.items()} == {
        0x1000: "before",
        0x3000: longest.decode(),
        0x5000: "z",
    }
    table = SymbolTable([1, 5], [4, 8], [0, len(long) + 1], long + b"\0" + longest + b"\0", ".symtab")
    assert [each and each.name for each in table.find_many([1, 5])] == [None, longest.decode()]


def _sample() -> bytes:
    """Of a small ELF file, with what the tests change."""
    import _ctypes

    return Path(_ctypes.__file__).read_bytes() if hasattr(_ctypes, "__file__") else OWN.read_bytes()[:40_000]


SAMPLE = _sample()


def test_numbers_of_a_file_on_another_machine_are_no_proof(program: Path) -> None:
    needs_paths(program)
    with Waiting(program) as run:
        space = vmatlas.snapshot(run.pid)
        assert str(symbolize_many(space, [run.work])[0]) == "work+0x0"
        for origin in (
            replace(space.origin, target="ssh:elsewhere"),
            replace(space.origin, time=1.0),  # before the file was written
        ):
            assert symbolize_many(vmatlas.AddressSpace(space.columns, origin), [run.work]) == [None]
