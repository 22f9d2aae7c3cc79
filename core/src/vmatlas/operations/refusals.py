"""What it means, in words, that the kernel refused a call on memory. It decides nothing; it may ask for a limit."""

from __future__ import annotations

from vmatlas.errors import OperationFailed
from vmatlas.operations.contract import Calls

_HINTS = {
    "ENOMEM": "there is no room in the address space, or a limit is reached: ulimit -v, vm.max_map_count, overcommit",
    "EACCES": "the file was not opened for that, or its file system forbids it (noexec)",
    "EPERM": "the system forbids it there: an address below vm.mmap_min_addr, sealed memory, a noexec file system",
    "ENODEV": "what is behind it cannot be mapped",
    "EAGAIN": "too much memory is locked",
}

_RAISE_THE_LIMIT = "raise the limit (ulimit -l KILOBYTES, or LimitMEMLOCK= of systemd), lock less, or have CAP_IPC_LOCK"


def failed(what: str, failure: OperationFailed) -> OperationFailed:
    """The failure of a raw call as the failure of what was asked."""
    return OperationFailed(
        f"{what} failed: {failure.message}",
        errno=failure.errno,
        errno_name=failure.errno_name,
        hint=failure.hint or _HINTS.get(failure.errno_name),
    )


def failed_there(what: str, failure: OperationFailed) -> OperationFailed:
    """The same of calls that need no room: to them ENOMEM is a hole."""
    told = failed(what, failure)
    if failure.errno_name == "ENOMEM":
        told.hint = "a part of the range is not mapped"
    return told


def occupied(what: str, at: int, size: int, errno: int) -> OperationFailed:
    """The refusal to map over something."""
    return OperationFailed(
        f"mapping {what} at {at:#x}: something lies in {at:#x}-{at + size:#x} already, or may not lie there",
        errno=errno,
        errno_name="EEXIST",
        hint="take another address, or none; replace=True destroys what is there",
    )


def explain_lock(calls: Calls, failure: OperationFailed, size: int | None) -> OperationFailed:
    """The refusal to lock `size` bytes (None: all memory), with the limit where it is one: mlock(2), getrlimit(2)."""
    what = "locking all memory" if size is None else f"locking {size:,} bytes"
    limits = calls.lock_limit()
    hint = None
    if limits is None:
        why = "no limit is known to stand against it: a part of the range is not mapped, or memory is short"
    else:
        limit, locked = limits
        why = f"this process may lock {limit:,} bytes (RLIMIT_MEMLOCK)"
        why += "" if locked is None else f" and has locked {locked:,}"
        if size is None or failure.errno_name == "EPERM" or (locked or 0) + size > limit:
            hint = _RAISE_THE_LIMIT
        else:
            why += ", which would do: a part of the range is not mapped, or memory is short"
    if failure.errno_name not in ("ENOMEM", "EPERM", "EAGAIN"):
        why = failure.message
    return OperationFailed(
        f"{what} failed ({failure.errno_name}): {why}", errno=failure.errno, errno_name=failure.errno_name, hint=hint
    )
