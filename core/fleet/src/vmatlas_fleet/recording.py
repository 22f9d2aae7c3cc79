"""Many hosts at once, bounded: threads of this process ask them, write what they told, try again, and end in time.

A host is settled once: by the thread that asked it, or by who waits, when that thread waits for what no limit reaches
(the system's resolver). What is settled is written; so whatever ends a recording, what was settled is there.
"""

from __future__ import annotations

import heapq
import queue
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from vmatlas import __version__
from vmatlas.patience import THREAD
from vmatlas.target.asking import Deadline
from vmatlas_fleet.asking import Order, Told, ask_host
from vmatlas_fleet.dataset import DataSet, Run
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.schema import HOSTS
from vmatlas_fleet.tables import number, of_rows, text

_LOOK = 0.1
"""Seconds between two looks at what goes on."""
_GRACE = 10.0
"""Seconds after its deadline, or after Ctrl-C, that a host has to let go."""
_MOST_BACK_OFF = 60.0
_MOST_REASONS = 1000


@dataclass(frozen=True, slots=True)
class Pace:
    """How many hosts are asked, how fast, and for how long."""

    concurrency: int = 32
    """Hosts at once."""
    rate: float | None = None
    """Hosts begun in a second, at most."""
    host: float = 300.0
    """Seconds for one host, all attempts together."""
    all: float | None = None
    """Seconds for all hosts together."""
    retries: int = 2
    """How often one that was lost is asked again."""
    back_off: float = 1.0
    """Seconds before the first time, doubled for each that follows; at random up to twice as long."""


@dataclass(slots=True)
class Outcome:
    """What became of all hosts."""

    hosts: int = 0
    answered: int = 0
    partly: int = 0
    failed: int = 0
    incomplete: int = 0
    """Of those that answered: where a process could not be read, or something may be missing."""
    already: int = 0
    """Hosts that the recording had before it went on."""
    processes: int = 0
    regions: int = 0
    findings: int = 0
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How many hosts failed, by the kind of the error and the reason without the host's name."""
    named: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    """The first of them."""
    interrupted: KeyboardInterrupt | None = None
    """What ended it early."""

    @property
    def settled(self) -> int:
        """Hosts that are told of."""
        return self.answered + self.partly + self.failed

    @property
    def not_asked(self) -> int:
        """Hosts of which nothing is known, since the recording was ended before."""
        return self.hosts - self.already - self.settled

    @property
    def is_whole(self) -> bool:
        """Every host was asked, and told everything."""
        return not (self.partly or self.failed or self.incomplete or self.not_asked)


class Progress(Protocol):
    """Who shows how far it is."""

    def update(self, outcome: Outcome, in_flight: int) -> None:
        """Called in one thread, now and then."""
        ...


class Silent:
    """Shows nothing."""

    def update(self, outcome: Outcome, in_flight: int) -> None:
        """See `Progress`."""


@dataclass(slots=True, eq=False)
class Task:
    """One host, from when it is its turn until it is settled."""

    host: Host
    attempts: int = 0
    began: float | None = None
    """Seconds since 1970."""
    deadline: Deadline | None = None
    best: Told | None = None
    """Of attempts that were lost, the one that told most."""
    _claim: threading.Lock = field(default_factory=threading.Lock)

    def claim(self) -> bool:
        """Whether the caller is the one that settles it."""
        return self._claim.acquire(blocking=False)

    def keep(self, told: Told) -> Told:
        """The better of two attempts."""
        if self.best is None or told.status == "answered" or told.processes >= self.best.processes:
            self.best = told
        return self.best


class Ledger:
    """Writes what is settled, and counts it."""

    def __init__(self, data: DataSet, run: Run, order: Order, outcome: Outcome) -> None:
        self._data, self._run, self._order, self.outcome = data, run, order, outcome
        self._lock = threading.Lock()

    def settle(self, task: Task, told: Told) -> None:
        """One host, which was claimed. Raises OSError, where it cannot be written."""
        for capture in told.captures:
            self._data.keep_capture(capture)
        told.captures.clear()
        self._data.write_host(self._run, task.host.name, told.tables, of_rows(HOSTS, [self._row(task, told)]))
        with self._lock:
            self._count(task.host, told)
        told.tables.clear()
        task.best = None

    def keep_capture(self, content: bytes) -> None:
        """For `ask_host`."""
        self._data.keep_capture(content)

    def _row(self, task: Task, told: Told) -> dict[str, Any]:
        host, system, now = task.host, told.system, time.time()
        began = now if task.began is None else task.began
        row: dict[str, Any] = {
            "run": self._run.run,
            "name": text(host.name),
            "status": told.status,
            "reason": text(told.reason),
            "error": told.error,
            "scheme": host.scheme or None,
            "groups": [text(each) for each in host.groups],
            "labels": [(text(key), text(value)) for key, value in host.labels.items()],
            "began": round(began * 1e6),
            "seconds": round(now - began, 3),
            "attempts": task.attempts,
            "what": ",".join(self._run.what),
            "selected": text(" ".join(self._run.select)) or None,
            "processes": told.processes,
            "unread": told.unread,
            "regions": told.regions,
            "findings": told.findings,
            "incomplete": text(told.incomplete),
            "boot": told.boot,
            "vmatlas": __version__,
        }
        if system is not None:
            row |= {name: text(getattr(system, name)) for name in ("system", "release", "version", "machine")}
            row |= {"byte_order": system.byte_order, "pointer_width": system.pointer_width}
            row |= {"page_size": number(system.page_size)}
        return row

    def _count(self, host: Host, told: Told) -> None:
        outcome = self.outcome
        outcome.answered += told.status == "answered"
        outcome.partly += told.status == "partly"
        outcome.failed += told.status == "failed"
        outcome.incomplete += told.status == "answered" and not told.is_whole
        outcome.processes += told.processes
        outcome.regions += told.regions
        outcome.findings += told.findings
        if told.status != "answered":
            key = told.error or "", (told.reason or "").replace(host.name, "HOST")
            if key not in outcome.named and len(outcome.named) >= _MOST_REASONS:
                key = "", "for other reasons"
            outcome.reasons[key] += 1
            named = outcome.named.setdefault(key, [])
            if len(named) < 8:
                named.append(host.name)


