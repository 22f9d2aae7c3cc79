"""Buffers over mapped memory, and whether anybody still holds one.

A buffer is a memoryview over a ctypes array that stands on the memory without owning it. Every view made from it, be
it a slice, a cast, a NumPy array or a `from_buffer`, keeps that array alive (the buffer protocol holds the exporter);
so a weak reference to the array tells whether a view is left. Python 3.11 lets no class of Python's own export a
buffer, and needs none for this.
"""

from __future__ import annotations

import ctypes
import gc
import weakref
from typing import Any

from vmatlas.model import Protection


class Exports:
    """The buffers that were handed out over one stretch of memory."""

    def __init__(self) -> None:
        self._made: list[tuple[weakref.ref[Any], Protection]] = []

    def make(self, owner: object, address: int, length: int, *, writable: bool) -> memoryview:
        """A buffer over [address, address + length), which keeps `owner` alive as long as it, or a part of it, is."""
        array: Any = (ctypes.c_ubyte * length).from_address(address)
        array.owner = owner
        needs = Protection.READ | Protection.WRITE if writable else Protection.READ
        self._made = [each for each in self._made if each[0]() is not None]
        self._made.append((weakref.ref(array), needs))
        view = memoryview(array).cast("B")
        return view if writable else view.toreadonly()

    def needs(self) -> Protection:
        """The rights that the memory must keep for the views that are left; none, when none is."""
        if self._needs():
            gc.collect()  # views in a cycle that nobody can reach any more are no reason to refuse
        return self._needs()

    def _needs(self) -> Protection:
        found = Protection.NONE
        for array, needs in self._made:
            if array() is not None:
                found |= needs
        return found
