"""The lives of a memory's mappings: which are open, and how each ends.

One ends when it is closed, when another is put in its place, when nobody refers to it or to a buffer of it any more,
and with the process. What a buffer still shows is never unmapped here, and what lies where a mapping was is never
touched.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import weakref
from collections import deque
from collections.abc import Callable

from vmatlas.errors import OperationFailed
from vmatlas.model import AddressSpace, Protection
from vmatlas.operations.buffers import Exports
from vmatlas.operations.checks import Range, apart
from vmatlas.operations.contract import Calls
from vmatlas.operations.mapping import Mapping, clip
from vmatlas.operations.refusals import failed
from vmatlas.target.program import READ_WRITE


class Lifetimes:
    """The mappings of one memory. Whoever changes something holds the memory's guard; the collector does not."""

    def __init__(self, calls: Calls, read_map: Callable[[], AddressSpace]) -> None:
        """`calls`: those of the memory; `read_map` gives the map of its process."""
        self._calls = calls
        self._read_map = read_map
        # A set of references, which is copied in one step: a WeakSet cannot be read while another thread changes it.
        self._mappings: set[weakref.ref[Mapping]] = set()
        self._abandoned: deque[tuple[Exports, list[Range], bool, int | None]] = deque()

    def adopt(self, mapping: Mapping) -> Mapping:
        """Take a mapping that was put together from calls into account."""
        self._mappings.add(weakref.ref(mapping, self._mappings.discard))
        return mapping

    def open(self) -> list[Mapping]:
        """Those that are, in no order."""
        found = (reference() for reference in list(self._mappings))
        return [mapping for mapping in found if mapping is not None and not mapping.closed]

    def in_range(self, low: int, high: int) -> list[Mapping]:
        """Those that have an address in common with a range, by address."""
        found = [each for each in self.open() if any(not apart(extent, (low, high)) for extent in each.extents)]
        return sorted(found, key=lambda mapping: mapping.extents[0])

    def secret_in(self, low: int, high: int) -> Mapping | None:
        """The first secret that has an address in common with a range."""
        return next((each for each in self.in_range(low, high) if each.is_secret), None)

    def holding(self, low: int, high: int) -> Mapping | None:
        """The one whose pages hold a whole range."""
        return next((each for each in self.in_range(low, high) if each.covers(low, high)), None)

    # ---- how one ends ----

    def unmap(self, mapping: Mapping) -> None:
        """Wipe it if it is a secret, and unmap it; it has no buffer left.

        Raises OperationFailed: what is left of it is still open. A secret that cannot be wiped is not unmapped.
        """
        said, left = f"unmapping {mapping!r}", list(mapping.extents)
        mapping.note_adrift()
        is_wiped = False
        try:
            if mapping.is_secret:
                self._wipe(left)
                is_wiped = True
            while left:
                self._calls.unmap(left[0][0], left[0][1] - left[0][0])
                del left[0]
        except OperationFailed as failure:
            if left != mapping.extents:
                mapping.note_scattered(left)
            mapping.note_settled()
            told = failed(said, failure)
            if is_wiped:
                told.message += "; it stays mapped, and holds zeros now"
            raise told from None
        self.forget(mapping)

    def forget(self, mapping: Mapping) -> None:
        """That nothing of a mapping is left: it is closed."""
        descriptor = mapping.note_closed()
        self._mappings.discard(weakref.ref(mapping))
        if descriptor is not None:
            os.close(descriptor)

    def abandon(self, mapping: Mapping) -> None:
        """Unmap what nobody refers to: for a finalizer.

        In a dead cycle a buffer can be left, which another finalizer may still touch: then when the next mapping is
        made, or goes; at the interpreter's end it is the kernel that unmaps it.
        """
        self._abandoned.append((mapping.exports, mapping.extents, mapping.is_secret, mapping.note_closed()))
        self.release_abandoned()

    def release_abandoned(self) -> None:
        """Unmap what was abandoned and has no buffer left any more."""
        for _ in range(len(self._abandoned)):
            try:
                each = self._abandoned.popleft()
            except IndexError:  # another thread was faster
                return
            exports, extents, wipe, descriptor = each
            if exports.any():
                self._abandoned.append(each)
                continue
            # Nobody is there to be told of an error; at the interpreter's end parts of it may be gone.
            with contextlib.suppress(Exception):
                self._release(extents, wipe=wipe)
                if descriptor is not None:
                    os.close(descriptor)

    def _release(self, extents: list[Range], *, wipe: bool) -> None:
        if wipe:
            self._wipe(extents)
        for start, end in extents:
            self._calls.unmap(start, end - start)

    def _wipe(self, extents: list[Range]) -> None:
        """Zeros, wherever they can be written. Raises OperationFailed where the rights to it are refused."""
        refused: OperationFailed | None = None
        for start, end in extents:  # several after a move that stopped, or that kept the old place
            try:
                self._calls.protect(start, end - start, READ_WRITE)
            except OperationFailed as failure:  # it is sealed: with its rights as they are
                left = self._wipe_writable(start, end)
                if left:
                    refused = failure
                    refused.message += f"; it stays mapped, and {left:,} bytes of it are not wiped"
            else:
                ctypes.memset(start, 0, end - start)
        if refused is not None:
            raise refused

    def _wipe_writable(self, low: int, high: int) -> int:
        """The bytes of a range that cannot be written."""
        left = high - low
        for region in clip(self._read_map(), low, high):
            if region.protection & Protection.WRITE:
                ctypes.memset(region.start, 0, region.size)
                left -= region.size
        return left
