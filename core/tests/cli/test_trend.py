"""`growth`: the memory that grows is the first line, of a series and of a process that is watched."""

from __future__ import annotations

import csv
import io
import json

import pytest

import vmatlas
from vmatlas.cli.exits import Exit

from .test_series import SIZE, Growing, timed

MOMENTS = 12


@pytest.fixture
def leak(tmp_path):
    """A series of a process that touches a MiB between two moments."""
    growing = Growing()
    try:
        for moment in vmatlas.record_series(growing.pid, tmp_path / "leak.vmatlas", 0, wait=growing.grow):
            if moment.number == MOMENTS:
                break
    finally:
        growing.end()
        growing.process.communicate()
    return tmp_path / "leak.vmatlas"


def test_the_leak_is_the_first_line(run, rows_of, leak):
    done = run("growth", leak, "--bytes")
    assert done.exit_code == Exit.FOUND, done.stderr
    first, *others = rows_of(done.stdout)
    assert (first["VERDICT"], first["BY"], int(first["GAINED"])) == ("grows", "nameless", (MOMENTS - 1) * SIZE)
    assert float(first["PER-HOUR"]) >= float(first["AT-LEAST"]) > 0
    assert first["CONFIDENCE"] == ">99.9%"
    assert others[-1]["BY"] == "all" and int(others[-1]["GAINED"]) >= (MOMENTS - 1) * SIZE


def test_json_and_csv_have_every_group(run, leak):
    told = json.loads(run("growth", leak, "--json").stdout)
    first = told["trends"][0]
    assert first["verdict"] == "grows" and first["gained"] == (MOMENTS - 1) * SIZE and first["chance"] < 0.001
    assert first["start"] is not None and told["total"]["verdict"] == "grows" and told["moments"] == MOMENTS
    rows = list(csv.DictReader(io.StringIO(run("growth", leak, "--csv").stdout)))
    assert [row["key"] for row in rows] == [each["key"] for each in told["trends"]]
    kinds = json.loads(run("growth", leak, "--by", "kind", "--json").stdout)["trends"]
    assert {each["by"] for each in kinds} == {"kind"} and kinds[0]["key"] == "anonymous"


def test_a_part_of_a_series_is_looked_at(run, leak):
    told = json.loads(run("growth", leak, "--from", "#2", "--to", "#11", "--json").stdout)
    assert told["moments"] == 10 and told["trends"][0]["gained"] == 9 * SIZE


@pytest.fixture
def growing():
    made = Growing()
    yield made
    made.end()
    made.process.communicate()


def test_a_process_is_watched_now(run, growing, monkeypatch):
    timed(monkeypatch, "vmatlas.cli.growth", growing.grow)
    done = run("growth", growing.pid, "--every", "10s", "--for", "2m", "--json")
    assert done.exit_code == Exit.FOUND, done.stderr
    told = json.loads(done.stdout)
    first = told["trends"][0]
    assert (told["moments"], told["seconds"]) == (13, 120)
    assert (first["verdict"], first["by"], first["gained"]) == ("grows", "nameless", 12 * SIZE)
    assert first["per_hour"] == 360 * SIZE


def test_several_processes_are_watched_and_each_line_says_whose_it_is(run, rows_of, growing, monkeypatch):
    sleeping = Growing()
    try:
        timed(monkeypatch, "vmatlas.cli.looking", growing.grow)
        words = "growth", f"pid:{sleeping.pid}", f"children:{growing.pid}", "--for", "8"
        done = run(*words, "--json")
        told = json.loads(done.stdout)
        assert (told["unread"], told["unmatched"], told["incomplete"]) == ({}, [], None)
        grown = {each["pid"]: each["trends"][0]["gained"] for each in told["processes"] if each["trends"]}
        assert grown[growing.pid] == 8 * SIZE and grown.get(sleeping.pid, 0) < SIZE
        assert {each["moments"] for each in told["processes"]} == {9}
        first, *_ = rows_of(run(*words, "--bytes").stdout)
        assert (first["PID"], first["VERDICT"], first["BY"]) == (str(growing.pid), "grows", "nameless")
    finally:
        sleeping.end()
        sleeping.process.communicate()


