"""Which files package managers brought, by their own lists: dpkg's, and rpm's database. No program of theirs is run.

A process with other mounts than ours, or another root, may have lists of its own: those of the machine that its paths
are of. They are read through its root, and whoever made them may have made them up, so they have limits of bytes and
time; a list that could not be read to its end tells what it has, and of the rest that nobody can tell.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

from vmatlas.errors import VmatlasError
from vmatlas.model import FileRights, Region
from vmatlas.systems.linux import rpm
from vmatlas.systems.linux.files import HeldProcess, ProcessFiles, Root, Unasked

LISTS = b"/var/lib/dpkg/info"
DIVERSIONS = b"/var/lib/dpkg/diversions"
_RPM = (b"/usr/lib/sysimage/rpm", b"/var/lib/rpm")
"""Where rpm has its database, of newer and of older distributions; one may be a link to the other."""
_MOST = 1 << 28
"""Bytes of lists, in all. A desktop has some 40 MiB."""
_ROOM, _EACH = 1 << 28, 128
"""Bytes that the paths of all lists take here at most, and what each takes beside its letters: two million paths."""
_PIECE = 1 << 20
_LARGEST_DIVERSIONS = 1 << 20
_LONGEST = 20.0
"""Seconds that the lists of one root may take. A desktop's take one."""
_KEPT = 4
"""Lists of so many roots are kept, as far as there is room for them together."""
_MERGED = (b"/bin/", b"/sbin/", b"/lib", b"/lib32/", b"/lib64/", b"/libx32/", b"/libo32/")
"""What /usr has as well, where the two were merged: a list may name either (dpkg's lists of Debian 12 do)."""


class Lists(NamedTuple):
    """What the packages below one root brought."""

    files: frozenset[bytes]
    is_whole: bool
    """Whether what is not in it was brought by none; else it may have been."""
    room: int = 0
    """Bytes that it takes, as they are counted here."""


_UNTOLD = Lists(frozenset(), is_whole=False)


class Audited(HeldProcess, Protocol):
    """What is asked of a process here beside its files."""

    def file_rights(self, region: Region) -> FileRights | None:
        """Of the file that is mapped at a region."""
        ...


def known(process: Audited) -> Callable[[Region], bool | None] | None:
    """Whether a package that is installed has the file that is mapped at a region, by its path; None in its place where
    no package manager has lists. The answer is None where that cannot be told.

    Anybody may have mounts of their own, and below them a list and a file of any path. So where the process has, a
    list vouches for a file only where both are root's, as we see it.
    """
    found: list[tuple[Root, Lists]] = []
    with ProcessFiles(process) as files:
        roots = files.own_roots
        if not roots:
            return lambda _: None
        for root in roots:
            try:
                lists = _lists_below(files, root)
            except (OSError, Unasked):  # it is there, and may not be read
                lists = _UNTOLD
            if lists is not None:
                found.append((root, lists))
    if not found:
        return None

    def knows(region: Region) -> bool | None:
        for root, lists in reversed(found):  # the innermost that it lies below
            path = root.below(region.path_bytes or b"")
            if path is None:
                continue
            if _plain(path) not in lists.files:
                return False if lists.is_whole else None
            return True if root.is_ours or _is_of_root(process, region) else None
        return False

    return knows


def _is_of_root(process: Audited, region: Region) -> bool:
    try:
        rights = process.file_rights(region)
    except VmatlasError:
        return False
    return rights is not None and rights.user == 0


_Marks: TypeAlias = "tuple[tuple[int, int, int, int], ...]"
"""By what lists are known again: device, inode, time of the last change, size of each."""
_known: dict[_Marks, Lists] = {}


def _lists_below(files: ProcessFiles, root: Root) -> Lists | None:
    """Those of dpkg and of rpm; None where there are none. Raises OSError, Unasked."""
    with contextlib.ExitStack() as stack:

        def opened(path: bytes) -> int | None:
            descriptor = files.open_at(root, path)
            if descriptor is not None:
                stack.callback(os.close, descriptor)
            return descriptor

        folder = opened(LISTS)
        databases = [
            (name, descriptor)
            for where in _RPM
            for name in (*_DATABASES, *_UNREAD)
            if (descriptor := opened(b"%b/%b" % (where, name))) is not None
        ]
        lists = [*([] if folder is None else [folder]), *(descriptor for _, descriptor in databases)]
        status = list(map(os.fstat, lists))
        if not lists:
            return None
        if not root.is_ours and any(each.st_uid != 0 for each in status):
            return _UNTOLD
        marks = tuple((each.st_dev, each.st_ino, each.st_mtime_ns, each.st_size) for each in status)
        told = _known.get(marks)
        if told is None:
            told = _read(_names(files, root, folder, opened(DIVERSIONS), databases))
            _keep(marks, told)
        return told


