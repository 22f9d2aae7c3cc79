"""What an errno and a record mean for a process, here and through an agent. Pure: others ask."""

from __future__ import annotations

from collections.abc import Mapping

from vmatlas.backend import Reading
from vmatlas.errors import AccessDenied, NoSuchProcess, OperationFailed, Unsupported, VmatlasError
from vmatlas.model.system import ByteOrder
from vmatlas_netbsd.decode import MAP, PROCESS, parse_processes

HIDDEN_HINT = "with security.curtain=1 users see their own processes alone; root sees all"


def reading_of(streams: Mapping[str, bytes], pid: int, start_time: int | None, byte_order: ByteOrder) -> Reading:
    """The streams, of the very process that was opened. Raises NoSuchProcess, MalformedData."""
    told = streams.get(PROCESS, b"")
    found = parse_processes(told, byte_order)
    if not found:
        raise NoSuchProcess(f"there is no process {pid}", pid=pid)
    if found[0].is_zombie:
        raise NoSuchProcess(f"process {pid} ({found[0].name}) has ended; it is a zombie without memory", pid=pid)
    if found[0].pid != pid or start_time not in (None, found[0].start_time):
        raise NoSuchProcess(f"process {pid} has ended; its number is another process's now", pid=pid)
    return Reading({MAP: streams.get(MAP, b""), PROCESS: told})


def refusal(errno_name: str, errno: int, words: str, pid: int) -> VmatlasError:
    """The kernel's refusal, told as what it means for the process. `words` say what was asked."""
    if errno_name in ("ESRCH", "EFAULT"):  # EFAULT: it is just ending (proc_vmspace_getref() of sys/kern/sys_process.c)
        return NoSuchProcess(f"there is no process {pid}", pid=pid, hint=HIDDEN_HINT)
    if errno_name in ("EPERM", "EACCES"):
        return AccessDenied(f"no right to read the memory map of process {pid}", pid=pid, hint=HIDDEN_HINT)
    if errno_name in ("ENOSYS", "EOPNOTSUPP", "EINVAL", "ENOENT"):
        return Unsupported(f"this kernel has no vm.proc.map (it came with NetBSD 8): {words}", pid=pid)
    if errno_name == "E2BIG":
        return Unsupported(f"the map of process {pid} has more regions than this kernel tells: {words}", pid=pid)
    return OperationFailed(f"{words} failed for process {pid}", errno=errno, errno_name=errno_name, pid=pid)
