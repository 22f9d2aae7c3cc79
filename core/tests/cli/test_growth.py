"""`diff` and `watch` of memory that fills: single regions, groups, order, filters, CSV."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from vmatlas.cli.exits import Exit
from vmatlas.conformance.patience import PATIENCE

SIZE = 21 << 20
GROWS = f"""
import mmap, sys
# Executable, so that the kernel never joins it to what Python maps beside it.
room = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
print("there", flush=True)
for row in range(0, {SIZE} if sys.stdin.readline() else 0, 4096):
    room[row] = 1
print("grown", flush=True)
for row, _ in zip(range({SIZE}, len(room), 65536), sys.stdin):
    room[row] = 1
    print("grown", flush=True)
"""


@pytest.fixture
def growing() -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GROWS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "there\n"
        yield process
        process.kill()


@pytest.fixture
def recorded(growing, run, tmp_path) -> tuple[object, object]:
    """A process before and after it touched 21 MB of a region that it had."""
    files = tmp_path / "before.vmatlas", tmp_path / "after.vmatlas"
    assert run("record", growing.pid, "--residency", "-o", files[0]).exit_code == 0
    assert growing.stdin is not None and growing.stdout is not None
    growing.stdin.write("\n")
    growing.stdin.flush()
    assert growing.stdout.readline() == "grown\n"
    assert run("record", growing.pid, "--residency", "-o", files[1]).exit_code == 0
    return files


def test_the_region_that_fills_is_told_with_how_much(run, rows_of, recorded):
    done = run("diff", *recorded, "--sort", "memory", "--bytes")
    assert done.exit_code == Exit.FOUND
    first = rows_of(done.stdout)[0]
    assert (first["CHANGE"], first["GROWTH"], first["KIND"]) == ("filled", "0", "anonymous")
    assert int(first["MEMORY"]) >= SIZE
    assert run("diff", *recorded, "--where", "heap,size>1G").stdout.strip().splitlines()[1:] == []
    assert run("diff", *recorded, "--where", "heap,size>1G").exit_code == 0


@pytest.mark.parametrize(("by", "key"), [("kind", "anonymous"), ("use", "data"), ("name", "-")])
def test_what_grows_most_is_the_first_line(run, rows_of, recorded, by, key):
    rows = rows_of(run("diff", *recorded, "--by", by, "--bytes").stdout)
    assert rows[0][by.upper()] == key and int(rows[0]["MEMORY"]) >= SIZE
    assert rows[-1][by.upper()] == "* total" and int(rows[-1]["MEMORY"]) >= SIZE


def test_json_and_csv_have_every_number_that_was_gained(run, recorded):
    told = json.loads(run("diff", *recorded, "--by", "kind", "--json").stdout)
    assert told["memory"]["anonymous"] >= SIZE
    assert max(each["memory"]["anonymous"] for each in told["changes"]) >= SIZE
    assert told["by"] == "kind" and told["groups"][0]["memory"]["anonymous"] >= SIZE
    rows = list(csv.DictReader(io.StringIO(run("diff", *recorded, "--csv").stdout)))
    assert max(int(row["memory.anonymous"]) for row in rows) >= SIZE
    groups = list(csv.DictReader(io.StringIO(run("diff", *recorded, "--by", "kind", "--csv").stdout)))
    assert groups[0]["kind"] == "anonymous" and int(groups[0]["memory.anonymous"]) >= SIZE
    assert run("diff", *recorded, "--csv", "--json").exit_code == Exit.USAGE


def test_a_watch_sees_memory_fill_without_being_asked_to(growing, run):
    """What fills it goes on until the watch, whose first look may come late, has seen it."""
    seen = threading.Event()
    fills = threading.Thread(target=_fill, args=(growing, seen))
    fills.start()
    try:
        done = run(
            "watch", growing.pid, "--interval", "0.05", "--count", "1", "--for", str(PATIENCE), "--where", "size>=64M"
        )
    finally:
        seen.set()
        fills.join()
    assert done.exit_code == Exit.OK
    row = done.stdout.splitlines()[1].split()
    assert row[1] == "filled" and row[6] != "0", done.stdout


@pytest.mark.parametrize("by", [(), ("--by", "kind")])
def test_a_watch_in_csv_is_one_table_with_the_time_in_each_row(growing, start, by):
    watch = start(
        *("watch", growing.pid, "--interval", "0.02", "--count", "2", "--for", PATIENCE, "--where", "size>=64M"),
        *(*by, "--csv"),
    )
    seen = threading.Event()
    fills = threading.Thread(target=_fill, args=(growing, seen))
    fills.start()
    try:
        output, errors = watch.communicate(timeout=2 * PATIENCE)
    finally:
        seen.set()
        fills.join()
    assert (watch.returncode, errors) == (Exit.OK, b"")
    rows = list(csv.DictReader(io.StringIO(output.decode())))
    assert len(rows) >= 2 and len({row["time"] for row in rows}) == 2, output
    assert all(float(row["time"]) > 1e9 and int(row["memory.anonymous"]) > 0 for row in rows)


def test_a_watch_has_one_form(growing, run):
    assert run("watch", growing.pid, "--csv", "--json").exit_code == Exit.USAGE


def _fill(process: subprocess.Popen[str], seen: threading.Event) -> None:
    assert process.stdin is not None and process.stdout is not None
    for _ in range(600):
        process.stdin.write("\n")
        process.stdin.flush()
        if process.stdout.readline() != "grown\n" or seen.wait(0.05):
            return
