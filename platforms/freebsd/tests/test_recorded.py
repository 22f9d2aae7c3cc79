"""What a FreeBSD 13.2 kernel said, against what the process itself had mapped, procstat -v, and the other backend."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from vmatlas import AddressSpace, Capture, Kind, MalformedData, Protection, Query, Region, SystemInfo
from vmatlas_freebsd import PROCFS, SYSCTL, KvmeFlags
from vmatlas_freebsd.differences import DIFFERENCES

from .procstat import disagreements

CAPTURES = Path(__file__).parent / "captures"
SYSTEM = SystemInfo("freebsd", "13.2-RELEASE", "", "amd64", "little", 64, 4096)
PAGE = 4096
NAMES = sorted(path.name.removesuffix(".vmmap.bin") for path in CAPTURES.glob("*.vmmap.bin"))
PAIRS = [name for name in NAMES if (CAPTURES / f"{name}.map.txt").is_file()]

MAP_SHARED, MAP_PRIVATE, MAP_STACK, MAP_GUARD, MAP_ANON = 1, 2, 0x400, 0x2000, 0x1000


def capture(backend: str, **streams: bytes) -> Capture:
    return Capture(streams, SYSTEM, 53, backend, "vmatlas-freebsd", Query(), time.time())


def by_sysctl(name: str) -> AddressSpace:
    return SYSCTL.decode(capture("freebsd-sysctl", vmmap=(CAPTURES / f"{name}.vmmap.bin").read_bytes()))


def recorded_text(name: str) -> bytes:
    """The text as the kernel gave it in its one large read; of a second read, bytes are left over in one recording."""
    first = json.loads((CAPTURES / f"{name}.meta.json").read_text())["map_reads"][0]
    return (CAPTURES / f"{name}.map.txt").read_bytes()[:first]


def by_text(name: str) -> AddressSpace:
    return PROCFS.decode(capture("freebsd-procfs", map=recorded_text(name)))


def mappings(name: str = "mapper") -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in json.loads((CAPTURES / f"{name}.json").read_text())["mappings"]}


def region_of(space: AddressSpace, mapping: dict[str, Any]) -> Region:
    region = space.find(int(mapping["addr"], 16))
    assert region is not None
    return region


MAPPER = mappings()
MADE = {name: made for name, made in MAPPER.items() if int(made["flags"], 16) & (MAP_SHARED | MAP_PRIVATE | MAP_GUARD)}
"""What mmap and shmat made."""


def test_the_recordings_are_there() -> None:
    assert set(NAMES) == {
        "i386", "init", "many500", "mapper", "mapper-afterfork", "mapper-external", "mapper-forkchild", "pid0",
        "plain-sleep", "sh",
    }  # fmt: skip
    assert len(PAIRS) == 8 and len(MADE) > 50


@pytest.mark.parametrize("decode", [by_sysctl, by_text], ids=["sysctl", "procfs"])
@pytest.mark.parametrize("name", MADE)
def test_mapping_reads_as_the_process_made_it(name: str, decode: Any) -> None:
    made = MADE[name]
    region = region_of(decode("mapper"), made)
    start, length = int(made["addr"], 16), made["len"]
    if name not in ("split", "stack"):
        assert region.start <= start and start + length <= region.end  # it may have merged with a neighbour
    if name not in ("stack",):
        assert region.protection == Protection(made["prot"] & 7)
    private = not int(made["flags"], 16) & MAP_SHARED
    assert region.shared in (not private, None), "told right, or not told"


@pytest.mark.parametrize("decode", [by_sysctl, by_text], ids=["sysctl", "procfs"])
@pytest.mark.parametrize(
    ("names", "shared"),
    [
        ("file_priv_ro file_priv_rw_touched file_priv_rx file_prefault file_none tmpfs_priv tmpfs_ro cd9660_ro", False),
        ("file_shared_ro file_shared_rw file_shared_nosync file_past_eof file_unlinked tmpfs_shared", True),
        ("shm_anon shm_anon_off_ro shm_named memfd sysv_shm sysv_shm_ro devmem hpet", True),
        ("shm_anon_priv", False),
        ("anon_rw anon_rw_untouched anon_shared devzero_priv devzero_shared anon_none wired", None),
    ],
)
def test_sharing_before_a_fork(names: str, shared: bool | None, decode: Any) -> None:
    space = decode("mapper")
    assert {name: region_of(space, MADE[name]).shared for name in names.split()} == dict.fromkeys(names.split(), shared)


@pytest.mark.parametrize(("decode", "told"), [(by_sysctl, None), (by_text, True)], ids=["sysctl", "procfs"])
@pytest.mark.parametrize("name", ["mapper-afterfork", "mapper-forkchild"])
def test_fork_tells_shared_from_private_anonymous_memory(name: str, decode: Any, told: bool | None) -> None:
    """While both live: copy on write in both for the private; the shared one's object has lost a flag, which only the
    text shows."""
    space = decode(name)
    for mapping in ("anon_shared", "devzero_shared"):
        region = region_of(space, MADE[mapping])
        assert (region.shared, region.details["ref_count"]) == (told, 2), mapping
        assert region.kind is (Kind.SHARED_MEMORY if told else Kind.ANONYMOUS)
    for mapping in ("shm_anon", "shm_named", "memfd", "sysv_shm", "file_shared_rw"):
        assert region_of(space, MADE[mapping]).shared is True, mapping
    for mapping in ("anon_rw", "anon_ro", "devzero_priv", "split", "super", "file_priv_ro", "shm_anon_priv"):
        assert region_of(space, MADE[mapping]).shared is False, mapping
    for mapping in ("anon_rw_untouched", "anon_none"):
        assert region_of(space, MADE[mapping]).shared is None, mapping


@pytest.mark.parametrize("name", ["mapper-afterfork", "mapper-forkchild", "mapper-external"])
@pytest.mark.parametrize("decode", [by_sysctl, by_text], ids=["sysctl", "procfs"])
def test_no_sharing_is_told_wrong_after_a_fork(name: str, decode: Any) -> None:
    space = decode(name)
    for mapping, made in MADE.items():
        found = space.find(int(made["addr"], 16))
        if found is None:
            assert name == "mapper-forkchild" and mapping == "inherit_none"
            continue
        private = not int(made["flags"], 16) & MAP_SHARED
        assert found.shared in (not private, None), mapping


def test_parts_of_one_private_object_do_not_make_it_shared() -> None:
    """Four entries use the object of `split`: a reference count alone would call it shared."""
    parts = [region for region in by_sysctl("mapper") if 0 <= region.start - int(MADE["split"]["addr"], 16) < 36864]
    assert [region.details["ref_count"] for region in parts] == [4, 4, 4, 4]
    assert {region.shared for region in parts} == {None}
    assert [region.protection.letters for region in parts] == ["rw-", "r--", "rw-", "rw-"]


@pytest.mark.parametrize(
    ("name", "kind", "text_kind"),
    [
        ("anon_rw", Kind.ANONYMOUS, Kind.ANONYMOUS),
        ("anon_rw_untouched", Kind.ANONYMOUS, Kind.ANONYMOUS),
        ("anon_none", Kind.GUARD, Kind.GUARD),
        ("anon_none_1T", Kind.GUARD, Kind.GUARD),
        ("guard", Kind.GUARD, Kind.GUARD),
        ("file_priv_ro", Kind.FILE, Kind.FILE),
        ("file_none", Kind.FILE, Kind.FILE),
        ("tmpfs_shared", Kind.FILE, Kind.FILE),
        ("shm_anon", Kind.SHARED_MEMORY, Kind.SHARED_MEMORY),
        ("memfd", Kind.SHARED_MEMORY, Kind.SHARED_MEMORY),
        ("sysv_shm", Kind.SHARED_MEMORY, Kind.SHARED_MEMORY),
        ("devmem", Kind.DEVICE, Kind.DEVICE),
        ("thread_stack_page", Kind.STACK, Kind.ANONYMOUS),
        ("main_stack", Kind.STACK, Kind.ANONYMOUS),
    ],
)
def test_kind(name: str, kind: Kind, text_kind: Kind) -> None:
    assert region_of(by_sysctl("mapper"), MAPPER[name]).kind is kind
    assert region_of(by_text("mapper"), MAPPER[name]).kind is text_kind


def test_stack_has_its_guard_below() -> None:
    space = by_sysctl("mapper")
    around = space.neighbours(int(MAPPER["main_stack"]["addr"], 16))
    assert around.before is not None and around.at is not None
    assert around.before.kind is Kind.GUARD and around.before.end == around.at.start


def test_last_region_is_the_kernels_page() -> None:
    for space in (by_sysctl("mapper"), by_text("mapper")):
        assert (space[-1].kind, space[-1].protection.letters, space[-1].shared) == (Kind.VDSO, "r-x", True)


def test_flags_are_the_kernels() -> None:
    space = by_sysctl("mapper")

    def flags(name: str) -> KvmeFlags:
        found = region_of(space, MADE[name]).flags
        assert isinstance(found, KvmeFlags)
        return found

    assert KvmeFlags.SUPER in flags("super")
    assert flags("nocore") == KvmeFlags.NOCOREDUMP
    assert flags("wired") == KvmeFlags.USER_WIRED
    assert flags("guard") == KvmeFlags.COW | KvmeFlags.NEEDS_COPY
    assert flags("file_priv_rw_touched") == KvmeFlags.COW
    assert KvmeFlags(0x1001).labels() == ["COW", "0x1000"]


def test_files_are_told_with_inode_size_and_offset() -> None:
    space = by_sysctl("mapper")
    regions = {name: region_of(space, MADE[name]) for name in MADE if name.startswith("file_")}
    assert len({regions[name].inode for name in ("file_priv_ro", "file_shared_rw", "file_none")}) == 1
    assert {name: region.offset for name, region in regions.items() if name != "file_priv_rw_touched"} == {
        name: MADE[name]["offset"] for name in regions if name != "file_priv_rw_touched"
    }
    short = regions["file_short"].details
    assert (short["vn_size"], short["vn_type"], short["vn_mode"]) == (100, "regular", 0o100644)
    assert regions["file_renamed"].path == "/var/tmp/mp/ren2.dat"
    assert regions["file_renamed"].device == (0, 0x2E)
    assert region_of(space, MADE["tmpfs_shared"]).device == (0xFFFFFFFF, 0x8700FF01)


def test_name_of_a_file_that_was_never_looked_up_again_is_not_told() -> None:
    """The kernel's name cache is all that it has: unlinked, odd, or just not opened by that name since."""
    space = by_sysctl("mapper")
    for name in ("file_priv_ro", "file_unlinked", "file_newline", "file_space", "file_utf8", "file_longpath"):
        region = region_of(space, MADE[name])
        assert (region.path, region.kind, region.deleted) == (None, Kind.FILE, False)
        assert region.inode is not None


