"""Asks this machine's kernel about pages, and keeps what it says. It never looks into the answers.

The short ways (`read_scan`, `read_entries`) have the compiled twin ask, and make runs of the answers as they come:
native/scan.c and entries.c, which an agent has as well.
"""

from __future__ import annotations

import fcntl
import functools
import mmap
import os
import struct
import sys
from array import array
from collections.abc import Iterator
from errno import EFAULT, EINTR, EINVAL, ENOENT, ENOTTY, ESRCH
from itertools import groupby

from vmatlas.backend import LocalProcess, Reading
from vmatlas.capture import LARGEST
from vmatlas.errors import NoSuchProcess, OperationFailed, Unsupported, VmatlasError
from vmatlas.model import Query
from vmatlas.model.pages import PageState, RunColumns
from vmatlas.systems.linux import LinuxProcess
from vmatlas.systems.linux.host import process_error
from vmatlas.systems.linux.proc import told_by
from vmatlas.systems.linux.vanishing import read_until_told
from vmatlas_linux_pagemap.decode import ENTRIES, NATIVE, SCANNED
from vmatlas_linux_pagemap.layout import (
    COMPILED_OUT,
    ENTRY,
    ENTRY_SOFT_DIRTY,
    FIRST_KNOWN,
    GUARD,
    PAGEMAP_SCAN,
    REGION_SIZE,
    SCAN_SIZE,
    SOFT_DIRTY,
    UPPER_BITS,
    pair,
    scan_record,
)
from vmatlas_linux_pagemap.question import (
    Masks,
    below_the_top,
    masks_of,
    states_of_categories,
    states_of_entries,
    told_by_bits,
    told_by_masks,
)

ROOM = 1024
"""Answers that one call may give (24 KiB). More is no quicker, and half of it 1.03 times as slow (Linux 6.18)."""

AT_ONCE = 1 << 17
"""Entries that one reading of pagemap gives (1 MiB)."""

_PAGEMAP = "pagemap"
_ZEROS = bytes(AT_ONCE * ENTRY)
_NOWHERE = (mmap.PAGESIZE, 2 * mmap.PAGESIZE)
"""What is asked about where nothing is: what the kernel knows is told by its answer all the same."""

_MACHINE = os.uname().machine
_SCAN = scan_record(sys.byteorder)
_PAIR = pair(sys.byteorder)
_WALK_END_AT, _VEC_AT = 32, 40
"""Where the kernel says how far it came; the pointer to the room for answers."""
_NUMBER = struct.Struct("=Q")


