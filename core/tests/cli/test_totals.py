"""`vmatlas summary --all`: the memory in use of every process, by the system's own totals."""

from __future__ import annotations

import csv
import io
import json

import pytest

import vmatlas
from vmatlas import AccessDenied, MemoryUse, NoSuchProcess, ProcessInfo, ProcessMemory, Unanswered
from vmatlas.analysis import summarize
from vmatlas.backend import Listing, bare
from vmatlas.cli.render.shape import Shape
from vmatlas.cli.render.summary import processes_csv, processes_table, summary_tables
from vmatlas.cli.render.table import plain_lines
from vmatlas.cli.render.text import escape
from vmatlas.cli.render.totals import groups_table, totals_json, totals_table
from vmatlas.cli.survey import Unread
from vmatlas.model import Kind, Protection, Region
from vmatlas.model.memory import FIELDS
from vmatlas.totals import each_once

from ..strategies import space_of


def totals_of(rows):
    return next(row for row in rows if row["NAME"] == "* total")


def made(pid, pss, *, started=5, error=None, name="x"):
    memory = None if error else MemoryUse(resident=2 * pss, proportional=pss)
    return ProcessMemory(ProcessInfo(pid=pid, parent=1, name=name, start_time=started), memory, error, 3)


AGAIN = [
    made(7, 1000),
    made(8, 50),
    made(9, 4000),
    made(7, 30, started=60),
    made(9, 0, started=70, error=AccessDenied("no")),
]
"""Two numbers were used again while everybody was asked; one of the new ones may not be read."""


def test_of_a_number_that_is_used_again_meanwhile_the_last_process_is_in_the_sums(run, rows_of, monkeypatch):
    monkeypatch.setattr("vmatlas.totals.memories", lambda *_, **__: Listing(iter(AGAIN), None))
    done = run("summary", "--all", "--bytes")
    rows = rows_of(done.stdout)
    assert [(row["PID"], row["PSS"]) for row in rows[:2]] == [("8", "50"), ("7", "30")]
    assert (totals_of(rows)["PID"], totals_of(rows)["PSS"]) == ("2", "80")
    assert done.exit_code == 7 and "2 processes read, 1 not" in done.stderr
    told = json.loads(run("summary", "--all", "--json", "--by", "name").stdout)
    assert told["total"]["memory"]["proportional"] == 80 and [each["pid"] for each in told["processes"]] == [8, 7]
    assert [group["pids"] for group in told["groups"]] == [[7, 8]]


def test_who_adds_up_by_the_api_has_each_process_once():
    (group,) = vmatlas.group_memories(AGAIN, "name")
    assert sorted(group.pids) == [7, 8] and group.total.use.proportional == 80
    ended = made(8, 0, started=99, error=NoSuchProcess("gone"))
    assert [each.error is None for each in each_once([*AGAIN, ended])] == [True, False, False]


@pytest.mark.parametrize("name", ["total", "* total", "2", "-", "* not read: no"])
def test_no_process_is_called_as_the_total_or_as_what_it_lacks(name):
    """Also where the column of names stands alone."""
    found = [made(7, 10, name=name), made(8, 20)]
    unread = Unread()
    unread.miss(found[1].process, AccessDenied("no"))
    unread.miss(made(9, 0, name=name).process, Unanswered("no", seconds=5.0))
    summaries = [(each.process, summarize(vmatlas.snapshot().where("stack"))) for each in found]
    groups = vmatlas.group_memories(found, "name")
    missing = ["* not read: no right to read", "* not read: did not answer in time"]
    silent = f"* {escape(f'{name}: no answer in 5 s')}"
    by_pid = f"* {escape(f'9 {name}: no answer in 5 s')}"
    for table, feet in (
        (totals_table(found, unread, None, exact=True), [silent, "* total", *missing]),
        (groups_table(found, unread, "name", groups, exact=True), [by_pid, "* total", *missing]),
        (processes_table(summaries, unread, exact=True), [silent, *missing]),
    ):
        (alone,) = Shape(columns=("name",)).tables([table])
        _, *lines = plain_lines(alone)
        assert lines[-len(feet) :] == feet and not [line for line in lines[: -len(feet)] if line.startswith("* ")]
        assert all(row.cells[0] == "1" for row in table.rows if row.cells[-1] == by_pid)


def test_an_empty_name_is_told_from_one_that_is_not_known():
    found = [made(number, size, name=name) for number, size, name in ((7, 40, ""), (8, 30, "-"), (9, 20, "''"))]
    unknown = ProcessMemory(bare(6), MemoryUse(resident=10, proportional=10), None, 1)
    groups = vmatlas.group_memories([*found, unknown], "name")
    assert [group.key for group in groups] == ["", "-", "''", None]
    shown = ["''", "\\x2d", "\\x27'", "-"]
    by_name = groups_table([*found, unknown], Unread(), "name", groups, exact=True)
    each = totals_table([*found, unknown], Unread(), None, exact=True)
    assert [row.cells[-1] for row in by_name.rows[:4]] == [row.cells[-1] for row in each.rows[:4]] == shown
    told = totals_json([*found, unknown], Unread(), "name", groups, None)
    assert [each["name"] for each in told["processes"]] == [each["key"] for each in told["groups"]]
    assert told["processes"][-1]["name"] is None


