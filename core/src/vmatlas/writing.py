"""Files that we write where somebody else may have laid something: the one place that makes them."""

from __future__ import annotations

import errno
import os
import stat

_MOST_LINKS = 40
"""As many as the kernel follows: path_resolution(7)."""


def end_of_links(path: str) -> str:
    """Where a file of this name is made: what the name is a link to, if it is one.

    Raises OSError: ELOOP, and EACCES for a link that is neither ours nor root's, in more folders than by the kernel's
    fs.protected_symlinks: who laid it may not write to where it leads.
    """
    for _ in range(_MOST_LINKS):
        try:
            link = os.lstat(path)
        except FileNotFoundError:
            return path
        if not stat.S_ISLNK(link.st_mode):
            return path
        if link.st_uid not in (os.geteuid(), 0):
            raise OSError(errno.EACCES, "a symbolic link of somebody else's stands there, and is not followed")
        path = os.path.join(os.path.dirname(path), os.readlink(path))
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))


def check_regular(path: str) -> None:
    """Raises FileExistsError where something stands that is no regular file: a device would be gone, if replaced."""
    if os.path.exists(path) and not os.path.isfile(path):
        raise FileExistsError(errno.EEXIST, "something that is no regular file stands there", path)


def write_whole(path: str, content: bytes, *, replace: bool = True, mode: int | None = None) -> None:
    """Write a file under a temporary name first, so that what stood there is replaced whole or not at all.

    A link stays, and what it leads to is replaced: see `end_of_links`. Without `replace` nothing is replaced, whenever
    it came there. `mode`: who may read and write it; None: as what it replaces, and of somebody else's file nobody more
    than of a new one. Raises OSError, by the name that was given: another one was never heard of.
    """
    try:
        final = end_of_links(path)
        check_regular(final)
        _write(final, content, replace, mode)
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), path) from None


def _write(final: str, content: bytes, replace: bool, mode: int | None) -> None:
    temporary = f"{final}.{os.getpid()}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o666 if mode is None else mode)
    try:  # what is not made here is not unlinked here
        with open(descriptor, "wb") as file:
            if mode is not None:
                os.fchmod(descriptor, mode)  # whatever the umask is
            elif replace and os.path.exists(final):
                os.fchmod(descriptor, _mode(os.stat(final), os.fstat(descriptor)))
            file.write(content)
        if replace:
            os.replace(temporary, final)
        else:
            _move_to_free_name(temporary, final)
    except BaseException:
        os.unlink(temporary)
        raise


def _mode(old: os.stat_result, new: os.stat_result) -> int:
    """The rights to a file that takes the place of an old one; what it would run as is nobody's to inherit."""
    rights = stat.S_IMODE(old.st_mode) & 0o777
    return rights if old.st_uid == os.geteuid() else rights & stat.S_IMODE(new.st_mode)


def _move_to_free_name(temporary: str, final: str) -> None:
    """Raises FileExistsError when the name is taken, by whatever came there since anybody looked."""
    try:
        os.link(temporary, final)
    except FileExistsError:
        raise
    except OSError:  # a file system without links: the name is taken first, and what has it is one's own
        os.close(os.open(final, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.replace(temporary, final)
    else:
        os.unlink(temporary)
