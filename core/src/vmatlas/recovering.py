"""The file behind a mapping, copied out: also one that was unlinked, or that lies in another mount namespace.

What is copied is the file as it is now, whole, and not the memory: what a process changed in a private mapping is not
in it. Holes stay holes. Of processes of this machine alone, and with the rights that /proc/PID/map_files takes.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NamedTuple

from vmatlas import arguments
from vmatlas.api import Pid
from vmatlas.errors import AccessDenied, OperationFailed, Unsupported, UsageError
from vmatlas.extents import data_of, occupied
from vmatlas.model import Kind, Region
from vmatlas.process import Process
from vmatlas.symbols.table import Sections
from vmatlas.writing import write_whole

MOST_OF_HOLES = 4 << 30
"""Bytes of holes that a file may have: they take no room, but time to tell the digest of."""

_PIECE = 1 << 20
_ZEROS = bytes(_PIECE)
_OWNERS_ALONE = 0o600
"""Who may read a copy: the file itself may have been for fewer than the folder that it is copied to."""


class Recovered(NamedTuple):
    """A file that was copied out."""

    region: Region
    """The region that shows it."""
    size: int
    """Bytes."""
    build_id: bytes | None
    """Of an ELF file that has one."""
    sha256: str
    """The digest of what was written, in hexadecimal."""
    changed: bool
    """Somebody wrote to the file, or cut it, while it was copied: the copy may be of two moments.

    By its time of change and its size, and by reading it again: stores to a shared mapping move no time stamp. Where
    both readings gave the same, all of it was so when the first one ended; unless somebody put back what they changed.
    """


@arguments.flags_checked
def recover(process: Process | Pid, address: int, path: str | os.PathLike[str], *, replace: bool = False) -> Recovered:
    """Copy the file that is mapped at an address to `path`, for its owner alone to read.

    `process` is a `vmatlas.Process`, a pid, or None for this one. What stands at `path` is replaced with `replace`
    alone, whole or not at all; a link of somebody else's is not followed. Raises UsageError where no file is mapped
    there, AccessDenied, Unsupported (another machine), FileExistsError, OSError, OperationFailed (it holds more than is
    free there, or has more than `MOST_OF_HOLES` of holes), and what `Process.find` raises.
    """
    from vmatlas import api

    target = arguments.path(path, "copy")
    if not isinstance(process, Process):
        with api.open(process) as opened:
            return recover(opened, address, path, replace=replace)
    region, descriptor = held_file(process, address)
    try:
        return copy_out(descriptor, region, target, replace=replace)
    finally:
        os.close(descriptor)


def held_file(process: Process, address: int) -> tuple[Region, int]:
    """The region at an address, and a descriptor to read its file, which the caller closes: all that the process is
    asked for, and may not answer. Raises what `recover` raises of it."""
    region = process.find(address)
    if region is None:
        raise UsageError(f"nothing is mapped at {address:#x}", hint="vmatlas maps has what is")
    if region.path is None or region.inode is None:
        what = region.label or f"nameless memory ({region.permissions})"
        raise UsageError(f"no file is mapped at {address:#x}: {what}", hint="vmatlas maps PID --where file")
    if (memory := _memory_of_nobody_else(region)) is not None:
        raise UsageError(f"no file is mapped at {address:#x}: {memory}", hint="vmatlas maps PID --where file")
    opens = process.opens_files()
    if opens is None:
        raise Unsupported("files are recovered from processes of this machine alone", pid=process.pid)
    descriptor = opens.open_mapped(region)
    if descriptor is None:
        raise _not_had(process, region)
    return region, descriptor


def _memory_of_nobody_else(region: Region) -> str | None:
    """What a region shows that has a path, and no file whose bytes could be copied; None for all others."""
    if region.kind is Kind.ANONYMOUS:  # a private mapping of /dev/zero
        return f"{region.path} gave memory of the process's own"
    if region.kind is Kind.SHARED_MEMORY and region.path == "/secretmem":
        return "secret memory (memfd_secret), which the kernel shows to nobody but the process"
    return None


def _not_had(process: Process, region: Region) -> Exception:
    why = process.why_unread(region) or "no regular file is mapped, or it is not told"
    if "may not answer" in why:
        return OperationFailed(f"{region.path}: {why}", pid=process.pid)
    hint = "unlinked files, and those of other users or namespaces, take CAP_CHECKPOINT_RESTORE or root"
    return AccessDenied(f"the file {region.label} is not to be had: {why}", pid=process.pid, hint=hint)


def copy_out(descriptor: int, region: Region, path: str | os.PathLike[str], *, replace: bool) -> Recovered:
    """Copy a file that is held, for as long as that takes. Raises what `recover` raises of it."""
    path = os.fspath(arguments.path(path, "copy"))
    before = os.fstat(descriptor)
    size = before.st_size
    most = _checked_room(descriptor, region, size, path)
    first, copied = _Digest(), 0

    def pieces() -> Iterator[bytes | int]:
        nonlocal copied
        data = 0
        for piece in _pieces(descriptor, size):
            data += len(piece) if isinstance(piece, bytes) else 0
            if data > most:  # holes that are filled as fast as they are copied
                raise OperationFailed(f"{region.label}: it takes more and more room while it is copied")
            copied += first.add(piece)
            yield piece

    write_whole(path, pieces(), replace=replace, mode=_OWNERS_ALONE)
    after = os.fstat(descriptor)
    changed = copied != size or (after.st_size, after.st_mtime_ns) != (size, before.st_mtime_ns)
    if not changed:
        again = _Digest()
        for piece in _pieces(descriptor, size):
            again.add(piece)
        changed = again.hex != first.hex
    build_id = Sections(lambda offset, size: _read(descriptor, offset, size)).build_id
    return Recovered(region, copied, build_id, first.hex, changed)


def _checked_room(descriptor: int, region: Region, size: int, path: str) -> int:
    """How many bytes that are no holes may be written. Raises OperationFailed where the file has more, or too large
    holes: a file without an end costs nobody anything to make."""
    folder = os.path.dirname(os.path.realpath(path))
    try:
        told = os.statvfs(folder)
    except OSError:  # the writing says what is wrong
        room = size
    else:
        room = told.f_bavail * told.f_frsize
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        data = occupied(file, size, room + 1)
    if data > room:
        raise OperationFailed(
            f"{region.label}: it holds more than the {room:,} bytes that are free in {folder}", errno=errno.ENOSPC
        )
    if size - data > MOST_OF_HOLES:
        bounds = f"{region.start:x}-{region.end:x}"
        raise OperationFailed(
            f"{region.label}: of its {size:,} bytes only {data:,} are data: a file may have {MOST_OF_HOLES:,} of holes",
            errno=errno.EFBIG,
            hint=f"cp --sparse=always /proc/PID/map_files/{bounds} copies whatever it is",
        )
    return data + (room - data) // 2


class _Digest:
    """The SHA-256 of a file that comes in pieces; a number is a hole of so many bytes."""

    def __init__(self) -> None:
        import hashlib

        self._digest = hashlib.sha256()

    def add(self, piece: bytes | int) -> int:
        """Gives how many bytes it was."""
        if isinstance(piece, bytes):
            self._digest.update(piece)
            return len(piece)
        for begin in range(0, piece, _PIECE):
            self._digest.update(_ZEROS if piece - begin >= _PIECE else _ZEROS[: piece - begin])
        return piece

    @property
    def hex(self) -> str:
        return self._digest.hexdigest()


def _pieces(descriptor: int, size: int) -> Iterator[bytes | int]:
    """What a file holds, to its end or to `size`; a number is a hole of so many bytes. Raises OSError.

    No further than it went at the beginning: a log that is written to faster than it is copied has no end.
    """
    at = 0
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        for start, stop in data_of(file, 0, size):
            if start > at:
                yield start - at
            at = start
            while at < stop:
                piece = os.pread(descriptor, min(_PIECE, stop - at), at)
                if not piece:  # it was cut
                    return
                yield piece
                at += len(piece)
    if (rest := min(os.fstat(descriptor).st_size, size) - at) > 0:
        yield rest


def _read(descriptor: int, offset: int, size: int) -> bytes:
    return os.pread(descriptor, size, offset) if size and offset < 1 << 63 else b""
