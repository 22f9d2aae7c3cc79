"""Buffers over mapped memory, and whether anybody still holds one.

A buffer is a memoryview over a ctypes array that stands on the memory without owning it. Every view made from it, be
it a slice, a cast, a NumPy array or a `from_buffer`, keeps that array alive (the buffer protocol holds the exporter);
so what the array holds tells whether a view is left. Python 3.11 lets no class of Python's own export a buffer, and
needs none for this.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

from vmatlas.model import Protection


class Exports:
    """The buffers that were handed out over one stretch of memory.

    Each array holds an object of its own, and so does this; by its count of references the array is there or not. A
    weak reference would not do: the collector clears those to a dead cycle first, and then runs the finalizers of the
    cycle, which may touch the buffer, or bring it back to life.
    """

    def __init__(self) -> None:
        # The first is held by no array: what it counts, each counts whose array is gone.
        self._made: list[tuple[object, Protection]] = [(object(), Protection.NONE)]

    def make(self, owner: object, address: int, length: int, *, writable: bool) -> memoryview:
        """A buffer over [address, address + length), which keeps `owner` alive as long as it, or a part of it, is."""
        array: Any = (ctypes.c_ubyte * length).from_address(address)
        array.held = object()
        array.owner = owner  # the last to go with the array: then no view is left
        needs = Protection.READ | Protection.WRITE if writable else Protection.READ
        self._made = [self._made[0], *self._live(), (array.held, needs)]
        view = memoryview(array).cast("B")
        return view if writable else view.toreadonly()

    def needs(self) -> Protection:
        """The rights that the memory must keep for the views that are left; none, when none is."""
        if self._live():
            gc.collect()  # views in a cycle that nobody can reach any more are no reason to refuse
        found = Protection.NONE
        for _, needs in self._live():
            found |= needs
        return found

    def any(self) -> bool:
        """Whether a view is left, in a dead cycle too."""
        return bool(self._live())

    def _live(self) -> list[tuple[object, Protection]]:
        made = self._made  # as it is now: another thread may be making a buffer
        counts = [sys.getrefcount(each[0]) for each in made]
        return [each for each, count in zip(made, counts, strict=True) if count > counts[0]]
