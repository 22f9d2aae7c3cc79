"""What the errno of an advice means, in words, with what to do: process_madvise(2), madvise(2), mm/madvise.c."""

from __future__ import annotations

from vmatlas.errors import AccessDenied, NoSuchProcess, OperationFailed, Unsupported, VmatlasError
from vmatlas.operations.values import Advice
from vmatlas_linux_memory.numbers import SINCE

_OWN_REASONS = {
    Advice.COLLAPSE: "it is smaller than a huge page, locked, or of a kind that has none",
    Advice.COLD: "it is locked, of huge pages, or a device's (Linux pages none of these out)",
    Advice.PAGEOUT: "it is locked, of huge pages, or a device's (Linux pages none of these out)",
    Advice.GUARD_INSTALL: "it is locked, or of a kind that takes no guards",
    Advice.FREE: "only private memory without a file can be freed",
    Advice.REMOVE: "only shared memory that can be written can be removed",
    Advice.DONTNEED: "it is locked, of huge pages, or a device's",
    Advice.WIPEONFORK: "only private memory without a file can be wiped in children",
}
_OWN_REASONS[Advice.DONTNEED_LOCKED] = "it is of huge pages, or a device's"


def advice_refused(refusal: OperationFailed, pid: int, advice: Advice, *, any_range: bool) -> VmatlasError | None:
    """The errors that are no matter of one range; None for those that are."""
    match refusal.errno_name:
        case "EPERM":
            return AccessDenied(
                f"no right to advise process {pid}: it takes the capability CAP_SYS_NICE (EPERM)",
                pid=pid,
                hint="try sudo, or setcap cap_sys_nice+ep on the interpreter; Linux 5.10 and 5.11 want CAP_SYS_ADMIN",
            )
        case "EACCES":
            return AccessDenied(
                f"no right to advise process {pid}: it takes the right to read it (EACCES)",
                pid=pid,
                hint=refusal.hint
                or "the same user (and a process that may be dumped), or the capability CAP_SYS_PTRACE: try sudo",
            )
        case "ESRCH":
            return NoSuchProcess(f"there is no process {pid}, or its memory is gone", pid=pid)
        case "ENOSYS":
            return Unsupported("this kernel has no process_madvise (ENOSYS)", pid=pid, hint="it came with Linux 5.10")
        case "EINVAL" if any_range:
            since = SINCE.get(advice)
            return Unsupported(
                f"this kernel does not take the advice '{advice.value}' for another process (EINVAL)",
                pid=pid,
                hint=f"it does since Linux {since}"
                if since
                else f"for another process there are {', '.join(each.value for each in SINCE)}",
            )
        case "EXDEV":
            return Unsupported(
                f"/proc is of another pid namespace than the agent: process {pid} is another one there (EXDEV)", pid=pid
            )
        case "EOVERFLOW":
            return Unsupported(
                f"the agent's own pointers are too narrow for the addresses of process {pid} (EOVERFLOW)",
                pid=pid,
                hint="use an agent for the kernel's own processor mode",
            )
    return None


def range_refused(refusal: OperationFailed, advice: Advice) -> str:
    """Why the kernel did not complete a range."""
    match refusal.errno_name:
        case "EINVAL":
            return f"{_OWN_REASONS.get(advice, 'the kernel does not take this advice for such memory')} (EINVAL)"
        case "ENOMEM" if advice is Advice.COLLAPSE:
            return "a part of it is not mapped, or there is no huge page free (ENOMEM)"
        case "ENOMEM":
            return "a part of it is not mapped (ENOMEM)"
        case "EBUSY":
            return "some of its pages are in use otherwise now: pinned, or a huge page could not be charged (EBUSY)"
        case "EAGAIN":
            return "the kernel could not do it just now (EAGAIN): try again"
        case "EBADF":
            return "it has no file (EBADF)"
        case "EIO":
            return "its file could not be read (EIO)"
        case "ETIMEDOUT":
            return "its file system did not answer (ETIMEDOUT)"
        case "EFAULT":
            return "it is not the process's own memory, or its pages cannot be had (EFAULT)"
        case "EPERM":
            return "it is sealed, or a capability is missing (EPERM)"
    return f"the kernel refused it ({refusal.errno_name})"
