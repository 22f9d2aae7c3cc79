"""What our agent recorded on a running 13.2: known layouts, both sides of a fork, a 32-bit process, a busy one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import vmatlas
from vmatlas import AddressSpace, Kind, Protection, Region
from vmatlas.analysis import summarize
from vmatlas_freebsd import KvmeFlags
from vmatlas_freebsd.differences import DIFFERENCES

from .procstat import disagreements

CAPTURES = Path(__file__).parent / "captures"
PAGE = 4096
BOTH = ["after-fork", "before-fork", "busy", "fork-child", "fork-parent", "i386", "layout"]
BACKENDS = pytest.mark.parametrize("backend", ["sysctl", "procfs"])
FORK = ["fork-parent", "fork-child"]


def replayed(name: str, backend: str) -> AddressSpace:
    return vmatlas.replay(CAPTURES / f"{name}-{backend}.vmatlas")


def laid(name: str) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads((CAPTURES / f"{name}.json").read_text())}


def at(space: AddressSpace, made: dict[str, Any]) -> Region:
    region = space.find(made["start"] + made["size"] - 1)
    assert region is not None
    return region


LAYOUT = laid("layout")
FORKED = laid("fork")


def test_the_recordings_are_there_and_say_what_kernel_gave_them() -> None:
    recorded = {path.stem for path in CAPTURES.glob("*.vmatlas")}
    assert recorded == {f"{name}-{backend}" for name in BOTH for backend in ("sysctl", "procfs")} | {
        "init-sysctl",
        "newline-sysctl",
    }
    for name in recorded:
        system = vmatlas.Capture.load(CAPTURES / f"{name}.vmatlas").system
        assert (system.release, system.machine, system.pointer_width) == ("13.2-RELEASE", "amd64", 64)
        assert system.version == "FreeBSD 13.2-RELEASE SMALL"


@pytest.mark.parametrize("name", ["after-fork", "before-fork", "fork-child", "fork-parent", "i386", "layout"])
def test_agrees_with_procstat(name: str) -> None:
    """Made a moment after. The agent itself worked on in between, so some of its own regions may have changed."""
    text, space = (CAPTURES / f"{name}-procstat.txt").read_text(), replayed(name, "sysctl")
    if name in ("after-fork", "before-fork", "fork-parent"):
        assert len(disagreements(text, space)) < 5
    else:
        assert disagreements(text, space) == []


@BACKENDS
@pytest.mark.parametrize("name", LAYOUT)
def test_mapping_reads_as_it_was_made(name: str, backend: str) -> None:
    made = LAYOUT[name]
    region = at(replayed("layout", backend), made)
    if name not in ("split", "stack"):
        assert (region.start, region.size, region.protection) == (made["start"], made["size"], made["protection"])
    known = made["shared"] if made["object"] != "anonymous" else None
    assert region.shared is known
    if made["object"] != "anonymous":
        assert region.kind is {"file": Kind.FILE}.get(
            made["object"], Kind.SHARED_MEMORY if made["shared"] else Kind.ANONYMOUS
        )
    if made["object"] == "file":
        assert region.offset == (made["offset"] if backend == "sysctl" else None)
        assert region.path == (None if name.endswith("gone") else made["file"])
    else:
        assert (region.path, region.inode, region.device) == (None, None, None)


def test_unlinked_file_keeps_its_inode_on_ufs_and_loses_it_on_tmpfs() -> None:
    """On tmpfs the mapping holds the pages alone, and what knew the file's numbers is gone with its last name."""
    space = replayed("layout", "sysctl")
    for name, told in (("ufs gone", True), ("tmpfs gone", False)):
        region = at(space, LAYOUT[name])
        assert ((region.inode is not None), region.deleted, region.kind) == (told, False, Kind.FILE)


def test_residency_of_the_layout_is_as_it_was_touched() -> None:
    space = replayed("layout", "sysctl")

    def told(name: str) -> tuple[int | None, int | None]:
        region = at(space, LAYOUT[name])
        return region.resident, region.private_resident

    assert told("private touched") == told("shared touched") == (2 * PAGE, 2 * PAGE)
    assert told("private rw") == told("shared rw") == (0, 0)
    for files in ("tmpfs", "ufs"):
        assert told(f"{files} private r at an offset") == (2 * PAGE, 10 * PAGE), "read by others, never touched here"
        assert told(f"{files} private written") == (4 * PAGE, 0), "two pages are its own"
        assert told(f"{files} shared") == (2 * PAGE, 10 * PAGE)
    assert told("memory private") == (PAGE, 0)
    assert told("split") == (3 * PAGE, 9 * PAGE), "of the whole object, at each of its three parts"
    assert told("superpages") == (4 << 20, 4 << 20)


