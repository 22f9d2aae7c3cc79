"""What is suspicious in an address space. Pure; the questions to a file system and to the process are passed in."""

from __future__ import annotations

import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass

from vmatlas import arguments
from vmatlas.model import AddressSpace, FileNow, Kind, Protection, Region
from vmatlas.model.space import check_space

FileLookup = Callable[[Region], FileNow]
"""What stands now at the path of the file that is mapped at a region."""

LookAgain = Callable[[], AddressSpace | None]
"""The same map with the system's flags; None where it is not told with them."""

GuardAt = Callable[[int], bool | None]
"""Whether a guard that the map does not show lies at an address; None where that is not told."""

_IN_PLACE_OF_A_FILE = {"file": "another file", "symbolic link": "a symbolic link"}
"""What may have taken its place, after an upgrade say; a folder has not."""

_WX = Protection.WRITE | Protection.EXECUTE


class Suspicion(enum.Enum):
    """What was found."""

    WRITABLE_EXECUTABLE = "writable and executable"
    """Code can be written and run: injected code needs no more."""
    EXECUTABLE_STACK = "executable stack"
    EXECUTABLE_HEAP = "executable heap"
    DELETED_FILE = "deleted file"
    """Code or data of a file that has been unlinked."""
    NAMELESS_FILE = "nameless file"
    """Code or data of a file that never had a name (Linux: O_TMPFILE)."""
    REPLACED_FILE = "replaced file"
    """Another file stands at the path now: the process runs the old one, after an upgrade say."""
    UNGUARDED_STACK = "stack with no guard"
    """Memory that can be written lies directly below a stack, so an overflow goes unnoticed."""


@dataclass(frozen=True, slots=True, repr=False)
class Finding:
    """One suspicion about one region."""

    suspicion: Suspicion
    region: Region
    explanation: str

    def __repr__(self) -> str:
        return f"<Finding {self.suspicion.value}: {self.explanation}; {self.region!r}>"


def audit(
    space: AddressSpace,
    lookup: FileLookup | None = None,
    look_again: LookAgain | None = None,
    guard_at: GuardAt | None = None,
) -> list[Finding]:
    """The findings, by address.

    `lookup` tells a replaced file from one that is merely deleted; without it both are called deleted. Objects that
    never had a name in any folder (memfd, shared memory, rings and buffers of the kernel's) are no deleted files. Only
    stacks that the system knows as such are looked at: on Linux the first thread's, and others where the C library
    names them. A stack of which a part was locked is several regions, and on Linux only the system's flags tell the
    lower ones from other memory: `look_again` is asked for them where they decide, at most once; without it such
    memory is no finding. A guard that the map does not show (Linux: MADV_GUARD_INSTALL) at the edge of the two is one:
    `guard_at` is asked where it decides; a map that shows them (`AddressSpace.with_guards`) tells it as well.
    """
    check_space(space)
    for name, each in (("lookup", lookup), ("look_again", look_again), ("guard_at", guard_at)):
        if each is not None:
            arguments.function(each, name)
    findings: list[Finding] = []
    below: Region | None = None
    is_stack = _StackTeller(look_again)
    for region in space:
        findings += _of_protection(region)
        findings += _of_file(region, lookup)
        if region.kind is Kind.STACK and below is not None and below.end == region.start:
            is_other = below.kind not in (Kind.STACK, Kind.GUARD) and not is_stack(below)
            if is_other and below.protection & Protection.WRITE:
                is_guarded = _is_guarded(region, space, guard_at)
                if not is_guarded:
                    explanation = (
                        f"{below.label or 'nameless memory'} ({below.permissions}) ends where the stack begins"
                    )
                    if is_guarded is None and below.flags is not None and below.flags.may_hold_guards:
                        explanation += "; it may hold guards that the map does not show, which is not told here"
                    findings.append(Finding(Suspicion.UNGUARDED_STACK, region, explanation))
        below = region
    return findings


def _is_guarded(stack: Region, space: AddressSpace, guard_at: GuardAt | None) -> bool | None:
    """Whether a guard that the map does not show lies below a stack, or at its low end; None: it is not told."""
    if space.origin.guards:
        return False  # it would be what lies below
    if guard_at is None:
        return None
    told = [guard_at(stack.start - 1), guard_at(stack.start)]
    return True if True in told else None if None in told else False


def _of_protection(region: Region) -> list[Finding]:
    if not region.protection & Protection.EXECUTE or region.kind is Kind.GUARD:
        return []
    if region.kind is Kind.STACK:
        return [Finding(Suspicion.EXECUTABLE_STACK, region, f"the stack is {region.permissions}")]
    if region.kind is Kind.HEAP:
        return [Finding(Suspicion.EXECUTABLE_HEAP, region, f"the heap is {region.permissions}")]
    if region.protection & _WX == _WX:
        what = region.label or "nameless memory"
        return [Finding(Suspicion.WRITABLE_EXECUTABLE, region, f"{what} is {region.permissions}")]
    return []


class _StackTeller:
    """Tells whether what lies directly below a stack may be its own lower part."""

    def __init__(self, look_again: LookAgain | None) -> None:
        self._look = functools.cache(look_again) if look_again is not None else lambda: None

    def __call__(self, region: Region) -> bool:
        if (
            region.kind is not Kind.ANONYMOUS
            or region.name is not None
            or region.shared is not False
            or region.flags is not None
        ):
            return False
        seen = self._look()
        found = None if seen is None else seen.find(region.end - 1)
        return found is None or found.kind is Kind.STACK  # None: nobody can tell


def _of_file(region: Region, lookup: FileLookup | None) -> list[Finding]:
    if region.deleted is False or region.path is None or region.kind is not Kind.FILE:
        return []
    if region.path.endswith(f"/#{region.inode}"):  # d_tmpfile() in fs/dcache.c
        return [Finding(Suspicion.NAMELESS_FILE, region, "the file never had a name (O_TMPFILE)")]
    now = lookup(region) if lookup is not None else FileNow(None)
    if region.deleted is None:
        why = f"its name was not asked: {now.unasked}" if now.unasked else "its name leads elsewhere now, or nowhere"
        if lookup is None:  # a core file, a saved map: no file system is at hand
            why = "its name ends in ' (deleted)', which a kernel adds to that of an unlinked file, or which is its own"
        return [Finding(Suspicion.DELETED_FILE, region, f"nobody can tell whether the file has been unlinked; {why}")]
    if now.inode is None or now.inode == region.inode:
        unasked = f"; what stands there now was not asked: {now.unasked}" if now.unasked else ""
        return [Finding(Suspicion.DELETED_FILE, region, f"the file has been unlinked{unasked}")]
    if now.what not in _IN_PLACE_OF_A_FILE:
        told = f"the file has been unlinked; a {now.what} stands there now"
        return [Finding(Suspicion.DELETED_FILE, region, told)]
    what = _IN_PLACE_OF_A_FILE[now.what]
    explanation = f"{what} stands there now (inode {now.inode}, mapped is {region.inode})"
    return [Finding(Suspicion.REPLACED_FILE, region, explanation)]
