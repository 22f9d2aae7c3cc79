"""NetBSD as the machine that we run on: its description, its processes."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from vmatlas.backend import LocalProcess
from vmatlas.errors import NoSuchProcess, Unsupported
from vmatlas.model import ProcessInfo, SystemInfo
from vmatlas.systems.posix import describe_machine, describe_user
from vmatlas_netbsd.acquire import read_process, read_processes
from vmatlas_netbsd.decode import parse_processes


class NetBSDSystem:
    """This NetBSD machine."""

    name = "netbsd"
    why_no_pages = "NetBSD tells pages to the process itself alone (mincore)"

    def info(self) -> SystemInfo:
        """From uname(2)."""
        return describe_machine(self.name)

    def processes(self) -> Iterator[ProcessInfo]:
        """Every process that the caller may see, in order of pid. Raises OSError."""
        for each in sorted(parse_processes(read_processes(), sys.byteorder), key=lambda process: process.pid):
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
        found = parse_processes(read_process(pid), sys.byteorder)
        if not found:
            raise NoSuchProcess(f"there is no process {pid}", pid=pid)
        return LocalProcess(pid, start_time=found[0].start_time)

    def rights(self) -> list[tuple[str, str]]:
        """The user."""
        return [("user", describe_user())]


SYSTEM = NetBSDSystem()
