"""Linux as the machine that we run on: its description, its processes, and what may be read of them."""

from __future__ import annotations

import contextlib
import functools
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from errno import EACCES, EMFILE, ENFILE, ENOENT, EPERM, ESRCH, errorcode

from vmatlas.backend import CLOCK_SLACK, NO_JIT_MAP, JitMap, LocalProcess, Members, Programs, Roll, bare
from vmatlas.capture import LARGEST
from vmatlas.errors import AccessDenied, MalformedData, NoSuchProcess, OperationFailed, Unsupported, VmatlasError
from vmatlas.model import FileNow, FileRights, ProcessInfo, Region, SystemInfo, Thread
from vmatlas.once import cached_property
from vmatlas.rounds import Rounds, rounds_of
from vmatlas.systems.linux.proc import (
    MOUNT,
    PROC,
    capabilities_of,
    check_numbers,
    covered,
    emulator_called,
    exists,
    head_of,
    hidden,
    is_alive,
    is_covered,
    is_of_thread,
    lives_on,
    may_stand_against_it,
    most_regions,
    not_listed,
    numbers_of,
    own_emulator,
    own_regions,
    process_of_thread,
    read_file,
    read_own,
    rights_told,
    shows_another,
    stack_limit_of,
    told_by,
    user_in,
)
from vmatlas.systems.linux.stat import Stat, has_ended, parse_stat, process_of
from vmatlas.systems.linux.waiting import waiting_for
from vmatlas.systems.posix import describe_machine, describe_user
from vmatlas.values import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.model.cgroup import CgroupMemory
    from vmatlas.model.numa import NumaUse

CLEARS = {"referenced": b"1", "written": b"4"}
"""What is written to /proc/PID/clear_refs (proc(5))."""

NO_MARKS = "this kernel has no /proc/PID/clear_refs"

_DIRECTORY = "directory"
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC


_OF_EVERYBODY = ("stat", "../../stat")

_MOST_LOOKED_AT = 1024
"""So many threads of a process whose first has ended are looked at for one that lives; a traced one may have ended."""


