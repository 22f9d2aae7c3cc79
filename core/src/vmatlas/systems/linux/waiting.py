"""What a thread of this process waits for in the kernel: proc_pid_wchan(5), proc_pid_syscall(5)."""

from __future__ import annotations

import os

_TASKS = "/proc/self/task"

_MEANINGS = {
    "rwsem_": "a lock that somebody else holds",
    "m_start": "the lock of that memory, which somebody else holds",
    "access_remote_vm": "the lock of that memory, which somebody else holds",
    "do_task_stat": "a lock of that process, which it holds while it executes a program",
    "mm_access": "a lock of that process, which it holds while it executes a program",
    "request_wait_answer": "the answer of a FUSE file system",
    "fuse_": "the answer of a FUSE file system",
    "rpc_": "the answer of a file server",
    "nfs": "the answer of a file server",
    "folio_wait_": "a page of a file",
    "futex_": "another thread of this program",
}
"""By how the kernel's function begins; there are more, which are told by their own names."""


def waiting_for(thread: int) -> str | None:
    """In words, with the kernel's function in brackets; None when it does not wait, or this kernel does not tell."""
    where = _read(f"{_TASKS}/{thread}/wchan").strip("\0\n")
    if where in ("", "0"):
        return None
    meaning = next((words for begin, words in _MEANINGS.items() if where.startswith(begin)), None)
    told = f"{meaning} ({where})" if meaning else f"the kernel ({where})"
    file = _file_asked(thread)
    return f"{told}, in {file}" if file else told


def _file_asked(thread: int) -> str | None:
    """The file of /proc whose descriptor the call under way began with; None when it is not of that kind."""
    words = _read(f"{_TASKS}/{thread}/syscall").split()
    if len(words) < 2 or not words[1].startswith("0x"):
        return None
    try:
        path = os.readlink(f"/proc/self/fd/{int(words[1], 16)}")
    except (OSError, ValueError):
        return None
    return path if path.startswith("/proc/") else None


def _read(path: str) -> str:
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            return file.read(256)
    except OSError:
        return ""
