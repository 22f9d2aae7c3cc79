"""The sysctl KERN_PROC_VMMAP: the whole map in one call, though not of one moment."""

from __future__ import annotations

import os

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas_freebsd.acquire.libc import read_sysctl
from vmatlas_freebsd.acquire.process import FreeBSDProcess, process_error
from vmatlas_freebsd.decode.process import STREAM as PROC
from vmatlas_freebsd.decode.vmmap import VMMAP
from vmatlas_freebsd.layout import CTL_KERN, KERN_PROC, KERN_PROC_VMMAP

_ASKED = "sysctl kern.proc.vmmap"


def probe_vmmap() -> Availability:
    """Whether the kernel tells this process its own map."""
    try:
        read_sysctl((CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, os.getpid()))
    except (OSError, AttributeError) as error:
        return Availability(False, f"{_ASKED}: {getattr(error, 'strerror', None) or error}")
    return YES


def acquire_vmmap(process: LocalProcess) -> Reading:
    """Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed."""
    if not isinstance(process, FreeBSDProcess):
        raise TypeError("a process of this machine is opened by vmatlas_freebsd.system")
    try:
        data = read_sysctl((CTL_KERN, KERN_PROC, KERN_PROC_VMMAP, process.pid))
    except OSError as error:
        raise process_error(error, process.pid, _ASKED) from None
    process.check()
    return Reading({VMMAP: data}) if data else Reading({VMMAP: data, PROC: process.record()})
