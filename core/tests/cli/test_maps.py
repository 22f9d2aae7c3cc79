"""`vmatlas maps` says what the API says, in each of its forms."""

from __future__ import annotations

import csv
import io
import itertools
import json
import threading

import pytest

import vmatlas
from vmatlas.cli.render.text import escape, human
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import Kind, Region


def as_row(region: Region) -> dict[str, str]:
    return {
        "RANGE": f"{region.start:x}-{region.end:x}",
        "PERM": region.permissions,
        "SIZE": str(region.size),
        "OFFSET": "-" if region.offset is None else f"{region.offset:x}",
        "KIND": region.kind.label,
        "NAME": escape(region.label) or "-",
    }


def test_each_line_of_the_table_is_a_region_of_the_api(run, child, rows_of):
    result = run("maps", child.pid, "--bytes")
    assert result.exit_code == 0, result.stderr
    assert rows_of(result.stdout) == [as_row(region) for region in vmatlas.snapshot(child.pid)]
    assert result.stderr == ""


def test_sizes_are_human_without_bytes(run, child, rows_of):
    sizes = [row["SIZE"] for row in rows_of(run("maps", child.pid).stdout)]
    assert sizes == [human(region.size) for region in vmatlas.snapshot(child.pid)]


def test_json_holds_every_field_of_every_region_and_the_origin(run, child):
    told = json.loads(run("maps", child.pid, "--json").stdout)
    space = vmatlas.snapshot(child.pid)
    assert told["regions"] == json.loads(space.to_json())
    assert (told["pid"], told["backend"], told["start_time"]) == (child.pid, space.backend, space.start_time)
    assert told["system"]["release"] == space.system.release
    assert told["incomplete"] is None


def test_csv_gives_every_region_back(run, child):
    result = run("maps", child.pid, "--csv", "--residency")
    text = result.stdout_bytes.decode("utf-8", "surrogateescape")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    space = vmatlas.snapshot(child.pid, residency=True)
    assert [(int(row["start"]), int(row["end"]), row["protection"], row["path"]) for row in rows] == [
        (region.start, region.end, region.protection.letters, region.path or "") for region in space
    ]
    assert [row["detail.Swap"] for row in rows] == [str(region.details["Swap"]) for region in space]
    assert [row["flags"].split() for row in rows] == [region.flags.labels() for region in space]


def test_a_weird_path_stays_on_its_line_and_does_nothing_to_a_terminal(run, child, rows_of):
    result = run("maps", child.pid, "--at", f"{child.at['weird']:x}")
    (row,) = rows_of(result.stdout)
    assert result.stdout.replace("\n", "").isprintable()
    assert row["NAME"].endswith(r"/new\nline \x1b[31mred\x1b[0m tab\t back\\slash \u202eleft café \xff\xfe")


def test_json_and_csv_keep_a_weird_path_whole(run, child):
    weird = (child.folder / "names.weird").read_bytes()
    told = json.loads(run("maps", child.pid, "--at", f"{child.at['weird']:x}", "--json").stdout)
    assert told["regions"][0]["path"].encode("utf-8", "surrogateescape") == weird
    raw = run("maps", child.pid, "--at", f"{child.at['weird']:x}", "--csv").stdout_bytes
    (row,) = csv.DictReader(io.StringIO(raw.decode("utf-8", "surrogateescape"), newline=""))
    assert row["path"].encode("utf-8", "surrogateescape") == weird


def test_an_offset_as_the_table_shows_it_finds_its_regions(run, rows_of, child):
    rows = rows_of(run("maps", child.pid, "--bytes").stdout)
    shown = next(row["OFFSET"] for row in rows if len(row["OFFSET"]) > 3 and row["OFFSET"].isdigit())
    found = rows_of(run("maps", child.pid, "--bytes", "--where", f"offset={shown}").stdout)
    assert found == [row for row in rows if row["OFFSET"] == shown]


@pytest.mark.parametrize("where", ["x,file", "rw,size>64K", "kind=heap|stack", "path=*libc*", "!file", "---"])
def test_where_shows_what_the_api_filters(run, rows_of, child, where):
    shown = rows_of(run("maps", child.pid, "--bytes", "--where", where).stdout)
    assert shown == [as_row(region) for region in vmatlas.snapshot(child.pid, where=where)]
    assert shown


def test_two_filters_must_both_hold(run, rows_of, child):
    shown = rows_of(run("maps", child.pid, "--bytes", "--where", "x", "--where", "w").stdout)
    assert shown == [as_row(region) for region in vmatlas.snapshot(child.pid, where="x,w")]


def test_at_shows_the_region_and_exits_with_1_where_there_is_none(run, rows_of, child):
    found = run("maps", child.pid, "--at", hex(child.at["wx"] + 5))
    assert [row["RANGE"].split("-")[0] for row in rows_of(found.stdout)] == [f"{child.at['wx']:x}"]
    assert found.exit_code == 0
    missed = run("maps", child.pid, "--at", "10")
    assert missed.exit_code == 1
    assert "no region covers 0x10" in missed.stderr
    filtered = run("maps", child.pid, "--at", f"{child.at['plain']:x}", "--where", "wx")
    assert (filtered.exit_code, len(filtered.stdout.splitlines())) == (1, 1)
    assert filtered.stderr == f"vmatlas: the region at {child.at['plain']:#x} does not pass the filter\n"