class LinuxProcess(LocalProcess):
    """A process held by a descriptor of its folder in /proc, which never comes to mean another process."""

    _living: LinuxProcess | None = None

    @cached_property
    def emulator(self) -> str | None:
        """The emulator (qemu-user) that runs it; None where none does, or it is not told.

        By its program's name, or because a program of another processor is loaded there (see `emulation`).
        """
        if self.is_self:
            return own_emulator()
        try:
            living = self.living()
            program = os.readlink("exe", dir_fd=living.directory)
            if (called := emulator_called(program)) is not None:
                return called
            from vmatlas.systems.linux.emulation import runs_another_machine

            return os.path.basename(program) if runs_another_machine(living, program) else None
        except (OSError, VmatlasError):
            return None

    @property
    def doubt(self) -> str | None:
        """An emulator that runs it."""
        if self.emulator is None:
            return None
        if self.is_self:
            return told_by(self.emulator)
        return (
            f"it is the map of the emulator {self.emulator}, which runs a program of its own choice: "
            "the addresses and names ([heap], [stack]) are not as that program sees them"
        )

    @property
    def directory(self) -> int:
        """The folder /proc/PID, or /proc/PID/task/TID."""
        folder = f"{PROC}/{self.pid}" if self.thread is None else f"{PROC}/{self.pid}/task/{self.thread}"
        return self.descriptor(_DIRECTORY, lambda: os.open(folder, _FOLDER))

    def by_thread(self, thread: int) -> LinuxProcess:
        """The same process, asked through one of its threads. Raises NoSuchProcess, AccessDenied, OperationFailed."""
        other = LinuxProcess(self.pid, start_time=self.start_time, thread=thread)
        try:
            other.descriptor(_DIRECTORY, lambda: os.open(f"task/{thread}", _FOLDER, dir_fd=self.directory))
        except OSError as error:
            raise process_error(error, self.pid) from None
        return other

    def living(self) -> LinuxProcess:
        """The process as a thread of it that lives tells of it: itself, unless its first thread has ended.

        Of a thread that has ended the kernel tells no program, root, mount table, mapped file or page, of cgroup v1
        the root, and of rights those that it had at its end. The folder /proc/TID, which no list shows, is to a thread
        what /proc/PID is to the first (`process_of_thread`). What is found is kept, and closed with this one.
        """
        above = "" if self.thread is None else "../../"
        try:
            os.readlink(f"{above}exe", dir_fd=self.directory)
        except OSError:
            if not lives_on(self._read_small(f"{above}status")):
                return self
        else:
            return self
        if self._living is None or not self._living.is_there():
            threads = [] if self.thread is None else [self.thread]
            if self._living is not None:
                self._living.close()
            with contextlib.suppress(AccessDenied):
                threads += self.other_threads()
            found = (self._by_folder_of(thread) for thread in threads[:_MOST_LOOKED_AT])
            self._living = next((each for each in found if each is not None), None)
        return self._living or self

    def _by_folder_of(self, thread: int) -> LinuxProcess | None:
        """By /proc/TID; None where that thread is no more, or its folder is not its own."""
        if is_covered(thread):
            return None
        other = LinuxProcess(self.pid, start_time=self.start_time)
        try:
            other.descriptor(_DIRECTORY, lambda: os.open(f"{PROC}/{thread}", _FOLDER))
        except OSError:
            return None
        # As long as the process is there nobody else has its number.
        if is_alive(other._read_small("status"), self.pid) and self.is_there():
            return other
        other.close()
        return None

    def close(self) -> None:
        """Close all, for good. Safe to call twice."""
        super().close()
        if self._living is not None:
            self._living.close()

    def open_file(self, name: str) -> int:
        """A new descriptor of one of its files in /proc.

        Raises NoSuchProcess, AccessDenied, OperationFailed, and Unsupported when this kernel has no such file.
        """
        if name not in _OF_EVERYBODY and is_covered(self.pid):  # it may be another's file; `stat` tells whose it is
            raise shows_another(self.pid, None)
        try:
            return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        except OSError as error:
            if error.errno == ENOENT and self.is_there():
                raise Unsupported(f"this kernel has no /proc/PID/{name}", pid=self.pid) from None
            raise process_error(error, self.pid) from None

    def memory_file(self, name: str) -> int:
        """A descriptor of a file that tells of its memory (maps, smaps, pagemap), opened anew and kept until the next.

        Such a file belongs to the memory that the process had when it was opened (`proc_mem_open` of fs/proc/base.c).
        After exec that is gone, and the file says so; but not where others have it as well, as the parent of a process
        made by vfork has: then it goes on telling of theirs. One's own memory stays until the process ends.

        Raises what `open_file` raises.
        """
        if not self.is_self:
            self.forget(name)
        return self.descriptor(name, lambda: self.open_file(name))

    def is_there(self) -> bool:
        """Whether the process (a zombie, too), or the thread that was named, still has its folder in /proc."""
        try:
            os.stat("stat", dir_fd=self.directory)
        except OSError:
            return False
        return True

    def read_file(self, name: str) -> bytes:
        """One of its files in /proc, whole. Raises what `open_file` raises, and MalformedData: see `read_whole`."""
        return self._read(name, lambda descriptor: read_whole(descriptor, name, self.pid, most=_MOST_OF_A_FILE))

    def read_head(self, name: str, most: int) -> bytes:
        """The first bytes of one of its files in /proc. Raises what `open_file` raises."""
        return self._read(name, lambda descriptor: head_of(descriptor, most))

    def _read(self, name: str, read: Callable[[int], bytes]) -> bytes:
        descriptor = self.open_file(name)
        try:
            return read(descriptor)
        except OSError as error:
            raise process_error(error, self.pid) from None
        finally:
            os.close(descriptor)

    def mapped_file(self, bounds: bytes) -> bytes:
        """Where the file mapped at START-END (hexadecimal, no zero before it) is, below `directory`.

        proc_pid_map_files(5): it takes the right to read the map to ask for its name, and CAP_CHECKPOINT_RESTORE
        (before Linux 5.9 CAP_SYS_ADMIN) for more.
        """
        return (b"map_files/" if self.thread is None else b"../../map_files/") + bounds

    def mapped_name(self, bounds: bytes) -> bytes | None:
        """The name of the file mapped there, nothing escaped; None when nothing is, or it is not told."""
        living = self.living()
        try:
            return os.readlink(living.mapped_file(bounds), dir_fd=living.directory)
        except OSError:
            return None

    def file_now(self, region: Region) -> FileNow:
        """See `files.ProcessFiles.now_at`."""
        from vmatlas.systems.linux.files import ProcessFiles

        if region.path_bytes is None or region.device is None:
            return FileNow(None)
        with ProcessFiles(self) as files:
            return files.now_at(region.path_bytes, region.device)

    def open_mapped(self, region: Region) -> int | None:
        """See `files.open_mapped`."""
        from vmatlas.systems.linux.files import open_mapped

        return open_mapped(self, region)

    def own_file(self, path: bytes) -> int | None:
        """See `files.ProcessFiles.own_file`."""
        from vmatlas.systems.linux.files import ProcessFiles

        with ProcessFiles(self) as files:
            return files.own_file(path)

    def open_jit_map(self) -> JitMap:
        """/tmp/perf-PID.map from the process's own root, by its number as it sees itself; no link, and none but its own
        user's or root's.

        Nobody removes such files, and numbers are given again: one that was last written before the process started is
        of another that had its number.
        """
        from vmatlas.systems.linux.files import ProcessFiles

        name = f"/tmp/perf-{self.number_inside() or self.pid}.map"
        with ProcessFiles(self) as files:
            descriptor = files.in_its_root(os.fsencode(name))
        if descriptor is None:
            return NO_JIT_MAP
        try:
            why = self._not_its_own(os.fstat(descriptor))
        except OSError as error:
            why = f"whose it is cannot be told ({error.strerror})"
        if why is None:
            return JitMap(descriptor)
        os.close(descriptor)
        return JitMap(None, f"{name}: {why}")

    def _not_its_own(self, file: os.stat_result) -> str | None:
        """Why a file that is known by the number of this process alone is not its own; None: it may be.

        Raises OSError.
        """
        if file.st_uid not in (os.fstat(self.living().directory).st_uid, 0):
            return "it belongs neither to the user of the process nor to root"
        start = None if self.start_time is None else started(self.start_time)
        if start is not None and file.st_mtime + CLOCK_SLACK < start:
            return "it was last written before the process started, so it is of another that had this number"
        return None

    def file_rights(self, region: Region) -> FileRights | None:
        """See `files.ProcessFiles.rights`."""
        from vmatlas.systems.linux.files import ProcessFiles

        with ProcessFiles(self) as files:
            return files.rights(region)

    def seals(self, region: Region) -> frozenset[str] | None:
        """See `files.ProcessFiles.seals`."""
        from vmatlas.systems.linux.files import ProcessFiles

        with ProcessFiles(self) as files:
            return files.seals(region)

    def unmounted(self, regions: Sequence[Region]) -> list[bool | None]:
        """See `files.ProcessFiles.unmounted`."""
        from vmatlas.systems.linux.files import ProcessFiles

        with ProcessFiles(self) as files:
            return list(map(files.unmounted, regions))

    def misnamed(self, region: Region) -> str | None:
        """See `files.ProcessFiles.misnamed`."""
        from vmatlas.systems.linux.files import ProcessFiles

        with ProcessFiles(self) as files:
            return files.misnamed(region)

    def known_files(self) -> Callable[[Region], bool | None] | None:
        """See `packages.known`."""
        from vmatlas.systems.linux import packages

        return packages.known(self)

    def file_head(self, region: Region, size: int) -> bytes | None:
        """See `files.open_mapped`. None where the file is not to be had, or cannot be read."""
        from vmatlas.systems.linux.files import open_mapped

        descriptor = open_mapped(self, region)
        if descriptor is None:
            return None
        try:
            return os.read(descriptor, size)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def file_size(self, region: Region) -> int | None:
        """See `files.size_of`."""
        from vmatlas.systems.linux.files import size_of

        return size_of(self, region)

    def why_unread(self, region: Region) -> str | None:
        """See `files.why_unread`."""
        from vmatlas.systems.linux.files import why_unread

        return why_unread(self, region)

    def guard_at(self, address: int) -> bool | None:
        """By /proc/PID/pagemap."""
        from vmatlas.systems.linux import pagemap

        try:
            descriptor = self.living().open_file("pagemap")
        except VmatlasError:  # a kernel without CONFIG_PROC_PAGE_MONITOR; or the process has ended
            return None
        try:
            return pagemap.is_guard(descriptor, address, os.sysconf("SC_PAGESIZE"))
        except (OSError, OverflowError):
            return None
        finally:
            os.close(descriptor)

    def stack_limit(self) -> int | None:
        """From /proc/PID/limits."""
        return stack_limit_of(self._read_small("limits"))

    def name_now(self) -> str | None:
        """From /proc/PID/comm."""
        told = self._read_small("comm")
        return told.removesuffix(b"\n").decode("utf-8", "surrogateescape") if told else None

    def number_inside(self) -> int | None:
        """From the line NSpid of /proc/PID/status."""
        numbers = numbers_of(self._read_small("status"))
        return numbers[-1] if len(numbers) > 1 else None

    def _read_small(self, name: str) -> bytes:
        """A small file of the process; empty where it cannot be read, as when it has ended meanwhile.

        That this process is short of descriptors says nothing of the other: OperationFailed.
        """
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        except OSError as error:
            if error.errno in (EMFILE, ENFILE):
                raise process_error(error, self.pid) from None
            return b""
        try:
            return head_of(descriptor, _MOST_OF_A_FILE)  # with its groups `status` has 720 KB
        except OSError:
            return b""
        finally:
            os.close(descriptor)

    def threads_told(self) -> bytes | None:
        """See `vmatlas.systems.linux.threads`."""
        from vmatlas.systems.linux.threads import MOST_THREADS, stream_of

        task = "task" if self.thread is None else "../../task"
        others = self.other_threads()
        # The first thread is no other one, though it may be gone from the list: then its files tell so.
        told = stream_of([self.pid, *others], lambda name: self._told_by(f"{task}/{name}"), most=MOST_THREADS)
        if not others and (state := parse_stat(self.read_file("stat"), pid=self.pid)).is_gone:
            raise has_ended(state, self.pid)
        return told

    def numa_told(self) -> bytes | None:
        """/proc/PID/numa_maps; None where the kernel has none (CONFIG_NUMA). Nothing is told of the kernel's own.

        Raises NoSuchProcess, AccessDenied.
        """
        try:
            told = self.living().read_file("numa_maps")
        except Unsupported:
            return None
        if not told and (state := parse_stat(self.read_file("stat"), pid=self.pid)).is_gone:
            raise has_ended(state, self.pid)
        return told

    def clear_marks(self, which: str) -> None:
        """By /proc/PID/clear_refs (CONFIG_PROC_PAGE_MONITOR): of the whole process.

        Of a thread that has ended the kernel takes the word, clears nothing, and says nothing (`clear_refs_write`).
        """
        try:
            folder = self.living().directory
            descriptor = os.open("clear_refs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=folder)
            try:
                os.write(descriptor, CLEARS[which])
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno == ENOENT and self.is_there():
                raise Unsupported(NO_MARKS, pid=self.pid) from None
            raise clearing_error(error, self.pid, is_here=True) from None

    def _told_by(self, name: str) -> bytes | str:
        """A small file of the process, or the name of the error."""
        try:
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.directory)
        except OSError as error:
            return errorcode.get(error.errno or 0, "")
        try:
            return os.read(descriptor, 4096)
        except OSError as error:
            return errorcode.get(error.errno or 0, "")
        finally:
            os.close(descriptor)

    def other_threads(self) -> list[int]:
        """Its other threads, the last begun first. A process lives on in them when its first thread has ended.

        None of them where it is gone. Raises AccessDenied, OperationFailed: short of descriptors nobody is gone.
        """
        folder = "task" if self.thread is None else "../../task"
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self.directory)
            try:
                return [int(name) for name in reversed(os.listdir(descriptor)) if int(name) != self.pid]
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno in (ENOENT, ESRCH):
                return []
            raise process_error(error, self.pid) from None


