"""The files of another process: what it has mapped, and what its names mean. The one place that asks a file system.

Three things make that hard, and each is dealt with here.
- A file system may not answer: FUSE, NFS and the like wait for somebody else, in a sleep that no signal ends. Only one
  that answers by itself (`MountTable.answers`) is asked; others for what the kernel remembers (AT_STATX_DONT_SYNC,
  RESOLVE_CACHED). Each step of a path is asked by itself and stays on its mount, so nobody leads us away meanwhile.
  Whether to ask is decided about what is held already (O_PATH asks nobody), by tables that were read afterwards: what a
  name, an address or the number of a mount meant a moment ago, it need not mean now (`HeldMounts`).
- The process chooses what its names mean: it may mount, link and rename as it likes. So a file is told by its device
  and inode, those of the mapping itself where they may be asked (/proc/PID/map_files; it takes CAP_CHECKPOINT_RESTORE),
  and no symbolic link is followed: the kernel's names hold none.
- The kernel tells a path from the root of the one who reads (d_path()), and for a mount of another namespace from the
  root of that namespace; never from the root that a chroot made for the process.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import functools
import itertools
import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from errno import (
    EACCES,
    EAGAIN,
    EINVAL,
    EMFILE,
    ENFILE,
    ENODEV,
    ENOENT,
    ENOMEM,
    ENOSYS,
    ENOTDIR,
    EPERM,
    EXDEV,
    errorcode,
)
from stat import S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFSOCK, S_ISDIR, S_ISREG
from typing import NamedTuple, Protocol

from vmatlas.errors import OperationFailed, VmatlasError
from vmatlas.model import FileNow, FileRights, Region
from vmatlas.once import cached_property
from vmatlas.systems.linux import mounts
from vmatlas.systems.linux.calls import own_call_base
from vmatlas.systems.linux.mounts import Mount, MountTable, Numbers, may_not_answer
from vmatlas.systems.linux.naming import DELETED
from vmatlas.systems.linux.proc import head_of

_FOLLOWING = os.O_PATH | os.O_CLOEXEC  # a link of /proc leads to the file itself, whatever its name
_HANDLE = _FOLLOWING | os.O_NOFOLLOW
_READING = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_OPENAT2 = 437  # and `own_call_base`; since Linux 5.6
_HOW = struct.Struct("=QQQ")  # struct open_how: flags, mode, resolve
_NO_XDEV, _CACHED = 0x01, 0x20  # RESOLVE_*, include/uapi/linux/openat2.h; CACHED since 5.12
_AS_REMEMBERED = 0x4000 | 0x800  # AT_STATX_DONT_SYNC | AT_NO_AUTOMOUNT
_EMPTY_PATH = 0x1000
_BASIC, _MOUNT = 0x7FF, 0x1000  # STATX_BASIC_STATS; STATX_MNT_ID, since Linux 5.8
_STATX = struct.Struct("=IIQIIIHHQQ")  # mask, block size, attributes, links, user, group, mode, -, inode, size
_STATX_DEVICE = struct.Struct("=II")
_STATX_MOUNT = struct.Struct("=Q")
_STATX_DEVICE_AT, _STATX_MOUNT_AT, _STATX_SIZE = 0x88, 0x90, 256
_PROGRAM = b"exe"
_TRIES = 50
"""What the kernel remembers can be changing just now: so often it is asked again."""
_DEEPEST = 256
"""Folders above the root of a process. No path is deeper."""


_GET_SEALS = 1034  # F_GET_SEALS: include/uapi/linux/fcntl.h
_SEALS = {1: "seal", 2: "shrink", 4: "grow", 8: "write", 16: "future-write", 32: "exec"}
_MOST_OPEN = 1024
"""So many of the files that a process has open are looked at."""

_WHAT = {
    S_IFDIR: "folder",
    S_IFLNK: "symbolic link",
    S_IFCHR: "device",
    S_IFBLK: "device",
    S_IFIFO: "pipe",
    S_IFSOCK: "socket",
}
"""What can stand where a file was, and is no regular one: inode(7)."""

_SHORT = (EMFILE, ENFILE, ENOMEM)


@contextlib.contextmanager
def _refused(*others: type[Exception]) -> Iterator[None]:
    """What the system does not tell is passed over.

    That this process is short of descriptors or memory says nothing of a file: OperationFailed.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _SHORT:
            raise _short(error) from None
    except OperationFailed as failure:
        if failure.errno in _SHORT:
            raise
    except others:
        pass


def _short(error: OSError) -> OperationFailed:
    return OperationFailed(
        f"the files of a process cannot be looked at: {error.strerror}",
        errno=error.errno or 0,
        errno_name=errorcode.get(error.errno or 0, ""),
    )


_NOT_TOLD, _NOT_THERE = "which file it is, is not told", "it is not mapped there any more"
_NO_FILE = "no such file is at its path"


