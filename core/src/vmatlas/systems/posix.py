"""The machine that this Python runs on, and its user, as POSIX tells them on every system."""

from __future__ import annotations

import os
import stat
import sys

from vmatlas.model.system import SystemInfo, has_64_bits


def describe_machine(system: str) -> SystemInfo:
    """From uname(2). The kernel has 64 bits if its processor's name says so, or this Python has."""
    uname = os.uname()
    return SystemInfo(
        system=system,
        release=uname.release,
        version=uname.version,
        machine=uname.machine,
        byte_order=sys.byteorder,
        pointer_width=64 if has_64_bits(uname.machine) or sys.maxsize > 2**32 else 32,
        page_size=os.sysconf("SC_PAGESIZE"),
    )


def read_plain(path: str, most: int) -> tuple[bytes, float]:
    """At most so many bytes of a plain file, and when it was written: nothing else is waited for, as a pipe would be.

    Raises OSError, and ValueError for what is no plain file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError(f"{path} is no file")
        pieces: list[bytes] = []
        while most > 0 and (piece := os.read(descriptor, most)):
            pieces.append(piece)
            most -= len(piece)
        return b"".join(pieces), status.st_mtime
    finally:
        os.close(descriptor)


def describe_user() -> str:
    """In words: "uid 1000", or "uid 0, root"."""
    return f"uid {os.getuid()}" + (", root" if os.geteuid() == 0 else "")
