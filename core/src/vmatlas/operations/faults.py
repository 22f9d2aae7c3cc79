"""Why an access to an address faults: the question of a crash handler, answered from the map. Pure.

A guard page that the map does not show is told by whoever is given as `guard_at`.

The rule for stacks is gnulib's (sigsegv, stackvma): a stack grows into the hole below it, so a fault there that lies
nearer to the stack than to what is below it is taken for an overflow. Only as near, though, as Linux keeps everything
else away from a stack: a hole can be half the address space.

On Linux a touch within a stack's limit is no fault at all: the kernel makes the stack larger, down to that page
(mm/mmap.c, `expand_downwards`, `acct_stack_growth`), whatever the stack pointer is (x86: since 4.20). So the limit
decides; it is told by whoever is given as `stack_limit`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from vmatlas.arguments import shown
from vmatlas.backend import NO_LIMIT
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Kind, Protection, Region
from vmatlas.model.stacks import lower_parts
from vmatlas.operations.checks import check_address
from vmatlas.operations.values import Fault, FaultCause
from vmatlas.values import replace

_NEAR_ZERO = 0x10000
"""Below it nothing is mapped on any of the systems (Linux: vm.mmap_min_addr): a null pointer and an offset."""

STACK_GAP = 256
"""Pages that Linux keeps free below a stack that can grow (stack_guard_gap, mm/mmap.c)."""

_SURELY = 2**30
"""Bytes that a stack can be expected to get, however large its limit: more may be more than there is memory."""

_PARTS = {
    "um": "to a page that is not there",
    "ui": "to a page that is not in its page table",
    "uw": "that writes to a page it protects",
    "ur": "to a page it protects",
}
"""What a userfaultfd is told of, by the flag of its region (UFFDIO_REGISTER_MODE of linux/userfaultfd.h)."""

_X86_64 = ("x86_64", "amd64")
_READS_CODE = ("i386", "i486", "i586", "i686", "s390x")

_VERBS = {Protection.READ: "read", Protection.WRITE: "written", Protection.EXECUTE: "executed"}


GuardAt: TypeAlias = Callable[[int], bool | None]
"""Whether a guard page that the map does not show lies at an address; None where that is not told."""


StackLimit: TypeAlias = Callable[[], int | None]
"""Bytes that a stack which grows may have, `NO_LIMIT` where there is none; None where that is not told."""


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
    stack_limit: StackLimit = lambda: None,
    stack_pointer: int | None = None,
    *,
    is_jump: bool | None = None,
) -> Fault:
    """What lies at the address and why an access to it faults.

    `guard_at`, `size_of` and `stack_limit` ask the process of the map, where they can. `stack_pointer` is that of the
    thread that touched it: where it stands on another stack, this one has not overflowed. None: it is not told.
    `is_jump`: False where the access is not told, but that it was none of an instruction.
    """
    number = check_address(address, page=1, bits=64)
    if access is not None and not (isinstance(access, Protection) and access in _VERBS):
        raise UsageError(f"{shown(access)} is no access", hint="Protection.READ, WRITE or EXECUTE")
    before, at, after = space.neighbours(number)
    if at is not None:
        beyond = _Beyond(space, size_of)
        denied = _denied(at, space)
        if is_jump is False and access is None and Protection.EXECUTE in denied:
            denied.remove(Protection.EXECUTE)
        return _in_region(number, at, before, after, access, denied, guard_at, beyond, stack_pointer)
    if (fault := _not_canonical(number, before, after, space)) is not None:
        return fault
    below = None if before is None else number - before.end + 1
    above = None if after is None else after.start - number
    distance = min((each for each in (below, above) if each is not None), default=None)
    hole = Fault(number, FaultCause.HOLE, at, before, after, distance=distance)
    if after is not None and above is not None:
        is_nearer = below is None or above <= below
        stack = _below_stack(hole, after, above, is_nearer, space, access, stack_limit)
        if stack is not None:
            return stack
    text, certain = f"nothing is mapped at {number:#x}", True
    if number < _NEAR_ZERO:
        text += ": a null pointer" + (f" and an offset of {number}" if number else "")
    else:
        near = []
        if before is not None:
            near.append(f"{_bytes(below)} above the last byte of {_named(before)}")
        if after is not None and not _is_kernels(after.start, space):
            near.append(f"{_bytes(above)} below {_named(after)}")
        text += f": it lies {' and '.join(near)}" if near else ": the process has no memory"
        if after is not None and above is not None and (below is None or above <= below):
            more, certain = _below_what_may_grow(after, number, above, space, stack_limit)
            text += more
    return replace(hole, text=text, certain=certain)


def _below_what_may_grow(
    after: Region, address: int, above: int, space: AddressSpace, stack_limit: StackLimit
) -> tuple[str, bool]:
    """Of a hole that lies below a stack, and farther than what is surely one's overflow: what its limit says, and
    whether that is sure."""
    if space.system.system != "linux" or above > _SURELY or not _grows(after, space):
        return "", True
    limit = stack_limit()
    if limit is None:
        return ", a stack: whether that could grow so far is not known here, for its limit is not", False
    if after.end - address > limit:
        return f", a stack, which could not grow so far (limit): it may have {limit:,} bytes", True
    return "", True


def _grows(region: Region, space: AddressSpace) -> bool:
    """Where flags are told, they decide: the kernel called a thread's stack [stack:TID] once, which does not grow.
    Where not, what touches a stack from below may be a part of it (`lower_parts`)."""
    if region.flags is not None:
        return region.flags.grows_down
    return can_grow(region) or (region.kind is Kind.ANONYMOUS and region.start in lower_parts(space))


def _below_stack(
    hole: Fault,
    after: Region,
    above: int,
    is_nearer: bool,
    space: AddressSpace,
    access: Protection | None,
    stack_limit: StackLimit,
) -> Fault | None:
    """What an address in the hole below a region is, when that region is a stack that can grow, and near enough."""
    address, page = hole.address, space.system.page_size
    gap = STACK_GAP * page
    where = f"{address:#x} lies {_bytes(above)} below {_stack_named(after)}"
    found = replace(hole, cause=FaultCause.STACK_OVERFLOW, stack=after, certain=can_grow(after))
    if space.system.system != "linux":
        if above > gap or not is_nearer or not can_grow(after):
            return None
        return replace(found, text=f"{where}: the stack has overflowed")
    if not _grows(after, space) or address < _NEAR_ZERO:
        return None
    first = address // page * page
    forbids = None if hole.before is None else _keeps_away(hole.before, first, gap, space)
    limit = stack_limit()
    size = after.end - first
    if limit is not None and size > limit:
        if not is_nearer or above > max(
            gap, min(2 * limit, _SURELY)
        ):  # far from a stack that small, in a hole that large
            return None
        text = f"{where}, which has a limit of {limit:,} bytes and would have {size:,}: the stack has overflowed"
        return replace(found, text=text)
    if forbids is not None:
        if above > gap or not is_nearer:
            return None
        text = f"{where}, which may not grow to within {gap:,} bytes of {_named(forbids)}: the stack has overflowed"
        return replace(found, text=text)
    if limit is None:
        if above > gap or not is_nearer:
            return None
        text = f"{where}: a possible overflow, if the stack may not grow so far; its limit is not known here"
        return replace(found, certain=False, text=text)
    if access is not None and access in _denied(after, space):
        text = f"{where}, which grows to there and is {after.permissions}: it cannot be {_VERBS[access]}"
        return replace(found, cause=FaultCause.PROTECTION, text=text)
    of = "no limit" if limit == NO_LIMIT else f"a limit of {limit:,} bytes"
    where = f"{where}, which has {of} and would have {size:,} bytes"
    if size > _SURELY:
        text = f"{where}: the kernel may answer by growing the stack, where there is the memory for it"
        return replace(found, cause=FaultCause.HOLE, certain=False, text=text)
    text = f"{where}: the kernel answers by growing the stack, unless a limit of memory forbids it"
    return replace(found, cause=FaultCause.STACK_GROWTH, text=text)


def _keeps_away(before: Region, first: int, gap: int, space: AddressSpace) -> Region | None:
    """The region below, when a stack that grows to a page would come too near to it.

    One that grows itself, or that has no rights, keeps nothing away (`expand_downwards`).
    """
    return (
        before
        if not _grows(before, space) and before.protection != Protection.NONE and first - before.end < gap
        else None
    )


def _is_kernels(address: int, space: AddressSpace) -> bool:
    """Whether an address of x86-64 lies in the upper half, where a process has [vsyscall] and nothing else."""
    return space.system.machine in _X86_64 and address >= 2**63


def _not_canonical(number: int, before: Region | None, after: Region | None, space: AddressSpace) -> Fault | None:
    """An address of x86-64 that is none: the bits above the topmost that is translated must all be like it."""
    if space.system.machine not in _X86_64 or number < 2**47:
        return None
    fault = Fault(number, FaultCause.HOLE, None, before, after)
    if number >= 2**64 - 2**47:
        text = f"nothing is mapped at {number:#x}: it lies in the kernel's half of the addresses"
        return replace(fault, text=text)
    five = any(each is not None and 2**47 < each.end <= 2**63 for each in (before, after))
    if 2**56 <= number < 2**64 - 2**56:
        what = "no canonical address of x86-64"
    elif five:  # a process that has memory above 2**47 is on a processor with five levels
        return None
    else:
        what = "no canonical address of x86-64 with four levels of page tables"
    text = f"{number:#x} is {what}: nothing can be mapped there"
    if space.system.system == "linux":
        text += ", and the signal tells no address (SI_KERNEL, si_addr 0)"
    return replace(fault, text=text)


def _in_region(
    address: int,
    at: Region,
    before: Region | None,
    after: Region | None,
    access: Protection | None,
    denied: list[Protection],
    guard_at: GuardAt,
    beyond: _Beyond,
    stack_pointer: int | None,
) -> Fault:
    """`denied`: what the rights of the region forbid."""
    if at.kind is Kind.GUARD or at.protection == Protection.NONE:
        is_below = after is not None and after.start == at.end and _is_stack(after)
        stack = after if is_below and _may_be_on(at, after, stack_pointer, beyond.space) else None
        text = f"{address:#x} lies in {'the guard ' if at.label else ''}{_named(at)}"
        if stack is not None:
            text += f", just below {_named(stack)}: most likely that stack has overflowed"
        elif before is not None and before.end == at.start and address - at.start < at.size // 2:
            text += f", {_bytes(address - before.end + 1)} above the last byte of {_named(before)}"
        elif after is not None and after.start == at.end:
            text += f", {_bytes(after.start - address)} before the beginning of {_named(after)}"
        return Fault(address, FaultCause.GUARD, at, before, after, stack=stack, text=text)
    is_guard = None if access in denied else guard_at(address)
    if is_guard:
        may_overflow = _may_be_on(at, at, stack_pointer, beyond.space)
        return _in_guard_page(address, at, before, after, guard_at if may_overflow else lambda _: None)
    is_beyond = None if access in denied else beyond.tell(at, address)
    if is_beyond is not None and is_beyond[0]:
        text = (
            f"{address:#x} lies in {_named(at)}, beyond the end of the file behind it, which has {is_beyond[1]:,} bytes"
        )
        return Fault(address, FaultCause.BEYOND_FILE, at, before, after, text=f"{text}: to touch it is SIGBUS")
    otherwise = _otherwise(at, is_guard, access, beyond.space, may_be_short=is_beyond is None)
    if access is None and denied:
        words = " nor ".join(_VERBS[right] for right in denied)
        text = f"{address:#x} lies in {_named(at)}, which is {at.permissions}: it cannot be {words}"
        if denied == [Protection.EXECUTE]:  # jumps into data are rarer than files that were cut
            text += f"; if it was read or written, {otherwise}"
        return Fault(address, FaultCause.PROTECTION, at, before, after, text=text)
    if access in denied:
        assert access is not None
        text = f"{address:#x} lies in {_named(at)}, which is {at.permissions}: it cannot be {_VERBS[access]}"
        certain = access is not Protection.READ or not _may_be_readable(at, beyond.space)
        if not certain:
            text += ", where the processor knows memory that can be executed alone (x86-64: by protection keys)"
        return Fault(address, FaultCause.PROTECTION, at, before, after, certain=certain, text=text)
    allows = (
        "whose rights are not told" if at.protection & Protection.UNTOLD else f"which is {at.permissions} and allows it"
    )
    text = f"{address:#x} lies in {_named(at)}, {allows}: {otherwise}"
    return Fault(address, FaultCause.NOT_BY_THE_MAP, at, before, after, text=text)


def _may_be_on(guard: Region, stack: Region | None, pointer: int | None, space: AddressSpace) -> bool:
    """Whether a thread can have come from this stack into its guard: it stands there, or in no other stack, as one
    that took more than the guard in one step. It is believed where the pointer is not told."""
    if pointer is None or stack is None:
        return True
    if pointer >= guard.start:
        return pointer < stack.end
    elsewhere = space.find(pointer)
    return elsewhere is None or not _is_stack(elsewhere)


def _in_guard_page(address: int, at: Region, before: Region | None, after: Region | None, guard_at: GuardAt) -> Fault:
    """In a guard page within a mapping, which neither splits it nor changes its rights (madvise(2), Linux 6.13).

    The C library puts such ones at the low end of a thread's stack (glibc 2.42).
    """
    text = f"{address:#x} lies in a guard page within {_named(at)} (MADV_GUARD_INSTALL)"
    stack = at if _is_stack(at) and guard_at(at.start) else None
    if stack is not None:
        text += ", which begins with one, as a thread's stack does: most likely that stack has overflowed"
    return Fault(address, FaultCause.GUARD, at, before, after, stack=stack, text=text)


def _denied(at: Region, space: AddressSpace) -> list[Protection]:
    """The accesses that the rights of a region forbid.

    Linux lets read what may be written, on every processor (the tables `protection_map` of arch/*/mm): PROT_WRITE
    alone is shown as -w-, and is read all the same.
    """
    given = at.protection
    if given & Protection.UNTOLD:
        return []
    if space.system.system == "linux" and (given & Protection.WRITE or _is_readable_code(at, space)):
        given |= Protection.READ
    return [right for right in _VERBS if not given & right]


def _is_readable_code(at: Region, space: AddressSpace) -> bool:
    """Whether what may be executed alone (--x) is read all the same: where the processor has no such memory.

    x86 makes it of protection keys alone, of which the kernel tells in smaps where there are some
    (`__arch_override_mprotect_pkey`); 32-bit x86 and s390x know none (`protection_map`).
    """
    if at.protection != Protection.EXECUTE:
        return False
    has_no_keys = at.flags is not None and at.resident is not None and "ProtectionKey" not in at.details
    return space.system.machine in _READS_CODE or (space.system.machine in _X86_64 and has_no_keys)


def _may_be_readable(at: Region, space: AddressSpace) -> bool:
    """The same, where it is not known: by a map without its keys."""
    if space.system.system != "linux" or at.protection != Protection.EXECUTE:
        return False
    return space.system.machine in _X86_64 and at.flags is None


class _Beyond:
    """What the system of a map, and the files behind it, make of an access."""

    def __init__(self, space: AddressSpace, size_of: SizeOf) -> None:
        self.space = space
        self._size_of = size_of

    def tell(self, at: Region, address: int) -> tuple[bool, int] | None:
        """Whether an address lies in a page that the file behind it does not reach, and the file's size; None: not
        told. What is left of the last page that it reaches is zeros, and no fault (mmap(2))."""
        size = None if at.offset is None else self._size_of(at)
        if size is None or at.offset is None:
            return None
        page = at.page_size or self.space.system.page_size
        return address - at.start + at.offset >= -(-size // page) * page, size


def _otherwise(
    at: Region, is_guard: bool | None, access: Protection | None, space: AddressSpace, *, may_be_short: bool
) -> str:
    """What else it can be than the rights of a region, as far as that is not known to be otherwise.

    What the map tells of comes first; that it has changed since nobody knows.
    """
    causes = []
    if is_guard is None and at.flags is not None and at.flags.may_hold_guards:
        causes.append("it may be a guard page (MADV_GUARD_INSTALL; the region has some, or had)")
    if space.system.system == "linux":
        causes += _beside_rights(at, access, may_be_guard=is_guard is None)
    causes.append("the map may have changed since")
    if may_be_short and (at.path is not None or at.inode is not None):
        causes.append("the file behind it may be shorter than the mapping")
    return ", or ".join(causes)


def _beside_rights(at: Region, access: Protection | None, *, may_be_guard: bool) -> list[str]:
    """What forbids or diverts an access that the rights allow, as smaps tells of a region on Linux."""
    causes = []
    key = at.details.get("ProtectionKey")
    if isinstance(key, int) and key > 0:
        causes.append(f"its protection key {key} may forbid it (SEGV_PKUERR; each thread has its own rights to a key)")
    if at.flags is None:
        guard = "a guard page, " if may_be_guard else ""
        return [*causes, f"{guard}a protection key or a userfaultfd may be why (a map with residency tells)"]
    flags = at.flags.labels()
    whole = at.resident is not None and at.resident >= at.size
    watched = [flag for flag in _PARTS if flag in flags]
    if "um" in watched and whole:  # no page of it is missing
        watched.remove("um")
    if access is not None and access is not Protection.WRITE and "uw" in watched:
        watched.remove("uw")
    if watched:
        what = " or ".join(_PARTS[flag] for flag in watched)
        if watched == ["um"] and at.resident == 0 and not at.details.get("Swap"):
            what += " (none of the region is)"
        causes.append(f"a userfaultfd watches the region, and an access {what} waits for it, or is SIGBUS")
    if "mt" in flags:
        causes.append("the tag of the pointer may not be that of the memory (memory tagging, SEGV_MTESERR)")
    if "ss" in flags and access is not Protection.READ:
        causes.append("it is a shadow stack, which only the processor writes (SEGV_CPERR, or SEGV_ACCERR)")
    if "ht" in flags:
        causes.append("there may be no huge page left for it (SIGBUS)")
    return causes


def by_code(fault: Fault, space: AddressSpace, stack_pointer: int | None) -> Fault:
    """The same, where the signal says that nothing is mapped there (SEGV_MAPERR), and the map has something there: its
    rights are not why. A guard page that no map shows is told so (`VM_FAULT_SIGSEGV`: Linux 6.13 and newer)."""
    at = fault.at
    if at is None or fault.cause not in (FaultCause.PROTECTION, FaultCause.NOT_BY_THE_MAP):
        return fault
    text = (
        f"{fault.address:#x} lies in {_named(at)}, and the signal's code says that nothing is mapped there: most "
        "likely a guard page that the map does not show (MADV_GUARD_INSTALL), or the memory was mapped since"
    )
    near = STACK_GAP * space.system.page_size
    is_on = stack_pointer is not None and at.covers(stack_pointer) and abs(fault.address - stack_pointer) <= near
    stack = at if is_on and _is_stack(at) else None
    if stack is not None:
        text += "; the stack pointer stands near it: most likely that stack has overflowed"
    return replace(fault, cause=FaultCause.GUARD, stack=stack, certain=False, text=text)


def _is_stack(region: Region) -> bool:
    """A stack of the kernel's, or what can be a thread's: memory without a file that can be written."""
    return can_grow(region) or (region.path is None and bool(region.protection & Protection.WRITE))


def _bytes(number: int | None) -> str:
    return "1 byte" if number == 1 else f"{number:,} bytes"


def _named(region: Region) -> str:
    nameless = "a guard without a name" if region.kind is Kind.GUARD else "nameless memory"
    return f"{region.label or nameless} ({region.start:#x}-{region.end:#x})"


def _stack_named(region: Region) -> str:
    if region.label:
        return f"the stack {_named(region)}"
    what = "a stack without a name" if can_grow(region) else "what may be the lower part of a stack"
    return f"{what} ({region.start:#x}-{region.end:#x})"
