"""Why the kernel denies one process the look at another, as far as /proc tells: ptrace(2), access mode checking.

The rules are those of PTRACE_MODE_READ_FSCREDS (`__ptrace_may_access` of kernel/ptrace.c, `cap_ptrace_access_check`),
which maps, pages and advice go by; Yama has no say in them. In that order: all user ids, all group ids, whether the
process may be dumped, its capabilities, a security module.
"""

from __future__ import annotations

import os

from vmatlas.systems.linux.proc import PROC, key_of, read_file, read_own

_REMEDY = "or have the capability CAP_SYS_PTRACE"
_SAME = "it runs as the same user, but"


def why_denied(pid: int) -> str | None:
    """Why a process of the same user is denied, and what it takes; None for one of another user, or where that is not
    told."""
    return told_by(read_own("status"), read_file(f"{PROC}/{pid}/status") or b"", _owner(pid))


def told_by(own: bytes, other: bytes, owner: int | None) -> str | None:
    """By the `status` of both, and who owns the files in the folder of the other. Pure."""
    user, users = _ids(own, b"Uid"), _ids(other, b"Uid")
    group, groups = _ids(own, b"Gid"), _ids(other, b"Gid")
    if not (user and users and group and groups) or user[3] not in users[:3]:
        return None
    if set(users[:3]) != {user[3]}:
        return f"it runs as user {users[1]} (a set-user-ID program, or one that changed it): be that user, {_REMEDY}"
    if set(groups[:3]) != {group[3]}:
        return f"{_SAME} as group {groups[1]}, and this process as {group[3]}: be in that group (newgrp), {_REMEDY}"
    if owner is not None and owner != users[1]:
        return (
            f"{_SAME} may not be dumped: it forbids that (PR_SET_DUMPABLE), or its program cannot be read, or gives it "
            f"rights (set-user-ID, capabilities); it takes the capability CAP_SYS_PTRACE"
        )
    has, wants = _capabilities(own, b"CapEff"), _capabilities(other, b"CapPrm")
    if has is not None and wants is not None and wants & ~has:
        return f"{_SAME} has capabilities that this process lacks (CapPrm of its status): have those, {_REMEDY}"
    return f"{_SAME} may not be dumped (PR_SET_DUMPABLE), or a security module forbids it: it takes CAP_SYS_PTRACE"


def _ids(status: bytes, key: bytes) -> list[int]:
    """Real, effective, saved, and that of the file system."""
    words = key_of(status, key).split()
    return [int(word) for word in words] if len(words) == 4 and all(word.isdigit() for word in words) else []


def _capabilities(status: bytes, key: bytes) -> int | None:
    told = key_of(status, key)
    try:
        return int(told, 16) if told else None
    except ValueError:
        return None


def _owner(pid: int) -> int | None:
    """Root, of a process that may not be dumped (`task_dump_owner` of fs/proc/base.c); its folder has another owner."""
    try:
        return os.stat(f"{PROC}/{pid}/stat").st_uid
    except OSError:
        return None
