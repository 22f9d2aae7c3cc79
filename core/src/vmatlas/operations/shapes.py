"""Mappings of a special shape: shared objects, guarded buffers, secrets, code."""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable, Iterator

from vmatlas import arguments
from vmatlas.errors import OperationFailed, Unsupported, UsageError
from vmatlas.model import Protection
from vmatlas.operations.checks import check_descriptor, check_protection, check_size, round_up
from vmatlas.operations.contract import Ability, Operations
from vmatlas.operations.mapping import Mapping, have_room
from vmatlas.operations.memory import Memory
from vmatlas.operations.refusals import explain_lock, failed
from vmatlas.operations.values import Advice
from vmatlas.target.program import READ_WRITE, MapFlag


def map_shared(
    memory: Memory,
    operations: Operations,
    size: int | None,
    name: str | None,
    *,
    create: bool,
    exclusive: bool,
    descriptor: int | None,
    protection: Protection,
    unsafe: bool,
) -> Mapping:
    """See `vmatlas.operations.map_shared`."""
    check_protection(protection)
    if size is not None:
        check_size(size, bits=min(memory.address_bits, 63))  # a file's size has a sign
    with contextlib.ExitStack() as undoing:
        if descriptor is not None:
            if name is not None:
                raise UsageError("a shared object is named, or given by its descriptor, not both")
            opened = os.dup(check_descriptor(descriptor))
            what = f"the memory object of descriptor {descriptor}"
        elif name is None:
            if size is None:
                raise UsageError("new shared memory needs a size")
            memory.require(Ability.MEMORY_OBJECT, "shared memory without a name")
            with _opening("a memory object"):
                opened = operations.open_memory("vmatlas", size)
            what = "shared memory"
        else:
            opened, is_new = _named(memory, operations, size, name, create=create, exclusive=exclusive)
            if is_new:  # nobody can use it when it cannot be mapped here, and the name would be taken
                undoing.callback(_unlink_if_there, operations, name)
            what = f"the shared memory {name}"
        undoing.callback(os.close, opened)
        if create and name is not None and size is not None and os.fstat(opened).st_size == 0:
            _give_size(opened, size, name)
        there = memory.safety.check_contents(operations, opened, what, unsafe=unsafe).st_size
        if there == 0 or (size or 0) > there:
            # Touching a page beyond the end of an object kills the process (SIGBUS).
            raise UsageError(f"{what} has {there:,} bytes" + ("" if size is None else f", not {size:,}"))
        mapping = memory.place(
            size or there,
            protection,
            MapFlag.SHARED,
            descriptor=opened,
            what=what,
            page=operations.page_size_of(opened),
            keep_descriptor=True,
            keeps_room=name is not None,
        )
        undoing.pop_all()
        return mapping


def _named(
    memory: Memory, operations: Operations, size: int | None, name: str, *, create: bool, exclusive: bool
) -> tuple[int, bool]:
    """A descriptor of it, and whether it was made now."""
    memory.require(Ability.SHARED_OBJECT, "POSIX shared memory")
    _check_name(name)
    if exclusive and not create:
        raise UsageError("exclusive=True goes with create=True")
    if create and size is None:
        raise UsageError(f"creating {name} needs a size")
    with _opening(f"the shared memory {name}"):
        if not create:
            return operations.open_shared(name, False, False), False
        for attempt in range(_TRIES):
            try:
                return operations.open_shared(name, True, True), True
            except OperationFailed as failure:
                if failure.errno_name != "EEXIST" or exclusive:
                    raise
            try:  # only who made it knows that it was not there, so the two are asked for apart
                return operations.open_shared(name, False, False), False
            except OperationFailed as failure:
                if failure.errno_name != "ENOENT" or attempt + 1 == _TRIES:
                    raise
        raise AssertionError


_TRIES = 100
"""How often a name may come and go under who opens it."""


def _give_size(descriptor: int, size: int, name: str) -> None:
    try:
        os.ftruncate(descriptor, size)
        have_room(descriptor, size)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
        raise OSError(error.errno, f"{size:,} bytes of shared memory: {os.strerror(error.errno or 0)}", name) from None


def unlink_shared(operations: Operations, name: str) -> None:
    """See `vmatlas.operations.unlink_shared`."""
    _check_name(name)
    try:
        operations.unlink_shared(name)
    except OperationFailed as failure:
        raise failed(f"removing the name {name} of shared memory", failure) from None


def _unlink_if_there(operations: Operations, name: str) -> None:
    with contextlib.suppress(OperationFailed):  # what is told is why it is of no use
        operations.unlink_shared(name)


def _check_name(name: object) -> None:
    if not isinstance(name, str) or not name.startswith("/") or "/" in name[1:] or len(name) < 2 or "\0" in name:
        raise UsageError(
            f"{arguments.shown(name)} is no name of shared memory",
            hint="it is a slash and a name without one: /my-buffer",
        )
    arguments.path(name, "piece of shared memory")


