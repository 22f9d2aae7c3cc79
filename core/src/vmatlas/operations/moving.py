"""Moving memory: several mappings and the gaps between them, in one call where the kernel does that.

The new place is reserved first, so that nothing is overwritten and nobody comes in between. What moved when a move
stopped half-way is read from the map, not assumed.
"""

from __future__ import annotations

import contextlib
import errno
import weakref
from collections.abc import Callable

from vmatlas.arguments import shown
from vmatlas.errors import OperationFailed, UsageError
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations.checks import Range, apart, check_size, round_up
from vmatlas.operations.contract import Ability
from vmatlas.operations.mapping import Mapping, clip
from vmatlas.operations.memory import Memory
from vmatlas.operations.refusals import cut_huge_pages, failed, size_of_pages
from vmatlas.operations.values import Moved, PartlyMoved, Piece
from vmatlas.target.program import MapFlag

_MOVES_MANY: weakref.WeakKeyDictionary[Memory, bool] = weakref.WeakKeyDictionary()


def moves_many(memory: Memory) -> bool:
    """Whether one call moves several mappings, found out by moving some of our own: Linux since 6.17."""
    if memory not in _MOVES_MANY:
        _MOVES_MANY[memory] = _try_many(memory)
    return _MOVES_MANY[memory]


def _try_many(memory: Memory) -> bool:
    calls, page = memory.calls, memory.page_size
    try:
        with contextlib.ExitStack() as undoing:
            source = calls.map(0, 2 * page, Protection.NONE, MapFlag.NO_RESERVE)
            undoing.callback(calls.unmap, source, 2 * page)
            place = calls.map(0, 2 * page, Protection.NONE, MapFlag.NO_RESERVE)
            undoing.callback(calls.unmap, place, 2 * page)
            calls.protect(source + page, page, Protection.READ)  # two mappings now
            undoing.pop_all()
    except OperationFailed as failure:
        raise memory.failed("finding out whether several mappings move in one call", failure) from None
    try:
        calls.move(source, 2 * page, 2 * page, place, True, False)
    except OperationFailed:
        calls.unmap(source, 2 * page)
        # An older kernel has unmapped the new place before it refused (mm/mremap.c): it is ours only when it is free.
        with contextlib.suppress(OperationFailed):
            calls.map(place, 2 * page, Protection.NONE, MapFlag.NO_RESERVE | MapFlag.FIXED_NOT_OVER)
            calls.unmap(place, 2 * page)
        return False
    calls.unmap(place, 2 * page)
    return True


def move(
    memory: Memory,
    address: int,
    size: int,
    to: int | None = None,
    *,
    keep_old: bool = False,
    replace: bool = False,
    unsafe: bool = False,
) -> Moved:
    """See `vmatlas.operations.move`."""
    memory.require(Ability.MOVE, "moving memory")
    if keep_old:
        memory.require(Ability.KEEP_OLD, "moving memory and keeping its old place")
    low, high = memory.range(address, size, "range to move")
    if to is not None:
        target = memory.range(to, size, "new place")
        if not apart((low, high), target):
            raise UsageError(f"the range {low:#x}-{high:#x} and its new place at {target[0]:#x} overlap")
    elif replace:
        raise UsageError("replace=True needs an address: to=")
    with memory.guard:
        ours = _movable(memory, low, high)
        space = memory.read_map()
        regions = list(clip(space, low, high))
        if not regions:
            raise UsageError(f"nothing is mapped in {low:#x}-{high:#x}")
        memory.safety.check_move(regions, ours, unsafe=unsafe)
        _refuse_cut_huge_pages(memory, space, low, high)
        at_once = len(regions) == 1 or moves_many(memory)  # may fail: then nothing is reserved yet
        _refuse_place_within_huge_pages(memory, regions, low, to)
        if replace:
            _ask_whether_it_moves(memory, regions, low, high)
        reservation = _reserve_like(memory, regions, low, high, to, replace=replace, unsafe=unsafe)
        pieces = [Piece(each.start, each.end, reservation.start + each.start - low) for each in regions]
        return _moved(
            memory, low, high, pieces, reservation, ours, keep_old=keep_old, at_once=at_once, replaced=replace
        )


def _ask_whether_it_moves(memory: Memory, regions: list[Region], low: int, high: int) -> None:
    """Before anything is destroyed for it: to stay where it is, with its size, takes what a move takes of sealing."""
    for region in regions:
        try:
            memory.calls.move(region.start, region.size, region.size, None, False, False)
        except OperationFailed as failure:
            cause = memory.cause(region.start, region.end, failure)
            raise memory.failed(f"moving {low:#x}-{high:#x}", failure, cause) from None


def _refuse_cut_huge_pages(memory: Memory, space: AddressSpace, low: int, high: int) -> None:
    """Linux makes the size of a move whole huge pages (mm/mremap.c): what lies behind the new place would be lost."""
    if (cause := cut_huge_pages(space, low, high, memory.page_size)) is not None:
        refusal = OperationFailed("a huge page moves as a whole", errno=errno.EINVAL, errno_name="EINVAL")
        raise failed(f"moving {low:#x}-{high:#x}", refusal, cause)