class Unasked(Exception):
    """The file system was not asked: the text says why."""


class _Silent(Unasked):
    """For its file system may not answer."""

    def __init__(self, what: str) -> None:
        super().__init__(f"its file system ({what}) may not answer")
        self.what = what


class _Nowhere(OSError):
    """The way ended where there is no such name; `mount` is the one on which it did."""

    mount: Mount | None = None


class File(NamedTuple):
    """A file, as stat(2) tells it."""

    mode: int
    links: int
    inode: int
    device: Numbers
    mount: int | None = None
    """The number of the mount through which it was reached; None where that is not told."""
    user: int = 0
    """Its owner, in the user namespace of the one who asks."""
    size: int = 0
    """Bytes, as far as the kernel remembers."""

    @property
    def identity(self) -> tuple[Numbers, int]:
        """What no other file has."""
        return self.device, self.inode


class HeldProcess(Protocol):
    """What is asked of a process here: see `LinuxProcess` of `host`, which stands above."""

    @property
    def directory(self) -> int:
        """A descriptor of its folder in /proc."""
        ...

    def read_head(self, name: str, most: int) -> bytes:
        """The first bytes of one of its files there. Raises VmatlasError."""
        ...

    def living(self) -> HeldProcess:
        """The process as a thread of it that lives tells of it."""
        ...

    def mapped_file(self, bounds: bytes) -> bytes:
        """Where the file mapped at START-END (hexadecimal) is, below `directory`."""
        ...

    def mapped_name(self, bounds: bytes) -> bytes | None:
        """The name of that file; None where it is not told."""
        ...


class HeldMounts:
    """The mounts that handles of ours lie on, and whether their file systems answer.

    The number of a mount means it for as long as somebody holds the mount, and another one as soon as nobody does: one
    handle is kept on each that is known here, and the tables are read when it is there.
    """

    def __init__(self, read: Callable[[], tuple[bytes, bytes]]) -> None:
        """`read` gives our own table, and that of the process."""
        self._read = read
        self._kept: list[int] = []
        self._known: dict[int, HeldMount] = {}

    def of(self, handle: int) -> HeldMount:
        """That of a handle. Raises OSError, where there is no descriptor left to hold it by."""
        number = _mount_number(handle)
        if number is None:
            return NO_MOUNT
        if number not in self._known:
            self._kept.append(os.dup(handle))
            own, others = self._read()
            mount = mounts.one(own, number) or mounts.one(others, number)
            # Our own mounts decide about others than the local ones: the root, what the layers of an overlay lie on.
            table = MountTable([] if mount is None or mount.is_local else mounts.read(own), [])
            self._known[number] = HeldMount(mount, table.answers(mount), table.describe(mount))
        return self._known[number]

    def close(self) -> None:
        """Let go of them."""
        while self._kept:
            os.close(self._kept.pop())
        self._known.clear()


class HeldMount(NamedTuple):
    """A mount that is held, by its line in the tables."""

    line: Mount | None
    """None: it is in neither."""
    answers: bool
    """See `MountTable.answers`."""
    what: str
    """Its file system, for people."""


NO_MOUNT = HeldMount(None, False, "mounted elsewhere")


