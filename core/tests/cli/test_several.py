"""Several processes, or words that choose some, where a command takes a process."""

from __future__ import annotations

import csv
import io
import json
import os
import time

import pytest

import vmatlas
from vmatlas import errors
from vmatlas.backend import bare
from vmatlas.cli.exits import Exit
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.together import Whose, together
from vmatlas.cli.survey import Unread
from vmatlas.conformance.patience import PATIENCE


@pytest.fixture
def gone() -> int:
    """A number that no process has: above what any kernel gives."""
    return 2**31 - 1


def test_each_line_of_a_map_says_whose_it_is(run, rows_of, child):
    done = run("maps", child.pid, "self", "--where", "stack")
    rows = rows_of(done.stdout)
    assert {row["PID"] for row in rows} == {str(child.pid), str(os.getpid())}
    assert list(rows[0])[:3] == ["PID", "PROCESS", "RANGE"]
    alone = rows_of(run("maps", child.pid, "--where", "stack").stdout)
    mine = [row for row in rows if row["PID"] == str(child.pid)]
    assert [{k: v for k, v in row.items() if k not in ("PID", "PROCESS")} for row in mine] == alone


def test_one_process_that_a_word_chooses_has_the_form_for_several(run, child):
    told = json.loads(run("maps", f"children:{child.pid}", "--json").stdout)
    [whole] = told["processes"]
    alone = json.loads(run("maps", child.pid, "--json").stdout)
    assert {**whole, "time": 0, "backend": 0} == {**alone, "time": 0, "backend": 0}
    assert (told["unread"], told["unmatched"], told["incomplete"]) == ({}, [], None)
    assert json.loads(run("maps", f"pid:{child.pid}", "--json").stdout)["pid"] == child.pid


def test_an_order_is_over_all_of_them(run, rows_of, child):
    rows = rows_of(run("maps", child.pid, "self", "--sort", "size", "--bytes").stdout)
    sizes = [int(row["SIZE"]) for row in rows]
    assert sizes == sorted(sizes, reverse=True)
    assert len({row["PID"] for row in rows[:200]}) == 2


def test_csv_has_whose_a_row_is_before_the_rest(run, child):
    rows = list(csv.DictReader(io.StringIO(run("maps", child.pid, "self", "--csv").stdout)))
    assert list(rows[0])[:3] == ["pid", "process", "start"] and list(rows[0])[-1] == "error"
    assert len([row for row in rows if row["pid"] == str(child.pid)]) == len(vmatlas.snapshot(child.pid))


@pytest.mark.parametrize("command", ["maps", "summary", "audit"])
def test_where_nobody_is_chosen_that_is_a_line_and_exit_3(run, command, gone):
    for words in (
        ["name:nobody is called so"],
        [f"children:{gone}"],
        ["pidfile:/nowhere"],
        [gone, "name:nobody at all"],
    ):
        done = run(command, *words)
        assert (done.exit_code, done.stdout) == (3, ""), done
        assert done.stderr.startswith("vmatlas: ") and len(done.stderr.splitlines()) <= 2


def test_a_word_that_chooses_nobody_while_others_do_is_told_and_is_exit_7(run, rows_of, child, gone):
    done = run("summary", child.pid, gone, "--json")
    assert done.exit_code == 7
    assert json.loads(done.stdout)["unmatched"] == [str(gone)]
    assert f"there is no process {gone}" in done.stderr
    done = run("maps", child.pid, gone, "--where", "stack")
    assert done.exit_code == 7 and {row["PID"] for row in rows_of(done.stdout)} == {str(child.pid)}


def test_sums_of_those_that_were_chosen_are_as_of_all(run, rows_of, child):
    rows = rows_of(run("summary", child.pid, "self", "--bytes").stdout)
    whole = rows[-1]
    assert (whole["PID"], whole["NAME"]) == ("2", "* total")
    assert int(whole["PSS"]) == sum(int(row["PSS"]) for row in rows[:-1])
    by = rows_of(run("summary", child.pid, "self", "--by", "program").stdout)
    assert sum(int(row["PROCESSES"]) for row in by[:-1]) == 2
    uses = rows_of(run("summary", child.pid, "self", "--uses").stdout)
    assert {row["PID"] for row in uses} == {str(child.pid), str(os.getpid())}


def test_findings_are_of_those_that_were_chosen(run, child):
    told = {each["pid"]: each for each in json.loads(run("audit", child.pid, "self", "--json").stdout)["processes"]}
    assert set(told) == {child.pid, os.getpid()}
    assert {each["pid"] for each in told[child.pid]["findings"]} == {child.pid}


