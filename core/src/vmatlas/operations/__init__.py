"""Memory operations: advise, protect, lock, place, move, share, with the kernel's real semantics.

    from vmatlas import operations
    from vmatlas.operations import Advice

    idle = vmatlas.snapshot(1234).where(kind=vmatlas.Kind.ANONYMOUS, larger_than="1M")
    operations.advise(1234, idle, Advice.COLD)

    with operations.map_anonymous(1 << 20) as mapping:
        mapping.buffer[0:5] = b"hello"

Each system's part is a plugin (`vmatlas.operations` entry points). A call that a system lacks raises Unsupported.
Ordinary use cannot crash the interpreter: what can needs `unsafe=True`, and its hint says why.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from vmatlas import api
from vmatlas.arguments import flags_checked, shown
from vmatlas.arguments import path as path_given
from vmatlas.backend import Target
from vmatlas.capture import Capture
from vmatlas.errors import Unsupported, UsageError
from vmatlas.model import AddressSpace, Columns, Filter, Protection, Region
from vmatlas.operations import advising, faults, files, moving, shapes
from vmatlas.operations.checks import Range, check_ranges
from vmatlas.operations.contract import Ability, Promise
from vmatlas.operations.explaining import Explanation, Place, ThreadStack
from vmatlas.operations.mapping import Mapping
from vmatlas.operations.memory import Memory
from vmatlas.operations.systems import operations_here
from vmatlas.operations.tracking import WorkingSet, Written, working_set, written
from vmatlas.operations.values import (
    Advice,
    Advised,
    BufferInUse,
    Fault,
    FaultCause,
    Moved,
    PartlyMoved,
    Piece,
)
from vmatlas.process import Process
from vmatlas.target.program import READ_WRITE

if TYPE_CHECKING:
    from vmatlas.model.crash import Crash
    from vmatlas.operations.explaining import Named, Names
    from vmatlas.symbolizing import Symbolizer

__all__ = [
    "Ability",
    "Advice",
    "Advised",
    "BufferInUse",
    "Explanation",
    "Fault",
    "FaultCause",
    "Mapping",
    "Memory",
    "Moved",
    "PartlyMoved",
    "Piece",
    "Place",
    "Promise",
    "ThreadStack",
    "WorkingSet",
    "Written",
    "abilities",
    "advise",
    "classify_fault",
    "explain",
    "flush",
    "guarded_buffer",
    "lock",
    "lock_all",
    "map_anonymous",
    "map_device",
    "map_file",
    "map_shared",
    "move",
    "protect",
    "protected",
    "resize",
    "secret",
    "unlink_shared",
    "unlock",
    "unlock_all",
    "working_set",
    "write_then_execute",
    "written",
]


def __dir__() -> list[str]:
    return [*__all__, "__doc__", "__name__"]


_OWN: dict[str, Memory] = {}


def _own() -> Memory:
    """This process's memory: one, whichever threads ask first."""
    memory = _OWN.get("own")
    if memory is None:
        made = Memory(operations_here())
        memory = _OWN.setdefault("own", made)
        if memory is made:
            made.follow_forks()
    return memory


def abilities() -> Ability:
    """What this machine's system can do, as its plugin declares. Raises Unsupported when no plugin is installed."""
    return operations_here().abilities


# ---- another process, or this one ----


