"""The text of /proc/PID/map, in one read: the kernel makes the whole text anew for each."""

from __future__ import annotations

import os
from errno import EFBIG, ENOENT

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas.errors import OperationFailed, Unsupported
from vmatlas_freebsd.acquire.process import BYTE_ORDER, FreeBSDProcess, absence, process_error
from vmatlas_freebsd.decode.map_text import CUT, CUT_AT, MAP
from vmatlas_freebsd.decode.process import STREAM as PROC
from vmatlas_freebsd.decode.process import parse_processes

PROC_FOLDER = "/proc"
MOUNT = "mount -t procfs proc /proc"

_ROOM = 2 * CUT_AT
_ASKED = "/proc/PID/map"


def probe_map() -> Availability:
    """Whether procfs is mounted."""
    if os.path.exists(f"{PROC_FOLDER}/curproc/map"):
        return YES
    return Availability(False, f"procfs is not mounted: {MOUNT}")


def acquire_map(process: LocalProcess) -> Reading:
    """Raises NoSuchProcess, AccessDenied, Unsupported (not mounted), OperationFailed."""
    if not isinstance(process, FreeBSDProcess):
        raise TypeError("a process of this machine is opened by vmatlas_freebsd.system")
    try:
        descriptor = os.open(f"{PROC_FOLDER}/{process.pid}/map", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno == ENOENT:
            return _without_file(process)
        raise process_error(error, process.pid, _ASKED) from error
    try:
        text = os.read(descriptor, _ROOM)
    except OSError as error:
        if error.errno == EFBIG:
            raise OperationFailed(
                f"the map of process {process.pid} is longer than this kernel writes as text",
                errno=EFBIG,
                errno_name="EFBIG",
                pid=process.pid,
                hint="use the backend freebsd-sysctl",
            ) from error
        raise process_error(error, process.pid, _ASKED) from error
    finally:
        os.close(descriptor)
    process.check()
    if not text:
        return Reading({MAP: text, PROC: process.record()})
    return Reading({MAP: text}, CUT if len(text) == CUT_AT else None)


def _without_file(process: FreeBSDProcess) -> Reading:
    """procfs has no map of a process: it is gone, the kernel's, one that procfs hides, or procfs is not there."""
    if not (there := probe_map()):
        raise Unsupported(there.reason, pid=process.pid, hint="or use the backend freebsd-sysctl")
    record = process.record()
    found = parse_processes(record, BYTE_ORDER)
    if found and found[0].kernel:
        process.check()
        return Reading({MAP: b"", PROC: record})
    if not found or found[0].is_zombie:
        raise absence(record, process.pid)
    raise Unsupported(
        f"procfs has no map of process {process.pid} ({found[0].name}), as of init and others that the system protects",
        pid=process.pid,
        hint="use the backend freebsd-sysctl",
    )
