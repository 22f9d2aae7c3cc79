"""What a run comes to: nothing passes in silence, and each end has its own exit code."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from vmatlas_images import (
    Case,
    CaseState,
    ExitCode,
    Machine,
    MachineResult,
    Outcome,
    Report,
    State,
    find,
    machines,
    show,
    write_junit,
)
from vmatlas_images.report.page import render, render_text
from vmatlas_images.report.record import Record
from vmatlas_images.report.shown import LiveLines, summary
from vmatlas_images.run.results import with_expectations

from .conftest import describe
from .test_machine import GOOD

PASSED = Case("bounds", CaseState.PASSED, "linux-procfs")
FAILED = Case("holes", CaseState.FAILED, "linux-ioctl", "0x1000 is no hole")
REFUSED = Case("resident", CaseState.REFUSED, "linux-ioctl", "no residency")
NOT_RUN = Case("zombie", CaseState.NOT_RUN, "linux-ioctl", "no agent for it")


@pytest.fixture
def machine() -> Machine:
    """One of ours."""
    return find("linux-6.1")


def ran(machine: Machine, *cases: Case, answered: tuple[str, ...] = ("linux-procfs",)) -> MachineResult:
    outcome = Outcome(cases, answered)
    return MachineResult(
        machine, State.RAN, kernel="6.1.0-50", accelerator="tcg", accelerator_reason="no /dev/kvm", outcome=outcome
    )


def test_each_end_has_its_own_exit_code(machine: Machine) -> None:
    good, bad, empty = ran(machine, PASSED, REFUSED), ran(machine, PASSED, FAILED), ran(machine)
    lost = MachineResult(machine, State.LOST, "agent: the kernel panicked")
    away = MachineResult(machine, State.NOT_RUN, "QEMU is missing")
    assert Report((good,)).exit_code() == ExitCode.PASSED
    assert Report((good, away)).exit_code() == ExitCode.PASSED
    assert Report((good, bad, lost)).exit_code() == ExitCode.TEST_FAILED
    assert Report((good, lost)).exit_code() == ExitCode.MACHINE_LOST
    assert Report((good, away)).exit_code(["linux-6.*"]) == ExitCode.REQUIRED_NOT_RUN
    assert Report((away,)).exit_code() == ExitCode.REQUIRED_NOT_RUN
    assert Report(()).exit_code() == ExitCode.REQUIRED_NOT_RUN
    assert Report((empty,)).exit_code() == ExitCode.TEST_FAILED
    assert Report((ran(machine, REFUSED, NOT_RUN),)).exit_code() == ExitCode.TEST_FAILED
    assert len(set(ExitCode)) == 6


def test_a_required_system_needs_one_machine_and_a_required_name_each(machine: Machine) -> None:
    good, away = ran(machine, PASSED), MachineResult(find("linux-6.12"), State.NOT_RUN, "no network")
    report = Report((good, away))
    assert report.unmet(["linux"]) == []
    assert report.unmet(["linux-6.1"]) == []
    assert report.unmet(["linux-6.12"]) == ["linux-6.12: required, not run: no network"]
    assert report.unmet(["freebsd"]) == ["freebsd: required, and no machine is called so or is of that system"]
    assert report.exit_code(["linux", "freebsd"]) == ExitCode.REQUIRED_NOT_RUN


@pytest.mark.parametrize(
    ("answered", "refused", "states"),
    [
        (("linux-procfs",), {"linux-ioctl": "kernel older than 6.11"}, [CaseState.PASSED, CaseState.REFUSED]),
        (("linux-procfs", "linux-ioctl"), {}, [CaseState.PASSED, CaseState.FAILED]),
        (("linux-procfs",), {"linux-ioctl": "permission denied"}, [CaseState.PASSED, CaseState.FAILED]),
        (("linux-procfs",), {}, [CaseState.PASSED, CaseState.FAILED]),
        ((), {"linux-procfs": "no /proc", "linux-ioctl": "Kernel before 6.11"}, [CaseState.FAILED, CaseState.REFUSED]),
    ],
)
def test_a_backend_must_do_what_the_description_says(
    machine: Machine, answered: tuple[str, ...], refused: dict[str, str], states: list[CaseState]
) -> None:
    outcome = with_expectations(machine, Outcome((), answered, refused))
    assert [case.state for case in outcome.cases if "pagemap" not in case.backend] == states


def test_a_system_that_one_machine_met_tells_how_many_did_not_run(machine: Machine) -> None:
    away = MachineResult(find("linux-6.12"), State.NOT_RUN, "no network")
    lost = MachineResult(find("linux-6.17"), State.LOST, "agent: the kernel panicked")
    report = Report(
        (ran(machine, PASSED), away, lost), 3, left_out=(find("linux-newest"),), left_out_by="the set small"
    )
    assert report.met(["linux", "linux-6.1", "freebsd"]) == [
        "linux: 1 of 4 machines of that system ran: linux-6.1; lost: linux-6.17; not run: linux-6.12; "
        "left out by the set small: linux-newest; one that ran is enough for a system; a pattern of names requires each"
    ]
    whole = Report((ran(machine, PASSED),))
    assert whole.met(["linux"]) == ["linux: 1 of 1 machines of that system ran: linux-6.1"]
    assert Report((away,)).met(["linux"]) == []
    good = Report((ran(machine, PASSED), away))
    shown = " ".join(printed(good, "linux").split())
    assert "Required linux: 1 of 2 machines of that system ran: linux-6.1; not run: linux-6.12; one that ran" in shown
    assert "REQUIRED" not in shown
    assert good.exit_code(["linux"]) == ExitCode.PASSED
    assert "Required" not in printed(good)


def printed(report: Report, *required: str, columns: int = 160) -> str:
    out = io.StringIO()
    show(report, Console(file=out, width=columns), required)
    return out.getvalue()


def test_what_was_left_out_is_told_and_is_not_there_where_it_is_required(machine: Machine) -> None:
    away = find("linux-6.12")
    report = Report((ran(machine, PASSED),), 3, left_out=(away,), left_out_by="the set small")
    shown = printed(report)
    assert "LEFT OUT by the set small: linux-6.12" in shown
    assert "2 machines: 1 left out, 1 ran, 0 lost, 0 not run; 1 test passed" in shown
    assert report.exit_code(["linux"]) == ExitCode.PASSED
    assert report.unmet(["linux-6.*"]) == ["linux-6.*: required, and the set small leaves out linux-6.12"]
    assert report.exit_code(["linux-6.12"]) == ExitCode.REQUIRED_NOT_RUN


def test_junit_has_what_was_left_out_as_skipped(machine: Machine, tmp_path: Path) -> None:
    left_out = (find("linux-6.12"),)
    write_junit(Report((ran(machine, PASSED),), 3, left_out, "the set small"), tmp_path / "report.xml")
    suites = {suite.get("name"): suite for suite in ElementTree.parse(tmp_path / "report.xml").iter("testsuite")}
    skipped = suites["linux-6.12"].find("testcase/skipped")
    assert skipped is not None
    assert skipped.get("message") == "left out by the set small"


def test_the_table_tells_of_every_machine(machine: Machine) -> None:
    lost = MachineResult(
        find("linux-6.12"), State.LOST, "test: not through within 300 s", last_words="last [line] of it"
    )
    away = MachineResult(find("linux-6.17"), State.NOT_RUN, "no [green]network[/green]")
    shown = printed(Report((ran(machine, PASSED, FAILED, REFUSED, NOT_RUN), lost, away), 12), "freebsd")
    for words in (
        "linux-6.1 ", "6.1.0-50", "FAILED", "FAILED linux-6.1 linux-ioctl: holes: 0x1000 is no hole",
        "1 test not run: no agent for it", "LOST", "last [line] of it", "NOT RUN", "no [green]network[/green]",
        "Accelerator tcg: no /dev/kvm", "REQUIRED freebsd",
        "3 machines: 1 ran, 1 lost, 1 not run; 1 test passed, 1 failed, 1 refused as declared, 1 not run; 12 s",
    ):  # fmt: skip
        assert words in shown, shown


def test_the_table_fits_80_columns_and_a_reason_is_a_line_below_it() -> None:
    reason = "QEMU for aarch64 is missing (apt-get install qemu-system-arm), and this goes on for more than a line"
    good = [replace(ran(machine, PASSED), seconds={"boot": 1234.0}) for machine in machines()]
    away = [MachineResult(machine, State.NOT_RUN, reason) for machine in machines()]
    shown = printed(Report((*good, *away)), columns=80)
    assert max(map(len, shown.splitlines())) <= 80
    head, _, *rows = shown.splitlines()
    assert head.split() == ["machine", "accel", "passed", "failed", "refused", "result", "s"]
    assert [row.split() for row in rows[: len(good)]] == [
        [result.machine.name, "tcg", "1", "0", "0", "passed", "1234"] for result in good
    ]
    assert "NOT RUN linux-6.12: QEMU for aarch64 is missing (apt-get install \n" in shown
    assert "NOT RUN freebsd-14.4 (never run): QEMU" in shown


def test_what_did_not_run_is_not_counted_as_passed(machine: Machine) -> None:
    assert summary(Report((MachineResult(machine, State.NOT_RUN, "x"),))).startswith(
        "1 machine: 0 ran, 0 lost, 1 not run; 0 tests passed"
    )


def test_junit_has_a_case_for_all_that_was_told(machine: Machine, tmp_path: Path) -> None:
    lost = MachineResult(find("linux-6.12"), State.LOST, "gone", last_words="a\x1b[1mb\x00")
    away = MachineResult(find("linux-6.17"), State.NOT_RUN, "no <network>")
    write_junit(Report((ran(machine, PASSED, FAILED, REFUSED, NOT_RUN), lost, away)), tmp_path / "out" / "junit.xml")
    suites = {suite.attrib["name"]: suite for suite in ElementTree.parse(tmp_path / "out" / "junit.xml").getroot()}
    counts = {
        name: [int(suite.attrib[key]) for key in ("tests", "failures", "errors", "skipped")]
        for name, suite in suites.items()
    }
    assert counts == {"linux-6.1": [4, 1, 0, 1], "linux-6.12": [1, 0, 1, 0], "linux-6.17": [1, 0, 0, 1]}
    error = suites["linux-6.12"].find("testcase/error")
    assert error is not None
    assert error.text == "a\N{REPLACEMENT CHARACTER}[1mb\N{REPLACEMENT CHARACTER}"
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["junit.xml"]


def test_without_a_terminal_each_change_is_a_line(machine: Machine) -> None:
    out = io.StringIO()
    with LiveLines([machine], Console(file=out, width=100)) as lines:
        lines.follow(machine, "boot")
        lines.fetching(machine, "kernel", 10, 100)
        lines.follow(machine, "passed")
    assert [line.split("s  ")[1] for line in out.getvalue().splitlines()] == ["linux-6.1: boot", "linux-6.1: passed"]


def test_on_a_terminal_each_machine_has_a_live_line(machine: Machine) -> None:
    out = io.StringIO()
    with LiveLines([machine], Console(file=out, width=100, force_terminal=True)) as lines:
        lines.follow(machine, "fetch")
        lines.fetching(machine, "kernel", 10_000_000, 100_000_000)
        lines._progress.refresh()
        lines.follow(machine, "LOST")
    assert "kernel 10.0 MB" in out.getvalue()


LACKING = """
expect:
  lacks: {"test_name[*-newline]": no newline}
