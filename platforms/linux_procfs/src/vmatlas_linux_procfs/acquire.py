"""Reads the text of /proc/PID/maps or smaps of a process of this machine, whole and untouched.

Traps of the kernel that are dealt with here, each seen on a running one:
- A descriptor of maps belongs to the memory that the process had when it was opened: after exec the text is empty.
- The text ends early, without a word, when the process ends or calls exec meanwhile.
- The first thread may have ended while others live on: then only theirs show the map.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import partial

from vmatlas.backend import LocalProcess, Reading
from vmatlas.model import Columns
from vmatlas.model.facts import Rows
from vmatlas.systems.linux import LinuxProcess, links
from vmatlas.systems.linux.host import process_error
from vmatlas.systems.linux.scratch import LABEL, Scratch
from vmatlas.systems.linux.vanishing import read_until_told
from vmatlas_linux_procfs.decode import (
    ESCAPE,
    LINE,
    MAPS,
    NATIVE,
    SMAPS,
    columns_of_known,
    columns_of_native,
)
from vmatlas_linux_procfs.open_names import open_names

_CHUNK = 8192
"""The kernel gives at most a page of text a read, more only for one long line."""

_LAST = re.compile(rb"f{8,}[0-9a-f]{8}-[0-9a-f]{16} ..x. .*\n")
"""The last line of a whole text on x86-64 ([vsyscall]), unless the kernel was started with vsyscall=none. No memory of
the process lies up there."""

_SCRATCH = re.compile(re.escape(b" " + LABEL + b"\n"))


def acquire(process: LocalProcess, name: str) -> Reading:
    """`name` is "maps" or "smaps". Raises NoSuchProcess, AccessDenied, OperationFailed, TornRead."""
    if not isinstance(process, LinuxProcess):
        raise TypeError("a process of this machine is opened by vmatlas.systems.linux")

    def ask(asked: LinuxProcess) -> Reading | None:
        text = _read_self(asked, name) if asked.is_self else _read(asked, name)
        return _settled(asked, name, text) if text else None

    return read_until_told(process, name, name, ask)


def read(process: LocalProcess, name: str, most: int) -> Columns | None:
    """Acquire and decode in one go, by the compiled twin; None: to be asked in two steps, which tell what is wrong.

    So it is for more than `most` regions, unless that is 0, and for all that is not plain: a process that has no
    memory (any more), regions out of order, one's own map.
    """
    if NATIVE is None or not isinstance(process, LinuxProcess) or process.is_self:
        return None
    descriptor = process.descriptor(name, lambda: process.open_file(name))
    found = NATIVE.read(descriptor, name == "smaps", most)
    if found is None:
        return None
    if (known := columns_of_known(found)) is not None:
        return known
    rows: Rows = found[0] if isinstance(found, tuple) else found
    if any(ESCAPE in file for file, _ in rows.facts()):
        return None
    columns = columns_of_native(found, links.NOTHING)
    if columns is not None and (names := links.open_names(columns)):
        return columns_of_native(found, links.settle(names, process))
    return columns


def reads_like(process: LocalProcess, streams: Mapping[str, bytes]) -> bool | None:
    """Whether the map reads just as it did, found out without an object made of it; None where it cannot be told."""
    if NATIVE is None or not isinstance(process, LinuxProcess):
        return None
    name = next((each for each in (SMAPS, MAPS) if streams.get(each)), None)
    if name is None:
        return None
    descriptor = process.descriptor(name, lambda: process.open_file(name))
    same: bool = NATIVE.reads_like(descriptor, streams[name])
    return same


def _read(process: LinuxProcess, name: str) -> bytes:
    """The whole text; empty when the memory that the descriptor belongs to is gone, or went meanwhile."""
    descriptor = process.descriptor(name, lambda: process.open_file(name))
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = b"".join(iter(partial(os.read, descriptor, _CHUNK), b""))
        return text if _is_whole(descriptor, text) else b""
    except OSError as error:
        raise process_error(error, process.pid) from None


def _is_whole(descriptor: int, text: bytes) -> bool:
    """Whether the memory was still there after the last byte was read, and so was not cut off."""
    if not text or _LAST.fullmatch(text, text.rfind(b"\n", 0, -1) + 1):
        return bool(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return bool(os.read(descriptor, 1))


def _read_self(process: LinuxProcess, name: str) -> bytes:
    """One's own map, without the memory that reading it takes."""
    descriptor = process.descriptor(name, lambda: process.open_file(name))
    size = 1 << 18
    while True:
        with Scratch(size) as scratch:
            filled = 0
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                while filled < size and (count := os.readv(descriptor, [scratch.view[filled:]])):
                    filled += count
            except OSError as error:
                raise process_error(error, process.pid) from None
            if filled < size:
                return _without_scratch(bytes(scratch.view[:filled]))
        size *= 4


def _without_scratch(text: bytes) -> bytes:
    """The text without the lines of scratch memory: this reading's, and that of other threads that read meanwhile."""
    kept: list[bytes] = []
    position = 0
    for found in _SCRATCH.finditer(text):
        begin = text.rfind(b"\n", 0, found.start()) + 1
        line = LINE.match(text, begin)
        if line is not None and line[5].split(None, 2)[2:] == [LABEL]:
            kept.append(text[position:begin])
            following = LINE.search(text, found.end())
            position = len(text) if following is None else following.start()
    return b"".join([*kept, text[position:]])


def _settled(process: LinuxProcess, name: str, text: bytes) -> Reading:
    """The text, with the file system's answer for the names that only it can settle."""
    names = open_names(text, process.mapped_name)
    return Reading({name: text, **links.settle(names, process).streams()} if names else {name: text})