def _of_status(info: ProcessInfo) -> tuple[int | None, int | None]:
    """Whose rights a process has (who owns its folder may be root for its sake), and its number in its own pid
    namespace, where that is another."""
    status = read_file(f"{PROC}/{info.pid}/status") or b""
    inside = numbers_of(status)
    if info.lives_on:
        with contextlib.closing(LinuxProcess(info.pid)) as process:
            status = process.living()._read_small("status") or status
    return user_in(status), inside[-1] if len(inside) > 1 else None


_PTRACE = 1 << 19
"""CAP_SYS_PTRACE (include/uapi/linux/capability.h)."""

_EVERY_USER = [b"0", b"0", b"4294967295"]
"""What /proc/self/uid_map says in the first user namespace."""


def what_it_takes(pid: int) -> str:
    """What to do about a refusal. Nobody is told to get a right that is held already: ptrace(2), access mode."""
    if not (capabilities_of(read_own("status")) or 0) & _PTRACE:
        from vmatlas.systems.linux.denied import why_denied

        another = "it takes the same user (and a process that may be dumped), or the capability CAP_SYS_PTRACE"
        rights = why_denied(pid) or another
        return rights if os.geteuid() == 0 else f"{rights}: try sudo"
    if read_own("uid_map").split() != _EVERY_USER:
        return (
            "the process belongs to another user namespace (the host's, or another container's), where the "
            "CAP_SYS_PTRACE of this one does not count: ask from there"
        )
    return may_stand_against_it(read_file("/sys/kernel/security/lsm"))


