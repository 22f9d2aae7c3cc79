"""Code that is not the file's any more."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import islice

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.model import Kind, Protection


def check(case: Case) -> Iterator[Hit | Silence]:
    """Pages of private mappings that were copied, since somebody wrote there; by the pages, else by what the map itself
    tells of memory in use."""
    regions = [region for region in case.code(Kind.FILE) if not region.protection & Protection.WRITE]
    if not regions:
        return
    asked = case.evidence.changed
    ranges = None if asked is None else asked([(each.start, each.end) for each in regions])
    if ranges is not None:
        ends = [high for _, high in ranges]
        for region in regions:
            size, first = 0, 0
            for low, high in islice(ranges, bisect_right(ends, region.start), None):
                if low >= region.end:
                    break
                first = first or max(low, region.start)
                size += min(high, region.end) - max(low, region.start)
            if size:
                yield Hit((region,), f"{size:,} bytes of it are a copy that was written, first at {first:#x}")
        return
    if any(region.memory is None or region.memory.anonymous is None for region in regions):
        yield Silence("which pages were written is not told here (ask for the memory in use)")
        return
    for region in regions:
        if region.memory is not None and region.memory.anonymous:
            yield Hit((region,), f"{region.memory.anonymous:,} bytes of it are a copy that was written")


RULE = Rule(
    "changed-code",
    Severity.MEDIUM,
    "Pages of code differ from the file that they are mapped from: somebody wrote there after it was loaded.",
    "breakpoints of a debugger, uprobes, live patches, profilers that insert calls; text relocations (old 32-bit code)",
    "compare the pages with the file; detach the debugger and look again",
    check,
    systems=frozenset({"linux"}),
    asks="the pages of the code",
    is_thorough=True,
)
