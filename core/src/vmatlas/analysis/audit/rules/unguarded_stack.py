"""Writable memory directly below a stack."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import NO_STACK, Case, Hit, Rule, Silence, name_of
from vmatlas.model import Kind, Protection, Region


def check(case: Case) -> Iterator[Hit | Silence]:
    """Only stacks that the system knows as such: on Linux the first thread's, and others where the C library names
    them. A stack of which a part was locked is several regions, and on Linux only the system's flags tell the lower
    ones from other memory: without them such memory is no finding."""
    if not case.tells_stacks:
        yield Silence(NO_STACK)
        return
    columns = case.space.columns
    for row in _stacks(columns.kind):
        if row == 0 or columns.end[row - 1] != columns.start[row]:
            continue
        stack, below = columns.region(row), columns.region(row - 1)
        if below.kind in (Kind.STACK, Kind.GUARD) or not below.protection & Protection.WRITE:
            continue
        if _may_be_its_own(case, below):
            continue
        guarded = _is_guarded(case, stack)
        if guarded:
            continue
        explanation = f"{name_of(below)} ({below.permissions}) ends where the stack begins"
        if guarded is None and below.flags is not None and below.flags.may_hold_guards:
            explanation += "; it may hold guards that the map does not show, which is not told here"
        yield Hit((stack,), explanation)


def _stacks(kinds: array[int]) -> Iterator[int]:
    """The rows of stacks."""
    row = -1
    with contextlib.suppress(ValueError):
        while True:
            row = kinds.index(Kind.STACK, row + 1)
            yield row


def _may_be_its_own(case: Case, region: Region) -> bool:
    """Whether what lies directly below a stack may be its own lower part."""
    plain = region.kind is Kind.ANONYMOUS and region.name is None and region.shared is False and region.flags is None
    if not plain:
        return False
    seen = case.seen_again
    found = None if seen is None else seen.find(region.end - 1)
    return found is None or found.kind is Kind.STACK  # None: nobody can tell


def _is_guarded(case: Case, stack: Region) -> bool | None:
    """Whether a guard that the map does not show lies below a stack, or at its low end; None: it is not told."""
    if case.space.origin.guards:
        return False  # it would be what lies below
    guard_at = case.evidence.guard_at
    if guard_at is None:
        return None
    told = [guard_at(stack.start - 1), guard_at(stack.start)]
    return True if True in told else None if None in told else False


RULE = Rule(
    "stack-with-no-guard",
    Severity.MEDIUM,
    "Memory that can be written lies directly below a stack: an overflow goes unnoticed and writes there.",
    "threads that were made with a stack of their own (pthread_attr_setstack), coroutines",
    "leave a page without rights below the stack, or let the C library make it",
    check,
    asks="the map; the system's flags and guards where they decide",
)