class ProcessFiles:
    """The files of one process, for one question. A context manager."""

    def __init__(self, process: HeldProcess) -> None:
        self._process = process.living()
        self._roots: list[int] | None = None
        self._mounts = HeldMounts(self._raw_tables)
        self._may_not_ask_mapped = False
        self._chroot: int | None = None

    def __enter__(self) -> ProcessFiles:
        return self

    def __exit__(self, *_: object) -> None:
        for root in self._roots or ():
            os.close(root)
        self._roots = None
        if self._chroot is not None:
            os.close(self._chroot)
        self._chroot = None
        self._mounts.close()

    @cached_property
    def table(self) -> MountTable:
        """What is mounted for us, and for the process: as it was when this was first asked for."""
        return MountTable(*map(mounts.read, self._raw_tables()))

    def _raw_tables(self) -> tuple[bytes, bytes]:
        """Our mountinfo and that of the process, as far as they are read: what stands behind is mounted elsewhere."""
        own = others = b""
        with _refused():
            descriptor = os.open("/proc/self/mountinfo", os.O_RDONLY | os.O_CLOEXEC)
            try:
                own = head_of(descriptor, mounts.MOST)
            finally:
                os.close(descriptor)
        with _refused(VmatlasError):
            others = self._process.read_head("mountinfo", mounts.MOST_OF_OTHERS)
        return own, others

    def mapped(self, start: int, end: int, name: bytes) -> File | None:
        """The file mapped at just these bounds, when `name` is what the kernel calls it; None where that is not told.

        No name is looked up, and no file system is asked for more than the kernel remembers.
        """
        if self._may_not_ask_mapped:
            return None
        bounds = b"%x-%x" % (start, end)
        try:
            found = _statx(self._process.directory, self._process.mapped_file(bounds), _AS_REMEMBERED)
        except OSError as error:
            if error.errno in _SHORT:
                raise _short(error) from None
            self._may_not_ask_mapped = error.errno in (EPERM, ENOSYS)
            return None
        return found if self._process.mapped_name(bounds) == name else None

    def is_linked(self, name: bytes, file: File | None, inode: int, device: Numbers) -> bool | None:
        """Whether a file of this name is the one that is mapped: `file`, or where None is told, by the map's numbers.

        None where nobody can tell: the file system was not asked, a folder may not be entered, or the name leads to
        other file systems now than it did when the file was mapped (its mount was taken away, or another lies over it).
        """
        if file is not None and file.links == 0:
            return False
        answer: bool | None = None
        for root in self.roots:
            try:
                with self._looked_up(root, name) as seen:
                    if seen.file.identity == file.identity if file else seen.is_of_map(device, inode):
                        return True
                    if _leads_to(seen.mount, file, device):
                        answer = False
            except _Nowhere as way:
                if _leads_to(way.mount, file, device):
                    answer = False
            except Unasked:
                pass
            except OSError as error:
                if error.errno in _SHORT:
                    raise _short(error) from None
        return answer

    def now_at(self, path: bytes, device: Numbers) -> FileNow:
        """What stands now at the path of a file of this device: on that file system, and on no other.

        For a file whose mount is gone the kernel tells a path that means another file, or none.
        """
        unasked = ""
        for root in self.roots:
            try:
                with _refused(), self._looked_up(root, path) as seen:
                    if seen.is_of(device):
                        return FileNow(seen.file.inode, what=_WHAT.get(S_IFMT(seen.file.mode), "file"))
            except Unasked as error:
                unasked = str(error)
        return FileNow(None, unasked)

    def rights(self, region: Region) -> FileRights | None:
        """Of the file that is mapped at a region, and of the folders on the way to it; None where that is not told.

        From what the kernel remembers. The folders are those of the path, where the mapped file still stands.
        """
        if region.device is None or region.inode is None or region.path_bytes is None:
            return None
        device = region.device.major, region.device.minor
        name = region.path_bytes + (DELETED if region.deleted else b"")
        file = self.mapped(region.start, region.end, name)
        folders: list[tuple[bytes, File]] = []
        if not region.deleted:
            for root in self.roots:
                way: list[tuple[bytes, File]] = []
                with _refused(Unasked), self._looked_up(root, region.path_bytes, way) as seen:
                    is_it = seen.file.identity == file.identity if file else seen.is_of_map(device, region.inode)
                    if is_it:
                        file, folders = seen.file, way[::-1]
                        break
        if file is None:
            return None
        folder = folders[0][1] if folders else None
        above = tuple((os.fsdecode(name), each.mode) for name, each in folders[1:])
        return FileRights(file.mode, file.user, folder and folder.mode, folder and folder.user, above)

    def unmounted(self, region: Region) -> bool | None:
        """Whether the mount is gone through which the file of a region was mapped: neither the process nor we have it,
        and the path that the kernel tells, from where that mount began, leads to no such file. None: not told.

        Who unmounts a folder lazily (umount -l) chooses what its files seem to be.
        """
        if region.device is None or region.inode is None or region.path_bytes is None:
            return None
        device = region.device.major, region.device.minor
        if holds_objects(device):
            return False
        told = region.path_bytes, device, region.inode
        if not self._is_elsewhere and (_stood(told) or self._stands(*told)):
            return False
        file = self.mapped(region.start, region.end, region.path_bytes)
        number = None if file is None else file.mount
        known = self.table.of_device(device) if number is None else self.table.mount(number)
        # A table ends at the root of its process, which a chroot may have moved: the path may lead there all the same.
        if known is not None or self.is_linked(region.path_bytes, file, region.inode, device):
            return False
        # Where the mount is told, nobody gets out of it by mounting on the way what is not asked.
        return None if number is None and self._may_not_answer(region.path_bytes) else True

    def _stands(self, path: bytes, device: Numbers, inode: int) -> bool:
        """Whether our own path leads to this file on this very file system; kept for others that have mapped it."""
        with _refused(Unasked), self._looked_up(self.roots[-1], path) as seen:
            if seen.is_just(device, inode):
                _standing[path, device, inode] = time.monotonic()
                return True
        return False

    def _may_not_answer(self, path: bytes) -> bool:
        """Whether a path leads to a file system that is not asked."""
        for root in self.roots:
            try:
                with _refused(), self._looked_up(root, path):
                    pass
            except Unasked:
                return True
        return False

    def misnamed(self, region: Region) -> str | None:
        """Why the path of the file that is mapped at a region leads to no such file from our own root; None: it does.

        A process that has mounts of its own chooses what the kernel calls its files. Of an unlinked one the folder is
        looked up. What lies in no folder has no path, whatever it is called.
        """
        if region.device is None or region.inode is None or region.path_bytes is None:
            return _NOT_TOLD
        device = region.device.major, region.device.minor
        if holds_objects(device):
            return None
        name = region.path_bytes + (DELETED if region.deleted else b"")
        bounds = b"%x-%x" % (region.start, region.end)
        try:
            with self._led_to(self._process.mapped_file(bounds)) as handle:
                if self._process.mapped_name(bounds) != name:
                    return _NOT_THERE
                return self._leads_elsewhere(region.path_bytes, bool(region.deleted), handle)
        except OSError as error:
            if error.errno in _SHORT:
                raise _short(error) from None
            if error.errno not in (EACCES, EPERM) and os.path.isdir("/proc/self/map_files"):
                return _NOT_THERE
        return self._elsewhere(region.path_bytes, bool(region.deleted), None, device, region.inode)

    def program_misnamed(self) -> str | None:
        """The same of the program that the process runs."""
        why: str | None = _NOT_TOLD
        with _refused(), self._led_to(_PROGRAM) as handle:
            name = os.readlink(b"/proc/self/fd/%d" % handle)
            why = self._leads_elsewhere(name, False, handle)
            if why is not None and name.endswith(DELETED):  # or it is called so
                why = self._leads_elsewhere(name[: -len(DELETED)], True, handle)
        return why

    def _leads_elsewhere(self, path: bytes, deleted: bool, handle: int) -> str | None:
        """The same of a file that is held. Raises OSError."""
        number = _mount_number(handle)
        if number is not None and mounts.one(self._own_table, number) is not None:
            return None  # reached through a mount of ours, so by a path of ours
        file = _statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH)
        return self._elsewhere(path, deleted, file, file.device, file.inode)

    @cached_property
    def _own_table(self) -> bytes:
        return self._raw_tables()[0]

    def _elsewhere(self, path: bytes, deleted: bool, file: File | None, device: Numbers, inode: int) -> str | None:
        """The same by what is looked up. Raises OperationFailed."""
        what = path.rpartition(b"/")[0] if deleted else path
        try:
            with self._looked_up(self.roots[-1], what) as own:
                if deleted:
                    is_it = own.file.identity == self._folder(what, file, device)
                else:
                    is_it = own.file.identity == file.identity if file else own.is_of_map(device, inode)
        except Unasked as error:
            return str(error)
        except _Nowhere:
            return "there is no such folder" if deleted else "there is no such file"
        except OSError as error:
            if error.errno in _SHORT:
                raise _short(error) from None
            return f"it cannot be looked up: {error.strerror}"
        if is_it:
            return None
        return "it lay in another folder of that path" if deleted else "another file has that path"

    def _folder(self, path: bytes, file: File | None, device: Numbers) -> tuple[Numbers, int] | None:
        """The folder of this path as the process has it, where it lies on the mount of a file. Raises OSError."""
        with _refused(Unasked), self._looked_up(self.roots[0], path) as seen:
            if _leads_to(seen.mount, file, device):
                return seen.file.identity
        return None

    def opened(self, region: Region) -> int | str:
        """See `open_mapped`; where there is none to be had, why, in words."""
        if region.device is None or region.inode is None:
            return "its device and its inode are not told"
        device = region.device.major, region.device.minor
        # None where the name is longer than is told.
        name = None if region.path_bytes is None else region.path_bytes + (DELETED if region.deleted else b"")
        bounds = b"%x-%x" % (region.start, region.end)
        reasons: list[str] = []
        with self._refused_for(reasons), self._led_to(self._process.mapped_file(bounds)) as handle:
            file = _statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH)
            if file.inode == region.inode if name is None else self._process.mapped_name(bounds) == name:
                return self._reading(handle, file)
            reasons.append(_NOT_THERE)
        with self._refused_for(reasons), self._led_to(_PROGRAM) as handle:  # by the right to read the map
            file = _statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH)
            if (file.device, file.inode) == (device, region.inode):
                return self._reading(handle, file)
        for root in self.roots:
            if name is None:
                break
            with self._refused_for(reasons), self._looked_up(root, name) as seen:
                if seen.is_of_map(device, region.inode):
                    return self._reading(seen.handle, seen.file)
                reasons.append("another file is at its path")
        if region.deleted and name is not None:
            nameless = holds_objects(device) or name.endswith(b"/#%d%b" % (region.inode, DELETED))
            gone = "it lies in no folder" if nameless else "it has been unlinked"
            reasons = [gone if each == _NO_FILE else each for each in reasons]
        return "; ".join(dict.fromkeys(reasons))

    def size(self, region: Region) -> int | None:
        """Bytes in the file that is mapped at a region: also of one without a name, or that nobody may read."""
        if region.device is None or region.inode is None:
            return None
        bounds = b"%x-%x" % (region.start, region.end)
        with _refused(), self._led_to(self._process.mapped_file(bounds)) as handle:
            file = _statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH)
            if file.inode == region.inode:
                return file.size if S_ISREG(file.mode) else None
        opened = self.opened(region)
        own = (region.device.major, region.device.minor), region.inode
        descriptor = opened if isinstance(opened, int) else self._open_there(own)
        if descriptor is None:
            return None
        try:
            return os.fstat(descriptor).st_size
        finally:
            os.close(descriptor)

    @contextlib.contextmanager
    def _refused_for(self, reasons: list[str]) -> Iterator[None]:
        """What the system does not tell is passed over, and why is kept. Raises OperationFailed, as `_refused` does."""
        try:
            yield
        except _Silent as error:
            reasons[:] = [may_not_answer(error.what)]
        except Unasked as error:
            reasons.append(str(error))
        except OSError as error:
            if error.errno in _SHORT:
                raise _short(error) from None
            if (why := self._why_refused(error)) is not None:
                reasons.append(why)

    def _why_refused(self, error: OSError) -> str | None:
        """By what was asked; None where that alone says nothing of a file."""
        if isinstance(error, _Nowhere):
            return _NO_FILE
        asked = error.filename if isinstance(error.filename, bytes) else b""
        if not asked:
            return f"statx is refused here ({error.strerror}): perhaps by a filter of system calls"
        if asked == _PROGRAM:
            return None
        if b"map_files/" in asked:
            if error.errno in (EACCES, EPERM):
                return "no right to follow the links of /proc/PID/map_files, which takes CAP_CHECKPOINT_RESTORE or root"
            return _NOT_THERE if os.path.isdir("/proc/self/map_files") else "this kernel has no /proc/PID/map_files"
        what = "it may not be read" if asked.startswith(b"/proc/self/fd/") else "its path may not be looked up"
        return f"{what} ({error.strerror})"

    def seals(self, region: Region) -> frozenset[str] | None:
        """How the object in memory that is mapped at a region is sealed: F_GET_SEALS, fcntl(2) since Linux 3.17, which
        any descriptor of it tells. None where none is to be had, or what is mapped there is no such object.

        Without CAP_CHECKPOINT_RESTORE by the descriptors that the process has of it, if it kept one.
        """
        if region.device is None or not holds_objects((region.device.major, region.device.minor)):
            return None
        opened = self.opened(region)
        own = (region.device.major, region.device.minor), region.inode
        descriptor = opened if isinstance(opened, int) else self._open_there(own)
        if descriptor is None:
            return None
        try:
            found = fcntl.fcntl(descriptor, _GET_SEALS)
        except OSError:  # huge pages of a kernel before 4.16
            return None
        finally:
            os.close(descriptor)
        return frozenset(word for bit, word in _SEALS.items() if found & bit)

    def _open_there(self, identity: tuple[Numbers, int | None]) -> int | None:
        """A descriptor of a file that the process has open itself, among its first ones; None where it has not."""
        with _refused():
            folder = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._process.directory)
            try:
                with os.scandir(folder) as entries:
                    for entry in itertools.islice(entries, _MOST_OPEN):
                        with _refused():
                            file = _statx(folder, os.fsencode(entry.name), _AS_REMEMBERED)
                            if file.identity == identity and S_ISREG(file.mode):
                                with self._led_to(b"fd/" + os.fsencode(entry.name)) as handle:
                                    if _statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH).identity == identity:
                                        descriptor = self._reading(handle, file)
                                        return descriptor if isinstance(descriptor, int) else None
            finally:
                os.close(folder)
        return None

    def own_file(self, path: bytes) -> int | None:
        """A descriptor to read the regular file of that path, as the process sees it; None where there is none to be
        had, or its file system may not answer. No link is followed at its end."""
        for root in self.roots:
            with _refused(Unasked), self._looked_up(root, path) as seen:
                if isinstance(descriptor := self._reading(seen.handle, seen.file), int):
                    return descriptor
        return None

    def in_its_root(self, path: bytes) -> int | None:
        """The same of what the process itself has at that path, and never what we have there."""
        found: int | str = ""
        with _refused(Unasked):
            root = os.open("root", _HANDLE & ~os.O_NOFOLLOW, dir_fd=self._process.directory)
            try:
                with self._looked_up(root, path) as seen:
                    found = self._reading(seen.handle, seen.file)
            finally:
                os.close(root)
        return found if isinstance(found, int) else None

    @contextlib.contextmanager
    def _led_to(self, link: bytes) -> Iterator[int]:
        """A handle on what a link in the folder of the process leads to. Raises OSError."""
        handle = os.open(link, _FOLLOWING, dir_fd=self._process.directory)
        try:
            yield handle
        finally:
            os.close(handle)

    def _reading(self, handle: int, file: File) -> int | str:
        """A descriptor to read a file that is held; why none is had, for no regular one, and where its file system may
        not answer.

        Opening a device may do something. Raises OSError.
        """
        if not S_ISREG(file.mode):
            return f"a {_WHAT.get(S_IFMT(file.mode), 'thing')} is mapped, and no regular file"
        if file.device not in own_objects() and not (mount := self._mounts.of(handle)).answers:
            return may_not_answer(mount.what)
        return os.open(b"/proc/self/fd/%d" % handle, _READING)

    @property
    def roots(self) -> list[int]:
        """From where the kernel may have told a path to us: our own root; before it that of another mount namespace.

        The latter is found by going up from the root of the process, which a chroot may have moved. What was mapped
        before the process went to its namespace keeps its path in ours.
        """
        if self._roots is None:
            self._roots = []
            if self._is_elsewhere:
                with _refused():
                    self._roots.append(_top(self._own_root()))
            with _refused():
                self._roots.append(os.open("/", _HANDLE))
        return self._roots

    @cached_property
    def _is_elsewhere(self) -> bool:
        """Whether the process is in another mount namespace than we, or may be."""
        try:
            told = os.stat("ns/mnt", dir_fd=self._process.directory)
        except OSError:  # not ours to ask
            return True
        return told.st_ino != os.stat("/proc/self/ns/mnt").st_ino

    def _own_root(self) -> int:
        """A handle on the root of the process. Raises OSError."""
        return os.open("root", _FOLLOWING, dir_fd=self._process.directory)

    @cached_property
    def own_roots(self) -> list[Root]:
        """The machine whose files the process has, by its roots: that of its mount namespace, and where a chroot moved
        its own, that one. Empty where they are not told. Valid until the files are closed."""
        if not self.roots or (self._is_elsewhere and len(self.roots) < 2):
            return []
        found = []
        with _refused():
            self._chroot = self._own_root()
            prefix = os.readlink(b"root", dir_fd=self._process.directory).rstrip(b"/")
            found.append(Root(self.roots[0], b"", is_ours=not self._is_elsewhere))
            if _place(self._chroot) != _place(self.roots[0]):
                found.append(Root(self._chroot, prefix, is_ours=False))
        return found

    def open_at(self, root: Root, path: bytes) -> int | None:
        """A descriptor to read the regular file, or the folder, at a path below a root; None where there is none.

        In ours a link is followed; below another one none is, and the file system has to answer. Raises OSError,
        Unasked.
        """
        if root.is_ours:
            try:
                return os.open(path, _READING)
            except (FileNotFoundError, NotADirectoryError):
                return None
        try:
            with self._looked_up(root.handle, path) as seen:
                if not S_ISREG(seen.file.mode) and not S_ISDIR(seen.file.mode):
                    return None
                if not self._mounts.of(seen.handle).answers:
                    raise Unasked("its file system may not answer")
                return os.open(b"/proc/self/fd/%d" % seen.handle, _READING)
        except _Nowhere:
            return None

    @staticmethod
    def open_in(root: Root, folder: int, name: bytes) -> int:
        """A descriptor to read a regular file in a folder that was opened so; none that is mounted there. Raises
        OSError."""
        if root.is_ours:
            return os.open(name, _READING, dir_fd=folder)
        handle = _openat2(folder, name, _NO_XDEV)
        try:
            if not S_ISREG(_statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH).mode):
                raise FileNotFoundError(ENOENT, "no file")
            return os.open(b"/proc/self/fd/%d" % handle, _READING)
        finally:
            os.close(handle)

    @contextlib.contextmanager
    def _looked_up(self, root: int, path: bytes, way: list[tuple[bytes, File]] | None = None) -> Iterator[Seen]:
        """`way` gets the folders on the way, from the root on. Raises OSError, Unasked."""
        at = os.dup(root)
        walked = b""
        try:
            mount = self._mounts.of(at)
            for step in path.split(b"/"):
                if step in (b"", b".", b".."):
                    continue  # the kernel's names hold none
                if way is not None:
                    way.append((walked or b"/", _statx(at, b"", _AS_REMEMBERED | _EMPTY_PATH)))
                    walked += b"/" + step
                try:
                    following, crossed = self._step(at, step, mount)
                except OSError as error:
                    if error.errno not in (ENOENT, ENOTDIR):
                        raise
                    nowhere = _Nowhere(error.errno, error.strerror)
                    nowhere.mount = mount.line
                    raise nowhere from None
                os.close(at)
                at = following
                if crossed:
                    mount = self._mounts.of(at)
            yield Seen(at, mount.line, _statx(at, b"", _AS_REMEMBERED | _EMPTY_PATH))
        finally:
            os.close(at)

    def _step(self, folder: int, name: bytes, mount: HeldMount) -> tuple[int, bool]:
        """One step down: its handle, and whether it may have led to another mount. Raises OSError, Unasked."""
        if mount.answers:
            try:
                return _openat2(folder, name, _NO_XDEV), False
            except OSError as error:
                if error.errno in (ENOSYS, EPERM):  # before Linux 5.6, or refused by a filter of system calls
                    raise Unasked("this kernel has no openat2, or a filter of system calls refuses it") from None
                if error.errno != EXDEV:
                    raise
        for _ in range(_TRIES):
            try:
                return _openat2(folder, name, _CACHED), True
            except OSError as error:
                if error.errno in (ENOSYS, EPERM, EINVAL):
                    raise Unasked("this kernel cannot be asked for what it remembers alone") from None
                if error.errno != EAGAIN:
                    raise
        raise _Silent(mount.what)


