"""/proc/PID/smaps_rollup: the memory in use of a whole process, of one or of many at once.

The kernel (since 4.14; fs/proc/task_mmu.c, `show_smaps_rollup`) adds up what smaps tells of each region, before it
rounds, and makes 700 bytes of it instead of as many for each region. One read(2) gives all of them.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping, Sequence
from errno import EACCES, EPERM

from vmatlas.backend import LocalProcess, Reading, Totals
from vmatlas.errors import MalformedData, NoSuchProcess, Unsupported
from vmatlas.model import MemoryUse
from vmatlas.model.memory import UNTOLD, memory_of_keys
from vmatlas.patterns import pattern
from vmatlas.systems.linux import LinuxProcess, judge_empty_map
from vmatlas.systems.linux.host import MOST_TOLD, process_error
from vmatlas.systems.linux.stat import has_ended, parse_stat, process_of
from vmatlas.systems.linux.vanishing import read_until_told
from vmatlas_linux_procfs.decode import MOST_KEYS, NATIVE, STAT

ROLLUP = "smaps_rollup"

_MOST_DIGITS = 17
"""What a kernel of 64 bits can count in kB has no more."""
_TITLE = pattern(rb"[0-9a-f]{1,16}-[0-9a-f]{1,16} ---p 0{8} 00:00 0 +\[rollup\]\n")
_LINES = pattern(rb"(?:[A-Za-z][A-Za-z0-9_]*+: *+[0-9]{1,%d} kB\n)*+" % _MOST_DIGITS)
_MOST_KNOWN = 16
_LONGEST = 1 << 14
"""Bytes of a text: the kernel makes 700, and never more than a page."""
_ROOM = 4096
"""Of a page the kernel gives all in one read; it has 24 lines of 28 bytes."""


def acquire_rollup(process: LocalProcess) -> Reading:
    """Raises NoSuchProcess, AccessDenied, Unsupported (before Linux 4.14), OperationFailed, TornRead."""
    if not isinstance(process, LinuxProcess):
        raise TypeError("a process of this machine is opened by vmatlas.systems.linux")
    if process.is_self and process.emulator is not None:
        raise Unsupported(f"the emulator that runs this process ({process.emulator}) does not tell totals of it")

    def ask(asked: LinuxProcess) -> Reading | None:
        try:
            text = asked.read_file(ROLLUP)
        except NoSuchProcess:  # ESRCH: it has no memory (any more), which `stat` explains
            return None
        return Reading({ROLLUP: text}) if text else None

    return read_until_told(process, ROLLUP, ask)


def totals_of_streams(streams: Mapping[str, bytes], *, pid: int) -> MemoryUse:
    """Raises MalformedData, NoSuchProcess, and Unsupported where the streams do not have it."""
    text = streams.get(ROLLUP)
    if text is None:
        raise Unsupported("the capture has no totals: it was made without residency, or before they were recorded")
    if not text:
        judge_empty_map(streams.get(STAT), ROLLUP, pid=pid)
        return UNTOLD
    return parse_rollup(text, pid=pid)


def parse_rollup(text: bytes, *, pid: int | None = None) -> MemoryUse:
    """Raises MalformedData."""
    if len(text) > _LONGEST:  # before it is taken apart: a word costs many times its bytes
        raise MalformedData(ROLLUP, _LONGEST, f"the end of a text of at most {_LONGEST:,} bytes", pid=pid)
    words = text.split()  # of the title 6; then each key with its colon, the number, and kB
    keys = tuple(words[6::3])
    names, numbers = _KNOWN.get(keys), words[7::3]
    if (
        names is None
        or words[1:6] != _TITLE_WORDS
        or words[8::3].count(b"kB") != len(names)
        or len(numbers) != len(names)
        or not b"".join(numbers).isdigit()
        or max(map(len, numbers)) > _MOST_DIGITS
        or text.count(b" kB\n") != len(names)
        or text.count(b"\n") != 1 + len(names)
    ):
        names = _names(text, keys, pid)
    return memory_of_keys(dict(zip(names, [int(number) << 10 for number in numbers], strict=True)))


_TITLE_WORDS = [b"---p", b"00000000", b"00:00", b"0", b"[rollup]"]
_KNOWN: dict[tuple[bytes, ...], tuple[str, ...]] = {}
"""The keys that a text had, and what they are called: a kernel always writes the same."""


def _names(text: bytes, keys: tuple[bytes, ...], pid: int | None) -> tuple[str, ...]:
    """Looks at the whole text more closely. Raises MalformedData."""
    title = _TITLE.match(text)
    if title is None:
        raise MalformedData(ROLLUP, 0, "START-END ---p 00000000 00:00 0 [rollup]", found=text[:80], pid=pid)
    lines = _LINES.match(text, title.end())
    if lines is None or lines.end() != len(text) or lines.end() == title.end():
        stop = title.end() if lines is None else lines.end()
        raise MalformedData(ROLLUP, stop, "lines 'Key: NUMBER kB'", found=text[stop : stop + 40], pid=pid)
    if len(keys) > MOST_KEYS or len(set(keys)) != len(keys):
        raise MalformedData(ROLLUP, title.end(), f"at most {MOST_KEYS} keys, each once", pid=pid)
    names = tuple(key[:-1].decode("ascii") for key in keys)
    if len(_KNOWN) < _MOST_KNOWN:
        _KNOWN[keys] = names
    return names


def totals_of(pids: Sequence[int], *, described: bool, counted: bool) -> list[Totals]:
    """See `vmatlas.backend.TellsTotalsOfMany`. What is not plain is left to be asked by itself."""
    numbers = array("i", pids)
    found = read_rollups(numbers, described, counted) if NATIVE is None else NATIVE.rollups(numbers, described, counted)
    return [_told(pid, *each) for pid, each in zip(pids, found, strict=True)]


_Read = tuple[bytes | None, bytes | None, int, int]
"""The text of smaps_rollup (None where it could not be read), of stat (None where it was not asked for or could not be
read), the number of lines of maps (-1 where it was not asked for, or could not be read), and why the text could not be
opened (an errno; 0 where it could, or the process is gone)."""


def read_rollups(pids: Sequence[int], described: bool, counted: bool) -> list[_Read]:
    """What the compiled twin does in one call. `stat` is read too where the totals could not be: it tells why."""
    return [_read_one(pid, described, counted) for pid in pids]


def _read_one(pid: int, described: bool, counted: bool) -> _Read:
    try:
        folder = os.open(f"/proc/{pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None, None, -1, 0
    try:
        text, error = _first(folder, ROLLUP)
        stat = _first(folder, STAT)[0] if described or text is None else None
        return text, stat, _lines(folder) if counted and text is not None else -1, error
    finally:
        os.close(folder)


def _first(folder: int, name: str) -> tuple[bytes | None, int]:
    """A short file, which the kernel gives in one read; None where it is empty or cannot be read. Why it could not be
    opened, or 0."""
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError as error:
        return None, error.errno or 0
    try:
        return os.read(descriptor, _ROOM) or None, 0
    except OSError:
        return None, 0
    finally:
        os.close(descriptor)


def _lines(folder: int) -> int:
    """How many lines maps has; -1 where it cannot be read."""
    try:
        descriptor = os.open("maps", os.O_RDONLY | os.O_CLOEXEC, dir_fd=folder)
    except OSError:
        return -1
    lines = read = 0
    try:
        while part := os.read(descriptor, 1 << 16):
            lines += part.count(b"\n")
            read += len(part)
            if read > MOST_TOLD:
                return -1
        return lines
    except OSError:
        return -1
    finally:
        os.close(descriptor)


_Apart = tuple[bytes, tuple[int, ...]]
"""The text taken apart by the twin: the keys, each with its colon, and the numbers in bytes."""


def memory_apart(text: bytes | _Apart, *, pid: int | None = None) -> MemoryUse:
    """What a text tells, or one that the twin took apart. Raises MalformedData."""
    if isinstance(text, bytes):
        return parse_rollup(text, pid=pid)
    keys, numbers = text
    names = _APART.get(keys)
    if names is None:
        names = tuple(keys[:-1].decode("ascii").split(":"))
        if len(set(names)) != len(names):
            raise MalformedData(ROLLUP, 0, "each key once", pid=pid)
        if len(_APART) < _MOST_KNOWN:
            _APART[keys] = names
    return memory_of_keys(dict(zip(names, numbers, strict=True)))


_APART: dict[bytes, tuple[str, ...]] = {}


def _told(pid: int, text: bytes | _Apart | None, line: bytes | None, regions: int, error: int) -> Totals:
    stat = None
    try:
        stat = None if line is None else parse_stat(line, pid=pid)
        memory = None if text is None else memory_apart(text, pid=pid)
    except MalformedData:  # told by asking it alone
        memory = None
    why = None
    if error in (EACCES, EPERM):
        why = process_error(OSError(error, os.strerror(error)), pid)
    elif text is None and stat is not None and stat.is_gone and not stat.has_others:
        why = has_ended(stat, pid)
    return Totals(None if stat is None else process_of(stat), memory, regions if regions >= 0 else None, why)