def test_memory_has_the_offset_in_its_object_and_no_file() -> None:
    region = region_of(by_sysctl("mapper"), MADE["shm_anon_off_ro"])
    assert (region.offset, region.inode, region.device) == (None, None, None)
    assert region.details["object_offset"] == MADE["shm_anon_off_ro"]["offset"]
    assert region_of(by_sysctl("mapper"), MADE["devmem"]).details["object_offset"] == 0xF0000


def test_resident_counts_pages_that_nobody_here_touched() -> None:
    """Surprise: pages of the object, whoever brought them in."""
    region = region_of(by_sysctl("mapper"), MADE["file_prefault"])
    assert (MADE["file_prefault"]["touched"], region.resident) == (0, 8 * PAGE)
    assert region_of(by_sysctl("mapper"), MADE["file_priv_ro"]).resident == 40 * PAGE > MADE["file_priv_ro"]["touched"]
    for name in ("anon_rw", "super", "nocore", "anon_shared"):
        assert region_of(by_sysctl("mapper"), MADE[name]).resident == MADE[name]["touched"]


def test_private_resident_is_the_whole_objects_and_0_when_it_shadows_another() -> None:
    """Surprise: no count of private dirty pages. A shared file has some; a private one that was written to has none."""
    space = by_sysctl("mapper")
    shared, written = region_of(space, MADE["file_shared_nosync"]), region_of(space, MADE["file_priv_rw_touched"])
    assert (shared.resident, shared.private_resident) == (4 * PAGE, 42 * PAGE)
    assert (written.resident, written.private_resident) == (16 * PAGE, 0)
    assert region_of(space, MADE["split"]).private_resident == 8 * PAGE