def test_one_that_ends_is_told_and_of_one_that_had_a_single_look_nothing_grows(run, growing, monkeypatch):
    brief = Growing()
    try:
        timed(monkeypatch, "vmatlas.cli.looking", brief.end)
        done = run("growth", f"pid:{growing.pid}", f"pid:{brief.pid}", "--for", "3", "--json")
    finally:
        brief.end()
        brief.process.communicate()
    told = json.loads(done.stdout)
    assert [each["pid"] for each in told["processes"]] == [growing.pid]
    assert f"process {brief.pid} (python" in done.stderr and "has ended" in done.stderr
    [(reason, who)] = told["unread"].items()
    assert who == [brief.pid] and "two moments" in reason and done.exit_code == Exit.INCOMPLETE


def test_several_series_have_their_lines_in_one_table_what_grows_first(run, rows_of, leak, growing, tmp_path):
    still = tmp_path / "still.vmatlas"
    made = run("record", growing.pid, "--every", "0", "--for", "0.1", "-o", still)
    assert made.exit_code == Exit.OK, made.stderr
    done = run("growth", still, leak)
    assert done.exit_code == Exit.FOUND
    first, *_ = rows_of(done.stdout)
    assert (first["FILE"], first["VERDICT"]) == (str(leak), "grows")
    told = json.loads(run("growth", still, leak, "--json").stdout)
    alone = json.loads(run("growth", leak, "--json").stdout)
    assert [each.pop("file") for each in told["processes"]] == [str(still), str(leak)]
    assert told["processes"][1] == alone
    rows = list(csv.DictReader(io.StringIO(run("growth", still, leak, "--csv").stdout)))
    assert [row["key"] for row in rows if row["file"] == str(leak)] == [each["key"] for each in alone["trends"]]


def test_of_several_series_those_that_can_be_read_are_told(run, leak, tmp_path):
    short, broken = tmp_path / "short.vmatlas", tmp_path / "broken.vmatlas"
    with vmatlas.Series.open(leak) as series:
        short.write_bytes(leak.read_bytes()[: series.end - sum(each.size for each in series.moments[1:])])
    broken.write_text("no series")
    done = run("growth", short, broken, leak, tmp_path / "none.vmatlas", "--json")
    told = json.loads(done.stdout)
    assert done.exit_code == Exit.FOUND and len(told["processes"]) == 1
    for name in ("short.vmatlas", "broken.vmatlas", "none.vmatlas"):
        assert name in told["incomplete"] and name in done.stderr
    assert run("growth", short, broken).exit_code not in (Exit.OK, Exit.FOUND)
    assert "do not go together" in run("growth", leak, "self").stderr


@pytest.mark.parametrize(("how", "words"), [("end", "has ended"), ("interrupt", "")])
def test_what_was_seen_is_shown_when_the_process_ends_and_at_ctrl_c(run, growing, monkeypatch, how, words):
    left = [9]

    def pause() -> None:
        growing.grow()
        left[0] -= 1
        if not left[0]:
            growing.end()
            if how == "interrupt":
                raise KeyboardInterrupt

    timed(monkeypatch, "vmatlas.cli.growth", pause)
    done = run("growth", growing.pid, "--json")
    assert words in done.stderr and json.loads(done.stdout)["moments"] == 9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--every", "1"], "go with a process"),
        (["--measure", "colour"], "is not followed"),
        (["--from", "#99"], "no moment"),
        (["--from", "#12"], "two moments"),
        (["--from", "#5", "--to", "#3"], "two moments"),
        (["--target", "ssh:x"], "go with a process"),
    ],
)
def test_what_cannot_be_asked_is_a_matter_of_usage(run, leak, options, words):
    done = run("growth", leak, *options)
    assert done.exit_code == Exit.USAGE and words in done.stderr
    assert run("growth", f"{leak}@#3").exit_code == Exit.USAGE
    assert run("growth", "self", "--from", "#1").exit_code == Exit.USAGE
