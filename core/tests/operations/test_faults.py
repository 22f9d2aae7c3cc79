"""Why an address faults, told from the map."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given

import vmatlas
from vmatlas import Kind, Protection, Region
from vmatlas.backend import NO_LIMIT
from vmatlas.model import AddressSpace, Details, SystemFlags
from vmatlas.model import Origin as From
from vmatlas.operations import FaultCause, classify_fault
from vmatlas.operations.faults import classify

from ..strategies import addresses, spaces
from .kernel import SYSTEM

READ, WRITE, EXECUTE, NONE = Protection.READ, Protection.WRITE, Protection.EXECUTE, Protection.NONE
RW = READ | WRITE
STACK = Region(0x7FF00000, 0x7FF20000, RW, shared=False, name="[stack]", kind=Kind.STACK)
CODE = Region(0x400000, 0x402000, READ | EXECUTE, shared=False, path="/bin/worker", kind=Kind.FILE)
DATA = Region(0x500000, 0x510000, RW, shared=False, kind=Kind.ANONYMOUS)
GUARD = Region(0x510000, 0x511000, NONE, shared=False, kind=Kind.GUARD)
THREAD = Region(0x511000, 0x520000, RW, shared=False, kind=Kind.ANONYMOUS)


def space_of(*regions: Region) -> AddressSpace:
    return AddressSpace.of(regions, From(SYSTEM, 1234, "linux-procfs", 0.0))


SPACE = space_of(CODE, DATA, GUARD, THREAD, STACK)


@pytest.mark.parametrize(
    ("address", "access", "cause", "said"),
    [
        (0, None, FaultCause.HOLE, "a null pointer"),
        (24, None, FaultCause.HOLE, "a null pointer and an offset of 24"),
        (0x450000, None, FaultCause.HOLE, "nothing is mapped at 0x450000"),
        (0x510008, None, FaultCause.GUARD, "just below nameless memory .0x511000-0x520000.: most likely that stack"),
        (STACK.start - 1, None, FaultCause.STACK_OVERFLOW, "1 byte below the stack"),
        (STACK.start - 0x100000, None, FaultCause.STACK_OVERFLOW, "a possible overflow"),
        (THREAD.end + 1, None, FaultCause.HOLE, "2 bytes above the last byte of nameless memory"),
        (STACK.end, None, FaultCause.HOLE, "above the last byte of .stack."),
        (CODE.start, None, FaultCause.PROTECTION, "/bin/worker .*which is r-xp: it cannot be written"),
        (CODE.start, WRITE, FaultCause.PROTECTION, "it cannot be written"),
        (CODE.start, READ, FaultCause.NOT_BY_THE_MAP, "allows it"),
        (DATA.start, EXECUTE, FaultCause.PROTECTION, "it cannot be executed"),
        (
            DATA.start,
            None,
            FaultCause.PROTECTION,
            "cannot be executed; if it was read or written, a guard page, a prot",
        ),
        (
            DATA.start,
            WRITE,
            FaultCause.NOT_BY_THE_MAP,
            "allows it: a guard page, a protection .*, or the map may have changed since$",
        ),
        (
            CODE.start,
            EXECUTE,
            FaultCause.NOT_BY_THE_MAP,
            "the map may have changed since, or the file behind it may be",
        ),
        (2**64 - 1, None, FaultCause.HOLE, "nothing is mapped"),
    ],
)
def test_cause_and_story(address, access, cause, said):
    fault = classify_fault(address, SPACE, access=access)
    assert fault.cause is cause
    assert re.search(said, fault.text), fault.text
    assert (fault.before, fault.at, fault.after) == SPACE.neighbours(address)


@pytest.mark.parametrize(
    ("pointer", "is_overflow"),
    [
        (None, True),  # it is not told
        (THREAD.start + 8, True),
        (GUARD.start + 8, True),
        (DATA.start - 0x1000, True),  # in one step beyond the guard, where nothing is mapped
        (DATA.start + 0x1000, False),
        (STACK.end - 64, False),  # on another stack
        (THREAD.end + 0x100, False),  # above it
    ],
)
def test_a_stack_has_overflowed_only_where_the_thread_that_touched_its_guard_may_stand_on_it(pointer, is_overflow):
    fault = classify(GUARD.start + 8, SPACE, stack_pointer=pointer)
    assert fault.cause is FaultCause.GUARD
    assert ("overflowed" in fault.text, fault.stack) == ((True, THREAD) if is_overflow else (False, None))
    at = THREAD.start + 8
    within = classify(at, SPACE, WRITE, lambda address: address < THREAD.start + 0x1000, stack_pointer=pointer)
    assert ("overflowed" in within.text) is is_overflow


def test_what_may_be_written_may_be_read_on_linux_and_is_not_said_to_forbid_it():
    space = space_of(DATA._replace(protection=WRITE))
    fault = classify_fault(DATA.start, space)
    assert "-w-p: it cannot be executed; if it was read or written" in fault.text
    assert classify_fault(DATA.start, space, access=READ).cause is FaultCause.NOT_BY_THE_MAP
    elsewhere = AddressSpace.of(list(space), replace(space.origin, system=replace(SYSTEM, system="freebsd")))
    assert classify_fault(DATA.start, elsewhere, access=READ).cause is FaultCause.PROTECTION


@pytest.mark.parametrize(
    ("size", "access", "cause"),
    [
        (0x1001, READ, FaultCause.BEYOND_FILE),
        (0x3001, READ, FaultCause.BEYOND_FILE),
        (0x4001, READ, FaultCause.NOT_BY_THE_MAP),  # in what is left of the last page
        (0x5000, READ, FaultCause.NOT_BY_THE_MAP),
        (0, None, FaultCause.BEYOND_FILE),
        (0, WRITE, FaultCause.PROTECTION),
        (None, READ, FaultCause.NOT_BY_THE_MAP),
    ],
)
def test_an_access_beyond_the_last_page_of_a_file_is_told_from_one_in_it(size, access, cause):
    """The address is 0x4800 of the file."""
    at = CODE._replace(offset=0x3000)
    fault = classify(at.start + 0x1800, space_of(at), access, size_of=lambda region: size)
    assert fault.cause is cause, fault.text
    if cause is FaultCause.BEYOND_FILE:
        assert f"beyond the end of the file behind it, which has {size:,} bytes: to touch it is SIGBUS" in fault.text
    elif access is READ:
        assert ("the file behind it may be shorter" in fault.text) is (size is None)


class Guarding(SystemFlags):
    """Flags of a region that has guard pages, or had."""

    GUARDS = 1

    @property
    def may_hold_guards(self) -> bool:
        return bool(self)


def test_guard_page_that_the_map_does_not_show_is_a_guard():
    fault = classify(DATA.start + 0x1008, SPACE, WRITE, lambda address: address & ~0xFFF == DATA.start + 0x1000)
    assert (fault.cause, fault.stack, fault.at) == (FaultCause.GUARD, None, DATA)
    assert "a guard page within nameless memory" in fault.text
    assert classify(DATA.start, SPACE, WRITE, lambda address: False).cause is FaultCause.NOT_BY_THE_MAP
    assert classify(CODE.start, SPACE, WRITE, lambda address: True).cause is FaultCause.PROTECTION


def test_guard_page_at_the_low_end_of_a_stack_is_its_overflow():
    fault = classify(THREAD.start + 0x1008, SPACE, None, lambda address: address < THREAD.start + 0x2000)
    assert (fault.cause, fault.stack) == (FaultCause.GUARD, THREAD)
    assert "that stack has overflowed" in fault.text


def test_guard_page_is_a_possibility_where_only_the_flags_tell():
    """Of a capture, and over a wire: the flag stays when the guards are gone."""
    space = space_of(DATA._replace(flags=Guarding.GUARDS))
    fault = classify_fault(DATA.start, space, access=WRITE)
    assert fault.cause is FaultCause.NOT_BY_THE_MAP
    assert "it may be a guard page (MADV_GUARD_INSTALL; the region has some, or had), or the map may" in fault.text
    assert "guard" not in classify(DATA.start, space, WRITE, lambda address: False).text


def test_stack_is_the_one_that_overflowed():
    assert classify_fault(STACK.start - 8, SPACE).stack == STACK
    assert classify_fault(GUARD.start, SPACE).stack == THREAD
    assert classify_fault(0x450000, SPACE).stack is None


def test_distance_is_to_the_nearest_region():
    assert classify_fault(CODE.end + 9, SPACE).distance == 10
    assert classify_fault(STACK.start - 16, SPACE).distance == 16


def test_hole_nearer_to_what_is_below_is_no_overflow():
    close = space_of(DATA._replace(start=STACK.start - 0x3000, end=STACK.start - 0x2000), STACK)
    assert classify_fault(STACK.start - 0x2000 + 4, close).cause is FaultCause.HOLE
    assert classify_fault(STACK.start - 4, close).cause is FaultCause.STACK_OVERFLOW


def test_hole_far_below_a_stack_is_no_overflow_however_large_it_is():
    alone = space_of(CODE, STACK)
    assert classify_fault(STACK.start - 256 * 4096, alone).cause is FaultCause.STACK_OVERFLOW
    assert classify_fault(STACK.start - 256 * 4096 - 1, alone).cause is FaultCause.HOLE


class Flags(SystemFlags):
    """Some of Linux's."""

    GROWS = 1
    um = 2
    uw = 4
    mt = 8
    ss = 16
    ht = 32

    @property
    def grows_down(self) -> bool:
        return bool(self & Flags.GROWS)


