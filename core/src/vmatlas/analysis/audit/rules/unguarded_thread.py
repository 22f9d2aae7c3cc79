"""Threads between whose stack pointers and other memory lies no guard."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence, release_of
from vmatlas.model import Kind, Protection, Region, Thread

_HIDDEN_SINCE = (6, 13)
"""Linux from this release on makes guards that no map shows (MADV_GUARD_INSTALL), and glibc 2.42 puts such at the low
end of each thread's stack, within its region."""
_MOST_NAMED = 3


def check(case: Case) -> Iterator[Hit | Silence]:
    """Of each thread that tells its stack pointer. Whether the memory is a stack, nobody but the program knows. So what
    counts is what an overflow meets first on its way down from the pointer: something that faults, or another thread's
    stack, or memory that is somebody else's."""
    threads = case.space.origin.threads
    if threads is None and case.evidence.threads is not None:
        threads = case.evidence.threads()
    if threads is None:
        yield Silence("where threads have their stacks is not told here")
        return
    told = [each for each in threads if each.stack_pointer is not None]
    if len(told) < len(threads):
        yield Silence(f"{len(threads) - len(told)} of {len(threads)} threads do not tell their stack pointers")
    guards = _guards(case)
    starts = [start for start, _ in guards or ()]
    found: dict[Region, list[Thread]] = {}
    doubtful = 0
    last: tuple[int, Region] | None = None
    for thread in sorted(told, key=lambda each: each.stack_pointer or 0):
        pointer = thread.stack_pointer or 0
        region = case.space.find(pointer)
        if region is None or case.is_stack(region) or not region.protection & Protection.WRITE:
            continue
        # How far down memory goes on that can be written.
        low = region.start if _faults(case, region) else region.start - 1
        at = bisect_left(starts, pointer) - 1
        if guards and at >= 0:
            low = max(low, guards[at][1])
        is_last = last is not None and last[1] == region and last[0] >= low
        if is_last or low < region.start:
            if guards is None:
                doubtful += 1
            else:
                found.setdefault(region, []).append(thread)
        last = pointer, region
    if doubtful:
        yield Silence(
            f"{doubtful} thread(s) may have a guard that no map shows (MADV_GUARD_INSTALL), which is not told here"
        )
    for region, some in found.items():
        names = ", ".join(f"{each.number}" + (f" ({each.name})" if each.name else "") for each in some[:_MOST_NAMED])
        more = f" and {len(some) - _MOST_NAMED} more" if len(some) > _MOST_NAMED else ""
        yield Hit((region,), f"no guard lies between the stack pointer of thread {names}{more} and what is below")


def _faults(case: Case, region: Region) -> bool:
    """Whether to write directly below a region is a fault, by the map."""
    below = case.space.find(region.start - 1) if region.start else None
    return below is None or below.kind is Kind.GUARD or not below.protection & Protection.WRITE


def _guards(case: Case) -> Sequence[tuple[int, int]] | None:
    """The guards that the map does not show, [start, end) in order; None where there may be some and it is not told."""
    if case.space.origin.guards:
        return ()  # they are entries of the map
    found = None if case.evidence.hidden_guards is None else case.evidence.hidden_guards()
    if found is not None:
        return found
    system = case.space.system
    release = release_of(system)
    if system.system != "linux" or (release is not None and release < _HIDDEN_SINCE):
        return ()
    return None


RULE = Rule(
    "thread-stack-with-no-guard",
    Severity.MEDIUM,
    "No guard lies below a thread's stack: an overflow goes unnoticed and writes into what is there.",
    "runtimes that look for overflows themselves (Go), coroutines, threads with a stack of their own "
    "(pthread_attr_setstack)",
    "leave a page without rights below the stack, or let the C library make it",
    check,
    systems=frozenset({"linux"}),
    asks="the stack pointers of the threads, guards that no map shows",
    is_thorough=True,
    is_usual=False,
)
