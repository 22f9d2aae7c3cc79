"""The same question to every process of a target, side by side, answered in the order of pids as they come.

Threads do it: the compiled twins let go of the interpreter while the kernel answers. An agent answers one question at
a time, so at the other end of a wire the processes are asked one after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from vmatlas import api
from vmatlas.backend import Target
from vmatlas.errors import TargetLost, Unsupported, UsageError, VmatlasError
from vmatlas.model import AddressSpace, Filter, ProcessInfo
from vmatlas.process import Process
from vmatlas.target.local import LOCAL
from vmatlas.threads import allowed

_Answer = TypeVar("_Answer")

MOST_THREADS = 8
_AHEAD = 4
"""How many processes a thread are asked before the first of them was taken."""


@dataclass(frozen=True, slots=True)
class Surveyed(Generic[_Answer]):
    """What one process answered, or why it could not."""

    process: ProcessInfo
    answer: _Answer | None
    error: VmatlasError | None
    number: int
    """Of the processes that were asked, from 1."""
    count: int
    """How many processes there are to ask."""


def survey(
    ask: Callable[[Process], _Answer],
    *,
    target: Target | None = None,
    backend: str | None = None,
    threads: int | None = None,
) -> Iterator[Surveyed[_Answer]]:
    """Asks each process that is not the kernel's own; `ask` runs in other threads.

    `threads`: how many, by default one for each processor, at most 8 (or VMATLAS_THREADS). Raises UsageError,
    Unsupported and TargetLost, which would be the same for each process.
    """
    place = LOCAL if target is None else target
    if threads is not None and threads < 1:
        raise UsageError(f"{threads} threads cannot ask anything", hint="threads is a whole number from 1")
    found = [process for process in place.processes() if not process.kernel]
    several = (threads or allowed(MOST_THREADS)) if place is LOCAL else 1

    def one(process: ProcessInfo) -> tuple[_Answer | None, VmatlasError | None]:
        try:
            with api.open(process.pid, target=place, backend=backend) as asked:
                return ask(asked), None
        except (UsageError, Unsupported, TargetLost):
            raise
        except VmatlasError as error:
            return None, error

    for number, (process, (answer, error)) in enumerate(_each(one, found, several), 1):
        yield Surveyed(process, answer, error, number, len(found))


def _each(
    one: Callable[[ProcessInfo], _Answer], processes: list[ProcessInfo], threads: int
) -> Iterator[tuple[ProcessInfo, _Answer]]:
    if threads == 1:
        yield from ((process, one(process)) for process in processes)
        return
    waiting: deque[tuple[ProcessInfo, Future[_Answer]]] = deque()
    with ThreadPoolExecutor(threads, thread_name_prefix="vmatlas") as pool:
        try:
            for process in processes:
                waiting.append((process, pool.submit(one, process)))
                if len(waiting) >= threads * _AHEAD:
                    first, future = waiting.popleft()
                    yield first, future.result()
            while waiting:
                first, future = waiting.popleft()
                yield first, future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def snapshots(
    target: Target | None = None,
    *,
    backend: str | None = None,
    residency: bool = False,
    where: Filter | str | None = None,
    threads: int | None = None,
) -> Iterator[tuple[ProcessInfo, AddressSpace | VmatlasError]]:
    """The map of every process that is not the kernel's own, or the error that tells why there is none.

    Streamed: none is kept. Raises what `survey` raises.
    """
    wanted = Filter.of(where)

    def ask(process: Process) -> AddressSpace:
        return process.snapshot(residency=residency, where=wanted)

    for each in survey(ask, target=target, backend=backend, threads=threads):
        if each.error is not None:
            yield each.process, each.error
        elif each.answer is not None:
            yield each.process, each.answer