def test_flags_of_the_layout_are_the_kernels() -> None:
    space = replayed("layout", "sysctl")
    flags = {name: at(space, made).flags for name, made in LAYOUT.items()}
    assert flags["superpages"] == KvmeFlags.SUPER
    assert flags["not dumped"] == KvmeFlags.NOCOREDUMP
    assert flags["wired"] == KvmeFlags.USER_WIRED
    assert flags["stack"] == KvmeFlags.GROWS_DOWN
    assert flags["ufs private written"] == KvmeFlags.COW
    assert flags["ufs shared"] == flags["shared touched"] == KvmeFlags(0)


def test_private_residency_is_not_added_up() -> None:
    """The parts of one file would each add all of it."""
    space = replayed("layout", "sysctl")
    total = summarize(space).total
    assert total.private_resident is None
    assert total.resident == sum(region.resident or 0 for region in space) > 0


@pytest.mark.parametrize(("backend", "told"), [("sysctl", None), ("procfs", True)])
@pytest.mark.parametrize("name", FORK)
def test_fork_tells_private_memory_in_both_and_shared_memory_in_the_text(
    name: str, backend: str, told: bool | None
) -> None:
    space = replayed(name, backend)
    assert {label: at(space, made).shared for label, made in FORKED.items()} == {
        "private touched": False,
        "private untouched": None,
        "shared touched": told,
        "shared untouched": told,
        "posix shared": True,
        "sysv shared": True,
        "file private written": False,
        "file shared": True,
    }


@pytest.mark.parametrize("name", ["before-fork", "after-fork"])
@BACKENDS
def test_alone_shared_anonymous_memory_is_not_told_from_private(name: str, backend: str) -> None:
    """After the child has ended the text's sign is gone again; that private memory was copied on write stays."""
    space = replayed(name, backend)
    assert {at(space, FORKED[label]).shared for label in ("shared touched", "shared untouched")} == {None}
    assert at(space, FORKED["private touched"]).shared is (None if name == "before-fork" else False)


def test_both_sides_of_a_fork_have_the_same_object_of_what_they_share() -> None:
    parent, child = (replayed(name, "sysctl") for name in FORK)
    made = FORKED["shared touched"]
    assert at(parent, made).details["object"] == at(child, made).details["object"]
    assert (at(parent, made).resident, at(child, made).resident) == (3 * PAGE, 3 * PAGE), "one was the child's"
    made = FORKED["private touched"]
    assert at(parent, made).details["object"] != at(child, made).details["object"]
    assert at(child, made).private_resident == 0


@BACKENDS
def test_page_fault_makes_no_memory_shared(backend: str) -> None:
    """A process with one thread and no child, caught while a fault was served: its object counts two users."""
    busy = [region for region in replayed("busy", backend) if region.details.get("ref_count") == 2 and not region.path]
    memory = [region for region in busy if region.size >= 32 << 20]
    assert len(memory) == 1
    assert (memory[0].shared, memory[0].kind, memory[0].details["shadow_count"]) == (None, Kind.ANONYMOUS, 0)


@BACKENDS
def test_32_bit_process_lies_below_4_gib(backend: str) -> None:
    space = replayed("i386", backend)
    assert (space[0].kind, space[-1].kind) == (Kind.FILE, Kind.VDSO)
    assert space[-1].end <= 1 << 32
    assert {region.path for region in space if region.kind is Kind.FILE} == {"/tmp/i386"}


def test_name_with_a_newline_is_whole_to_the_sysctl() -> None:
    names = [region.path_bytes for region in replayed("newline", "sysctl")]
    assert b"/tmp/new\nline" in names


def test_init_is_recorded_by_the_command_line() -> None:
    space = replayed("init", "sysctl")
    assert (space.pid, len(space), space[0].path) == (1, 12, "/sbin/init")
    assert {region.shared for region in space if region.protection & Protection.WRITE} == {False}, "it has forked"


@pytest.mark.parametrize("name", [name for name in BOTH if name != "busy"])
def test_backends_differ_only_as_declared(name: str) -> None:
    allowed = {each.field: each for each in DIFFERENCES}
    records, text = replayed(name, "sysctl"), replayed(name, "procfs")
    pairs = [(region, found) for region in records if (found := text.find(region.start)) is not None]
    assert len(pairs) == len(records)
    for one, other in pairs:
        for field in (field for field in Region._fields if getattr(one, field) != getattr(other, field)):
            if name in ("before-fork", "after-fork", "fork-parent") and field in ("resident", "flags", "shared"):
                continue  # the agent itself, which worked on between the two
            assert field in allowed, (name, field, one, other)
            assert allowed[field].allows(one, other), (name, field, one, other)
