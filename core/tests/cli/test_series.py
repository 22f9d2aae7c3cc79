"""`record --every`, and the moments of a series wherever a capture is taken."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import vmatlas
from vmatlas.cli.exits import Exit
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import NoSuchProcess, UsageError
from vmatlas.model import Query
from vmatlas.series.reader import Series

SIZE = 1 << 20
GROWS = f"""
import mmap, sys
room = mmap.mmap(-1, 64 << 20, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
print("there", flush=True)
for number, _ in enumerate(sys.stdin):
    for place in range(number * {SIZE}, (number + 1) * {SIZE}, 4096):
        room[place] = 1
    print("grown", flush=True)
"""


class Growing:
    """A process that touches another MiB when it is told to."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", GROWS]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid
        assert self.process.stdout is not None and self.process.stdout.readline() == "there\n"

    def grow(self, *_: object) -> None:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "grown\n"

    def end(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def growing():
    made = Growing()
    yield made
    made.end()
    made.process.communicate()


@pytest.fixture
def leak(growing, tmp_path) -> Path:
    """Five moments, between which it grew by a MiB, the last two the same."""
    file = tmp_path / "leak.vmatlas"
    steps = iter([growing.grow, growing.grow, growing.grow, lambda _: None])
    for moment in vmatlas.record_series(growing.pid, file, 0, wait=lambda pause: next(steps)(pause)):
        if moment.number == 5:
            break
    return file


def held(space: vmatlas.AddressSpace) -> int:
    return space.where("size>=64M").memory.use.anonymous or 0


def test_each_moment_is_told_once_it_is_in_the_file(growing, tmp_path):
    file = tmp_path / "x.vmatlas"
    seen = []
    for moment in vmatlas.record_series(growing.pid, file, 0, wait=growing.grow):
        with Series.open(file) as series:
            seen.append(held(vmatlas.replay(series[-1])))
            assert len(series) == moment.number == len(seen)
        if moment.number == 3:
            break
    assert seen == [0, SIZE, 2 * SIZE]


def test_a_series_ends_with_the_process_and_one_of_nobody_leaves_no_file(growing, tmp_path):
    file = tmp_path / "x.vmatlas"
    assert len(list(vmatlas.record_series(growing.pid, file, 0, wait=growing.end))) == 1
    with pytest.raises(NoSuchProcess):
        next(vmatlas.record_series(growing.pid, tmp_path / "y.vmatlas", 0))
    assert not (tmp_path / "y.vmatlas").exists()


def test_moments_are_as_far_apart_as_was_said_and_none_is_made_up_for(growing, tmp_path, monkeypatch):
    clock, taken = [1000.0], []
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    real = vmatlas.Process.capture

    def slow(process, **how):
        taken.append(clock[0])
        clock[0] += 25 if len(taken) == 3 else 1
        return real(process, **how)

    monkeypatch.setattr(vmatlas.Process, "capture", slow)

    def wait(pause: float) -> None:
        clock[0] += pause

    list(vmatlas.record_series(growing.pid, tmp_path / "x.vmatlas", 10, seconds=70, wait=wait))
    assert taken == [1000, 1010, 1020, 1050, 1060, 1070]
    assert clock[0] <= 1071


@pytest.mark.parametrize(("every", "seconds", "moments"), [(10, 25, 4), (10, 20, 3), (60, 5, 2), (1, 0, 1), (0, 0, 1)])
def test_the_end_has_a_moment_as_well(growing, tmp_path, monkeypatch, every, seconds, moments):
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])

    def wait(pause: float) -> None:
        clock[0] += pause

    told = list(vmatlas.record_series(growing.pid, tmp_path / "x.vmatlas", every, seconds=seconds, wait=wait))
    assert len(told) == moments and told[-1].elapsed == seconds


@pytest.mark.parametrize("every", [-1, float("nan"), float("inf"), "10"])
def test_what_is_no_interval_is_refused(growing, tmp_path, every):
    with pytest.raises(UsageError, match="no interval"):
        next(vmatlas.record_series(growing.pid, tmp_path / "x", every))