def _largest_page(memory: Memory, regions: list[Region]) -> int:
    return max(region.page_size or memory.page_size for region in regions)


def _refuse_place_within_huge_pages(memory: Memory, regions: list[Region], low: int, to: int | None) -> None:
    """Linux moves a huge page to where one can begin alone."""
    page = _largest_page(memory, regions)
    if to is not None and (to - low) % page:
        near = to - (to - low) % page
        raise UsageError(
            f"what lies at {low:#x} goes by pages of {size_of_pages(page)}: it cannot be moved to {to:#x}",
            hint=f"to={near:#x} would do, or no place: then one is found",
        )


def _movable(memory: Memory, low: int, high: int) -> list[Mapping]:
    ours = memory.lifetimes.in_range(low, high)
    for mapping in ours:
        if any(start < low or end > high for start, end in mapping.extents):
            raise UsageError(f"{mapping!r} lies only in part in {low:#x}-{high:#x}: move the whole of it")
        mapping.check_unexported("move")
    return ours


class _Reservation:
    """Address space that is kept free: shared memory without rights, which the map tells from all that moves there."""

    def __init__(self, memory: Memory, start: int, size: int) -> None:
        self.memory, self.start, self.end = memory, start, start + size
        found = memory.read_map().find(start)
        self.identity = None if found is None else (found.device, found.inode)

    def holds(self, region: Region) -> bool:
        """Whether a region is a part of it that nothing has moved to."""
        return (
            self.identity is not None
            and (region.device, region.inode) == self.identity
            and self.start <= region.start
            and region.end <= self.end
        )

    def free(self, pieces: list[Piece]) -> None:
        """Unmap what the pieces, which are all in place, have left of it."""
        edge = self.start
        for piece in pieces:
            if edge < piece.to:
                self.memory.calls.unmap(edge, piece.to - edge)
            edge = piece.to + piece.size
        if edge < self.end:
            self.memory.calls.unmap(edge, self.end - edge)

    def free_as_read(self, space: AddressSpace) -> None:
        """Unmap what the map shows to be left of it."""
        for region in clip(space, self.start, self.end):
            if self.holds(region):
                self.memory.calls.unmap(region.start, region.size)


def _reserve_like(
    memory: Memory, regions: list[Region], low: int, high: int, to: int | None, *, replace: bool, unsafe: bool
) -> _Reservation:
    """A place in which huge pages begin where they may: more is taken, and what is too much given back."""
    page, size = _largest_page(memory, regions), high - low
    if to is not None or page <= memory.page_size:
        return _reserve(memory, size, to, replace=replace, unsafe=unsafe)
    taken = _reserve(memory, size + page, None, replace=replace, unsafe=unsafe)
    start = taken.start + (low - taken.start) % page
    for first, end in ((taken.start, start), (start + size, taken.end)):
        if first < end:
            memory.calls.unmap(first, end - first)
    taken.start, taken.end = start, start + size
    return taken


def _reserve(memory: Memory, size: int, to: int | None, *, replace: bool, unsafe: bool) -> _Reservation:
    place = memory.place(
        size,
        Protection.NONE,
        MapFlag.SHARED | MapFlag.NO_RESERVE,
        at=to,
        replace=replace,
        unsafe=unsafe,
        what="the new place",
    )
    reservation = _Reservation(memory, place.start, size)
    place.note_closed()  # from here on it is the move's
    return reservation


def _moved(
    memory: Memory,
    low: int,
    high: int,
    pieces: list[Piece],
    reservation: _Reservation,
    ours: list[Mapping],
    *,
    keep_old: bool,
    at_once: bool,
    replaced: bool,
) -> Moved:
    first, last = pieces[0], pieces[-1]
    steps = [Piece(first.start, last.end, first.to)] if at_once else pieces
    distance = reservation.start - low
    failure: OperationFailed | None = None
    for mapping in ours:
        mapping.note_adrift()
    for step in steps:
        try:
            got = memory.calls.move(step.start, step.size, step.size, step.to, True, keep_old)
        except OperationFailed as refusal:
            failure = refusal
            break
        if got != step.to:  # a driver of its own mind; seen on none
            failure = OperationFailed(f"the kernel put {step.start:#x} at {got:#x} and not at {step.to:#x}")
            break
    if failure is None:
        for mapping in ours:
            mapping.note_move(distance, kept_old=keep_old)
            mapping.note_settled()
        reservation.free(pieces)
        return Moved(low, high - low, reservation.start, tuple(pieces), at_once=at_once, kept_old=keep_old)
    after = memory.read_map()
    result = judge(after, pieces, reservation.holds, low=low, size=high - low, keep_old=keep_old, at_once=at_once)
    for mapping in ours:
        if _note_stop(mapping, result, distance, keep_old=keep_old):
            mapping.note_settled()
        else:
            memory.lifetimes.forget(mapping)
    reservation.free_as_read(after)
    said = f"moving {low:#x}-{high:#x} to {reservation.start:#x}"
    if not result.moved and not result.lost:
        # Holes in the range are moved with it: they are no cause of anything.
        is_told = failure.errno_name in ("EPERM", "EINVAL")
        told = memory.failed(said, failure, memory.cause(low, high, failure) if is_told else None)
        if replaced:
            told.message += "; what lay at the new place is gone"
        raise told from None
    raise PartlyMoved(
        f"{said} stopped half-way ({failure.errno_name or failure.message}): "
        f"{len(result.moved)} of {len(pieces)} mappings have moved, "
        f"{len(result.left)} are where they were" + (f", {len(result.lost)} are gone" if result.lost else ""),
        result,
        errno=failure.errno,
        errno_name=failure.errno_name,
    ) from None