@contextlib.contextmanager
def _opening(what: str) -> Iterator[None]:
    """Tells what could not be opened, and what to do."""
    try:
        yield
    except OperationFailed as failure:
        hints = {
            "EEXIST": "exclusive=False opens the one that is there; unlink_shared(name) removes its name",
            "ENOENT": "create=True makes it",
        }
        told = failed(f"opening {what}", failure)
        told.hint = hints.get(failure.errno_name, told.hint)
        raise told from None


def guarded_buffer(memory: Memory, size: int, *, hidden: bool = False) -> Mapping:
    """See `vmatlas.operations.guarded_buffer`."""
    length = check_size(size, bits=memory.address_bits)
    page = memory.page_size
    body = round_up(length, page)
    check_size(body + 2 * page, bits=memory.address_bits)
    with memory.guard:
        whole = memory.place(body + 2 * page, Protection.NONE, MapFlag.NONE, what="a guarded buffer")
        start = whole.start + page
        edges = (whole.start, start + body)
        is_hidden = hidden and _guarded_by_kernel(memory, edges, page)
        try:  # guards of the kernel's own sort stay what they are, whatever the rights
            low, high = (whole.start, body + 2 * page) if is_hidden else (start, body)
            memory.calls.protect(low, high, READ_WRITE)
        except OperationFailed as failure:
            whole.close()
            raise memory.failed("making the inside of a guarded buffer writable", failure) from None
        extent = whole.extents[0]
        whole.note_closed()  # from here on it is the other one's
        return memory.lifetimes.adopt(
            Mapping(
                memory,
                extent,
                (start, start + body),
                READ_WRITE,
                address=start + body - length,  # so that the first byte beyond it faults
                length=length,
                what="a guarded buffer",
            )
        )


def _guarded_by_kernel(memory: Memory, pages: Iterable[int], size: int) -> bool:
    """Whether the kernel made guards of these pages that take no region of their own (Linux 6.13: MADV_GUARD_INSTALL).

    Older kernels do not know the advice; memory that is locked as it is made (lock_all) takes none.
    """
    number = memory.calls.advice_number(Advice.GUARD_INSTALL)
    if number is None:
        return False
    try:
        for page in pages:
            memory.calls.advise(page, size, number)
    except OperationFailed:
        return False
    return True


def secret(memory: Memory, size: int) -> Mapping:
    """See `vmatlas.operations.secret`."""
    length = check_size(size, bits=memory.address_bits)
    memory.require_buffers()
    memory.require(Ability.LOCK, "a secret")
    undumped = memory.calls.advice_number(Advice.DONTDUMP)
    if undumped is None:
        raise Unsupported(f"a secret: {memory.calls.system} cannot keep memory out of core dumps")
    with memory.guard:
        made = memory.place(length, READ_WRITE, MapFlag.NONE, what="a secret")
        try:
            try:
                memory.calls.lock(made.start, made.size, False)
            except OperationFailed as failure:
                raise explain_lock(memory.calls, failure, made.size) from None
            try:
                memory.calls.advise(made.start, made.size, undumped)
                # Not all systems have it, nor all kernels (Linux 4.14): children that must not see it would have a
                # copy.
                wiped = memory.calls.advice_number(Advice.WIPEONFORK)
                if wiped is not None:
                    memory.calls.advise(made.start, made.size, wiped)
            except OperationFailed as failure:
                raise memory.failed("keeping a secret out of dumps and children", failure) from None
        except BaseException:
            made.close()
            raise
        extent = made.extents[0]
        made.note_closed()
        return memory.lifetimes.adopt(
            Mapping(memory, extent, extent, READ_WRITE, address=extent[0], length=length, what="a secret", secret=True)
        )


def write_then_execute(memory: Memory, code: bytes | bytearray | memoryview) -> Mapping:
    """See `vmatlas.operations.write_then_execute`."""
    memory.require_buffers()
    try:
        content = bytes(memoryview(code).cast("B")) if not isinstance(code, bytes) else code
    except TypeError:
        raise UsageError(f"{type(code).__name__} is no code", hint="give bytes") from None
    except (ValueError, BufferError) as error:  # a memoryview that was released, say
        raise UsageError(f"the code cannot be read: {error}", hint="give bytes") from None
    if not content:
        raise UsageError("the code is empty")
    with memory.guard:
        made = memory.place(len(content), READ_WRITE, MapFlag.NONE, what="code")
        try:
            ctypes.memmove(made.start, content, len(content))
            memory.protect(made.start, made.size, Protection.READ | Protection.EXECUTE)
        except BaseException:
            made.close()
            raise
        return made
