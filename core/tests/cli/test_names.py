"""`--names`: guesses stand beside what the kernel tells, marked, with their evidence; plain output stays as it is."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import sys

import pytest

import vmatlas
from vmatlas.analysis.naming import name_regions
from vmatlas.capture import Capture

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the rules know processes of Linux")


def columns(text: str) -> list[tuple[str, str, str]]:
    """What stands before GUESS, the guess, and what stands behind it: a guess has spaces in it."""
    title, *lines = text.splitlines()
    begin, end = title.index("GUESS"), title.index("NAME")
    return [(line[:begin].rstrip(), line[begin:end].rstrip(), line[end:]) for line in lines]


def test_each_guess_stands_beside_the_region_that_it_is_of(run, child):
    plain = run("maps", child.pid, "--bytes").stdout.splitlines()[1:]
    named = columns(run("maps", child.pid, "--bytes", "--names").stdout)
    assert [f"{before}  {name}".split() for before, _, name in named] == [line.split() for line in plain]
    space = vmatlas.snapshot(child.pid, threads=True)
    guesses = name_regions(space)
    assert guesses
    assert [guess for _, guess, _ in named] == [
        guesses[region.start].label if region.start in guesses else "-" for region in space
    ]
    assert all(name == "-" for _, guess, name in named if guess.startswith("?"))


def test_json_has_the_evidence_and_the_threads_and_a_filter_does_not_change_a_guess(run, child):
    whole = json.loads(run("maps", child.pid, "--names", "--json").stdout)
    some = json.loads(run("maps", child.pid, "--names", "--json", "--where", "anonymous").stdout)
    assert [region["guess"] for region in whole["regions"] if region["kind"] == "anonymous"] == [
        region["guess"] for region in some["regions"]
    ]
    guesses = [region["guess"] for region in some["regions"] if region["guess"]]
    assert all(guess["evidence"] and guess["certainty"] in ("strong", "weak") for guess in guesses)
    assert [thread["number"] for thread in whole["threads"]] == [child.pid]


def test_csv_has_the_guess_in_columns_and_without_names_there_are_none(run, child):
    rows = list(csv.DictReader(io.StringIO(run("maps", child.pid, "--names", "--csv").stdout)))
    guesses = name_regions(vmatlas.snapshot(child.pid, threads=True))
    assert {int(row["start"]): row["guess.name"] for row in rows if row["guess.name"]} == {
        start: guess.name for start, guess in guesses.items()
    }
    assert "guess" not in run("maps", child.pid, "--csv").stdout.splitlines()[0]
    assert not [
        region for region in json.loads(run("maps", child.pid, "--json").stdout)["regions"] if "guess" in region
    ]


def test_what_was_recorded_is_named_like_the_process_itself(run, child, tmp_path):
    assert run("record", child.pid, "-o", tmp_path / "with", "--threads").exit_code == 0
    assert run("record", child.pid, "-o", tmp_path / "without").exit_code == 0
    live, with_threads, without = (
        json.loads(run(*words, "--names", "--json").stdout)
        for words in (("maps", child.pid), ("replay", tmp_path / "with"), ("replay", tmp_path / "without"))
    )
    assert with_threads["regions"] == live["regions"]
    assert with_threads["threads"] == live["threads"]
    assert without["threads"] is None


def test_a_thread_that_tells_nothing_for_want_of_a_right_is_a_line_on_standard_error(run, child, tmp_path):
    refused = dataclasses.replace(
        vmatlas.capture(child.pid), streams={**vmatlas.capture(child.pid).streams, "threads": b"7\0w\n\0!EPERM\0"}
    )
    refused.save(tmp_path / "refused.vmatlas")
    result = run("replay", tmp_path / "refused.vmatlas", "--names")
    assert result.exit_code == 0
    assert "the stacks of 1 thread of process" in result.stderr
    assert "who may trace the process" in result.stderr


def test_a_name_that_a_thread_gave_itself_cannot_break_the_table(run, child, tmp_path):
    space = vmatlas.snapshot(child.pid)
    at = next(region for region in space if region.permissions == "rw-p" and not region.label)
    evil = b"7\0\x1b[31m\nx\n\0-1 %#x 0x1\n\0" % at.start
    made: Capture = vmatlas.capture(child.pid)
    dataclasses.replace(made, streams={**made.streams, "threads": evil}).save(tmp_path / "evil.vmatlas")
    result = run("replay", tmp_path / "evil.vmatlas", "--names")
    assert result.exit_code == 0
    assert "\x1b" not in result.stdout
    assert len(result.stdout.splitlines()) == len(space) + 1


def sizes(text: str) -> dict[str, int]:
    """SIZE by NAME, which may hold spaces."""
    title, *lines = text.splitlines()
    end, begin = title.index("SIZE") + len("SIZE"), title.index("NAME")
    return {line[begin:]: int(line[:end].split()[-1]) for line in lines}


def test_totals_by_name_have_the_guesses_and_add_up_to_what_has_no_file(run, child):
    shown = sizes(run("summary", child.pid, "--by", "name", "--bytes").stdout)
    space = vmatlas.snapshot(child.pid)
    guesses = name_regions(space.with_threads(vmatlas.open(child.pid).threads()))
    nameless = [region for region in space if region.path is None]
    assert shown.pop("* total of what has no file") == sum(shown.values()) == sum(region.size for region in nameless)
    expected: dict[str, int] = {}
    for region in nameless:
        name = region.name or (guesses[region.start].group_label if region.start in guesses else "-")
        expected[name] = expected.get(name, 0) + region.size
    assert shown == expected
    told = json.loads(run("summary", child.pid, "--by", "name", "--json").stdout)["names"]
    assert {name or "-": total["size"] for name, total in told.items()} == expected
    assert not [
        name for name in json.loads(run("summary", child.pid, "--json").stdout)["names"] if name.startswith("?")
    ]


def test_what_grows_is_put_together_by_guesses_and_a_filter_does_not_change_them(run, child, tmp_path):
    run("record", child.pid, "-o", tmp_path / "before", "--threads")
    child.grow()
    whole = json.loads(run("diff", tmp_path / "before", child.pid, "--by", "name", "--json").stdout)["groups"]
    some = json.loads(
        run("diff", tmp_path / "before", child.pid, "--by", "name", "--json", "--where", "anonymous").stdout
    )["groups"]
    assert [group for group in whole if group["growth"] == 32 << 20] == [
        group for group in some if group["growth"] == 32 << 20
    ]


def test_of_a_system_that_no_rule_knows_that_is_said(run, child, tmp_path):
    made = vmatlas.capture(child.pid)
    other = dataclasses.replace(made, system=dataclasses.replace(made.system, system="hurd"))
    other.save(tmp_path / "other.vmatlas")
    result = run("replay", tmp_path / "other.vmatlas", "--names", "--json")
    assert result.exit_code == 0
    assert result.stderr == "vmatlas: no rule knows what nameless memory is on hurd\n"
    assert {region["guess"] for region in json.loads(result.stdout)["regions"]} == {None}