GROWS = STACK._replace(flags=Flags.GROWS)
LIMIT = 8 << 20


def test_region_that_the_system_flags_as_a_stack_can_grow():
    grows = space_of(DATA, DATA._replace(start=0x700000, end=0x710000, flags=Flags.GROWS))
    fault = classify_fault(0x700000 - 8, grows)
    assert (fault.cause, fault.certain) == (FaultCause.STACK_OVERFLOW, False)
    assert "8 bytes below a stack without a name (0x700000-0x710000): a possible overflow" in fault.text


@pytest.mark.parametrize(
    ("address", "cause"),
    [
        (GROWS.start - 8, FaultCause.STACK_GROWTH),
        (GROWS.end - LIMIT, FaultCause.STACK_GROWTH),
        (GROWS.end - LIMIT - 1, FaultCause.STACK_OVERFLOW),
        (GROWS.end - (9 << 20), FaultCause.STACK_OVERFLOW),
        (GROWS.end - (15 << 20), FaultCause.STACK_OVERFLOW),
        (GROWS.end - (64 << 20), FaultCause.HOLE),
    ],
)
def test_stack_grows_within_its_limit_and_overflows_beyond(address, cause):
    fault = classify(address, space_of(CODE, GROWS), WRITE, stack_limit=lambda: LIMIT)
    assert (fault.cause, fault.certain) == (cause, True), fault.text
    assert fault.stack == (None if cause is FaultCause.HOLE else GROWS)
    assert ("the stack has overflowed" in fault.text) is (cause is FaultCause.STACK_OVERFLOW)


