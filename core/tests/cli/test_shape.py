"""--columns, --limit and --reverse: of each table and of CSV, and never of what a total is of."""

from __future__ import annotations

import csv

import pytest

import vmatlas
from vmatlas.cli.exits import Exit
from vmatlas.cli.render.shape import Shape
from vmatlas.cli.render.table import Column, Row, Table

TABLE = Table(
    (Column("PID", right=True), Column("NAME"), Column("PSS")),
    [Row((str(n), f"name {n}", f"{n}K"), "", {1: "heading"}) for n in range(5)]
    + [Row(("5", "total", "10K"), "heading")],
    feet=1,
)


def shown(*words: object, run) -> list[list[str]]:
    return [line.split() for line in run(*words).stdout.splitlines()]


def test_a_limit_is_of_rows_and_a_total_stays():
    (cut,) = Shape(limit=2).tables([TABLE])
    assert [row.cells[1] for row in cut.rows] == ["name 0", "name 1", "total"]
    assert cut.notes == ("3 more rows: --limit",)
    (none,) = Shape(limit=0).tables([TABLE])
    assert [row.cells[1] for row in none.rows] == ["total"]
    (all_of_it,) = Shape(limit=5).tables([TABLE])
    assert (all_of_it.rows, all_of_it.notes) == (TABLE.rows, ())


def test_the_last_come_first_before_a_limit_is_looked_at():
    (cut,) = Shape(limit=2, reverse=True).tables([TABLE])
    assert [row.cells[1] for row in cut.rows] == ["name 4", "name 3", "total"]


def test_columns_stand_as_they_were_asked_for_and_keep_their_looks():
    (cut,) = Shape(columns=("pss", "Name")).tables([TABLE])
    assert [column.title for column in cut.columns] == ["PSS", "NAME"]
    assert cut.rows[0] == Row(("0K", "name 0"), "", {1: "heading"})
    other = Table((Column("WHAT"),), [Row(("x",))])
    assert len(Shape(columns=("what",)).tables([TABLE, other])) == 1
    with pytest.raises(vmatlas.UsageError, match="no column 'SIZE'") as refused:
        Shape(columns=("SIZE", "PID")).tables([TABLE, other])
    assert refused.value.hint == "there are PID, NAME, PSS, WHAT"


def test_a_map_has_the_rows_and_columns_that_were_asked_for(run, child):
    whole = shown("maps", child.pid, run=run)
    told = shown("maps", child.pid, "--columns", "size, range", "--limit", "3", "--reverse", run=run)
    assert told[0] == ["SIZE", "RANGE"]
    assert [row[1] for row in told[1:]] == [row[0] for row in whole[:-4:-1]]


def test_csv_has_the_rows_and_columns_that_were_asked_for(run, child):
    told = list(
        csv.reader(run("maps", child.pid, "--csv", "--columns", "end,start", "--limit", "2").stdout.splitlines())
    )
    regions = vmatlas.snapshot(child.pid)[:2]
    assert told == [["end", "start"], *([str(each.end), str(each.start)] for each in regions)]


@pytest.mark.parametrize(
    "words", ["summary PID", "summary --all", "find PID 0 --or-next", "audit PID", "processes", "diff PID --after 0"]
)
def test_every_table_can_be_cut(run, child, words):
    asked = [child.pid if word == "PID" else word for word in words.split()]
    result = run(*asked, "--limit", "0")
    assert result.exit_code in (Exit.OK, Exit.FOUND, Exit.INCOMPLETE), result.stderr
    whole = run(*asked).stdout.splitlines()
    assert len(result.stdout.splitlines()) <= len(whole)
    assert run("processes").stdout.count("\n") > 2, "what one command was told holds for no other"


def test_json_is_never_cut(run, child):
    for option in (["--limit", "1"], ["--reverse"], ["--columns", "SIZE"]):
        result = run("maps", child.pid, "--json", *option)
        assert (result.exit_code, result.stdout) == (Exit.USAGE, "")
        assert "go with tables and CSV" in result.stderr
    assert run("maps", child.pid, "--limit", "-1").exit_code == Exit.USAGE
    assert run("maps", child.pid, "--columns", "nothing").exit_code == Exit.USAGE
