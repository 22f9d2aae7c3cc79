"""What is suspicious in an address space. Pure; the one question to a file system is passed in."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

from vmatlas.model import AddressSpace, Kind, Protection, Region

FileLookup = Callable[[str], int | None]
"""The inode of the file that a path names now, for the audited process; None when there is none."""

_WX = Protection.WRITE | Protection.EXECUTE


class Suspicion(enum.Enum):
    """What was found."""

    WRITABLE_EXECUTABLE = "writable and executable"
    """Code can be written and run: injected code needs no more."""
    EXECUTABLE_STACK = "executable stack"
    EXECUTABLE_HEAP = "executable heap"
    DELETED_FILE = "deleted file"
    """Code or data of a file that has been unlinked."""
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


def audit(space: AddressSpace, lookup: FileLookup | None = None) -> list[Finding]:
    """The findings, by address.

    `lookup` tells a replaced file from one that is merely deleted; without it both are called deleted. Objects that
    never had a name (memfd, shared memory) are no deleted files. Only stacks that the system knows as such are looked
    at: on Linux the first thread's, and others where the C library names them.
    """
    findings: list[Finding] = []
    below: Region | None = None
    for region in space:
        findings += _of_protection(region)
        findings += _of_file(region, lookup)
        if region.kind is Kind.STACK and below is not None and below.end == region.start:
            if below.kind is not Kind.STACK and below.protection & Protection.WRITE:
                explanation = f"{below.label or 'nameless memory'} ({below.permissions}) ends where the stack begins"
                findings.append(Finding(Suspicion.UNGUARDED_STACK, region, explanation))
        below = region
    return findings


def _of_protection(region: Region) -> list[Finding]:
    if not region.protection & Protection.EXECUTE:
        return []
    if region.kind is Kind.STACK:
        return [Finding(Suspicion.EXECUTABLE_STACK, region, f"the stack is {region.permissions}")]
    if region.kind is Kind.HEAP:
        return [Finding(Suspicion.EXECUTABLE_HEAP, region, f"the heap is {region.permissions}")]
    if region.protection & _WX == _WX:
        what = region.label or "nameless memory"
        return [Finding(Suspicion.WRITABLE_EXECUTABLE, region, f"{what} is {region.permissions}")]
    return []


def _of_file(region: Region, lookup: FileLookup | None) -> list[Finding]:
    if not region.deleted or region.path is None or region.kind is not Kind.FILE:
        return []
    now = lookup(region.path) if lookup is not None else None
    if now is None or now == region.inode:
        return [Finding(Suspicion.DELETED_FILE, region, "the file has been unlinked")]
    explanation = f"another file stands there now (inode {now}, mapped is {region.inode})"
    return [Finding(Suspicion.REPLACED_FILE, region, explanation)]
