"""Machines side by side, with the boot replaced by a script: every machine comes out as a result, whatever happens."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import TargetLost
from vmatlas_images import (
    Accelerator,
    Cache,
    Case,
    CaseState,
    FetchError,
    Greeting,
    Machine,
    MachineError,
    NotAsExpected,
    NotRunnable,
    Outcome,
    Report,
    StageError,
    State,
    VerificationError,
)
from vmatlas_images.run import matrix

from .conftest import describe
from .test_machine import GOOD

GOOD_OUTCOME = Outcome((Case("t", CaseState.PASSED),), ("linux-procfs",), {"linux-ioctl": "kernel older than 6.11"})


class FakeMachine:
    """As much of a running machine as the matrix touches."""

    def __init__(self) -> None:
        self.accelerator = Accelerator("tcg", "scripted")
        self.kernel, self.notes, self.fetched = "6.12.1", ("a note",), SimpleNamespace(says="linux-image")
        self.processor = {"boot": 2.0}
        self.stopped = threading.Event()

    def watched(self, stage: str, limit: float, work: Callable[[], Any]) -> Any:
        return work()

    def stop(self) -> None:
        self.stopped.set()


@pytest.fixture
def machines(tmp_path: Path) -> list[Machine]:
    """Three machines of 128 MiB."""
    return [describe(tmp_path, name, GOOD.replace("name: good", f"name: {name}")) for name in ("a", "b", "c")]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, BaseException]:
    """Machines by name that fail to boot, and how."""
    faults: dict[str, BaseException] = {}

    @contextlib.contextmanager
    def boot(machine: Machine, **options: Any) -> Iterator[FakeMachine]:
        options["watch"]("fetch")
        if machine.name in faults:
            raise faults[machine.name]
        running = FakeMachine()
        options["started"](running)
        options["watch"]("boot")
        yield running

    monkeypatch.setattr(matrix, "boot", boot)
    return faults


def run(
    machines: list[Machine],
    tmp_path: Path,
    conformance: matrix.Conformance,
    jobs: int = 4,
    follow: matrix.Follow = lambda machine, stage: None,
) -> Report:
    return matrix.run(
        machines, conformance, hello=lambda stream, limit: Greeting("x"), output=tmp_path / "out", jobs=jobs,
        cache=Cache(tmp_path / "cache"), follow=follow,
    )  # fmt: skip


@pytest.mark.usefixtures("script")
def test_every_machine_runs_and_keeps_its_place(machines: list[Machine], tmp_path: Path) -> None:
    report = run(machines, tmp_path, lambda running: GOOD_OUTCOME)
    assert [(result.machine.name, result.verdict) for result in report.results] == [(n, "passed") for n in "abc"]
    first = report.results[0]
    assert (first.kernel, first.accelerator, first.source, first.notes) == ("6.12.1", "tcg", "linux-image", ("a note",))
    assert [case.state for case in first.outcome.cases] == [CaseState.PASSED, CaseState.PASSED, CaseState.REFUSED]
    assert set(first.seconds) == {"fetch", "boot", "test"}
    assert (first.processor, report.share(first)) == ({"boot": 2.0}, 1 / 3)


@pytest.mark.parametrize(
    ("fault", "state", "reason"),
    [
        (NotRunnable("no QEMU", hint="apt-get install x"), State.NOT_RUN, "no QEMU (apt-get install x)"),
        (FetchError("mirror away"), State.NOT_RUN, "mirror away"),
        (VerificationError("bad signature"), State.LOST, "bad signature"),
        (
            StageError("boot", "the kernel panicked: x", target="b", last_words="y"),
            State.LOST,
            "boot: the kernel panicked: x",
        ),
        (TargetLost("wire died"), State.LOST, "wire died"),
    ],
)
def test_one_machines_fault_is_its_own_result(
    machines: list[Machine], tmp_path: Path, script: dict[str, BaseException],
    fault: BaseException, state: State, reason: str,
) -> None:  # fmt: skip
    script["b"] = fault
    report = run(machines, tmp_path, lambda running: GOOD_OUTCOME)
    assert [result.state for result in report.results] == [State.RAN, state, State.RAN]
    assert report.results[1].reason == reason


@pytest.mark.parametrize("fault", [NotAsExpected("b", "a kernel >= 6.12", "6.1"), ValueError("a fault of ours")])
def test_what_should_not_be_is_a_failed_test(
    machines: list[Machine], tmp_path: Path, script: dict[str, BaseException], fault: BaseException
) -> None:
    script["b"] = fault
    report = run(machines, tmp_path, lambda running: GOOD_OUTCOME)
    assert report.results[1].verdict == "FAILED"
    assert str(fault.args[0]) in report.results[1].outcome.cases[0].reason


@pytest.mark.usefixtures("script")
def test_a_machine_on_which_no_test_ran_has_not_passed(machines: list[Machine], tmp_path: Path) -> None:
    report = run(machines[:1], tmp_path, lambda running: Outcome(()))
    assert report.results[0].verdict == "FAILED"
    assert not report.results[0].has_passed


@pytest.mark.usefixtures("script")
@pytest.mark.parametrize(("jobs", "most"), [(1, 1), (2, 2), (8, 3)])
def test_no_more_run_at_once_than_there_are_processors(
    machines: list[Machine], tmp_path: Path, jobs: int, most: int
) -> None:
    lock, now, seen, full = threading.Lock(), [0], [0], threading.Event()

    def conformance(running: object) -> Outcome:
        with lock:
            now[0] += 1
            seen[0] = max(seen[0], now[0])
            if now[0] >= most:
                full.set()
        full.wait(PATIENCE)
        time.sleep(0.1)  # in which one too many would come
        with lock:
            now[0] -= 1
        return GOOD_OUTCOME

    run(machines, tmp_path, conformance, jobs)
    assert seen[0] == most


def test_memory_holds_machines_back_and_one_that_is_too_large_runs_alone(machines: list[Machine]) -> None:
    budget = matrix.Budget(memory=400, processors=8)  # room for one of 128 + overhead, and not for two
    entered: list[str] = []

    def enter(machine: Machine) -> None:
        with budget.share(machine):
            entered.append(machine.name)

    with budget.share(machines[0]):
        thread = threading.Thread(target=enter, args=(machines[1],), daemon=True)
        thread.start()
        thread.join(0.2)
        assert entered == []
    thread.join(PATIENCE)
    assert entered == ["b"]
    with matrix.Budget(memory=1, processors=1).share(machines[2]):
        entered.append("c")
    assert entered == ["b", "c"]


@pytest.mark.usefixtures("script", "heeding_ctrl_c")
def test_an_interruption_ends_all_machines_and_gives_none_a_verdict(machines: list[Machine], tmp_path: Path) -> None:
    running: list[FakeMachine] = []
    told: list[str] = []

    def conformance(machine: Any) -> Outcome:
        running.append(machine)
        machine.stopped.wait(PATIENCE)
        raise TargetLost("the stream ended")

    def interrupt() -> None:
        end = time.monotonic() + PATIENCE
        while len(running) < 3 and time.monotonic() < end:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt, daemon=True).start()
    with pytest.raises(KeyboardInterrupt):
        run(machines, tmp_path, conformance, follow=lambda machine, stage: told.append(stage))
    assert not {"passed", "FAILED", "LOST", "NOT RUN"} & set(told)
    assert len(running) == 3
    assert all(machine.stopped.is_set() for machine in running)


@pytest.mark.usefixtures("script", "heeding_ctrl_c")
def test_an_interruption_while_machines_are_being_started_ends_those_that_run(
    machines: list[Machine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running: list[FakeMachine] = []
    first_runs = threading.Event()
    start = threading.Thread.start

    def conformance(machine: Any) -> Outcome:
        running.append(machine)
        first_runs.set()
        machine.stopped.wait(PATIENCE)
        raise TargetLost("the stream ended")

    def interrupted_start(thread: threading.Thread) -> None:
        if thread.name == "b":
            assert first_runs.wait(PATIENCE)
            raise KeyboardInterrupt
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", interrupted_start)
    with pytest.raises(KeyboardInterrupt):
        run(machines, tmp_path, conformance)
    assert len(running) == 1
    assert all(machine.stopped.is_set() for machine in running)


def test_patterns_choose_machines(machines: list[Machine]) -> None:
    assert [machine.name for machine in matrix.select(machines, [])] == ["a", "b", "c"]
    assert [machine.name for machine in matrix.select(machines, ["[bc]", "a*"])] == ["a", "b", "c"]
    with pytest.raises(MachineError, match=r"no machine is called like 'x\*'; there are: a, b, c"):
        matrix.select(machines, ["a", "x*"])
