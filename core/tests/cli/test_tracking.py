"""`vmatlas written`, `working-set` and `numa`: what they show of values made by hand, and when they refuse."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

import vmatlas
from vmatlas import Kind, PageRun, PageRuns, PageState, Protection, Region, operations
from vmatlas.cli.render.numa import numa_csv, numa_json, numa_table, of_regions
from vmatlas.cli.render.table import plain_lines
from vmatlas.cli.render.tracking import written_csv, written_json, written_table
from vmatlas.cli.schema import schema_of
from vmatlas.model.numa import NumaUse

from ..operations.test_tracking import Flags
from ..strategies import ORIGIN, space_of
from .test_schemas import strict

PAGE = 4096
DIRTY = PageState.SOFT_DIRTY


def region(first: int, last: int, *, whole: bool = False) -> Region:
    return Region(first * PAGE, last * PAGE, Protection(3), shared=False, kind=Kind.ANONYMOUS, flags=Flags(int(whole)))


SPACE = space_of([region(1, 5), region(5, 6), region(8, 12, whole=True)])
RUNS = PageRuns.of([PageRun(at * PAGE, (at + 1) * PAGE, DIRTY, DIRTY) for at in (2, 4, 9)], ORIGIN, DIRTY)
WRITTEN = operations.Written(SPACE, RUNS, 2.5)
USES = (
    NumaUse(PAGE, "default", {0: 2 * PAGE}, PAGE, {"anon": 2}),
    NumaUse(8 * PAGE, "bind:1", {0: PAGE, 1: 3 * PAGE}, PAGE, {}),
    NumaUse(99 * PAGE, "default", {7: PAGE}, PAGE, {}),
)


def wrong(command: str, value: object) -> list[str]:
    told = json.loads(json.dumps(value))
    return [error.message for error in Draft202012Validator(strict(schema_of(command))).iter_errors(told)]


def test_regions_in_which_something_was_written_have_a_line_and_doubt_a_mark():
    lines = [line.split() for line in plain_lines(written_table(WRITTEN, exact=False))]
    assert lines[0][:4] == ["RANGE", "PERM", "SIZE", "WRITTEN"]
    assert [line[3] for line in lines[1:3]] == ["8K", "4K?"]
    assert lines[3][:3] == ["total", "32K", "12K"]


def test_what_was_written_is_told_as_the_schema_says():
    value = written_json(WRITTEN)
    assert wrong("written", value) == []
    assert [each["sure"] for each in value["regions"]] == [True, True, False]
    assert value["totals"] == {"written": 3 * PAGE}
    titles, rows = written_csv(WRITTEN)
    assert set(titles) <= rows[0].keys() and [row["written"] for row in rows] == [2 * PAGE, 0, PAGE]


def test_nodes_are_columns_and_a_region_that_is_not_told_has_dashes():
    told = of_regions(SPACE, USES)
    lines = [line.split() for line in plain_lines(numa_table(SPACE, told, exact=False))]
    assert lines[0][3:6] == ["N0", "N1", "POLICY"]
    assert [line[3:6] for line in lines[1:4]] == [["8K", "-", "default"], ["-", "-", "-"], ["4K", "12K", "bind:1"]]
    assert lines[4][:4] == ["total", "36K", "12K", "12K"]
    value = numa_json(SPACE, told)
    assert wrong("numa", value) == [] and value["totals"] == {"0": 3 * PAGE, "1": 3 * PAGE}
    titles, rows = numa_csv(told)
    assert titles[6:9] == ["policy", "N0", "N1"] and rows[2]["N1"] == 3 * PAGE


@pytest.mark.parametrize("command", ["written", "working-set"])
def test_marks_are_cleared_when_it_is_forced_and_of_one_process(run, child, command):
    refused = run(command, child.pid, "--during", "0")
    assert refused.exit_code in (2, 5) and refused.stdout == ""
    if refused.exit_code == 2:
        assert "cannot be undone" in refused.stderr and "--force" in refused.stderr
    assert run(command, "all", "--force").exit_code == 2
    assert run(command, child.pid, "--during", "soon", "--force").exit_code == 2


def test_numa_asks_one_process(run):
    assert run("numa", "all").exit_code == 2
    assert vmatlas.NumaUse is NumaUse
