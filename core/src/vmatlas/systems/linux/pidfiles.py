"""Whose number stands in a pidfile: that of the pid namespace of whoever wrote it, which is ours or another.

What can be told: a file that is named through a process (/proc/PID/root/..., /proc/PID/cwd/...) is one of that
process's, and so the number is of its namespace; one on a mount that we do not have is of somebody else's. A file on a
mount of ours, such as a volume that a container has as well, does not tell who wrote it: the number is taken for ours.
"""

from __future__ import annotations

import os
import re

from vmatlas.errors import AccessDenied, NoSuchProcess, Unsupported
from vmatlas.systems.linux import mounts
from vmatlas.systems.linux.proc import PROC, numbers_of, read_file

_THROUGH = re.compile(r"/+(?:\./+)*proc/+(self|thread-self|\d{1,10})/+(?:task/+\d{1,10}/+)?(?:root|cwd)(?=/)")
_FIRST = "pid:[4026531836]"
"""The pid namespace that the kernel starts with: PROC_PID_INIT_INO of include/linux/proc_ns.h."""


def number_meant(path: str, number: int) -> tuple[int, str | None]:
    """The number that the process of a pidfile has here, and what is doubtful about it, in words.

    Raises NoSuchProcess, AccessDenied, and Unsupported for a file of which it cannot be told.
    """
    named = _THROUGH.match(path)
    if named is not None:
        if _THROUGH.search(path, named.end()):
            raise Unsupported(f"{path} goes through two processes: whose number it has cannot be told", hint=_BY_ONE)
        return _number_here(path, named[1], number), None
    if not _is_on_our_mounts(path):
        raise Unsupported(
            f"{path} lies in another mount namespace: of which pid namespace its number is cannot be told", hint=_BY_ONE
        )
    if number == 1 and _namespace("self") == _FIRST:
        return 1, f"{path} says 1, which is this machine's own init: a container's pidfile says so of its first process"
    return number, None


_BY_ONE = "name it by a process of that container: pidfile:/proc/PID/root/run/x.pid"


def _number_here(path: str, process: str, number: int) -> int:
    """The number here of what is `number` in the pid namespace of a process."""
    namespace = _namespace(process)
    if namespace == _namespace("self"):
        return number
    has_told = False
    for each in (process, *filter(str.isdigit, os.listdir(PROC))):
        numbers = numbers_of(read_file(f"{PROC}/{each}/status") or b"")
        has_told = has_told or bool(numbers)
        if numbers and numbers[-1] == number and _has_namespace(each, namespace):
            return numbers[0]
    if not has_told:
        raise Unsupported(
            f"{path} has a number of another pid namespace, which this kernel does not tell (NSpid: Linux 4.1)",
            hint="give the number that the process has here",
        )
    raise NoSuchProcess(
        f"{path} is stale: in the pid namespace of process {process} there is no process {number}",
        hint="who may not look at the processes there finds none of them: try sudo" if os.geteuid() else None,
    )


def _namespace(process: str) -> str:
    """Raises NoSuchProcess, AccessDenied."""
    try:
        return os.readlink(f"{PROC}/{process}/ns/pid")
    except FileNotFoundError:
        raise NoSuchProcess(f"there is no process {process}") from None
    except OSError as error:
        told = f"the pid namespace of process {process} is not told: {error.strerror}"
        raise AccessDenied(told, hint="try sudo") from None


def _has_namespace(process: str, namespace: str) -> bool:
    try:
        return _namespace(process) == namespace
    except (NoSuchProcess, AccessDenied):
        return False


def _is_on_our_mounts(path: str) -> bool:
    """Whether a file lies on a mount that this process has; also where that is not told (before Linux 3.15)."""
    number = _mount_of(path)
    if number is None or number == _mount_of("/"):  # in a chroot the table does not show the mount of its root
        return True
    table = read_file(f"{PROC}/self/mountinfo")
    return table is None or mounts.one(table, number) is not None


def _mount_of(path: str) -> int | None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        told = re.search(rb"^mnt_id:\s*(\d{1,10})$", read_file(f"{PROC}/self/fdinfo/{descriptor}") or b"", re.MULTILINE)
        return None if told is None else int(told[1])
    finally:
        os.close(descriptor)