"""


def test_what_a_kernel_is_declared_to_lack_is_a_refusal_and_no_failure(tmp_path: Path) -> None:
    machine = describe(tmp_path, "good", GOOD[: GOOD.index("expect:")] + LACKING)
    told = Case("test_name[linux-procfs-newline]", CaseState.FAILED, "linux-procfs", "Malformed: no newline here")
    other = replace(told, name="test_name[linux-procfs-backslash]")
    outcome = with_expectations(machine, Outcome((told, other)))
    assert [(case.name, case.state) for case in outcome.cases] == [
        (told.name, CaseState.REFUSED),
        (other.name, CaseState.FAILED),
        ("expect: lacks test_name[*-newline]", CaseState.PASSED),
    ]
    assert outcome.cases[0].reason == "the machine is declared so: Malformed: no newline here"


@pytest.mark.parametrize("state", [CaseState.PASSED, CaseState.NOT_RUN, CaseState.FAILED])
def test_what_is_declared_to_lack_and_does_not_fail_so_is_a_failure(tmp_path: Path, state: CaseState) -> None:
    machine = describe(tmp_path, "good", GOOD[: GOOD.index("expect:")] + LACKING)
    told = Case("test_name[linux-procfs-newline]", state, "linux-procfs", "another story")
    cases = with_expectations(machine, Outcome((told,))).cases
    assert (cases[0].state, cases[1].state) == (state, CaseState.FAILED)
    assert cases[1].reason == "no such test failed, and said 'no newline'"


def test_each_machines_share_of_the_processor_time_is_told_the_dearest_first(machine: Machine, tmp_path: Path) -> None:
    cheap = replace(ran(machine, PASSED), processor={"boot": 10.0, "test": 12.0, "suite": 3.0})
    dear = replace(ran(find("linux-6.12"), PASSED), processor={"boot": 75.0})
    report = Report((cheap, dear, MachineResult(find("linux-6.17"), State.NOT_RUN, "no network")))
    told = "linux-6.12 75% (boot 75 s), linux-6.1 25% (boot 10 s, test 12 s, suite 3 s)"
    assert f"Processor time 100 s: {told}" in printed(report)
    assert "Processor time" not in printed(Report((ran(machine, PASSED),)))
    write_junit(report, tmp_path / "m.xml")
    assert 'name="processor time" value="boot 10 s, test 12 s, suite 3 s"' in (tmp_path / "m.xml").read_text()
    text, page = render_text(Record(report, "0.1")), render(Record(report, "0.1"))
    assert "processor time: boot 75 s: 75% of what all machines took" in text
    assert "boot 10 s, test 12 s, suite 3 s: 25% of what" in page
