"""Buffers over memory that is not Python's: who keeps what, what is counted, what an exporter gives away."""

from __future__ import annotations

import ctypes
import gc
import sys
import weakref

import pytest

from vmatlas import Protection, compiled
from vmatlas.operations import buffers
from vmatlas.operations.buffers import Exports

SIZE = 4096
READ, RW = Protection.READ, Protection.READ | Protection.WRITE
compiled_only = pytest.mark.skipif(
    not compiled.twin(buffers.MODULE).serves,
    reason=f"the compiled exporter does not serve here: {compiled.twin(buffers.MODULE).reason}",
)


class Owner:
    """Of memory that a test may name."""

    view: memoryview


@pytest.fixture
def memory() -> int:
    block = ctypes.create_string_buffer(b"memory", SIZE)
    _kept.append(block)
    return ctypes.addressof(block)


_kept: list[object] = []
"""The memory of these tests: what a failed test left behind must not write to somebody else's."""


@pytest.fixture(params=[pytest.param("compiled", marks=compiled_only), "python"])
def exports(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Exports:
    if request.param == "python":
        monkeypatch.setattr(buffers, "NATIVE", None)
    return Exports()


def test_needs_are_those_of_the_views_that_are_left(exports, memory):
    assert (exports.needs(), exports.any()) == (Protection.NONE, False)
    first = exports.make(Owner(), memory, SIZE, writable=False)
    assert (exports.needs(), exports.any()) == (READ, True)
    second = exports.make(Owner(), memory, SIZE, writable=True)
    assert exports.needs() == RW
    part = second[8:]
    second.release()
    assert exports.needs() == RW
    del part, second
    assert exports.needs() == READ
    first.release()
    assert (exports.needs(), exports.any()) == (Protection.NONE, False)


@pytest.mark.parametrize("writable", [False, True])
def test_view_shows_the_memory_itself(exports, memory, writable):
    view = exports.make(Owner(), memory, SIZE, writable=writable)
    assert (view.readonly, view.nbytes, view.format, view.itemsize) == (not writable, SIZE, "B", 1)
    assert bytes(view[:6]) == b"memory"
    if writable:
        view[0:2] = b"ME"
        assert ctypes.string_at(memory, 6) == b"MEmory"
    else:
        with pytest.raises(TypeError):
            view[0] = 1
        with pytest.raises(TypeError):
            (ctypes.c_char * 8).from_buffer(view)


def test_owner_goes_with_the_last_view_at_once(exports, memory):
    owner = Owner()
    left = weakref.ref(owner)
    views = [exports.make(owner, memory, SIZE, writable=True) for _ in range(3)]
    views += [views[0][1:], views[0].cast("I"), memoryview(views[1])]
    del owner
    gc.disable()
    try:
        while views:
            assert left() is not None
            views.pop()
        assert left() is None
    finally:
        gc.enable()


def test_dead_cycle_of_an_owner_and_its_view_goes(exports, memory):
    owner = Owner()
    owner.view = exports.make(owner, memory, SIZE, writable=True)
    left = weakref.ref(owner)
    del owner
    assert left() is not None
    assert exports.any()
    assert exports.needs() == Protection.NONE  # it asks the collector
    assert left() is None


# ---- what the exporter gives away ----


@compiled_only
def test_new_view_of_an_exporter_is_counted_and_there_is_none_after_the_last(memory):
    exports, owner = Exports(), Owner()
    left = weakref.ref(owner)
    view = exports.make(owner, memory, SIZE, writable=False)
    del owner
    exporter = view.obj
    again = memoryview(exporter)
    assert again.readonly
    view.release()
    assert exports.needs() == READ
    assert left() is not None
    again.release()
    assert exports.needs() == Protection.NONE
    assert left() is None
    with pytest.raises(BufferError, match="has been released"):
        memoryview(exporter)
    assert not exports.any()


@compiled_only
def test_exporter_is_neither_made_nor_changed_nor_inherited_from(memory):
    exporter = Exports().make(Owner(), memory, SIZE, writable=False).obj
    kind = type(exporter)
    for attempt in (
        kind,
        lambda: object.__new__(kind),
        lambda: kind.__new__(kind),
        lambda: type("Heir", (kind,), {}),
        lambda: setattr(kind, "__del__", print),
        lambda: vars(exporter),
        lambda: setattr(exporter, "__class__", Owner),
    ):
        with pytest.raises(TypeError):
            attempt()
    with pytest.raises(AttributeError):
        exporter.owner = None


@compiled_only
@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python has no __release_buffer__ before 3.12")
def test_release_by_hand_is_that_of_a_view_and_done_once(memory):
    exports = Exports()
    view = exports.make(Owner(), memory, SIZE, writable=True)
    exporter, part = view.obj, view[1:]
    foreign = memoryview(b"not of it")
    with pytest.raises(ValueError, match="not this object"):
        exporter.__release_buffer__(foreign)
    exporter.__release_buffer__(view)
    with pytest.raises(ValueError, match="released"):
        exporter.__release_buffer__(view)
    with pytest.raises(ValueError, match="released"):
        view[0]
    assert exports.needs() == RW
    assert part[0] == ord("e")
    part.release()
    assert not exports.any()


@compiled_only
@pytest.mark.parametrize(
    ("address", "length", "error"),
    [(0, SIZE, ValueError), (4096, -1, ValueError), (1 << 64, SIZE, OverflowError), ("4096", SIZE, TypeError)],
)
def test_what_is_no_memory_is_not_shown_and_keeps_nothing(address, length, error):
    views, owner = buffers.NATIVE.Exports(), Owner()
    references = sys.getrefcount(owner)
    with pytest.raises(error):
        views.show(owner, address, length, True)
    assert views.counts() == (0, 0)
    assert sys.getrefcount(owner) == references
