"""Why no process can be started here: some questions are asked by a child, which can be left behind.

What the kernel says of fork(2) is about this process, and tells nothing of what was to be asked.
"""

from __future__ import annotations

import os
from errno import EAGAIN, EMFILE, ENFILE, ENOMEM, ENOSYS, EPERM, errorcode

from vmatlas.errors import NotStarted
from vmatlas.systems.linux.proc import PROC

_FORBIDDEN = "a sandbox (seccomp) forbids it, most likely: ask from outside of it"
_DESCRIPTORS = "it takes a few descriptors: close some, or have more (ulimit -n)"
_HINTS = {
    EAGAIN: "a limit of processes is reached: ulimit -u, pids.max of the cgroup, kernel.pid_max, kernel.threads-max",
    ENOMEM: "there is not the memory for one more",
    EPERM: _FORBIDDEN,
    ENOSYS: _FORBIDDEN,
    EMFILE: _DESCRIPTORS,
    ENFILE: _DESCRIPTORS,
}


def not_started(error: OSError, wanted: str) -> NotStarted:
    """A child could not be started that was `wanted` ("to read build ids"): with what to do."""
    number = error.errno or 0
    hint = _HINTS.get(number)
    if number == ENOMEM and _has_dead_children():
        hint = (
            "processes started here belong to a pid namespace whose first one has ended (unshare --pid without --fork):"
            " unshare with --fork"
        )
    return NotStarted(
        f"no process could be started here {wanted}: {error.strerror}",
        errno=number,
        errno_name=errorcode.get(number, str(number)),
        hint=hint,
    )


def ended_early(wanted: str) -> NotStarted:
    """A child that was started ended before it answered."""
    return NotStarted(
        f"the process that was started {wanted} has ended before it answered",
        hint="somebody has killed it, or it had not the memory (ulimit -v, the cgroup)",
    )


def _has_dead_children() -> bool:
    """Whether children belong to another pid namespace than this process: see pid_namespaces(7)."""
    try:
        own = os.readlink(f"{PROC}/self/ns/pid")
    except OSError:
        return False
    try:
        return os.readlink(f"{PROC}/self/ns/pid_for_children") != own
    except OSError:  # it has no first process yet
        return True
