"""What `import vmatlas` gives: `open`, which makes a handle on a process, and the one-shot forms of its questions."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator

from vmatlas import arguments, registry
from vmatlas.backend import PAGES, THREADS, Identified, Listing, Roll, Target, TellsTotals, may_be
from vmatlas.contracts import Protocol, runtime_checkable
from vmatlas.errors import NoSuchProcess, Unsupported, UsageError, VmatlasError
from vmatlas.model import AddressSpace, Criteria, Filter, MemoryUse, Neighbours, ProcessInfo, Region
from vmatlas.process import Choices, Process, threads_of
from vmatlas.target.local import LOCAL

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, Unpack

    from vmatlas.analysis import Difference
    from vmatlas.capture import Capture


@runtime_checkable
class HasPid(Protocol):
    """Anything that knows its process: `subprocess.Popen`, `psutil.Process`, `multiprocessing.Process`."""

    @property
    def pid(self) -> int | None:
        """The process id."""


Pid: TypeAlias = int | HasPid | None
"""A process: its number, None for the one that asks, or anything with `.pid`."""

Pids: TypeAlias = Iterable[int | HasPid] | HasPid | int
"""One process or several: what `vmatlas.select` gives, or numbers, or anything with `.pid`. Of a `Process`, a
`ProcessInfo` or an `AddressSpace` the same process is meant, and none that has its number now."""


def pid_of(process: Pid, what: str = "process") -> int | None:
    """The number of a process that a caller hands over; None: the one that asks. Raises UsageError."""
    if process is None:
        return None
    candidate: Any = process if isinstance(process, int) else _asked_of(process, "pid", process)
    try:
        pid = arguments.whole(candidate, what)
    except UsageError:
        raise UsageError(
            f"{arguments.shown(process)} is no {what} id",
            hint="give a whole number, None for this process, or an object with .pid",
        ) from None
    if not 0 <= pid < 2**31:
        raise UsageError(f"{arguments.shown(pid)} is no {what} id", hint=f"{what} ids are whole numbers from 0")
    return pid


_ENDS = "returncode", "exitcode", "exitstatus", "signalstatus"
"""Where objects of processes say how theirs ended, None until then: subprocess, asyncio and psutil; multiprocessing;
pexpect."""


def _asked_of(handed: object, name: str, otherwise: object) -> object:
    """An attribute of anybody's object. Raises NoSuchProcess where it refuses, as multiprocessing's do once closed."""
    try:
        return getattr(handed, name, otherwise)
    except VmatlasError:
        raise
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
        raise NoSuchProcess(f"{arguments.shown(handed)} stands for no process any more ({told})") from None


def check_lives(handed: Pid) -> None:
    """Whether the process that an object stands for has its number still, as far as the object knows.

    A number is free for others once the process was waited for, and then the object knows; one that does not wait
    (`psutil.Process`) compares start times. So whoever asks once the process of that number is held has the right one.
    Raises NoSuchProcess.
    """
    if handed is None or isinstance(handed, int):
        return
    pid = pid_of(handed)
    for name in _ENDS:
        if (end := _asked_of(handed, name, None)) is not None:
            raise NoSuchProcess(
                f"the process {pid} that was handed over has ended ({name} {arguments.shown(end)}): its number may be "
                "another's now",
                pid=pid,
            )
    knows_start = callable(_asked_of(handed, "create_time", None))  # psutil's, and then this is no coroutine
    is_running = _asked_of(handed, "is_running", None) if knows_start else None
    if callable(is_running) and is_running() is False:
        raise _is_no_more(pid)


def check_same(handed: Pid, held: Identified) -> None:
    """Whether the process that is held is the one that was handed over. Raises NoSuchProcess.

    One place decides it for all that has `.pid`: our own values by their start time, others by what they know.
    """
    if handed is None or isinstance(handed, int):
        return
    from vmatlas.capture import Capture  # who names a process by its number does not pay for it

    if isinstance(handed, (Process, ProcessInfo, AddressSpace, Capture)):
        if not may_be(held, handed):
            raise _is_no_more(handed.pid)
    else:
        check_lives(handed)


def _is_no_more(pid: int | None) -> NoSuchProcess:
    return NoSuchProcess(f"the process {pid} that was handed over is no more: its number may be another's now", pid=pid)


def place_of(target: Target | None) -> Target:
    """The target that a caller hands over; None is this machine. Raises UsageError."""
    place: Any = LOCAL if target is None else target
    if isinstance(place, str):
        told = arguments.shown(place)
        raise UsageError(f"{told} is no target", hint=f"target=vmatlas.connect({told}), and close it afterwards")
    if not all(hasattr(place, method) for method in ("open", "offers", "processes")):
        raise UsageError(
            f"{arguments.shown(place)} is no target", hint="vmatlas.connect(URL) gives one; None is this machine"
        )
    found: Target = place
    return found


def open(
    pid: Pid = None, *, target: Target | None = None, backend: str | None = None, thread: int | None = None
) -> Process:
    """A handle on a process.

    `pid` is a number, None for the process that asks (on another machine: the agent), or anything with `.pid`. Of a
    `Process`, a `ProcessInfo` or an `AddressSpace` the same process is meant, and none that has its number now; the
    same holds of an object that says that its process has ended (`returncode`, `exitcode`), and of a `psutil.Process`.
    `backend` names one backend for all its questions; otherwise each question goes to the one that answers it best.
    `thread` asks through one thread of the process (Linux: /proc/PID/task/TID/maps).

    Raises NoSuchProcess, AccessDenied, Unsupported, UsageError.
    """
    return opened(pid, target, backend, thread)


def opened(
    pid: Pid, target: Target | None, backend: str | None, thread: int | None = None, choices: Choices | None = None
) -> Process:
    """The same for who asks many of one target, and keeps what was chosen for one of them."""
    place = place_of(target)
    if backend is not None:
        registry.backend(backend)
    number, task = pid_of(pid), pid_of(thread, "thread")
    try:
        check_lives(pid)
        found = place.open(number, task)
        try:
            check_same(pid, found)
        except NoSuchProcess:
            found.close()
            raise
        return Process(place, found, backend, choices)
    except VmatlasError as error:
        raise error.located(target=place.name) from None


def snapshot(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    thread: int | None = None,
    residency: bool = False,
    build_ids: bool = False,
    where: Filter | str | None = None,
    strict: bool = False,
    threads: bool = False,
    guards: bool = False,
    **criteria: Unpack[Criteria],
) -> AddressSpace:
    """The memory map of a process: all its regions, or those that pass a filter, by address.

        space = vmatlas.snapshot(1234)
        for region in space.where(executable=True, writable=True):
            print(region)

    `pid` is a number, None for this process, or anything with `.pid`; `target` where it lives (`vmatlas.connect`).
    `backend` names one backend (`vmatlas doctor` lists them), `thread` asks through one thread. `residency` asks for
    the memory in use as well, `build_ids` for the ELF build id of each file: both are dearer. `threads` asks for the
    threads and their stack pointers too (`space.origin.threads`), which `name_regions` uses. `guards` makes the guards
    that no map shows (Linux: MADV_GUARD_INSTALL) entries of their own, of the kind GUARD; not with `residency`. `where`
    is a filter in words ("x,file,size>1M") or a `Filter`; `criteria` are keywords: readable, writable, executable,
    shared, file_backed, deleted, kind, path, name, larger_than, smaller_than.

    Sizes and addresses are bytes, ranges [start, end); what a system does not tell is None. A map that may lack
    something says so in `incomplete`; with `strict=True` it raises IncompleteResult.

    Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost, UsageError.
    """
    with open(pid, target=target, backend=backend, thread=thread) as process:
        return process.snapshot(
            residency=residency,
            build_ids=build_ids,
            where=where,
            strict=strict,
            threads=threads,
            guards=guards,
            **criteria,
        )


def find(
    pid: Pid,
    address: int,
    or_next: bool = False,
    *,
    target: Target | None = None,
    backend: str | None = None,
    where: Filter | str | None = None,
    **criteria: Unpack[Criteria],
) -> Region | None:
    """The region of a process that covers an address, asked of the kernel; None where nothing is mapped.

    With `or_next`, else the next region above. `where` and `criteria` say which regions count, as in `snapshot`; `pid`,
    `target` and `backend` are as there. For many questions to one process keep a handle: `vmatlas.open(pid).find`
    takes a microsecond or two where the kernel can be asked for one region. What `addr2line` takes is told by
    `Process.elf_address`.

    Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost, and UsageError for what is no address.
    """
    with open(pid, target=target, backend=backend) as process:
        return process.find(address, or_next=or_next, where=where, **criteria)


def find_many(
    pid: Pid, addresses: Iterable[int], *, target: Target | None = None, backend: str | None = None
) -> list[Region | None]:
    """The region that covers each address (None where nothing is mapped), in the order of the addresses.

    Few are asked for one by one, many by one reading of the map, whatever takes less time. Where another backend
    answers the one than the other, what only one of them tells (Linux: `page_size`) depends on it; `backend` names one,
    which tells the same each time. `pid`, `target` are as in `snapshot`.

    Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost, and UsageError for what is no address.
    """
    with open(pid, target=target, backend=backend) as process:
        return process.find_many(addresses)


def neighbours(pid: Pid, address: int, *, target: Target | None = None, backend: str | None = None) -> Neighbours:
    """What lies at an address and on both sides of it: `Neighbours(before, at, after)`, each a Region or None.

    The question of a crash handler; `vmatlas.operations.classify_fault` says what it means. `pid`, `target` and
    `backend` are as in `snapshot`.

    Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost, and UsageError for what is no address.
    """
    with open(pid, target=target, backend=backend) as process:
        return process.neighbours(address)


def iterate(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    where: Filter | str | None = None,
    **criteria: Unpack[Criteria],
) -> Iterator[Region]:
    """The regions of a process one after another, without keeping them; arguments as in `snapshot`.

    A backend that can walk is asked piece by piece, at different times: a region that changes between two pieces can
    overlap the one before; otherwise none is given twice.

    Raises, when the first region is asked for: NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost,
    UsageError.
    """
    with open(pid, target=target, backend=backend) as process:
        yield from process.iterate(where=where, **criteria)


def watch(
    pid: Pid = None,
    interval: float = 1.0,
    *,
    target: Target | None = None,
    backend: str | None = None,
    residency: bool = False,
    others: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Difference]:
    """What changes in the map of a process: a `Difference` each time that something does, until the process ends.

        for difference in vmatlas.watch(1234, 0.5):
            print(difference.added, difference.grown)

    Looks every `interval` seconds (from 0 to a year); what changes and changes back between two looks is not seen, nor,
    without `residency`, what fills or leaves memory within regions that stay as large. What other processes change is
    no change, unless `others`: see `diff`. `wait` sleeps for some seconds; what it raises ends the watch. `pid`,
    `target` and `backend` are as in `snapshot`.

    Raises UsageError for what is no interval, and at the first look NoSuchProcess, AccessDenied, Unsupported, TornRead,
    TargetLost.
    """
    with open(pid, target=target, backend=backend) as process:
        yield from process.watch(interval, residency=residency, others=others, wait=wait)


def capture(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    residency: bool = False,
    build_ids: bool = False,
    threads: bool = False,
    guards: bool = False,
) -> Capture:
    """The map of a process as the kernel's own bytes, to be saved (`Capture.save`) and read elsewhere (`replay`).

        vmatlas.capture(1234, residency=True).save("worker.vmatlas")
        space = vmatlas.replay("worker.vmatlas")

    `residency`, `build_ids` and `threads` ask for the memory in use, for build ids, and for the threads with their
    stack pointers as well, `guards` for the guards that no map shows (not with `residency`): what was not asked for
    cannot be shown later. `pid`, `target` and `backend` are as in
    `snapshot`.

    Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost, UsageError.
    """
    with open(pid, target=target, backend=backend) as process:
        return process.capture(residency=residency, build_ids=build_ids, threads=threads, guards=guards)


def replay(source: Capture | str | os.PathLike[str]) -> AddressSpace:
    """The address space of a capture, or of a saved capture's file; the process need not exist any more.

    Of a series (`record_series`) it is the last moment; `Series.open` has them all.

    Raises OSError (the file), MalformedData, UsageError (a newer format), Unsupported (the backend is not installed:
    the hint names its distribution).
    """
    saved = _capture_of(source)
    backend = registry.backend(saved.backend, distribution=saved.distribution)
    try:
        space = backend.decode(saved)
        if (told := saved.streams.get(THREADS)) is not None:
            space = space.with_threads(threads_of(told, saved.system.system, saved.pid))
        return _with_guards(space, saved)
    except VmatlasError as error:
        raise error.located(pid=saved.pid, backend=saved.backend) from None


def _capture_of(source: Capture | str | os.PathLike[str]) -> Capture:
    from vmatlas.capture import Capture  # what asks a process does not pay for these
    from vmatlas.remains import load

    return source if isinstance(source, Capture) else load(source)


def _with_guards(space: AddressSpace, saved: Capture) -> AddressSpace:
    """With the guards that a capture tells of beside its map, where it does."""
    for name in saved.streams:
        if name.startswith(PAGES):
            runs = registry.page_source_of(name, saved.system.system).pages(saved)
            space = space.with_guards(runs)
    return space


def memory(pid: Pid = None, *, target: Target | None = None, backend: str | None = None) -> MemoryUse:
    """The memory in use of a process as a whole: resident, proportional (PSS), private (USS), swapped, and more; bytes.

        use = vmatlas.memory(1234)
        print(use.proportional, use.private, use.swapped)

    On Linux one short file tells it (smaps_rollup), in a small part of the time of `snapshot(residency=True)`, whose
    regions tell where it is. `vmatlas.memories` asks every process. `pid`, `target`
    and `backend` are as in `snapshot`.

    Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, TargetLost, UsageError.
    """
    with open(pid, target=target, backend=backend) as process:
        return process.memory()


def replay_memory(source: Capture | str | os.PathLike[str]) -> MemoryUse:
    """The memory in use that a capture with residency tells of its process: the kernel's own totals where it has them
    (Linux: the stream smaps_rollup), else the sum over its regions. Raises what `replay` raises."""
    saved = _capture_of(source)
    backend = registry.backend(saved.backend, distribution=saved.distribution)
    if isinstance(backend, TellsTotals):
        try:
            return backend.totals(saved)
        except Unsupported:  # it has none
            pass
        except VmatlasError as error:
            raise error.located(pid=saved.pid, backend=saved.backend) from None
    return replay(saved).memory.use


def processes(target: Target | None = None) -> Listing[ProcessInfo]:
    """Every process that a target lists (None: this machine), in order of pid, one by one.

    A `ProcessInfo` has the pid, the name, the parent, the state in the system's own letter ("Z": a zombie, which has no
    memory any more), and whether it is one of the kernel's own, whose map is empty. What a system does not tell is
    None; of a process that is listed and may not be looked at only the pid is told. Those that came while it was listed
    are last. `incomplete` of what this gives says why processes may be missing.

    Raises Unsupported where processes cannot be listed (Linux: /proc is not mounted), TargetLost.
    """
    place = place_of(target)
    found = place.processes()
    return Listing(found, place, lambda: found.gap if isinstance(found, Roll) else None)
