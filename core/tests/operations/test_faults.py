"""Why an address faults, told from the map."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given

import vmatlas
from vmatlas import Kind, Protection, Region
from vmatlas.model import AddressSpace, SystemFlags
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
        (STACK.start - 0x100000, None, FaultCause.STACK_OVERFLOW, "the stack has overflowed"),
        (THREAD.end + 1, None, FaultCause.HOLE, "2 bytes above the last byte of nameless memory"),
        (STACK.end, None, FaultCause.HOLE, "above the last byte of .stack."),
        (CODE.start, None, FaultCause.PROTECTION, "/bin/worker .*which is r-xp: it cannot be written"),
        (CODE.start, WRITE, FaultCause.PROTECTION, "it cannot be written"),
        (CODE.start, READ, FaultCause.NOT_BY_THE_MAP, "allows it"),
        (DATA.start, EXECUTE, FaultCause.PROTECTION, "it cannot be executed"),
        (DATA.start, None, FaultCause.PROTECTION, "cannot be executed; if it was read or written, the map has changed"),
        (DATA.start, WRITE, FaultCause.NOT_BY_THE_MAP, "allows it: the map has changed since$"),
        (CODE.start, EXECUTE, FaultCause.NOT_BY_THE_MAP, "the map has changed since, or the file behind it is shorter"),
        (2**64 - 1, None, FaultCause.HOLE, "nothing is mapped"),
    ],
)
def test_cause_and_story(address, access, cause, said):
    fault = classify_fault(address, SPACE, access=access)
    assert fault.cause is cause
    assert re.search(said, fault.text), fault.text
    assert (fault.before, fault.at, fault.after) == SPACE.neighbours(address)


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
        assert ("the file behind it is shorter" in fault.text) is (size is None)


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
    assert "it is a guard page (MADV_GUARD_INSTALL; the region has some, or had), or the map has changed" in fault.text
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


def test_region_that_the_system_flags_as_a_stack_can_grow():
    class Flags(SystemFlags):
        GROWS = 1

        @property
        def grows_down(self) -> bool:
            return bool(self & Flags.GROWS)

    grows = space_of(DATA, DATA._replace(start=0x600000, end=0x610000, flags=Flags.GROWS))
    assert classify_fault(0x600000 - 8, grows).cause is FaultCause.STACK_OVERFLOW


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