_MOST_OF_A_FILE = 1 << 24
"""Bytes of what is no map: the longest is a mount table, and all that a kernel has (fs.mount-max) are told in that."""

MOST_TOLD = LARGEST
"""Bytes of a file in /proc that are read of a process: as many as a capture may have. A process chooses its names, and
a path may have far more than the 4,096 bytes that one call takes."""


def read_whole(descriptor: int, name: str, pid: int, chunk: int = 65536, most: int = MOST_TOLD) -> bytes:
    """What is left to read of a file of a process. Raises OSError, and MalformedData for more than `most` bytes."""
    kept = io.BytesIO()
    while piece := os.read(descriptor, chunk):
        kept.write(piece)
        if kept.tell() > most:
            raise too_long(name, most, pid)
    return kept.getvalue()


def too_long(name: str, most: int, pid: int) -> MalformedData:
    """The error of a process that has more to tell than can be kept: its names are longer than any that are in use."""
    return MalformedData(name, most, f"its end: it may have {most:,} bytes", pid=pid)


def process_error(error: OSError, pid: int) -> VmatlasError:
    """The error of a file of /proc/PID, told as what it means for the process."""
    if error.errno in (ENOENT, ESRCH):
        return NoSuchProcess(f"there is no process {pid}", pid=pid)
    if error.errno in (EACCES, EPERM):
        return AccessDenied(
            f"no right to read the memory map of process {pid}",
            pid=pid,
            hint=what_it_takes(pid),
        )
    return OperationFailed(
        f"reading process {pid} failed: {error.strerror}",
        errno=error.errno or 0,
        errno_name=errorcode.get(error.errno or 0, ""),
        pid=pid,
        hint="it takes a few descriptors: close some, or have more (ulimit -n)"
        if error.errno in (EMFILE, ENFILE)
        else None,
    )


