"""Stacks of threads: the stack pointer of a thread lies in them, and a guard below.

glibc and musl map guard and stack together and give the guard no rights, so `---p` lies directly below. glibc since
2.42 makes the guard by MADV_GUARD_INSTALL where the kernel can (Linux 6.13): the map does not show it then, and stacks
side by side are one region. The JVM protects a few pages more (yellow and red zone), above the guard. A program may
also put a stack where it likes: in its heap (Go's goroutines, coroutines), where no guard shows it.
"""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.naming.guess import Certainty
from vmatlas.analysis.naming.layout import MIB, Layout, size_of
from vmatlas.analysis.naming.rule import Found, Rule
from vmatlas.model import Thread

_LARGEST_GUARD = 16 * MIB
"""More `---p` than that below a stack is a reservation that happens to touch it."""

_USUAL = 8 * MIB
"""What glibc takes where nobody says otherwise: RLIMIT_STACK, which is 8 MiB almost everywhere."""


def _by_row(layout: Layout) -> dict[int, list[Thread]]:
    found: dict[int, list[Thread]] = {}
    for thread in layout.threads:
        if thread.stack_pointer is None:
            continue
        row = layout.covering(thread.stack_pointer)
        if row is not None and layout.is_data(row):
            found.setdefault(row, []).append(thread)
    return found


def _called(thread: Thread) -> str:
    return f"thread {thread.number}" + (f" ({thread.name})" if thread.name else "")


def _whose(threads: list[Thread]) -> str:
    if len(threads) == 1:
        return f"stack of {_called(threads[0])}"
    shown = ", ".join(map(_called, threads[:3]))
    return f"stacks of {len(threads)} threads: {shown}" + (", ..." if len(threads) > 3 else "")


def _pointers(layout: Layout, row: int, threads: list[Thread]) -> tuple[str, ...]:
    end = layout.regions[row].end
    return tuple(
        f"the stack pointer of {_called(thread)} is {thread.stack_pointer:#x}, {end - thread.stack_pointer:,} bytes "
        "below the end"
        for thread in threads[:3]
        if thread.stack_pointer is not None
    )


def _guard_below(layout: Layout, row: int) -> int | None:
    below = layout.below(row)
    is_guard = below is not None and layout.is_reserved(below) and layout.regions[below].size <= _LARGEST_GUARD
    return below if is_guard else None


def guarded(layout: Layout) -> Iterator[Found]:
    """With a guard directly below."""
    for row, threads in _by_row(layout).items():
        guard = _guard_below(layout, row)
        if guard is None:
            continue
        size, low = layout.regions[row].size, layout.regions[guard].size
        signs = (*_pointers(layout, row, threads), f"{size_of(low)} without rights directly below")
        yield Found(row, _whose(threads), (*signs, f"{size_of(size)} large"), group="thread stack")
        signs = (f"directly below the {_whose(threads)}", f"{size_of(low)} without rights")
        yield Found(guard, f"guard of the {_whose(threads)}", signs, group="guard of a thread stack")


def unguarded(layout: Layout) -> Iterator[Found]:
    """Without a guard that the map shows, in memory that no other rule knows: it may hold more than the stack."""
    for row, threads in _by_row(layout).items():
        flags = layout.regions[row].flags
        if flags is not None and flags.may_hold_guards:
            signs = (*_pointers(layout, row, threads), "it may hold guards that the map does not show (flag gu)")
            yield Found(row, _whose(threads), signs, group="thread stack")
            continue
        signs = (*_pointers(layout, row, threads), "no guard shows in the map: it may hold other memory as well")
        yield Found(row, _whose(threads), signs, Certainty.WEAK, group="thread stack")


def of_silent_threads(layout: Layout) -> Iterator[Found]:
    """Those of threads that did not tell, or that ended (glibc keeps their stacks for others): by size and guard."""
    known = {}
    for row in _by_row(layout):
        guard = _guard_below(layout, row)
        if guard is not None:
            known[layout.regions[row].size, layout.regions[guard].size] = row
    for row in layout.nameless:
        if not layout.is_data(row):
            continue
        guard = _guard_below(layout, row)
        if guard is None:
            continue
        sizes = layout.regions[row].size, layout.regions[guard].size
        if sizes in known:
            sign = "as large as the stack of a thread that told its stack pointer"
        elif sizes[0] == _USUAL and sizes[1] == layout.page:
            sign = f"{size_of(_USUAL)}, what a thread gets where nobody says otherwise"
        else:
            continue
        signs = (sign, f"{size_of(sizes[1])} without rights directly below", "no stack pointer was told to lie in it")
        yield Found(row, "stack of a thread", signs, Certainty.WEAK, group="thread stack")
        yield Found(guard, "guard of a thread stack", ("directly below what may be one",), Certainty.WEAK)


GUARDED = Rule(
    "thread-stack",
    "Linux, any libc that puts a guard without rights below; where the stack pointers are told (vmatlas maps --names, "
    "record --threads, as who may trace the process)",
    guarded,
)
UNGUARDED = Rule("thread-stack-unguarded", "Linux, where the stack pointers are told", unguarded)
SILENT = Rule(
    "thread-stack-by-size",
    "Linux: stacks as large as one that is known, and those of 8 MiB with one page of guard (glibc's usual)",
    of_silent_threads,
)
