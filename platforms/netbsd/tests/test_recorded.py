"""What a kernel of NetBSD 11 told of a process that had mapped known things (captures/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import vmatlas
from vmatlas import AddressSpace, Kind, Protection, Region
from vmatlas_netbsd import KvmeFlags

FOLDER = Path(__file__).parent / "captures"
LAID = {each["what"]: each for each in json.loads((FOLDER / "layout.json").read_text())}


@pytest.fixture(scope="module")
def space() -> AddressSpace:
    return vmatlas.replay(FOLDER / "layout.vmatlas")


def region(space: AddressSpace, what: str) -> Region:
    found = space.find(LAID[what]["start"])
    assert found is not None
    return found


@pytest.mark.parametrize("what", LAID)
def test_each_mapping_has_the_bounds_rights_and_sharing_that_it_was_made_with(space: AddressSpace, what: str) -> None:
    laid, told = LAID[what], region(space, what)
    assert (told.start, told.size) == (laid["start"], laid["size"])
    assert told.protection == Protection(laid["protection"])
    assert told.shared == laid["shared"]
    assert (told.flags & KvmeFlags.COW != 0) == (not told.shared)


@pytest.mark.parametrize(
    ("what", "kind", "path"),
    [
        ("private", Kind.ANONYMOUS, None),
        ("guard", Kind.GUARD, None),
        ("code", Kind.ANONYMOUS, None),
        ("shared", Kind.SHARED_MEMORY, None),
        ("file of the disk", Kind.FILE, "/sbin/init"),
        ("file, private, written", Kind.FILE, "/tmp/plain"),
        ("file, shared", Kind.FILE, "/tmp/plain"),
        ("shared memory with a name", Kind.SHARED_MEMORY, "/var/shm/.shmobj_named"),
        # Its file has lost its name, and nothing else tells it from another.
        ("shared memory without a name", Kind.FILE, None),
        ("memory object", Kind.SHARED_MEMORY, None),
        ("stack", Kind.ANONYMOUS, None),
        ("device", Kind.ANONYMOUS, None),  # /dev/zero: memory without an object
    ],
)
def test_each_mapping_is_what_it_was_made_of(space: AddressSpace, what: str, kind: Kind, path: str | None) -> None:
    told = region(space, what)
    assert (told.kind, told.path) == (kind, path)


def test_a_file_is_told_with_its_offset_and_a_number_wider_than_32_bits(space: AddressSpace) -> None:
    private, shared = region(space, "file, private, written"), region(space, "file, shared")
    assert (private.offset, shared.offset) == (4096, 0)
    assert private.inode == shared.inode
    assert private.inode is not None
    assert private.inode > 2**32  # tmpfs
    assert private.device == shared.device


def test_what_is_locked_is_counted(space: AddressSpace) -> None:
    assert region(space, "locked").details["wired_count"] == 1
    assert region(space, "private").details["wired_count"] == 0


def test_a_memory_object_is_an_anonymous_object_with_pages_of_its_own(space: AddressSpace) -> None:
    told = region(space, "memory object")
    assert (told.details["type"], told.details["object_pages"]) == ("anon", 2)


def test_the_release_is_the_systems_and_the_system_is_the_one_that_serves_it(space: AddressSpace) -> None:
    assert space.system.system == "netbsd"
    assert "11.0_RC6" in space.system.release


@pytest.mark.parametrize("name", ["init", "agent"])
def test_a_static_program_has_a_stack_below_the_top_and_the_room_it_may_grow_into(name: str) -> None:
    space = vmatlas.replay(FOLDER / f"{name}.vmatlas")
    room, stack = space[-3], space[-1]
    assert (room.kind, room.protection) == (Kind.GUARD, Protection.NONE)
    assert room.end <= stack.start
    assert stack.end == 0x7F7FFFFFF000
