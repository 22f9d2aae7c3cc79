"""Linux at the other end of a wire: what its backends share when they ask an agent.

The agent opens a process's folder once for each question and sends its `stat` along, so the identity of the process is
checked for each answer, and a map that is not there is explained.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from stat import S_ISREG

from vmatlas.errors import AccessDenied, MalformedData, NoSuchProcess, Unanswered, Unsupported, VmatlasError
from vmatlas.model import Region
from vmatlas.once import cached_property
from vmatlas.systems.linux import mounts
from vmatlas.systems.linux.host import CLEARS, MOST_TOLD, NO_MARKS, clearing_error, process_error
from vmatlas.systems.linux.links import Name, OpenName, Settled
from vmatlas.systems.linux.mounts import OBJECTS, MountTable, Numbers, may_not_answer
from vmatlas.systems.linux.naming import is_made_up, is_of_memory
from vmatlas.systems.linux.proc import shows_another, stack_limit_of
from vmatlas.systems.linux.stat import Stat, has_ended, parse_stat
from vmatlas.systems.linux.threads import MOST_REMOTE_THREADS, stream_of
from vmatlas.systems.linux.vanishing import STAT, ask_until_told
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import RemoteProcess
from vmatlas.target.wire import Looked, Result

_SMALLEST_HUGE_PAGE = 16384
"""Bytes, of any processor (PowerPC 8xx, MIPS); most have none below 65,536."""

_MOST_THREADS = 1024
"""So many are asked for the memory of a process whose first thread has ended: the first that lives tells it."""

_MOST_OF_A_SMALL_FILE = 4096

"""Bytes that are read of a mount table: 100,000 mounts (fs.mount-max), and more."""


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
    ranges: Sequence[tuple[int, int]] | None = None,
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
            if ranges is not None:
                told = process.streams(source, thread=thread, flags=flags, ranges=ranges)
            else:
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
        is_ending=lambda thread: _is_ending(process, thread),
        by=process.thread,
        most=_MOST_THREADS,
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
    if process.thread is None and state.pid != process.pid:
        raise shows_another(process.pid, state.pid)
    if process.thread is None and process.start_time not in (None, state.start_time):
        raise NoSuchProcess(f"process {process.pid} has ended; its number is another process's now", pid=process.pid)
    return state


def _state_now(process: RemoteProcess) -> Stat:
    """The same, asked for by itself. Raises NoSuchProcess, AccessDenied, TargetLost."""
    try:
        stat = process.read_file(b"/proc/%d/stat" % process.pid, _MOST_OF_A_SMALL_FILE)
    except AgentRefused as refused:
        raise remote_error(refused, process.pid) from None
    return _identified(process, {STAT: stat})


def _is_ending(process: RemoteProcess, thread: int) -> bool:
    try:
        stat = process.read_file(b"/proc/%d/task/%d/stat" % (process.pid, thread), 4096)
    except AgentRefused as refused:
        if refused.errno_name not in ("ENOENT", "ESRCH"):
            raise remote_error(refused, process.pid) from None
        return True
    return not stat or parse_stat(stat, pid=process.pid).is_gone


def _other_threads(process: RemoteProcess) -> list[int]:
    """The last begun first. Raises MalformedData for what is no number of a thread."""
    folder = f"/proc/{process.pid}/task"
    try:
        names = process.list_folder(folder.encode())
    except AgentRefused as refused:
        if refused.errno_name not in ("ENOENT", "ESRCH"):
            raise remote_error(refused, process.pid) from None
        return []
    for name in names:
        if not (name.isdigit() and len(name) <= 10 and 0 < int(name) < 2**32):
            raise MalformedData(folder, 0, "numbers of threads", found=name, pid=process.pid)
    return sorted({int(name) for name in names} - {process.pid}, reverse=True)


def remote_error(refused: AgentRefused, pid: int) -> VmatlasError:
    """What an agent's refusal means for the process."""
    if not refused.by_kernel:
        if (other_numbers := refused.other_numbers) is not None:
            return other_numbers
        if refused.errno_name in ("ENOSYS", "ENOENT"):
            return Unsupported(refused.message, pid=pid, hint="use an agent of this version of vmatlas")
        if refused.errno_name == "ENOTSUP":
            return Unsupported(refused.message, pid=pid)
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


