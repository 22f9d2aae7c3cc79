"""The steps of a guest's own Python, with this host's agent in place of a guest's: what ran, what broke, what hung."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import Agent, Limits
from vmatlas.target.streams import SocketStream
from vmatlas_images import CaseState, ImagesError, Machine, NotAsExpected, NotRunnable, RunningMachine
from vmatlas_images.prepare.agents import built_agent
from vmatlas_images.run import inside
from vmatlas_images.run.accelerator import Accelerator
from vmatlas_images.run.inside import run_inside

from .conftest import describe

MACHINE = """\
name: p
about: a test
system: linux
processor: x86_64
source: {kind: debian-kernel, suites: [trixie], package: linux-image-*}
boot: {start: kernel}
agent: {delivery: init}
python: {suite: trixie, version: {at_least: "3.11", below: "3.12"}, plan: plan.yaml}
limits: {test: 20}
expect: {backends: {linux-ioctl: {refuses: "6.11"}}}
"""
PLAN = """\
root: .
packages: [x]
requirements: [x]
distributions: [plan.yaml]
files: [plan.yaml]
install: [x]
steps:
- {name: first, about: x, words: [x], within: 20}
- {name: second, about: x, words: [x], within: 1}
"""
REPORT = """<testsuites><testsuite><testcase name="a" classname="t.test_some"/>
<testcase name="b"><skipped message="linux-ioctl: the kernel is older than 6.11: ENOTTY"/></testcase>
<testcase name="c"><skipped message="linux-procfs: older than 6.11"/></testcase>
</testsuite></testsuites>"""


@dataclass
class Standing:
    """What `run_inside` uses of a running machine."""

    machine: Machine
    stream: socket.socket
    console_path: Path
    accelerator: Accelerator = field(default_factory=lambda: Accelerator("tcg", "a test"))
    notes: tuple[str, ...] = ()


@pytest.fixture
def standing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Standing]:
    """An agent of this host on a socket, and folders for steps and results."""
    try:
        agent = built_agent("linux", "x86_64")
    except NotRunnable as error:
        pytest.skip(str(error))
    for name in ("steps", "results"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr(inside, name.upper(), tmp_path / name)
    (tmp_path / "plan.yaml").write_text(PLAN)
    ours, theirs = socket.socketpair()
    process = subprocess.Popen([agent], stdin=theirs, stdout=theirs)
    theirs.close()
    yield Standing(describe(tmp_path, "p", MACHINE), ours, tmp_path / "console.log")
    ours.shutdown(socket.SHUT_RDWR)
    ours.close()
    process.wait(PATIENCE)


def program(standing: Standing, name: str, commands: str, report: str = "") -> None:
    folder = standing.console_path.parent
    said, written = folder / "results" / f"{name}.txt", folder / "results" / f"{name}.xml"
    report = f"cat >{written} <<'END'\n{report}\nEND\n" if report else ""
    path = folder / "steps" / name
    path.write_text(f"#!/bin/sh\nexec >{said} 2>&1 </dev/null\n{report}{commands}\n")
    path.chmod(0o755)


def prove(standing: Standing) -> tuple[list[tuple[str, CaseState, str]], Standing]:
    outcome = run_inside(cast(RunningMachine, standing))
    return [(case.name, case.state, case.reason) for case in outcome.cases], standing


def test_steps_are_cases_of_what_ran_what_refused_and_what_hung(standing: Standing) -> None:
    program(standing, "install", "echo noise; echo Python 3.11.9")
    program(standing, "first", "exit 0", REPORT)
    program(standing, "second", "echo begun; sleep 3600")
    cases, _ = prove(standing)
    assert [(name, state) for name, state, _ in cases] == [
        ("a", CaseState.PASSED), ("b", CaseState.REFUSED), ("c", CaseState.NOT_RUN),
        ("the step second", CaseState.FAILED),
    ]  # fmt: skip
    assert cases[-1][2] == "not through within its limit, with no report: begun"
    assert standing.notes == ("its own Python 3.11.9 ran the tests",)
    assert standing.console_path.with_suffix(".second.txt").read_text() == "begun\n"
    with Agent(SocketStream(standing.stream.dup()), "here", Limits()) as agent:
        assert agent.ping(b"alive") == b"alive"


@pytest.mark.parametrize(("commands", "told"), [("exit 3", "status 3"), ("kill -9 $$", "status 137")])
def test_step_that_ends_without_its_report_is_a_failed_case(standing: Standing, commands: str, told: str) -> None:
    program(standing, "install", "echo Python 3.11.9")
    program(standing, "first", f"echo last words; {commands}", "<not-a-report")
    program(standing, "second", "exit 0")
    cases, _ = prove(standing)
    assert cases == [
        ("the step first", CaseState.FAILED, f"it ended with {told}, with no report: last words"),
        ("the step second", CaseState.FAILED, "it ended with status 0, with no report: it said nothing"),
    ]


def test_what_a_step_says_is_read_as_far_as_a_bound(standing: Standing, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "_MOST", 100_000)
    program(standing, "install", "echo Python 3.11.9")
    program(standing, "first", "yes word | head -c 1000000", "<testsuites>" + " " * 200_000 + "</testsuites>")
    with pytest.raises(ImagesError, match=r"first\.xml is no report"):
        prove(standing)
    assert standing.console_path.with_suffix(".first.txt").stat().st_size == 100_000


def test_packages_that_cannot_be_installed_end_the_test(standing: Standing) -> None:
    program(standing, "install", "echo no such wheel; exit 1")
    with pytest.raises(ImagesError, match="not installed on its Python: it ended with status 1: no such wheel"):
        prove(standing)


def test_guest_that_cannot_have_a_python_is_not_run_with_its_own_reason(standing: Standing) -> None:
    program(standing, "install", "echo noise; echo no network in the guest; exit 77")
    with pytest.raises(NotRunnable, match=r"^no network in the guest$"):
        prove(standing)


def test_another_python_than_the_described_one_fails(standing: Standing) -> None:
    program(standing, "install", "echo Python 3.12.0")
    with pytest.raises(NotAsExpected, match=r"expected Python >= 3.11 and < 3.12, found Python 3.12.0"):
        prove(standing)
