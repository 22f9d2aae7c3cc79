"""The addresses of ELF files, held to what nm and addr2line say of programs that are compiled here."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from mmap import PAGESIZE
from pathlib import Path
from typing import NamedTuple

import pytest

import vmatlas
from vmatlas.cli.program import program as command_line
from vmatlas.conformance.patience import PATIENCE

SOURCE = """
#include <stdio.h>
#include <unistd.h>
int first[1024] = {1}, table[4] = {1, 2, 3, 4};
int zeros[100000];
const int fixed[4] = {5, 6, 7, 8};
static int one, two;
int *const relocated[] = {&one, &two};       /* .data.rel.ro: writable until it was relocated */
__attribute__((noinline)) int work(int x) { return x * 3 + 1; }
int main(void)
{
    printf("%p %p %p %p %p %p\\n", (void *)work, (void *)table, (void *)fixed, (void *)relocated, (void *)zeros,
           (void *)&zeros[99999]);
    fflush(stdout);
    getchar();
    return work(1) + first[0];
}
"""
SYMBOLS = ("work", "table", "fixed", "relocated", "zeros")
CC = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    CC is None or shutil.which("nm") is None, reason="no C compiler, or no nm, is installed here"
)
WAYS = {
    "pie": ["-pie", "-fPIE"],
    "no-pie": ["-no-pie", "-fno-pie"],
    "small-pages": ["-pie", "-fPIE", "-Wl,-z,max-page-size=4096"],
    "one-text-segment": ["-pie", "-fPIE", "-Wl,-z,noseparate-code"],
    "huge-pages": ["-pie", "-fPIE", "-Wl,-z,max-page-size=2097152"],
    "no-relro": ["-no-pie", "-fno-pie", "-Wl,-z,norelro"],
}


class Run(NamedTuple):
    """A program that waits; where its symbols are in memory, and in its file by nm."""

    pid: int
    binary: Path
    at: dict[str, int]
    own: dict[str, int]


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    started: list[subprocess.Popen[str]] = []

    def begin(way: str, *before: str) -> Run:
        (tmp_path / "sym.c").write_text(SOURCE)
        binary = tmp_path / way
        assert CC is not None
        built = subprocess.run(
            [CC, "-g", *WAYS[way], "-o", str(binary), str(tmp_path / "sym.c")], capture_output=True, text=True
        )
        if built.returncode:
            pytest.skip(f"the compiler here cannot link so: {built.stderr.splitlines()[-1]}")
        process = subprocess.Popen(
            [*before, str(binary)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
        )
        started.append(process)
        assert process.stdout is not None
        words = process.stdout.readline().split()
        at = {name: int(word, 16) for name, word in zip((*SYMBOLS, "last zero"), words, strict=True)}
        listed = subprocess.run(["nm", str(binary)], capture_output=True, text=True, check=True).stdout
        own = {words[2]: int(words[0], 16) for line in listed.splitlines() if len(words := line.split()) == 3}
        return Run(process.pid, binary, at, {name: own[name] for name in SYMBOLS})

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("way", WAYS)
def test_every_symbol_has_the_address_that_nm_tells(run: Callable[..., Run], way: str) -> None:
    there = run(way)
    with vmatlas.open(there.pid) as process:
        assert {name: process.elf_address(there.at[name]) for name in SYMBOLS} == there.own
        assert process.elf_address(there.at["last zero"]) == there.own["zeros"] + 4 * 99999
        assert process.elf_address(there.at["work"] + 3) == there.own["work"] + 3
        stack = next(region for region in process.snapshot() if region.kind is vmatlas.Kind.STACK)
        assert process.elf_address(stack.start) is None
        assert process.elf_address(0x10) is None


@pytest.mark.parametrize("way", ["pie", "no-pie"])
def test_every_file_backed_byte_of_the_program_is_where_its_segments_put_it(run: Callable[..., Run], way: str) -> None:
    """One load has one bias: so has each page of it, those that the file shows twice as well."""
    there = run(way)
    with vmatlas.open(there.pid) as process:
        regions = [region for region in process.snapshot() if region.path == str(there.binary)]
        told = {
            address: process.elf_address(address)
            for region in regions
            for address in (region.start, region.start + 8, region.end - 8, region.end - 1)
        }
    biases = {address - own for address, own in told.items() if own is not None}
    assert biases == {there.at["work"] - there.own["work"]}
    assert None not in told.values()


def test_find_tells_what_addr2line_takes(run: Callable[..., Run]) -> None:
    if shutil.which("addr2line") is None:
        pytest.skip("no addr2line is installed here")
    for way in ("pie", "no-pie"):
        there = run(way)
        command = [sys.executable, "-m", "vmatlas", "find", str(there.pid), f"{there.at['work']:x}"]
        told = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
        titles, cells = (line.split() for line in told.splitlines())
        address = dict(zip(titles, cells, strict=True))["ELF-ADDRESS"]
        resolved = subprocess.run(
            ["addr2line", "-f", "-e", str(there.binary), address], capture_output=True, text=True, check=True
        )
        assert resolved.stdout.splitlines()[0] == "work"


def test_a_library_has_addresses_too() -> None:
    import ctypes

    libc = ctypes.CDLL(None)
    address = ctypes.cast(libc.malloc, ctypes.c_void_p).value
    assert address is not None
    region = vmatlas.find(None, address)
    assert region is not None and region.path is not None
    listed = subprocess.run(["nm", "-D", region.path], capture_output=True, text=True, check=True).stdout
    own = {int(words[0], 16) for line in listed.splitlines() if (words := line.split())[-1].split("@")[0] == "malloc"}
    with vmatlas.open() as process:
        assert process.elf_address(address) in own


def test_every_file_that_this_process_has_mapped_lies_where_readelf_says() -> None:
    if shutil.which("readelf") is None:
        pytest.skip("no readelf is installed here")
    load = re.compile(r"^\s+LOAD\s+0x(\w+)\s+0x(\w+)\s+0x\w+\s+0x(\w+)", re.MULTILINE)
    biases: dict[str, set[int]] = {}
    with vmatlas.open() as process:
        for region in process.snapshot():
            if region.kind is not vmatlas.Kind.FILE or region.path is None or region.offset is None or region.deleted:
                continue
            told = subprocess.run(["readelf", "-lW", region.path], capture_output=True, text=True).stdout
            segments = [tuple(int(word, 16) for word in found.groups()) for found in load.finditer(told)]
            for address in (region.start, region.end - 1) if segments else ():
                own, place = process.elf_address(address, region), region.offset + address - region.start
                fitting = {
                    place - offset + start
                    for offset, start, size in segments
                    if offset - offset % PAGESIZE <= place < -(-(offset + size) // PAGESIZE) * PAGESIZE
                }
                # What keeps the place of a hole between two segments has no rights, and no address.
                is_hole = region.protection is vmatlas.Protection.NONE and own is None
                assert own in fitting or is_hole, (region, hex(address))
                if own is not None:
                    biases.setdefault(region.path, set()).add(address - own)
    assert biases
    assert not [path for path, found in biases.items() if len(found) > 1]


def test_a_deleted_program_is_read_as_what_is_mapped(run: Callable[..., Run]) -> None:
    there = run("pie")
    os.rename(there.binary, there.binary.with_suffix(".old"))
    os.unlink(there.binary.with_suffix(".old"))
    shutil.copy("/bin/true", there.binary)  # another file stands there now
    with vmatlas.open(there.pid) as process:
        told = process.elf_address(there.at["work"])
        region = process.find(there.at["work"])
    assert region is not None
    assert region.deleted
    assert told == there.own["work"]  # by map_files, or without the right to that by its exe


def test_a_pipe_at_the_path_is_not_waited_for(run: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    there = run("pie")
    os.unlink(there.binary)
    os.mkfifo(there.binary)
    monkeypatch.setattr("vmatlas.systems.linux.LinuxProcess.mapped_file", lambda *_: b"none")  # as if not allowed
    monkeypatch.setattr("vmatlas.systems.linux.files._PROGRAM", b"none")  # nor is it the program
    monkeypatch.setattr("vmatlas.systems.linux.files.Seen.is_of_map", lambda *_: True)  # were it of the same number
    with vmatlas.open(there.pid) as process:
        assert process.elf_address(there.at["work"]) is None


@pytest.mark.skipif(os.geteuid() != 0, reason="chroot takes root")
def test_a_program_in_another_root_is_read_there(tmp_path: Path) -> None:
    assert CC is not None
    (tmp_path / "sym.c").write_text(SOURCE)
    root = tmp_path / "root"
    root.mkdir()
    built = subprocess.run([CC, "-static", "-no-pie", "-o", str(root / "sym"), str(tmp_path / "sym.c")])
    if built.returncode:
        pytest.skip("no static C library is installed here")
    process = subprocess.Popen(["chroot", str(root), "/sym"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        work = int(process.stdout.readline().split()[0], 16)
        assert vmatlas.open(process.pid).elf_address(work) == work
    finally:
        process.kill()
        process.communicate()


def test_the_help_promises_what_is_true() -> None:
    import click

    found = command_line.get_command(click.Context(command_line), "find")
    assert found is not None and found.help is not None
    assert "ELF-ADDRESS" in found.help
    assert "FILE-OFFSET" in found.help
    assert "IN-FILE" not in found.help
