"""Why the kernel would not lock memory, in words: mlock(2), getrlimit(2)."""

from __future__ import annotations

from vmatlas.errors import OperationFailed
from vmatlas.operations.contract import Calls

_HINT = "raise the limit (ulimit -l KILOBYTES, or LimitMEMLOCK= of systemd), lock less, or have CAP_IPC_LOCK"


def explain_lock(calls: Calls, failure: OperationFailed, size: int | None) -> OperationFailed:
    """The refusal to lock `size` bytes (None: all memory), with the limit where it is one."""
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
            hint = _HINT
        else:
            why += ", which would do: a part of the range is not mapped, or memory is short"
    if failure.errno_name not in ("ENOMEM", "EPERM", "EAGAIN"):
        why = failure.message
    return OperationFailed(
        f"{what} failed ({failure.errno_name}): {why}", errno=failure.errno, errno_name=failure.errno_name, hint=hint
    )
