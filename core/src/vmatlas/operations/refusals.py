"""What it means, in words, that the kernel refused a call on memory. It decides nothing; it may ask for a limit.

Where the map tells the cause (a hole, sealed memory, huge pages, guard pages) that one is named, and no guess.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator

from vmatlas.errors import OperationFailed, VmatlasError, no_region_left
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations.contract import Calls
from vmatlas.operations.faults import SizeOf
from vmatlas.operations.values import Advice

_HINTS = {
    "ENOMEM": "there is no room in the address space, or a limit is reached: ulimit -v, vm.max_map_count, overcommit",
    "EACCES": "the file was not opened for that, or its file system forbids it (noexec)",
    "EPERM": "the system forbids it there: an address below vm.mmap_min_addr, or a noexec file system",
    "ENODEV": "what is behind it cannot be mapped",
    "EAGAIN": "too much memory is locked",
}

_RAISE_THE_LIMIT = "raise the limit (ulimit -l KILOBYTES, or LimitMEMLOCK= of systemd), lock less, or have CAP_IPC_LOCK"


_HOLE = "a part of the range is not mapped"


def limit_reached(calls: Calls, failure: OperationFailed) -> str | None:
    """The limit of the process that is why a call was refused, where the system tells that it is reached."""
    if failure.errno_name == "ENOMEM" and (told := calls.region_count()) is not None:
        return no_region_left(*told)
    if failure.errno_name == "EAGAIN" and (limits := calls.lock_limit()) is not None:
        return f"it would be locked (lock_all(future=True), mlockall), and {_may_lock(*limits)}: {_RAISE_THE_LIMIT}"
    return None


def _may_lock(limit: int, locked: int | None) -> str:
    told = f"this process may lock {limit:,} bytes (RLIMIT_MEMLOCK)"
    return told if locked is None else f"{told} and has locked {locked:,}"


def failed(what: str, failure: OperationFailed, cause: str | None = None) -> OperationFailed:
    """The failure of a raw call as the failure of what was asked. `cause`: what the map tells of it."""
    return OperationFailed(
        f"{what} failed: {failure.message}",
        errno=failure.errno,
        errno_name=failure.errno_name,
        hint=failure.hint or cause or _HINTS.get(failure.errno_name),
    )


def failed_there(what: str, failure: OperationFailed, cause: str | None = None) -> OperationFailed:
    """The same of calls that need no room: to them ENOMEM is a hole, if it is nothing that the map tells."""
    return failed(what, failure, cause or (_HOLE if failure.errno_name == "ENOMEM" else None))


OF_GUARDS = {Advice.COLLAPSE: "EINVAL", Advice.POPULATE_READ: "EFAULT", Advice.POPULATE_WRITE: "EFAULT"}
"""The errno by which Linux refuses an advice for memory that has guard pages."""


def cause_in_map(
    read_map: Callable[[], AddressSpace],
    low: int,
    high: int,
    errno_name: str,
    *,
    page: int,
    guards: str | None = None,
    size_of: SizeOf | None = None,
) -> str | None:
    """Why a call on [low, high) was refused with this errno, when the map as it is now tells.

    `page`: the system's size of a page. `guards`: the errno by which this call is refused for guard pages. `size_of`:
    it touches each page, and asks how long the file behind a region is.
    """
    tellers = _CAUSES.get(errno_name, ())
    if size_of is not None:
        tellers += (_without_rights, functools.partial(_beyond_file, size_of))
    tellers += (_guarded,) if errno_name == guards else ()
    if not tellers:
        return None
    try:
        space = read_map()
    except (VmatlasError, MemoryError):  # the refusal is what is to be told
        return None
    regions = _touched(space, low, high)
    return next((cause for tell in tellers for cause in tell(regions, low, high, page)), None)


def cut_huge_pages(space: AddressSpace, low: int, high: int, page: int) -> str | None:
    """Which huge page the range [low, high) has only a part of, where the map tells."""
    return next(_cut_huge_pages(_touched(space, low, high), low, high, page), None)


def _touched(space: AddressSpace, low: int, high: int) -> list[Region]:
    return [region for region in space if region.start < high and low < region.end]


def _holes(regions: list[Region], low: int, high: int, page: int) -> Iterator[str]:
    edge = low
    for region in regions:
        if region.start > edge:
            break
        edge = region.end
    if edge < high:
        yield _HOLE


def _sealed(regions: list[Region], low: int, high: int, page: int) -> Iterator[str]:
    yield from (
        f"{_named(region)} is sealed (mseal): it stays as it is for as long as the process lives"
        for region in regions
        if region.flags is not None and region.flags.sealed
    )


def _without_rights(regions: list[Region], low: int, high: int, page: int) -> Iterator[str]:
    yield from (
        f"{_named(region)} has no rights ({region.permissions}): none of its pages can be had"
        for region in regions
        if region.protection == Protection.NONE
    )


def _beyond_file(size_of: SizeOf, regions: list[Region], low: int, high: int, page: int) -> Iterator[str]:
    for region in regions:
        size = None if region.offset is None else size_of(region)
        if size is None or region.offset is None:
            continue
        end = region.start + max(-(-size // page) * page - region.offset, 0)
        if end < min(region.end, high):
            yield f"{_named(region)} reaches beyond the end of the file behind it, which has {size:,} bytes"


def _guarded(regions: list[Region], low: int, high: int, page: int) -> Iterator[str]:
    yield from (
        f"{_named(region)} has guard pages (MADV_GUARD_INSTALL): they can have no memory"
        for region in regions
        if region.flags is not None and region.flags.may_hold_guards
    )


def _cut_huge_pages(regions: list[Region], low: int, high: int, page: int) -> Iterator[str]:
    for region in regions:
        size = region.page_size or page
        if size > page and (max(low, region.start) % size or min(high, region.end) % size):
            yield f"{_named(region)} goes by pages of {size_of_pages(size)}: give whole ones"


_CAUSES: dict[str, tuple[Callable[[list[Region], int, int, int], Iterable[str]], ...]] = {
    "ENOMEM": (_holes,),
    "EFAULT": (_holes,),
    "EPERM": (_sealed,),
    "EINVAL": (_cut_huge_pages,),
}


def _named(region: Region) -> str:
    return f"{region.start:#x}-{region.end:#x}"


def size_of_pages(size: int) -> str:
    """For people: "2 MiB"."""
    for unit, name in ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} bytes"


def occupied(what: str, at: int, size: int, errno: int) -> OperationFailed:
    """The refusal to map over something."""
    return OperationFailed(
        f"mapping {what} at {at:#x}: something lies in {at:#x}-{at + size:#x} already, or may not lie there",
        errno=errno,
        errno_name="EEXIST",
        hint="take another address, or none; replace=True destroys what is there",
    )


def explain_lock(
    calls: Calls,
    failure: OperationFailed,
    size: int | None,
    cause: str | None = None,
    *,
    before: int | None = None,
    added: int | None = None,
    counted: int = 0,
) -> OperationFailed:
    """The refusal to lock `size` bytes (None: all memory), with the limit where it is one: mlock(2), getrlimit(2).

    Linux judges the limit before it locks anything, and then counts no page twice (mm/mlock.c, `do_mlock`): so it is
    not the limit where some were locked. `before`: the bytes that the process had locked; `added`: those that are
    locked since; `counted`: those of the range that were among the first. `cause`: what the map tells of it.
    """
    what = "locking all memory" if size is None else f"locking {size:,} bytes"
    limits = calls.lock_limit()
    hint = None
    if failure.errno_name not in ("ENOMEM", "EPERM", "EAGAIN"):
        why = failure.message
    elif limits is not None and _is_over(failure, size, limits, before, added, counted):
        why, hint = _may_lock(limits[0], limits[1] if before is None else before), _RAISE_THE_LIMIT
    elif failure.errno_name == "EAGAIN":
        why = "memory is short, or a page of it could not be had"
    else:
        unknown = "no limit is known to stand against it: a part of the range is not mapped, or a page cannot be had"
        why = cause or limit_reached(calls, failure) or unknown
    return OperationFailed(
        f"{what} failed ({failure.errno_name}): {why}", errno=failure.errno, errno_name=failure.errno_name, hint=hint
    )


def _is_over(
    failure: OperationFailed,
    size: int | None,
    limits: tuple[int, int | None],
    before: int | None,
    added: int | None,
    counted: int,
) -> bool:
    if size is None or failure.errno_name == "EPERM":
        return True
    if failure.errno_name != "ENOMEM" or added:
        return False
    had = (limits[1] or 0) if before is None else before
    return had - counted + size > limits[0]
