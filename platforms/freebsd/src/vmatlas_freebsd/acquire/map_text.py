"""The text of /proc/PID/map, in one read: the kernel makes the whole text anew for each."""

from __future__ import annotations

import os
import sys
from errno import ENOENT

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas_freebsd.acquire.process import FreeBSDProcess, process_error
from vmatlas_freebsd.decode.map_text import CUT, CUT_AT, MAP
from vmatlas_freebsd.decode.process import STREAM as PROC
from vmatlas_freebsd.story import NOT_MOUNTED, find, judge_missing_file

PROC_FOLDER = "/proc"

_ROOM = 2 * CUT_AT
_ASKED = "/proc/PID/map"


def probe_map() -> Availability:
    """Whether procfs is mounted."""
    return YES if os.path.exists(f"{PROC_FOLDER}/curproc/map") else Availability(False, NOT_MOUNTED)


def acquire_map(process: LocalProcess) -> Reading:
    """Raises NoSuchProcess, AccessDenied, Unsupported (not mounted), OperationFailed."""
    if not isinstance(process, FreeBSDProcess):
        raise TypeError("a process of this machine is opened by vmatlas_freebsd.system")
    try:
        descriptor = os.open(f"{PROC_FOLDER}/{process.pid}/map", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if error.errno != ENOENT:
            raise process_error(error, process.pid, _ASKED) from None
        record = process.record()
        judge_missing_file(find(record, sys.byteorder), bool(probe_map()), process.pid)
        process.check()
        return Reading({MAP: b"", PROC: record})
    try:
        text = os.read(descriptor, _ROOM)
    except OSError as error:
        raise process_error(error, process.pid, _ASKED) from None
    finally:
        os.close(descriptor)
    process.check()
    if not text:
        return Reading({MAP: text, PROC: process.record()})
    return Reading({MAP: text}, CUT if len(text) == CUT_AT else None)
