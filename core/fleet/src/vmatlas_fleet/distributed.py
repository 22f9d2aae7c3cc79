"""The same by a Dask scheduler: a task a host, on whatever workers it has; what they tell is written here alone.

A worker that ends in the middle loses nothing: the scheduler gives its hosts to another. When the scheduler itself is
gone, what was not told is a row that says so, and `--resume` asks for it.
"""

from __future__ import annotations

import contextlib
import heapq
import logging
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from vmatlas.errors import TargetLost, UsageError, legible
from vmatlas.target.asking import Deadline
from vmatlas_fleet.asking import Order, Told, ask_host
from vmatlas_fleet.dataset import DataSet, Run
from vmatlas_fleet.extras import needed
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Ledger, Outcome, Pace, Progress, Silent, Task, begun, wants_again

_LOOK = 0.05
"""Seconds between two looks at what the workers have done."""
_CONNECT = 30.0
"""Seconds within which a scheduler must answer, and have a worker."""
_GONE = 15.0
"""Seconds without a scheduler, or without any worker, after which there is none."""
_COUNT = 3.0
"""Seconds between two looks at how many workers there are."""
_SLACK = 60.0
"""Seconds beyond a host's own after which, if nothing at all was told meanwhile, nothing more is waited for."""
_GATHER = 120.0
"""Seconds in which what one host told must have come here."""


def ask_there(host: Host, order: Order, seconds: float) -> Told:
    """What a worker does."""
    return ask_host(host, order, Deadline(seconds))


def record_by_scheduler(
    url: str,
    hosts: Sequence[Host],
    order: Order,
    pace: Pace,
    data: DataSet,
    run: Run,
    progress: Progress | None = None,
    *,
    already: Iterable[str] = (),
) -> Outcome:
    """As `vmatlas_fleet.recording.record`, by the workers of a scheduler. Raises TargetLost where there is none too."""
    outcome, tasks = begun(hosts, already)
    if tasks:
        with _quiet(), _connected(url) as client:
            asked = _Asked(
                client, tasks, replace(order, threads=order.threads or 1), pace, Ledger(data, run, order, outcome)
            )
            asked.run(progress or Silent())
    return outcome


@contextlib.contextmanager
def _connected(url: str) -> Iterator[Any]:
    distributed = needed("distributed")
    try:
        client = distributed.Client(url, timeout=_CONNECT, set_as_default=False, name="vmatlas-fleet")
    except (OSError, TimeoutError) as error:
        raise TargetLost(f"no Dask scheduler answers at {url}: {legible(str(error), 200)}") from None
    except ValueError as error:
        raise UsageError(f"--scheduler '{url}': {legible(str(error), 200)}", hint="as tcp://HOST:8786") from None
    try:
        try:
            client.wait_for_workers(1, timeout=_CONNECT)
        except TimeoutError:
            raise TargetLost(
                f"the Dask scheduler at {url} has no worker", hint=f"on a machine near the hosts: dask worker {url}"
            ) from None
        yield client
    finally:
        with contextlib.suppress(OSError, TimeoutError):
            client.close(timeout=5)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """What becomes of a connection is told here in a line, and not in those of Dask's log."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


class _Asked:
    def __init__(self, client: Any, tasks: list[Task], order: Order, pace: Pace, ledger: Ledger) -> None:
        self._client, self._order, self._pace, self._ledger = client, order, pace, ledger
        self._upcoming = deque(tasks)
        self._again: list[tuple[float, int, Task]] = []
        self._in_flight: dict[Any, Task] = {}
        self._all = None if pace.all is None else Deadline(pace.all)
        self._moved = self._counted = self._alive = time.monotonic()
        self._next_begin = 0.0

    def run(self, progress: Progress) -> None:
        """Until all are settled, or it is ended. Raises OSError."""
        try:
            while self._upcoming or self._again or self._in_flight:
                self._begin()
                if not self._take():
                    time.sleep(_LOOK)
                progress.update(self._ledger.outcome, len(self._in_flight))
                if (why := self._why_no_more()) is not None:
                    self._end(why)
        except KeyboardInterrupt as error:
            self._ledger.outcome.interrupted = error
            self._upcoming.clear()  # not asked
            self._end("interrupted: this host was being asked when the recording was ended")

    def _begin(self) -> None:
        now = time.monotonic()
        while len(self._in_flight) < self._pace.concurrency:
            if self._again and self._again[0][0] <= now:
                task = heapq.heappop(self._again)[2]
            elif self._upcoming and self._next_begin <= now:
                task = self._upcoming.popleft()
                if self._pace.rate is not None:
                    self._next_begin = max(self._next_begin, now - 1 / self._pace.rate) + 1 / self._pace.rate
            else:
                return
            if task.began is None:
                task.began = time.time()
                task.deadline = Deadline(self._pace.host)
            task.attempts += 1
            left = self._pace.host if self._all is None else min(self._pace.host, self._all.left)
            future = self._client.submit(ask_there, task.host, self._order, left, pure=False)
            self._in_flight[future] = task

    def _take(self) -> bool:
        """What has been told; whether anything has."""
        taken = [future for future in self._in_flight if future.status in ("finished", "error")]
        for future in taken:
            task = self._in_flight.pop(future)
            told = self._told(future)
            future.release()
            best = task.keep(told)
            pause = wants_again(task, told, self._pace)
            if pause is None:
                self._ledger.settle(task, best)
            else:
                heapq.heappush(self._again, (time.monotonic() + pause, id(task), task))
        if taken:
            self._moved = time.monotonic()
        return bool(taken)

    def _told(self, future: Any) -> Told:
        try:
            told: Told = future.result(timeout=_GATHER)
        except Exception as error:  # whatever a worker raises, or what becomes of one, is this host's reason
            kind = type(error).__name__
            if kind == "KilledWorker":
                return Told("failed", "each worker that was given this host has ended", kind)
            return Told("failed", legible(f"the worker failed: {kind}: {error}", 300), kind)
        return told

    def _why_no_more(self) -> str | None:
        """Why nothing more will be told."""
        now = time.monotonic()
        if self._all is not None and not self._all.left:
            return f"the {self._pace.all:g} s for all hosts were over"
        if now - self._counted > _COUNT:
            self._counted = now
            if self._has_workers():
                self._alive = now
        if now - self._alive > _GONE:
            return "the Dask scheduler, or each of its workers, is gone"
        if now - self._moved > self._pace.host + _SLACK and self._in_flight:
            return f"no worker told anything for {now - self._moved:.0f} s"
        return None

    def _has_workers(self) -> bool:
        if self._client.status != "running":
            return False
        try:
            return bool(self._client.nthreads())
        except Exception:  # the connection is being lost; Dask has an error of its own for each moment of that
            return False

    def _end(self, why: str) -> None:
        """Settle what is left: asked or not, it was not told."""
        flying, waiting = list(self._in_flight.items()), [task for _, _, task in self._again]
        upcoming = list(self._upcoming)
        self._in_flight.clear()
        self._again.clear()
        self._upcoming.clear()
        if self._client.status == "running":
            with contextlib.suppress(Exception):  # they end by their deadlines, where nobody can tell them to
                self._client.cancel([future for future, _ in flying], force=True)
        for task in (*(task for _, task in flying), *waiting):
            self._ledger.settle(task, task.best or Told("failed", why, "Unanswered"))
        for task in upcoming:
            self._ledger.settle(task, Told("failed", f"not asked: {why}", "Unanswered"))
