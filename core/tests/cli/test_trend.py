"""`growth`: the memory that grows is the first line, of a series and of a process that is watched."""

from __future__ import annotations

import csv
import io
import json
import os
from types import SimpleNamespace

import pytest

import vmatlas
from vmatlas.cli.exits import Exit

from .test_series import SIZE, Growing

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


def timed(monkeypatch, pause) -> None:
    """Lets time pass for the watching in its pauses alone, in which something happens."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        pause()

    monkeypatch.setattr("vmatlas.cli.growth.time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))


def test_a_process_is_watched_now(run, growing, monkeypatch):
    timed(monkeypatch, growing.grow)
    done = run("growth", growing.pid, "--every", "10s", "--for", "2m", "--json")
    assert done.exit_code == Exit.FOUND, done.stderr
    told = json.loads(done.stdout)
    first = told["trends"][0]
    assert (told["moments"], told["seconds"]) == (13, 120)
    assert (first["verdict"], first["by"], first["gained"]) == ("grows", "nameless", 12 * SIZE)
    assert first["per_hour"] == 360 * SIZE


def test_a_word_that_chooses_one_process_serves_and_one_that_chooses_several_is_refused(run, growing, monkeypatch):
    timed(monkeypatch, growing.grow)
    done = run("growth", f"children:{growing.pid}", "--for", "8", "--json")
    assert json.loads(done.stdout)["pid"] == growing.pid and json.loads(done.stdout)["moments"] == 9
    several = run("growth", f"children:{os.getpid()}", "--for", "0")
    assert several.exit_code == Exit.USAGE and "follows one process" in several.stderr


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

    timed(monkeypatch, pause)
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