def probe_scan() -> tuple[int, str] | None:
    """Whether this kernel has the ioctl: None, or the errno and words of a question that asks for nothing."""
    try:
        descriptor = os.open("/proc/self/pagemap", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno or 0, COMPILED_OUT if error.errno == ENOENT else f"/proc/self/pagemap: {error.strerror}"
    try:
        fcntl.ioctl(descriptor, PAGEMAP_SCAN, bytearray(SCAN_SIZE))
    except OSError as error:
        if error.errno == ENOTTY:
            return ENOTTY, "the kernel is older than 6.7: no PAGEMAP_SCAN ioctl (ENOTTY)"
        if error.errno != EINVAL:  # what stands between does not hand it on: an emulator, a filter of system calls
            return error.errno or 0, f"PAGEMAP_SCAN is not answered: {error.strerror}"
    finally:
        os.close(descriptor)
    return None


def acquire_scan(process: LocalProcess, query: Query) -> Reading:
    """By PAGEMAP_SCAN. Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed."""
    asked = _own(process)
    masks = masks_of(query.pages or PageState.NONE)
    if masks.told & SOFT_DIRTY and not tells_soft_dirty():
        masks = masks.without(SOFT_DIRTY)
    return read_until_told(asked, SCANNED, lambda one: _scan(one, query, masks))


def _own(process: LocalProcess) -> LinuxProcess:
    if not isinstance(process, LinuxProcess):
        raise TypeError("a process of this machine is opened by vmatlas.systems.linux")
    if process.is_self and process.emulator is not None:
        raise Unsupported(told_by(process.emulator), pid=process.pid)
    return process


def _file(process: LinuxProcess) -> int | None:
    """A descriptor of pagemap; None where newer kernels do not open it: see `_opened`."""
    try:
        return process.memory_file(_PAGEMAP)
    except NoSuchProcess:
        return None


def _opened(process: LinuxProcess) -> int | None:
    """The descriptor of pagemap; None where the process has no memory (any more).

    Of a process that has none (the kernel's own, a zombie) newer kernels do not open the file (ESRCH). Older ones do,
    read nothing from it, and fall over a null pointer when PAGEMAP_SCAN is asked of it (`proc_mem_open` of
    fs/proc/base.c gave NULL, and `do_pagemap_scan` did not look): so it is never asked there.
    """
    if (descriptor := _file(process)) is None:
        return None
    try:
        return descriptor if os.pread(descriptor, ENTRY, 0) else None
    except OSError as error:
        if error.errno == ESRCH:
            return None
        raise process_error(error, process.pid) from None


def _scan(process: LinuxProcess, query: Query, masks: Masks) -> Reading | None:
    """None when the memory that the descriptor belongs to is gone."""
    if (descriptor := _opened(process)) is None:
        return None
    room = array("Q", bytes(ROOM * REGION_SIZE))
    answers = memoryview(room).cast("B")
    kept: list[bytes] = []
    size = 0
    for start, end in _ranges(query) if query.ranges else (_NOWHERE,):
        while start < end:
            argument = bytearray(SCAN_SIZE)
            if masks.anyof:
                try:
                    count = _ask(descriptor, argument, room, start, end, masks)
                except OSError as error:
                    if error.errno == EINVAL and masks.told & ~FIRST_KNOWN:
                        masks = masks.without(GUARD)
                        continue
                    if error.errno == EFAULT and (highest := _highest_end(descriptor, start, end, masks)) < end:
                        end = highest
                        continue
                    if error.errno == ESRCH:
                        return None
                    raise _failed(error, process) from None
                walk_end, _ = _PAIR.unpack_from(argument, _WALK_END_AT)
                if not count and not walk_end:  # nothing was walked
                    return None
            else:
                count, walk_end = 0, end  # no bit is left to ask for: without one the kernel would give all pages
                _SCAN.pack_into(argument, 0, SCAN_SIZE, 0, start, end, end, 0, 0, 0, 0, 0, 0, 0)
            count = count if query.ranges else 0
            _NUMBER.pack_into(argument, _VEC_AT, count)
            kept += bytes(argument), answers[: count * REGION_SIZE].tobytes()
            size += SCAN_SIZE + count * REGION_SIZE
            if size > LARGEST:
                raise too_many(process.pid)
            if count < ROOM:
                break
            # After more than 512 answers it is stale, and never below the last of them.
            start = max(walk_end, room[count * 3 - 2])
    return Reading({SCANNED: b"".join(kept)})


def _ranges(query: Query) -> list[tuple[int, int]]:
    return below_the_top(query.ranges, _MACHINE, mmap.PAGESIZE)


def _highest_end(descriptor: int, start: int, end: int, masks: Masks) -> int:
    """The highest end that a range from `start` on may have; `start` where it may have none.

    The kernel looks at the range before it looks at the room for answers, and room of no address is EINVAL: so it walks
    nothing to tell.
    """
    page = mmap.PAGESIZE
    low, high = 0, (end - start) // page
    while high - low > 1:
        middle = (low + high) // 2
        argument = bytearray(SCAN_SIZE)
        _SCAN.pack_into(
            argument, 0, SCAN_SIZE, 0, start, start + middle * page, 0, 0, 1, 0, 0, 0, masks.anyof, masks.told
        )
        try:
            fcntl.ioctl(descriptor, PAGEMAP_SCAN, argument)
            is_too_high = False
        except OSError as error:
            is_too_high = error.errno == EFAULT
        low, high = (low, middle) if is_too_high else (middle, high)
    return start + low * page


def _ask(descriptor: int, argument: bytearray, room: array[int], start: int, end: int, masks: Masks) -> int:
    """The number of answers in `room`. Raises OSError."""
    _SCAN.pack_into(
        argument, 0, SCAN_SIZE, 0, start, end, 0, room.buffer_info()[0], ROOM, 0, 0, 0, masks.anyof, masks.told
    )
    while True:
        try:
            count: int = fcntl.ioctl(descriptor, PAGEMAP_SCAN, argument)
            return count
        except OSError as error:
            if error.errno != EINTR:
                raise


def read_scan(process: LocalProcess, query: Query) -> tuple[RunColumns, PageState] | None:
    """The runs, and what is told, in one go; None: to be asked by `acquire_scan`, which tells what is wrong."""
    if NATIVE is None or query.pages is None or not isinstance(process, LinuxProcess):
        return None
    masks, told, states = _short_question(query.pages)
    if not told or (process.is_self and process.emulator is not None):
        return None
    bounds = array("Q", [bound for each in _ranges(query) for bound in each])
    if (descriptor := _file(process)) is None:
        return None
    found = NATIVE.scan(descriptor, bounds, mmap.PAGESIZE, masks.anyof, masks.told, states)
    return None if found is None else (RunColumns(*found), told)


@functools.cache
def _short_question(of: PageState) -> tuple[Masks, PageState, bytes]:
    """What this kernel is asked for these states, what it then tells of them, and what its answers mean."""
    masks = masks_of(of)
    if masks.told & SOFT_DIRTY and not tells_soft_dirty():
        masks = masks.without(SOFT_DIRTY)
    if masks.told & GUARD and not _knows_guards():
        masks = masks.without(GUARD)
    told = told_by_masks(masks) & of
    return masks, told, states_of_categories(told)


def _failed(error: OSError, process: LinuxProcess) -> VmatlasError:
    told = process_error(error, process.pid)
    if isinstance(told, OperationFailed):
        told.message = f"PAGEMAP_SCAN of process {process.pid}: {error.strerror}"
    return told


def too_many(pid: int) -> Unsupported:
    """More is told of the pages than can be kept."""
    return Unsupported(
        f"more is told of the pages of process {pid} than can be kept at once: {LARGEST:,} bytes",
        pid=pid,
        hint="ask about a part of its memory: between=(START, END), --between, --where",
    )


# ---- /proc/PID/pagemap ----


def acquire_entries(process: LocalProcess, query: Query) -> Reading:
    """By reading pagemap. Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed."""
    return read_until_told(_own(process), ENTRIES, lambda one: _read(one, query))


def _read(process: LinuxProcess, query: Query) -> Reading | None:
    """None when the memory that the descriptor belongs to is gone."""
    if (descriptor := _opened(process)) is None:
        return None
    page = os.sysconf("SC_PAGESIZE")
    kept = [_PAIR.pack(page, known_bits())]
    size = 0
    try:
        for start, end in _ranges(query):
            while start < end:
                told = os.pread(descriptor, min(AT_ONCE, (end - start) // page) * ENTRY, start // page * ENTRY)
                if not told:
                    if not os.pread(descriptor, ENTRY, 0):
                        return None
                    break  # above all that the process itself can have
                for piece in _pieces(told, start, page):
                    kept.append(piece)
                    size += len(piece)
                if size > LARGEST:
                    raise too_many(process.pid)
                start += len(told) // ENTRY * page
    except OSError as error:
        if error.errno == ESRCH:
            return None
        raise process_error(error, process.pid) from None
    return Reading({ENTRIES: b"".join(kept)})


def read_entries(process: LocalProcess, query: Query) -> tuple[RunColumns, PageState] | None:
    """As `read_scan`, by reading pagemap."""
    if NATIVE is None or query.pages is None or not isinstance(process, LinuxProcess):
        return None
    told = told_by_bits(known_bits()) & query.pages
    if not told or (process.is_self and process.emulator is not None):
        return None
    bounds = array("Q", [bound for each in _ranges(query) for bound in each])
    if (descriptor := _file(process)) is None:
        return None
    found = NATIVE.entries(descriptor, bounds, mmap.PAGESIZE, states_of_entries(told))
    return None if found is None else (RunColumns(*found), told)


def _pieces(told: bytes, address: int, page: int) -> Iterator[bytes]:
    """The upper 16 bits of what are not zeros: an untouched terabyte has 2 GiB of those."""
    if _ZEROS.startswith(told):
        return
    upper = array("H", told)[3::4] if sys.byteorder == "little" else array("H", told)[0::4]
    at = 0
    for is_told, alike in groupby(upper, bool):
        count = sum(1 for _ in alike)
        if is_told:
            yield _PAIR.pack(address + at * page, count) + upper[at : at + count].tobytes()
        at += count


# ---- what this kernel tells, found out by trying ----


@functools.cache
def known_bits() -> int:
    """Those of the upper 16 bits of an entry that this kernel sets where they are right."""
    bits = sum(UPPER_BITS.values())
    if not tells_soft_dirty():
        bits &= ~UPPER_BITS[PageState.SOFT_DIRTY]
    if not _knows_guards():
        bits &= ~UPPER_BITS[PageState.GUARD]
    return bits


@functools.cache
def tells_soft_dirty() -> bool:
    """Whether a page that was just written has the bit: it takes CONFIG_MEM_SOFT_DIRTY, and a processor that can."""
    with mmap.mmap(-1, mmap.PAGESIZE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory[0] = 1
        address = _address_of(memory)
        with open("/proc/self/pagemap", "rb", buffering=0) as file:
            told = os.pread(file.fileno(), ENTRY, address // mmap.PAGESIZE * ENTRY)
        return len(told) == ENTRY and bool(int.from_bytes(told, sys.byteorder) & ENTRY_SOFT_DIRTY)


@functools.cache
def _knows_guards() -> bool:
    """Whether PAGEMAP_SCAN knows the category: it came with the bit of pagemap (6.16)."""
    room = array("Q", bytes(REGION_SIZE))
    with open("/proc/self/pagemap", "rb", buffering=0) as file:
        argument = bytearray(SCAN_SIZE)
        _SCAN.pack_into(
            argument, 0, SCAN_SIZE, 0, mmap.PAGESIZE, 2 * mmap.PAGESIZE, 0, room.buffer_info()[0], 1, 0, 0, 0,
            GUARD, GUARD,
        )  # fmt: skip
        try:
            fcntl.ioctl(file, PAGEMAP_SCAN, argument)
        except OSError:
            return False
        return True


def _address_of(memory: mmap.mmap) -> int:
    import ctypes

    return ctypes.addressof(ctypes.c_char.from_buffer(memory))