def living_folder(process: RemoteProcess) -> bytes:
    """Its folder there, or that of a thread that lives, where the first has ended: see `LinuxProcess.living`."""
    own = b"/proc/%d" % process.pid
    if not _has_no_program(process, own):
        return own
    try:
        threads = _other_threads(process)[:_MOST_THREADS]
    except AccessDenied:
        return own
    folders = (b"/proc/%d" % thread for thread in threads)
    return next((folder for folder in folders if not _has_no_program(process, folder)), own)


def _has_no_program(process: RemoteProcess, folder: bytes) -> bool:
    """As a thread that has ended has none, and a thread of the kernel's."""
    try:
        process.read_link(folder + b"/exe")
    except AgentRefused as refused:
        return refused.errno_name in ("ENOENT", "ESRCH")
    return False


def settle(process: RemoteProcess, names: Iterable[OpenName]) -> Settled:
    """See `links.settle`: the same by an agent.

    Which devices hold huge pages there is not known: what is not mapped in whole ones is of none.
    """
    files = _RemoteFiles(process)
    linked: dict[Name, bool | None] = {}
    mounted: dict[Numbers, bool] = {}
    for name, inode, device, start, end in names:
        if is_made_up(name, device[0]):
            if device == OBJECTS:
                linked[name, inode] = False
            elif is_of_memory(name) and (start | end) % _SMALLEST_HUGE_PAGE:
                mounted[device] = True
            elif device not in mounted:
                mounted[device] = files.table.of_device(device) is not None
        if (name, inode) not in linked:
            linked[name, inode] = files.is_linked(name, inode, device, start, end)
    return Settled(linked, mounted)


def silent(process: RemoteProcess, devices: Iterable[Numbers]) -> dict[Numbers, str]:
    """See `files.silent`, by an agent."""
    return _RemoteFiles(process).table.silent(set(devices))


def file_head(process: RemoteProcess, region: Region, size: int) -> bytes | str:
    """See `files.open_mapped`: the first bytes of a mapped file, by an agent; or why there are none, in words."""
    path = region.path_bytes
    if path is None or region.inode is None or region.device is None:
        return "its path, its device and its inode are not all told"
    files = _RemoteFiles(process)
    mount = files.table.of_device(region.device)
    if not files.table.answers(mount):
        return may_not_answer(files.table.describe(mount))
    file = files.mapped(region.start, region.end, region.inode)
    where = b"%s/map_files/%x-%x" % (files.folder, region.start, region.end)
    no_link = "the agent may not follow /proc/PID/map_files, or it is not mapped there any more"
    if file is None:
        if region.deleted:
            return f"it has been unlinked; {no_link}"
        found = files.found(path, None, region.inode, region.device, regular=True)
        if found is None:
            return f"it does not lie at its path, or that may not be looked up; {no_link}"
        where = found
    elif not S_ISREG(file.mode):
        return "no regular file is mapped"
    try:
        with process.apart() as other:  # the process may have mapped another file there meanwhile, that waits for ever
            return other.read_file(where, size)
    except (AgentRefused, Unanswered, ValueError) as error:
        return f"it cannot be read ({error.message if isinstance(error, VmatlasError) else error})"


def stack_limit(process: RemoteProcess) -> int | None:
    """See `proc.stack_limit_of`. None where the file cannot be read. Raises TargetLost."""
    try:
        return stack_limit_of(process.read_file(b"/proc/%d/limits" % process.pid, _MOST_OF_A_SMALL_FILE))
    except AgentRefused:
        return None


def threads_told(process: RemoteProcess) -> bytes | None:
    """See `threads.stream_of`: the same by an agent, which is asked for each file by itself. Raises TargetLost."""
    folder = b"/proc/%d/task" % process.pid
    try:
        names = process.list_folder(folder)
    except AgentRefused as refused:
        if refused.errno_name in ("ENOENT", "ESRCH"):
            raise remote_error(refused, process.pid) from None
        return None

    def read(name: str) -> bytes | str:
        try:
            return process.read_file(folder + b"/" + name.encode(), _MOST_OF_A_SMALL_FILE)
        except AgentRefused as refused:
            return refused.errno_name

    numbers = [int(name) for name in names if name.isdigit() and len(name) <= 10 and 0 < int(name) < 2**32]
    told = stream_of(numbers, read, most=MOST_REMOTE_THREADS)
    state = _state_now(process)
    if state.is_gone and not state.has_others:
        raise has_ended(state, process.pid)
    return told