class Root(NamedTuple):
    """A root from which paths of a process lead to its files."""

    handle: int
    prefix: bytes
    """What the kernel's names have before what lies below it: the folder that a chroot made the root."""
    is_ours: bool
    """It is that of our own mount namespace: what is mounted there is root's."""

    def below(self, name: bytes) -> bytes | None:
        """The path from this root on of a file that the kernel calls so; None for one that does not lie below it."""
        if not self.prefix:
            return name
        return name[len(self.prefix) :] if name.startswith(self.prefix + b"/") else None


class Seen(NamedTuple):
    """A file that was looked up, held by a handle (O_PATH) meanwhile."""

    handle: int
    mount: Mount | None
    file: File

    def is_of(self, device: Numbers) -> bool:
        """Whether it is of the file system that the map calls by this number.

        Before Linux 6.8 the map tells the device of an overlay's layer: there it says nothing.
        """
        if self.mount is None:
            return self.file.device == device
        return self.mount.device == device or self.mount.is_overlay

    def is_just(self, device: Numbers, inode: int) -> bool:
        """The same where no overlay is given the benefit of the doubt: a device of a map says which one it is, or it is
        no answer."""
        return self.mount is not None and self.mount.device == device and self.file.inode == inode

    def is_of_map(self, device: Numbers, inode: int) -> bool:
        """Whether it is the file of these numbers of a map."""
        return self.file.inode == inode and self.is_of(device)


