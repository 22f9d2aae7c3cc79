"""Guesses at what nameless memory is: each rule finds its layout, and none is found where a sign is missing."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vmatlas
from vmatlas.analysis.naming import RULES, Certainty
from vmatlas.model import AddressSpace, Device, Kind, Protection, Region, SystemFlags, Thread

from .strategies import ORIGIN

K, M, G = 2**10, 2**20, 2**30
RIGHTS = {"r": Protection.READ, "w": Protection.WRITE, "x": Protection.EXECUTE, "-": Protection.NONE}


def region(start: int, size: int, rights: str, path: str | None = None, name: str | None = None) -> Region:
    protection = Protection.NONE
    for letter in rights:
        protection |= RIGHTS[letter]
    kind = Kind.FILE if path else Kind.GUARD if not protection else Kind.ANONYMOUS
    file = {"offset": 0, "device": Device(8, 1), "inode": 7} if path else {}
    return Region(start, start + size, protection, False, path=path, name=name, kind=kind, **file)  # type: ignore[arg-type]


def beside(start: int, *parts: tuple[int, str]) -> list[Region]:
    """Nameless regions that touch each other."""
    made = []
    for size, rights in parts:
        made.append(region(start, size, rights))
        start += size
    return made


def library(path: str, at: int = 0x7FFF00000000) -> Region:
    return region(at, 64 * K, "rx", path)


LIBC = library("/usr/lib/libc.so.6")
JVM = library("/usr/lib/jvm/libjvm.so", 0x7FFF10000000)
NODE = library("/usr/bin/node", 0x400000)


def space(*regions: Region, threads: list[Thread] | None = None, system: str = "linux", **of: object) -> AddressSpace:
    origin = replace(ORIGIN, system=replace(ORIGIN.system, system=system, **of), threads=threads and tuple(threads))  # type: ignore[arg-type]
    return AddressSpace.of(regions, origin)


def told(made: AddressSpace) -> list[tuple[int, str]]:
    return [(start, guess.label) for start, guess in vmatlas.name_regions(made).items()]


ARENA = 0x7F2000000000
PAIR = beside(ARENA, (132 * K, "rw"), (64 * M - 132 * K, "-"))


def test_an_arena_of_glibc_is_writable_from_a_boundary_and_reserved_up_to_the_next() -> None:
    assert told(space(*PAIR, LIBC)) == [
        (ARENA, "?glibc malloc arena"),
        (ARENA + 132 * K, "?reserved for a glibc malloc arena"),
    ]
    guess = vmatlas.name_regions(space(*PAIR, LIBC))[ARENA]
    assert guess.evidence == (
        "begins on a boundary of 64 MiB, writable for 132 KiB",
        "what follows has no rights up to the next boundary, 0x7f2004000000",
        "libc.so.6 is mapped",
    )
    assert (guess.rule, guess.certainty) == ("glibc-arena", Certainty.STRONG)


def test_a_guard_that_joined_the_rest_of_an_arena_does_not_hide_it() -> None:
    joined = beside(ARENA, (132 * K, "rw"), (64 * M - 128 * K, "-"))
    assert "and beyond" in vmatlas.name_regions(space(*joined, LIBC))[ARENA].evidence[1]


@pytest.mark.parametrize("other", [
    space(*PAIR),  # no glibc
    space(*PAIR, library("/usr/lib/libc.musl-x86_64.so.1")),
    space(*beside(ARENA + M, (132 * K, "rw"), (64 * M - 132 * K, "-")), LIBC),  # no boundary
    space(*beside(ARENA, (132 * K, "rw"), (32 * M, "-")), LIBC),  # reserved for something smaller
    space(*beside(ARENA, (132 * K, "rwx"), (64 * M - 132 * K, "-")), LIBC),
    space(*beside(ARENA, (4 * K, "rw"), (64 * M - 4 * K, "-")), LIBC),  # smaller than any heap of glibc
    space(*PAIR, LIBC, system="freebsd"),
    space(PAIR[0]._replace(name="[anon:mine]"), PAIR[1], LIBC),  # the kernel has a name for it
    space(PAIR[0]._replace(shared=True), PAIR[1], LIBC),
])  # fmt: skip
def test_what_lacks_one_sign_of_an_arena_is_not_named_so(other: AddressSpace) -> None:
    assert not [label for _, label in told(other) if "arena" in label]


def test_32_bit_processes_have_arenas_of_1_mib() -> None:
    pair = beside(0xF7000000, (132 * K, "rw"), (M - 132 * K, "-"))
    low = library("/usr/lib/libc.so.6", 0xF7E00000)
    assert [label for _, label in told(space(*pair, low))] == [
        "?glibc malloc arena",
        "?reserved for a glibc malloc arena",
    ]


STACK = beside(0x7F3000000000, (4 * K, "-"), (8 * M, "rw"))
POINTER = STACK[1].end - 5000


def test_a_stack_is_where_the_stack_pointer_is_and_a_guard_below() -> None:
    made = space(*STACK, LIBC, threads=[Thread(7, "worker", POINTER), Thread(8, "busy", None, "running")])
    assert told(made) == [
        (STACK[0].start, "?guard of the stack of thread 7 (worker)"),
        (STACK[1].start, "?stack of thread 7 (worker)"),
    ]
    guess = vmatlas.name_regions(made)[STACK[1].start]
    assert guess.group == "thread stack"
    assert guess.evidence[0] == f"the stack pointer of thread 7 (worker) is {POINTER:#x}, 5,000 bytes below the end"


def test_stacks_that_are_one_region_are_told_as_several() -> None:
    threads = [Thread(number, f"w{number}", POINTER - number) for number in range(1, 6)]
    label = dict(told(space(*STACK, LIBC, threads=threads)))[STACK[1].start]
    assert label == "?stacks of 5 threads: thread 1 (w1), thread 2 (w2), thread 3 (w3), ..."


def test_without_a_guard_that_shows_a_stack_is_a_weak_guess() -> None:
    made = space(STACK[1], LIBC, threads=[Thread(7, None, POINTER)])
    assert told(made) == [(STACK[1].start, "??stack of thread 7")]


class Flags(SystemFlags):
    """Of a system, for tests."""

    GUARDS = 1

    @property
    def may_hold_guards(self) -> bool:
        return bool(self)


def test_where_guards_may_lie_that_the_map_does_not_show_a_stack_is_none_the_weaker() -> None:
    made = space(STACK[1]._replace(flags=Flags.GUARDS), LIBC, threads=[Thread(7, None, POINTER)])
    assert told(made) == [(STACK[1].start, "?stack of thread 7")]
    assert told(space(STACK[1]._replace(flags=Flags(0)), threads=[Thread(7, None, POINTER)]))[0][1].startswith("??")


def test_a_stack_in_the_heap_of_go_does_not_make_it_a_stack() -> None:
    arena = beside(0xC000000000, (4 * M, "rw"), (60 * M, "-"))
    made = space(*arena, LIBC, threads=[Thread(7, "goroutine", 0xC00003DAF0)])
    assert told(made) == [(0xC000000000, "?Go heap"), (0xC000400000, "?reserved for the Go heap")]


def test_what_is_like_a_known_stack_may_be_one_and_8_mib_with_a_page_of_guard_too() -> None:
    other = beside(0x7F4000000000, (16 * K, "-"), (M, "rw"), (16 * K, "-"), (M, "rw"))
    made = space(*STACK, *other, LIBC, threads=[Thread(7, "w", other[1].end - 8)])
    labels = dict(told(made))
    assert labels[other[3].start] == labels[STACK[1].start] == "??stack of a thread"
    assert labels[other[2].start] == labels[STACK[0].start] == "??guard of a thread stack"
    assert dict(told(space(*other, LIBC))) == {}


def test_a_stack_pointer_in_what_the_kernel_names_or_nowhere_names_nothing() -> None:
    stack = region(0x7FFE00000000, 132 * K, "rw", name="[stack]")._replace(kind=Kind.STACK)
    assert told(space(stack, threads=[Thread(1, "main", stack.end - 8), Thread(2, "gone", 0x10)])) == []


ARCHIVE = region(0x7F5000000000, 12349440, "rw", "/usr/lib/jvm/classes.jsa")
CLASSES = 0x7F5001000000


def test_the_class_space_is_a_gibibyte_behind_the_archive() -> None:
    behind = beside(ARCHIVE.end, (CLASSES - ARCHIVE.end, "-"), (256 * K, "rw"), (G - 256 * K, "-"))
    assert [label for _, label in told(space(ARCHIVE, *behind, JVM))] == [
        "?reserved for the JVM class space", "?JVM class space", "?reserved for the JVM class space",
    ]  # fmt: skip
    assert told(space(ARCHIVE, *behind)) == []
    whole = beside(ARCHIVE.end, (CLASSES - ARCHIVE.end + G, "-"))  # nothing is used of it yet
    assert [label for _, label in told(space(ARCHIVE, *whole, JVM))] == ["?reserved for the JVM class space"]


def test_the_code_cache_is_what_is_writable_and_executable_in_a_jvm() -> None:
    cache = beside(0x7F6000000000, (2 * M, "rwx"), (100 * M, "-"), (2 * M, "rwx"), (136 * M, "-"))
    assert [label for _, label in told(space(*cache, JVM))] == [
        "?JVM code cache", "?reserved for the JVM code cache", "?JVM code cache", "?reserved for the JVM code cache",
    ]  # fmt: skip
    other = beside(0x7F6000000000, (2 * M, "rwx"), (98 * M, "-"))
    assert [label for _, label in told(space(*other, JVM))] == ["??JVM code cache"]
    assert told(space(*cache)) == []


@pytest.mark.parametrize(("start", "sizes", "labels"), [
    (3 * G + 768 * M, (100 * M, 156 * M), ["?JVM heap", "?reserved for the JVM heap"]),  # up to 4 GiB
    (28 * G, (G, 3 * G), ["?JVM heap", "?reserved for the JVM heap"]),  # up to 32 GiB
    (20 * G, (G, G), ["??JVM heap", "??reserved for the JVM heap"]),
    (31 * G + 512 * M, (G, G), []),  # beyond what compressed pointers reach
    (20 * G + 4 * K, (G, G), []),
    (20 * G, (4 * K, 4 * K), []),
])  # fmt: skip
def test_the_heap_of_a_jvm_lies_where_pointers_of_32_bits_reach(
    start: int, sizes: tuple[int, int], labels: list[str]
) -> None:
    heap = beside(start, (sizes[0], "rw"), (sizes[1], "-"))
    assert [label for _, label in told(space(*heap, JVM))] == labels


@pytest.mark.parametrize(("parts", "labels"), [
    # As OpenJDK 17 and 25 had them with -Xmx40g (jcmd GC.heap_info): G1, with its mark bitmap below; Parallel; Serial.
    ([(80 * M, "-"), (32 * M, "rw"), (40 * G - 32 * M, "-")], [None, "heap", "reserved"]),
    ([(53 * M, "-"), (11 * M, "rw"), (27 * G, "-"), (9 * M, "rw"), (13 * G, "-")],
     [None, "heap", "reserved", "heap", "reserved"]),
    ([(6 * M, "rw"), (13 * G, "-"), (11 * M, "rw"), (27 * G, "-")], ["heap", "reserved", "heap", "reserved"]),
    ([(640 * M, "-"), (39 * G, "rw"), (G, "-")], [None, "heap", "reserved"]),  # that is nearly full
    ([(32 * M, "rw"), (31 * G, "-")], [None, None]),
    ([(32 * M, "rw"), (31 * G, "-"), (4 * K, "r"), (2 * G, "-")], [None, None, None, None]),
])  # fmt: skip
def test_a_heap_of_more_than_32_gib_is_what_nothing_else_of_a_jvm_comes_near(
    parts: list[tuple[int, str]], labels: list[str | None]
) -> None:
    words = {"heap": "??JVM heap", "reserved": "??reserved for the JVM heap"}
    rows = beside(0x7F2958010000, *parts)
    found = dict(told(space(*rows, JVM)))
    assert [found.get(row.start) for row in rows] == [label and words[label] for label in labels]
    assert not any("heap" in label for _, label in told(space(*rows, LIBC)))


def test_the_page_without_rights_below_an_archive_of_classes_is_no_heap() -> None:
    zone = region(0x46000000, 4 * K, "-")
    archive = region(zone.end, 0xD94000, "rw", "/usr/lib/jvm/classes.jsa")
    rest = beside(archive.end, (0x47000000 - archive.end, "-"), (64 * K, "rw"), (G - 64 * K, "-"))
    labels = [label for _, label in told(space(zone, archive, *rest, JVM))]
    assert labels == [f"?{'' if row == 2 else 'reserved for the '}JVM class space" for row in range(4)]


def test_without_an_archive_the_class_space_begins_where_the_heap_ends() -> None:
    parts = beside(4 * G - 64 * M, (64 * M, "rw"), (128 * K, "-"), (64 * K, "rw"), (G - 192 * K, "-"))
    assert [label for _, label in told(space(*parts, JVM))] == [
        "?JVM heap", "??reserved for the JVM class space", "??JVM class space", "??reserved for the JVM class space",
    ]  # fmt: skip


def test_metaspace_on_a_boundary_of_64_mib_may_be_an_arena_and_that_is_said() -> None:
    node = beside(ARENA + 4 * M, (64 * K, "rw"), (64 * M - 64 * K, "-"))
    assert [label for _, label in told(space(*node, JVM, LIBC))] == [
        "??JVM metaspace",
        "??reserved for the JVM metaspace",
    ]
    either = beside(ARENA, (64 * K, "rw"), (64 * M - 64 * K, "-"))
    assert next(label for _, label in told(space(*either, JVM, LIBC))) == "??glibc malloc arena"


def test_pages_of_v8_stand_alone_on_boundaries_of_256_kib() -> None:
    pages = [region(0x100000000000 + number * G, 256 * K, "rw") for number in range(3)]
    large = region(0x200000000000, 404 * K, "rw")
    assert [label for _, label in told(space(NODE, *pages, large))] == ["?V8 heap"] * 4
    assert told(space(*pages, large, LIBC)) == []
    near = [pages[0], region(pages[0].end + M, 256 * K, "rw"), region(0x300000001000, 256 * K, "rw")]
    assert told(space(NODE, *near)) == []


def test_the_code_range_of_v8_is_one_reservation_with_executable_memory_in_it() -> None:
    builtins = region(0x7F7000400000, 2 * M, "rx", "/usr/bin/node")
    parts = [*beside(0x7F7000000000, (8 * K, "rw"), (4 * K, "-"), (4 * M - 12 * K, "rwx")), builtins]
    parts += beside(builtins.end, (506 * M, "-"))
    assert [label for _, label in told(space(NODE, *parts))] == [
        "?V8 code range", "?reserved for the V8 code range", "?V8 code range", "?reserved for the V8 code range",
    ]  # fmt: skip


CHROMIUM = library("/usr/lib/chromium/chromium", 0x550000000000)


def test_the_sandbox_of_v8_is_a_tebibyte_with_the_heap_at_its_start() -> None:
    start = 0x7E2800000000
    parts = [(64 * K, "r"), (64 * K, "-"), (16 * M, "rw"), (8 * G, "-"), (256 * K, "rw"), (1300 * G, "-")]
    below = beside(start - 64 * G, (64 * G, "-"))
    assert [label for _, label in told(space(*below, *beside(start, *parts), CHROMIUM))] == [
        "?reserved for the V8 sandbox", "?V8 heap", "?reserved for the V8 sandbox", "?V8 heap",
        "?reserved for the V8 sandbox", "?V8 sandbox", "?reserved for the V8 sandbox",
    ]  # fmt: skip
    assert told(space(*below, *beside(start, *parts))) == []
    assert told(space(*beside(start, *parts), CHROMIUM)) == []  # nothing below it
    assert told(space(*below, *beside(start, *parts[:4]), CHROMIUM)) == []  # too small


def test_super_pages_of_partition_alloc_are_known_by_their_layout() -> None:
    page = beside(0x63400002000, (4 * K, "rw"), (4 * K, "-"), (2016 * K, "rw"), (24 * K, "-"))
    assert [label for _, label in told(space(*page, CHROMIUM))] == [
        "?PartitionAlloc", "?reserved for PartitionAlloc", "?PartitionAlloc", "?reserved for PartitionAlloc",
    ]  # fmt: skip
    assert told(space(*page, LIBC)) == []
    assert told(space(*beside(0x63400003000, (4 * K, "rw"), (4 * K, "-"), (2016 * K, "rw")), CHROMIUM)) == []


def test_the_heap_of_go_is_whole_arenas_where_go_asks_for_them() -> None:
    assert told(space(*beside(0xC000000000, (4 * M, "rw"), (16 * M, "-")), LIBC)) == []
    assert told(space(*beside(0xC004000000, (4 * M, "rw"), (60 * M, "-")))) == []
    arm = space(*beside(0x4000000000, (64 * M, "rw"), (4 * M, "rw"), (60 * M, "-")), machine="aarch64")
    assert [label for _, label in told(arm)] == ["?Go heap", "?Go heap", "?reserved for the Go heap"]


def test_address_sanitizer_is_known_by_all_of_its_shadow() -> None:
    shadow = beside(0x7FFF7000, (256 * M, "rw"), (0x20000000000, "-"), (0x10007FFF8000 - 0x2008FFF7000, "rw"))
    heap = beside(0x603000000000, (64 * K, "rw"), (0xE00000000 - 64 * K, "-"))
    assert [label for _, label in told(space(*shadow, *heap))] == [
        "?AddressSanitizer's low shadow", "?AddressSanitizer's shadow gap", "?AddressSanitizer's high shadow",
        "?AddressSanitizer's allocator", "?reserved for AddressSanitizer's allocator",
    ]  # fmt: skip
    assert told(space(*shadow[1:], *heap)) == []


def test_bss_lies_behind_the_data_of_a_file_with_code() -> None:
    code, data = region(0x500000, 64 * K, "rx", "/bin/x"), region(0x510000, 4 * K, "rw", "/bin/x")
    assert told(space(code, data, *beside(data.end, (8 * K, "rw")))) == [(data.end, "??.bss of x")]
    assert told(space(code, data, *beside(data.end, (M, "rw")))) == []  # it has been joined by something else
    assert told(space(code, data, *beside(data.end + 4 * K, (8 * K, "rw")))) == []
    assert told(space(data, *beside(data.end, (8 * K, "rw")))) == []  # a file of data, of no program


def test_allocators_are_known_by_their_libraries() -> None:
    segments = beside(0x30000000000, (64 * M, "rw"), (32 * M, "-"))
    assert told(space(*segments, LIBC)) == []
    mimalloc = library("/usr/lib/libmimalloc.so.2.0", 0x7FFF20000000)
    assert [label for _, label in told(space(*segments, mimalloc))] == ["?mimalloc segment", "?reserved for mimalloc"]
    extent = region(0x7F8000100000, 9 * M, "rw")
    jemalloc = library("/usr/lib/libjemalloc.so.2", 0x7FFF20000000)
    assert told(space(extent, jemalloc)) == [(extent.start, "??jemalloc extent")]
    assert told(space(extent)) == []
    tcmalloc = library("/usr/lib/libtcmalloc_minimal.so.4", 0x7FFF20000000)
    mapped = [region(0x7F8000100000, 110112 * K, "rw"), region(0x7F9000000000, 28 * K, "rw")]
    assert told(space(*mapped, tcmalloc)) == [(mapped[0].start, "??tcmalloc heap")]


@pytest.mark.parametrize(("program", "size", "is_arena"), [
    ("python3.11", M, True), ("libpython3.12.so.1.0", 3 * M, True), ("python3.11", 256 * K, False),
    ("python3.9", 256 * K, True), ("python3.9", 100 * K, False), ("perl", M, False),
])  # fmt: skip
def test_arenas_of_python_are_whole_multiples(program: str, size: int, is_arena: bool) -> None:
    made = space(region(0x7F9000001000, size, "rw"), library(f"/usr/bin/{program}", 0x560000000000))
    assert [label for _, label in told(made)] == ["??Python object arena"] * is_arena


def test_a_large_mapping_on_boundaries_of_huge_pages_is_no_arena_of_python() -> None:
    python = library("/usr/bin/python3.11", 0x560000000000)
    assert told(space(region(0x7F9000000000, 64 * M, "rw"), python)) == []


def test_every_rule_says_of_what_it_can_speak_and_no_two_have_one_name() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    assert all(rule.speaks_for.startswith("Linux") and rule.systems for rule in RULES)


def test_what_is_no_address_space_is_refused() -> None:
    with pytest.raises(vmatlas.UsageError, match="7 is no address space"):
        vmatlas.name_regions(7)  # type: ignore[arg-type]
