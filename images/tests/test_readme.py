"""The README's table of machines: made from runs, and not stale as far as that can be seen without one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from vmatlas_images import Case, CaseState, ImagesError, Machine, MachineResult, Outcome, Report, State, find, machines
from vmatlas_images.report.readme import BEGIN, END, NOT_YET, read_rows, rewrite
from vmatlas_images.report.record import Record

ROOT = Path(__file__).parents[2]
OURS = {machine.name: machine for machine in machines() if machine.path.parent == ROOT / "images"}
ROWS = read_rows((ROOT / "README.md").read_text("utf-8"), ROOT / "README.md")


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """A README with an empty table."""
    path = tmp_path / "README.md"
    path.write_text(f"before\n\n{BEGIN}\n{END}\n\nafter\n")
    return path


def run_of(machine: Machine, kernel: str, day: int, state: State = State.RAN) -> Record:
    outcome = Outcome((Case("a", CaseState.PASSED), Case("b", CaseState.NOT_RUN)), ("x",), {"y": "because"})
    result = MachineResult(machine, state, kernel=kernel, outcome=outcome if state is State.RAN else Outcome(()))
    return Record(Report((result,), made=datetime(2026, 1, day, tzinfo=UTC)), "0.1.0")


def test_a_run_becomes_a_row_and_the_text_around_stays(readme: Path) -> None:
    rewrite(readme, [run_of(find("linux-6.1"), "6.1.0", 2)], [find("linux-6.1"), find("linux-6.12")])
    text = readme.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    rows = read_rows(text, readme)
    assert rows["linux-6.1"] == ["linux-6.1", "6.1.0", "x86_64", "x", "y", "1", "0", "1", "2026-01-02"]
    assert rows["linux-6.12"][1] == NOT_YET
    columns = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert len(columns) == 1


def test_a_machine_that_the_next_run_does_not_have_keeps_its_row_and_the_latest_run_wins(readme: Path) -> None:
    known = [find("linux-6.1"), find("linux-6.12")]
    rewrite(readme, [run_of(known[0], "6.1.0", 2)], known)
    rewrite(readme, [run_of(known[1], "6.12.9", 5), run_of(known[1], "6.12.7", 3)], known)
    rewrite(readme, [run_of(known[0], "", 6, State.NOT_RUN)], known)
    rows = read_rows(readme.read_text(), readme)
    assert (rows["linux-6.1"][1], rows["linux-6.12"][1]) == ("6.1.0", "6.12.9")
    once = readme.read_text()
    rewrite(readme, [], known)
    assert readme.read_text() == once


def test_what_a_guest_says_cannot_break_the_table(readme: Path) -> None:
    rewrite(readme, [run_of(find("linux-6.1"), f"6|1\n<b>`{END}", 2)], [])
    assert len(read_rows(readme.read_text(), readme)["linux-6.1"]) == 9
    assert "<b>" not in readme.read_text()


def test_a_lost_machine_is_no_success_in_the_table(readme: Path) -> None:
    rewrite(readme, [run_of(find("linux-6.1"), "6.1.0", 2, State.LOST)], [])
    assert read_rows(readme.read_text(), readme)["linux-6.1"][1:6] == [
        "6.1.0 (the machine was lost)",
        "x86_64",
        "",
        "",
        "0",
    ]


@pytest.mark.parametrize("text", ["", BEGIN, f"{END}\n{BEGIN}", f"{BEGIN}\n{END}\n{BEGIN}\n{END}"])
def test_a_file_without_the_marks_is_said_and_left_alone(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.md").write_text(text)
    with pytest.raises(ImagesError, match="once each"):
        rewrite(tmp_path / "x.md", [], [])
    assert (tmp_path / "x.md").read_text() == text


@pytest.mark.parametrize("name", OURS)
def test_every_machine_stands_in_our_table_as_its_description_has_it(name: str) -> None:
    machine = OURS[name]
    assert name in ROWS, "a machine without a row: ./run invoke table"
    _, kernel, processor, answer, refuse, passed, failed, _, _ = ROWS[name]
    assert processor.startswith(machine.processor)
    if kernel == NOT_YET:
        return
    assert "never run" not in machine.labels, "it ran: take the label away"
    assert kernel in machine.expect.kernel
    assert set(machine.expect.answering) <= {each for each in answer.split(", ") if each}
    assert set(machine.expect.refusing) <= {each for each in refuse.split(", ") if each}
    assert int(passed) > 0
    assert failed == "0"


def test_every_row_of_our_table_is_of_a_machine_that_there_is() -> None:
    own = (ROOT / "docs" / "get-an-image.md").read_text("utf-8")
    assert [name for name in ROWS if name not in OURS and f"name: {name}\n" not in own] == []
