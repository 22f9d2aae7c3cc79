"""Captures of processors that this host is not: byte order, pointer width and page size come from the capture alone."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmatlas
from vmatlas import Kind, Protection, Region, SystemInfo
from vmatlas.operations import FaultCause, classify_fault

CAPTURES = Path(__file__).parent / "captures"
MACHINES = {"s390x": ("big", 64, 4096), "armhf": ("little", 32, 4096), "aarch64-16k": ("little", 64, 16384)}

pytestmark = pytest.mark.parametrize("machine", MACHINES)


def recorded(machine: str, what: str) -> Path:
    return CAPTURES / f"linux-6.12-{machine}-{what}.zip"


def captured(machine: str, what: str) -> vmatlas.Capture:
    return vmatlas.Capture.load(recorded(machine, what))


def replayed(machine: str, what: str) -> vmatlas.AddressSpace:
    return vmatlas.replay(recorded(machine, what))


def line(region: Region) -> tuple[int, int, str, int, tuple[int, int], int, bytes]:
    """What both kernel interfaces tell."""
    letters = "".join(
        letter if bit in region.protection else "-"
        for letter, bit in (("r", Protection.READ), ("w", Protection.WRITE), ("x", Protection.EXECUTE))
    )
    label = region.label.encode("utf-8", "surrogateescape").removeprefix(b"-")
    return (
        region.start, region.end, letters + ("s" if region.shared else "p"), region.offset or 0,
        region.device or (0, 0), region.inode or 0, label,
    )  # fmt: skip


def test_capture_says_what_its_machine_was(machine: str) -> None:
    for what in ("maps", "smaps", "vmas"):
        system: SystemInfo = captured(machine, what).system
        assert (system.byte_order, system.pointer_width, system.page_size) == MACHINES[machine]


def test_records_and_text_of_one_process_agree(machine: str) -> None:
    text = [line(region) for region in replayed(machine, "maps") if region.kind is not Kind.VSYSCALL]
    assert [line(region) for region in replayed(machine, "vmas")] == text
    assert [line(region) for region in replayed(machine, "smaps") if region.kind is not Kind.VSYSCALL] == text


def test_records_are_what_a_split_of_the_text_says(machine: str) -> None:
    """No decoder of ours is the oracle: the columns of the kernel's lines are."""
    lines = [
        words
        for words in (each.split(None, 5) for each in captured(machine, "maps").stream("maps").splitlines())
        if words[5:] != [b"[vectors]"]
    ]
    regions = list(replayed(machine, "vmas"))
    assert [b"%08x-%08x" % (region.start, region.end) for region in regions] == [words[0] for words in lines]
    assert [line(region)[2].encode() for region in regions] == [words[1] for words in lines]
    assert [b"%08x" % (region.offset or 0) for region in regions] == [words[2] for words in lines]
    assert [b"%02x:%02x" % (region.device or (0, 0)) for region in regions] == [words[3] for words in lines]
    assert [b"%d" % (region.inode or 0) for region in regions] == [words[4] for words in lines]


def test_sizes_are_bytes_of_that_machines_pages(machine: str) -> None:
    page = MACHINES[machine][2]
    space = replayed(machine, "smaps")
    assert all(region.start % page == region.end % page == 0 for region in space)
    [shared] = [region for region in space if region.shared and region.path and "figs" in region.path]
    assert (shared.size, shared.resident, shared.page_size) == (3 * page, 2 * page, page)
    assert shared.path == "/tmp/dried figs \N{LATIN SMALL LETTER E WITH ACUTE}\n"
    assert shared.deleted


@pytest.mark.parametrize("what", ["maps", "smaps"])
def test_the_vectors_of_32_bit_arm_are_found_at_the_end_of_4_gib_and_nowhere_else(machine: str, what: str) -> None:
    space = replayed(machine, what)
    found = space.find(0xFFFF0FFF)
    named = [region for region in space if region.name == "[vectors]"]
    if machine != "armhf":
        assert (found, named) == (None, [])
        return
    assert found is not None and named == [found] == [space[-1]]
    assert (found.start, found.end, found.permissions, found.kind) == (0xFFFF0000, 0xFFFF1000, "r-xp", Kind.VSYSCALL)
    assert space.find(0xFFFEFFFF) is None and space.find(0xFFFF1000) is None
    assert found.path is None and not found.deleted
    assert list(space.where("name=[vectors]")) == [found]
    code = classify_fault(0xFFFF0000, space, access=Protection.WRITE)
    assert (code.cause, code.at) == (FaultCause.PROTECTION, found)
    assert replayed(machine, "vmas").find(0xFFFF0000) is None, "the kernel's other interface does not tell it"
