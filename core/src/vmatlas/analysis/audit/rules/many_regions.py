"""Nearly as many regions as a process may have."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence

SHARE = 0.9
_FEW = 10_000
"""The least limit that is set anywhere: of fewer regions nobody need ask."""


def check(case: Case) -> Iterator[Hit | Silence]:
    """Against vm.max_map_count of the machine."""
    if len(case.space) < _FEW:
        return
    most = case.evidence.most_regions() if case.evidence.most_regions is not None else None
    if most is None:
        yield Silence("how many regions a process may have is not told here")
        return
    # What the kernel shows to everybody, last of all, is none of the process's (`get_gate_vma`).
    count = len(case.space) - (case.space[-1].name in ("[vsyscall]", "[vectors]"))
    if count >= SHARE * most:
        yield Hit((), f"{count:,} regions of {most:,} that it may have (vm.max_map_count)")


RULE = Rule(
    "many-regions",
    Severity.LOW,
    "Soon no memory can be mapped any more, whatever is free: mmap, mprotect and new threads fail.",
    "databases that map many files (Elasticsearch, MongoDB), sanitizers, allocators that decommit page by page",
    "raise vm.max_map_count, or find out what grows: `vmatlas growth`",
    check,
    systems=frozenset({"linux"}),
    asks="the map; the machine's limit",
)