def test_processes_are_listed_that_words_choose(run, rows_of, child):
    rows = rows_of(run("processes", f"children:{child.pid}", "self").stdout)
    assert [int(row["PID"]) for row in rows] == sorted([child.pid, os.getpid()])
    whole = {row["PID"]: row for row in rows_of(run("processes").stdout)}
    changes = {"RESIDENT": "", "STATE": ""}
    assert {**rows[0], **changes} == {**whole[rows[0]["PID"]], **changes}
    told = json.loads(run("processes", child.pid, "--json").stdout)
    assert [each["pid"] for each in told] == [child.pid] and told[0]["user"] == os.geteuid()
    assert run("processes", "name:nobody at all").exit_code == 3


def test_a_file_stands_alone(run, child, tmp_path):
    file = tmp_path / "worker.vmatlas"
    assert run("record", child.pid, "-o", file).exit_code == 0
    assert run("summary", file).exit_code == 0
    for words in ([file, child.pid], [child.pid, "postgres"]):
        done = run("summary", *words)
        assert done.exit_code == 2 and "stands alone" in done.stderr


def test_a_thread_is_of_one_process(run, child):
    done = run("maps", child.pid, "self", "--thread", child.pid)
    assert done.exit_code == 2 and "--thread goes with one process" in done.stderr


def test_addresses_are_looked_for_in_each(run, child):
    done = run("maps", child.pid, "self", "--at", f"{child.at['wx']:x}", "--json")
    told = {each["pid"]: each["regions"] for each in json.loads(done.stdout)["processes"]}
    assert told[child.pid][0]["start"] <= child.at["wx"]
    if not told[os.getpid()]:
        assert done.exit_code == 1 and f"no region of process {os.getpid()} covers" in done.stderr


def test_tables_of_several_have_each_column_that_one_of_them_has():
    plain = Table((Column("A"), Column("NAME")), [Row(("1", "x"), "", {1: "bad"})])
    wide = Table((Column("A"), Column("B"), Column("NAME")), [Row(("2", "3", "y"))])
    made = together([(Whose(1, "one"), plain), (Whose(2, "t\nwo"), wide)], Unread())
    assert [column.title for column in made.columns] == ["PID", "PROCESS", "A", "B", "NAME"]
    assert [row.cells for row in made.rows] == [("1", "one", "1", "-", "x"), ("2", "t\\nwo", "2", "3", "y")]
    assert made.rows[0].emphasis == {0: "heading", 4: "bad"}
    ordered = together([(Whose(1, None), plain), (Whose(2, "b"), wide)], Unread(), order=[[2], [1]])
    assert [row.cells[0] for row in ordered.rows] == ["2", "1"]


def test_who_could_not_be_read_has_a_line_and_a_row(run, rows_of, child, monkeypatch):
    def denied(self, **how):
        raise vmatlas.AccessDenied("no right", pid=self.pid, hint="try sudo")

    monkeypatch.setattr(vmatlas.Process, "snapshot", denied)
    done = run("maps", child.pid, "self")
    assert done.exit_code == 7 and "2 not: 2 no right to read" in done.stderr
    assert [row["WHY"] for row in rows_of(done.stdout)] == ["not read: no right to read"] * 2
    told = json.loads(run("maps", child.pid, "self", "--json").stdout)
    assert sorted(told["unread"]["no right to read"]) == sorted([child.pid, os.getpid()])
    rows = list(csv.DictReader(io.StringIO(run("maps", child.pid, "self", "--csv").stdout)))
    assert {row["error"] for row in rows} == {"no right to read"}


def test_completion_offers_the_words_and_what_may_stand_behind_them(child):
    from vmatlas.cli.options import ProcessType

    def offered(begun: str) -> list[str]:
        return [each.value for each in ProcessType().shell_complete(None, None, begun)]  # type: ignore[arg-type]

    assert {"self", "all", "name:", "unit:", str(child.pid)} <= set(offered(""))
    assert offered("na") == ["name:"]
    assert f"children:{child.pid}" in offered("children:")
    name = next(each.name for each in vmatlas.processes() if each.pid == child.pid)
    assert f"name:{name}" in offered(f"name:{name[:2]}")
    assert offered("cgroup:") == []


def test_an_address_is_looked_up_in_each(run, rows_of, child):
    at = f"{child.at['wx']:x}"
    rows = rows_of(run("find", child.pid, "self", at, f"pid:{child.pid}").stdout)
    assert [int(row["PID"]) for row in rows] == sorted([child.pid, os.getpid()])
    mine = next(row for row in rows if row["PID"] == str(child.pid))
    assert (mine["ADDRESS"], mine["PERM"]) == (at, "rwxp")
    told = json.loads(run("find", child.pid, "self", at, "--neighbours", "--json").stdout)
    assert [each["found"][0]["address"] for each in told["processes"]] == [child.at["wx"]] * 2
    done = run("find", child.pid, "self")
    assert done.exit_code == 2 and "Missing argument" in done.stderr