def test_gaps_fill_the_space_between_the_regions(run, child):
    told = json.loads(run("maps", child.pid, "--gaps", "--json").stdout)
    bounds = sorted((line["start"], line["end"]) for line in [*told["regions"], *told["gaps"]])
    assert all(before[1] == after[0] for before, after in itertools.pairwise(bounds))
    assert len(told["gaps"]) == len(list(vmatlas.snapshot(child.pid).gaps()))


def test_gaps_of_a_filtered_map_are_refused(run, child):
    result = run("maps", child.pid, "--gaps", "--where", "x")
    assert result.exit_code == 2
    assert "whole map" in result.stderr


@pytest.mark.parametrize(
    ("order", "key"),
    [
        ("start", lambda region: region["start"]),
        ("size", lambda region: (-region["size"], region["start"])),
        ("resident", lambda region: (-region["resident"], region["start"])),
        ("kind", lambda region: (Kind[region["kind"].upper().replace("-", "_")], region["start"])),
        ("path", lambda region: (not (region["path"] or region["name"]), region["path"] or region["name"] or "")),
    ],
)
def test_sort(run, child, order, key):
    regions = json.loads(run("maps", child.pid, "--sort", order, "--json").stdout)["regions"]
    assert regions == sorted(regions, key=key)
    assert len(regions) == len(vmatlas.snapshot(child.pid))


def test_residency_has_columns_of_its_own(run, rows_of, child):
    rows = rows_of(run("maps", child.pid, "--residency", "--bytes").stdout)
    space = vmatlas.snapshot(child.pid, residency=True)
    assert [row["RESIDENT"] for row in rows] == [str(region.resident) for region in space]
    assert all(int(row["PRIVATE"]) <= int(row["RESIDENT"]) for row in rows)


def test_a_filter_on_residency_asks_for_it(run, child):
    told = json.loads(run("maps", child.pid, "--where", "resident>=4K", "--json").stdout)
    assert told["regions"]
    assert all(region["resident"] >= 4096 for region in told["regions"])


def test_flags_are_shown_by_the_systems_own_names(run, rows_of, child):
    rows = rows_of(run("maps", child.pid, "--residency", "--flags").stdout)
    assert {"rd", "wr", "ex"} <= {flag for row in rows for flag in row["FLAGS"].split(",")}


def test_a_filter_takes_a_name_as_it_is_shown_a_text_a_flag_and_a_number(run, rows_of, child):
    (stack,) = rows_of(run("maps", child.pid, "--where", "name=[stack]").stdout)
    assert stack["NAME"] == "[stack]"
    for text in ("libc", "!text=[stack],libc"):
        assert {"libc" in row["NAME"] for row in rows_of(run("maps", child.pid, "--where", text).stdout)} == {True}
    rows = rows_of(run("maps", child.pid, "--where", "flag=wr,pss>0", "--flags").stdout)
    assert rows
    assert all({"rd", "wr"} <= set(row["FLAGS"].split(",")) and row["RESIDENT"] != "0" for row in rows)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("stak", "did you mean 'stack'"),
        ("flag=lokced", "locked"),
        ("swop>0", "pss"),
        ("foo=bar", "text=TEXT"),
    ],
)
def test_a_filter_that_finds_nothing_for_a_slip_is_refused_with_what_there_is(run, child, text, told):
    result = run("maps", child.pid, "--where", text)
    assert (result.exit_code, result.stdout) == (2, "")
    assert told in result.stderr.splitlines()[1]


def test_build_ids_are_those_of_the_api(run, rows_of, child):
    result = run("maps", child.pid, "--build-ids")
    if result.exit_code == 5:
        pytest.skip(f"no backend here tells build ids: {result.stderr}")
    space = vmatlas.snapshot(child.pid, build_ids=True)
    told = [row["BUILD-ID"] for row in rows_of(result.stdout)]
    assert told == ["-" if region.build_id is None else region.build_id.hex() for region in space]
    assert any(len(each) == 40 for each in told)


def test_a_thread_is_asked_by_its_id(run):
    ready, done = threading.Event(), threading.Event()
    thread = threading.Thread(target=lambda: (ready.set(), done.wait(PATIENCE)))
    thread.start()
    try:
        assert ready.wait(PATIENCE)
        told = json.loads(run("maps", "self", "--thread", thread.native_id, "--json").stdout)
    finally:
        done.set()
        thread.join()
    assert told["thread"] == thread.native_id
    assert told["regions"]


def test_entries_are_the_regions_where_the_kernel_tells_no_finer_ones(run, child):
    whole, entries = run("maps", child.pid, "--bytes"), run("maps", child.pid, "--bytes", "--entries")
    assert entries.stdout == whole.stdout


@pytest.mark.parametrize("backend", ["linux-procfs", "linux-ioctl"])
def test_a_named_backend_answers(run, child, backend):
    result = run("maps", child.pid, "--backend", backend, "--json")
    if result.exit_code == 5:
        pytest.skip(result.stderr)
    assert json.loads(result.stdout)["backend"] == backend


def test_an_incomplete_map_is_warned_of(run, child, monkeypatch):
    import dataclasses

    from vmatlas.target.local import LocalTargetProcess

    acquire = LocalTargetProcess.acquire

    def cut(self, backend, query):
        return dataclasses.replace(acquire(self, backend, query), incomplete="the rest was cut off")

    monkeypatch.setattr(LocalTargetProcess, "acquire", cut)
    result = run("maps", child.pid)
    assert result.exit_code == 0
    assert (
        result.stderr == f"vmatlas: warning: the map of process {child.pid} may lack something: the rest was cut off\n"
    )