def test_maximum_protection_is_not_told_by_this_kernel() -> None:
    assert {region.max_protection for region in by_sysctl("mapper")} == {None}


def test_many_regions_are_as_the_process_laid_them() -> None:
    laid = json.loads((CAPTURES / "many500.json").read_text())
    base, length = int(laid["base"], 16), laid["len"]
    for space in (by_sysctl("many500"), by_text("many500")):
        regions = [region for region in space if base <= region.start < base + length]
        assert [(region.start, region.size, region.protection.letters) for region in regions] == [
            (base + PAGE * page, PAGE, "rw-" if page % 2 else "r--") for page in range(1000)
        ]
        written = [page for page, region in enumerate(regions) if region.resident]
        assert written == list(range(1, 1000, 6))


def test_process_of_the_kernel_is_an_empty_space() -> None:
    assert len(by_sysctl("pid0")) == 0


def test_32_bit_process_is_read_alike() -> None:
    space = by_sysctl("i386")
    assert space[-1].end == 0xFFFFF000
    assert [region.kind for region in space] == [Kind.FILE] * 3 + [Kind.GUARD, Kind.STACK, Kind.VDSO]


@pytest.mark.parametrize("name", ["mapper-external", "plain-sleep"])
def test_agrees_with_procstat(name: str) -> None:
    """The system's own `procstat -v`, made beside the recording."""
    assert disagreements((CAPTURES / f"{name}.procstat.txt").read_text(), by_sysctl(name)) == []


