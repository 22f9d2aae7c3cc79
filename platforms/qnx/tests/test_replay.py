"""What a real 6.4.1 kernel gave is understood: each mapping that was made, each total that QNX's own pidin printed."""

from __future__ import annotations

from itertools import groupby, pairwise
from typing import Any

import pytest

import vmatlas
from vmatlas import AddressSpace, Kind, Protection, Region
from vmatlas.analysis import Use, summarize
from vmatlas_qnx import MAPINFO, PAGEDATA, MapFlags

from . import pidin
from .recorded import FOLDER, PROCESSES, operations, published, recorded

PAGE = 4096
OWN = PAGEDATA.decode(recorded("own", "pagedata"))


def over(space: AddressSpace, start: int, size: int) -> list[Region]:
    """The regions that lie in [start, start + size)."""
    return [region for region in space if region.start < start + size and start < region.end]


def rounded(size: int) -> int:
    return -(-size // PAGE) * PAGE


@pytest.mark.parametrize("process", PROCESSES)
def test_both_commands_give_the_same_regions_but_for_residency(process: str) -> None:
    mapinfo, pagedata = MAPINFO.decode(recorded(process, "mapinfo")), PAGEDATA.decode(recorded(process, "pagedata"))
    assert len(mapinfo) > 5
    assert list(mapinfo) == [region._replace(resident=None) for region in pagedata]
    assert all(region.resident is None for region in mapinfo)
    assert all(region.resident is not None and 0 <= region.resident <= region.size for region in pagedata)


@pytest.mark.parametrize("process", PROCESSES)
def test_entries_are_the_kernels_own_and_regions_their_unions(process: str) -> None:
    space = PAGEDATA.decode(recorded(process, "pagedata"))
    data = (FOLDER / f"{process}_pagedata.bin").read_bytes()
    entries = space.entries()
    assert len(entries) == len(data) // 48
    for region in space:
        parts = over(entries, region.start, region.size)
        assert (parts[0].start, parts[-1].end) == (region.start, region.end)
        assert all(before.end == after.start for before, after in pairwise(parts))
        assert sum(part.resident or 0 for part in parts) == region.resident
        assert {part.protection for part in parts} == {region.protection}
    hardware = [bool(entry.flags & MapFlags.PG_HWMAPPED) for entry in entries]
    assert hardware == [entry.resident == entry.size for entry in entries]


def test_lazy_memory_is_one_region_with_what_was_touched_of_it() -> None:
    [region] = over(OWN, 0x20A00000, 0x10000)
    assert (region.size, region.resident, region.kind) == (0x10000, 4 * PAGE, Kind.ANONYMOUS)
    runs = [(entry.size // PAGE, entry.resident) for entry in over(OWN.entries(), 0x20A00000, 0x10000)]
    assert runs == [(1, PAGE), (1, 0), (1, PAGE), (2, 0), (2, 2 * PAGE), (9, 0)]


def test_locked_neighbours_that_are_alike_are_one_region() -> None:
    [region] = over(OWN, 0x22C00000, 0x8000)
    assert (region.start, region.size) == (0x22C00000, 0x8000)
    assert len(over(OWN.entries(), 0x22C00000, 0x8000)) == 3


def test_stack_is_a_guard_and_a_region_with_its_touched_end() -> None:
    guard, stack = over(OWN, 0x7FC7000, 0x81000)
    assert (guard.kind, guard.size, guard.protection, guard.resident) == (Kind.GUARD, PAGE, Protection.NONE, 0)
    assert (stack.kind, stack.size, stack.resident) == (Kind.STACK, 0x80000, 2 * PAGE)
    assert guard.flags.labels() == ["STACK"]


def test_thread_stacks_may_be_executed() -> None:
    [stack] = [region for region in over(OWN, 0x7F96000, 0x21000) if region.kind is Kind.STACK]
    assert (stack.size, stack.permissions, stack.resident) == (0x20000, "rwxp", PAGE)


def test_heap_is_what_lies_above_the_program() -> None:
    heaps = [region for region in OWN if region.kind is Kind.HEAP]
    assert [(region.start, region.permissions) for region in heaps] == [(0x805E000, "rw-p")]
    for process in PROCESSES[:-1]:
        space = MAPINFO.decode(recorded(process, "mapinfo"))
        [heap] = [region for region in space if region.kind is Kind.HEAP]
        assert heap.start == max(
            region.end
            for region in space
            if region.start < 0x20000000 and region is not heap and region.end <= heap.start
        )


KINDS = {
    "anon private NONE": Kind.GUARD,
    "anon SHARED": Kind.SHARED_MEMORY,
    "anon private STACK": Kind.STACK,
    "anon": Kind.ANONYMOUS,
    "MAP_PHYS": Kind.PHYSICAL,
    "mmap_device_memory": Kind.PHYSICAL,
    "shm_open obj private RW wrote": Kind.ANONYMOUS,
    "shm": Kind.SHARED_MEMORY,
    "file CD": Kind.FILE,
    "IFS file": Kind.FILE,
    "/dev/zero": Kind.ANONYMOUS,
    "/dev/mem": Kind.PHYSICAL,
    "mprotect": Kind.ANONYMOUS,
    "munmap": Kind.ANONYMOUS,
    "adjacent": Kind.ANONYMOUS,
    "LAZY": Kind.ANONYMOUS,
}
"""By how the description of an operation begins, the longest that fits."""

IN_THE_HEAP = ("anon no hint len 1", "anon no hint len 0x1234")
"""The kernel placed them right above the heap, and like neighbours are one entry."""

CHANGED_LATER = ("mprotect target", "munmap hole", "file CD private RW wrote")

MADE = [made for made in operations() if "off" in made or made["desc"].startswith("mmap_device_memory")]


def test_each_of_the_59_operations_is_looked_at() -> None:
    assert (len(operations()), len(MADE)) == (59, 51)
    others = {made["desc"].partition(" ")[0] for made in operations() if made not in MADE}
    assert others == {"mprotect", "munmap", "mlock", "pthread_create", "dlopen"}
    assert all(made["result"] is not None and made.get("errno") in (None, 0) for made in operations())


@pytest.mark.parametrize("made", MADE, ids=lambda made: made["desc"])
def test_mapping_is_read_back_as_it_was_made(made: dict[str, Any]) -> None:
    start, size = made["result"], rounded(made.get("len", 8192))
    regions = over(OWN, start, size)
    if made["desc"] in IN_THE_HEAP:
        assert [region.kind for region in regions] == [Kind.HEAP]
        assert regions[0].covers(start) and regions[0].covers(start + size - 1)
        return
    kind = next(
        kind for begin, kind in sorted(KINDS.items(), key=lambda item: -len(item[0])) if made["desc"].startswith(begin)
    )
    whole = not made["desc"].startswith(CHANGED_LATER)
    if whole and not made["desc"].startswith("adjacent"):
        merged = regions[-1].flags.of_stack  # the kernel put this one below a thread's stack
        assert [(region.start, region.end) for region in regions] == [(start, start + size)] or merged
    assert all(region.kind is kind or not whole for region in regions)
    assert regions[0].kind is kind
    if "prot" in made and whole:
        assert {region.protection for region in regions} == {Protection(made["prot"] >> 8 & 7)}
        copied = made["desc"].startswith("shm_open obj private RW wrote")
        assert {region.shared for region in regions} == {made["flags"] & 3 == 1 and not copied}
    told = {region.offset for region in regions} - {None}
    # IFS files: the place in the image; physical memory: always 0. Neither is told. What is told is right.
    if kind is Kind.PHYSICAL or made["desc"].startswith(
        ("IFS file shared", "shm_ctl PHYS", "anon private", "adjacent")
    ):
        assert not told
    elif kind is Kind.FILE or ("shm" in made["desc"] and kind is Kind.SHARED_MEMORY):
        assert made["off"] in told
    assert regions[0].resident is not None


@pytest.mark.parametrize("made", [made for made in MADE if made.get("touch")], ids=lambda made: made["desc"])
def test_touched_pages_are_resident(made: dict[str, Any]) -> None:
    entries = OWN.entries()
    for offset, size, _ in made["touch"]:
        for page in range(made["result"] + offset, made["result"] + offset + size, PAGE):
            entry = entries.find(page)
            if entry is None:  # munmap made a hole of it later
                assert 0x22903000 <= page < 0x22904000
            elif not (entry.flags & MapFlags.LAZY and "read" in made["desc"]):
                assert entry.flags & MapFlags.PG_HWMAPPED


def test_untouched_lazy_memory_is_not_resident_and_other_untouched_memory_is() -> None:
    for made in MADE:
        if "untouched" in made["desc"]:
            [region] = over(OWN, made["result"], rounded(made["len"]))
            assert region.resident == (0 if "LAZY" in made["desc"] else region.size), made["desc"]


def test_mprotect_splits_and_the_parts_have_the_new_protection() -> None:
    parts = [
        ((r.start - 0x22800000) // PAGE, r.size // PAGE, r.protection.letters) for r in over(OWN, 0x22800000, 0xC000)
    ]
    assert parts == [
        (0, 3, "rw-"),
        (3, 2, "r--"),
        (5, 2, "rw-"),
        (7, 1, "---"),
        (8, 1, "rw-"),
        (9, 1, "r-x"),
        (10, 2, "rw-"),
    ]
    changed = [made for made in operations() if made["desc"] == "mprotect"]
    assert len(changed) == 3
    for made in changed:
        region = OWN.find(made["addr"])
        assert region is not None
        assert (region.start, region.size, region.protection) == (
            made["addr"],
            made["len"],
            Protection(made["prot"] >> 8 & 7),
        )


def test_munmap_left_a_hole() -> None:
    [made] = [made for made in operations() if made["desc"] == "munmap"]
    assert OWN.find(made["addr"]) is None
    around = OWN.neighbours(made["addr"])
    assert around.before is not None and around.after is not None
    assert (around.before.end, around.after.start) == (made["addr"], made["addr"] + made["len"])


def test_like_neighbours_are_one_region_and_unlike_ones_are_two() -> None:
    assert [region.size for region in over(OWN, 0x22A00000, 0x8000)] == [0x8000]
    assert [region.size for region in over(OWN, 0x22B00000, 0x8000)] == [0x4000, 0x4000]


def test_mlock_shows_in_no_region() -> None:
    [made] = [made for made in operations() if made["desc"] == "mlock"]
    region = OWN.find(made["addr"])
    assert region is not None
    assert region.covers(made["addr"] + made["len"] - 1)


def test_each_thread_has_a_stack_where_its_locals_lie() -> None:
    for made in (made for made in operations() if made["desc"].startswith("pthread_create")):
        region = OWN.find(made["local_addr"])
        assert region is not None
        assert region.kind is Kind.STACK
        assert region.protection == Protection(7)


def test_libraries_have_their_names() -> None:
    named = {region.path for region in OWN if region.flags & MapFlags.ELF}
    assert named == {"/fs/cd0/agent", "/proc/boot/libc.so.3", "/proc/boot/libsocket.so.2"}


def test_page_of_a_private_file_that_was_written_to_is_anonymous() -> None:
    parts = over(OWN, 0x22100000, 5 * PAGE)
    assert [(part.kind, part.size // PAGE, part.offset) for part in parts] == [
        (Kind.FILE, 1, 0),
        (Kind.ANONYMOUS, 1, None),
        (Kind.FILE, 3, 2 * PAGE),
    ]


def test_what_the_kernel_calls_dev_mem_has_no_path() -> None:
    assert all(region.path not in ("/dev/mem", "/dev/zero", "") for region in OWN)
    assert {region.path for region in OWN if region.kind is Kind.SHARED_MEMORY} == {
        None,
        "/dev/shmem/probe_shm",
        "/dev/shmem/probe_phys",
        "/dev/shmem/probe_anon",
    }


def test_offsets_that_are_not_to_be_trusted_are_none() -> None:
    for process in PROCESSES[:-1]:  # programs and libraries of the boot image
        assert {region.offset for region in MAPINFO.decode(recorded(process, "mapinfo"))} == {None}
    program = [region for region in OWN if region.path == "/fs/cd0/agent"]
    assert [(region.permissions, region.offset) for region in program] == [("r-xs", 0), ("rw-p", None)]


def test_kernel_itself_is_an_empty_space() -> None:
    for backend in (MAPINFO, PAGEDATA):
        space = backend.decode(recorded("pid1_procnto-instr", backend.stream))
        assert (len(space), space.incomplete) == (0, None)


# ---- pidin ----


def printed(name: str) -> pidin.Printed:
    """What was printed of a recorded process."""
    [found] = [each for each in pidin.read((FOLDER / "pidin_mem.txt").read_text()).values() if each.name == name]
    return found


def size(totals: dict[Use, vmatlas.Total], use: Use) -> int:
    return totals[use].size if use in totals else 0


@pytest.mark.parametrize("process", PROCESSES[:-1])
def test_summary_adds_up_to_what_pidin_printed(process: str) -> None:
    pidin.check(named(process, "pagedata"), printed(process.partition("_")[2]))


BY_AGENT = FOLDER / "agent"


@pytest.mark.parametrize("name", [path.stem for path in sorted(BY_AGENT.glob("*.vmatlas"))])
def test_summary_of_each_process_that_the_agent_recorded_is_what_pidin_printed_then(name: str) -> None:
    capture = vmatlas.Capture.load(BY_AGENT / f"{name}.vmatlas")
    space = vmatlas.replay(capture)
    assert (space.incomplete, capture.system.release) == (None, "6.4.1")
    told = pidin.read((BY_AGENT / "pidin_mem.txt").read_text())
    if name == "procnto":
        assert (capture.pid, len(space), 1 in told) == (1, 0, False)
    else:
        pidin.check(space, told[capture.pid])


def test_recorded_driver_has_eight_stacks_seven_libraries_and_a_cache_of_64_mib() -> None:
    space = vmatlas.replay(vmatlas.Capture.load(BY_AGENT / "devb-eide.vmatlas"))
    assert sum(region.kind is Kind.STACK for region in space) == 8
    libraries = {str(region.path).rpartition("/")[2] for region in space if region.kind is Kind.FILE} - {"devb-eide"}
    assert libraries == {
        "libc.so.3", "libcam.so.2", "io-blk.so", "cam-disk.so", "cam-cdrom.so", "fs-qnx4.so", "fs-cd.so",
    }  # fmt: skip
    assert max(region.size for region in space if region.kind is Kind.ANONYMOUS) > 60 << 20


def test_recorded_console_driver_has_the_screen_as_physical_memory() -> None:
    space = vmatlas.replay(vmatlas.Capture.load(BY_AGENT / "devc-con.vmatlas"))
    [screen] = [region for region in space if region.kind is Kind.PHYSICAL]
    assert (screen.size, screen.shared, screen.offset, screen.permissions) == (36 << 10, True, None, "rw-s")


def named(process: str, stream: str) -> AddressSpace:
    """The recorded process with the names that its libraries have in pidin's list; they were not recorded for it."""
    from vmatlas_qnx import names

    answers = b"".join(
        names.pack(at, 0, at.to_bytes(8, "little") + b"proc/boot/libc.so.3\0", "little")
        for at in (0xB0300000, 0xB0371000)
    )
    capture = recorded(process, stream)
    capture = type(capture)(
        {**capture.streams, "mapdebug": answers}, capture.system, capture.pid, capture.backend, capture.distribution,
        capture.query, capture.time,
    )  # fmt: skip
    return PAGEDATA.decode(capture)


def test_recorders_own_code_libraries_and_stacks_are_pidins() -> None:
    told = printed("agent")
    totals = summarize(OWN)
    files = {file.path: file for file in totals.files}
    assert size(files["/fs/cd0/agent"].uses, Use.CODE) == told.code.bytes
    for library, (text, data) in told.libraries.items():
        uses = files[f"/proc/boot/{library}"].uses
        assert (size(uses, Use.CODE), size(uses, Use.DATA)) == (text, data)
    # Each of the three stacks is found; pidin does not count what the recorder mapped with MAP_STACK itself.
    for number, (touched, reserved) in enumerate(told.stacks):
        inside = [0x8047FFF, 0x7FB6FFF, 0x7F95FFF][number]
        row = next(row for row, region in enumerate(OWN) if region.covers(inside))
        assert (OWN[row].resident, OWN[row].size + OWN[row - 1].size) == (touched, reserved)


def test_published_example_adds_up_to_what_was_published() -> None:
    space = PAGEDATA.decode(published())
    assert len(space.entries()) == 20
    kinds = [region.kind for region in space.entries()]
    assert kinds[:15] == [Kind.GUARD, Kind.STACK, Kind.STACK] * 4 + [Kind.GUARD, Kind.STACK, Kind.STACK]
    assert all(entry.flags.of_stack for entry in space.entries()[:15])
    code = [row for row, entry in enumerate(space.entries()) if entry.protection & 4 and not entry.flags.of_stack]
    assert code == [15, 18, 19]
    totals = summarize(space)
    assert size(totals.uses, Use.CODE) == (16 + 312) * 1024
    assert size(totals.uses, Use.DATA) == (148 + 16) * 1024
    stacks = [list(group) for whole, group in groupby(space, lambda region: region.flags.of_stack) if whole]
    reserved = [region.size for group in stacks for region in group if region.kind is Kind.STACK]
    assert reserved == [0x20000, 0x20000, 0x20000, 0x20000, 0x80000]
    assert [region.resident for region in space if region.kind is Kind.STACK] == [0x1000] * 4 + [0x2000]
    assert totals.uses[Use.STACK].size == 4 * 132 * 1024 + 516 * 1024
