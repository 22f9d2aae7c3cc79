"""What nameless memory seems to be: guesses, each with what speaks for it. Pure.

The kernel gives names to few things. The rest is told by where it lies, how large it is, what lies beside it, which
files are mapped, and where the threads' stack pointers stand. No memory is read, and what the kernel names is never
named otherwise. docs/names.md tells each rule, and what it cannot tell.
"""

from __future__ import annotations

from vmatlas.analysis.naming import allocators, bss, glibc, go, jvm, python, sanitizers, stacks, v8
from vmatlas.analysis.naming.guess import Certainty, Guess
from vmatlas.analysis.naming.layout import Layout
from vmatlas.analysis.naming.rule import Rule
from vmatlas.model import AddressSpace
from vmatlas.model.space import check_space

RULES: tuple[Rule, ...] = (
    stacks.GUARDED,
    sanitizers.SHADOW,
    go.ARENAS,
    jvm.CLASS_SPACE,
    jvm.LONE_CLASS_SPACE,
    jvm.CODE_CACHE,
    jvm.HEAP,
    jvm.LARGE_HEAP,
    v8.CODE_RANGE,
    v8.SANDBOX,
    v8.PAGES,
    allocators.MIMALLOC,
    allocators.PARTITION_ALLOC,
    glibc.ARENAS,
    jvm.METASPACE,
    bss.BEHIND_DATA,
    stacks.UNGUARDED,
    stacks.SILENT,
    allocators.JEMALLOC,
    python.ARENAS,
    allocators.TCMALLOC,
)
"""In the order in which they are believed: a later one says nothing of what an earlier one has named."""


SYSTEMS = frozenset().union(*(rule.systems for rule in RULES))
"""Those of which any rule can speak."""


def name_regions(space: AddressSpace) -> dict[int, Guess]:
    """What the regions without a name of their own seem to be, by their start; those that no rule knows are not there.

        space = vmatlas.snapshot(1234, threads=True)
        for start, guess in vmatlas.name_regions(space).items():
            print(hex(start), guess.name, guess.evidence)

    It takes a whole map, since most rules look at what lies beside; the stacks of threads are known for certain where
    the threads were asked for (`threads=True`). Raises UsageError for what is no address space.
    """
    check_space(space)
    layout = Layout(space)
    found: dict[int, Guess] = {}
    for rule in RULES:
        for row, guess in rule.guesses(layout):
            found.setdefault(row, guess)
    return {layout.regions[row].start: found[row] for row in sorted(found)}


__all__ = ["RULES", "SYSTEMS", "Certainty", "Guess", "Rule", "name_regions"]