def differing(one: Region, other: Region) -> set[str]:
    return {field for field in Region._fields if getattr(one, field) != getattr(other, field)}


def comparable(name: str) -> list[tuple[Region, Region]]:
    """The two readings are moments apart: what the process itself did in between is left out by its bounds."""
    sysctl, text = by_sysctl(name), by_text(name)
    others = {(region.start, region.end): region for region in text}
    return [(region, others[region.start, region.end]) for region in sysctl if (region.start, region.end) in others]


@pytest.mark.parametrize("name", PAIRS)
def test_backends_differ_only_as_declared(name: str) -> None:
    pairs = comparable(name)
    assert len(pairs) == len(by_sysctl(name)) == len(by_text(name))
    allowed = {each.field: each for each in DIFFERENCES}
    for sysctl, text in pairs:
        for field in differing(sysctl, text):
            assert field in allowed, (name, field, sysctl, text)
            assert allowed[field].allows(sysctl, text), (name, field, sysctl, text)


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda each: each.field)
def test_each_declared_difference_is_seen(difference: Any) -> None:
    if difference.field == "max_protection":
        return  # no recording is of a kernel that tells it: see test_vmmap.py
    seen = [1 for name in PAIRS for sysctl, text in comparable(name) if difference.field in differing(sysctl, text)]
    assert seen


def test_stray_byte_behind_a_recorded_text_is_refused() -> None:
    """The recorder read on after the text's end, and the text had changed: a byte was left over [ran 13.2]."""
    whole = (CAPTURES / "mapper-afterfork.map.txt").read_bytes()
    assert len(whole) == len(recorded_text("mapper-afterfork")) + 1
    with pytest.raises(MalformedData) as raised:
        PROCFS.decode(capture("freebsd-procfs", map=whole))
    assert raised.value.offset == len(whole) - 1
