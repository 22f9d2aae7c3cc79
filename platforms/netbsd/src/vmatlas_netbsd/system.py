"""NetBSD as the machine that we run on: its description, its processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from vmatlas.backend import LocalProcess
from vmatlas.errors import NoSuchProcess, Unsupported
from vmatlas.model import ProcessInfo, SystemInfo
from vmatlas_netbsd.acquire import BYTE_ORDER, read_process, read_processes
from vmatlas_netbsd.decode import parse_processes


class NetBSDSystem:
    """This NetBSD machine."""

    name = "netbsd"

    def info(self) -> SystemInfo:
        """From uname(2). The width is this Python's."""
        uname = os.uname()
        return SystemInfo(
            system=self.name,
            release=uname.release,
            version=uname.version,
            machine=uname.machine,
            byte_order=BYTE_ORDER,
            pointer_width=64 if sys.maxsize > 2**32 else 32,
            page_size=os.sysconf("SC_PAGE_SIZE"),
        )

    def processes(self) -> Iterator[ProcessInfo]:
        """Every process that the caller may see, in order of pid. Raises OSError."""
        for each in sorted(parse_processes(read_processes(), BYTE_ORDER), key=lambda process: process.pid):
            yield ProcessInfo(
                pid=each.pid,
                parent=each.parent,
                name=each.name,
                start_time=each.start_time,
                state="Z" if each.is_zombie else "",
                kernel=each.is_kernel,
            )

    def open(self, pid: int, thread: int | None) -> LocalProcess:
        """Raises NoSuchProcess, Unsupported."""
        if thread is not None:
            raise Unsupported("NetBSD tells the map of a process, not of a thread", pid=pid)
        found = parse_processes(read_process(pid), BYTE_ORDER)
        if not found:
            raise NoSuchProcess(f"there is no process {pid}", pid=pid)
        return LocalProcess(pid, start_time=found[0].start_time)

    def rights(self) -> list[tuple[str, str]]:
        """The user."""
        return [("user", f"uid {os.getuid()}" + (", root" if os.geteuid() == 0 else ""))]


SYSTEM = NetBSDSystem()
