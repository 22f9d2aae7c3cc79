"""The history of runs: kept as lines, added to by later runs, drawn day by day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from vmatlas_images import Case, CaseState, ImagesError, Machine, MachineResult, Outcome, Report, State, find
from vmatlas_images.command import HISTORY, make_table
from vmatlas_images.report.history import DAYS, Entry, courses, read_history, with_runs, write_history
from vmatlas_images.report.page import render, render_text
from vmatlas_images.report.readme import BEGIN, END
from vmatlas_images.report.record import Record, save
from vmatlas_images.run.results import ExitCode


@pytest.fixture
def machine() -> Machine:
    return find("linux-6.12")


def run(machine: Machine, day: int, *, kernel: str = "6.12.1", failed: int = 0, state: State = State.RAN) -> Record:
    cases = (Case("a", CaseState.PASSED), Case("b", CaseState.REFUSED), *[Case("c", CaseState.FAILED)] * failed)
    result = MachineResult(machine, state, kernel=kernel, outcome=Outcome(cases if state is State.RAN else ()))
    return Record(Report((result,), made=datetime(2026, 11, day, 23, 30, tzinfo=UTC)), "0.1")


def entry(day: int, kernel: str = "6.12.1", **facts: int) -> Entry:
    told = {"passed": 1, "failed": 0, "not_run": 0, "refused": 1} | facts
    return Entry(date(2026, 11, day), "linux-6.12", kernel, **told)


def test_a_run_is_an_entry_and_what_did_not_run_is_none(machine: Machine) -> None:
    assert with_runs([], [run(machine, 3)]) == (entry(3),)
    assert with_runs([], [run(machine, 3, state=State.NOT_RUN)]) == ()
    (lost,) = with_runs([], [run(machine, 3, state=State.LOST)])
    assert lost.lost and lost.state is CaseState.FAILED


def test_a_later_run_of_a_day_stands_for_it_and_other_days_and_kernels_stay(machine: Machine) -> None:
    before = (entry(2), entry(3, failed=1), entry(3, "6.12.0"))
    assert with_runs(before, [run(machine, 3), run(machine, 1)]) == (entry(1), entry(2), entry(3, "6.12.0"), entry(3))


def test_history_that_was_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    assert read_history(path) == ()
    entries = (entry(2), replace(entry(3), refused=None, lost=True))
    write_history(path, entries)
    assert read_history(path) == entries
    assert len(path.read_text().splitlines()) == 2, "a line each: two that are added at once are merged by hand"


@pytest.mark.parametrize("line", ["{", '{"day": "2026-11-02"}', '{"day": "then"}', "[]", "\xff"])
def test_a_line_that_is_no_entry_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "history.jsonl"
    write_history(path, [entry(2)])
    path.write_bytes(path.read_bytes() + line.encode("latin-1") + b"\n")
    with pytest.raises(ImagesError, match=r"history.jsonl:2: no entry of the history"):
        read_history(path)


def test_days_are_drawn_with_the_kernel_where_it_is_another() -> None:
    history = [entry(1), entry(2, failed=2), entry(4, "6.12.2"), replace(entry(2), machine="gvisor", kernel="4.4.0")]
    days, (gvisor, linux) = courses(history)
    assert [day.day for day in days] == [1, 2, 4]
    assert [each and each.state for each in linux.entries] == [CaseState.PASSED, CaseState.FAILED, CaseState.PASSED]
    assert linux.is_new == (True, False, True)
    assert gvisor.entries == (None, history[3], None)
    assert gvisor.is_new == (False, True, False)


def test_a_failure_of_a_day_is_drawn_before_all_else() -> None:
    _, (course,) = courses([entry(1, "6.12.1", failed=1), entry(1, "6.12.2")])
    assert course.entries[0] is not None and course.entries[0].failed == 1


def test_only_the_last_days_are_drawn() -> None:
    days, (course,) = courses([entry(day) for day in range(1, DAYS + 4)])
    assert (days[0].day, len(days)) == (4, DAYS)
    assert not any(course.is_new), "the kernel is the one of the days before"


def test_the_page_draws_the_history_and_its_own_run(machine: Machine) -> None:
    record, history = run(machine, 5, kernel="6.12.<5>"), [entry(4, failed=3)]
    page, text = render(record, history), render_text(record, history)
    assert '<time datetime="2026-11-04">' in page and '<time datetime="2026-11-05">' in page
    assert "3 failed" in page
    assert "6.12.&lt;5&gt;</span>" in page
    assert "linux-6.12: 2026-11-04: 1 passed, 3 failed: 6.12.1" in text
    assert "linux-6.12: 2026-11-05: 1 passed, 0 failed: 6.12.<5>" in text


def test_a_table_adds_its_runs_to_the_history(machine: Machine, tmp_path: Path) -> None:
    readme, results, path = tmp_path / "README.md", tmp_path / "results.json", tmp_path / "history.jsonl"
    readme.write_text(f"{BEGIN}\n{END}\n")
    save(run(machine, 5).report, results)
    write_history(path, [entry(4)])
    assert make_table([results], readme, path) == ExitCode.PASSED
    assert read_history(path) == (entry(4), entry(5))
    path.write_text("{\n")
    before = readme.read_bytes()
    assert make_table([results], readme, path) == ExitCode.USAGE
    assert readme.read_bytes() == before


def test_our_own_history_is_in_order_and_of_machines_that_ran() -> None:
    history = read_history(HISTORY)
    assert history == with_runs(history, [])
    assert all(entry.passed + entry.failed + entry.not_run or entry.lost for entry in history)
