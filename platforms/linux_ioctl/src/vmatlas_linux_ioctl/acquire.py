"""Asks the kernel with PROCMAP_QUERY, region by region, and keeps its answers untouched.

Each answer is right in itself; between two answers the map may change. A walk that meets a region which begins before
the last one ended goes back to where that region begins, takes back what it had from there on, and asks again.
"""

from __future__ import annotations

import contextlib
import fcntl
import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from errno import ENAMETOOLONG, ENOENT, ENOTTY, ESRCH, errorcode

from vmatlas.backend import Finder, LocalProcess, Reading
from vmatlas.errors import OperationFailed, TornRead, Unsupported, VmatlasError
from vmatlas.model import ANY, Columns, Query, Region
from vmatlas.model.facts import Rows
from vmatlas.systems.linux import LinuxProcess, links
from vmatlas.systems.linux.host import MOST_TOLD, too_long
from vmatlas.systems.linux.mounts import Numbers
from vmatlas.systems.linux.naming import DELETED
from vmatlas.systems.linux.procmap import MAX_BUILD_ID, MAX_NAME, PROCMAP_QUERY, SIZE, UNTOLD, QueryFlags, record
from vmatlas.systems.linux.scratch import LABEL, Scratch
from vmatlas.systems.linux.vanishing import STAT, read_until_told
from vmatlas.threads import available, demanded
from vmatlas.values import replace
from vmatlas_linux_ioctl.apart import Apart, Silent
from vmatlas_linux_ioctl.decode import NATIVE, VMAS, columns_of_native, model_of
from vmatlas_linux_ioctl.question import kernel_flags, of_files, what_lacks

USUAL_THREADS = 4
"""So many walk a large map at once, where as many processors have nothing else to do, unless VMATLAS_THREADS says how
many. More were never measured (docs/speed.md)."""

STEPS_BACK = 1000
"""How often one walk may have to go back, before that is said."""

_NATIVE = record(sys.byteorder)
_ADDRESS = struct.Struct("=Q")
_BOUNDS = struct.Struct("=QQ")
_ADDRESS_AT, _BOUNDS_AT, _SIZES_AT = 16, 24, 80
_POINTERS_AT = 88, 96
_SIZES = struct.Struct("=II")
_INODE_AT = 64
_INODE = struct.Struct("=Q")
_DEVICE_AT = 72
_DEVICE = struct.Struct("=II")
_MAPS = "maps"
NONE: Mapping[Numbers, str] = {}


def acquire(process: LocalProcess, query: Query) -> Reading:
    """Raises NoSuchProcess, AccessDenied, Unsupported (ENOTTY: the kernel is older), OperationFailed, TornRead."""
    if not isinstance(process, LinuxProcess):
        raise TypeError("a process of this machine is opened by vmatlas.systems.linux")
    reading = read_until_told(process, VMAS, lambda asked: _ask(asked, query))
    if not reading.streams[VMAS] and STAT not in reading.streams and query.address is None and query.where == ANY:
        # It has no region of its own (any more), and lives: which `stat` tells.
        return Reading({**reading.streams, STAT: process.read_file(STAT)}, reading.incomplete)
    return reading


def read(process: LocalProcess, query: Query, most: int) -> Columns | None:
    """Acquire and decode in one go, by the compiled twin; None: to be asked in two steps, which tell what is wrong.

    So it is for more than `most` regions, unless that is 0, and for all that is not plain: a process that has no
    memory (any more), regions that changed between two answers, some regions of one's own map.
    """
    if NATIVE is None or query.build_ids or not isinstance(process, LinuxProcess):
        return None
    is_self = query.limit_of_answer != 1 and process.is_self  # the walk to one region needs no memory
    if is_self and query.limit_of_answer:
        return None
    descriptor = process.memory_file(_MAPS)
    threads = demanded()
    rows: Rows | None = NATIVE.walk(
        descriptor, _flags(query), query.address or 0, query.limit_of_answer, most,
        threads or available(USUAL_THREADS), threads is None, is_self,
    )  # fmt: skip
    if rows is None:
        return None
    columns = columns_of_native(rows, links.NOTHING)
    if names := links.open_names(columns):
        return columns_of_native(rows, links.settle(names, process))
    return columns