def _leads_to(mount: Mount | None, file: File | None, device: Numbers) -> bool:
    """Whether a way that ended on this mount was the one to the file: on its own mount, or as far as the map tells."""
    if mount is None:
        return False
    if file is not None and file.mount is not None:
        return mount.number == file.mount
    return mount.device == device or mount.is_overlay


_standing: dict[tuple[bytes, Numbers, int], float] = {}
"""Files of our own mount namespace, as the kernel calls them now, and when their paths led to them last: all processes
have the same libraries. Only the newest are kept."""
_STANDS = 1.0
"""Seconds that this is believed: whoever hides a path meanwhile is seen at the next look."""
_MOST_STANDING = 4096


def _stood(told: tuple[bytes, Numbers, int]) -> bool:
    seen = _standing.get(told)
    if seen is not None and time.monotonic() - seen < _STANDS:
        return True
    if len(_standing) > _MOST_STANDING:
        _standing.clear()
    return False


def open_mapped(process: HeldProcess, region: Region) -> int | None:
    """A descriptor to read the file that is mapped at a region of this process; the caller closes it.

    By /proc/PID/map_files where that may be asked, so of unlinked files too; else by its name, where device and inode
    are the map's. None where the file cannot be had: no rights, gone, no regular file, or of a file system that may
    not answer (FUSE, NFS, ...). The region is one of a map just read: its bounds and name are those of the kernel.
    """
    with ProcessFiles(process) as files:
        found = files.opened(region)
    return found if isinstance(found, int) else None