def test_the_largest_are_first_and_the_last_line_is_all_of_them(run, rows_of, child):
    done = run("summary", "--all", "--bytes")
    assert done.exit_code in (0, 7), done.stderr
    rows = rows_of(done.stdout)
    mine = next(row for row in rows if row["PID"] == str(child.pid))
    assert int(mine["REGIONS"]) == len(vmatlas.snapshot(child.pid))
    assert int(mine["RESIDENT"]) >= int(mine["PRIVATE"]) > 0
    processes = [row for row in rows if not row["NAME"].startswith("* ")]  # others' may not answer
    shares = [int(row["PSS"]) for row in processes if row["PSS"] != "-"]
    assert shares == sorted(shares, reverse=True)
    assert int(totals_of(rows)["PSS"]) == sum(shares)
    assert int(totals_of(rows)["PID"]) == len(shares)


def test_json_has_each_process_and_who_could_not_be_read(run, child):
    told = json.loads(run("summary", "--all", "--by", "name", "--json").stdout)
    mine = next(each for each in told["processes"] if each["pid"] == child.pid)
    assert list(mine["memory"]) == list(FIELDS) and mine["error"] is None
    read = [each for each in told["processes"] if each["memory"] is not None]
    assert told["total"]["parts"] == len(read)
    assert told["total"]["memory"]["proportional"] == sum(each["memory"]["proportional"] for each in read)
    assert told["by"] == "name" and {"unread", "incomplete", "most_regions"} <= told.keys()
    assert sum(len(group["pids"]) for group in told["groups"]) == len(read)


@pytest.mark.parametrize("by", ["name", "user", "cgroup", "program"])
def test_a_line_for_each_group_and_one_for_all(run, rows_of, child, by):
    rows = rows_of(run("summary", "--all", "--by", by, "--bytes").stdout)
    whole = next(row for row in rows if row[by.upper()] == "* total")
    groups = [row for row in rows if not row[by.upper()].startswith("* ")]  # others' may not answer
    assert sum(int(row["PROCESSES"]) for row in groups) == int(whole["PROCESSES"])
    assert sum(int(row["PSS"]) for row in groups if row["PSS"] != "-") == int(whole["PSS"])


def test_csv_has_the_fields_of_the_api(run, child):
    rows = list(csv.DictReader(io.StringIO(run("summary", "--all", "--csv").stdout)))
    mine = next(row for row in rows if row["pid"] == str(child.pid))
    assert [name.removeprefix("memory.") for name in mine if name.startswith("memory.")] == list(FIELDS)
    assert int(mine["memory.resident"]) > 0 and mine["error"] == ""
    groups = list(csv.DictReader(io.StringIO(run("summary", "--all", "--by", "user", "--csv").stdout)))
    assert sum(int(row["processes"]) for row in groups) > 0


def test_the_numbers_of_one_process_have_every_field_too(run, child):
    told = json.loads(run("summary", child.pid, "--residency", "--json").stdout)
    space = vmatlas.snapshot(child.pid, residency=True)
    assert told["total"]["memory"]["anonymous"] == space.memory.use.anonymous
    assert told["names"]["[heap]"]["memory"]["resident"] == space.where(name="[heap]").memory.use.resident
    rows = list(csv.DictReader(io.StringIO(run("maps", child.pid, "--residency", "--csv").stdout)))
    assert sum(int(row["memory.anonymous"] or 0) for row in rows) == space.memory.use.anonymous


def test_regions_are_sorted_by_what_they_use(run, rows_of, child):
    rows = rows_of(run("maps", child.pid, "--sort", "pss", "--bytes").stdout)
    shares = [int(row["PSS"]) for row in rows if row["PSS"] != "-"]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0
    assert "SWAP" in rows_of(run("maps", child.pid, "--sort", "swap").stdout)[0]


@pytest.mark.parametrize("protection", [Protection(bits) for bits in range(9)], ids=lambda each: each.letters)
@pytest.mark.parametrize("kind", list(Kind), ids=lambda each: each.label)
def test_whatever_memory_is_for_it_can_be_shown(kind: Kind, protection: Protection) -> None:
    """Of a core file rights may be told of none."""
    region = Region(0x1000, 0x3000, protection, False, path="/x", inode=7, kind=kind)
    space = space_of([region])
    summary = summarize(space)
    (use,) = summary.uses
    tables = summary_tables(space, summary, exact=True)
    assert [row.cells[0] for row in tables[0].rows] == [use.value, "total"]
    process = ProcessInfo(pid=7, parent=1, name="x", start_time=5)
    each = processes_table([(process, summary)], Unread(), exact=True)
    for table in (tables[2], each):
        cells = dict(zip([column.title for column in table.columns], table.rows[0].cells, strict=True))
        assert cells[use.value.upper()] == cells["SIZE"] == "8192"
    (row,) = processes_csv([(process, summary)], Unread())
    assert row[use.value] == 0x2000
