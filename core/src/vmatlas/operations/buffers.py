"""Buffers over mapped memory, and whether anybody still holds one.

A buffer is a memoryview that stands on the memory without owning it. Every view made of it, be it a slice, a cast, a
NumPy array or a `from_buffer`, keeps its exporter alive (the buffer protocol holds it), and the exporter knows whether
one is left.

The exporter is C (native/exporter.c): Python 3.11 lets no class of Python's own export a buffer, and later ones let
anybody call its `__release_buffer__`. Nothing that can be reached from such a buffer writes to what cannot be written,
or outlives the memory unseen. Where that C was not built a `ctypes` array exports: views of it are counted just so,
but who takes it itself, by `obj`, can write to it, whatever the memory's rights.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any, Protocol

from vmatlas import compiled
from vmatlas.model import Protection

MODULE = "vmatlas.operations._native"
NATIVE = compiled.load(MODULE)
"""The compiled exporter; None where `ctypes` serves."""


class Views(Protocol):
    """The views of one stretch of memory."""

    def show(self, owner: object, address: int, length: int, writable: bool, /) -> memoryview:
        """A view of [address, address + length), which keeps `owner` alive as long as it, or a part of it, is."""
        ...

    def counts(self) -> tuple[int, int]:
        """How many views are left, in a dead cycle too, and how many of them can be written to."""
        ...


class Exports:
    """The buffers that were handed out over one stretch of memory."""

    def __init__(self) -> None:
        self._views: Views = Arrays() if NATIVE is None else NATIVE.Exports()

    def make(self, owner: object, address: int, length: int, *, writable: bool) -> memoryview:
        """A buffer over [address, address + length), which keeps `owner` alive as long as it, or a part of it, is."""
        return self._views.show(owner, address, length, writable)

    def needs(self) -> Protection:
        """The rights that the memory must keep for the views that are left; none, when none is."""
        if self.any():
            gc.collect()  # views in a cycle that nobody can reach any more are no reason to refuse
        left, writable = self._views.counts()
        if writable:
            return Protection.READ | Protection.WRITE
        return Protection.READ if left else Protection.NONE

    def any(self) -> bool:
        """Whether a view is left, in a dead cycle too."""
        return self._views.counts()[0] > 0


class Arrays:
    """Views that `ctypes` arrays export.

    Each array holds an object of its own, and so does this; by its count of references the array is there or not. A
    weak reference would not do: the collector clears those to a dead cycle first, and then runs the finalizers of the
    cycle, which may touch the buffer, or bring it back to life.
    """

    def __init__(self) -> None:
        # The first is held by no array: what it counts, each counts whose array is gone.
        self._made: list[tuple[object, bool]] = [(object(), False)]

    def show(self, owner: object, address: int, length: int, writable: bool, /) -> memoryview:
        """A view whose exporter, an array, can be written to whatever the memory's rights."""
        array: Any = (ctypes.c_ubyte * length).from_address(address)
        array.held = object()
        array.owner = owner  # the last to go with the array: then no view is left
        self._made = [self._made[0], *self._live(), (array.held, writable)]
        view = memoryview(array).cast("B")
        return view if writable else view.toreadonly()

    def counts(self) -> tuple[int, int]:
        """How many arrays are left, and how many of them with views that can be written to."""
        live = self._live()
        return len(live), sum(writable for _, writable in live)

    def _live(self) -> list[tuple[object, bool]]:
        made = self._made  # as it is now: another thread may be making a buffer
        counts = [sys.getrefcount(each[0]) for each in made]
        return [each for each, count in zip(made, counts, strict=True) if count > counts[0]]