def clearing_error(error: OSError, pid: int, *, is_here: bool) -> VmatlasError:
    """The error of a write to /proc/PID/clear_refs, of this machine or another."""
    if error.errno in (EACCES, EPERM):
        from vmatlas.systems.linux.denied import why_denied

        return AccessDenied(
            f"no right to clear the marks of process {pid}",
            pid=pid,
            hint=(why_denied(pid) if is_here else None) or "it takes the owner of the process, or root",
        )
    told = process_error(error, pid)
    if isinstance(told, OperationFailed):
        told.message = f"clearing the marks of process {pid} failed: {error.strerror}"
    return told


class LinuxSystem:
    """This Linux machine."""

    name = "linux"

    def info(self) -> SystemInfo:
        """From uname(2)."""
        return describe_machine(self.name)

    def numbers(self) -> dict[int, int]:
        """From /proc, each with the inode number of its folder: kept as long as the process lives, and lets the kernel
        keep it. Raises Unsupported when /proc is not mounted, or is of another pid namespace."""
        check_numbers()
        try:
            with os.scandir(PROC) as folder:
                return {int(entry.name): entry.inode() for entry in folder if entry.name.isdigit()}
        except OSError as error:
            raise Unsupported(f"cannot list {PROC}: {error.strerror}", hint=MOUNT) from None

    def moment(self) -> int:
        """By the clock that start times are of, in its ticks."""
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))

    def began_since(self, pid: int, moment: int) -> bool:
        """By its stat."""
        from vmatlas.systems.linux.listing import read_stats

        found = dict(read_stats([pid]))[pid]
        try:
            return isinstance(found, bytes) and parse_stat(found).start_time >= moment
        except MalformedData:  # it has ended
            return False

    def described(self, pid: int) -> ProcessInfo | None:
        """See `vmatlas.backend.ListsNumbers`: from files for which nobody has to wait."""
        from vmatlas.systems.linux.listing import describe_silent

        return describe_silent(pid)

    def belongs_to(self, pid: int, start_time: int | None, what: str) -> str | None:
        """See `vmatlas.backend.TellsMembership`. A user by name, where there is one; the cgroup of the first hierarchy
        that has the process in other than its root (cgroup v2 has one)."""
        from vmatlas.systems.linux.membership import MEMBERSHIPS

        return _asked_of(pid, start_time, MEMBERSHIPS[what])

    def doubt(self, pid: int, start_time: int | None, what: str) -> str | None:
        """See `vmatlas.backend.TellsMembership`."""
        from vmatlas.systems.linux.membership import DOUBTS

        if (doubt := DOUBTS.get(what)) is None:
            return None
        # "" for no doubt: nothing is told of one that is gone or does not answer, and that is one.
        told = _asked_of(pid, start_time, lambda process: doubt(process) or "")
        return "it is not told any more" if told is None else told or None

    def members(self, processes: Sequence[ProcessInfo], what: str, wanted: str) -> Members:
        """See `vmatlas.backend.FindsMembers`: by /proc/PID/cgroup, in any hierarchy."""
        from vmatlas.systems.linux.cgroup_memory import own_folder
        from vmatlas.systems.linux.membership import members

        return members(processes, what, wanted, own_folder)

    def program_names(self, processes: Sequence[ProcessInfo]) -> Programs:
        """See `vmatlas.backend.FindsMembers`: by /proc/PID/exe, which takes the right to read its map."""
        from vmatlas.systems.linux.membership import program_names

        return program_names(processes)

    def cgroups_of(self, processes: Sequence[ProcessInfo], what: str) -> list[str]:
        """See `vmatlas.backend.TellsCgroups`."""
        from vmatlas.systems.linux.membership import cgroups_of

        return list(dict.fromkeys(cgroups_of(processes, what)))

    def cgroup_memories(self, paths: Sequence[str]) -> list[CgroupMemory]:
        """See `vmatlas.backend.TellsCgroups`."""
        from vmatlas.systems.linux.cgroup_memory import cgroup_memories

        return cgroup_memories(paths)

    def started(self, start_time: int) -> float | None:
        """See `vmatlas.backend.TellsStart`."""
        return started(start_time)

    def most_regions(self) -> int | None:
        """vm.max_map_count."""
        return most_regions()

    def own_regions(self) -> int | None:
        """Without [vsyscall] and [vectors], which do not count."""
        return own_regions()

    def number_meant(self, path: str, number: int) -> tuple[int, str | None]:
        """See `vmatlas.backend.ReadsPidfiles`."""
        from vmatlas.systems.linux.pidfiles import number_meant

        return number_meant(path, number)

    def boot(self) -> str | None:
        """kernel/random/boot_id: random(4)."""
        told = (read_file(f"{PROC}/sys/kernel/random/boot_id") or b"").strip()
        return told.decode("ascii", "replace") or None

    def processes(self) -> Roll:
        """From /proc; a process that ends meanwhile is left out, one that may not be looked at has its number alone.
        One about which the kernel does not answer has no start time.

        Raises Unsupported when /proc is not mounted, or is of another pid namespace.
        """
        rounds = rounds_of(self)
        return Roll(_in_rounds(rounds, self.among), lambda: rounds.gap)

    def brief(self, pids: Sequence[int] | None = None) -> Iterator[ProcessInfo]:
        """See `vmatlas.backend.ListsBriefly`: by one file of each, /proc/PID/stat; of threads nothing.

        Raises what `processes` raises.
        """
        if pids is None:
            rounds = rounds_of(self)
            return Roll(_in_rounds(rounds, self._briefly), lambda: rounds.gap)
        check_numbers()
        found = (info for _, info in self._briefly(pids) if info is not None)
        return (info for info in found if process_of_thread(info.pid) is None)

    def among(self, pids: Iterable[int]) -> Iterator[tuple[int, ProcessInfo | None]]:
        """See `vmatlas.backend.ListsNumbers`."""
        for pid, info in self._briefly(pids):
            if info is None or info.start_time is None:
                yield pid, info
            else:
                user, inside = _of_status(info)
                yield pid, replace(info, user=user, number_inside=inside)

    def _briefly(self, pids: Iterable[int]) -> Iterator[tuple[int, ProcessInfo | None]]:
        from vmatlas.systems.linux.listing import describe_silent, read_stats

        page, own = os.sysconf("SC_PAGE_SIZE"), os.getpid()
        hidden_by_mounts = functools.cache(lambda: frozenset(covered(read_own("mountinfo"))))
        for pid, found in read_stats(list(pids)):
            if found is None:
                yield pid, describe_silent(pid)
                continue
            if not found or isinstance(found, (FileNotFoundError, ProcessLookupError)):
                yield pid, bare(pid) if pid in hidden_by_mounts() and exists(pid) else None
                continue
            if isinstance(found, PermissionError):  # hidepid=1: listed, and nothing more
                yield pid, bare(pid)
                continue
            if isinstance(found, OSError):
                raise found
            try:
                stat = parse_stat(found)
            except MalformedData:  # another file is mounted over its own
                stat = None
            if stat is None or stat.pid != pid:  # another's folder is
                yield pid, bare(pid)
                continue
            if pid == own and own_emulator() is not None:
                stat = _stat_of(LinuxProcess(pid))  # that by the path is of the emulator's making
            resident = None if stat.is_kernel_thread or stat.lives_on else stat.resident * page
            yield pid, replace(process_of(stat), pid=pid, resident=resident)

    def not_listed(self, read: Callable[[str], bytes | None]) -> str | None:
        """See `vmatlas.backend.KnowsNotListed`: the mount option hidepid."""
        return not_listed(read)

    def open(self, pid: int, thread: int | None) -> LinuxProcess:
        """Raises NoSuchProcess (of a thread's number, too, which /proc opens), AccessDenied, Unsupported."""
        try:
            check_numbers()
        except Unsupported as error:
            raise error.located(pid=pid) from None
        process = LinuxProcess(pid, thread=thread)
        try:
            process.start_time = _stat_of(process).start_time
        except AccessDenied as error:  # that file is for everybody to read
            raise hidden(pid) or error from None
        except NoSuchProcess:
            if thread is not None and os.path.exists(f"{PROC}/{pid}"):
                raise NoSuchProcess(f"process {pid} has no thread {thread}", pid=pid) from None
            if exists(pid):
                if pid in covered(read_own("mountinfo")):
                    raise shows_another(pid, None) from None
                if (denied := hidden(pid)) is not None:
                    raise denied from None
            raise
        if (whole := process_of_thread(pid)) is not None:
            process.close()
            raise is_of_thread(pid, whole)
        return process

    def threads_of(self, stream: bytes, pid: int) -> tuple[Thread, ...]:
        """See `vmatlas.backend.ReadsThreads`."""
        from vmatlas.systems.linux.threads import parse_threads

        return parse_threads(stream, pid=pid)

    def numa_of(self, told: bytes, pid: int) -> tuple[NumaUse, ...]:
        """See `vmatlas.backend.ReadsNuma`."""
        from vmatlas.systems.linux.numa import parse_numa

        return parse_numa(told, pid=pid)

    def waiting_for(self, thread: int) -> str | None:
        """See `vmatlas.backend.TellsWaits`."""
        return waiting_for(thread)

    def rights(self) -> list[tuple[str, str]]:
        """User, capabilities, Yama's ptrace scope, hidepid."""
        yama = read_file(f"{PROC}/sys/kernel/yama/ptrace_scope")
        told = [("user", describe_user()), *rights_told(read_own("mountinfo"), read_own("status"), yama)]
        return told if (emulator := own_emulator()) is None else [*told, ("emulator", told_by(emulator))]