def finder(process: LocalProcess) -> Finder | None:
    """What answers about single addresses in one call each; None where the compiled twin is not there.

    It holds descriptors of its own, and opens maps anew as time goes by: what it says is so since at most a tenth of a
    millisecond. Where that fails it says so (NotImplemented). Memory of our own is ours until we end.
    """
    if NATIVE is None or not isinstance(process, LinuxProcess):
        return None
    maps = process.memory_file(_MAPS)
    untold = array("Q", [bound for spot in UNTOLD for bound in spot])
    asker: Finder = NATIVE.asker(maps, -1 if process.is_self else process.directory, Region, model_of, untold)
    return asker


def _flags(query: Query) -> int:
    """The kernel's flags of a query: what must hold of a region, and whether to walk."""
    flags = int(kernel_flags(query.where))
    return flags | QueryFlags.COVERING_OR_NEXT if query.address is None or query.or_next else flags


def _ask(process: LinuxProcess, query: Query) -> Reading | None:
    """None when the memory that the descriptor belongs to is gone."""
    descriptor = process.memory_file(_MAPS)
    silent: dict[Numbers, str] = {}
    if query.build_ids:
        found = _silent(process, descriptor, query)
        if found is None:
            return None
        silent = found
    if query.limit_of_answer != 1 and process.is_self:
        return _ask_self(process, descriptor, query, silent)
    if NATIVE is not None and not query.build_ids:
        answers: tuple[bytes, bytes] | None = NATIVE.records(
            descriptor, _flags(query), query.address or 0, query.limit_of_answer
        )
        if answers is not None:
            return _settled(process, *answers, some_unnamed=False)
    # Whatever is silent as of now: the process may map a file of another file system before the kernel reads it.
    with Apart(descriptor) if query.build_ids else contextlib.nullcontext() as apart:
        walk = _Walk(process.pid, descriptor, query, bytearray(), bytearray(), silent=silent, apart=apart)
        if not walk.run():
            return None
        return _settled(process, walk.records_kept(), walk.names_kept(), walk.some_unnamed, walk.silent)


def _silent(process: LinuxProcess, descriptor: int, query: Query) -> dict[Numbers, str] | None:
    """The devices in the map whose file system may not answer: for a build id the kernel reads the file.

    None when the memory of the process is gone.
    """
    from vmatlas.systems.linux.files import silent

    walk = _Walk(process.pid, descriptor, replace(query, build_ids=False), bytearray(), bytearray())
    if not walk.run():
        return None
    names = _names_of(walk.records_kept(), walk.names_kept())
    return silent(process, {each.device for each in of_files(names)})


def _ask_self(process: LinuxProcess, descriptor: int, query: Query, silent: dict[Numbers, str]) -> Reading | None:
    """One's own map, without the memory that reading it takes."""
    size = 1 << 18
    while True:
        with Scratch(size) as scratch:
            half = size // 2
            walk = _Walk(
                process.pid, descriptor, query, scratch.view[:half], scratch.view[half:], without=LABEL, silent=silent
            )
            try:
                found = walk.run()
                records, names = walk.records_kept(), walk.names_kept()
            except _Full:
                size *= 4
                continue
            finally:
                walk.release()
        return _settled(process, records, names, walk.some_unnamed, silent) if found else None


class _Full(Exception):
    """The memory made beforehand is too small for the answers."""