@pytest.mark.parametrize(
    ("neighbour", "cause"),
    [
        (DATA._replace(), FaultCause.STACK_OVERFLOW),
        (DATA._replace(protection=NONE, kind=Kind.GUARD), FaultCause.STACK_GROWTH),
        (DATA._replace(flags=Flags.GROWS), FaultCause.STACK_GROWTH),
    ],
)
def test_stack_keeps_256_pages_from_what_is_below_unless_that_grows_or_is_a_guard(neighbour, cause):
    end = GROWS.start - 256 * 4096
    space = space_of(neighbour._replace(start=end - 0x1000, end=end), GROWS)
    fault = classify(GROWS.start - 8, space, WRITE, stack_limit=lambda: LIMIT)
    assert (fault.cause, fault.certain) == (cause, True), fault.text
    away = space_of(neighbour._replace(start=end - 0x2000, end=end - 0x1000), GROWS)
    assert classify(GROWS.start - 8, away, WRITE, stack_limit=lambda: LIMIT).cause is FaultCause.STACK_GROWTH


def test_stack_grows_toward_what_is_nearer_than_the_stack_too():
    below = DATA._replace(start=GROWS.start - 0x400000, end=GROWS.start - 0x3FF000)
    fault = classify(GROWS.start - 0x280000, space_of(below, GROWS), WRITE, stack_limit=lambda: LIMIT)
    assert fault.cause is FaultCause.STACK_GROWTH


def test_stack_that_grows_gives_its_rights_and_no_more():
    space = space_of(CODE, GROWS)
    fault = classify(GROWS.start - 8, space, EXECUTE, stack_limit=lambda: LIMIT)
    assert fault.cause is FaultCause.PROTECTION and "it cannot be executed" in fault.text


def test_stack_without_a_limit_may_grow_and_is_not_said_to_from_far():
    space = space_of(CODE, GROWS._replace(start=0x7FFF00000000, end=0x7FFF00020000))
    near = classify(0x7FFF00000000 - 0x1000000, space, WRITE, stack_limit=lambda: NO_LIMIT)
    assert (near.cause, near.certain) == (FaultCause.STACK_GROWTH, True) and "no limit" in near.text
    far = classify(0x7000_0000_0000, space, WRITE, stack_limit=lambda: NO_LIMIT)
    assert (far.cause, far.certain) == (FaultCause.HOLE, False) and "may answer by growing" in far.text


