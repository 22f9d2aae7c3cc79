"""A process of this machine, held by its pid and its start time, and what an errno means for it."""

from __future__ import annotations

import struct
import sys
from errno import EACCES, EIO, ENOENT, EPERM, ESRCH, errorcode
from typing import NoReturn

from vmatlas.backend import LocalProcess
from vmatlas.errors import AccessDenied, NoSuchProcess, OperationFailed, Unsupported, VmatlasError
from vmatlas_freebsd.acquire.libc import read_sysctl
from vmatlas_freebsd.decode.process import Process, parse_boot_time, parse_processes, start_time
from vmatlas_freebsd.layout import CTL_KERN, KERN_PROC, KERN_PROC_PID, ByteOrder

_KERN_BOOTTIME = 21
_CLOCK_ATTEMPTS = 5

BYTE_ORDER: ByteOrder = "little" if sys.byteorder == "little" else "big"

RIGHTS_HINT = (
    "it takes root, or the same user and a program that is not set-uid and may be traced, with "
    "security.bsd.unprivileged_proc_debug=1"
)
HIDDEN_HINT = (
    "in a jail only its own processes are there; with security.bsd.see_other_uids=0 only those of the same user are"
)


class FreeBSDProcess(LocalProcess):
    """A process. No descriptor holds it: its number may come to be another's, so its start time is compared."""

    def record(self) -> bytes:
        """Its `struct kinfo_proc`; empty when there is none. Raises OSError."""
        return read_process(self.pid)

    def check(self) -> Process:
        """It is still the process that was opened; what the kernel says of it now.

        Asked after a map was read: a number goes from one process to another and never back, so the map was of this
        process. Raises NoSuchProcess.
        """
        record, boot_time = read_identity(self.pid)
        found = parse_processes(record, BYTE_ORDER)
        if not found or found[0].is_zombie:
            self.explain_absence(record)
        if self.start_time is not None and start_time(found[0], boot_time) != self.start_time:
            raise NoSuchProcess(f"process {self.pid} has ended; its number is another process's now", pid=self.pid)
        return found[0]

    def explain_absence(self, record: bytes) -> NoReturn:
        """Raises NoSuchProcess, with what is known of a process that has no memory."""
        raise absence(record, self.pid)


def absence(record: bytes, pid: int) -> NoSuchProcess:
    """Why a process has no map: there is none, it is a zombie, or it is just ending."""
    found = parse_processes(record, BYTE_ORDER)
    if not found:
        return NoSuchProcess(f"there is no process {pid}", pid=pid, hint=HIDDEN_HINT)
    state = "it is a zombie without memory" if found[0].is_zombie else "its memory is gone"
    return NoSuchProcess(f"process {pid} ({found[0].name}) has ended; {state}", pid=pid)


def read_process(pid: int) -> bytes:
    """The `struct kinfo_proc` of a process; empty when there is none, or none that may be seen. Raises OSError."""
    if struct.calcsize("P") != 8:
        raise Unsupported("processes of this machine are read by a 64-bit Python alone; the agent can read them")
    try:
        return read_sysctl((CTL_KERN, KERN_PROC, KERN_PROC_PID, pid))
    except OSError as error:
        if error.errno == ESRCH:
            return b""
        raise


def read_boot_time() -> int:
    """When the machine was started, in microseconds since 1970, by the clock of the moment. Raises OSError."""
    return parse_boot_time(read_sysctl((CTL_KERN, _KERN_BOOTTIME)), BYTE_ORDER)


def read_identity(pid: int) -> tuple[bytes, int]:
    """The record and the boot time that belong together, though the clock may be set meanwhile. Raises OSError."""
    before = read_boot_time()
    for _ in range(_CLOCK_ATTEMPTS):
        record, after = read_process(pid), read_boot_time()
        if before == after:
            break
        before = after
    return record, after


def process_error(error: OSError, pid: int, asked: str) -> VmatlasError:
    """The error of a question about a process, told as what it means for the process."""
    if error.errno in (ESRCH, EIO):
        return absence(read_process(pid), pid)
    if error.errno in (EPERM, EACCES):
        return AccessDenied(f"no right to read the memory map of process {pid}", pid=pid, hint=RIGHTS_HINT)
    if error.errno == ENOENT:
        return Unsupported(f"this kernel has no {asked}", pid=pid)
    return OperationFailed(
        f"{asked} of process {pid} failed: {error.strerror}",
        errno=error.errno or 0,
        errno_name=errorcode.get(error.errno or 0, ""),
        pid=pid,
    )
