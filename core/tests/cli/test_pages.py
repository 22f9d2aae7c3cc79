"""`vmatlas pages`: totals of each region, one region drawn, and what cannot be told."""

from __future__ import annotations

import json
import mmap
import sys

import pytest

from vmatlas import Kind, PageRun, PageRuns, PageState, Protection, Region, registry
from vmatlas.cli.exits import Exit
from vmatlas.cli.render.pages import blocks, pages_table, region_tables, untold
from vmatlas.cli.render.table import plain_lines
from vmatlas.model.pages import USUAL
from vmatlas.registry import Broken
from vmatlas.target.local import LOCAL

from ..strategies import ORIGIN, space_of

PAGE = 4096
FIRST = 0x7F0000000000
P, S, Z, H, G = (
    PageState.PRESENT,
    PageState.SWAPPED,
    PageState.PRESENT | PageState.ZERO,
    PageState.PRESENT | PageState.HUGE,
    PageState.GUARD,
)
SOURCES = [each for each in registry.page_sources() if not isinstance(each, Broken)]
tells_pages = pytest.mark.skipif(
    not any(each.system == LOCAL.system_info.system and LOCAL.offers(each) for each in SOURCES),
    reason="nothing here tells of pages (Linux: CONFIG_PROC_PAGE_MONITOR)",
)


def region(first: int, last: int) -> Region:
    return Region(FIRST + first * PAGE, FIRST + last * PAGE, Protection(3), shared=False, kind=Kind.ANONYMOUS)


def runs_of(*runs: tuple[int, int, PageState], told: PageState = USUAL) -> PageRuns:
    made = [PageRun(FIRST + first * PAGE, FIRST + last * PAGE, state, told) for first, last, state in runs]
    return PageRuns.of(made, ORIGIN, told)


RUNS = runs_of((0, 1, G), (1, 3, P), (3, 4, Z), (5, 6, S), (6, 7, H), (20, 21, P))


def test_a_region_is_drawn_with_a_letter_for_each_page():
    assert blocks(region(0, 8), RUNS, PAGE) == ("G##0.SH.", 1)
    assert blocks(region(8, 12), RUNS, PAGE) == ("....", 1)
    assert blocks(region(2, 3), RUNS, PAGE) == ("#", 1)


