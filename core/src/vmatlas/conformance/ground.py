"""Known layouts: memory that a child of the agent maps as it is told, at places where nothing else lies."""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from vmatlas.model import Protection, Region
from vmatlas.target.agent import READ_WRITE, AgentProcess, MapFlag, MapObject, required

NONE = Protection.NONE
READ = Protection.READ
READ_EXECUTE = Protection.READ | Protection.EXECUTE


ALIGNED = 1 << 18
"""Bytes: where a ground may start. Some processors have System V memory only at multiples of more than a page (SHMLBA:
four of 32-bit ARM, 256 KiB on MIPS)."""


_RUN = secrets.token_hex(4).encode()


def own_path(name: bytes) -> bytes:
    """A path on the target that nobody there can have known: in its /tmp others may have laid files and links."""
    return b"/tmp/vmatlas-%s-%s" % (_RUN, name)


@dataclass(frozen=True, slots=True)
class Placed:
    """A mapping that was made: [start, end)."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """Bytes."""
        return self.end - self.start


class Ground:
    """A stretch of address space of a child in which nothing lies but what is laid there."""

    def __init__(self, worker: AgentProcess, pages: int = 256) -> None:
        """`pages` of the target's base page."""
        self.worker = worker
        self.page = worker.agent.hello.page_size
        size = pages * self.page
        # The kernel finds the place; it is free again at once, and the child does nothing that we do not ask for.
        room = size + ALIGNED
        found = required(worker.map(room, protection=NONE, flags=MapFlag.NO_RESERVE), "mapping the ground")
        self.start = -(-found // ALIGNED) * ALIGNED
        self.end = self.start + size
        required(worker.unmap(found, room), "clearing the ground")

    def at(self, page: int) -> int:
        """The address of a page of the ground."""
        return self.start + page * self.page

    def lay(
        self,
        page: int,
        pages: int = 1,
        *,
        protection: Protection = READ_WRITE,
        flags: MapFlag = MapFlag.NONE,
        source: MapObject = MapObject.ANONYMOUS,
        name: bytes = b"",
        offset: int = 0,
    ) -> Placed:
        """Map some pages at a page of the ground. Raises OperationFailed when the target refuses."""
        start, size = self.at(page), pages * self.page
        fixed = flags if source is MapObject.SYSTEM_V else flags | MapFlag.FIXED
        result = self.worker.map(
            size, address=start, protection=protection, flags=fixed, source=source, name=name, offset=offset
        )
        assert required(result, f"mapping {source.name.lower()} {name!r}") == start
        return Placed(start, start + size)

    def protect(self, page: int, pages: int, protection: Protection) -> None:
        """Change the protection of some pages."""
        required(self.worker.protect(self.at(page), pages * self.page, protection), "protecting")

    def clear(self, page: int, pages: int) -> None:
        """Unmap some pages."""
        required(self.worker.unmap(self.at(page), pages * self.page), "unmapping")

    def within(self, regions: list[Region]) -> list[Region]:
        """Those of the regions that lie on the ground."""
        return [region for region in regions if self.start <= region.start and region.end <= self.end]
