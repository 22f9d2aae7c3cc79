"""What may be touched without `unsafe=True`: the one place that decides it, whichever call asks.

Ordinary use must not crash the process, and must not undo what others in it have protected. So memory that was not
made here is changed only with `unsafe=True`, nothing comes to lie where a stack grows, and what is mapped is memory and
no device's register. Nothing is changed here.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence

from vmatlas.errors import Unsupported, UsageError
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations.checks import Range
from vmatlas.operations.contract import Calls, Operations
from vmatlas.operations.faults import STACK_GAP, can_grow
from vmatlas.operations.lifetimes import Lifetimes
from vmatlas.operations.mapping import Mapping
from vmatlas.operations.values import HARMLESS, MAKES_FAULTS, UNDOES_SECRETS, Advice

_NO_STACK_LIMIT = 128 << 20
"""Bytes below a stack's end to keep free when it has no limit: what Linux keeps (MIN_GAP of mmap_base)."""

_AS_GOOD_AS_NONE = 2**40
"""A limit of the stack, in bytes, from which on it is none: no program has such a stack."""

_NOT_OURS = "is not in a mapping made by vmatlas.operations"


class Safety:
    """The rules for the memory of one process."""

    def __init__(self, calls: Calls, lifetimes: Lifetimes, read_map: Callable[[], AddressSpace]) -> None:
        """`lifetimes` knows the mappings that were made here; `read_map` gives the map of the process."""
        self._calls = calls
        self._lifetimes = lifetimes
        self._read_map = read_map

    # ---- ranges ----

    def check_place(self, low: int, high: int, *, unsafe: bool) -> None:
        """Before something is mapped at [low, high). Raises UsageError where a stack grows."""
        if not unsafe and (stack := self.stack_over(low, high)) is not None:
            raise UsageError(
                f"{low:#x}-{high:#x} lies where the stack {stack.start:#x}-{stack.end:#x} grows",
                hint="take another address, or none; unsafe=True maps it all the same: a deep call may then crash",
            )

    def stack_over(self, low: int, high: int) -> Region | None:
        """The stack that would grow into [low, high), which kills the process."""
        if not self._calls.stacks_grow:
            return None
        import resource

        limit = resource.getrlimit(resource.RLIMIT_STACK)[0]
        if limit == resource.RLIM_INFINITY or limit >= _AS_GOOD_AS_NONE:
            limit = _NO_STACK_LIMIT
        # The kernel keeps a gap between a stack and what is below it, and fails a touch that would make it smaller. The
        # last page within the limit is not counted: nobody can know how far the program's arguments reach into it.
        room = limit + (STACK_GAP - 1) * self._calls.page_size
        for region in self._read_map():
            if can_grow(region) and low < region.start and high > region.end - room:
                return region
        return None

    def check_rights(self, low: int, high: int, protection: Protection, *, unsafe: bool) -> None:
        """Before the rights of [low, high) change. Raises UsageError, and BufferInUse."""
        if unsafe:
            return
        mapping = self._lifetimes.holding(low, high)
        if mapping is None:
            raise UsageError(
                f"{low:#x}-{high:#x} {_NOT_OURS}",
                hint="unsafe=True changes it all the same: the interpreter may not survive that",
            )
        mapping.check_rights(low, high, protection)

    def check_unlock(self, low: int, high: int, *, unsafe: bool) -> None:
        """Before [low, high) is unlocked. Raises UsageError: whoever locked it may keep a secret out of swap."""
        if not unsafe and self._lifetimes.holding(low, high) is None:
            raise UsageError(
                f"{low:#x}-{high:#x} {_NOT_OURS}: whoever locked it may have to rely on that",
                hint="unsafe=True unlocks it all the same: what was to stay in memory may then go to swap",
            )

    @staticmethod
    def check_unlock_all(*, unsafe: bool) -> None:
        """Before everybody's locks are undone. Raises UsageError."""
        if not unsafe:
            raise UsageError(
                "unlocking all memory needs unsafe=True: locks of other code in this process go with one's own",
                hint="unlock what you locked; unsafe=True unlocks everything, and secrets of others may go to swap",
            )

    def check_move(self, regions: Iterable[Region], ours: list[Mapping], *, unsafe: bool) -> None:
        """Before regions move. Raises UsageError, and Unsupported for what the kernel would stop at."""
        if unsafe:
            return
        regions = list(regions)
        for region in regions:
            at = region.start
            for start, end in sorted(extent for mapping in ours for extent in mapping.extents):
                at = end if start <= at < end else at
            if at < region.end:
                raise UsageError(
                    f"{at:#x}-{region.end:#x} {_NOT_OURS}",
                    hint="unsafe=True moves it all the same: whoever holds an address in it does not survive that",
                )
        for region in regions:
            if (reason := self._calls.why_unmovable(region)) is not None:
                raise Unsupported(
                    f"{region.start:#x}-{region.end:#x} cannot be moved: {reason}",
                    hint="unsafe=True asks the kernel, which may stop half-way",
                )

    def check_advice(self, ranges: Sequence[Range], advice: Advice, *, unsafe: bool) -> None:
        """Before ranges of this memory are advised. Raises UsageError.

        Advice that would undo a secret is refused either way: `unsafe` is for what can crash, and does not lift that.
        What is not known to be harmless needs memory that was made here.
        """
        for low, high in ranges:
            if advice in UNDOES_SECRETS and (secret := self._lifetimes.secret_in(low, high)) is not None:
                raise UsageError(
                    f"advice '{advice.value}' for {low:#x}-{high:#x} would undo {secret!r}: {UNDOES_SECRETS[advice]}",
                    hint="leave its range out, or close it first",
                )
        for low, high in () if unsafe else ranges:
            if advice in MAKES_FAULTS:
                raise UsageError(
                    f"advice '{advice.value}' needs unsafe=True",
                    hint="touching the memory after it can kill the process, or a child of it",
                )
            if advice not in HARMLESS and self._lifetimes.holding(low, high) is None:
                raise UsageError(
                    f"advice '{advice.value}' would throw away what is in {low:#x}-{high:#x}, or take away what "
                    f"protects it, and that {_NOT_OURS}",
                    hint="unsafe=True does it all the same: the interpreter may not survive that",
                )

    # ---- what is behind a descriptor ----

    @staticmethod
    def check_contents(operations: Operations, descriptor: int, name: str, *, unsafe: bool) -> os.stat_result:
        """Before what a descriptor leads to is mapped as memory; gives what fstat tells of it. Raises UsageError.

        It must be a regular file, as memory objects are, or what the system has for them. A file system whose files may
        be a device's registers is told by the system's part.
        """
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode) and not operations.is_memory_object(told):
            raise UsageError(f"{name} is no regular file", hint="a device is mapped by map_device")
        if not unsafe and (where := operations.where_registers_are(descriptor)) is not None:
            raise UsageError(
                f"{name} lies in {where}, where a regular file may be the registers of a device",
                hint="unsafe=True maps it all the same: a wrong register can stop the machine",
            )
        return told

    @staticmethod
    def check_device(name: str, *, unsafe: bool) -> None:
        """Before a device is opened. Raises UsageError."""
        if not unsafe:
            raise UsageError(
                f"mapping the device {name} needs unsafe=True",
                hint="what touching a device does is not known here: a wrong register can stop the machine",
            )

    @staticmethod
    def check_length(mapping: Mapping, length: int) -> None:
        """Before a mapping becomes that long. Raises UsageError when less is behind it, as it is now."""
        limit = mapping.limit
        if limit is not None and length > limit:
            raise UsageError(
                f"{length:,} bytes are more than the {limit:,} that are behind {mapping!r}",
                hint="touching what lies beyond the end kills the process: make the file longer first",
            )