def numa_told(process: RemoteProcess) -> bytes | None:
    """See `LinuxProcess.numa_told`: the same by an agent. Raises NoSuchProcess, AccessDenied, TargetLost."""
    folder = b"/proc/%d/" % process.pid
    try:
        told = process.read_file(folder + b"numa_maps", MOST_TOLD)
        if not told:  # nothing is told of a thread that has ended
            told = process.read_file(living_folder(process) + b"/numa_maps", MOST_TOLD)
    except AgentRefused as refused:
        if refused.errno_name == "ENOENT" and _is_there(process):
            return None
        raise remote_error(refused, process.pid) from None
    state = _state_now(process)
    if not told and state.is_gone:
        raise has_ended(state, process.pid)
    return told


def _is_there(process: RemoteProcess) -> bool:
    try:
        return bool(process.read_file(b"/proc/%d/stat" % process.pid, _MOST_OF_A_SMALL_FILE))
    except AgentRefused:
        return False


def clear_marks(process: RemoteProcess, which: str, write: Callable[[bytes, bytes], Result]) -> None:
    """See `ClearsMarks`: by an agent. `write` writes to a file there.

    Raises NoSuchProcess, AccessDenied, OperationFailed, TargetLost, Unsupported.
    """
    _state_now(process)
    result = write(living_folder(process) + b"/clear_refs", CLEARS[which])
    if not result.ok:
        if result.errno_name == "ENOENT" and _is_there(process):
            raise Unsupported(NO_MARKS, pid=process.pid)
        number = getattr(errno, result.errno_name, 0)
        raise clearing_error(OSError(number, os.strerror(number)), process.pid, is_here=False)


class _RemoteFiles:
    """The files of one process there, for one question. What is asked, and of whom: see `files`."""

    def __init__(self, process: RemoteProcess) -> None:
        self._process = process

    @cached_property
    def folder(self) -> bytes:
        """See `living_folder`."""
        return living_folder(self._process)

    @cached_property
    def table(self) -> MountTable:
        """What is mounted for the agent, and for the process."""
        others = self._mounts(self.folder, mounts.MOST_OF_OTHERS)
        return MountTable(self._mounts(b"/proc/self", mounts.MOST), others)

    def _mounts(self, folder: bytes, most: int) -> list[mounts.Mount]:
        try:
            return mounts.read(self._process.read_file(folder + b"/mountinfo", most))
        except AgentRefused:
            return []

    def mapped(self, start: int, end: int, inode: int) -> Looked | None:
        """The file mapped at just these bounds, by no name; None where that is not told."""
        bounds = b"%s/map_files/%x-%x" % (self.folder, start, end)
        found = self._process.look_up(bounds, b"")
        return found if found is not None and found.ok and found.inode == inode else None

    def found(
        self, name: bytes, file: Looked | None, inode: int, device: Numbers, *, regular: bool = False
    ) -> bytes | None:
        """The path there at which a file of this name is the one that is mapped; None also where it was not asked."""
        for root in (b"/", self.folder + b"/root"):
            found = self._process.look_up(root, name)
            if found is not None and found.errno_name == "EAGAIN" and (way := self.table.answering_on(name)):
                found = self._process.look_up(root, name, way)
            if found is None or not found.ok or (regular and not S_ISREG(found.mode)):
                continue
            same = (found.inode, found.device) == (file.inode, file.device) if file else found.inode == inode
            if same and (file is not None or self._is_of(found, device)):
                return root.rstrip(b"/") + name
        return None

    def is_linked(self, name: bytes, inode: int, device: Numbers, start: int, end: int) -> bool | None:
        """See `files.ProcessFiles.is_linked`; whether the name leads to the file system is told by the mount tables."""
        file = self.mapped(start, end, inode)
        if file is not None and file.links == 0:
            return False
        if self.found(name, file, inode, device) is not None:
            return True
        return False if self.table.lead_to(name, device) else None

    def _is_of(self, found: Looked, device: Numbers) -> bool:
        if found.device == device:
            return True
        mount = self.table.mount(found.mount)  # on btrfs the map's number is not that of stat(2)
        return mount is not None and (mount.device == device or mount.is_overlay)
