"""Memory operations on the memory of one process, true on every system: what stands above a system's raw calls.

It knows the mappings it made. Memory that is not one of them is changed only with `unsafe=True`; a call that cannot be
made whole is undone, or says exactly what is now where.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from typing import TypeAlias

from vmatlas import api
from vmatlas.errors import OperationFailed, Unsupported, UsageError, VmatlasError
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations.checks import Range, check_protection, check_range, check_size, round_up
from vmatlas.operations.contract import Ability, Calls
from vmatlas.operations.lifetimes import Lifetimes
from vmatlas.operations.mapping import Mapping, clip
from vmatlas.operations.own_advice import advise_own
from vmatlas.operations.refusals import (
    OF_GUARDS,
    cause_in_map,
    explain_lock,
    failed,
    failed_there,
    limit_reached,
    occupied,
)
from vmatlas.operations.safety import Safety
from vmatlas.operations.values import Advice, Advised
from vmatlas.target.program import READ_WRITE, MapFlag

ReadMap: TypeAlias = Callable[[], AddressSpace]


def read_own_map() -> AddressSpace:
    """This process's map, with the system's flags where it tells them."""
    try:
        return api.snapshot(residency=True)
    except Unsupported:
        return api.snapshot()


class Memory:
    """The memory of a process that carries out calls. `vmatlas.operations` has one for this process."""

    def __init__(self, calls: Calls, read_map: ReadMap = read_own_map) -> None:
        """`read_map` gives the map of the process whose memory it is."""
        self.calls = calls
        self.read_map = read_map
        self.guard = threading.RLock()
        """Held while something changes, and while the process forks: a child shall not see a half-made change."""
        self.page_size = calls.page_size
        self.address_bits = calls.address_bits
        self.lifetimes = Lifetimes(calls, lambda: self.read_map())
        self.safety = Safety(calls, self.lifetimes, lambda: self.read_map())

    @property
    def is_own(self) -> bool:
        """Whether it is this process's."""
        return Ability.BUFFERS in self.calls.abilities

    def follow_forks(self) -> None:
        """From now on. Once, for this process's memory."""
        os.register_at_fork(
            before=lambda: self.guard.acquire(),
            after_in_parent=lambda: self.guard.release(),
            after_in_child=self._after_fork,
        )

    def _after_fork(self) -> None:
        self.guard = threading.RLock()

    def require(self, ability: Ability, what: str) -> None:
        """Raises Unsupported, with the reason, when the system lacks it."""
        if ability not in self.calls.abilities:
            raise Unsupported(f"{what}: {self.calls.lacks(ability)}")

    def require_buffers(self) -> None:
        """Raises Unsupported when the memory is another process's."""
        self.require(Ability.BUFFERS, "a buffer")

    def own(self, low: int, high: int) -> Mapping | None:
        """The mapping of ours whose pages hold a whole range."""
        return self.lifetimes.holding(low, high)

    def range(self, address: int, size: int, what: str = "range") -> Range:
        """[start, end) of whole pages. Raises UsageError."""
        return check_range(address, size, page=self.page_size, bits=self.address_bits, what=what)

    # ---- mapping ----

    def map_anonymous(
        self,
        size: int,
        *,
        at: int | None = None,
        replace: bool = False,
        shared: bool = False,
        protection: Protection = READ_WRITE,
        populate: bool = False,
        no_reserve: bool = False,
        unsafe: bool = False,
    ) -> Mapping:
        """See `vmatlas.operations.map_anonymous`."""
        length = check_size(size, bits=self.address_bits)
        flags = MapFlag.SHARED if shared else MapFlag.NONE
        flags |= (MapFlag.POPULATE if populate else 0) | (MapFlag.NO_RESERVE if no_reserve else 0)
        return self.place(
            length,
            protection,
            flags,
            at=at,
            replace=replace,
            unsafe=unsafe,
            what="anonymous memory",
            # Shared memory is an object of that size: what mremap adds to the mapping kills who touches it (SIGBUS).
            limit=round_up(length, self.page_size) if shared else None,
        )

    def place(
        self,
        length: int,
        protection: Protection,
        flags: MapFlag,
        *,
        descriptor: int = -1,
        offset: int = 0,
        at: int | None = None,
        replace: bool = False,
        unsafe: bool = False,
        what: str,
        limit: int | None = None,
        keep_descriptor: bool = False,
        page: int | None = None,
        keeps_room: bool = False,
    ) -> Mapping:
        """Map whole pages, anywhere or just there; undone when it cannot be done whole. `page`: their size, where it is
        not that of all."""
        check_protection(protection)
        page = page or self.page_size
        size = round_up(length, page)
        self.lifetimes.release_abandoned()
        with self.guard:
            if at is None:
                if replace:
                    raise UsageError("replace=True needs an address: at=")
                start = self._mapped(what, 0, size, protection, flags, descriptor, offset)
            else:
                self.range(at, size, "place")
                self.safety.check_place(at, at + size, unsafe=unsafe)
                if replace:
                    # What cannot be had at all shall destroy nothing.
                    trial = self._mapped(what, 0, size, protection, flags, descriptor, offset)
                    self.calls.unmap(trial, size)
                    over = flags | MapFlag.FIXED
                    with self._giving_way(at, at + size, unsafe=unsafe):
                        start = self._mapped(what, at, size, protection, over, descriptor, offset)
                else:
                    start = self._mapped_exactly(what, at, size, protection, flags, descriptor, offset)
            made = Mapping(
                self,
                (start, start + size),
                (start, start + size),
                protection,
                address=start,
                length=length,
                what=what,
                descriptor=descriptor if keep_descriptor else None,
                offset=offset,
                limit=limit,
                page=page,
                keeps_room=keeps_room,
            )
            return self.lifetimes.adopt(made)

    def _mapped(
        self, what: str, at: int, size: int, protection: Protection, flags: MapFlag, descriptor: int, offset: int
    ) -> int:
        try:
            return self.calls.map(at, size, protection, flags, descriptor, offset)
        except OperationFailed as failure:
            is_over = flags & MapFlag.FIXED and failure.errno_name == "EPERM"
            cause = self.cause(at, at + size, failure) if is_over else None
            said = f"mapping {what}, {size:,} bytes" + (f" at {at:#x}" if at else "")
            raise self.outside(said, at + size, failure) or self.failed(said, failure, cause) from None

    def _mapped_exactly(
        self, what: str, at: int, size: int, protection: Protection, flags: MapFlag, descriptor: int, offset: int
    ) -> int:
        """Just there and over nothing.

        A kernel that does not know the flag (Linux before 4.17) takes the address for a hint, and so do systems without
        one: then the address that came is compared, and a mapping that is elsewhere undone.
        """
        if Ability.PLACE in self.calls.abilities:
            flags |= MapFlag.FIXED_NOT_OVER
        try:
            start = self.calls.map(at, size, protection, flags, descriptor, offset)
        except OperationFailed as failure:
            if failure.errno_name in self.calls.occupied:
                raise occupied(what, at, size, failure.errno) from None
            said = f"mapping {what}, {size:,} bytes at {at:#x}"
            raise self.outside(said, at + size, failure) or self.failed(said, failure) from None
        if start != at:
            self.calls.unmap(start, size)
            raise occupied(what, at, size, 0)
        return start

    @contextlib.contextmanager
    def _giving_way(self, low: int, high: int, *, unsafe: bool) -> Iterator[None]:
        """What is ours in [low, high) gives way to what is mapped over it within the block: then it is closed.

        It must be ours to destroy. While the kernel is asked it counts as closed, and where the kernel refuses, it is
        what the map shows to be left of it: usually all, since a refusal comes before anything is unmapped; a driver,
        or want of memory, can refuse when it has been (mm/mmap.c, `mmap_region`). A secret is wiped before that, and
        has its contents again where it stayed.
        """
        ours = self.lifetimes.in_range(low, high)
        for mapping in ours:
            if any(start < low or end > high for start, end in mapping.extents):
                raise UsageError(
                    f"{mapping!r} lies only in part where something is to be mapped", hint="close it first"
                )
            mapping.check_unexported("replace")
        extents = sorted(extent for mapping in ours for extent in mapping.extents)
        taken = [] if unsafe else self._take_gaps(low, high, extents)
        try:
            with self._keeping_secrets([mapping for mapping in ours if mapping.is_secret]) as give_back:
                both = sorted([*extents, *taken])
                before = self._lying(self.read_map(), both) if both else {}
                for mapping in ours:
                    mapping.note_adrift()
                try:
                    yield
                except VmatlasError:
                    left = self._unchanged(before)
                    give_back(left)
                    self._settle(ours, left)
                    taken = [each for each in taken if each in left]
                    raise
        except (VmatlasError, MemoryError):
            for start, end in taken:
                self.calls.unmap(start, end - start)
            raise
        for mapping in ours:
            self.lifetimes.forget(mapping)

    @staticmethod
    def _lying(space: AddressSpace, extents: list[Range]) -> dict[Range, list[object]]:
        """What the map tells of each extent, as far as a call that changes nothing leaves it as it is."""
        return {
            (low, high): [
                (r.start, r.end, r.protection, r.shared, r.device, r.inode, r.offset, r.path, r.flags)
                for r in clip(space, low, high)
            ]
            for low, high in extents
        }

    def _unchanged(self, before: dict[Range, list[object]]) -> list[Range]:
        """The extents that are as they were; none where the map cannot be read: what may be gone is not touched."""
        if not before:
            return []
        try:
            after = self._lying(self.read_map(), list(before))
        except (VmatlasError, MemoryError):
            return []
        return [extent for extent, lying in before.items() if lying and after[extent] == lying]

    def _settle(self, ours: list[Mapping], left: list[Range]) -> None:
        """After a refusal: what is left of each is what it is; what is gone is nowhere, and never unmapped."""
        for mapping in ours:
            kept = [extent for extent in mapping.extents if extent in left]
            if not kept:
                self.lifetimes.forget(mapping)
                continue
            if len(kept) < len(mapping.extents):
                mapping.note_scattered(kept)
            mapping.note_settled()

    @contextlib.contextmanager
    def _keeping_secrets(self, secrets: list[Mapping]) -> Iterator[Callable[[list[Range]], None]]:
        """Secrets are wiped, since the kernel may take their pages within the block. What is given has those extents
        hold again what they held; meanwhile that lies in memory that is as secret."""
        extents = [extent for mapping in secrets for extent in mapping.extents]
        if not extents:
            yield lambda left: None
            return
        size = sum(high - low for low, high in extents)
        said = f"mapping over {secrets[0]!r}"
        try:
            copy = self.calls.map(0, size, READ_WRITE, MapFlag.NONE)
        except OperationFailed as failure:
            raise self.failed(said, failure) from None
        try:
            kept = self._moved_secrets(said, secrets, copy, size)

            def give_back(left: list[Range]) -> None:
                for extent, at in kept.items():
                    if extent in left:
                        ctypes.memmove(extent[0], at, extent[1] - extent[0])
                for mapping in secrets:
                    for start, end, rights in had[mapping]:
                        if any(low <= start and end <= high for low, high in left):
                            self._protect(start, end, rights)

            had = {mapping: list(mapping.parts) for mapping in secrets}
            for mapping in secrets:
                mapping.note_rights(*mapping.body, READ_WRITE)
            yield give_back
        finally:
            ctypes.memset(copy, 0, size)
            self.calls.unmap(copy, size)

    def _moved_secrets(self, said: str, secrets: list[Mapping], copy: int, size: int) -> dict[Range, int]:
        """Where in the copy the contents of each extent lie now, which is zeros."""
        try:
            self.calls.lock(copy, size, False)
        except OperationFailed as failure:
            told = explain_lock(self.calls, failure, size)
            told.message = f"{said}, whose contents are kept until it is done: {told.message}"
            told.hint = "close it first" if told.hint is None else f"close it first, or {told.hint}"
            raise told from None
        kept: dict[Range, int] = {}
        try:
            for advice in (Advice.DONTDUMP, Advice.WIPEONFORK):
                if (number := self.calls.advice_number(advice)) is not None:
                    self.calls.advise(copy, size, number)
            for low, high in (extent for mapping in secrets for extent in mapping.extents):
                self.calls.protect(low, high - low, READ_WRITE)
                kept[low, high] = copy + sum(end - start for start, end in kept)
        except OperationFailed as failure:
            low, high = secrets[0].body
            raise self.failed(said, failure, self.cause(low, high, failure)) from None
        for (low, high), at in kept.items():
            ctypes.memmove(at, low, high - low)
            ctypes.memset(low, 0, high - low)
        return kept

    def _take_gaps(self, low: int, high: int, taken: list[Range]) -> list[Range]:
        """Reserve what is free between our own mappings, so that nothing can come there before it is replaced."""
        reserved: list[Range] = []
        edge = low
        for start, end in [*taken, (high, high)]:
            if edge < start:
                try:
                    self._mapped_exactly(
                        "a reservation", edge, start - edge, Protection.NONE, MapFlag.NO_RESERVE, -1, 0
                    )
                except VmatlasError:
                    for first, last in reserved:
                        self.calls.unmap(first, last - first)
                    raise UsageError(
                        f"something that is not ours lies in {low:#x}-{high:#x}",
                        hint="unsafe=True destroys it all the same: the interpreter's own memory does not survive that",
                    ) from None
                reserved.append((edge, start))
            edge = end
        return reserved

    def failed(self, what: str, failure: OperationFailed, cause: str | None = None) -> OperationFailed:
        """The failure of a raw call as that of what was asked, with its cause: that of the map, or a limit."""
        return failed(what, failure, cause or limit_reached(self.calls, failure))

    def outside(self, what: str, end: int, failure: OperationFailed) -> UsageError | None:
        """What was asked for ends above all that a process of this system can have: then it is no matter of room.

        Where the end of that lies depends on the processor and the kernel (five levels of page tables), and nothing
        tells it; so a page just below `end` is asked for, and one anywhere. None where the kernel would give it, or
        cannot be asked so.
        """
        if failure.errno_name != "ENOMEM" or Ability.PLACE not in self.calls.abilities:
            return None
        page = self.page_size
        flags = MapFlag.NO_RESERVE
        try:
            self.calls.unmap(self.calls.map(0, page, Protection.NONE, flags), page)
        except OperationFailed:
            return None  # nothing can be had any more, wherever it lies
        try:
            got = self.calls.map(end - page, page, Protection.NONE, flags | MapFlag.FIXED_NOT_OVER)
        except OperationFailed as refusal:
            if refusal.errno_name != "ENOMEM":
                return None
        else:
            self.calls.unmap(got, page)
            return None
        return UsageError(
            f"{what} reaches to {end:#x}, above all that a process can have on this machine",
            hint="addresses and sizes are in bytes; vmatlas maps self shows what lies where",
        )

    def cause(self, low: int, high: int, failure: OperationFailed, *, guards: str | None = None) -> str | None:
        """See `refusals.cause_in_map`."""
        return cause_in_map(self.read_map, low, high, failure.errno_name, page=self.page_size, guards=guards)

    def unmap(self, mapping: Mapping) -> None:
        """See `Lifetimes`. For Mapping."""
        try:
            self.lifetimes.unmap(mapping)
        except OperationFailed as failure:
            causes = (self.cause(low, high, failure) for low, high in mapping.extents)
            failure.hint = next(filter(None, causes), limit_reached(self.calls, failure) or failure.hint)
            raise

    def abandon(self, mapping: Mapping) -> None:
        """See `Lifetimes`. For Mapping."""
        self.lifetimes.abandon(mapping)

    # ---- protecting ----

    def protect(self, address: int, size: int, protection: Protection, *, unsafe: bool = False) -> None:
        """See `vmatlas.operations.protect`."""
        check_protection(protection)
        low, high = self.range(address, size)
        with self.guard:
            self.safety.check_rights(low, high, protection, unsafe=unsafe)
            self._protect(low, high, protection)

    def _protect(self, low: int, high: int, protection: Protection) -> None:
        touched = self.lifetimes.in_range(low, high)
        for mapping in touched:  # when it fails, or an exception comes: count on the rights that pages have either way
            for start, end, had in list(mapping.parts):
                if start < high and end > low:
                    mapping.note_rights(max(start, low), min(end, high), had & protection)
        try:
            self.calls.protect(low, high - low, protection)
        except OperationFailed as failure:
            self._note_rights_as_told(touched, low, high)
            what = f"making {low:#x}-{high:#x} {protection.letters}"
            outside = self.outside(what, high, failure)
            raise outside or self.failed(what, failure, self.cause(low, high, failure)) from None
        for mapping in touched:
            mapping.note_rights(low, high, protection)

    def _note_rights_as_told(self, mappings: list[Mapping], low: int, high: int) -> None:
        """After a refusal, which may have come half-way; where the map cannot be read they are counted on no more."""
        with contextlib.suppress(VmatlasError, MemoryError):
            for region in clip(self.read_map(), low, high) if mappings else ():
                for mapping in mappings if not region.protection & Protection.UNTOLD else ():
                    if region.start < mapping.body[1] and mapping.body[0] < region.end:
                        mapping.note_rights(region.start, region.end, region.protection)

    @contextlib.contextmanager
    def protected(self, address: int, size: int, protection: Protection, *, unsafe: bool = False) -> Iterator[None]:
        """See `vmatlas.operations.protected`."""
        check_protection(protection)
        low, high = self.range(address, size)
        with self.guard:
            before, had = self._rights(low, high), self.own(low, high)
            self.protect(low, high - low, protection, unsafe=unsafe)
        try:
            yield
        finally:
            with self.guard:
                mapping = self.own(low, high)
                if not unsafe and mapping is not had:
                    before = []  # it was closed or moved meanwhile: what lies there now is somebody else's
                for start, end, rights in before:
                    if mapping is not None and not unsafe:
                        mapping.check_rights(start, end, rights)
                    self._protect(start, end, rights)

    def _rights(self, low: int, high: int) -> list[tuple[int, int, Protection]]:
        mapping = self.own(low, high)
        if mapping is not None:
            return [
                (max(start, low), min(end, high), rights)
                for start, end, rights in mapping.parts
                if start < high and end > low
            ]
        return [(region.start, region.end, region.protection) for region in clip(self.read_map(), low, high)]

    # ---- locking, flushing ----

    def lock(self, address: int, size: int, *, on_fault: bool = False) -> None:
        """See `vmatlas.operations.lock`."""
        self.require(Ability.LOCK_ON_FAULT if on_fault else Ability.LOCK, "locking on fault" if on_fault else "locking")
        low, high = self.range(address, size)
        before = self.calls.locked_bytes()
        try:
            self.calls.lock(low, high - low, on_fault)
        except OperationFailed as failure:
            outside = self.outside(f"locking {low:#x}-{high:#x}", high, failure)
            raise outside or self._lock_refused(low, high, failure, before, touches=not on_fault) from None

    def _lock_refused(
        self, low: int, high: int, failure: OperationFailed, before: int | None, *, touches: bool
    ) -> OperationFailed:
        """Why, and with what was locked all the same unlocked: Linux locks first, and then has the pages come
        (mm/mlock.c, `do_mlock`); the first that does not ends it, and leaves the range locked."""
        size, after = high - low, self.calls.locked_bytes()
        if failure.errno_name not in ("ENOMEM", "EAGAIN"):
            return explain_lock(self.calls, failure, size, before=before)
        cause = self._why_not_locked(low, high, failure, touches=touches) if failure.errno_name == "ENOMEM" else None
        if before is None or after is None:
            told = explain_lock(self.calls, failure, size, cause, before=before)
            told.message += "" if told.hint else "; whether a part of it is locked now is not told here"
            return told
        added, locked = max(after - before, 0), self._locked(low, high)
        counted = sum(end - start for start, end in locked)
        told = explain_lock(self.calls, failure, size, cause, before=before, added=added, counted=counted - added)
        if added and not (counted == added and self._unlocked(locked)):
            told.message += (
                f"; {added:,} bytes more are locked now than before, and stay so: which of the range were locked before"
                " is not told"
            )
        return told

    def _unlocked(self, ranges: list[Range]) -> bool:
        try:
            for low, high in ranges:
                self.calls.unlock(low, high - low)
        except OperationFailed:
            return False
        return True

    def _why_not_locked(self, low: int, high: int, failure: OperationFailed, *, touches: bool) -> str | None:
        def size_of(region: Region) -> int | None:
            if not self.is_own:
                return None
            with api.open() as own:
                return own.file_size(region)

        name = failure.errno_name
        guards, sizes = (name, size_of) if touches else (None, None)
        return cause_in_map(self.read_map, low, high, name, page=self.page_size, guards=guards, size_of=sizes)

    def _locked(self, low: int, high: int) -> list[Range]:
        """What the flags of the map tell to be locked in a range."""
        try:
            space = self.read_map()
        except (VmatlasError, MemoryError):
            return []
        return [(r.start, r.end) for r in clip(space, low, high) if r.flags is not None and r.flags.locked]

    def unlock(self, address: int, size: int, *, unsafe: bool = False) -> None:
        """See `vmatlas.operations.unlock`."""
        self.require(Ability.LOCK, "locking")
        low, high = self.range(address, size)
        self.safety.check_unlock(low, high, unsafe=unsafe)
        self._refuse_secrets([each for each in self.lifetimes.in_range(low, high) if each.is_secret])
        try:
            self.calls.unlock(low, high - low)
        except OperationFailed as failure:
            what = f"unlocking {low:#x}-{high:#x}"
            outside = self.outside(what, high, failure)
            cause = self.cause(low, high, failure) or limit_reached(self.calls, failure)
            raise outside or failed_there(what, failure, cause) from None

    def lock_all(self, *, current: bool = True, future: bool = False, on_fault: bool = False) -> None:
        """See `vmatlas.operations.lock_all`."""
        self.require(Ability.LOCK_ALL, "locking all memory")
        if not (current or future):
            raise UsageError("lock_all: say what is to be locked: current, future, or both")
        if on_fault:
            self.require(Ability.LOCK_ON_FAULT, "locking on fault")
        try:
            self.calls.lock_all(current, future, on_fault)
        except OperationFailed as failure:
            raise explain_lock(self.calls, failure, None) from None

    def unlock_all(self, *, unsafe: bool = False) -> None:
        """See `vmatlas.operations.unlock_all`."""
        self.require(Ability.LOCK_ALL, "locking all memory")
        self._refuse_secrets([each for each in self.lifetimes.open() if each.is_secret])
        self.safety.check_unlock_all(unsafe=unsafe)
        try:
            self.calls.unlock_all()
        except OperationFailed as failure:
            raise failed("unlocking all memory", failure) from None

    @staticmethod
    def _refuse_secrets(secrets: list[Mapping]) -> None:
        if secrets:
            raise UsageError(
                f"{secrets[0]!r} is a secret, which stays locked until it is closed", hint="close it first"
            )

    def flush(self, address: int, size: int, *, wait: bool = True, invalidate: bool = False) -> None:
        """See `vmatlas.operations.flush`."""
        low, high = self.range(address, size)
        try:
            self.calls.flush(low, high - low, wait, invalidate)
        except OperationFailed as failure:
            what = f"flushing {low:#x}-{high:#x}"
            outside = self.outside(what, high, failure)
            raise outside or failed_there(what, failure, self.cause(low, high, failure)) from None

    # ---- advice on this memory ----

    def advise(self, ranges: list[Range], advice: Advice, pid: int, *, unsafe: bool, dry_run: bool) -> Advised:
        """One madvise for each range, in order, until one is refused; see `vmatlas.operations.advise`."""
        with self.guard:
            return advise_own(
                self.calls,
                ranges,
                advice,
                pid,
                safety=self.safety,
                unsafe=unsafe,
                dry_run=dry_run,
                cause=lambda low, high, failure: self._why_stopped(low, high, failure, advice),
            )

    def _why_stopped(self, low: int, high: int, failure: OperationFailed, advice: Advice) -> str | None:
        if (outside := self.outside("the range", high, failure)) is not None:
            return outside.message
        return self.cause(low, high, failure, guards=OF_GUARDS.get(advice)) or limit_reached(self.calls, failure)
