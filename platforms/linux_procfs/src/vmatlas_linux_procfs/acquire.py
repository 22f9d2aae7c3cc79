"""Reads the text of /proc/PID/maps or smaps of a process of this machine, whole and untouched.

Traps of the kernel that are dealt with here, each seen on a running one:
- A descriptor of maps belongs to the memory that the process had when it was opened: after exec the text is empty, or
  what others still have (vfork). So each reading opens it (`LinuxProcess.memory_file`).
- The text ends early, without a word, when the process ends or calls exec meanwhile.
- The first thread may have ended while others live on: then only theirs show the map.
- The text may lack memory that is mapped all the time: so each hole that it shows is asked about (see `unlisted`).
"""

from __future__ import annotations

import os
import sys
from errno import ESRCH

from vmatlas.backend import LocalProcess, Reading
from vmatlas.errors import Unsupported
from vmatlas.patterns import pattern
from vmatlas.systems.linux import LinuxProcess, links
from vmatlas.systems.linux.host import MOST_TOLD, process_error, read_whole, too_long
from vmatlas.systems.linux.scratch import LABEL, Scratch
from vmatlas.systems.linux.vanishing import read_until_told
from vmatlas_linux_procfs.by_twin import opened
from vmatlas_linux_procfs.decode import LINE, MAPS, NATIVE, SMAPS
from vmatlas_linux_procfs.emulated import without_repeats
from vmatlas_linux_procfs.holes import ask_about_holes
from vmatlas_linux_procfs.open_names import open_names
from vmatlas_linux_procfs.unlisted import READINGS, UNLISTED, lines_of, untold, without

_CHUNK = 8192
"""The kernel gives at most a page of text a read, more only for one long line."""

_MOST = {MAPS: MOST_TOLD // 2, SMAPS: MOST_TOLD}
"""Bytes of a text: a million regions have fewer, with the names that are in use."""

_LAST = pattern(rb"ffffffffff600000-ffffffffff601000 ..xp .* \[vsyscall\]\n")
"""The last line of a whole text on x86-64, unless the kernel was started with vsyscall=none."""

_SCRATCH = b" " + LABEL + b"\n"


def acquire(process: LocalProcess, name: str) -> Reading:
    """`name` is "maps" or "smaps". Raises NoSuchProcess, AccessDenied, OperationFailed, TornRead."""
    if not isinstance(process, LinuxProcess):
        raise TypeError("a process of this machine is opened by vmatlas.systems.linux")

    def ask(asked: LinuxProcess) -> Reading | None:
        if asked.is_self and asked.emulator is not None:
            return _settled(asked, name, _read_emulated(asked, name), b"")
        for _ in range(READINGS):
            text, missed = _read_self(asked, name) if asked.is_self else _read(asked, name)
            if not text:
                return None
            if not missed:
                break
        return _settled(asked, name, text, missed)

    return read_until_told(process, name, ask)


def _read(process: LinuxProcess, name: str) -> tuple[bytes, bytes]:
    """The whole text, and what its holes hold; empty when the memory that the descriptor belongs to is gone, or went
    meanwhile."""
    descriptor, maps = opened(process, name)
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = read_whole(descriptor, name, process.pid, _CHUNK, _MOST[name])
        return (text, _unlisted(maps, text)) if _is_whole(descriptor, text) else (b"", b"")
    except OSError as error:
        if error.errno != ESRCH:
            raise process_error(error, process.pid) from None
        return b"", b""  # the ioctl says so of memory that exec has replaced; whether that was all, `stat` tells


def _is_whole(descriptor: int, text: bytes) -> bool:
    """Whether the memory was still there after the last byte was read, and so was not cut off."""
    if not text or _LAST.fullmatch(text, text.rfind(b"\n", 0, -1) + 1):
        return bool(text)
    os.lseek(descriptor, 0, os.SEEK_SET)
    return bool(os.read(descriptor, 1))


def _unlisted(maps: int, text: bytes | memoryview) -> bytes:
    """What is mapped in the holes that a text shows. Raises OSError."""
    if NATIVE is None:
        return ask_about_holes(maps, text)
    found: bytes = NATIVE.unlisted(maps, text)
    return found


def _read_self(process: LinuxProcess, name: str) -> tuple[bytes, bytes]:
    """The same of one's own map, without the memory that reading it takes."""
    descriptor, maps = opened(process, name)
    size = 1 << 18
    while size < 4 * _MOST[name]:
        with Scratch(size) as scratch:
            filled = 0
            try:
                os.lseek(descriptor, 0, os.SEEK_SET)
                while filled < size and (count := os.readv(descriptor, [scratch.view[filled:]])):
                    filled += count
                if filled < size:
                    with scratch.view[:filled] as text:
                        missed = without(_unlisted(maps, text), LABEL, sys.byteorder)
                        return _without_scratch(bytes(text)), missed
            except OSError as error:
                raise process_error(error, process.pid) from None
        size *= 4
    raise too_long(name, _MOST[name], process.pid)


def _read_emulated(process: LinuxProcess, name: str) -> bytes:
    """One's own map where an emulator runs us: asked for by its path, for which the emulator tells our own memory.

    Below the descriptor there is the emulator's. The text is made when the file is opened: what is read is not in it.
    """
    try:
        with open(f"/proc/self/{name}", "rb", buffering=0) as file:
            if os.fstat(file.fileno()).st_dev == os.fstat(process.directory).st_dev:
                raise Unsupported(
                    f"the emulator that runs this process ({process.emulator}) does not tell {name} of it",
                    pid=process.pid,
                )
            return without_repeats(file.read())
    except OSError as error:
        raise process_error(error, process.pid) from None


def _without_scratch(text: bytes) -> bytes:
    """The text without the lines of scratch memory: this reading's, and that of other threads that read meanwhile."""
    kept: list[bytes] = []
    position = 0
    end = 0
    while (found := text.find(_SCRATCH, end)) >= 0:
        begin, end = text.rfind(b"\n", 0, found) + 1, found + len(_SCRATCH)
        line = LINE.match(text, begin)
        if line is not None and line[5].split(None, 2)[2:] == [LABEL]:
            kept.append(text[position:begin])
            following = LINE.search(text, end)
            position = len(text) if following is None else following.start()
    return b"".join([*kept, text[position:]])


def _settled(process: LinuxProcess, name: str, text: bytes, missed: bytes) -> Reading:
    """The text, with what its holes hold, and the file system's answer for the names that only it can settle."""
    streams = {name: text}
    incomplete = None
    if missed:
        streams[UNLISTED] = missed
        incomplete = untold(name, missed, sys.byteorder)
        text += b"".join(line.text for line in lines_of(missed, sys.byteorder))
    if names := open_names(text, process.mapped_name):
        streams |= links.settle(names, process).streams()
    return Reading(streams, incomplete)
