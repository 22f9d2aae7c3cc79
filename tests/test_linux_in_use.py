"""What counts as memory in use, and whose: huge pages, and memory that one process maps several times."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="these are numbers of Linux")

HUGE = 2 << 20

IN_HUGE_PAGES = """
import mmap, os, sys
pages = mmap.mmap(-1, 2 << 21, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x40000)  # MAP_HUGETLB
pages[0] = pages[1 << 21] = 1
if sys.argv[1] == "forked" and os.fork() == 0:
    sys.stdin.read()
    os._exit(0)
print("there", flush=True)
sys.stdin.read()
"""
MAPPED_THRICE = """
import mmap, os, sys
file = os.memfd_create("heap")
os.ftruncate(file, 1 << 20)
maps = [mmap.mmap(file, 1 << 20) for _ in range(3)]
for each in maps:
    for at in range(0, 1 << 20, 4096):
        each[at] = 1
print("there", flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def running(program: str, *arguments: str) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", program, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None and process.stdout is not None
        try:
            if process.stdout.readline() != "there\n":
                pytest.skip("the program could not map what it is about (huge pages that others took meanwhile)")
            yield process.pid
        finally:
            process.stdin.close()
            process.wait(PATIENCE)


def huge_of(space: vmatlas.AddressSpace) -> vmatlas.Region:
    found = [region for region in space if region.label == "/anon_hugepage (deleted)"]
    if not found or found[0].page_size != HUGE:
        pytest.skip("huge pages of this machine are not of 2 MiB")
    return found[0]


@pytest.mark.usefixtures("huge_pages")
def test_huge_pages_are_memory_in_use_and_a_process_s_own() -> None:
    with running(IN_HUGE_PAGES, "alone") as pid:
        space = vmatlas.snapshot(pid, residency=True)
        region = huge_of(space)
        assert (region.resident, region.private_resident) == (2 * HUGE, 2 * HUGE)
        assert region.kind is vmatlas.Kind.ANONYMOUS
        assert region in vmatlas.snapshot(pid, where="anon,resident>1M")
        assert region in vmatlas.snapshot(pid, where="resident>1M")
        assert region in vmatlas.snapshot(pid, where="page_size=2M,private>=4M,flag=hugetlb")
        assert vmatlas.summarize(space).total.resident == sum(each.resident or 0 for each in space)


@pytest.mark.usefixtures("huge_pages")
def test_huge_pages_that_two_processes_have_are_in_use_and_not_private() -> None:
    with running(IN_HUGE_PAGES, "forked") as pid:
        region = huge_of(vmatlas.snapshot(pid, residency=True))
        assert (region.resident, region.private_resident) == (2 * HUGE, 0)


def test_memory_that_one_process_maps_thrice_is_not_private_and_its_share_tells_it() -> None:
    """Pss is less by less than a KiB a mapping: the kernel rounds down."""
    with running(MAPPED_THRICE) as pid:
        maps = vmatlas.snapshot(pid, residency=True, where="text=/memfd:heap")
    assert len(maps) == 3
    assert [region.resident for region in maps] == [1 << 20] * 3
    assert [region.private_resident for region in maps] == [0] * 3
    share = vmatlas.summarize(maps).total.proportional
    assert share is not None
    assert share == sum(region.proportional or 0 for region in maps)
    assert (1 << 20) - 3 * 1024 <= share <= 1 << 20
