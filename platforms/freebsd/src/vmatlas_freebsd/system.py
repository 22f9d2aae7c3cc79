"""FreeBSD as the machine that we run on: its description, its processes, and what may be read of them."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from vmatlas.errors import Unsupported
from vmatlas.model import ProcessInfo, SystemInfo
from vmatlas.systems.posix import describe_machine, describe_user
from vmatlas_freebsd.acquire.libc import read_number, read_sysctl
from vmatlas_freebsd.acquire.process import (
    FreeBSDProcess,
    read_boot_time,
    read_identity,
    require_64_bit,
)
from vmatlas_freebsd.decode.process import parse_processes, start_time
from vmatlas_freebsd.layout import CTL_KERN, KERN_PROC, KERN_PROC_PROC
from vmatlas_freebsd.story import absence, find

_RIGHTS = (
    ("security.bsd.see_other_uids", "processes of other users are shown", "processes of other users are hidden"),
    ("security.bsd.see_other_gids", "processes of other groups are shown", "processes of other groups are hidden"),
    ("security.bsd.unprivileged_proc_debug", "users may read their own processes", "only root may read maps of others"),
    ("security.jail.jailed", "in a jail: only its processes are there", "not in a jail"),
)
"""What decides whose maps may be read, what 1 means and what 0 means."""


class FreeBSDSystem:
    """This FreeBSD machine."""

    name = "freebsd"

    def info(self) -> SystemInfo:
        """From uname(2)."""
        return describe_machine(self.name)

    def processes(self) -> Iterator[ProcessInfo]:
        """From the sysctl kern.proc.proc, in order of pid. Raises OSError, Unsupported (a 32-bit Python)."""
        require_64_bit()
        boot_time = read_boot_time()
        found = parse_processes(read_sysctl((CTL_KERN, KERN_PROC, KERN_PROC_PROC, 0)), sys.byteorder)
        for each in sorted(found, key=lambda process: process.pid):
            yield ProcessInfo(
                pid=each.pid,
                parent=each.parent,
                name=each.name,
                start_time=start_time(each, boot_time),
                state=each.state,
                kernel=each.kernel,
            )

    def open(self, pid: int, thread: int | None) -> FreeBSDProcess:
        """Raises NoSuchProcess, Unsupported. A thread's id is taken for its process, as the kernel does."""
        if thread is not None:
            raise Unsupported("FreeBSD tells the map of a process, not of a thread", pid=pid)
        record, boot_time = read_identity(pid)
        found = find(record, sys.byteorder)
        if found is None:
            raise absence(None, pid)
        return FreeBSDProcess(found.pid, start_time=start_time(found, boot_time))

    def rights(self) -> list[tuple[str, str]]:
        """User, and the sysctls that hide or forbid."""
        told = [("user", describe_user())]
        for name, one, zero in _RIGHTS:
            value = read_number(name)
            told.append((name, "not told" if value is None else f"{value} ({one if value else zero})"))
        return told


FREEBSD = FreeBSDSystem()
