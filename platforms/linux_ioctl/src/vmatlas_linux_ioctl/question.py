"""How much of a question the kernel itself can be asked, and what its answers lack. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from vmatlas.model import Filter, Kind
from vmatlas.systems.linux.links import OpenName
from vmatlas.systems.linux.mounts import Numbers
from vmatlas.systems.linux.naming import is_made_up
from vmatlas.systems.linux.procmap import MAX_NAME, QueryFlags

_FILE_KINDS = frozenset([Kind.FILE, Kind.SHARED_MEMORY, Kind.DEVICE])


def kernel_flags(where: Filter) -> QueryFlags:
    """The part of a filter that the kernel can apply. It can ask for rights and sharing, not for their absence."""
    flags = int(where.given)  # the three rights have the same bits here and there
    if where.shared:
        flags |= QueryFlags.SHARED.value
    if where.file_backed or (where.kinds and where.kinds <= _FILE_KINDS):
        flags |= QueryFlags.FILE_BACKED.value
    return QueryFlags(flags)


def of_files(names: Iterable[OpenName]) -> list[OpenName]:
    """Those that are names of files, and of no object of the kernel's."""
    return [
        each for each in names if each.inode and each.name[:1] == b"/" and not is_made_up(each.name, each.device[0])
    ]


def what_lacks(names: Sequence[OpenName], silent: Mapping[Numbers, str]) -> str | None:
    """Why something is missing in the answers, or None.

    `silent`: the devices for which no build id was asked, since their file system may not answer, and what it is.
    """
    told = []
    if unnamed := sum(1 for each in names if each.inode and not each.name):
        told.append(f"the kernel tells no name longer than {MAX_NAME - 1:,} bytes: {unnamed} region(s) lack theirs")
    if unread := [each for each in of_files(names) if each.device in silent]:
        kinds = ", ".join(sorted({silent[each.device] for each in unread}))
        told.append(
            f"file systems that may not answer ({kinds}) were not asked for build ids:"
            f" {len(unread)} region(s) lack theirs"
        )
    return "; ".join(told) or None