def size_of(process: HeldProcess, region: Region) -> int | None:
    """Bytes in the very file that a region shows, as it is now; None where that is not told."""
    with ProcessFiles(process) as files:
        return files.size(region)


def why_unread(process: HeldProcess, region: Region) -> str | None:
    """Why `open_mapped` gives none, or why nothing can be read of what it gives, in words; None where it is read."""
    with ProcessFiles(process) as files:
        found = files.opened(region)
    if isinstance(found, str):
        return found
    try:
        os.pread(found, 1, 0)
    except OSError as error:
        return f"it cannot be read ({error.strerror})"
    finally:
        os.close(found)
    return None


def silent(process: HeldProcess, devices: Iterable[Numbers]) -> dict[Numbers, str]:
    """Of these devices those whose file system may not answer, and what it is: nothing may be read of it."""
    with ProcessFiles(process) as files:
        return files.table.silent(set(devices) - own_objects())


def own_objects() -> frozenset[Numbers]:
    """The devices of the file systems that no folder holds, on which the kernel makes shared memory, huge pages too."""
    return _own_objects()[0]


def holds_objects(device: Numbers) -> bool | None:
    """Whether a device is one of those; None where it is none that is known, and some may be missing."""
    known, all_known = _own_objects()
    return device in known or (False if all_known else None)


