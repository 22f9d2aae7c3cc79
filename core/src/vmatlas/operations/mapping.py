"""A mapping of one's own: made by `vmatlas.operations`, undone by `close` or at the end of a `with` block."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from errno import EINVAL, ENODEV, EOPNOTSUPP
from types import TracebackType
from typing import NoReturn, Protocol

from vmatlas.arguments import flags_checked, whole
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations.buffers import Exports
from vmatlas.operations.checks import Range, check_range
from vmatlas.operations.values import BufferInUse


def _identity(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of what a descriptor leads to; None where there is no such descriptor."""
    try:
        told = os.fstat(descriptor)
    except OSError:
        return None
    return told.st_dev, told.st_ino


def have_room(descriptor: int, size: int) -> None:
    """Take the pages of a memory object now: where the file system behind it is full, a touch would kill the process.

    Raises OSError.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno not in (EINVAL, ENODEV, EOPNOTSUPP):  # no file system is behind it (FreeBSD): none can be full
            raise


class Keeper(Protocol):
    """What a mapping asks of the memory that it lies in, and that made it: `Memory` is one."""

    @property
    def guard(self) -> contextlib.AbstractContextManager[bool]:
        """Held while something changes."""
        ...

    @property
    def page_size(self) -> int:
        """Bytes."""
        ...

    @property
    def address_bits(self) -> int:
        """Bits in an address: 32 or 64."""
        ...

    @property
    def is_own(self) -> bool:
        """Whether it is this process's memory."""
        ...

    def read_map(self) -> AddressSpace:
        """The map of the process whose memory it is."""
        ...

    def require_buffers(self) -> None:
        """Raises Unsupported when the memory is another process's."""
        ...

    def protect(self, address: int, size: int, protection: Protection) -> None:
        """Change the rights of whole pages."""
        ...

    def protected(self, address: int, size: int, protection: Protection) -> contextlib.AbstractContextManager[None]:
        """The same for as long as a `with` block lasts."""
        ...

    def lock(self, address: int, size: int, *, on_fault: bool) -> None:
        """Keep whole pages in memory."""
        ...

    def unlock(self, address: int, size: int) -> None:
        """The opposite."""
        ...

    def flush(self, address: int, size: int, *, wait: bool, invalidate: bool) -> None:
        """Write changed pages to the file behind them."""
        ...

    def unmap(self, mapping: Mapping) -> None:
        """Undo a mapping that has no buffer left."""
        ...

    def abandon(self, mapping: Mapping) -> None:
        """Undo a mapping that nobody refers to any more, now or when its last buffer has gone."""
        ...


