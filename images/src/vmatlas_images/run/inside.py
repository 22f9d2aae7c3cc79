"""The tests of a guest's own Python: each step is a child of the machine's agent, its results are read over the wire.

A step that ends without its report, or not within its limit, is a failed case with what it said last; the steps behind
it run all the same, but those that an installation which failed makes void do not.
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace

from vmatlas.target.agent import Agent, AgentProcess, AgentRefused, Limits
from vmatlas.target.streams import SocketStream

from ..describe.plan import Step, plan_of
from ..errors import ImagesError, NotAsExpected, NotRunnable
from ..prepare.userland import RESULTS, STEPS
from .boot import RunningMachine
from .conform import conform, read_junit
from .results import Case, CaseState, Outcome

_PATIENCE = 60.0  # seconds of silence: the guest's one processor is busy with the tests
_CANNOT = 77  # an installation's status: this guest cannot have a Python, as it says last
_MOST = 8 << 20  # bytes of a file of the guest's; a report of ours has a tenth
_LOOK = 2.0  # seconds between two looks at a step


def prove(machine: RunningMachine) -> Outcome:
    """What is run on a machine: its own Python's tests where it has one, else the conformance suite from here.

    Raises NotAsExpected when a file of its own says that it is another machine than the description's.
    """
    _check_files(machine)
    return run_inside(machine) if machine.machine.python is not None else conform(machine)


def _check_files(machine: RunningMachine) -> None:
    """What the description says of the machine's files; how its memory is laid out is nowhere else to be had."""
    files = machine.machine.expect.files
    if not files:
        return
    with Agent(SocketStream(machine.stream.dup()), machine.machine.name, Limits(silence=_PATIENCE)) as agent:
        for name, pattern in files.items():
            try:
                told = agent.read_file(name.encode(), 1 << 20).decode("utf-8", "replace")
            except AgentRefused as error:
                told = f"no such file: {error.failure.errno_name}"
            if re.search(pattern, told) is None:
                raise NotAsExpected(machine.machine.name, f"'{pattern}' in {name}", " ".join(told.split())[:300])


def run_inside(machine: RunningMachine) -> Outcome:
    """Install and run what the machine's plan says. What the steps printed is kept beside the console.

    Raises NotRunnable when the guest says that it cannot have a Python, ImagesError when the packages cannot be
    installed, NotAsExpected for another Python.
    """
    plan = plan_of(machine.machine)
    scale = machine.accelerator.scale
    with Agent(SocketStream(machine.stream.dup()), machine.machine.name, Limits(silence=_PATIENCE)) as agent:
        guest = _Guest(machine, agent)
        ended, said = guest.run("install", machine.machine.limits.test * scale)
        if ended == _CANNOT:
            raise NotRunnable(said.strip().rpartition("\n")[2] or "no Python can be had in it, and it does not say why")
        if ended != 0:
            raise ImagesError(f"the packages were not installed on its Python: {_how(ended)}: {_end_of(said)}")
        _check_python(machine, said)
        outcomes = list(guest.outcomes(plan.steps, scale))
    refusing = machine.machine.expect.refusing
    cases = tuple(_as_declared(case, refusing) for outcome in outcomes for case in outcome.cases)
    answered = tuple(dict.fromkeys(name for outcome in outcomes for name in outcome.answered))
    return Outcome(cases, answered, {name: why for outcome in outcomes for name, why in outcome.refused.items()})


def _as_declared(case: Case, refusing: Mapping[str, str]) -> Case:
    """A test that was skipped since a backend refuses here as the description says is no gap: it is a refusal."""
    if case.state is CaseState.NOT_RUN:
        for backend, why in refusing.items():
            if backend in case.reason and why.lower() in case.reason.lower():
                return replace(case, state=CaseState.REFUSED, backend=backend)
    return case


def _check_python(machine: RunningMachine, said: str) -> None:
    """The Python that the packages were installed on says which it is in the last line."""
    assert machine.machine.python is not None
    wanted, found = machine.machine.python.version, said.strip().rpartition("\n")[2]
    if found.removeprefix("Python ") not in wanted:
        raise NotAsExpected(machine.machine.name, f"Python {wanted}", found)
    machine.notes += (f"its own {found} ran the tests",)


class _Guest:
    def __init__(self, machine: RunningMachine, agent: Agent) -> None:
        self._machine, self._agent = machine, agent

    def outcomes(self, steps: tuple[Step, ...], scale: float) -> Iterator[Outcome]:
        """Each step's."""
        for step in steps:
            ended, said = self.run(step.name, step.within * scale)
            report = self._read(f"{step.name}.xml") if ended in (0, 1) else b""
            if report:
                place = self._machine.console_path.with_suffix(f".{step.name}.xml")
                place.write_bytes(report)
                yield read_junit(place)
            else:
                reason = f"{_how(ended)}, with no report: {_end_of(said)}"
                yield Outcome((Case(f"the step {step.name}", CaseState.FAILED, reason=reason, topic=step.name),))

    def run(self, name: str, limit: float) -> tuple[int | None, str]:
        """A step's exit status (128 + N for signal N, None: it was ended after `limit` seconds) and what it said."""
        for kind in ("txt", "xml"):  # of the run before
            self._machine.console_path.with_suffix(f".{name}.{kind}").unlink(missing_ok=True)
        child = self._agent.spawn(str(STEPS / name).encode())
        status = _wait(child, limit)
        said = self._read(f"{name}.txt")
        self._machine.console_path.with_suffix(f".{name}.txt").write_bytes(said)
        return status, said.decode("utf-8", "replace")

    def _read(self, name: str) -> bytes:
        """A file of results, its first 8 MiB; nothing when the step did not write it."""
        try:
            return self._agent.read_file(str(RESULTS / name).encode(), _MOST)
        except AgentRefused as error:
            if error.failure.errno_name != "ENOENT":
                raise
            return b""


def _wait(child: AgentProcess, limit: float) -> int | None:
    until = time.monotonic() + limit
    while time.monotonic() < until:
        found = child.reap(_LOOK)
        if found.value == child.pid:
            return 128 + (found.detail & 0x7F) if found.detail & 0x7F else found.detail >> 8 & 0xFF
        if not found.ok:
            raise ImagesError(f"the agent cannot wait for a step: {found.errno_name}")
    child.end(signal.SIGKILL)
    child.reap(_PATIENCE)
    return None


def _how(ended: int | None) -> str:
    return "not through within its limit" if ended is None else f"it ended with status {ended}"


def _end_of(said: str) -> str:
    return " ".join(said[-4000:].split())[-400:] or "it said nothing"