_NO_SUCH_PAGES = (EINVAL, ENODEV, ENOENT, ENOSYS)
"""What memfd_create(2) says to a size of huge pages that the kernel does not have."""


@functools.cache
def _own_objects() -> tuple[frozenset[Numbers], bool]:
    """Those devices, told by a memfd on each, and whether they are all.

    Each size of huge pages has one (MFD_HUGETLB, 4; the size's logarithm from bit 26 on: 16 KiB to 16 GiB).
    """
    found = set()
    all_known = True
    for flags in (0, *(4 | logarithm << 26 for logarithm in range(14, 35))):
        try:
            descriptor = _memfd(flags)
        except OSError as error:
            all_known &= flags != 0 and error.errno in _NO_SUCH_PAGES
            continue
        device = os.fstat(descriptor).st_dev
        os.close(descriptor)
        found.add((os.major(device), os.minor(device)))
    return frozenset(found), all_known


def _memfd(flags: int) -> int:
    """A memfd that is never run: where the sysctl vm.memfd_noexec is 2 there is no other. Raises OSError."""
    try:
        return os.memfd_create("vmatlas", flags | os.MFD_CLOEXEC | 8)  # MFD_NOEXEC_SEAL
    except AttributeError:  # a Python made for an old C library
        raise OSError(EPERM, os.strerror(EPERM)) from None
    except OSError as error:
        if error.errno != EINVAL:  # before Linux 6.3
            raise
    return os.memfd_create("vmatlas", flags | os.MFD_CLOEXEC)