def wants_again(task: Task, told: Told, pace: Pace) -> float | None:
    """After how many seconds a host is to be asked again; None: not."""
    if told.status == "answered" or not told.may_pass or task.attempts > pace.retries:
        return None
    pause = min(pace.back_off * 2.0 ** (task.attempts - 1), _MOST_BACK_OFF)
    pause *= 1 + random.random()
    return pause if task.deadline is None or pause < task.deadline.left else None


def begun(hosts: Sequence[Host], already: Iterable[str]) -> tuple[Outcome, list[Task]]:
    """What has become of all hosts so far, and what is to be done: those that the recording does not have yet."""
    known = set(already)
    tasks = [Task(host) for host in hosts if host.name not in known]
    return Outcome(hosts=len(hosts), already=len(hosts) - len(tasks)), tasks


def record(
    hosts: Sequence[Host],
    order: Order,
    pace: Pace,
    data: DataSet,
    run: Run,
    progress: Progress | None = None,
    *,
    already: Iterable[str] = (),
) -> Outcome:
    """Ask all hosts by threads of this process, and write what they tell.

    `already`: the names of those that the recording has. KeyboardInterrupt ends it early: what was settled is there,
    and `interrupted` says so. Raises OSError where what was told cannot be written: then nothing more is asked, and
    what was written before is there.
    """
    outcome, tasks = begun(hosts, already)
    threads = _Threads(tasks, order, pace, Ledger(data, run, order, outcome))
    threads.run(progress or Silent())
    return outcome


