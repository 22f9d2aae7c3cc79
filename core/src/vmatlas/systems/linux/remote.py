"""Linux at the other end of a wire: what its backends share when they ask an agent.

The agent opens a process's folder once for each question and sends its `stat` along, so the identity of the process is
checked for each answer, and a map that is not there is explained.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Mapping

from vmatlas.errors import AccessDenied, MalformedData, NoSuchProcess, Unsupported, VmatlasError
from vmatlas.systems.linux import mounts
from vmatlas.systems.linux.host import process_error
from vmatlas.systems.linux.links import OBJECTS, Name, OpenName, Settled
from vmatlas.systems.linux.mounts import MountTable, Numbers
from vmatlas.systems.linux.naming import is_made_up
from vmatlas.systems.linux.stat import Stat, parse_stat
from vmatlas.systems.linux.vanishing import STAT, ask_until_told
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import RemoteProcess


def read_streams(
    process: RemoteProcess,
    source: str,
    stream: str,
    *,
    empty_means_gone: bool,
    flags: int = 0,
    address: int = 0,
    limit: int = 0,
    build_ids: bool = False,
) -> Mapping[str, bytes]:
    """The streams of a source; a kernel thread gives an empty one.

    Read again when the process replaced its memory, and through another thread when the first one has ended.
    `empty_means_gone`: no memory gives nothing at all (text), and not ESRCH (the ioctl).

    Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed, TornRead, TargetLost.
    """

    told: Mapping[str, bytes] = {}

    def ask(thread: int | None) -> Mapping[str, bytes] | None:
        nonlocal told
        gone = False
        try:
            told = process.streams(
                source, thread=thread, flags=flags, address=address, limit=limit, build_ids=build_ids
            )
        except AgentRefused as refused:
            if refused.errno_name != "ESRCH" or STAT not in refused.streams:
                raise remote_error(refused, process.pid) from None
            told, gone = refused.streams, True
        if thread is None:
            _identified(process, told)
        return None if gone or (empty_means_gone and not told.get(stream)) else told

    answer = ask_until_told(
        process.pid,
        ask=ask,
        look=lambda: _identified(process, told),
        threads=lambda: _other_threads(process),
    )
    return {stream: b"", STAT: told[STAT]} if answer is None else answer


def _identified(process: RemoteProcess, streams: Mapping[str, bytes]) -> Stat:
    """What the process is by the `stat` of an answer. Raises NoSuchProcess when its pid is another's now."""
    try:
        state = parse_stat(streams.get(STAT, b""), pid=process.pid)
    except MalformedData:
        if streams.get(STAT):
            raise
        raise NoSuchProcess(f"there is no process {process.pid}", pid=process.pid) from None
    if process.thread is None and process.start_time not in (None, state.start_time):
        raise NoSuchProcess(f"process {process.pid} has ended; its number is another process's now", pid=process.pid)
    return state


def _other_threads(process: RemoteProcess) -> list[int]:
    try:
        names = process.list_folder(b"/proc/%d/task" % process.pid)
    except AgentRefused:
        return []
    return sorted(int(name) for name in names if name.isdigit() and int(name) != process.pid)


def remote_error(refused: AgentRefused, pid: int) -> VmatlasError:
    """What an agent's refusal means for the process."""
    if not refused.by_kernel:
        if refused.errno_name in ("ENOSYS", "ENOTSUP", "ENOENT"):
            return Unsupported(refused.message, pid=pid, hint="use an agent of this version of vmatlas")
        return refused
    number = getattr(errno, refused.errno_name, 0)
    if refused.errno_name in ("EACCES", "EPERM"):
        return AccessDenied(
            f"no right to read the memory map of process {pid}",
            pid=pid,
            hint="the agent must run as the same user as the process, or have the capability CAP_SYS_PTRACE there",
        )
    told = process_error(OSError(number, os.strerror(number)), pid)
    return told if isinstance(told, NoSuchProcess) else refused


def settle(process: RemoteProcess, names: Iterable[OpenName]) -> Settled:
    """See `links.settle`: the same by an agent, which asks no file system that may not answer."""
    root = b"/proc/%d/root" % process.pid
    linked: dict[Name, bool] = {}
    mounted: dict[Numbers, bool] = {}
    table: MountTable | None = None
    for name, inode, device, _, _ in names:
        if is_made_up(name, device[0]):
            if device == OBJECTS:
                linked[name, inode] = False
            elif device not in mounted:
                table = _mounts(process) if table is None else table
                mounted[device] = table.of_device(device) is not None
        if (name, inode) not in linked:
            linked[name, inode] = inode in (process.inode(name), process.inode(root + name))
    return Settled(linked, mounted)


def _mounts(process: RemoteProcess) -> MountTable:
    def told(path: bytes) -> list[mounts.Mount]:
        try:
            return mounts.read(process.read_file(path))
        except AgentRefused:
            return []

    return MountTable(told(b"/proc/self/mountinfo"), told(b"/proc/%d/mountinfo" % process.pid))