def _keep(marks: _Marks, told: Lists) -> None:
    """For the next process of that root, in the place of what was read first."""
    kept = dict(_known)  # another thread may keep and forget as well
    while len(kept) >= _KEPT or (kept and told.room + sum(each.room for each in kept.values()) > _ROOM):
        oldest = next(iter(kept))
        del kept[oldest]
        _known.pop(oldest, None)
    _known[marks] = told


def _read(names: Iterable[Iterable[bytes] | None]) -> Lists:
    """All of them, as far as there is time and room; None among them: something is there that is not read."""
    found: set[bytes] = set()
    is_whole = True
    room, end = _ROOM, time.monotonic() + _LONGEST
    try:
        for each in names:
            if each is None:
                is_whole = False
                continue
            for count, path in enumerate(each):
                if (plain := _plain(path)) not in found and len(plain) < rpm.PATH_MAX:  # nobody installs a longer one
                    found.add(plain)
                    room -= len(plain) + _EACH
                if room < 0 or (not count % 1024 and time.monotonic() > end):
                    raise ValueError("more than is looked at")
    except (OSError, ValueError):  # it is no such list, or changed while it was read; or one of the limits
        is_whole = False
    found.discard(b"")
    return Lists(frozenset(found), is_whole and bool(found), _ROOM - room)


def _names(
    files: ProcessFiles,
    root: Root,
    folder: int | None,
    diversions: int | None,
    databases: Sequence[tuple[bytes, int]],
) -> Iterator[Iterable[bytes] | None]:
    """The paths of each package, some at a time. Raises OSError, ValueError.

    What was diverted (dpkg-divert(1)) has another name than its package's list tells.
    """
    if folder is not None:
        yield from _of_dpkg(files, root, folder)
    if diversions is not None:
        # The names to which files of packages were moved: the second line of each three.
        yield os.read(diversions, _LARGEST_DIVERSIONS).split(b"\n")[1::3]
    for kind, descriptor in databases:
        size = os.fstat(descriptor).st_size
        if size and (kind not in _DATABASES or size > _MOST):
            yield None
        elif size:
            yield from map(rpm.files_of, _DATABASES[kind](descriptor))


def _of_dpkg(files: ProcessFiles, root: Root, folder: int) -> Iterator[Iterable[bytes] | None]:
    """deb(5), dpkg(1): info/PACKAGE.list has a path in each line."""
    left = _MOST
    with os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.endswith(".list"):
                yield (b"",)  # however many these are, the time is looked at
                continue
            try:
                descriptor = files.open_in(root, folder, os.fsencode(entry.name))
            except FileNotFoundError:
                continue  # removed meanwhile
            try:
                size = os.fstat(descriptor).st_size
                if size <= left:
                    yield from _lines(descriptor, size)
                else:
                    yield None
            finally:
                os.close(descriptor)
            left -= size


def _lines(descriptor: int, size: int) -> Iterator[list[bytes]]:
    """Of a file of so many bytes; a line that is too long for a path is cut, and too long still."""
    rest = b""
    while size > 0 and (piece := os.read(descriptor, min(size, _PIECE))):
        size -= len(piece)
        *whole, rest = (rest + piece).split(b"\n")
        yield whole
        rest = rest[: rpm.PATH_MAX]
    yield [rest]


_DATABASES: Mapping[bytes, Callable[[int], Iterator[bytes]]] = {
    b"rpmdb.sqlite": rpm.sqlite_headers,
    b"Packages.db": rpm.ndb_headers,
}
"""Of rpm: their names, and what reads them."""
_UNREAD = (b"rpmdb.sqlite-wal", b"Packages")
"""What is known to be there and is not read: what sqlite keeps for later, and Berkeley DB (rpm before 4.16)."""


def _plain(path: bytes) -> bytes:
    """Without /usr before what may lie in both."""
    return path[4:] if path.startswith(b"/usr/") and path[4:].startswith(_MERGED) else path