def test_a_series_replays_as_the_captures_that_it_was_made_of(growing, tmp_path):
    taken = []
    with vmatlas.open(growing.pid) as process:
        from vmatlas.recording import recorded

        def take() -> vmatlas.Capture:
            taken.append(process.capture(residency=True))
            return taken[-1]

        steps = iter([growing.grow, lambda _: None, growing.grow])
        for _ in recorded(take, tmp_path / "x.vmatlas", None, 0, wait=lambda pause: next(steps)(pause)):
            if len(taken) == 4:
                break
    with Series.open(tmp_path / "x.vmatlas") as series:
        assert list(series) == taken
        assert all(each.query == Query(residency=True) for each in series)


def test_a_moment_is_named_wherever_a_capture_is_taken(run, leak):
    with Series.open(leak) as series:
        spaces = [vmatlas.replay(each) for each in series]
    assert [held(each) // SIZE for each in spaces] == [0, 1, 2, 3, 3]
    for moment, index in (("", 4), ("@last", 4), ("@#2", 1), ("@first", 0), ("@+0", 0)):
        told = json.loads(run("replay", f"{leak}{moment}", "--json", "--where", "size>=64M").stdout)
        assert told["regions"][0]["details"]["Rss"] == index * 0 + held(spaces[index])
    summary = json.loads(run("summary", f"{leak}@#3", "--residency", "--json").stdout)
    assert summary["time"] == spaces[2].time
    assert run("audit", f"{leak}@#3").exit_code in (Exit.OK, Exit.FOUND)
    done = run("diff", f"{leak}@#1", f"{leak}@#4", "--json", "--where", "size>=64M")
    assert done.exit_code == Exit.FOUND
    assert json.loads(done.stdout)["changes"][0]["memory"]["anonymous"] == 3 * SIZE
    assert run("diff", f"{leak}@#4", f"{leak}@#5", "--where", "size>=64M").exit_code == Exit.OK
    assert vmatlas.replay(leak) == spaces[-1]


def test_a_file_that_is_really_called_so_is_that_file(run, leak):
    other = leak.with_name("leak.vmatlas@#2")
    os.rename(leak, other)
    assert json.loads(run("replay", other, "--json").stdout)["regions"]
    (moment,) = json.loads(run("replay", f"{other}@#2", "--json", "--where", "size>=64M").stdout)["regions"]
    assert moment["details"]["Anonymous"] == SIZE


def test_moments_are_listed(run, rows_of, leak):
    rows = rows_of(run("replay", leak, "--moments").stdout)
    assert [row["MOMENT"] for row in rows] == ["#1", "#2", "#3", "#4", "#5"]
    assert rows[0]["ELAPSED"] == "+0.0s"
    told = json.loads(run("replay", leak, "--moments", "--json").stdout)
    assert told["incomplete"] is None and len(told["moments"]) == 5
    assert sum(each["size"] for each in told["moments"]) < leak.stat().st_size
    assert [row["number"] for row in csv.DictReader(io.StringIO(run("replay", leak, "--moments", "--csv").stdout))] == [
        *"12345"
    ]


def test_a_cut_series_is_read_with_a_warning(run, leak):
    leak.write_bytes(leak.read_bytes()[:-5])
    done = run("replay", leak, "--moments", "--json")
    assert len(json.loads(done.stdout)["moments"]) == 4
    assert "warning" in done.stderr and "cut off within its last moment" in done.stderr


@pytest.mark.parametrize("moment", ["@#9", "@+9h", "@noon", "@1999-01-01T00:00"])
def test_a_moment_that_there_is_not_is_a_matter_of_usage(run, leak, moment):
    assert run("replay", f"{leak}{moment}").exit_code == Exit.USAGE


def test_a_single_capture_has_no_moments(run, growing, tmp_path):
    file = tmp_path / "one.vmatlas"
    assert run("record", growing.pid, "-o", file).exit_code == Exit.OK
    for asked in ([f"{file}@#1"], [file, "--moments"]):
        done = run("replay", *asked)
        assert done.exit_code == Exit.USAGE and "is a single capture" in done.stderr
    assert run("replay", f"{tmp_path}/none@#1").exit_code == Exit.FAILED


def test_a_series_comes_on_standard_input(start, leak):
    with open(leak, "rb") as stdin:
        done = start("replay", "--json", "--where", "size>=64M", "--", "-@#2", stdin=stdin)
        output, errors = done.communicate(timeout=PATIENCE)
    assert json.loads(output)["regions"][0]["details"]["Anonymous"] == SIZE, errors


def moments_of(file: Path) -> int:
    try:
        with Series.open(file) as series:
            return len(series)
    except (OSError, vmatlas.MalformedData):  # not begun
        return 0


def timed(monkeypatch, module: str, pause) -> None:
    """Lets time pass for what is done again and again there, in its pauses alone, in which something happens."""
    clock = [0.0]

    def sleep(seconds: float) -> None:
        clock[0] += seconds
        pause()

    monkeypatch.setattr(f"{module}.time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))


def until(file: Path, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while moments_of(file) < count:
        assert time.monotonic() < deadline, "nothing is recorded"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_what_was_recorded_stays_however_it_ends(start, run, growing, tmp_path, how):
    file = tmp_path / "x.vmatlas"
    recording = start("record", growing.pid, "--every", "0.02s", "-o", file)
    until(file, 3)
    assert run("record", growing.pid, "--every", "1", "--append", "-o", file).exit_code == Exit.USAGE  # two writers
    recording.send_signal(how)
    output, errors = recording.communicate(timeout=PATIENCE)
    count = moments_of(file)
    assert count >= 3
    if how != signal.SIGKILL:
        assert (recording.returncode, errors) == (Exit.OK, b"")
        assert f"{file}: process {growing.pid}, {count} moments in " in output.decode()
    done = run("record", growing.pid, "--every", "1", "--for", "0", "--append", "-o", file)
    assert done.exit_code == Exit.OK, done.stderr
    assert moments_of(file) == count + 1


def test_a_recording_ends_with_the_process(start, growing, tmp_path):
    file = tmp_path / "x.vmatlas"
    recording = start("record", growing.pid, "--every", "0.02", "-o", file)
    until(file, 1)
    growing.end()
    _, errors = recording.communicate(timeout=PATIENCE)
    assert (recording.returncode, errors.decode()) == (Exit.OK, f"vmatlas: process {growing.pid} has ended\n")


def test_of_several_each_has_a_file_and_everybody_a_moment_in_each_round(run, growing, tmp_path, monkeypatch):
    other = Growing()
    rounds = [0]

    def pause() -> None:
        rounds[0] += 1
        growing.grow()
        if rounds[0] == 3:
            other.end()

    timed(monkeypatch, "vmatlas.cli.looking", pause)
    folder = tmp_path / "new"
    try:
        words = "record", f"pid:{growing.pid}", f"pid:{other.pid}", "--every", "10s", "--for", "60s", "-o", f"{folder}/"
        done = run(*words)
        assert done.exit_code == Exit.OK, done.stderr
        assert f"process {other.pid} (python" in done.stderr and "has ended" in done.stderr
        files = [folder / f"{each.pid}.vmatlas" for each in (growing, other)]
        assert sorted(folder.iterdir()) == sorted(files)
        assert (moments_of(files[0]), moments_of(files[1])) == (7, 3)
        assert [line.split(": ")[0] for line in done.stdout.splitlines()] == [str(file) for file in files]
        with Series.open(files[0]) as ours, Series.open(files[1]) as theirs:
            assert [each.elapsed for each in theirs.moments] == [each.elapsed for each in ours.moments[:3]]
        again = run(*words)
        assert again.exit_code == Exit.USAGE and "exists already" in again.stderr
    finally:
        other.end()
        other.process.communicate()


def test_the_next_recording_of_several_goes_on_and_leaves_out_what_is_of_another(run, growing, leak, tmp_path):
    other, third = Growing(), Growing()
    try:
        (tmp_path / f"{other.pid}.vmatlas").write_bytes(leak.read_bytes())
        words = ["record", *(f"pid:{each.pid}" for each in (growing, other, third)), "-o", f"{tmp_path}/", "--append"]
        for moments in (2, 4):
            done = run(*words, "--every", "60", "--for", "0.01")
            assert done.exit_code == Exit.INCOMPLETE and "2 processes read, 1 not" in done.stderr
            assert f"is of another process: pid {growing.pid}" in done.stderr
            assert moments_of(tmp_path / f"{growing.pid}.vmatlas") == moments
            assert moments_of(tmp_path / f"{third.pid}.vmatlas") == moments
    finally:
        for each in (other, third):
            each.end()
            each.process.communicate()


def test_what_was_recorded_of_several_stays_at_ctrl_c(start, growing, tmp_path):
    other = Growing()
    try:
        recording = start(
            *("record", f"pid:{growing.pid}", f"pid:{other.pid}"), "--every", "0.02", "-o", f"{tmp_path}/"
        )
        files = [tmp_path / f"{each.pid}.vmatlas" for each in (growing, other)]
        for file in files:
            until(file, 3)
        recording.send_signal(signal.SIGINT)
        output, errors = recording.communicate(timeout=PATIENCE)
    finally:
        other.end()
        other.process.communicate()
    assert (recording.returncode, errors) == (Exit.OK, b"")
    for file in files:
        assert f"{file}: process {file.stem}, {moments_of(file)} moments in " in output.decode()


def test_another_process_is_not_appended(run, growing, leak):
    other = Growing()
    try:
        done = run("record", other.pid, "--every", "1", "--append", "-o", leak)
    finally:
        other.end()
        other.process.communicate()
    assert done.exit_code == Exit.USAGE and f"is of another process: pid {growing.pid}" in done.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--for", "1h"], "goes with --every"),
        (["--append"], "goes with --every"),
        (["--every", "1x"], "no length of time"),
        (["--every", "1", "--append", "--force"], "exclude each other"),
        (["--every", "9000d"], "no interval"),
    ],
)
def test_options_that_do_not_go_together_are_refused(run, growing, tmp_path, options, words):
    done = run("record", growing.pid, *options, "-o", tmp_path / "x.vmatlas")
    assert done.exit_code == Exit.USAGE and words in done.stderr
    assert run("record", growing.pid, "--every", "1", "-o", "-").exit_code == Exit.USAGE


def test_a_series_is_not_written_over_unasked(run, growing, leak):
    before = leak.read_bytes()
    done = run("record", growing.pid, "--every", "1", "--for", "0", "-o", leak)
    assert done.exit_code == Exit.USAGE and "exists already" in done.stderr and leak.read_bytes() == before
    assert run("record", growing.pid, "--every", "1", "--for", "0", "--force", "-o", leak).exit_code == Exit.OK
    assert moments_of(leak) == 1


def test_a_full_disk_keeps_what_was_recorded(start, run, growing, tmp_path):
    resource = pytest.importorskip("resource")
    file = tmp_path / "x.vmatlas"
    run("record", growing.pid, "--every", "1", "--for", "0", "-o", tmp_path / "first.vmatlas")
    most = (tmp_path / "first.vmatlas").stat().st_size + 2000
    limit = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (most, most))
    recording = start("record", growing.pid, "--every", "0.01", "-o", file, preexec_fn=limit)
    for _ in range(60):
        if recording.poll() is not None:
            break
        growing.grow()
        time.sleep(0.01)
    output, errors = recording.communicate(timeout=PATIENCE)
    assert recording.returncode == Exit.FAILED and b"too large" in errors
    count = moments_of(file)
    assert f"{count} moments".encode() in output and file.stat().st_size <= most
    with Series.open(file) as series:
        assert series.incomplete is None


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_recording_that_ends_before_its_first_moment_tells_by_what(start, growing, tmp_path, how):
    program = tmp_path / "agent"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\nexec sleep 600\n")
    program.chmod(0o755)
    recording = start(
        "record", growing.pid, "--every", "1", "-o", tmp_path / "x.vmatlas", "--target", f"agent:{program}"
    )
    deadline = time.monotonic() + PATIENCE
    while not (tmp_path / "pid").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    recording.send_signal(how)
    _, errors = recording.communicate(timeout=PATIENCE)
    assert (recording.returncode, errors) == (128 + how, b"")
    assert not (tmp_path / "x.vmatlas").exists()