def test_advice_is_for_each(run, rows_of, child):
    rows = rows_of(run("advise", child.pid, "self", "--cold", "--dry-run", "--where", "stack").stdout)
    assert {row["PID"] for row in rows} == {str(child.pid), str(os.getpid())}
    assert list(rows[0])[:3] == ["PID", "PROCESS", "ADVICE"]


def test_each_is_compared_with_itself(run, child):
    done = run("diff", f"children:{child.pid}", "--after", "0", "--json")
    [told] = json.loads(done.stdout)["processes"]
    assert (done.exit_code, told["before"]["pid"], told["changes"]) == (0, child.pid, [])
    rows = list(csv.DictReader(io.StringIO(run("diff", child.pid, "self", "--after", "0", "--csv").stdout)))
    assert {row["pid"] for row in rows} <= {str(os.getpid())}
    assert run("diff", child.pid, "self", child.pid).exit_code == 2
    done = run("diff", "all", child.pid)
    assert done.exit_code == 2 and "one is compared" in done.stderr
    assert run("diff", f"children:{child.pid}", child.pid).exit_code == 0
    assert run("diff", child.pid, "worker.vmatlas", "--after", "0").exit_code == 2


def test_each_is_recorded_into_a_file_of_its_own(run, child, tmp_path):
    folder = tmp_path / "new"
    assert run("record", child.pid, "self", "-o", f"{folder}/").exit_code == 0
    assert {path.name for path in folder.iterdir()} == {f"{child.pid}.vmatlas", f"{os.getpid()}.vmatlas"}
    assert vmatlas.replay(folder / f"{child.pid}.vmatlas").pid == child.pid
    done = run("record", child.pid, "self", "-o", folder)
    assert done.exit_code == 2 and "exists already" in done.stderr
    done = run("record", f"children:{child.pid}", "-o", tmp_path / "{name}-{pid}.vmatlas")
    name = next(each.name for each in vmatlas.processes() if each.pid == child.pid)
    assert done.exit_code == 0 and (tmp_path / f"{name}-{child.pid}.vmatlas").exists()
    for wrong in (tmp_path / "one.vmatlas", "-"):
        assert "a file with {pid}" in run("record", child.pid, "self", "-o", wrong).stderr


def test_a_name_in_the_name_of_a_file_leads_nowhere_else():
    from vmatlas.cli.record import path_of

    odd = vmatlas.ProcessInfo(7, 1, "../../etc/x\n", 1)
    assert path_of("/tmp/{name}-{pid}", odd) == "/tmp/.._.._etc_x_-7"
    for name, kept in (("..", "__"), (".", "_"), ("", "_"), ("a..", "a..")):
        assert path_of("/tmp/{name}/{pid}", vmatlas.ProcessInfo(7, 1, name, 1)) == f"/tmp/{kept}/7"


def test_several_are_watched_and_each_line_says_whose_it_is(start, child):
    watching = start("watch", f"children:{child.pid}", "--interval", "0.05", "--count", "1", "--csv")
    while watching.poll() is None:  # its first look may come late
        child.grow()
        time.sleep(0.1)
    titles, *rows = csv.reader(io.StringIO(watching.communicate()[0].decode()))
    assert titles[:3] == ["pid", "process", "time"] and {row[0] for row in rows} == {str(child.pid)}


def test_a_watch_of_several_ends_with_the_last_of_them(start, child):
    watching = start("watch", f"children:{child.pid}", "--interval", "0.05", "--residency")
    time.sleep(0.2)
    child.process.kill()
    child.process.wait(PATIENCE)
    errors = watching.communicate(timeout=PATIENCE)[1].decode()
    # It may have ended before it was chosen, on a machine with much to do.
    assert (watching.returncode, "has ended" in errors) in ((0, True), (3, False)), errors


def test_hints_that_differ_are_told_each_with_how_many(capsys):
    unread = Unread()
    for pid, hint in enumerate(("be somebody else", "ask root", "ask root"), 1):
        unread.miss(bare(pid), errors.AccessDenied("no right", pid=pid, hint=hint))
    assert unread.tell() is Exit.INCOMPLETE
    assert capsys.readouterr().err.endswith("hint: 2: ask root; 1: be somebody else\n")


def test_want_of_a_process_is_no_want_of_memory(capsys):
    unread = Unread()
    started = errors.NotStarted("no process could be started", errno=12, errno_name="ENOMEM", hint="start one")
    unread.miss(bare(7), started)
    unread.tell()
    told = capsys.readouterr().err
    assert "1 no process could be started (7" in told and told.endswith("hint: start one\n")
