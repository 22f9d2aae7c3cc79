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

from vmatlas.errors import OperationFailed
from vmatlas.operations.buffers import Exports
from vmatlas.operations.checks import Range, apart
from vmatlas.operations.contract import Calls
from vmatlas.operations.mapping import Mapping
from vmatlas.operations.refusals import failed
from vmatlas.target.program import READ_WRITE


class Lifetimes:
    """The mappings of one memory. Whoever changes something holds the memory's guard; the collector does not."""

    def __init__(self, calls: Calls) -> None:
        """`calls`: those of the memory."""
        self._calls = calls
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
        """Wipe it if it is a secret, and unmap it; it has no buffer left. Raises OperationFailed: it is still open."""
        mapping.note_adrift()
        try:
            self._release(mapping.extents, wipe=mapping.is_secret)
        except OperationFailed as failure:
            mapping.note_settled()
            raise failed(f"unmapping {mapping!r}", failure) from None
        self.forget(mapping)

    def forget(self, mapping: Mapping) -> None:
        """That nothing of a mapping is left: it is closed."""
        descriptor = mapping.note_closed()
        self._mappings.discard(weakref.ref(mapping))
        if descriptor is not None:
            os.close(descriptor)

    def replace(self, mapping: Mapping) -> None:
        """That something is about to be put in its place: a secret is wiped, and it is closed."""
        if mapping.is_secret:
            self._wipe(mapping.extents)
        self.forget(mapping)

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
        for start, end in extents:  # several after a move that stopped, or that kept the old place
            self._calls.protect(start, end - start, READ_WRITE)
            ctypes.memset(start, 0, end - start)
