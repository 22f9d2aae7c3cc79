"""A child maps one region of each sort at addresses of its choice; both backends read each back exactly.

What is expected comes from mmap's arguments and from fstat (see programs/layout.py).
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import vmatlas
from tests.conftest import Program, Start, offered
from vmatlas import Kind, Protection, Region

LABELS = [
    "r", "rw", "rx", "rwx", "guard", "nine", "touched", "anonymous-shared", "named", "private-dev-zero", "hugetlb",
    "file-shared-at-offset", "file-private-code", "file-no-rights", "file-shared-read-only", "deleted", "space",
    "newline", "literal-escape", "both-escapes", "deleted-literal-escape", "really-named-deleted",
    "shown-alike-but-deleted", "named-deleted-and-deleted", "newline-named-deleted", "not-utf-8", "brackets",
    "like-vsyscall", "tab-and-return", "long-path", "memfd", "memfd-newline", "memfd-literal-escape", "posix-shared",
    "sysv-shared",
]  # fmt: skip
PAGE = os.sysconf("SC_PAGESIZE")


@dataclasses.dataclass
class Layout:
    """The child, and what it says of itself."""

    program: Program
    told: dict[str, Any]

    @property
    def pid(self) -> int:
        return self.program.pid

    def expected(self, label: str) -> dict[str, Any]:
        if label in self.told["missing"]:
            pytest.skip(self.told["missing"][label])
        found: dict[str, Any] = self.told["made"][label]
        return found


def begun(program: Program) -> Layout:
    return Layout(program, json.loads(program.hear()))


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Layout]:
    program = Program("layout", tmp_path_factory.mktemp("layout"))
    yield begun(program)
    assert program.end() == 0


@pytest.fixture
def own_layout(start: Start, tmp_path: Path) -> Layout:
    """One that the test may change."""
    return begun(start("layout", tmp_path))


def assert_exact(region: Region | None, expected: dict[str, Any], *, without_path: bool = False) -> None:
    assert region is not None
    assert (hex(region.start), hex(region.end)) == (hex(expected["start"]), hex(expected["end"]))
    assert region.protection == Protection(expected["protection"])
    assert region.shared is expected["shared"]
    assert region.kind is Kind[expected["kind"]]
    assert region.path == (None if without_path else expected.get("path"))
    assert region.deleted is (None if without_path else expected.get("deleted", False))
    assert region.name == expected.get("name")
    if "inode" in expected:
        assert region.inode == expected["inode"]
        assert region.offset == expected["offset"]
    elif "path" not in expected:
        assert (region.inode, region.offset, region.device) == (None, None, None)
    if "device" in expected:
        assert region.device == tuple(expected["device"])
    if region.page_size is not None:
        assert region.page_size == expected.get("page_size", PAGE)


Asked = Callable[[int, int, str], Region | None]


def by_snapshot(pid: int, start: int, backend: str) -> Region | None:
    return vmatlas.snapshot(pid, backend=backend).find(start)


def by_find_at_the_start(pid: int, start: int, backend: str) -> Region | None:
    return vmatlas.find(pid, start, backend=backend)


def by_find_from_the_hole_below(pid: int, start: int, backend: str) -> Region | None:
    assert vmatlas.find(pid, start - 1, backend=backend) is None
    return vmatlas.find(pid, start - 1, or_next=True, backend=backend)


def by_iterate(pid: int, start: int, backend: str) -> Region | None:
    return next((region for region in vmatlas.iterate(pid, backend=backend) if region.start == start), None)


def by_find_many(pid: int, start: int, backend: str) -> Region | None:
    before, region, after = vmatlas.find_many(pid, [start - 1, start, start + (2 << 20)], backend=backend)
    assert before is None
    assert after is None
    return region


def by_neighbours(pid: int, start: int, backend: str) -> Region | None:
    found = vmatlas.neighbours(pid, start, backend=backend)
    below = vmatlas.neighbours(pid, start - 1, backend=backend)
    assert below.at is None
    assert below.after == found.at
    assert below.before == found.before
    return found.at


def by_capture(pid: int, start: int, backend: str) -> Region | None:
    with vmatlas.open(pid, backend=backend) as process:
        return vmatlas.replay(process.capture()).find(start)


def by_a_thread(pid: int, start: int, backend: str) -> Region | None:
    return vmatlas.snapshot(pid, backend=backend, thread=pid).find(start)


WAYS = [
    by_snapshot, by_find_at_the_start, by_find_from_the_hole_below, by_iterate, by_find_many, by_neighbours,
    by_capture, by_a_thread,
]  # fmt: skip


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("way", WAYS)
def test_region_is_read_back_exactly(layout: Layout, backend: str, way: Asked, label: str) -> None:
    expected = layout.expected(label)
    region = way(layout.pid, expected["start"], backend)
    # The ioctl tells no name of more than 4,095 bytes, and the result says so (below).
    assert_exact(region, expected, without_path=label == "long-path" and backend == "linux-ioctl")


@pytest.mark.parametrize("label", LABELS)
def test_region_ends_where_it_ends(layout: Layout, backend: str, label: str) -> None:
    expected = layout.expected(label)
    with vmatlas.open(layout.pid, backend=backend) as process:
        last = process.find(expected["end"] - 1)
        assert last is not None
        assert last.start == expected["start"]
        assert process.find(expected["end"]) is None


@pytest.mark.parametrize("label", LABELS)
def test_residency_tells_the_same_region(layout: Layout, label: str) -> None:
    expected = layout.expected(label)
    region = vmatlas.snapshot(layout.pid, residency=True).find(expected["start"])
    assert_exact(region, expected)
    assert region is not None
    assert region.page_size == expected.get("page_size", PAGE)
    assert region.details["Size"] == expected["end"] - expected["start"]


def test_residency_counts_the_pages_that_were_touched(layout: Layout) -> None:
    region = vmatlas.snapshot(layout.pid, residency=True).find(layout.expected("touched")["start"])
    assert region is not None
    assert (region.resident, region.private_resident) == (5 * PAGE, 5 * PAGE)


def test_every_label_of_the_child_is_tested(layout: Layout) -> None:
    assert sorted({**layout.told["made"], **layout.told["missing"]}) == sorted(LABELS)


def test_name_too_long_for_the_kernel_is_said_and_not_hidden(layout: Layout) -> None:
    space = vmatlas.snapshot(layout.pid, backend="linux-procfs")
    assert space.incomplete is None
    path = layout.expected("long-path")["path"]
    assert len(path) > 4096
    space = vmatlas.snapshot(layout.pid, backend=offered("linux-ioctl"))
    assert space.incomplete is not None
    assert "1 region(s) lack theirs" in space.incomplete
    with pytest.raises(vmatlas.IncompleteResult) as raised:
        vmatlas.snapshot(layout.pid, backend="linux-ioctl", strict=True)
    assert raised.value.space == space


@pytest.mark.parametrize("kind", ["VDSO", "HEAP", "STACK"])
def test_region_of_the_kernel_s_own_is_told_by_its_kind(layout: Layout, backend: str, kind: str) -> None:
    region = vmatlas.find(layout.pid, layout.told["kernel"][kind], backend=backend)
    assert region is not None
    assert region.kind is Kind[kind]
    assert region.path is None


def test_stack_of_a_thread_has_its_guard_below_or_within(layout: Layout, backend: str) -> None:
    stack = layout.told["thread_stack"]
    # pthread_attr_getstack(3) tells the stack without its guard.
    found = vmatlas.neighbours(layout.pid, stack["start"], backend=backend)
    assert found.at is not None
    assert found.at.end >= stack["end"]
    assert found.at.permissions == "rw-p"
    if stack["guard_is_region"]:
        assert found.at.start == stack["start"]
        assert found.before is not None
        assert found.before.kind is Kind.GUARD
        assert found.before.end == stack["start"]
    else:
        assert found.at.start == stack["start"] - stack["guard"] < stack["start"]


def test_thread_tells_the_map_of_its_process(layout: Layout, backend: str) -> None:
    thread = layout.told["thread_stack"]["thread"]
    by_thread = vmatlas.snapshot(layout.pid, backend=backend, thread=thread)
    assert by_thread == vmatlas.snapshot(layout.pid, backend=backend)
    assert by_thread.origin.thread == thread
    assert by_thread.start_time == vmatlas.snapshot(layout.pid, backend=backend).start_time
    with pytest.raises(vmatlas.NoSuchProcess, match=f"{thread} is a thread of process {layout.pid}, and no process"):
        vmatlas.snapshot(thread, backend=backend)


def test_region_after_mprotect_is_split_in_three_and_merges_again(own_layout: Layout, backend: str) -> None:
    start = own_layout.expected("nine")["start"]
    with vmatlas.open(own_layout.pid, backend=backend) as process:
        assert own_layout.program.tell(f"mprotect nine {3 * PAGE} {2 * PAGE} 1") == "ok"
        pieces = [process.find(start + page * PAGE) for page in range(9)]
        shown = [(piece.start - start, piece.size, piece.permissions) for piece in pieces if piece]
        first, middle, last = (0, 3 * PAGE, "rw-p"), (3 * PAGE, 2 * PAGE, "r--p"), (5 * PAGE, 4 * PAGE, "rw-p")
        assert shown == [first] * 3 + [middle] * 2 + [last] * 4
        assert [process.snapshot().find(start + page * PAGE) for page in range(9)] == pieces
        assert own_layout.program.tell(f"mprotect nine {3 * PAGE} {2 * PAGE} 3") == "ok"
        assert_exact(process.find(start), own_layout.expected("nine"))
        assert_exact(process.snapshot().find(start + 8 * PAGE), own_layout.expected("nine"))


def test_munmap_makes_a_hole(own_layout: Layout, backend: str) -> None:
    start = own_layout.expected("nine")["start"]
    with vmatlas.open(own_layout.pid, backend=backend) as process:
        before = process.snapshot()
        assert own_layout.program.tell(f"munmap nine {4 * PAGE} {PAGE}") == "ok"
        assert process.find(start + 4 * PAGE) is None
        after = process.find(start + 4 * PAGE, or_next=True)
        assert after is not None
        assert after.start == start + 5 * PAGE
        assert (start + 4 * PAGE, start + 5 * PAGE) in list(process.snapshot().gaps())
        changes = vmatlas.diff(before, process.snapshot()).changes
        assert {change.region.start for change in changes} == {start, start + 5 * PAGE}