def _top(folder: int) -> int:
    """The root of the mount namespace that a folder lies in, as far as the kernel remembers the way up.

    Takes the handle and gives another: to step up from a folder asks its file system whether we may.
    """
    with contextlib.suppress(OSError):
        here = _place(folder)
        for _ in range(_DEEPEST):
            above = _remembered(folder, b"..")
            os.close(folder)
            folder = above
            if (there := _place(folder)) == here:
                break
            here = there
    return folder


def _place(handle: int) -> tuple[tuple[Numbers, int], int | None]:
    return _statx(handle, b"", _AS_REMEMBERED | _EMPTY_PATH).identity, _mount_number(handle)


def _remembered(folder: int, name: bytes) -> int:
    """One step, from what the kernel remembers alone. Raises OSError: EAGAIN where it does not."""
    for attempt in range(_TRIES):
        try:
            return _openat2(folder, name, _CACHED)
        except OSError as error:
            if error.errno != EAGAIN or attempt == _TRIES - 1:
                raise
    raise AssertionError("the last attempt raises")


def _mount_number(handle: int) -> int | None:
    """Which mount a handle lies on: proc_pid_fdinfo(5). Raises OperationFailed, as `_refused` does."""
    told = b""
    with _refused(), open(f"/proc/self/fdinfo/{handle}", "rb", buffering=0) as file:
        told = file.read(4096)
    _, found, number = told.partition(b"mnt_id:")
    return int(number.split(None, 1)[0]) if found else None


@functools.cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _openat2(folder: int, name: bytes, resolve: int) -> int:
    """openat2(2) for a handle, no link followed. Raises OSError."""
    how = _HOW.pack(_HANDLE, 0, resolve)
    handle: int = _library().syscall(own_call_base() + _OPENAT2, folder, name, how, _HOW.size)
    if handle < 0:
        raise _failure(name)
    return handle


def _statx(folder: int, path: bytes, flags: int) -> File:
    """statx(2), which the C library has (glibc 2.28, musl 1.2.5). Raises OSError: ENOSYS where it has not."""
    told = ctypes.create_string_buffer(_STATX_SIZE)
    try:
        asked = _library().statx
    except AttributeError:
        raise OSError(ENOSYS, os.strerror(ENOSYS)) from None
    if asked(folder, path, flags, _BASIC | _MOUNT, told) != 0:
        raise _failure(path)
    known, _, _, links, user, _, mode, _, inode, size = _STATX.unpack_from(told)
    mount = _STATX_MOUNT.unpack_from(told, _STATX_MOUNT_AT)[0] if known & _MOUNT else None
    return File(mode, links, inode, _STATX_DEVICE.unpack_from(told, _STATX_DEVICE_AT), mount, user, size)


def _failure(path: bytes) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
