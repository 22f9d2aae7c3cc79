"""Asks this machine's process manager through libc's devctl(), and keeps its answers untouched.

For QNX with Python on it (SDP 8.0 has one). Everywhere else an agent does the same (native/acquire.c).
Never run on a real QNX: the machines at hand have no Python. What the agent does on one is what this does.
"""

from __future__ import annotations

import ctypes
import errno as errnos
import os
import sys
from collections.abc import Callable

from vmatlas.backend import YES, Availability, LocalProcess, Reading
from vmatlas.errors import AccessDenied, NoSuchProcess, OperationFailed, TornRead, Unsupported, VmatlasError
from vmatlas.model import Query
from vmatlas_qnx import decode, layout, names

Devctl = Callable[[int, int, bytearray], tuple[int, int]]
"""devctl(descriptor, command, buffer): the errno value (0: it worked) and what the driver told in its own word."""

FIRST_ROOM = 512
"""Entries that there is room for at first."""

MOST = 1 << 20
"""Entries that a map may have: a count beyond is none to make room for."""

ATTEMPTS = 8
"""How often the map may grow while it is read, or change while names are asked for, before that is said."""

_AS = "as"


def _libc_devctl(descriptor: int, command: int, buffer: bytearray) -> tuple[int, int]:
    function = ctypes.CDLL(None).devctl
    told = ctypes.c_int(0)
    room = (ctypes.c_char * len(buffer)).from_buffer(buffer) if buffer else None
    error = function(descriptor, ctypes.c_int(command - (1 << 32) if command >> 31 else command), room,
                     ctypes.c_size_t(len(buffer)), ctypes.byref(told))  # fmt: skip
    return int(error), told.value


def process_error(errno: int, pid: int, what: str) -> VmatlasError:
    """What an errno of procfs means for the process."""
    name = errnos.errorcode.get(errno, str(errno))
    return error_of(name, errno, pid, what)


def error_of(name: str, errno: int, pid: int, what: str) -> VmatlasError:
    """The same by the errno's name: the numbers of a target need not be this host's."""
    if name == "ENXIO":
        return NoSuchProcess(f"process {pid} has ended; it is a zombie without memory", pid=pid)
    if name in ("ESRCH", "ENOENT"):
        return NoSuchProcess(f"there is no process {pid}", pid=pid)
    if name in ("EPERM", "EACCES"):
        hint = (
            "ask as root, or as the process's user; on 8.0 the system may restrict procfs (mkqnximage --secure-procfs)"
        )
        return AccessDenied(f"no right to read the memory map of process {pid}", pid=pid, hint=hint)
    return OperationFailed(f"{what} failed for process {pid}: {name}", errno=errno, errno_name=name, pid=pid)


def open_process(pid: int) -> int:
    """A descriptor of the process's address space; it never comes to mean another process.

    Raises NoSuchProcess, AccessDenied, OperationFailed.
    """
    # Read only: a second opening for writing gives EBUSY, and one without rights EPERM.
    for file in ("as", "ctl"):
        try:
            return os.open(f"/proc/{pid}/{file}", os.O_RDONLY)
        except OSError as error:
            if error.errno != errnos.ENOENT or file == "ctl":
                raise process_error(error.errno or 0, pid, f"open /proc/{pid}/{file}") from None
    raise AssertionError("unreachable")


def probe(stream: str, devctl: Devctl = _libc_devctl) -> Availability:
    """Whether this machine answers, found out by asking about this process."""
    if not sys.platform.startswith(("qnx", "nto")):
        return Availability(False, f"this machine runs {sys.platform}, not QNX")
    try:
        descriptor = open_process(os.getpid())
    except VmatlasError as error:
        return Availability(False, error.message)
    try:
        errno, _ = devctl(descriptor, _COMMANDS[stream], bytearray(layout.ENTRY))
    finally:
        os.close(descriptor)
    return YES if not errno else Availability(False, f"devctl {stream}: {errnos.errorcode.get(errno, errno)}")


_COMMANDS = {decode.MAPINFO: layout.MAPINFO, decode.PAGEDATA: layout.PAGEDATA}


def acquire(process: LocalProcess, stream: str, devctl: Devctl = _libc_devctl) -> Reading:
    """`stream` is "mapinfo" or "pagedata". Raises NoSuchProcess, AccessDenied, Unsupported, TornRead,
    OperationFailed.
    """
    descriptor, info = _open(process, devctl)
    incomplete = None
    entries = _entries(process.pid, descriptor, stream, devctl)
    for attempt in range(ATTEMPTS):
        told = _names(process.pid, descriptor, entries, devctl)
        if not told:
            break
        again = _entries(process.pid, descriptor, stream, devctl)
        if again == entries:
            break
        if attempt == ATTEMPTS - 1:
            incomplete = UNSETTLED
        entries = again
    if not entries:
        incomplete = kernel_itself(layout.read_info(info, sys.byteorder))
    return Reading({decode.PROCESS: info, stream: entries, names.STREAM: told}, incomplete)