@flags_checked
def advise(
    process: Process | api.Pid,
    regions: AddressSpace | Region | Iterable[object],
    advice: Advice,
    *,
    target: Target | None = None,
    dry_run: bool = False,
    unsafe: bool = False,
    go_on: bool = False,
) -> Advised:
    """Tell the kernel what a process will do with ranges of its memory.

    `process` is a pid, a `vmatlas.Process`, or None for this process; `regions` an AddressSpace (a snapshot,
    filtered), a Region, or any number of regions or pairs (start, end) of whole pages that do not overlap. The kernel
    is asked for 1,024 at a time, in the order given. Another process takes COLD, PAGEOUT, WILLNEED and COLLAPSE
    (Linux; process_madvise(2)); this process every advice that its kernel has, of which some need memory of
    `vmatlas.operations` or `unsafe=True`.

    An AddressSpace carries the start time of its process: after the kernel's handle on the process was taken, the
    start time is compared, so that a reused pid is never advised. With `dry_run` all is checked, the kernel's view of
    our rights and of the advice too, and nothing done; where the kernel has no harmless way to be asked, `unasked` of
    the result says why. Advice that would undo a `secret` is refused, with `unsafe=True` as well.

    The result says how many bytes were asked and advised, and where it stopped and why, as far as the kernel tells.
    With `go_on` it stops at no range that the kernel refuses: `refused` of the result has those, and what comes after
    them is asked for as well. To leave out what is known to refuse: `snapshot(pid).where("!flag=lo")`.
    Raises AccessDenied (EPERM, EACCES), NoSuchProcess (ESRCH), Unsupported (the call, or the advice), UsageError.
    """
    if not isinstance(advice, Advice):
        raise UsageError(f"{shown(advice)} is no advice", hint="give operations.Advice.COLD, say")
    if isinstance(regions, Filter | str):
        raise UsageError("a filter is no set of regions", hint="give snapshot(pid).where(...)")
    if isinstance(regions, Region):
        regions = [regions]
    with contextlib.ExitStack() as closing:
        if isinstance(process, Process):
            if target is not None and process.target is not api.place_of(target):
                raise UsageError(f"the process lives on {process.target.name}, not on {target.name}")
            asked = process
        else:
            asked = closing.enter_context(api.open(process, target=target))
        if not advising.is_this_process(asked):
            return advising.advise_other(asked, regions, advice, dry_run=dry_run, go_on=go_on)
        if isinstance(regions, AddressSpace):
            advising.check_same(asked, regions)
        memory = _own()
        ranges = check_ranges(regions, page=memory.page_size, bits=memory.address_bits)

        def advise_them(some: list[Range]) -> Advised:
            return memory.advise(some, advice, asked.pid, unsafe=unsafe, dry_run=dry_run)

        return advising.going_on(advise_them, ranges, go_on=go_on)


def classify_fault(
    address: int,
    process: Process | api.Pid | AddressSpace = None,
    *,
    access: Protection | None = None,
    target: Target | None = None,
) -> Fault:
    """Why an access to an address faults: in a guard, below a stack, in a hole, or against the region's rights.

    `process` is a pid, a `vmatlas.Process`, None for this process, or an AddressSpace: of a crashed process the one
    that its capture gives (`vmatlas.replay`). `access` is what was tried: READ, WRITE or EXECUTE, where it is known.
    Guard pages that the map does not show (Linux: MADV_GUARD_INSTALL), and where the file behind a mapping ends, are
    asked for, of a process of this machine; how far its stack may grow (Linux), of any process. Of an AddressSpace the
    latter is known where its capture has it, and else what depends on it is told as possible (`Fault.certain`).
    The result has the neighbours, and the whole of it in a sentence (`text`). Raises what `vmatlas.snapshot` raises.
    """
    if isinstance(process, AddressSpace):
        limit = process.origin.stack_limit
        return faults.classify(address, process, access, stack_limit=lambda: limit)
    with contextlib.ExitStack() as closing:
        asked = process if isinstance(process, Process) else closing.enter_context(api.open(process, target=target))
        try:
            space = asked.snapshot(residency=True)  # with the system's flags: which regions can grow
        except Unsupported:
            space = asked.snapshot()
        return faults.classify(address, space, access, asked.guard_at, asked.file_size, asked.stack_limit)


@flags_checked
def explain(
    source: Process | api.Pid | Capture | str | os.PathLike[str] = None,
    *,
    target: Target | None = None,
    lines: bool = False,
    debuginfod: Sequence[str] | None = None,
    file: str | os.PathLike[str] | None = None,
) -> Explanation:
    """Why a process ended and where it stood, from the core file that it left: signal, fault, instruction, stacks.

        print(operations.explain("core.1234"))

    `source` is a file, a `Capture` of one, or a process that lives: a pid, a `vmatlas.Process`, None for this one. Of
    that, and of a capture that was made while the process lived, there is no signal and no instruction, but the threads
    and their stacks (of a capture where they were recorded). What is not told is None; the whole of it is a paragraph
    in `text`. A function's name is told where the mapped file is at hand and the same: see `vmatlas.symbolize_many`;
    with `lines` the lines of source code as well: see `vmatlas.source_lines`. `debuginfod` as there: what was wrong
    with a server stands in `said`. Of a core that systemd-coredump stored, what it noted is told as well (unit, command
    line, program, host); `file` is the path of a core that is handed over as a Capture.
    Raises what `vmatlas.replay` and `vmatlas.snapshot` raise, UsageError, and with `lines` Unsupported.
    """
    from vmatlas import registry, remains
    from vmatlas.backend import TellsCrash
    from vmatlas.operations import explaining
    from vmatlas.symbolizing import Symbolizer

    if lines:
        from vmatlas.debug_lines import check_installed

        check_installed()
    if debuginfod is not None:
        from vmatlas.debuginfod import urls_of

        debuginfod, _ = urls_of(debuginfod)
    file = None if file is None else path_given(file, "core file")
    if isinstance(source, (str, os.PathLike)):
        file = source
        source = remains.load(source)
    if isinstance(source, Capture):
        backend = registry.backend(source.backend, distribution=source.distribution)
        try:
            crash = backend.crash(source) if isinstance(backend, TellsCrash) else None
        except Unsupported:  # it lived
            crash = None
        if crash is not None and file is not None:
            crash = _with_noted(crash, file)
        if crash is not None and crash.no_map:
            return explaining.explain_crash(crash, AddressSpace(Columns(), source.origin))
        space = api.replay(source)
        with Symbolizer(space, debuginfod=debuginfod, demangle=True) as symbolizer:
            crash = crash or explaining.of_live_threads(space, source.name)
            found = explaining.explain_crash(crash, space, names=_names(symbolizer, lines=lines))
            return dataclasses.replace(found, said=tuple(symbolizer.said))
    with contextlib.ExitStack() as closing:
        asked = source if isinstance(source, Process) else closing.enter_context(api.open(source, target=target))
        space = asked.snapshot(threads=True)
        return explaining.explain_crash(explaining.of_live_threads(space, asked.name), space, asked.guard_at)


