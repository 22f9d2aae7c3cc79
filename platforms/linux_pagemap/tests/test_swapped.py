"""Pages that lie in swap: told by page, and in sums, as the kernel has them. It takes a machine that has swap."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import PageState
from vmatlas.backend import PageSource
from vmatlas.conformance.patience import PATIENCE

from .test_own_pages import PAGE, layout_of, madvise, source, told_by

__all__ = ["source"]  # a fixture

PAGEOUT, GUARD_INSTALL = 21, 102
PAGES = 64
P, S = PageState.PRESENT, PageState.SWAPPED


def has_swap() -> bool:
    swaps = Path("/proc/swaps")
    return swaps.exists() and len(swaps.read_text().splitlines()) > 1


pytestmark = pytest.mark.skipif(not has_swap(), reason="this machine has no swap (/proc/swaps)")


def bits(start: int) -> list[PageState]:
    """Present (63) or swapped (62), by the entries of pagemap (Documentation/admin-guide/mm/pagemap.rst)."""
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        entries = struct.unpack(f"={PAGES}Q", os.pread(file.fileno(), 8 * PAGES, start // PAGE * 8))
    return [P if entry >> 63 else S if entry >> 62 & 1 else PageState.NONE for entry in entries]


def smaps_of(start: int) -> dict[str, int]:
    """The numbers of the region that begins there, in bytes (proc_pid_smaps(5))."""
    found: dict[str, int] = {}
    within = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if "-" in line.split()[0]:
            within = int(line.split("-")[0], 16) == start
        elif within and rest.endswith(" kB"):
            found[name] = int(rest.split()[0]) * 1024
    return found


@pytest.fixture
def memory() -> Iterator[int]:
    """Where 64 pages begin of which every second one was written, and sent to swap. A region of its own."""
    with mmap.mmap(-1, (PAGES + 2) * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        view = ctypes.c_char.from_buffer(made)
        start = ctypes.addressof(view) + PAGE
        for edge in (start - PAGE, start + PAGES * PAGE):  # so that no neighbour merges with it
            assert not ctypes.CDLL(None).mprotect(ctypes.c_void_p(edge), PAGE, 0)
        for page in range(0, PAGES, 2):
            made[(page + 1) * PAGE : (page + 1) * PAGE + 64] = os.urandom(64)
        until = time.monotonic() + PATIENCE
        while S not in bits(start):  # what is still in a batch of the processor's own is not taken
            assert time.monotonic() < until, "the kernel sends no page to swap"
            assert madvise(start, PAGES * PAGE, PAGEOUT)
            time.sleep(0.01)
        yield start
        del view


def test_each_page_is_in_memory_or_in_swap_as_the_kernel_says(memory: int, source: PageSource) -> None:
    expected = bits(memory)
    runs = told_by(source, P | S, memory, memory + PAGES * PAGE)
    assert bits(memory) == expected, "the kernel moved pages meanwhile"
    told = [PageState.NONE] * PAGES
    for first, last, state in layout_of(runs, memory):
        told[first:last] = [state] * (last - first)
    assert told == expected


def test_sums_of_a_region_and_of_the_process_are_the_kernels(memory: int) -> None:
    region = vmatlas.snapshot(residency=True).find(memory)
    told = smaps_of(memory)
    assert region is not None and region.memory is not None
    assert region.memory.swapped == told["Swap"] > 0
    assert region.memory.swapped_proportional == told["SwapPss"]
    assert region.memory.resident == told["Rss"]
    with vmatlas.open() as process:
        runs = process.pages(between=(region.start, region.end), of=P | S)
        assert (runs.bytes_of(S), runs.bytes_of(P)) == (told["Swap"], told["Rss"])
        whole = process.memory()
    assert whole.swapped is not None and whole.swapped >= told["Swap"]


def test_a_page_that_is_touched_again_is_in_memory_again(memory: int, source: PageSource) -> None:
    at = bits(memory).index(S)
    assert ctypes.string_at(memory + at * PAGE, 64) != bytes(64), "its content came back"
    runs = told_by(source, P | S, memory + at * PAGE, memory + (at + 1) * PAGE)
    assert layout_of(runs, memory) == [(at, at + 1, P)]


def test_shared_memory_in_swap_shows_nothing_and_smaps_alone_has_it(source: PageSource) -> None:
    """As the kernel tells it: neither way has a bit for it, so none is made up."""
    with mmap.mmap(-1, PAGES * PAGE, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS) as made:
        view = ctypes.c_char.from_buffer(made)
        start = ctypes.addressof(view)
        del view
        for page in range(PAGES):
            made[page * PAGE : page * PAGE + 64] = os.urandom(64)
        until = time.monotonic() + PATIENCE
        while not smaps_of(start).get("Swap"):
            assert time.monotonic() < until, "the kernel sends no shared page to swap"
            assert madvise(start, PAGES * PAGE, PAGEOUT)
            time.sleep(0.01)
        swapped = smaps_of(start)["Swap"]
        runs = told_by(source, P | S, start, start + PAGES * PAGE)
        assert (runs.bytes_of(S), runs.bytes_of(P)) == (0, PAGES * PAGE - swapped)
        region = vmatlas.snapshot(residency=True).find(start)
        assert region is not None and region.memory is not None and region.memory.swapped == swapped


def test_a_guard_has_the_bit_of_swap_and_is_none(memory: int) -> None:
    at = bits(memory).index(S)
    if not madvise(memory + at * PAGE, PAGE, GUARD_INSTALL):
        pytest.skip("this kernel makes no guards (MADV_GUARD_INSTALL)")
    with vmatlas.open() as process:
        try:
            guards = process.pages(between=(memory, memory + PAGES * PAGE), of=PageState.GUARD | S)
        except vmatlas.Unsupported as refused:
            pytest.skip(str(refused))
    assert guards.where(PageState.GUARD).total == PAGE
    assert guards.find(memory + at * PAGE) is not None
    assert guards.bytes_of(S) == bits(memory).count(S) * PAGE - PAGE
