"""Why an access to an address faults: the question of a crash handler, answered from the map. Pure.

A guard page that the map does not show is told by whoever is given as `guard_at`.

The rule for stacks is gnulib's (sigsegv, stackvma): a stack grows into the hole below it, so a fault there that lies
nearer to the stack than to what is below it is taken for an overflow. Only as near, though, as Linux keeps everything
else away from a stack: a hole can be half the address space.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from vmatlas.arguments import shown
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Kind, Protection, Region
from vmatlas.operations.checks import check_address
from vmatlas.operations.values import Fault, FaultCause

_NEAR_ZERO = 0x10000
"""Below it nothing is mapped on any of the systems (Linux: vm.mmap_min_addr): a null pointer and an offset."""

STACK_GAP = 256
"""Pages that Linux keeps free below a stack that can grow (stack_guard_gap, mm/mmap.c)."""

_VERBS = {Protection.READ: "read", Protection.WRITE: "written", Protection.EXECUTE: "executed"}


GuardAt: TypeAlias = Callable[[int], bool | None]
"""Whether a guard page that the map does not show lies at an address; None where that is not told."""


SizeOf: TypeAlias = Callable[[Region], int | None]
"""Bytes in the file behind a region, as it is now; None where that is not told."""


def can_grow(region: Region) -> bool:
    """Whether the kernel lets it grow downward when an address below it is touched."""
    return region.kind is Kind.STACK or (region.flags is not None and region.flags.grows_down)


def classify(
    address: int,
    space: AddressSpace,
    access: Protection | None = None,
    guard_at: GuardAt = lambda address: None,
    size_of: SizeOf = lambda region: None,
) -> Fault:
    """What lies at the address and why an access to it faults.

    `guard_at` and `size_of` ask the process of the map, where they can.
    """
    number = check_address(address, page=1, bits=64)
    if access is not None and not (isinstance(access, Protection) and access in _VERBS):
        raise UsageError(f"{shown(access)} is no access", hint="Protection.READ, WRITE or EXECUTE")
    before, at, after = space.neighbours(number)
    if at is not None:
        return _in_region(number, at, before, after, access, guard_at, _Beyond(space, size_of))
    below = None if before is None else number - before.end + 1
    above = None if after is None else after.start - number
    distance = min((each for each in (below, above) if each is not None), default=None)
    near_stack = above is not None and above <= STACK_GAP * space.system.page_size and (below is None or above <= below)
    if after is not None and near_stack and can_grow(after):
        text = f"{number:#x} lies {_bytes(above)} below the stack {_named(after)}: the stack has overflowed"
        return Fault(number, FaultCause.STACK_OVERFLOW, at, before, after, stack=after, distance=distance, text=text)
    text = f"nothing is mapped at {number:#x}"
    if number < _NEAR_ZERO:
        text += ": a null pointer" + (f" and an offset of {number}" if number else "")
    else:
        near = []
        if before is not None:
            near.append(f"{_bytes(below)} above the last byte of {_named(before)}")
        if after is not None:
            near.append(f"{_bytes(above)} below {_named(after)}")
        text += f": it lies {' and '.join(near)}" if near else ": the process has no memory"
    return Fault(number, FaultCause.HOLE, at, before, after, distance=distance, text=text)


def _in_region(
    address: int,
    at: Region,
    before: Region | None,
    after: Region | None,
    access: Protection | None,
    guard_at: GuardAt,
    beyond: _Beyond,
) -> Fault:
    if at.kind is Kind.GUARD or at.protection == Protection.NONE:
        stack = after if after is not None and after.start == at.end and _is_stack(after) else None
        text = f"{address:#x} lies in the guard {_named(at)}"
        if stack is not None:
            text += f", just below {_named(stack)}: most likely that stack has overflowed"
        elif before is not None and before.end == at.start and address - at.start < at.size // 2:
            text += f", {_bytes(address - before.end + 1)} beyond the end of {_named(before)}"
        elif after is not None and after.start == at.end:
            text += f", {_bytes(after.start - address)} before the beginning of {_named(after)}"
        return Fault(address, FaultCause.GUARD, at, before, after, stack=stack, text=text)
    denied = beyond.denied(at)
    is_guard = None if access in denied else guard_at(address)
    if is_guard:
        return _in_guard_page(address, at, before, after, guard_at)
    is_beyond = None if access in denied else beyond.tell(at, address)
    if is_beyond is not None and is_beyond[0]:
        text = (
            f"{address:#x} lies in {_named(at)}, beyond the end of the file behind it, which has {is_beyond[1]:,} bytes"
        )
        return Fault(address, FaultCause.BEYOND_FILE, at, before, after, text=f"{text}: to touch it is SIGBUS")
    otherwise = _otherwise(at, is_guard, may_be_short=is_beyond is None)
    if access is None and denied:
        words = " nor ".join(_VERBS[right] for right in denied)
        text = f"{address:#x} lies in {_named(at)}, which is {at.permissions}: it cannot be {words}"
        if denied == [Protection.EXECUTE]:  # jumps into data are rarer than files that were cut
            text += f"; if it was read or written, {otherwise}"
        return Fault(address, FaultCause.PROTECTION, at, before, after, text=text)
    if access in denied:
        assert access is not None
        text = f"{address:#x} lies in {_named(at)}, which is {at.permissions}: it cannot be {_VERBS[access]}"
        return Fault(address, FaultCause.PROTECTION, at, before, after, text=text)
    text = f"{address:#x} lies in {_named(at)}, which is {at.permissions} and allows it: {otherwise}"
    return Fault(address, FaultCause.NOT_BY_THE_MAP, at, before, after, text=text)


def _in_guard_page(address: int, at: Region, before: Region | None, after: Region | None, guard_at: GuardAt) -> Fault:
    """In a guard page within a mapping, which neither splits it nor changes its rights (madvise(2), Linux 6.13).

    The C library puts such ones at the low end of a thread's stack (glibc 2.42).
    """
    text = f"{address:#x} lies in a guard page within {_named(at)} (MADV_GUARD_INSTALL)"
    stack = at if _is_stack(at) and guard_at(at.start) else None
    if stack is not None:
        text += ", which begins with one, as a thread's stack does: most likely that stack has overflowed"
    return Fault(address, FaultCause.GUARD, at, before, after, stack=stack, text=text)


class _Beyond:
    """What the system of a map, and the files behind it, make of an access."""

    def __init__(self, space: AddressSpace, size_of: SizeOf) -> None:
        self._system = space.system
        self._size_of = size_of

    def denied(self, at: Region) -> list[Protection]:
        """The accesses that the rights of a region forbid.

        Linux lets read what may be written, on every processor (the tables `protection_map` of arch/*/mm): PROT_WRITE
        alone is shown as -w-, and is read all the same.
        """
        given = at.protection
        if self._system.system == "linux" and given & Protection.WRITE:
            given |= Protection.READ
        return [right for right in _VERBS if not given & right]

    def tell(self, at: Region, address: int) -> tuple[bool, int] | None:
        """Whether an address lies in a page that the file behind it does not reach, and the file's size; None: not
        told. What is left of the last page that it reaches is zeros, and no fault (mmap(2))."""
        size = None if at.offset is None else self._size_of(at)
        if size is None or at.offset is None:
            return None
        page = at.page_size or self._system.page_size
        return address - at.start + at.offset >= -(-size // page) * page, size


def _otherwise(at: Region, is_guard: bool | None, *, may_be_short: bool) -> str:
    """What else it can be than the rights of a region, as far as that is not known to be otherwise."""
    causes = []
    if is_guard is None and at.flags is not None and at.flags.may_hold_guards:
        causes.append("it is a guard page (MADV_GUARD_INSTALL; the region has some, or had)")
    causes.append("the map has changed since")
    if may_be_short and (at.path is not None or at.inode is not None):
        causes.append("the file behind it is shorter than the mapping")
    return ", or ".join(causes)


def _is_stack(region: Region) -> bool:
    """A stack of the kernel's, or what can be a thread's: memory without a file that can be written."""
    return can_grow(region) or (region.path is None and bool(region.protection & Protection.WRITE))


def _bytes(number: int | None) -> str:
    return "1 byte" if number == 1 else f"{number:,} bytes"


def _named(region: Region) -> str:
    what = region.label or ("nameless memory" if region.kind is not Kind.GUARD else "without a name")
    return f"{what} ({region.start:#x}-{region.end:#x})"
