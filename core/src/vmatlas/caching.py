"""Where what was fetched is kept: one folder of each user, for files of debuginfod servers and images of machines.

What is in it is believed, so nobody else may write to it, nor put another folder in its place. No I/O but looking.
"""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

PLACE = "VMATLAS_CACHE"
"""The variable that names it."""

_MOST_LINKS = 40
"""On the way to a folder, as for the kernel."""


def cache_root() -> Path:
    """`$VMATLAS_CACHE`, or `~/.cache/vmatlas` (`$XDG_CACHE_HOME/vmatlas`), whether it is there or not.

    Raises RuntimeError and OSError where there is no such place: a home that nobody knows, a current folder that is
    gone.
    """
    if named := os.environ.get(PLACE):
        return Path(named).expanduser().absolute()
    # Relative ones are to be ignored (XDG Base Directory Specification); one of somebody else's is what sudo -E left.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() and is_ours(base) else _home() / ".cache") / "vmatlas"


def _home() -> Path:
    """This user's home; where HOME is somebody else's, as sudo may leave it, the one in the system's list of users."""
    import pwd

    home = Path.home()
    with contextlib.suppress(KeyError):
        return home if is_ours(home) else Path(pwd.getpwuid(os.geteuid()).pw_dir)
    return home


def is_ours(folder: Path) -> bool:
    """Whether nobody but this user and root can change what is in a folder; true of what is none, or not there yet."""
    try:
        told = folder.stat()
    except OSError:
        return True
    if not stat.S_ISDIR(told.st_mode):
        return True
    return told.st_uid in (os.geteuid(), 0) and not _others_write(told)


def _others_write(told: os.stat_result) -> bool:
    # Where each user has a group of their own, of the same number, folders are often made writable for that.
    return bool(told.st_mode & (stat.S_IWOTH | (0 if told.st_gid == told.st_uid else stat.S_IWGRP)))


def is_safe_way(path: Path) -> bool:
    """Whether what others can write to on the way to a path lets them put nothing else in its place.

    In a folder that others can write to, only what is ours or root's is followed, be it a folder or a link, and only
    where they cannot rename it (the sticky bit, as /tmp has it). Who owns a folder on the way that nobody else writes
    to is trusted: whoever names the path knows it. What is not there yet will be ours.
    """
    trusted = (os.geteuid(), 0)
    left = list(reversed(path.absolute().parts[1:]))
    place, links = Path("/"), 0
    while left:
        part = left.pop()
        if part == "..":
            place = place.parent
            continue
        try:
            holder, told = place.lstat(), (place / part).lstat()
        except FileNotFoundError:
            return not _others_write(place.lstat()) or bool(place.lstat().st_mode & stat.S_ISVTX)
        except OSError:  # a file on the way: whoever uses the path is told
            return True
        if _others_write(holder) and not (
            holder.st_mode & stat.S_ISVTX and holder.st_uid in trusted and told.st_uid in trusted
        ):
            return False
        if not stat.S_ISLNK(told.st_mode):
            place /= part
            continue
        links += 1
        if links > _MOST_LINKS:
            return False
        leads = Path(os.readlink(place / part))
        place = Path("/") if leads.is_absolute() else place
        left += reversed(leads.parts[1:] if leads.is_absolute() else leads.parts)
    return True