def _in_rounds(
    rounds: Rounds, look: Callable[[Iterable[int]], Iterator[tuple[int, ProcessInfo | None]]]
) -> Iterator[ProcessInfo]:
    for pids in rounds:
        for _, info in look(pids):
            if info is None or (info.state == "Z" and not info.lives_on):  # perhaps since it was listed
                rounds.ended()
            if info is not None:
                yield info


def started(start_time: int) -> float | None:
    """When a process started, in seconds since 1970: by btime of /proc/stat, a whole second. None where not told."""
    told = (read_file(f"{PROC}/stat") or b"").partition(b"\nbtime ")[2].split(None, 1)
    return int(told[0]) + start_time / os.sysconf("SC_CLK_TCK") if told and told[0].isdigit() else None


def _asked_of(pid: int, start_time: int | None, question: Callable[[LinuxProcess], str | None]) -> str | None:
    """What a process is asked that began then; None where it is gone, or does not answer in time."""

    from vmatlas.systems.linux.listing import ask_each

    def ask(pid: int) -> str | None:
        process = LinuxProcess(pid)
        try:
            stat = _stat_of(process)
            if start_time not in (None, stat.start_time):
                return None
            return question(process.living() if stat.lives_on else process)
        except (OSError, VmatlasError):
            return None
        finally:
            process.close()

    return ask_each([pid], ask)[0]


def _stat_of(process: LinuxProcess) -> Stat:
    """Raises AccessDenied where the folder of another process is mounted over its own in /proc."""
    pid = process.pid
    try:
        found = parse_stat(process.read_file("stat" if process.thread is None else "../../stat"), pid=pid)
    except MalformedData:  # an empty stat: it ended between the opening and the reading
        raise NoSuchProcess(f"there is no process {pid}", pid=pid) from None
    if found.pid != pid:
        raise shows_another(pid, found.pid)
    return found


LINUX = LinuxSystem()