class Mapping:
    """Memory that was mapped on purpose: whole pages [start, end), of which `length` bytes from `address` on are meant.

    A context manager. It is unmapped when it is closed, or, in this process, when nothing refers to it or to a buffer
    of it any more. While a buffer is left it cannot be closed: BufferInUse says so and nothing is done.
    """

    def __init__(
        self,
        memory: Keeper,
        extent: Range,
        body: Range,
        protection: Protection,
        *,
        address: int,
        length: int,
        what: str,
        descriptor: int | None = None,
        offset: int = 0,
        limit: int | None = None,
        secret: bool = False,
        page: int | None = None,
        keeps_room: bool = False,
    ) -> None:
        """Made by `Memory`. `extent`: all that was mapped, with guards. `limit`: the most that `length` may become;
        with a `descriptor` it is asked for when it matters, and counts from `offset`. `page`: the size of its pages,
        where it is not that of all. `keeps_room`: the room of what is behind it is taken before it is touched.
        """
        self.page = page or memory.page_size
        self._memory = memory
        self._extents = [extent]
        self._body = body
        self._parts: list[tuple[int, int, Protection]] = [(*body, protection)]
        self._address = address
        self._length = length
        self._what = what
        self._descriptor = descriptor
        self._identity = None if descriptor is None else _identity(descriptor)
        self._keeps_room = keeps_room
        self._offset = offset
        self._limit = limit
        self._secret = secret
        self._exports = Exports()
        self._closed = False
        self._scattered = False

    # ---- what it is ----

    @property
    def address(self) -> int:
        """The first byte that is meant; where a page begins, but in a guarded buffer."""
        self._check_open()
        return self._address

    @property
    def length(self) -> int:
        """Bytes that were asked for."""
        return self._length

    @property
    def start(self) -> int:
        """The first address of its pages, guards not counted."""
        self._check_open()
        return self._body[0]

    @property
    def end(self) -> int:
        """The address after its pages, guards not counted."""
        self._check_open()
        return self._body[1]

    @property
    def size(self) -> int:
        """Bytes in its pages."""
        return self._body[1] - self._body[0]

    @property
    def closed(self) -> bool:
        """Whether it has been unmapped, or lost: an exception (Ctrl-C) came into the middle of moving it."""
        return self._closed

    @property
    def descriptor(self) -> int:
        """The descriptor of the file or memory object behind it, closed with it. Raises UsageError when it has none."""
        self._check_open()
        if self._descriptor is None:
            raise UsageError(f"{self._what} has no descriptor of its own")
        return self._descriptor

    @property
    def protection(self) -> Protection:
        """The rights that all of its pages give."""
        self._check_open()
        common = Protection.READ | Protection.WRITE | Protection.EXECUTE
        for _, _, protection in self._parts:
            common &= protection
        return common

    def __dir__(self) -> list[str]:
        """What is for its users; the rest is for `Memory`, which made it."""
        return [name for name in super().__dir__() if name in _FOR_USERS or name.startswith("__")]

    def __repr__(self) -> str:
        if self._closed:
            return f"<Mapping of {self._what}, closed>"
        return f"<Mapping of {self._what}: {self._body[0]:#x}-{self._body[1]:#x}>"

    def regions(self) -> AddressSpace:
        """Its regions as the kernel tells them now, cut to its own pages (a kernel merges what lies side by side)."""
        self._check_open()
        space = self._memory.read_map()
        return AddressSpace.of(list(clip(space, *self._body)), space.origin)

    def as_region(self) -> Region:
        """Its one region as the kernel tells it now. Raises UsageError when it has several, with different rights."""
        found = list(self.regions())
        if len(found) != 1:
            raise UsageError(f"{self._what} has {len(found)} regions", hint="regions() gives them all")
        return found[0]

    # ---- its contents ----

    @property
    def buffer(self) -> memoryview:
        """Its `length` bytes; read-only when they cannot be written.

        A slice, a cast, an array made of it counts as a buffer, too. Raises UsageError when the memory cannot be read.
        """
        with self._memory.guard:
            self._check_whole()
            self._memory.require_buffers()
            protection = self.protection
            if not protection & Protection.READ:
                raise UsageError(f"{self._what} cannot be read: its rights are {protection.letters}")
            return self._exports.make(self, self._address, self._length, writable=bool(protection & Protection.WRITE))

    # ---- what can be done with it ----

    def protect(self, protection: Protection, offset: int = 0, size: int | None = None) -> None:
        """Change the rights of its pages: all, or `size` bytes from `offset` of its first page on.

        Raises BufferInUse, and does nothing, when a live buffer needs a right that would go. UsageError,
        OperationFailed.
        """
        low, high = self._part(offset, size)
        self._memory.protect(low, high - low, protection)

    @contextlib.contextmanager
    def protected(self, protection: Protection, offset: int = 0, size: int | None = None) -> Iterator[Mapping]:
        """The same for as long as the `with` block lasts; then the rights are what they were."""
        low, high = self._part(offset, size)
        with self._memory.protected(low, high - low, protection):
            yield self

    @flags_checked
    def lock(self, *, on_fault: bool = False) -> None:
        """Keep its pages in memory. Raises OperationFailed, with the limit and how to raise it."""
        low, high = self._part(0, None)
        self._memory.lock(low, high - low, on_fault=on_fault)

    def unlock(self) -> None:
        """The opposite."""
        low, high = self._part(0, None)
        self._memory.unlock(low, high - low)

    @flags_checked
    def flush(self, *, wait: bool = True, invalidate: bool = False) -> None:
        """Write what was changed to the file behind it (msync): done when it returns, unless `wait` is False."""
        low, high = self._part(0, None)
        self._memory.flush(low, high - low, wait=wait, invalidate=invalidate)

    def close(self) -> None:
        """Unmap it. Safe to call twice. Raises BufferInUse, and does nothing, while a buffer is left."""
        with self._memory.guard:
            if self._closed:
                return
            self.check_unexported("unmap")
            self._memory.unmap(self)

    def __enter__(self) -> Mapping:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        # Memory of another process takes a conversation, which must not be begun wherever the collector happens to run.
        if not getattr(self, "_closed", True) and self._memory.is_own:
            self._memory.abandon(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Two of them would unmap the same memory twice."""
        raise TypeError("a Mapping can be neither copied nor pickled; bytes(mapping.buffer) is a copy of its contents")

    # ---- for Memory ----

    @property
    def exports(self) -> Exports:
        """The buffers of it that are left."""
        return self._exports

    def check_unexported(self, verb: str) -> None:
        """Raises BufferInUse while a buffer is left."""
        if self._exports.needs():
            raise BufferInUse(
                f"cannot {verb} {self._what}: a buffer of it is still in use",
                hint="release() the memoryview, and delete what was made of it (slices, casts, arrays)",
            )

    def check_rights(self, low: int, high: int, protection: Protection) -> None:
        """Raises BufferInUse when a live buffer needs more than a part of its pages would give."""
        missing = self._exports.needs() & ~protection
        if missing and low < self._address + self._length and high > self._address:
            raise BufferInUse(
                f"cannot make {low:#x}-{high:#x} {protection.letters}: "
                f"a live buffer of {self._what} needs {missing.letters}",
                hint="release() the memoryview, and what was made of it; or unsafe=True: to touch it kills the process",
            )

    @property
    def extents(self) -> list[Range]:
        """All that is to be unmapped with it."""
        return self._extents

    @property
    def body(self) -> Range:
        """Its pages."""
        return self._body

    @property
    def parts(self) -> list[tuple[int, int, Protection]]:
        """Its pages by their rights."""
        return self._parts

    @property
    def is_secret(self) -> bool:
        """Whether it is wiped when it is closed."""
        return self._secret

    @property
    def is_plain(self) -> bool:
        """Whether it lies in one piece, without guards."""
        return not self._scattered and self._extents == [self._body]

    @property
    def limit(self) -> int | None:
        """The most that `length` may become; None for no bound.

        By what is behind it now, not by what was there when it was mapped: a file can be made longer, and shorter.
        Raises UsageError where its descriptor was closed by somebody, and its number may be another file's.
        """
        if self._descriptor is None:
            return self._limit
        if _identity(self._descriptor) != self._identity:
            raise UsageError(f"the descriptor {self._descriptor} of {self!r} was closed, and not by it")
        return max(os.fstat(self._descriptor).st_size - self._offset, 0)

    def take_room(self, length: int) -> None:
        """Before it becomes that long, where it keeps its room. Raises OSError when there is none."""
        if self._keeps_room and self._descriptor is not None:
            have_room(self._descriptor, self._offset + length)

    def covers(self, low: int, high: int) -> bool:
        """Whether a range lies in its pages."""
        return not self._scattered and self._body[0] <= low and high <= self._body[1]

    def note_rights(self, low: int, high: int, protection: Protection) -> None:
        """That a part of its pages has these rights now."""
        parts = []
        for start, end, had in self._parts:
            if start < low:
                parts.append((start, min(end, low), had))
            if end > high:
                parts.append((max(start, high), end, had))
        low, high = max(low, self._body[0]), min(high, self._body[1])
        self._parts = sorted([*parts, (low, high, protection)] if low < high else parts)

    def note_move(self, distance: int, *, kept_old: bool) -> None:
        """That all of it lies so far from where it was."""
        old = self._extents
        self._extents = [(low + distance, high + distance) for low, high in old] + (old if kept_old else [])
        self._body = self._body[0] + distance, self._body[1] + distance
        self._parts = [(low + distance, high + distance, rights) for low, high, rights in self._parts]
        self._address += distance

    def note_scattered(self, ranges: list[Range]) -> None:
        """That it lies in several places: all that can be done is to close it."""
        self._extents = ranges
        self._scattered = True

    def note_size(self, start: int, size: int, length: int) -> None:
        """That it has another size, and maybe another place."""
        self._body = start, start + size
        self._extents = [self._body]
        self._parts = [(*self._body, self._parts[0][2])]
        self._address, self._length = start, length

    def note_adrift(self) -> None:
        """That a call is about to take it away.

        It counts as closed until `note_settled`: when an exception comes in between (Ctrl-C), its pages may stay behind
        unused, but nobody touches, or unmaps, what lies now where they were.
        """
        self._closed = True

    def note_settled(self) -> None:
        """That the call has ended, and what is told of it holds."""
        self._closed = False

    def note_closed(self) -> int | None:
        """That it has been unmapped; gives the descriptor that is to be closed."""
        self._closed = True
        descriptor, self._descriptor = self._descriptor, None
        return descriptor if descriptor is None or _identity(descriptor) == self._identity else None

    def _part(self, offset: int, size: int | None) -> Range:
        self._check_whole()
        low, high = self._body
        offset = whole(offset, "offset")
        rest = high - low - offset if size is None else size
        found = check_range(
            low + offset, rest, page=self._memory.page_size, bits=self._memory.address_bits, what="part"
        )
        if not self.covers(*found):
            raise UsageError(f"{found[0]:#x}-{found[1]:#x} reaches beyond {self._what}, {low:#x}-{high:#x}")
        return found

    def _check_open(self) -> None:
        if self._closed:
            raise UsageError(f"the mapping of {self._what} has been closed", hint="map it anew")

    def _check_whole(self) -> None:
        self._check_open()
        if self._scattered:
            raise UsageError(f"{self._what} lies in several places after a move that stopped: it can only be closed")


_FOR_USERS = {
    *("address", "as_region", "buffer", "close", "closed", "descriptor", "end", "flush", "length", "lock", "protect"),
    *("protected", "protection", "regions", "size", "start", "unlock"),
}


def clip(space: AddressSpace, low: int, high: int) -> Iterator[Region]:
    """The regions of a range, cut to it. What is told of a whole region (residency) is not told of a cut one."""
    address = low
    while (region := space.find(address, or_next=True)) is not None and region.start < high:
        address = region.end
        start, end = max(region.start, low), min(region.end, high)
        if (start, end) != (region.start, region.end):
            offset = None if region.offset is None else region.offset + start - region.start
            region = region._replace(start=start, end=end, offset=offset, resident=None, private_resident=None)
        yield region
        if address >= high:
            return