class _Threads:
    def __init__(self, tasks: list[Task], order: Order, pace: Pace, ledger: Ledger) -> None:
        self._order, self._pace, self._ledger = order, pace, ledger
        self._upcoming = deque(tasks)
        self._again: list[tuple[float, int, Task]] = []
        self._left = len(tasks)
        self._in_flight: dict[int, Task] = {}
        """By the number of the thread that asks."""
        self._abandoned: set[int] = set()
        self._turn = threading.Condition()
        self._stopped = False
        self._next_begin = 0.0
        self._settled: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()
        self._all = None if pace.all is None else Deadline(pace.all)
        self._hired = 0
        self._workers: set[int] = set()
        """Threads that ask, but those that were given up."""

    def run(self, progress: Progress) -> None:
        """Until all are settled, or it is ended."""
        for _ in range(min(self._pace.concurrency, self._left)):
            if not self._hire():
                break  # fewer do it as well
        failure: BaseException | None = None
        try:
            failure = self._watch(progress)
        except KeyboardInterrupt as error:
            self._ledger.outcome.interrupted = error
            for task in self._stop("interrupted: this host was being asked when the recording was ended"):
                self._settle(task, task.best or Told("failed", "interrupted before it was asked again", "TargetLost"))
            self._await_those_in_flight()
            return
        finally:
            with self._turn:
                self._stopped = True
                self._turn.notify_all()
        if failure is not None:
            self._stop("the recording was ended: it cannot be written")
            raise failure

    def _watch(self, progress: Progress) -> BaseException | None:
        """What made writing fail, as soon as something does; None at the end."""
        while self._left:
            try:
                failure = self._settled.get(timeout=_LOOK)
            except queue.Empty:
                failure = None
            else:
                self._left -= 1
                if failure is not None:
                    return failure
            if self._settled.empty():
                self._look(progress)
                if self._left and not self._workers and not self._hire():
                    self._ask_here()
        progress.update(self._ledger.outcome, 0)
        return None

    def _look(self, progress: Progress) -> None:
        progress.update(self._ledger.outcome, len(self._in_flight))
        if self._all is not None and not self._all.left:
            why = f"the {self._pace.all:g} s for all hosts were over"
            with self._turn:
                waiting = [*self._upcoming, *(task for _, _, task in self._again)]
                self._upcoming.clear()
                self._again.clear()
                flying = list(self._in_flight.values())
            for task in flying:
                if task.deadline is not None and task.deadline.left:
                    task.deadline.end(why)
            for task in waiting:
                reason = f"not asked: {why}" if task.best is None else f"not asked again: {why}"
                told = task.best or Told("failed", reason, "Unanswered")
                self._settle(task, told)
        for thread, task in list(self._in_flight.items()):
            if task.deadline is not None and task.deadline.over > _GRACE:
                self._give_up(thread, task)

    def _give_up(self, thread: int, task: Task) -> None:
        """Its thread waits for what no limit reaches; another one goes on in its place."""
        with self._turn:
            if self._in_flight.pop(thread, None) is None:
                return
            self._abandoned.add(thread)
            self._workers.discard(thread)
        assert task.deadline is not None
        why = f"{task.deadline.why}; this program still waits for what the system does not give up (a name's address?)"
        self._settle(task, task.best or Told("failed", why, "Unanswered"))
        self._hire()

    def _settle(self, task: Task, told: Told) -> None:
        """By whoever comes first. What goes wrong is told to who watches."""
        if not task.claim():
            return
        try:
            self._ledger.settle(task, told)
        except BaseException as error:
            self._settled.put(error)
            return
        self._settled.put(None)

    def _stop(self, why: str) -> list[Task]:
        """Ask nothing more, and let those that are asked end. Gives those that waited for another attempt."""
        with self._turn:
            self._stopped = True
            waiting = [task for _, _, task in self._again]
            self._upcoming.clear()
            self._again.clear()
            flying = list(self._in_flight.values())
            self._turn.notify_all()
        for task in flying:
            if task.deadline is not None:
                task.deadline.end(why)
        return waiting

    def _await_those_in_flight(self) -> None:
        """A second Ctrl-C is not waited for."""
        until = time.monotonic() + _GRACE
        while self._in_flight and time.monotonic() < until:
            time.sleep(_LOOK / 2)

    # ---- the threads ----

    def _hire(self) -> bool:
        """One thread more; False where the system gives none: a limit of processes, or of memory."""
        self._hired += 1
        me = self._hired
        with self._turn:
            self._workers.add(me)
        try:
            threading.Thread(target=self._work, args=(me,), name=THREAD, daemon=True).start()
        except RuntimeError:
            with self._turn:
                self._workers.discard(me)
            return False
        return True

    def _ask_here(self) -> None:
        """One host, if it is its turn, by the thread that waits: there is no other."""
        task = self._next(0, waits=False)
        if task is None:
            return
        try:
            self._ask(0, task)
        except KeyboardInterrupt:
            why = "interrupted: this host was being asked when the recording was ended"
            self._settle(task, task.best or Told("failed", why, "TargetLost"))
            self._let_go(0)
            raise

    def _next(self, me: int, *, waits: bool = True) -> Task | None:
        with self._turn:
            while not self._stopped:
                now = time.monotonic()
                pause = None
                if self._again and self._again[0][0] <= now:
                    return self._taken(me, heapq.heappop(self._again)[2])
                if self._upcoming:
                    pause = self._next_begin - now
                    if pause <= 0:
                        if self._pace.rate is not None:
                            self._next_begin = max(self._next_begin, now - 1 / self._pace.rate) + 1 / self._pace.rate
                        return self._taken(me, self._upcoming.popleft())
                if self._again:
                    due = self._again[0][0] - now
                    pause = due if pause is None else min(pause, due)
                if not waits:
                    break
                self._turn.wait(pause)
        return None

    def _taken(self, me: int, task: Task) -> Task:
        if task.began is None:
            task.began = time.time()
            left = self._pace.host if self._all is None else min(self._pace.host, self._all.left)
            task.deadline = Deadline(left)
        task.attempts += 1
        self._in_flight[me] = task
        return task

    def _work(self, me: int) -> None:
        try:
            while (task := self._next(me)) is not None and self._ask(me, task):
                pass
        finally:
            with self._turn:
                self._workers.discard(me)

    def _ask(self, me: int, task: Task) -> bool:
        """Ask one host once, and settle it, or put it off. Whether this thread goes on."""
        assert task.deadline is not None
        try:
            told = ask_host(task.host, self._order, task.deadline, self._ledger.keep_capture)
        except BaseException as error:  # of ours: a disk that is full, a defect
            if isinstance(error, KeyboardInterrupt) and not me:
                raise
            if task.claim():
                self._settled.put(error)
            self._let_go(me)
            return False
        best = task.keep(told)
        pause = None if self._stopped else wants_again(task, told, self._pace)
        if pause is None:
            self._settle(task, best)
            return not self._let_go(me)
        with self._turn:
            if self._in_flight.pop(me, None) is None:  # it was given up meanwhile
                return False
            heapq.heappush(self._again, (time.monotonic() + pause, id(task), task))
            self._turn.notify()
        return True

    def _let_go(self, me: int) -> bool:
        """Whether another thread has taken this one's place."""
        with self._turn:
            self._in_flight.pop(me, None)
            return me in self._abandoned