class _Walk:
    """One walk over an address space, into the memory that it is given: nothing else grows while it runs."""

    def __init__(
        self,
        pid: int,
        descriptor: int,
        query: Query,
        records: bytearray | memoryview,
        names: bytearray | memoryview,
        *,
        without: bytes = b"",
        silent: dict[Numbers, str] | None = None,
        apart: Apart | None = None,
    ) -> None:
        """A bytearray grows; memoryviews, of one size both, do not. Regions of the name `without` are passed over.

        No build id is asked for of a file on a device in `silent`; `apart` is asked for all others where it is given,
        and the device of a file that does not answer there joins those that are silent.
        """
        self.pid = pid
        self.descriptor = descriptor
        self.flags = _flags(query)
        self.address = query.address or 0
        self.limit = query.limit_of_answer
        self.build_id_size = MAX_BUILD_ID if query.build_ids else 0
        self.silent = silent or {}
        self._apart = apart
        self.some_unnamed = False
        self._without = without + b"\0"
        self._records, self._names = records, names
        self._room = len(records) if isinstance(records, memoryview) else sys.maxsize
        self._records_end = self._names_end = 0
        self._gone = False
        # The name first, the build id behind it; array tells its address without help from ctypes.
        self._texts = array("B", bytes(MAX_NAME + MAX_BUILD_ID))
        self._texts_address = self._texts.buffer_info()[0]
        self._texts_view = memoryview(self._texts)
        self._record = bytearray(SIZE)
        # Of this, the kernel changes only what it answers, and the two sizes.
        _NATIVE.pack_into(
            self._record, 0, SIZE, self.flags, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
            self._texts_address, self._texts_address + MAX_NAME if self.build_id_size else 0,
        )  # fmt: skip

    def records_kept(self) -> bytes:
        """The records of the walk, without the pointers, which are of no use to anybody else."""
        words = array("Q", bytes(self._records[: self._records_end]))
        nothing = array("Q", bytes(self._records_end // SIZE * 8))
        for pointer in _POINTERS_AT:
            words[pointer // 8 :: SIZE // 8] = nothing
        return words.tobytes()

    def names_kept(self) -> bytes:
        """The names and build ids of the walk."""
        return bytes(self._names[: self._names_end])

    def release(self) -> None:
        """Let go of memory that is not the walk's own."""
        for memory in (self._records, self._names):
            if isinstance(memory, memoryview):
                memory.release()

    def run(self) -> bool:
        """Walk to the end. False when the memory of the process is gone. Raises what `acquire` raises, and _Full."""
        steps_back = 0
        address, end = self.address, 0
        while self._query_carefully(address):
            start, new_end = _BOUNDS.unpack_from(self._record, _BOUNDS_AT)
            if start >= end:
                self._keep()
                address = end = new_end
                if self.limit and self._records_end == self.limit * SIZE:
                    break
                continue
            # The region has grown or merged since the one before it was told: ask anew from there on.
            steps_back += 1
            if steps_back > STEPS_BACK:
                raise TornRead(f"the map of process {self.pid} changed faster than it could be read", pid=self.pid)
            while end > start:
                address, end = self._take_back()
            address = max(address, self.address)
        return not self._gone

    def _query_carefully(self, address: int) -> bool:
        """The same as `_query`, first without the build id where some files may not be read."""
        if not self.build_id_size or (self._apart is None and not self.silent):
            return self._query(address, MAX_NAME)
        size, self.build_id_size = self.build_id_size, 0
        _ADDRESS.pack_into(self._record, _POINTERS_AT[1], 0)
        try:
            found = self._query(address, MAX_NAME)
            device = _DEVICE.unpack_from(self._record, _DEVICE_AT)
            if not found or not _INODE.unpack_from(self._record, _INODE_AT)[0] or device in self.silent:
                return found
            self.build_id_size = size
            _ADDRESS.pack_into(self._record, _POINTERS_AT[1], self._texts_address + MAX_NAME)
            try:
                return self._query(address, MAX_NAME)
            except Silent as error:
                self.silent[device] = str(error)
                self.build_id_size = 0
                _ADDRESS.pack_into(self._record, _POINTERS_AT[1], 0)
                return self._query(address, MAX_NAME)
        finally:
            self.build_id_size = size

    def _query(self, address: int, name_size: int) -> bool:
        """One question; the answer is in `_record` and `_texts`. False at the end, or when the memory is gone."""
        _ADDRESS.pack_into(self._record, _ADDRESS_AT, address)
        _SIZES.pack_into(self._record, _SIZES_AT, name_size, self.build_id_size)
        try:
            if self._apart is not None and self.build_id_size:
                self._apart.ask(self._record, self._texts_view)
            else:
                fcntl.ioctl(self.descriptor, PROCMAP_QUERY, self._record)
        except OSError as error:
            if error.errno == ENOENT:
                return False
            if error.errno == ESRCH:
                self._gone = True
                return False
            if error.errno == ENAMETOOLONG and name_size:
                self.some_unnamed = True
                return self._query_without_name(address)
            raise self._failure(error, address) from None
        return True

    def _query_without_name(self, address: int) -> bool:
        """The same where the name is longer than the kernel tells: neither a size nor a pointer may be given for it."""
        _ADDRESS.pack_into(self._record, _POINTERS_AT[0], 0)
        found = self._query(address, 0)
        _ADDRESS.pack_into(self._record, _POINTERS_AT[0], self._texts_address)
        return found

    def _failure(self, error: OSError, address: int) -> VmatlasError:
        if error.errno == ENOTTY:
            return Unsupported(
                "this kernel has no PROCMAP_QUERY ioctl: it is older than Linux 6.11",
                pid=self.pid,
                hint="use the backend linux-procfs, which is what the automatic choice does",
            )
        return OperationFailed(
            f"PROCMAP_QUERY on process {self.pid} at {address:#x} failed: {error.strerror}",
            errno=error.errno or 0,
            errno_name=errorcode.get(error.errno or 0, str(error.errno)),
            pid=self.pid,
        )

    def _keep(self) -> None:
        name_size, build_id_size = _SIZES.unpack_from(self._record, _SIZES_AT)
        if name_size == len(self._without) and self._texts_view[:name_size] == self._without:
            return
        end = self._records_end + SIZE
        if end > self._room:
            raise _Full
        self._records[self._records_end : end] = self._record
        self._records_end = end
        if name_size or build_id_size:
            self._keep_text(self._texts_view[:name_size])
            self._keep_text(self._texts_view[MAX_NAME : MAX_NAME + build_id_size])

    def _keep_text(self, text: memoryview) -> None:
        end = self._names_end + len(text)
        if end > MOST_TOLD:
            raise too_long(VMAS, MOST_TOLD, self.pid)
        if end > self._room:
            raise _Full
        self._names[self._names_end : end] = text
        self._names_end = end

    def _take_back(self) -> tuple[int, int]:
        """Drop the last record: its start, and the end of the record before it."""
        self._records_end -= SIZE
        start = _BOUNDS.unpack_from(self._records, self._records_end + _BOUNDS_AT)[0]
        self._names_end -= sum(_SIZES.unpack_from(self._records, self._records_end + _SIZES_AT))
        if not self._records_end:
            return start, 0
        return start, _BOUNDS.unpack_from(self._records, self._records_end - SIZE + _BOUNDS_AT)[1]


def _names_of(records: bytes, names: bytes) -> Iterator[links.OpenName]:
    """The name of each record, without its NUL byte, its inode and device, and its bounds."""
    position = 0
    for offset in range(0, len(records), SIZE):
        name_size, build_id_size = _SIZES.unpack_from(records, offset + _SIZES_AT)
        name = names[position : position + max(name_size - 1, 0)]
        inode = _INODE.unpack_from(records, offset + _INODE_AT)[0]
        device = _DEVICE.unpack_from(records, offset + _DEVICE_AT)
        yield links.OpenName(name, inode, device, *_BOUNDS.unpack_from(records, offset + _BOUNDS_AT))
        position += name_size + build_id_size


def _settled(
    process: LinuxProcess, records: bytes, names: bytes, some_unnamed: bool, silent: Mapping[Numbers, str] = NONE
) -> Reading:
    """The answers, with the file system's word for the names that only it can settle, and what is not told."""
    streams = {VMAS: records + names}
    if not some_unnamed and not silent and DELETED + b"\0" not in names:
        return Reading(streams)
    found = list(_names_of(records, names))
    open_names = {each[:3]: each for each in reversed(found) if links.is_open(each.name, each.device)}
    if open_names:
        streams |= links.settle(open_names.values(), process).streams()
    return Reading(streams, what_lacks(found, silent))
