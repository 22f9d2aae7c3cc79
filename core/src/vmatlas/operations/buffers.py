"""Buffers over mapped memory, and whether anybody still holds one.

A buffer is a memoryview that stands on the memory without owning it, and has no exporter (its `obj` is None): nothing
that can be reached from it writes to what cannot be written, or outlives the memory unseen. Every view made of it, be
it a slice, a cast, a NumPy array or a `from_buffer`, shares one object of the interpreter with it, and that is made to
own what we choose; so by whether that is still held, a view is left or not.

Python 3.11 lets no class of Python's own export a buffer, and the C function that shows memory takes no owner. So the
owner is written where CPython keeps an exporter: after a look at each field around it. An interpreter that is laid out
otherwise is left alone; there a `ctypes` array exports the buffer, and is its `obj`.
"""

from __future__ import annotations

import ctypes
import gc
import sys
from typing import Any

from vmatlas.model import Protection

# Function objects of our own: what others declare of those in ctypes.pythonapi is theirs.
_show = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t, ctypes.c_int)(
    ("PyMemoryView_FromMemory", ctypes.pythonapi)
)
_hold = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))

_READ, _WRITE = 0x100, 0x200
"""PyBUF_READ, PyBUF_WRITE."""


class _Shared(ctypes.Structure):
    """What the views of one memory share: `_PyManagedBufferObject` (memoryobject.h of CPython, since 3.3).

    With the last view that is released or gone it lets go of `owner`, as PyBuffer_Release does of an exporter.
    """

    _fields_ = (
        ("head", ctypes.c_char * object.__basicsize__),
        ("flags", ctypes.c_int),
        ("views", ctypes.c_ssize_t),
        ("address", ctypes.c_void_p),  # from here on a Py_buffer
        ("owner", ctypes.c_void_p),
        ("length", ctypes.c_ssize_t),
        ("item_size", ctypes.c_ssize_t),
        ("read_only", ctypes.c_int),
        ("dimensions", ctypes.c_int),
        ("pointers", ctypes.c_void_p * 5),  # format, shape, strides, suboffsets, internal
    )


class Exports:
    """The buffers that were handed out over one stretch of memory.

    With each goes an object of its own, which this has, too; by its count of references a view is left or not. A weak
    reference would not do: the collector clears those to a dead cycle first, and then runs the finalizers of the cycle,
    which may touch the buffer, or bring it back to life.
    """

    def __init__(self) -> None:
        # The first goes with no buffer: what it counts, each counts whose views are gone.
        self._made: list[tuple[object, Protection]] = [(object(), Protection.NONE)]

    def make(self, owner: object, address: int, length: int, *, writable: bool) -> memoryview:
        """A buffer over [address, address + length), which keeps `owner` alive as long as it, or a part of it, is."""
        held = object()
        needs = Protection.READ | Protection.WRITE if writable else Protection.READ
        self._made = [self._made[0], *self._live(), (held, needs)]
        # A tuple lets go of its last item first: when the owner goes, no view is left.
        kept = (owner, held)
        view = _owned(kept, address, length, writable)
        return _exported(kept, address, length, writable) if view is None else view

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


def _owned(kept: object, address: int, length: int, writable: bool) -> memoryview | None:
    """A view that keeps something alive; None where the interpreter is laid out otherwise."""
    view: memoryview = _show(address, length, _WRITE if writable else _READ)
    found = gc.get_referents(view)
    if len(found) != 1 or type(found[0]).__basicsize__ != ctypes.sizeof(_Shared):
        return None
    shared = _Shared.from_address(id(found[0]))
    if (shared.flags, shared.views, shared.address, shared.owner) != (0, 1, address, None):
        return None
    if (shared.length, shared.item_size, shared.read_only, shared.dimensions) != (length, 1, not writable, 1):
        return None
    _hold(kept)
    shared.owner = id(kept)
    return view


def _exported(kept: object, address: int, length: int, writable: bool) -> memoryview:
    """A view whose exporter keeps something alive: an array that can be written, whatever the memory's rights."""
    array: Any = (ctypes.c_ubyte * length).from_address(address)
    array.kept = kept
    view = memoryview(array).cast("B")
    return view if writable else view.toreadonly()