def _with_noted(crash: Crash, file: str | os.PathLike[str]) -> Crash:
    """With what systemd-coredump noted of the file: its signal only where the core itself is cut before it."""
    from vmatlas.stored import noted

    told = noted(file)
    number, name = crash.signal, crash.signal_name
    if number is None and told.signal is not None:
        number = told.signal
        with contextlib.suppress(ValueError):
            name = signal.Signals(number).name
    return dataclasses.replace(
        crash,
        signal=number,
        signal_name=name,
        arguments=told.arguments or crash.arguments,
        unit=told.unit or crash.unit,
        executable=told.executable or crash.executable,
        host=told.host or crash.host,
    )


def _names(symbolizer: Symbolizer, *, lines: bool) -> Names:
    from vmatlas.operations.explaining import Named

    def names(addresses: Sequence[int]) -> list[Named]:
        places = symbolizer.look_up(addresses)
        if lines:
            places = symbolizer.with_lines(addresses, places)
        return [
            Named(
                each.elf_address,
                each.symbol,
                each.lines,
                symbolizer.why_no_lines(each) if lines else None,
                None if each.region is None or each.elf_address is not None else symbolizer.why_not(each.region),
            )
            for each in places
        ]

    return names


# ---- mapping ----


@flags_checked
def map_anonymous(
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
    """Map `size` bytes of zeros, rounded up to whole pages.

    `at` places it at that address, where a page begins, and over nothing: OperationFailed (EEXIST) when something lies
    there, be the kernel older than its flag for that (Linux 4.17) or not. Where a stack grows, only with `unsafe=True`.
    `replace=True` DESTROYS what is there: mappings of `vmatlas.operations` that lie wholly in the range are closed (not
    while a buffer of them is left); anything else only with `unsafe=True`. `shared` memory stays the same memory in
    children; `populate` makes its pages at once; `no_reserve` counts on no swap for it. `protection` is its rights.

    Raises UsageError, OperationFailed, Unsupported.
    """
    return _own().map_anonymous(
        size,
        at=at,
        replace=replace,
        shared=shared,
        protection=protection,
        populate=populate,
        no_reserve=no_reserve,
        unsafe=unsafe,
    )


@flags_checked
def map_file(
    file: str | bytes | os.PathLike[str] | int,
    size: int | None = None,
    offset: int = 0,
    *,
    shared: bool = False,
    protection: Protection = Protection.READ,
    at: int | None = None,
    replace: bool = False,
    unsafe: bool = False,
) -> Mapping:
    """Map a regular file, by its path or an open descriptor: `size` bytes (the rest of it) from `offset`, whole pages.

    Private (copy on write) unless `shared`; then what is written goes to the file. Never beyond the end of the file,
    where a touch would kill the process; who shortens the file later brings that about all the same. A file of sysfs,
    which may be the registers of a device (PCI's `resource0`), only with `unsafe=True`. `at`, `replace`, and for the
    rest `unsafe`, as in `map_anonymous`. Raises OSError (opening it), UsageError, OperationFailed, Unsupported.
    """
    return files.map_file(
        _own(),
        operations_here(),
        file,
        size,
        offset,
        shared=shared,
        protection=protection,
        at=at,
        replace=replace,
        unsafe=unsafe,
    )


@flags_checked
def map_shared(
    size: int | None = None,
    name: str | None = None,
    *,
    create: bool = False,
    exclusive: bool = False,
    descriptor: int | None = None,
    protection: Protection = READ_WRITE,
    unsafe: bool = False,
) -> Mapping:
    """Map memory that other processes can map, too.

    Without a name: a new nameless object of `size` bytes (memfd), which cannot be shrunk; its `descriptor` is what is
    handed on, and `map_shared(descriptor=...)` maps it there (what is no memory is refused as by `map_file`, and a file
    of sysfs needs `unsafe=True`). With a name such as "/buffer": POSIX shared memory, which must be there already
    unless `create` (with `size`, all of which is taken at once: OSError with ENOSPC when /dev/shm is full, and then
    nothing of that name is left behind); `exclusive`: and it must be new. It keeps its name until `unlink_shared`.
    Where the size is not given it is the object's own. `protection` is its rights; `unsafe` as in `map_file`.

    Raises UsageError, OperationFailed (EEXIST, ENOENT, ...), OSError, Unsupported.
    """
    return shapes.map_shared(
        _own(),
        operations_here(),
        size,
        name,
        create=create,
        exclusive=exclusive,
        descriptor=descriptor,
        protection=protection,
        unsafe=unsafe,
    )


def unlink_shared(name: str) -> None:
    """Remove the name of POSIX shared memory; who has it mapped keeps it. Raises UsageError, OperationFailed."""
    shapes.unlink_shared(operations_here(), name)


@flags_checked
def map_device(
    device: str | bytes | os.PathLike[str],
    size: int,
    offset: int = 0,
    *,
    protection: Protection = Protection.READ,
    shared: bool = True,
    unsafe: bool = False,
) -> Mapping:
    """Map `size` bytes of a device from `offset` on: registers, or physical memory (/dev/mem). Needs `unsafe=True`.

    `protection` is the rights, `shared` whether what is written goes to the device. What touching a device does,
    no software can know beforehand; a wrong register can stop the machine. It is opened
    with O_SYNC, which for /dev/mem means uncached. For registers of 32 bits: `mapping.buffer.cast("I")`. Raises
    UsageError, OSError (opening it), OperationFailed.
    """
    return files.map_device(_own(), device, size, offset, protection=protection, shared=shared, unsafe=unsafe)


@flags_checked
def guarded_buffer(size: int, *, hidden: bool = False) -> Mapping:
    """A buffer of exactly `size` bytes between two pages without rights: the first byte beyond its end faults.

    With `hidden` the two are guards of the kernel's own sort, where it has such (Linux 6.13: MADV_GUARD_INSTALL): the
    buffer is one region, not three, and merges with its neighbours. No map shows them, nor does a core; a live process
    is asked (`snapshot(guards=True)`, `classify_fault`). Where the kernel has none they are pages without rights.

    It ends where a page ends, so its `address` need not be where one begins; the bytes between that page's beginning
    and the address are no guard. Raises UsageError, OperationFailed.
    """
    return shapes.guarded_buffer(_own(), size, hidden=hidden)


def secret(size: int) -> Mapping:
    """Memory that is locked (never in swap), left out of core dumps, and overwritten with zeros when it is closed.

    A child finds zeros there (Linux), which are not locked. Advice that would undo any of it is a UsageError.
    Copies that are made of its contents, a `bytes` say, are nobody's care but yours.
    Raises OperationFailed, with the limit, when it may not be locked; Unsupported where a system cannot do all of it.
    """
    return shapes.secret(_own(), size)


def write_then_execute(code: bytes | bytearray | memoryview) -> Mapping:
    """Code in memory that was written, and then made executable and read-only: never both (W^X).

    To run it: `ctypes.CFUNCTYPE(ctypes.c_int)(mapping.address)`; that is as safe as the code is. The mapping must stay
    open for as long. Raises UsageError, OperationFailed (a system that forbids it: EACCES).
    """
    return shapes.write_then_execute(_own(), code)


# ---- ranges ----


@flags_checked
def protect(address: int, size: int, protection: Protection, *, unsafe: bool = False) -> None:
    """Change the rights of whole pages.

    They must lie in one mapping of `vmatlas.operations`, and no live buffer of it may need a right that would go
    (BufferInUse); with `unsafe=True` any pages: taking rights from memory that somebody uses kills the process.
    Raises UsageError, OperationFailed (EACCES: the file was not opened for that).
    """
    _own().protect(address, size, protection, unsafe=unsafe)


@flags_checked
def protected(
    address: int, size: int, protection: Protection, *, unsafe: bool = False
) -> contextlib.AbstractContextManager[None]:
    """`protect` for as long as a `with` block lasts: afterwards each page has the rights that it had.

    `unsafe`, and what is raised at the beginning, as of `protect`.
    Raises BufferInUse at the end of the block, and leaves the rights, when a live buffer needs more than they were.
    A mapping that was closed or moved within the block is left alone, and so is what lies there then.
    """
    return _own().protected(address, size, protection, unsafe=unsafe)


@flags_checked
def lock(address: int, size: int, *, on_fault: bool = False) -> None:
    """Keep whole pages in memory (mlock); with `on_fault` each from when it is first touched.

    Locks do not add up: one `unlock` undoes any number. Raises OperationFailed, which tells the limit (RLIMIT_MEMLOCK)
    and how to raise it; Unsupported.
    """
    _own().lock(address, size, on_fault=on_fault)


@flags_checked
def unlock(address: int, size: int, *, unsafe: bool = False) -> None:
    """Undo `lock`, whoever locked: of memory that was not mapped here (on the heap, say) only with `unsafe=True`.

    A library that keeps a key there relies on its lock, and locks do not add up. Raises UsageError, for a `secret` in
    any case; OperationFailed.
    """
    _own().unlock(address, size, unsafe=unsafe)


@flags_checked
def lock_all(*, current: bool = True, future: bool = False, on_fault: bool = False) -> None:
    """Lock all memory of this process: what it has (`current`), what it will get (`future`), or both.

    With `on_fault` each page is locked when it is touched. With `future`, memory that would pass the limit cannot
    be had any more, from malloc and for stacks, too.
    Raises OperationFailed, with the limit.
    """
    _own().lock_all(current=current, future=future, on_fault=on_fault)


@flags_checked
def unlock_all(*, unsafe: bool = False) -> None:
    """Undo every lock of the process, those of other code in it, too: it needs `unsafe=True`.

    Raises UsageError without it, and while a `secret` is open; OperationFailed.
    """
    _own().unlock_all(unsafe=unsafe)


@flags_checked
def flush(address: int, size: int, *, wait: bool = True, invalidate: bool = False) -> None:
    """Write changed pages of shared file mappings to their file (msync): done when it returns, unless `wait` is False.

    `invalidate` makes other mappings of the file see it, on systems where they do not anyway. Raises OperationFailed
    (ENOMEM: a hole; EBUSY: `invalidate` and a locked page).
    """
    _own().flush(address, size, wait=wait, invalidate=invalidate)


@flags_checked
def move(
    address: int,
    size: int,
    to: int | None = None,
    *,
    keep_old: bool = False,
    replace: bool = False,
    unsafe: bool = False,
) -> Moved:
    """Move the mappings in [address, address + size) to `to` (None: a free place); the gaps between them stay gaps.

    Linux 6.17 and newer move them all in one call; older ones a mapping at a time, so that other threads may see some
    moved and others not: `at_once` of the result says which it was. Locks move along. `keep_old` leaves the old place
    mapped and empty. The new place must be free; `replace=True` DESTROYS what is there, under the rules of
    `map_anonymous`.

    Whole mappings of `vmatlas.operations` without live buffers; with `unsafe=True` any memory, which whoever holds an
    address in it does not survive. The Mapping follows its contents. Memory watched by a userfaultfd, sealed, or
    placed by a driver is refused before anything is done, as far as the map tells.

    Raises PartlyMoved when the kernel stopped half-way: its `result` says which mapping is where, read from the map.
    UsageError, Unsupported, OperationFailed, BufferInUse: nothing was moved.
    """
    return moving.move(_own(), address, size, to, keep_old=keep_old, replace=replace, unsafe=unsafe)


@flags_checked
def resize(mapping: Mapping, size: int, *, may_move: bool = True) -> Mapping:
    """Make a mapping larger or smaller, whole pages; with `may_move` the kernel may put it elsewhere.

    Its contents stay; gives the same mapping. Not beyond what the file behind it has at that time, and not to where a
    stack grows: there it is moved away, or refused without `may_move`. Raises BufferInUse, UsageError, Unsupported,
    OperationFailed (ENOMEM: no room where it is).
    """
    return moving.resize(_own(), mapping, size, may_move=may_move)
