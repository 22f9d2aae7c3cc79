"""`vmatlas picture`: in the terminal, into files, of whatever has a map."""

from __future__ import annotations

import json
import os
import re

import pytest

from .conftest import WEIRD


def test_picture_is_drawn_here_with_totals_map_and_legend(run, child):
    result = run("picture", child.pid)
    assert result.exit_code == 0
    head, totals, drawn, legend = result.stdout.split("\n\n")[:4]
    assert head.startswith(f"process {child.pid} (python")
    assert re.search(r"^all +[\d.]+M", totals, re.MULTILINE)
    rows = [line for line in drawn.splitlines() if re.match(r" +[0-9a-f]+  [A-Za-z.-]+", line)]
    assert 5 < len(rows) <= 40
    assert any("[stack]" in row for row in rows)
    assert "H heap: " in legend and "a capital" in legend.lower()
    assert max(map(len, result.stdout.splitlines())) <= 100


def test_picture_in_a_terminal_is_in_colours_and_as_wide_as_it_is(in_terminal, child):
    text, code = in_terminal(60, "picture", child.pid)
    assert code == 0
    assert "\x1b[36m" in text and "█" in text
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert max(map(len, plain.splitlines())) <= 60


def test_files_are_written_once_for_their_owner_alone(run, child, tmp_path):
    for name in ("a.html", "a.svg", "a.txt"):
        path = tmp_path / name
        result = run("picture", child.pid, "-o", path)
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout.startswith(f"{path}: process {child.pid}")
        assert path.stat().st_mode & 0o077 == 0
        again = run("picture", child.pid, "-o", path)
        assert again.exit_code == 2 and "--force" in again.stderr
        assert run("picture", child.pid, "-o", path, "--force").exit_code == 0
    assert "\\u202e" in (tmp_path / "a.html").read_text() and "\u202e" not in (tmp_path / "a.svg").read_text()


def test_names_of_a_process_are_escaped_as_everywhere(run, child, tmp_path):
    assert "\u202e" in WEIRD
    assert run("picture", child.pid, "-o", tmp_path / "a.html").exit_code == 0
    page = (tmp_path / "a.html").read_text("utf-8")
    assert all(character.isprintable() or character == "\n" for character in page)
    assert "new\\\\nline" in page


def test_what_is_no_picture_is_refused_before_anybody_is_asked(run, tmp_path):
    for words, told in (
        (("-o", "x.png"), "is no name of a picture"),
        (("-o", "-"), "is no name of a picture"),
        (("-o", tmp_path / "none" / "x.svg"), "No such file"),
    ):
        result = run("picture", "self", *words)
        assert told in result.stderr and result.exit_code in (2, 9), result.stderr
    assert run("picture").exit_code == 2
    assert run("picture", "no-such-thing").exit_code == 2


def test_a_capture_is_drawn_as_it_was(run, child, tmp_path):
    path = tmp_path / "worker.vmatlas"
    assert run("record", child.pid, "--residency", "-o", path).exit_code == 0
    drawn = run("picture", path)
    assert drawn.exit_code == 0 and "IN-MEMORY" in drawn.stdout
    assert run("picture", path, "--target", "ssh:nowhere").exit_code == 2
    assert run("picture", path, child.pid).exit_code == 2
    with open(path, "rb") as file:
        assert file.read(2) == b"PK"


def test_several_processes_are_on_one_page_the_largest_first(run, child, tmp_path):
    path = tmp_path / "tree.html"
    result = run("picture", f"children:{os.getpid()}", f"pid:{os.getpid()}", "-o", path)
    assert result.exit_code in (0, 7)  # another of the children may have ended
    found = re.findall(r'<option value="\d+">process (\d+)', path.read_text("utf-8"))
    assert {str(child.pid), str(os.getpid())} <= set(found)
    assert found.index(str(os.getpid())) < found.index(str(child.pid))
    assert run("picture", f"pid:{child.pid}", f"pid:{os.getpid()}").stdout.count("\nSORT") == 2


@pytest.mark.parametrize("option", ["--no-names", "--no-pages"])
def test_what_is_not_wanted_is_not_drawn(run, child, tmp_path, option):
    path = tmp_path / "a.html"
    assert run("picture", child.pid, option, "-o", path).exit_code == 0
    page = path.read_text("utf-8")
    data = json.loads(re.search(r'class="data">(.*?)</script>', page)[1])
    assert ("guesses" in data) <= (option == "--no-pages")
    if option == "--no-pages":
        assert data["marks"] is None


def test_two_moments_are_compared(run, child, tmp_path):
    before = tmp_path / "before.vmatlas"
    assert run("record", child.pid, "--residency", "-o", before).exit_code == 0
    child.grow()
    drawn = run("picture", child.pid, "--before", before)
    assert drawn.exit_code == 0, drawn.stderr
    assert "1 added" in drawn.stdout or "1 grown" in drawn.stdout
    assert "+32M of addresses" in drawn.stdout
    assert run("picture", child.pid, "--before", before, "-o", tmp_path / "since.html").exit_code == 0
    assert 'class="is-grown"' in (tmp_path / "since.html").read_text()
    assert run("picture", child.pid, "--before", before, "--after", "1").exit_code == 2
    assert run("picture", before, "--after", "1").exit_code == 2
    still = run("picture", child.pid, "--after", "0.01")
    assert still.exit_code == 0 and ", compared" in still.stdout


def test_a_series_is_drawn_over_time_and_its_last_moment_with_it(run, child, tmp_path):
    series = tmp_path / "leak.vmatlas"
    assert run("record", child.pid, "--every", "0.05", "--for", "0.2", "-o", series).exit_code == 0
    drawn = run("picture", series)
    assert drawn.exit_code == 0, drawn.stderr
    assert "OVER TIME" in drawn.stdout and "from low addresses to high" in drawn.stdout
    assert "OVER TIME" not in run("picture", f"{series}@last").stdout
    for name, views in (("a.html", 2), ("a.svg", 0)):
        assert run("picture", series, "-o", tmp_path / name).exit_code == 0
        assert (tmp_path / name).read_text().count("<article") == views
    assert "polygon" in (tmp_path / "a.svg").read_text()