def test_stack_that_its_flags_say_does_not_grow_has_no_growth():
    space = space_of(CODE, STACK._replace(flags=Flags(0)))
    assert classify(STACK.start - 8, space, WRITE, stack_limit=lambda: LIMIT).cause is FaultCause.HOLE


def test_other_systems_are_not_asked_for_a_limit():
    space = AddressSpace.of([CODE, STACK], From(replace(SYSTEM, system="freebsd"), 1, "freebsd-sysctl", 0.0))
    fault = classify(STACK.start - 8, space, WRITE, stack_limit=lambda: LIMIT)
    assert (fault.cause, fault.certain) == (FaultCause.STACK_OVERFLOW, True)


@pytest.mark.parametrize(
    ("changes", "access", "said", "unsaid"),
    [
        ({"details": Details({"ProtectionKey": 1})}, READ, "its protection key 1 may forbid it .SEGV_PKUERR", "userf"),
        ({"details": Details({"ProtectionKey": 0})}, READ, "allows it: the map may have changed since$", "key"),
        (
            {"flags": Flags.um, "resident": 0},
            READ,
            "a userfaultfd watches the region, and an access to a page that is not there .none of the region is. waits",
            "key",
        ),
        (
            {"flags": Flags.um, "resident": 4096},
            READ,
            "and an access to a page that is not there waits for it, or is SIGBUS, or the map",
            "key",
        ),
        ({"flags": Flags.um, "resident": DATA.size}, READ, "the map may have changed", "userfaultfd"),
        ({"flags": Flags.uw, "resident": DATA.size}, WRITE, "an access that writes to a page it protects", "key"),
        ({"flags": Flags.uw, "resident": DATA.size}, READ, "the map may have changed", "userfaultfd"),
        ({"flags": Flags.mt}, READ, "SEGV_MTESERR", "userfaultfd"),
        ({"flags": Flags.ss}, WRITE, "shadow stack", "userfaultfd"),
        ({"flags": Flags.ht}, WRITE, "no huge page left for it .SIGBUS", "userfaultfd"),
        (
            {"flags": None},
            WRITE,
            "a protection key or a userfaultfd may be why .a map with residency tells",
            "has changed",
        ),
    ],
)
def test_what_forbids_beside_the_rights_is_named_where_the_map_tells_of_it(changes, access, said, unsaid):
    space = space_of(DATA._replace(**{"flags": Flags(0), **changes}))
    fault = classify_fault(DATA.start, space, access=access)
    assert fault.cause is FaultCause.NOT_BY_THE_MAP
    assert re.search(said, fault.text) and unsaid not in fault.text, fault.text


@pytest.mark.parametrize(
    ("address", "said"),
    [
        (0x800000000000, "no canonical address of x86-64 with four levels"),
        (0x8000000000000000, "no canonical address of x86-64: nothing can be mapped there, and .*si_addr 0"),
        (2**64 - 2**47, "the kernel's half of the addresses"),
        (2**64 - 1, "the kernel's half of the addresses"),
    ],
)
def test_addresses_that_no_process_can_have_on_x86_64_are_said_to_be_such(address, said):
    vsyscall = Region(2**64 - 0xA00000, 2**64 - 0x9FF000, EXECUTE, shared=False, name="[vsyscall]", kind=Kind.VSYSCALL)
    for space in (SPACE, space_of(*SPACE, vsyscall)):
        fault = classify_fault(address, space)
        assert (fault.cause, fault.distance) == (FaultCause.HOLE, None)
        assert re.search(said, fault.text) and "bytes" not in fault.text, fault.text
    assert "below [vsyscall]" not in classify_fault(STACK.end, space_of(*SPACE, vsyscall)).text


def test_above_47_bits_is_canonical_where_memory_is_and_on_other_processors():
    high = space_of(DATA._replace(start=2**48, end=2**48 + 0x1000))
    assert "canonical" not in classify_fault(2**48 + 0x2000, high).text
    arm = AddressSpace.of([DATA], From(replace(SYSTEM, machine="aarch64"), 1, "linux-procfs", 0.0))
    assert "canonical" not in classify_fault(2**48, arm).text


def test_what_has_no_name_has_a_sentence():
    fault = classify_fault(GUARD.start + 8, space_of(GUARD))
    assert "lies in a guard without a name (0x510000-0x511000)" in fault.text
    assert "last byte of a guard without a name (" in classify_fault(GUARD.end + 8, space_of(GUARD)).text
    assert "lies in the guard /x (" in classify_fault(GUARD.start, space_of(GUARD._replace(path="/x"))).text