def judge(
    after: AddressSpace,
    pieces: list[Piece],
    is_reservation: Callable[[Region], bool],
    *,
    low: int,
    size: int,
    keep_old: bool,
    at_once: bool,
) -> Moved:
    """Which piece is where, by the map as it was read after a move that stopped. Pure."""
    moved, left, lost = [], [], []
    for piece in pieces:
        there, here = after.find(piece.to), after.find(piece.start)
        if there is not None and not is_reservation(there):
            moved.append(piece)
        elif here is not None:
            left.append(piece)
        else:
            lost.append(piece)
    to = pieces[0].to - (pieces[0].start - low)
    return Moved(low, size, to, tuple(moved), tuple(left), tuple(lost), at_once=at_once, kept_old=keep_old)


def _note_stop(mapping: Mapping, result: Moved, distance: int, *, keep_old: bool) -> bool:
    """What is where of a mapping; whether anything of it is left. What is gone is nowhere, and never unmapped."""

    def shares(pieces: tuple[Piece, ...]) -> list[Range]:
        # A piece is a region as the kernel tells it, which may be merged of several mappings of ours.
        cut = [(max(p.start, low), min(p.end, high)) for p in pieces for low, high in mapping.extents]
        return [(low, high) for low, high in cut if low < high]

    moved, left, lost = shares(result.moved), shares(result.left), shares(result.lost)
    if not moved and not lost:
        return True
    if not left and not lost:
        mapping.note_move(distance, kept_old=keep_old)
        return True
    places = [(low + distance, high + distance) for low, high in moved] + left + (moved if keep_old else [])
    mapping.note_scattered(sorted(places))
    return bool(places)


def resize(memory: Memory, mapping: Mapping, size: int, *, may_move: bool = True) -> Mapping:
    """See `vmatlas.operations.resize`."""
    memory.require(Ability.RESIZE, "resizing a mapping")
    if not isinstance(mapping, Mapping):
        raise UsageError(f"{shown(mapping)} is no mapping", hint="give what map_anonymous and its like gave")
    length = check_size(size, bits=memory.address_bits)
    with memory.guard:
        start, old = mapping.start, mapping.size  # raises when it is closed
        if not mapping.is_plain or mapping.is_secret:
            raise UsageError(f"{mapping!r} cannot be resized: it has guards, is a secret, or lies in several places")
        if len({rights for _, _, rights in mapping.parts}) > 1:
            raise UsageError(f"{mapping!r} has parts of different rights", hint="protect() the whole of it alike first")
        memory.safety.check_length(mapping, length)
        mapping.check_unexported("resize")
        new = round_up(length, mapping.page)
        if new > old:
            mapping.take_room(length)
        if new != old:
            # The kernel enlarges it where it is when nothing is mapped there: also where a stack is still to grow.
            place: _Reservation | None = None
            if new > old and memory.safety.stack_over(start + old, start + new) is not None:
                if not may_move:
                    memory.safety.check_place(start + old, start + new, unsafe=False)
                place = _reserve(memory, new, None, replace=False, unsafe=False)
            mapping.note_adrift()
            try:
                start = memory.calls.move(start, old, new, None if place is None else place.start, may_move, False)
            except OperationFailed as failure:
                mapping.note_settled()
                if place is not None:
                    place.free_as_read(memory.read_map())
                if (outside := memory.outside(f"resizing {mapping!r}", new, failure)) is not None:
                    raise outside from None
                told = memory.failed(
                    f"resizing {mapping!r} to {new:,} bytes", failure, memory.cause(start, start + old, failure)
                )
                if failure.errno_name == "ENOMEM" and not may_move:
                    told.hint = "something lies above it: may_move=True lets the kernel take another place"
                if failure.errno_name == "EFAULT":  # mremap(2): the range is not one mapping
                    told.hint = "the kernel has it as several mappings: parts of it were locked, or advised, apart"
                raise told from None
        mapping.note_size(start, new, length)
        mapping.note_settled()
        return mapping
