"""How much of a question the kernel itself can be asked. Pure."""

from __future__ import annotations

from vmatlas.model import Filter, Kind
from vmatlas.systems.linux.procmap import QueryFlags

_FILE_KINDS = frozenset([Kind.FILE, Kind.SHARED_MEMORY, Kind.DEVICE])


def kernel_flags(where: Filter) -> QueryFlags:
    """The part of a filter that the kernel can apply. It can ask for rights and sharing, not for their absence."""
    flags = int(where.given)  # the three rights have the same bits here and there
    if where.shared:
        flags |= QueryFlags.SHARED.value
    if where.file_backed or (where.kinds and where.kinds <= _FILE_KINDS):
        flags |= QueryFlags.FILE_BACKED.value
    return QueryFlags(flags)
