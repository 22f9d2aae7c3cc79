"""Which files the package manager of this machine brought: dpkg's lists."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable

LISTS = "/var/lib/dpkg/info"
DIVERSIONS = "/var/lib/dpkg/diversions"
_MOST = 1 << 28
"""Bytes of lists, in all. A desktop has some 40 MiB."""
_MERGED = (b"/bin/", b"/sbin/", b"/lib", b"/lib32/", b"/lib64/", b"/libx32/", b"/libo32/")
"""What /usr has as well, where the two were merged: a list may name either (dpkg's lists of Debian 12 do)."""


def known() -> Callable[[str], bool | None] | None:
    """Whether a package that is installed has a file of this path; None where dpkg has no lists here.

    deb(5), dpkg(1): info/PACKAGE.list has a path in each line. What was diverted (dpkg-divert(1)) has another name.
    """
    files = _files()
    return None if files is None else lambda path: _plain(os.fsencode(path)) in files


@functools.cache
def _files() -> frozenset[bytes] | None:
    try:
        names = [name for name in os.listdir(LISTS) if name.endswith(".list")]
    except OSError:
        return None
    if not names:
        return None
    found: set[bytes] = set()
    left = _MOST
    for name in names:
        try:
            with open(f"{LISTS}/{name}", "rb") as file:
                text = file.read(left + 1)
        except OSError:
            continue  # removed meanwhile
        left -= len(text)
        if left < 0:
            return None
        found.update(map(_plain, text.split(b"\n")))
    found.update(map(_plain, _diverted()))
    return frozenset(found)


def _diverted() -> list[bytes]:
    """The names to which files of packages were moved: the second line of each three."""
    try:
        with open(DIVERSIONS, "rb") as file:
            return file.read(_MOST).split(b"\n")[1::3]
    except OSError:
        return []


def _plain(path: bytes) -> bytes:
    """Without /usr before what may lie in both."""
    return path[4:] if path.startswith(b"/usr/") and path[4:].startswith(_MERGED) else path