def test_empty_space_is_a_hole():
    assert "the process has no memory" in classify_fault(0x7F0000, space_of()).text


@given(spaces.flatmap(lambda space: addresses(space).map(lambda address: (space, address))))
def test_every_address_has_a_cause_and_its_neighbours(case):
    space, address = case
    fault = classify_fault(address, space)
    assert (fault.before, fault.at, fault.after) == space.neighbours(address)
    assert (fault.at is None) == (fault.cause in (FaultCause.HOLE, FaultCause.STACK_OVERFLOW))
    assert fault.text


@pytest.mark.parametrize("address", [-1, 2**64, "0", None, 1.5])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(vmatlas.UsageError):
        classify_fault(address, SPACE)


def test_what_is_no_access_is_refused():
    with pytest.raises(vmatlas.UsageError, match="no access"):
        classify_fault(0, SPACE, access=RW)


def test_hole_farther_below_a_stack_than_its_overflow_says_what_the_limit_does_or_that_it_is_not_known():
    space, address = space_of(CODE, GROWS), GROWS.end - 3 * LIMIT
    known = classify(address, space, WRITE, stack_limit=lambda: LIMIT)
    assert (known.cause, known.certain) == (FaultCause.HOLE, True)
    assert known.text.endswith(f", a stack, which could not grow so far (limit): it may have {LIMIT:,} bytes")
    unknown = classify(address, space, WRITE)
    assert (unknown.cause, unknown.certain) == (FaultCause.HOLE, False)
    assert "could grow so far is not known here" in unknown.text and "(limit)" not in unknown.text
    assert classify(address, space_of(CODE, GROWS._replace(flags=None, kind=Kind.ANONYMOUS)), WRITE).certain is True, (
        "what is not told to grow is no stack"
    )


def test_part_of_a_stack_that_was_split_may_grow_and_its_flags_decide():
    """A page of a stack was locked: the parts below are nameless, and only flags tell that they are of it."""
    low, locked = (
        Region(STACK.start - at, STACK.start - at + 0x2000, RW, shared=False, kind=Kind.ANONYMOUS)
        for at in (0x4000, 0x2000)
    )
    fault = classify_fault(low.start - 8, space_of(CODE, low, locked, STACK), access=WRITE)
    assert (fault.cause, fault.certain, fault.stack) == (FaultCause.STACK_OVERFLOW, False, low)
    assert "what may be the lower part of a stack" in fault.text
    far = classify_fault(low.start - 0x20000000, space_of(CODE, low, locked, STACK), access=WRITE)
    assert (far.cause, far.certain) == (FaultCause.HOLE, False)
    for apart in (
        low._replace(shared=True),
        low._replace(name="[anon:x]"),
        low._replace(start=low.start - 0x1000, end=low.end - 0x1000),
    ):
        fault = classify_fault(apart.start - 8, space_of(CODE, apart, locked, STACK), access=WRITE)
        assert (fault.cause, fault.certain) == (FaultCause.HOLE, True), apart


@pytest.mark.parametrize(
    ("machine", "flags", "details", "cause", "certain"),
    [
        ("x86_64", None, {}, FaultCause.PROTECTION, False),
        ("x86_64", Flags(0), {}, FaultCause.NOT_BY_THE_MAP, True),
        ("x86_64", Flags(0), {"ProtectionKey": 1}, FaultCause.PROTECTION, True),
        ("i686", None, {}, FaultCause.NOT_BY_THE_MAP, True),
        ("s390x", None, {}, FaultCause.NOT_BY_THE_MAP, True),
        ("riscv64", None, {}, FaultCause.PROTECTION, True),
    ],
)
def test_code_that_has_no_right_to_be_read_is_read_where_the_processor_cannot_tell(
    machine, flags, details, cause, certain
):
    """x86-64 by protection keys alone, of which smaps tells; 32-bit x86 and s390x never."""
    code = CODE._replace(
        protection=EXECUTE, flags=flags, resident=None if flags is None else 0, details=Details(details)
    )
    space = AddressSpace.of([code], From(replace(SYSTEM, machine=machine), 1234, "linux-procfs", 0.0))
    fault = classify_fault(code.start, space, access=READ)
    assert (fault.cause, fault.certain) == (cause, certain), fault.text
    assert classify_fault(code.start, space, access=WRITE).cause is FaultCause.PROTECTION
