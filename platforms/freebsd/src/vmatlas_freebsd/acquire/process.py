"""A process of this machine, held by its pid and its start time."""

from __future__ import annotations

import struct
import sys
from errno import ESRCH, errorcode

from vmatlas.backend import LocalProcess
from vmatlas.errors import Unsupported, VmatlasError
from vmatlas_freebsd.acquire.libc import read_sysctl
from vmatlas_freebsd.decode.process import parse_boot_time, start_time
from vmatlas_freebsd.layout import CTL_KERN, KERN_BOOTTIME, KERN_PROC, KERN_PROC_PID
from vmatlas_freebsd.story import absence, another, find, refusal

_CLOCK_ATTEMPTS = 5


class FreeBSDProcess(LocalProcess):
    """A process. No descriptor holds it: its number may come to be another's, so its start time is compared."""

    def record(self) -> bytes:
        """Its `struct kinfo_proc`; empty when there is none. Raises OSError."""
        return read_process(self.pid)

    def check(self) -> None:
        """It is still the process that was opened.

        Asked after a map was read: a number goes from one process to another and never back, so the map was of this
        process. Raises NoSuchProcess.
        """
        record, boot_time = read_identity(self.pid)
        found = find(record, sys.byteorder)
        if found is None or found.is_zombie:
            raise absence(found, self.pid)
        if self.start_time is not None and start_time(found, boot_time) != self.start_time:
            raise another(self.pid)


def read_process(pid: int) -> bytes:
    """The `struct kinfo_proc` of a process; empty when there is none, or none that may be seen. Raises OSError."""
    require_64_bit()
    try:
        return read_sysctl((CTL_KERN, KERN_PROC, KERN_PROC_PID, pid))
    except OSError as error:
        if error.errno == ESRCH:
            return b""
        raise


def require_64_bit() -> None:
    """Raises Unsupported in a 32-bit Python, which is told of processes in another structure."""
    if struct.calcsize("P") != 8:
        raise Unsupported("processes of this machine are read by a 64-bit Python alone; the agent can read them")


def read_boot_time() -> int:
    """When the machine was started, in microseconds since 1970, by the clock of the moment. Raises OSError."""
    return parse_boot_time(read_sysctl((CTL_KERN, KERN_BOOTTIME)), sys.byteorder)


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
    name = errorcode.get(error.errno or 0, "")
    found = find(read_process(pid), sys.byteorder) if name in ("ESRCH", "EIO") else None
    return refusal(name, error.errno or 0, error.strerror or str(error), pid=pid, asked=asked, found=found)