@pytest.mark.parametrize("pages", [1, 63, 64, 65, 128, 129, 1000])
def test_a_large_region_is_drawn_in_64_letters_at_the_most(pages):
    drawn, each = blocks(region(0, pages), RUNS, PAGE)
    assert len(drawn) == -(-pages // each) <= 64
    assert drawn[0] == ("G" if each == 1 else "g")


def test_a_letter_for_several_pages_tells_when_they_differ_and_never_hides_a_guard():
    runs = runs_of((0, 2, P), (3, 4, P), (4, 5, G), (6, 8, G))
    drawn, each = blocks(region(0, 128), runs, PAGE)
    assert (drawn[:5], each) == ("#+gG.", 2)


def test_totals_of_each_region_are_told_and_their_sum():
    space = space_of([region(0, 8), region(16, 32)])
    table = pages_table(space, RUNS, exact=False)
    assert table.legend == (("kind.anonymous", "anonymous"),)
    lines = list(plain_lines(table))
    assert lines[0].split() == ["RANGE", "PERM", "SIZE", "PRESENT", "SWAPPED", "ZERO", "HUGE", "GUARD", "NAME"]
    assert [line.split()[2:8] for line in lines[1:3]] == [
        ["32K", "16K", "4K", "4K", "4K", "4K"],
        ["64K", "4K", "-", "-", "-", "-"],
    ]
    assert lines[3].split() == ["total", "96K", "20K", "4K", "4K", "4K", "4K"]


def test_what_is_not_told_has_no_column():
    told = P | S
    runs = runs_of((0, 1, P), told=told)
    assert untold(runs) == ["zero", "huge", "guard"]
    header, *_ = plain_lines(pages_table(space_of([region(0, 8)]), runs, exact=True))
    assert header.split() == ["RANGE", "PERM", "SIZE", "PRESENT", "SWAPPED", "NAME"]


def test_one_region_is_told_run_by_run_with_what_lies_between():
    _, drawn, each = region_tables(space_of([region(0, 8)]), RUNS, exact=False)
    assert drawn.rows[0].cells == ("G##0.SH.", "1 page")
    assert [row.cells[2:] for row in each.rows] == [
        ("1", "guard"),
        ("2", "present"),
        ("1", "present zero"),
        ("1", "-"),
        ("1", "swapped"),
        ("1", "present huge"),
        ("1", "-"),
    ]


@tells_pages
def test_the_sum_is_that_of_the_regions(run, child):
    told = json.loads(run("pages", child.pid, "--json").stdout)
    assert told["totals"]["present"] == sum(each["pages"]["present"] for each in told["regions"]) > 0
    for each in told["regions"]:
        covered = sum(part["end"] - part["start"] for part in each["runs"] if "present" in part["states"])
        assert covered == each["pages"]["present"]


@tells_pages
def test_one_region_is_shown_by_its_address(run, child):
    result = run("pages", child.pid, "--at", f"{child.at['wx']:x}")
    assert result.exit_code == Exit.OK
    assert "." * 16 in result.stdout.split()
    assert f"{16 * mmap.PAGESIZE // 1024}K" in result.stdout
    rows = run("pages", child.pid, "--at", f"{child.at['wx']:x}", "--csv").stdout.splitlines()
    assert rows[0].startswith("start,end,size,present") and len(rows) == 1


@tells_pages
def test_an_address_that_no_region_covers_is_exit_1(run, child):
    result = run("pages", child.pid, "--at", "1000")
    assert (result.exit_code, "no region covers 0x1000" in result.stderr) == (Exit.FOUND, True)


@tells_pages
def test_states_are_chosen_by_their_words(run, child):
    told = json.loads(run("pages", child.pid, "--state", "present, exclusive", "--json").stdout)
    assert told["told"] == ["present", "exclusive"] and told["totals"]["guard"] is None
    assert told["pages_backend"] == "linux-pagemap" or sys.platform != "linux"


def test_what_is_no_question_is_a_line(run, child):
    wrong = run("pages", child.pid, "--state", "dirty")
    assert (wrong.exit_code, "'dirty' is no state of a page" in wrong.stderr) == (Exit.USAGE, True)
    several = run("pages", f"children:{child.pid}")
    assert (several.exit_code, "pages asks one process" in several.stderr) == (Exit.USAGE, True)
    both = run("pages", child.pid, "--json", "--csv")
    assert both.exit_code == Exit.USAGE


def test_states_that_nothing_tells_together_are_exit_5_with_the_reason(run, child):
    result = run("pages", child.pid, "--state", "exclusive,huge")
    assert result.exit_code == Exit.UNSUPPORTED
    assert "cannot be told here which pages are huge or exclusive" in result.stderr


@tells_pages
def test_more_runs_than_can_be_shown_are_counted_alone(run, child, monkeypatch):
    monkeypatch.setattr("vmatlas.model.columns.MOST_REGIONS", 0)
    assert run("pages", child.pid).exit_code == Exit.OK
    result = run("pages", child.pid, "--json")
    assert (result.exit_code, result.stdout) == (Exit.MALFORMED_DATA, "")
    assert "at most 0 runs of pages where each is shown" in result.stderr


@tells_pages
def test_a_map_shows_guards_where_they_are_told(run, child):
    result = run("maps", child.pid, "--guards", "--json")
    if result.exit_code == Exit.UNSUPPORTED:
        assert "which pages are guard" in result.stderr
        return
    plain = run("maps", child.pid, "--json")
    bounds = [[(each["start"], each["end"]) for each in json.loads(made.stdout)["regions"]] for made in (result, plain)]
    assert bounds[0] == bounds[1]  # it has none


def test_guards_go_without_the_memory_in_use(run, child):
    result = run("maps", child.pid, "--guards", "--residency")
    assert (result.exit_code, "without the memory in use" in result.stderr) == (Exit.USAGE, True)


@tells_pages
def test_guards_are_kept_in_a_capture(run, child, tmp_path):
    file = tmp_path / "guarded.vmatlas"
    result = run("record", child.pid, "--guards", "-o", file)
    if result.exit_code == Exit.UNSUPPORTED:
        assert "which pages are guard" in result.stderr
        return
    assert result.exit_code == Exit.OK
    assert run("replay", file).exit_code == Exit.OK


def test_a_series_has_no_guards(run, child, tmp_path):
    result = run("record", child.pid, "--guards", "--every", "1", "-o", tmp_path / "x.vmatlas")
    assert (result.exit_code, "--guards goes without --every" in result.stderr) == (Exit.USAGE, True)
