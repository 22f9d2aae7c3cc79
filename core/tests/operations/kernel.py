"""A kernel in memory: what mmap, mprotect and mremap do, at the whim of a test.

It knows pages, not contents. Each quirk of a real kernel that the code above must bear is a switch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from vmatlas.errors import OperationFailed
from vmatlas.model import AddressSpace, Device, Kind, Origin, Protection, Region, SystemInfo
from vmatlas.operations.contract import Ability, Promise
from vmatlas.operations.values import Advice
from vmatlas.target.program import MapFlag

PAGE = 4096
FIRST = 0x100000
SYSTEM = SystemInfo("linux", "0", "", "x86_64", "little", 64, PAGE)
EVERYTHING = ~Ability.NONE & ~Ability.BUFFERS


def refusal(name: str) -> OperationFailed:
    return OperationFailed(name, errno=1, errno_name=name)


class Page(NamedTuple):
    mapping: int
    """Which mapping of the kernel's it belongs to: adjacent pages of one are one region."""
    protection: Protection
    shared: bool
    inode: int | None
    content: int
    """Stands for what is in it: a move takes it along."""
    locked: bool = False


@dataclass
class ScriptedKernel:
    """Memory calls of a process that does not exist."""

    system: str = "linux"
    abilities: Ability = EVERYTHING
    occupied: frozenset[str] = frozenset({"EEXIST"})
    promises: Promise = Promise.NONE
    lock_resource: int | None = None
    stacks_grow: bool = True
    page_size: int = PAGE
    address_bits: int = 64
    knows_noreplace: bool = True
    """Linux before 4.17 does not: it takes the address for a hint."""
    moves_many: bool = True
    """Linux 6.17 and newer."""
    stops_at: set[int] = field(default_factory=set)
    """Addresses whose mapping it does not move, or not with others."""
    tells_unmovable: bool = False
    unasked: str | None = None
    """Why it cannot be asked about advice for no bytes."""
    limit: tuple[int, int | None] | None = None
    refuses_over: str | None = None
    """With which errno it refuses to map over something."""
    unmaps_first: bool = False
    """Whether what is there is gone by then."""
    sealed: set[int] = field(default_factory=set)
    """Addresses that it unmaps, and moves, nothing of."""
    locked: int | None = None
    regions: tuple[int, int] | None = None
    refuses: dict[str, str] = field(default_factory=dict)
    """Calls that fail, by name, with which errno."""
    pages: dict[int, Page] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    _next: int = 1

    def _log(self, name: str) -> None:
        self.calls.append(name)
        if name in self.refuses:
            raise refusal(self.refuses[name])

    def lacks(self, ability: Ability) -> str:
        return f"the scripted kernel has no {ability.name}"

    def advice_number(self, advice: Advice) -> int | None:
        return {Advice.COLD: 20, Advice.DONTNEED: 4, Advice.GUARD_INSTALL: 102, Advice.DONTDUMP: 16}.get(advice)

    def _range(self, address: int, size: int) -> range:
        assert address % PAGE == 0
        assert size % PAGE == 0
        assert size > 0
        return range(address, address + size, PAGE)

    def _new(self) -> int:
        self._next += 1
        return self._next

    def _hole(self, size: int) -> int:
        at = FIRST
        while any(page in self.pages for page in self._range(at, size)):
            at += PAGE
        return at

    def map(
        self, address: int, size: int, protection: Protection, flags: MapFlag, descriptor: int = -1, offset: int = 0
    ) -> int:
        self._log("map")
        taken = address and any(page in self.pages for page in self._range(address, size))
        if flags & MapFlag.FIXED_NOT_OVER and self.knows_noreplace:
            if taken:
                raise refusal("EEXIST")
            start = address
        elif flags & MapFlag.FIXED:
            if self.refuses_over is not None and taken:
                for page in self._range(address, size) if self.unmaps_first else ():
                    self.pages.pop(page, None)
                raise refusal(self.refuses_over)
            start = address
        else:
            start = address if address and not taken else self._hole(size)
        mapping, shared = self._new(), bool(flags & MapFlag.SHARED)
        for number, page in enumerate(self._range(start, size)):
            self.pages[page] = Page(mapping, protection, shared, mapping if shared else None, mapping * 1000 + number)
        return start

    def unmap(self, address: int, size: int) -> None:
        self._log("unmap")
        if address in self.sealed:
            raise refusal("EPERM")
        for page in self._range(address, size):
            self.pages.pop(page, None)

    def protect(self, address: int, size: int, protection: Protection) -> None:
        self._log("protect")
        for page in self._range(address, size):
            if page not in self.pages:
                raise refusal("ENOMEM")
            self.pages[page] = self.pages[page]._replace(protection=protection)

    def lock(self, address: int, size: int, on_fault: bool) -> None:
        self._log("lock")

    def unlock(self, address: int, size: int) -> None:
        self._log("unlock")

    def lock_all(self, current: bool, future: bool, on_fault: bool) -> None:
        self._log("lock_all")

    def unlock_all(self) -> None:
        self._log("unlock_all")

    def flush(self, address: int, size: int, wait: bool, invalidate: bool) -> None:
        self._log("flush")

    def advise(self, address: int, size: int, number: int) -> None:
        self._log("advise" if size else "advise nothing")
        for page in self._range(address, size) if size else ():
            if page not in self.pages:
                raise refusal("ENOMEM")

    def why_unasked(self, advice: Advice) -> str | None:
        return self.unasked

    def move(self, address: int, size: int, new_size: int, to: int | None, may_move: bool, keep_old: bool) -> int:
        self._log("move")
        if address in self.sealed:
            raise refusal("EPERM")
        regions = [each for each in self.space() if each.start < address + size and each.end > address]
        if not regions or regions[0].start > address:
            raise refusal("EFAULT")
        if to is None:
            return self._resize(address, size, new_size, may_move)
        if len(regions) > 1 and not self.moves_many:
            for page in self._range(to, size):  # an older kernel has cleared the new place by then
                self.pages.pop(page, None)
            raise refusal("EFAULT")
        for number, region in enumerate(regions):
            if region.start in self.stops_at and (number or len(regions) > 1):
                raise refusal("EFAULT")
            for page in range(max(region.start, address), min(region.end, address + size), PAGE):
                was = self.pages[page]
                self.pages[page - address + to] = was
                if keep_old:
                    self.pages[page] = was._replace(content=0)
                else:
                    del self.pages[page]
        return to

    def _resize(self, address: int, size: int, new_size: int, may_move: bool) -> int:
        if new_size <= size:
            if new_size < size:
                self.unmap(address + new_size, size - new_size)
            return address
        grown = range(address + size, address + new_size, PAGE)
        last = self.pages[address + size - PAGE]
        if any(page in self.pages for page in grown):
            if not may_move:
                raise refusal("ENOMEM")
            to = self._hole(new_size)
            for page in self._range(address, size):
                self.pages[page - address + to] = self.pages.pop(page)
            grown, address = range(to + size, to + new_size, PAGE), to
        for page in grown:
            self.pages[page] = last._replace(content=0)
        return address

    def lock_limit(self) -> tuple[int, int | None] | None:
        return self.limit

    def locked_bytes(self) -> int | None:
        return self.locked

    def region_count(self) -> tuple[int, int] | None:
        return self.regions

    def why_unmovable(self, region: Region) -> str | None:
        return "a userfaultfd watches it" if self.tells_unmovable and region.start in self.stops_at else None

    def range_refused(self, refused: OperationFailed, advice: Advice) -> str:
        return f"refused ({refused.errno_name})"

    # ---- the map ----

    def space(self) -> AddressSpace:
        regions: list[Region] = []
        previous: tuple[int, Page] | None = None
        for address, page in sorted(self.pages.items()):
            if previous is not None and previous[0] + PAGE == address and _alike(previous[1], page):
                regions[-1] = regions[-1]._replace(end=address + PAGE)
            else:
                regions.append(
                    Region(
                        address,
                        address + PAGE,
                        page.protection,
                        shared=page.shared,
                        device=None if page.inode is None else Device(0, 1),
                        inode=page.inode,
                        kind=Kind.SHARED_MEMORY if page.shared else Kind.ANONYMOUS if page.protection else Kind.GUARD,
                    )
                )
            previous = address, page
        return AddressSpace.of(regions, Origin(SYSTEM, 1, "scripted", 0.0))

    def contents(self, start: int, end: int) -> dict[int, int]:
        """Offset from `start` to what is there."""
        return {page - start: each.content for page, each in self.pages.items() if start <= page < end}


def _alike(one: Page, other: Page) -> bool:
    return (one.mapping, one.protection) == (other.mapping, other.protection)