def acquire_pages(process: LocalProcess, query: Query, devctl: Devctl = _libc_devctl) -> Reading:
    """The entries of PAGEDATA for `query.ranges`. Raises what `acquire` raises."""
    from vmatlas_qnx.pages import PAGES, pack

    descriptor, info = _open(process, devctl)
    entries = _entries(process.pid, descriptor, decode.PAGEDATA, devctl)
    incomplete = None if entries else why_no_entry(layout.read_info(info, sys.byteorder))
    return Reading({PAGES: pack(entries, query.ranges, sys.byteorder)}, incomplete)


def _open(process: LocalProcess, devctl: Devctl) -> tuple[int, bytes]:
    """Its descriptor, and what the system tells of it. Raises NoSuchProcess, AccessDenied, OperationFailed."""
    descriptor = process.descriptor(_AS, lambda: open_process(process.pid))
    info = bytearray(layout.INFO)
    errno, _ = devctl(descriptor, layout.PROCESS_INFO, info)
    if errno:
        raise process_error(errno, process.pid, "DCMD_PROC_INFO")
    return descriptor, bytes(info)


def why_no_entry(info: layout.ProcessInfo | None) -> str | None:
    """Why a process has no entry. Raises NoSuchProcess for one that has ended."""
    if info is not None:
        decode.judge_ended(info, info.pid)
    return kernel_itself(info)


def kernel_itself(info: layout.ProcessInfo | None) -> str | None:
    """Why there is no entry at all, where that is so for the kernel's own process; None for any other."""
    if info is None or not info.is_kernel:
        return None
    return f"process {info.pid} is the kernel itself (procnto): QNX tells no map of it"


UNSETTLED = f"the map changed each of {ATTEMPTS} times that its names were asked for: a name may be another region's"


def _entries(pid: int, descriptor: int, stream: str, devctl: Devctl) -> bytes:
    """Every entry, whole. The kernel tells how many there are, and writes what fits, be it a part of one."""
    room = FIRST_ROOM
    for _ in range(ATTEMPTS):
        buffer = bytearray(room * layout.ENTRY)
        errno, count = devctl(descriptor, _COMMANDS[stream], buffer)
        if errno == errnos.ENOTTY:
            raise Unsupported(f"this kernel's procfs does not answer {stream} (ENOTTY)", pid=pid)
        if errno:
            raise process_error(errno, pid, f"devctl {stream}")
        if 0 <= count <= room:
            return bytes(buffer[: count * layout.ENTRY])
        if count > MOST or count < 0:
            raise OperationFailed(f"process {pid} is told to have {count} entries: more than {MOST:,}", pid=pid)
        room = 2 * count  # a busy process was seen to gain a fifth of its entries between two calls
    raise TornRead(f"the map of process {pid} grew during each of {ATTEMPTS} readings", pid=pid)


def _names(pid: int, descriptor: int, entries: bytes, devctl: Devctl) -> bytes:
    records = []
    for entry in layout.read_entries(entries, sys.byteorder):
        if names.has_name(entry):
            errno, answer = ask_name(descriptor, entry.vaddr, layout.NAME_ROOM, devctl)
            if errno in (errnos.ESRCH, errnos.EBADF):
                raise process_error(errno, pid, "DCMD_PROC_MAPDEBUG")
            records.append(names.pack(entry.vaddr, errno, answer, sys.byteorder))
    return b"".join(records)


def ask_name(descriptor: int, address: int, room: int, devctl: Devctl = _libc_devctl) -> tuple[int, bytes]:
    """The path of what is mapped at an address. Raises ValueError for a buffer that would hang the target."""
    return _ask_path(descriptor, layout.MAPDEBUG, address, room, devctl)


def ask_program(descriptor: int, room: int, devctl: Devctl = _libc_devctl) -> tuple[int, bytes]:
    """The path of the program. Raises ValueError for a buffer that would hang the target."""
    return _ask_path(descriptor, layout.MAPDEBUG_BASE, 0, room, devctl)


def _ask_path(descriptor: int, command: int, address: int, room: int, devctl: Devctl) -> tuple[int, bytes]:
    """The only place that asks MAPDEBUG."""
    if room <= layout.NAME_AT:
        raise ValueError(f"MAPDEBUG with {room} bytes hangs the target: more than {layout.NAME_AT} are needed")
    buffer = bytearray(room)
    buffer[: layout.NAME_AT] = address.to_bytes(layout.NAME_AT, sys.byteorder)
    errno, _ = devctl(descriptor, command, buffer)
    return errno, b"" if errno else bytes(buffer)
