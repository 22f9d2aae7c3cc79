"""Files that we write where somebody else may have laid something: the one place that makes them.

A path is walked step by step, each folder held while the next is looked at, so that nothing that is looked at can be
another thing when it is used. A link that is neither ours nor root's is not followed, wherever it stands in the path
and whatever folder it lies in (the kernel's fs.protected_symlinks looks at everybody's folders alone): who laid it may
not write to where it leads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from typing import TypeAlias

_MOST_LINKS = 40
"""As many as the kernel follows: path_resolution(7)."""

_PRIVATE = 0o600
"""Of a new file, whatever the umask is: the kernel shows a map to who may look at the process and to nobody else, since
addresses are what an attack lacks. A core file is made so, too."""

_HOLD = getattr(os, "O_PATH", os.O_RDONLY) | os.O_NOFOLLOW | os.O_CLOEXEC


@contextlib.contextmanager
def _in_folder(path: str, *, itself: bool = False, makes: int = 0) -> Iterator[tuple[int, str]]:
    """The folder in which a file of this name lies or is made, held, and its name there; a link is none.

    `itself`: the name is that of a folder, which is held itself; `makes`: and made with these rights (less those that
    the umask takes) where there is none, as those on the way are. Raises OSError, by the path that was given: others
    were never heard of.
    """
    try:
        folder, name = _walk(f"{path}/." if itself or makes else path, makes)
        try:
            yield folder, name
        finally:
            os.close(folder)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from None


def _walk(path: str, makes: int) -> tuple[int, str]:
    steps = path.split("/")[::-1]  # those to come, the next at the end
    folder = os.open("/" if path.startswith("/") else ".", _HOLD | os.O_DIRECTORY)
    links = 0
    try:
        while True:
            step = steps.pop()
            if step in ("", "."):
                if not steps:
                    return folder, "."
                continue
            try:
                held = os.open(step, _HOLD, dir_fd=folder)
            except FileNotFoundError:
                if not steps:
                    return folder, step
                if not makes:
                    raise
                with contextlib.suppress(FileExistsError):  # somebody else made it meanwhile
                    os.mkdir(step, makes, dir_fd=folder)
                steps.append(step)
                continue
            leads_to = None
            try:
                found = os.fstat(held)
                if stat.S_ISLNK(found.st_mode):
                    links += 1
                    leads_to = _leads_to(held, found, links)
                elif not steps:
                    return folder, step
                else:
                    folder, held = held, folder
            finally:
                os.close(held)
            if leads_to is None:
                continue
            if steps and not found.st_size:  # of /proc: no path leads to what it shows (cwd, root)
                folder = _replaced(folder, os.open(step, _HOLD & ~os.O_NOFOLLOW | os.O_DIRECTORY, dir_fd=folder))
                continue
            steps += leads_to.split("/")[::-1]
            if leads_to.startswith("/"):
                folder = _replaced(folder, os.open("/", _HOLD | os.O_DIRECTORY))
    except BaseException:
        os.close(folder)
        raise


def _leads_to(held: int, found: os.stat_result, links: int) -> str:
    if links > _MOST_LINKS:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if found.st_uid not in (os.geteuid(), 0):
        raise OSError(errno.EACCES, "a symbolic link of somebody else's stands there, and is not followed")
    return os.readlink("", dir_fd=held)


def _replaced(old: int, new: int) -> int:
    os.close(old)
    return new


def _check_regular(folder: int, name: str) -> None:
    """Raises FileExistsError where something stands that is no regular file: a device would be gone, if replaced."""
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return
    _check_mode(found.st_mode)


def _check_mode(mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, "something that is no regular file stands there")


@contextlib.contextmanager
def held_folder(path: str, *, makes: int = 0) -> Iterator[int]:
    """A folder, held: what is done in it by this handle (`dir_fd`) is done nowhere else.

    `makes`: it is made with these rights where there is none, as those on the way are. Raises OSError, also for a link
    of somebody else's, here or on the way.
    """
    with _in_folder(path, itself=True, makes=makes) as (folder, _):
        yield folder


def make_folder(path: str, mode: int = 0o777) -> None:
    """A folder, and those on the way to it; no error where there is one. Raises OSError."""
    with _in_folder(path, makes=mode) as (folder, name):
        os.stat(name, dir_fd=folder)  # no folder: ENOTDIR


def open_regular(path: str, flags: int) -> int:
    """Open a regular file of this name to write into it, or make it (`flags`: as of open(2)).

    Raises OSError; FileExistsError where something stands that is no regular file, PermissionError where it is neither
    ours nor root's: whose it is could read what is written, and change it; and where it has another name as well: a
    hard link, which others may have made to a file of ours (where fs.protected_hardlinks is 0), would lead us there.
    """
    with _in_folder(path) as (folder, name):
        _check_regular(folder, name)
        # What came there since: a pipe would keep `open` waiting.
        descriptor = os.open(
            name, flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY, _PRIVATE, dir_fd=folder
        )
        try:
            found = os.fstat(descriptor)
            _check_mode(found.st_mode)
            if found.st_uid not in (os.geteuid(), 0):
                raise PermissionError(
                    errno.EACCES, "a file of somebody else's, who could read and change what is written"
                )
            if found.st_nlink > 1:
                raise PermissionError(
                    errno.EPERM, f"a file of {found.st_nlink} names (hard links): the others would be written too"
                )
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


Pieces: TypeAlias = "bytes | Iterable[bytes | int]"
"""What is written: all of it, or one piece after another; a number is a hole of so many bytes."""


def write_whole(path: str, content: Pieces, *, replace: bool = True, mode: int | None = None) -> None:
    """Write a file under a temporary name first, so that what stood there is replaced whole or not at all.

    A link stays, and what it leads to is replaced. Without `replace`
    nothing is replaced, whenever it came there. `mode`: who may read and write it; None: as what it replaces, and of
    somebody else's file nobody more than of a new one. Raises OSError; FileExistsError where something stands that is
    no regular file, or is not to be replaced.
    """
    with _in_folder(path) as (folder, name):
        _check_regular(folder, name)
        _write(folder, name, content, replace, mode)


def _write(folder: int, name: str, content: Pieces, replace: bool, mode: int | None) -> None:
    temporary = f".vmatlas-{secrets.token_hex(8)}.part"  # which nobody can have laid, nor have left
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, _PRIVATE if mode is None else mode, dir_fd=folder)
    try:  # what is not made here is not unlinked here
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)  # whatever the umask is
            elif replace:
                with contextlib.suppress(FileNotFoundError):
                    old = os.stat(name, dir_fd=folder, follow_symlinks=False)
                    os.fchmod(descriptor, _mode(old, os.fstat(descriptor)))
            for piece in [content] if isinstance(content, bytes) else content:
                if isinstance(piece, bytes):
                    file.write(piece)
                else:
                    file.seek(piece, os.SEEK_CUR)
            file.truncate()  # what ends with a hole, too
        if replace:
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        else:
            _move_to_free_name(folder, temporary, name)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):  # an interruption, after it got its name
            os.unlink(temporary, dir_fd=folder)
        raise


def _mode(old: os.stat_result, new: os.stat_result) -> int:
    """The rights to a file that takes the place of an old one; what it would run as is nobody's to inherit."""
    rights = stat.S_IMODE(old.st_mode) & 0o777
    return rights if old.st_uid == os.geteuid() else rights & stat.S_IMODE(new.st_mode)


def _move_to_free_name(folder: int, temporary: str, name: str) -> None:
    """Raises FileExistsError when the name is taken, by whatever came there since anybody looked."""
    try:
        os.link(temporary, name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, and what has it is one's own
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=folder))
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    else:
        os.unlink(temporary, dir_fd=folder)
