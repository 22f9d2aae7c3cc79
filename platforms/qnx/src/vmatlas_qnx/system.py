"""QNX Neutrino as the machine that we run on. Never run on a real one yet (see acquire)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from vmatlas.backend import LocalProcess
from vmatlas.errors import NoSuchProcess, VmatlasError
from vmatlas.model import ProcessInfo, SystemInfo
from vmatlas.systems.posix import describe_machine, describe_user
from vmatlas_qnx import acquire, layout


class QnxSystem:
    """This QNX machine."""

    name = "qnx"

    def info(self) -> SystemInfo:
        """From uname()."""
        return describe_machine(self.name)

    def processes(self) -> Iterator[ProcessInfo]:
        """From /proc; a process that ends meanwhile, or may not be looked at, is left out."""
        for pid in sorted(int(name) for name in os.listdir("/proc") if name.isdigit()):
            try:
                info, name = _look(pid)
            except VmatlasError:
                continue
            yield ProcessInfo(
                pid=pid,
                parent=info.parent,
                name=name,
                start_time=info.start_time,
                state="Z" if info.is_zombie else "",
                kernel=info.is_kernel,
            )

    def open(self, pid: int, thread: int | None) -> LocalProcess:
        """Raises NoSuchProcess, AccessDenied, OperationFailed. Every thread has the same map."""
        return LocalProcess(pid, start_time=_look(pid)[0].start_time, thread=thread)

    def rights(self) -> list[tuple[str, str]]:
        """The user; plain procfs lets every user read every map."""
        return [("user", describe_user())]


def _look(pid: int) -> tuple[layout.ProcessInfo, str]:
    """What the system tells of a process, and the path of its program. Raises NoSuchProcess, OperationFailed."""
    descriptor = acquire.open_process(pid)
    try:
        buffer = bytearray(layout.INFO)
        errno, _ = acquire._libc_devctl(descriptor, layout.PROCESS_INFO, buffer)
        if errno:
            raise acquire.process_error(errno, pid, "DCMD_PROC_INFO")
        info = layout.read_info(bytes(buffer), sys.byteorder)
        if info is None or info.pid != pid:
            raise NoSuchProcess(f"there is no process {pid}", pid=pid)
        errno, answer = acquire.ask_program(descriptor, layout.NAME_ROOM)
    finally:
        os.close(descriptor)
    path = answer[layout.NAME_AT :].partition(b"\0")[0] if not errno else b""
    return info, os.fsdecode(path.rpartition(b"/")[2])


QNX = QnxSystem()
