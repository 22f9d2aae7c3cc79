"""What an errno means for a process, here and through an agent. Pure: it judges what was asked elsewhere."""

from __future__ import annotations

from vmatlas.errors import AccessDenied, NoSuchProcess, OperationFailed, Unsupported, VmatlasError
from vmatlas_freebsd.decode.process import Process, parse_processes
from vmatlas_freebsd.layout import ByteOrder

MOUNT = "mount -t procfs proc /proc"
NOT_MOUNTED = f"procfs is not mounted: {MOUNT}"

RIGHTS_HINT = (
    "it takes root, or the same user and a program that is not set-uid and may be traced, with "
    "security.bsd.unprivileged_proc_debug=1"
)
HIDDEN_HINT = (
    "in a jail only its own processes are there; with security.bsd.see_other_uids=0 only those of the same user are"
)


def find(record: bytes, byte_order: ByteOrder) -> Process | None:
    """The process of a record; None for an empty one. Raises MalformedData."""
    found = parse_processes(record, byte_order)
    return found[0] if found else None


def absence(found: Process | None, pid: int) -> NoSuchProcess:
    """Why a process has no map: there is none, it is a zombie, or it is just ending."""
    if found is None:
        return NoSuchProcess(f"there is no process {pid}", pid=pid, hint=HIDDEN_HINT)
    state = "it is a zombie without memory" if found.is_zombie else "its memory is gone"
    return NoSuchProcess(f"process {pid} ({found.name}) has ended; {state}", pid=pid)


def another(pid: int) -> NoSuchProcess:
    """The number of a process that has ended was given to another."""
    return NoSuchProcess(f"process {pid} has ended; its number is another process's now", pid=pid)


def refusal(errno_name: str, errno: int, words: str, *, pid: int, asked: str, found: Process | None) -> VmatlasError:
    """The kernel's refusal, told as what it means for the process. `words` are the errno in words."""
    if errno_name in ("ESRCH", "EIO"):  # EIO: procfs, when the process went while its file was held
        return absence(found, pid)
    if errno_name in ("EPERM", "EACCES"):
        return AccessDenied(f"no right to read the memory map of process {pid}", pid=pid, hint=RIGHTS_HINT)
    if errno_name == "ENOENT":
        return Unsupported(f"this kernel has no {asked}", pid=pid)
    if errno_name == "EFBIG":
        words = "the map is longer than this kernel writes as text"
    return OperationFailed(
        f"{asked} of process {pid} failed: {words}",
        errno=errno,
        errno_name=errno_name,
        pid=pid,
        hint="use the backend freebsd-sysctl" if errno_name == "EFBIG" else None,
    )


def judge_missing_file(found: Process | None, mounted: bool, pid: int) -> None:
    """procfs has no map of a process: returns for a process of the kernel, which has none to show.

    Raises Unsupported when procfs is not mounted or hides the process, NoSuchProcess when that is gone.
    """
    if not mounted:
        raise Unsupported(NOT_MOUNTED, pid=pid, hint="or use the backend freebsd-sysctl")
    if found is not None and found.kernel:
        return
    if found is None or found.is_zombie or found.ending:
        raise absence(found, pid)
    raise Unsupported(
        f"procfs has no map of process {pid} ({found.name}), as of init and others that the system protects",
        pid=pid,
        hint="use the backend freebsd-sysctl",
    )
