"""The file behind a mapping, copied out: also one that was unlinked, or that lies in another mount namespace.

What is copied is the file as it is now, whole, and not the memory: what a process changed in a private mapping is not
in it. Of processes of this machine alone, and with the rights that /proc/PID/map_files takes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import NamedTuple

from vmatlas import arguments
from vmatlas.api import Pid
from vmatlas.errors import AccessDenied, OperationFailed, Unsupported, UsageError
from vmatlas.model import Region
from vmatlas.process import Process
from vmatlas.symbols.table import Sections
from vmatlas.writing import write_whole

_PIECE = 1 << 20
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
    """Somebody wrote to the file, or cut it, while it was copied: the copy may be of two moments."""


@arguments.flags_checked
def recover(process: Process | Pid, address: int, path: str | os.PathLike[str], *, replace: bool = False) -> Recovered:
    """Copy the file that is mapped at an address to `path`, for its owner alone to read.

    `process` is a `vmatlas.Process`, a pid, or None for this one. What stands at `path` is replaced with `replace`
    alone, whole or not at all; a link of somebody else's is not followed. Raises UsageError where no file is mapped
    there, AccessDenied, Unsupported (another machine), FileExistsError, OSError, and what `Process.find` raises.
    """
    from vmatlas import api

    target = arguments.path(path, "copy")
    if not isinstance(process, Process):
        with api.open(process) as opened:
            return recover(opened, address, path, replace=replace)
    region = process.find(address)
    if region is None:
        raise UsageError(f"nothing is mapped at {address:#x}", hint="vmatlas maps has what is")
    if region.path is None or region.inode is None:
        what = region.label or f"nameless memory ({region.permissions})"
        raise UsageError(f"no file is mapped at {address:#x}: {what}", hint="vmatlas maps PID --where file")
    opens = process.opens_files()
    if opens is None:
        raise Unsupported("files are recovered from processes of this machine alone", pid=process.pid)
    descriptor = opens.open_mapped(region)
    if descriptor is None:
        raise _not_had(process, region)
    try:
        return _copied(descriptor, region, os.fspath(target), replace)
    finally:
        os.close(descriptor)


def _not_had(process: Process, region: Region) -> Exception:
    why = process.why_unread(region)
    if why is not None:
        return OperationFailed(f"{region.path}: {why}", pid=process.pid)
    hint = "unlinked files, and those of other users or namespaces, take CAP_CHECKPOINT_RESTORE or root"
    return AccessDenied(
        f"the file {region.label} is not to be had: no right, or no regular file", pid=process.pid, hint=hint
    )


def _copied(descriptor: int, region: Region, path: str, replace: bool) -> Recovered:
    import hashlib

    before = os.fstat(descriptor)
    digest = hashlib.sha256()
    copied = 0

    def pieces() -> Iterator[bytes]:
        nonlocal copied
        # No further than it went at the beginning: a log that is written to faster than it is copied has no end.
        while copied < before.st_size:
            piece = os.pread(descriptor, min(_PIECE, before.st_size - copied), copied)
            if not piece:
                return
            digest.update(piece)
            copied += len(piece)
            yield piece

    write_whole(path, pieces(), replace=replace, mode=_OWNERS_ALONE)
    after = os.fstat(descriptor)
    changed = copied != before.st_size or (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns)
    build_id = Sections(lambda offset, size: _read(descriptor, offset, size)).build_id
    return Recovered(region, copied, build_id, digest.hexdigest(), changed)


def _read(descriptor: int, offset: int, size: int) -> bytes:
    return os.pread(descriptor, size, offset) if size and offset < 1 << 63 else b""
