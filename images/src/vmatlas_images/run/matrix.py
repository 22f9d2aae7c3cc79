"""Runs machines side by side, as memory and processors allow, each through the same conformance run, and tells all
of it.

The conformance run is the caller's: a function from a running machine to an `Outcome`. Every machine that is asked for
comes out as a result, whatever happens to it. This module prints nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fnmatch
import os
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vmatlas.errors import TargetLost, VmatlasError

from ..describe.machine import Machine
from ..errors import FetchError, MachineError, NotAsExpected, NotRunnable, VerificationError
from ..fetch.cache import Cache
from ..fetch.download import Progress
from ..prepare.agents import FindAgent, built_agent
from .boot import Hello, RunningMachine, boot
from .results import Case, CaseState, MachineResult, Outcome, Report, State, console_of, in_order, with_expectations

Conformance = Callable[[RunningMachine], Outcome]
Follow = Callable[[Machine, str], None]
"""Told of each machine the stage that begins, and at its end its verdict."""
Fetching = Callable[[Machine, str, int, int | None], None]
"""Told of each machine what is fetched, the bytes so far and the bytes in all (None: not known)."""

_NOTHING = Outcome(())
_OVERHEAD = 192  # MiB that QEMU takes beside its guest's memory


def select(machines: Sequence[Machine], only: Sequence[str]) -> list[Machine]:
    """The machines whose names fit one of the patterns (all, when there is none). Raises `MachineError` for a
    pattern without any.
    """
    if not only:
        return list(machines)
    for pattern in only:
        if not any(fnmatch.fnmatchcase(machine.name, pattern) for machine in machines):
            names = ", ".join(machine.name for machine in machines)
            raise MachineError(f"no machine is called like '{pattern}'; there are: {names}")
    return [machine for machine in machines if any(fnmatch.fnmatchcase(machine.name, pattern) for pattern in only)]


class Budget:
    """Memory (MiB) and processors that machines share. One that alone exceeds them runs alone."""

    def __init__(self, memory: int, processors: int) -> None:
        self._memory, self._processors = memory, processors
        self._running = 0
        self._free = threading.Condition()

    @contextlib.contextmanager
    def share(self, machine: Machine) -> Iterator[None]:
        """Holds what a machine needs; waits until it is there."""
        memory, processors = machine.boot.memory + _OVERHEAD, machine.boot.processors
        with self._free:
            self._free.wait_for(
                lambda: self._running == 0 or (self._memory >= memory and self._processors >= processors)
            )
            self._take(memory, processors, 1)
        try:
            yield
        finally:
            with self._free:
                self._take(-memory, -processors, -1)
                self._free.notify_all()

    def _take(self, memory: int, processors: int, machines: int) -> None:
        self._memory -= memory
        self._processors -= processors
        self._running += machines


def host_budget(jobs: int | None = None) -> Budget:
    """Three quarters of the memory that is free now, and `jobs` processors (else those that this process may use)."""
    return Budget(_free_memory() * 3 // 4, jobs or len(os.sched_getaffinity(0)))


def _free_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) // 1024
    except OSError:
        pass  # no Linux: half of what there is
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGESIZE") // 2 // (1 << 20)


def run(
    machines: Sequence[Machine],
    conformance: Conformance,
    *,
    hello: Hello,
    output: Path,
    jobs: int | None = None,
    cache: Cache | None = None,
    find_agent: FindAgent = built_agent,
    follow: Follow = lambda machine, stage: None,
    fetching: Fetching = lambda machine, what, done, total: None,
) -> Report:
    """Runs `conformance` on all machines. The consoles are kept as `output`/consoles/NAME.log.

    A Ctrl-C ends all machines and is raised again.
    """
    started = time.monotonic()
    cache = cache or Cache()
    budget = host_budget(jobs)
    results: dict[str, MachineResult] = {}
    running: dict[str, RunningMachine] = {}
    interrupted = threading.Event()
    finished = threading.Condition()

    def work(machine: Machine) -> None:
        with budget.share(machine):
            if interrupted.is_set():
                return
            one = _One(machine, conformance, hello, output, cache, find_agent, follow, fetching, running)
            result = one.run()
        if interrupted.is_set():
            return  # what became of it is our own doing: no verdict
        with finished:
            results[machine.name] = result
            finished.notify_all()
        follow(machine, result.verdict)

    threads = [threading.Thread(target=work, args=(machine,), name=machine.name, daemon=True) for machine in machines]
    try:  # a Ctrl-C may come before the last of them is started
        for thread in threads:
            thread.start()
        with finished:
            while len(results) < len(machines):
                finished.wait(0.5)
    except BaseException:
        interrupted.set()
        for machine in list(running.values()):
            machine.stop()
        for thread in [each for each in threads if each.ident is not None]:
            thread.join(2)  # one that still fetches is left: what it has started ends with this process
        raise
    for thread in threads:
        thread.join(5)
    return Report(in_order(list(results.values()), machines), time.monotonic() - started)


class _One:
    """One machine's way through its stages."""

    def __init__(
        self,
        machine: Machine,
        conformance: Conformance,
        hello: Hello,
        output: Path,
        cache: Cache,
        find_agent: FindAgent,
        follow: Follow,
        fetching: Fetching,
        running: dict[str, RunningMachine],
    ) -> None:
        self._machine, self._conformance, self._hello, self._cache = machine, conformance, hello, cache
        self._find_agent, self._follow, self._running = find_agent, follow, running
        self._console = console_of(output, machine.name)
        self._stage = "fetch"
        self._stage_started = time.monotonic()
        self._seconds: dict[str, float] = {}
        self._live: RunningMachine | None = None
        self._progress: Progress = lambda what, done, total: fetching(machine, what, done, total)

    def run(self) -> MachineResult:
        """Never raises: whatever happens is a result."""
        try:
            return self._through()
        except NotRunnable as error:
            return self._result(State.NOT_RUN, reason=_with_hint(error))
        except VerificationError as error:
            return self._result(State.LOST, reason=_with_hint(error))
        except FetchError as error:
            return self._result(State.NOT_RUN, reason=_with_hint(error))
        except NotAsExpected as error:
            case = Case("expect: the machine", CaseState.FAILED, reason=error.message)
            return self._result(State.RAN, outcome=Outcome((case,)))
        except TargetLost as error:
            return self._result(State.LOST, reason=error.message, last_words=error.last_words)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                return self._fault(error)
            where = f": {error.filename}" if error.filename else ""
            return self._result(State.NOT_RUN, reason=f"{self._stage}: {error.strerror}{where}")
        except Exception as error:
            return self._fault(error)

    def _fault(self, error: Exception) -> MachineResult:
        """A failed test: what went wrong is nobody's but ours."""
        story = error.message if isinstance(error, VmatlasError) else "".join(traceback.format_exception(error))
        case = Case(f"the {self._stage} stage itself", CaseState.FAILED, reason=story)
        return self._result(State.RAN, outcome=Outcome((case,)))

    def _through(self) -> MachineResult:
        with boot(
            self._machine,
            hello=self._hello,
            cache=self._cache,
            console=self._console,
            find_agent=self._find_agent,
            progress=self._progress,
            watch=self._enter,
            started=self._keep,
        ) as machine:
            self._enter("test")
            limit = self._machine.limits.test
            outcome = machine.watched("test", limit, lambda: self._conformance(machine))
        return self._result(State.RAN, outcome=with_expectations(self._machine, outcome))

    def _keep(self, machine: RunningMachine) -> None:
        """From here on a Ctrl-C ends the machine, and its facts are in the result."""
        self._live = self._running[self._machine.name] = machine

    def _enter(self, stage: str) -> None:
        now = time.monotonic()
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + now - self._stage_started
        self._stage, self._stage_started = stage, now
        self._follow(self._machine, stage)

    def _result(
        self, state: State, *, reason: str = "", outcome: Outcome = _NOTHING, last_words: str = ""
    ) -> MachineResult:
        self._seconds[self._stage] = self._seconds.get(self._stage, 0.0) + time.monotonic() - self._stage_started
        live = self._live
        self._running.pop(self._machine.name, None)
        return MachineResult(
            machine=self._machine,
            state=state,
            reason=reason,
            kernel=live.kernel if live else "",
            source=live.fetched.says if live and live.fetched else "",
            accelerator=live.accelerator.name if live else "",
            accelerator_reason=live.accelerator.reason if live else "",
            outcome=outcome,
            console=self._console if self._console.is_file() else None,
            last_words=last_words,
            notes=live.notes if live else (),
            seconds=dict(self._seconds),
            processor=dict(live.processor) if live else {},
        )


def _with_hint(error: VmatlasError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message
