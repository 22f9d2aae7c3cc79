"""What `import vmatlas` gives: `open`, which makes a handle on a process, and the one-shot forms of its questions."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, Unpack, runtime_checkable

from vmatlas import registry
from vmatlas.backend import Target
from vmatlas.capture import Capture
from vmatlas.errors import UsageError, VmatlasError
from vmatlas.model import AddressSpace, Criteria, Filter, Neighbours, ProcessInfo, Region
from vmatlas.process import Process
from vmatlas.target.local import LOCAL

if TYPE_CHECKING:
    from vmatlas.analysis import Difference


@runtime_checkable
class HasPid(Protocol):
    """Anything that knows its process: `subprocess.Popen`, `psutil.Process`, `multiprocessing.Process`."""

    @property
    def pid(self) -> int | None:
        """The process id."""
        ...


Pid: TypeAlias = int | HasPid | None
"""A process: its number, None for the one that asks, or anything with `.pid`."""


def _pid(process: Pid, what: str = "process") -> int | None:
    if process is None:
        return None
    candidate: Any = process if isinstance(process, int) else getattr(process, "pid", process)
    try:
        if isinstance(candidate, bool):
            raise TypeError
        pid = operator.index(candidate)
    except TypeError:
        raise UsageError(
            f"{process!r} is no {what} id", hint="give a whole number, None for this process, or an object with .pid"
        ) from None
    if not 0 <= pid < 2**31:
        told = str(pid) if pid.bit_length() <= 128 else f"a number of {pid.bit_length()} bits"
        raise UsageError(f"{told} is no {what} id", hint=f"{what} ids are whole numbers from 0")
    return pid


def _place(target: Target | None) -> Target:
    place: Any = LOCAL if target is None else target
    if isinstance(place, str):
        raise UsageError(f"{place!r} is no target", hint=f"target=vmatlas.connect({place!r}), and close it afterwards")
    found: Target = place
    return found


def open(
    pid: Pid = None, *, target: Target | None = None, backend: str | None = None, thread: int | None = None
) -> Process:
    """A handle on a process.

    `pid` is a number, None for the process that asks (on another machine: the agent), or anything with `.pid`.
    `backend` names one backend for all its questions; otherwise each question goes to the one that answers it best.
    `thread` asks through one thread of the process (Linux: /proc/PID/task/TID/maps).

    Raises NoSuchProcess, AccessDenied, Unsupported, UsageError.
    """
    place = _place(target)
    if backend is not None:
        registry.backend(backend)
    number, task = _pid(pid), _pid(thread, "thread")
    try:
        return Process(place, place.open(number, task), backend)
    except VmatlasError as error:
        raise error.located(target=place.name) from error.__cause__


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
    **criteria: Unpack[Criteria],
) -> AddressSpace:
    """The memory map of a process: `open` and `Process.snapshot` in one."""
    with open(pid, target=target, backend=backend, thread=thread) as process:
        return process.snapshot(residency=residency, build_ids=build_ids, where=where, strict=strict, **criteria)


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
    """The region that covers an address: `open` and `Process.find` in one."""
    with open(pid, target=target, backend=backend) as process:
        return process.find(address, or_next=or_next, where=where, **criteria)


def find_many(
    pid: Pid, addresses: Iterable[int], *, target: Target | None = None, backend: str | None = None
) -> list[Region | None]:
    """The region that covers each address: `open` and `Process.find_many` in one.

    Without `backend` what a region tells may depend on how many addresses there are: see there.
    """
    with open(pid, target=target, backend=backend) as process:
        return process.find_many(addresses)


def neighbours(pid: Pid, address: int, *, target: Target | None = None, backend: str | None = None) -> Neighbours:
    """What lies at an address and on both sides of it: `open` and `Process.neighbours` in one."""
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
    """The regions one after another: `open` and `Process.iterate` in one."""
    with open(pid, target=target, backend=backend) as process:
        yield from process.iterate(where=where, **criteria)


def watch(
    pid: Pid = None,
    interval: float = 1.0,
    *,
    target: Target | None = None,
    backend: str | None = None,
    residency: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Difference]:
    """What changes in a process, each time that something does: `open` and `Process.watch` in one."""
    with open(pid, target=target, backend=backend) as process:
        yield from process.watch(interval, residency=residency, wait=wait)


def capture(
    pid: Pid = None,
    *,
    target: Target | None = None,
    backend: str | None = None,
    residency: bool = False,
    build_ids: bool = False,
) -> Capture:
    """The kernel's own bytes, to be saved (`Capture.save`) and read elsewhere (`replay`)."""
    with open(pid, target=target, backend=backend) as process:
        return process.capture(residency=residency, build_ids=build_ids)


def replay(source: Capture | str | os.PathLike[str]) -> AddressSpace:
    """The address space of a capture, or of a saved capture's file; the process need not exist any more.

    Raises OSError (the file), MalformedData, UsageError (a newer format), Unsupported (the backend is not installed:
    the hint names its distribution).
    """
    saved = source if isinstance(source, Capture) else Capture.load(source)
    backend = registry.backend(saved.backend, distribution=saved.distribution)
    try:
        return backend.decode(saved)
    except VmatlasError as error:
        raise error.located(pid=saved.pid, backend=saved.backend) from error.__cause__


def processes(target: Target | None = None) -> Iterator[ProcessInfo]:
    """Every process that may be seen on a target, in order of pid."""
    return _place(target).processes()
