"""/proc/PID/numa_maps as values, and asked of this kernel."""

from __future__ import annotations

import mmap
import os

import pytest

import vmatlas
from vmatlas import MalformedData, Unsupported
from vmatlas.model.numa import node_totals
from vmatlas.systems.linux.numa import parse_numa

TEXT = rb"""5577160e4000 default file=/usr/bin/a\040b\075c mapped=2 mapmax=3 N0=2 kernelpagesize_kB=4
7f0000000000 prefer (many):0-1 anon=5 dirty=5 N0=3 N1=2 kernelpagesize_kB=4
7f0100000000 bind=static:1 file=/anon_hugepage\040(deleted) huge dirty=1 N1=1 kernelpagesize_kB=2048
7f0200000000 weighted interleave:0-3 file=/lib/x
7ffd00000000 default stack anon=3 dirty=3 active=0 N0=3 kernelpagesize_kB=4
"""


def test_each_line_is_a_region_with_its_policy_and_its_nodes() -> None:
    first, second, huge, untouched, stack = parse_numa(TEXT)
    assert (first.start, first.policy, first.nodes, first.page_size) == (0x5577160E4000, "default", {0: 8192}, 4096)
    assert first.details == {"file": "/usr/bin/a b=c", "mapped": 2, "mapmax": 3}
    assert (second.policy, second.nodes, second.resident) == ("prefer (many):0-1", {0: 3 * 4096, 1: 2 * 4096}, 5 * 4096)
    assert (huge.policy, huge.nodes) == ("bind=static:1", {1: 2 << 20})
    assert huge.details == {"file": "/anon_hugepage (deleted)", "huge": "", "dirty": 1}
    assert (untouched.policy, untouched.nodes, untouched.page_size) == ("weighted interleave:0-3", {}, None)
    assert stack.details == {"stack": "", "anon": 3, "dirty": 3, "active": 0}
    assert node_totals([first, second, huge, untouched, stack]) == {0: 8 * 4096, 1: 2 * 4096 + (2 << 20)}


@pytest.mark.parametrize(
    "line", [b"", b"7f00", b"xyz default N0=1 kernelpagesize_kB=4", b" default", b"7f00 default N0=1"]
)
def test_foreign_lines_are_malformed(line: bytes) -> None:
    with pytest.raises(MalformedData) as caught:
        parse_numa(TEXT + line + b"\n", pid=7)
    assert (caught.value.offset, caught.value.pid) == (len(TEXT), 7)


def test_no_text_is_no_region() -> None:
    assert parse_numa(b"") == ()


@pytest.mark.skipif(not os.path.exists("/proc/self/numa_maps"), reason="this kernel has no memory nodes (CONFIG_NUMA)")
def test_touched_memory_of_this_process_lies_on_some_node() -> None:
    with mmap.mmap(-1, 64 * mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made, vmatlas.open() as process:
        for page in range(5):
            made[page * mmap.PAGESIZE] = 1
        sizes = [region.start for region in process.snapshot()]
        uses = process.numa()
    assert node_totals(uses)
    assert {use.start for use in uses} & set(sizes)


def test_where_there_are_no_memory_nodes_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with vmatlas.open() as process:
        monkeypatch.setattr(type(process._process), "numa_told", lambda self: None)
        with pytest.raises(Unsupported, match="memory nodes"):
            process.numa()
