"""Guesses at the memory of allocators that take the place of malloc, and of a Go program, against what they say
themselves: where the blocks are that they handed out, and how much they took of the system.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import AddressSpace

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the rules know processes of Linux")

MALLOC = r"""
import ctypes, json
own = ctypes.CDLL(None)
own.malloc.restype, own.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
blocks = []
for size, count in ((100, 20000), (3000, 4000), (40000, 400), (300000, 60), (1500000, 20)):
    for _ in range(count):
        address = own.malloc(size)
        ctypes.memset(address, 1, size)
        blocks.append((address, size))
taken = ctypes.c_size_t()
if hasattr(own, "MallocExtension_GetNumericProperty"):
    assert own.MallocExtension_GetNumericProperty(b"generic.heap_size", ctypes.byref(taken))
print(json.dumps([blocks, taken.value]), flush=True)
input()
"""
"""76 MiB in blocks of all sizes; and what tcmalloc says that it took of the system."""

GO = r"""
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"unsafe"
)

var kept [][]byte

func main() {
	blocks := [][2]uintptr{}
	for number := 0; number < 2000; number++ {
		kept = append(kept, make([]byte, 50000))
		kept[number][number] = 1
		blocks = append(blocks, [2]uintptr{uintptr(unsafe.Pointer(&kept[number][0])), 50000})
	}
	var told runtime.MemStats
	runtime.ReadMemStats(&told)
	text, _ := json.Marshal([]any{blocks, told.HeapSys + told.StackInuse})
	fmt.Println(string(text))
	bufio.NewReader(os.Stdin).ReadString('\n')
}
"""


def seen(command: list[str], **environment: str) -> tuple[AddressSpace, list[tuple[int, int]], int]:
    """The map of a program that tells the blocks that it has, and the number that it says beside them."""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=os.environ | environment
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        told = process.stdout.readline()
        assert told, "the program ended before it told anything"
        space = vmatlas.snapshot(process.pid, threads=True)
        process.stdin.close()
        process.wait(PATIENCE)
    blocks, number = json.loads(told)
    return space, [(address, size) for address, size in blocks], number


def where(space: AddressSpace, blocks: Iterable[tuple[int, int]]) -> Counter[str]:
    """The bytes of the blocks by what their memory is called, by the kernel or by a guess."""
    guesses = vmatlas.name_regions(space)
    found: Counter[str] = Counter()
    for address, size in blocks:
        region = space.find(address)
        assert region is not None
        guess = guesses.get(region.start)
        found[region.label or (guess.group_label if guess else "nothing")] += size
    return found


def guessed(space: AddressSpace, group: str) -> int:
    """The bytes of a group."""
    guesses = vmatlas.name_regions(space)
    return sum(region.size for region in space if (guess := guesses.get(region.start)) and guess.group == group)


def library(name: str) -> str:
    """Where it is, on Debian and elsewhere."""
    folders = [Path("/usr/lib"), Path("/usr/lib64"), Path("/usr/local/lib"), *Path("/usr/lib").glob("*-linux-gnu*")]
    found = next((folder / name for folder in folders if (folder / name).exists()), None)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return str(found)


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("libjemalloc.so.2", "?jemalloc extent"),
        ("libmimalloc.so.2", "?mimalloc segment"),
        ("libmimalloc.so.2.0", "?mimalloc segment"),
    ],
)
def test_what_an_allocator_handed_out_lies_in_what_is_guessed_to_be_its(name: str, group: str) -> None:
    space, blocks, _ = seen([sys.executable, "-c", MALLOC], LD_PRELOAD=library(name))
    found = where(space, blocks)
    assert found[group] >= 0.98 * found.total(), found


@pytest.mark.parametrize("name", ["libtcmalloc_minimal.so.4", "libtcmalloc.so.4"])
def test_tcmalloc_has_what_it_handed_out_in_heap_and_where_it_gets_none_in_what_is_guessed(name: str) -> None:
    """Python has arenas of its own, of sizes that either may ask for: some of its are taken for Python's."""
    space, blocks, _ = seen([sys.executable, "-c", MALLOC], LD_PRELOAD=library(name))
    found = where(space, blocks)
    assert found["[heap]"] + found["?tcmalloc heap"] >= 0.98 * found.total(), found
    space, blocks, taken = seen([sys.executable, "-c", MALLOC], LD_PRELOAD=library(name), TCMALLOC_SKIP_SBRK="1")
    found = where(space, blocks)
    assert found["?tcmalloc heap"] >= 0.9 * found.total(), found
    assert 0.9 * taken <= guessed(space, "tcmalloc heap") <= 1.1 * taken


def test_a_go_program_has_its_heap_where_it_hands_out_blocks_and_no_more(tmp_path: Path) -> None:
    compiler = shutil.which("go")
    if compiler is None:
        pytest.skip("go is not installed")
    (tmp_path / "program.go").write_text(GO)
    built = subprocess.run(
        [compiler, "build", "-o", "program", "program.go"],
        cwd=tmp_path,
        env=os.environ | {"GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off", "GOFLAGS": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE * 5,
    )
    assert built.returncode == 0, built.stderr
    space, blocks, taken = seen([str(tmp_path / "program")])
    regions = {region for address, _ in blocks if (region := space.find(address)) is not None}
    if all(region.label == "[anon: Go: heap]" for region in regions):
        return  # Go 1.25 and newer, where the kernel takes names: it is no guess then
    found = where(space, blocks)
    assert set(found) == {"?Go heap"}, found
    assert taken <= guessed(space, "Go heap") <= taken + (4 << 20)
