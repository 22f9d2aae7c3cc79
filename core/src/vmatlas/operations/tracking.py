"""What a process writes, or looks at, meanwhile: the system's marks of it are cleared, then looked at again.

The marks belong to the whole process, and to whoever else looks at them: to clear them cannot be undone. So it is done
where it is forced, and never before it is known that the marks will be told.

Linux (Documentation/admin-guide/mm/soft-dirty.rst, proc(5): clear_refs): 4 clears the soft-dirty bits and protects
all pages against writing, so that the first write to each is a fault, which is not the program's to see; a mapping that
is made, grown or merged since then is dirty as a whole. 1 clears the marks that pages were referenced; a page whose
translation a processor still holds may be looked at without a mark.
"""

from __future__ import annotations

import math
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple

from vmatlas import api, arguments
from vmatlas.api import Pid
from vmatlas.errors import Unsupported, UsageError
from vmatlas.model import AddressSpace, Filter, Region
from vmatlas.model.pages import PageRuns, PageState, RunColumns
from vmatlas.process import Process

REFERENCED = "Referenced"
"""The key under which Linux tells the bytes of a region that were looked at."""

_WHOLE = "sd"
"""The flag of a mapping that is dirty as a whole (Linux: VmFlags)."""

_IN_USE = PageState.PRESENT | PageState.SWAPPED


class Written(NamedTuple):
    """What was written meanwhile."""

    space: AddressSpace
    """The regions that pass the filter, as they were afterward."""
    runs: PageRuns
    """The pages in them that were written."""
    seconds: float
    """How long it was looked."""

    def in_region(self, region: Region) -> int:
        """Bytes of the pages of a region that were written. Raises UsageError for what is no region."""
        return self.runs.of_region(region).total

    def is_sure(self, region: Region) -> bool | None:
        """Whether just these were: False for a region that was made, grown or merged meanwhile, whose pages all count.

        None where the system does not tell.
        """
        return None if region.flags is None else _WHOLE not in region.flags.labels()


class WorkingSet(NamedTuple):
    """What was looked at meanwhile, read or written."""

    space: AddressSpace
    """The regions that pass the filter, as they were afterward, with the memory in use."""
    seconds: float

    def in_region(self, region: Region) -> int | None:
        """Bytes of the pages of a region that were; None where that is not told."""
        told = region.details.get(REFERENCED)
        return told if isinstance(told, int) else None

    @property
    def total(self) -> int:
        """Bytes of all regions together."""
        return sum(self.in_region(region) or 0 for region in self.space)


def written(
    process: Process | Pid,
    seconds: float,
    *,
    where: Filter | str | None = None,
    force: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Written:
    """Clear the marks of the whole process, wait, and tell which pages were written since.

    `force` says that the marks may be cleared: they are the process's only ones, and there is no way back. `wait`
    sleeps for so many seconds. Raises Unsupported where the system does not tell (Linux: CONFIG_MEM_SOFT_DIRTY),
    UsageError without `force`, AccessDenied (it takes the owner of the process, or root), and what `Process.pages`
    raises.
    """
    if not isinstance(process, Process):
        with api.open(process) as opened:
            return written(opened, seconds, where=where, force=force, wait=wait)
    seconds, wanted = _checked(seconds, where, wait)
    clear = _clearing(process, "written", force)
    of = _states(process)  # before anything is cleared: whether it is told at all
    clear("written")
    begun = time.monotonic()
    wait(seconds)
    runs = process.pages(of=of)
    taken = time.monotonic() - begun
    try:
        space = process.snapshot(residency=True, where=wanted)  # which tells the flags
    except Unsupported:
        space = process.snapshot(where=wanted)
    return Written(space, _written(runs, space), taken)


def working_set(
    process: Process | Pid,
    seconds: float,
    *,
    where: Filter | str | None = None,
    force: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> WorkingSet:
    """Clear the marks of the whole process, wait, and tell how much of each region was looked at since.

    `where`, `force`, `wait`, and what is raised, as of `written`; Unsupported where the system does not tell
    (Linux: "Referenced" of smaps).
    """
    if not isinstance(process, Process):
        with api.open(process) as opened:
            return working_set(opened, seconds, where=where, force=force, wait=wait)
    seconds, wanted = _checked(seconds, where, wait)
    clear = _clearing(process, "referenced", force)
    if REFERENCED not in process.snapshot(residency=True).columns.details:
        raise Unsupported("this system does not tell which memory was looked at", pid=process.pid)
    clear("referenced")
    begun = time.monotonic()
    wait(seconds)
    taken = time.monotonic() - begun
    return WorkingSet(process.snapshot(residency=True, where=wanted), taken)


def _checked(seconds: float, where: Filter | str | None, wait: Callable[[float], object]) -> tuple[float, Filter]:
    try:
        is_time = not isinstance(seconds, bool) and math.isfinite(seconds) and 0 <= seconds <= arguments.LONGEST
    except (TypeError, OverflowError):
        is_time = False
    if not is_time:
        raise UsageError(f"{arguments.shown(seconds)} is no time to look", hint="give seconds, from 0 to a year")
    wanted = Filter.of(where)
    arguments.function(wait, "wait")
    return float(seconds), wanted


def _clearing(process: Process, marks: str, force: bool) -> Callable[[str], None]:
    """What clears them. Raises Unsupported, UsageError."""
    is_forced = arguments.flag(force, "force")
    held = process.clears_marks()
    if held is None:
        raise Unsupported("nobody can clear the marks of pages there", pid=process.pid, target=process.target.name)
    if is_forced:
        return held.clear_marks
    raise UsageError(
        f"the marks of what was {marks} would be cleared, of the whole process {process.pid}: that cannot be undone, "
        "and whoever else goes by them (CRIU, a debugger) is misled",
        pid=process.pid,
        hint="force=True, --force",
    )


def _states(process: Process) -> PageState:
    """What is asked for: the page of zeros too, where it is told, since it was not written."""
    wanted = PageState.SOFT_DIRTY | _IN_USE
    try:
        told = process.pages(between=(0, 0), of=wanted | PageState.ZERO).told
    except Unsupported:
        told = process.pages(between=(0, 0), of=wanted).told
    if PageState.SOFT_DIRTY not in told:
        raise Unsupported(
            "this kernel does not tell which pages were written: it takes CONFIG_MEM_SOFT_DIRTY, and a processor with "
            "a bit for it",
            pid=process.pid,
        )
    return told


def _written(runs: PageRuns, space: AddressSpace) -> PageRuns:
    """The pages that hold something and are marked, within the regions.

    A mapping that was made meanwhile is marked where nothing was ever touched, too.
    """
    dirty, zero, in_use = PageState.SOFT_DIRTY.value, PageState.ZERO.value, _IN_USE.value
    columns = runs.columns
    rows = [row for row, state in enumerate(columns.state) if state & dirty and state & in_use and not state & zero]
    kept = columns.take(rows)
    starts, ends, at = array("Q"), array("Q"), 0
    for low, high in zip(space.columns.start, space.columns.end, strict=True):
        while at < len(kept) and kept.end[at] <= low:
            at += 1
        each = at
        while each < len(kept) and kept.start[each] < high:
            starts.append(max(kept.start[each], low))
            ends.append(min(kept.end[each], high))
            each += 1
    marked = RunColumns(starts, ends, array("I", [dirty]) * len(starts)).joined()
    return PageRuns(marked, runs.origin, PageState.SOFT_DIRTY, incomplete=runs.incomplete)
