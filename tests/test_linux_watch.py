"""Watching a process: what changes is told once, what does not costs no reading of it, and the watch ends by itself."""

from __future__ import annotations

import json
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import vmatlas
from vmatlas import ProcessInfo, compiled
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import UsageError
from vmatlas.survey import survey

VMATLAS = [sys.executable, "-c", "import sys; from vmatlas.cli import main; sys.exit(main())"]
MAPPER = """
import mmap, sys
kept = []
print("ready", flush=True)
for line in sys.stdin:
    kept.append(mmap.mmap(-1, int(line), prot=mmap.PROT_READ))
    print("mapped", flush=True)
"""
SIZE = 1_234 * 4096


class Mapper:
    """A process that maps memory of a size when told to."""

    def __init__(self) -> None:
        command = [sys.executable, "-I", "-S", "-c", MAPPER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.hear()

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline()

    def map(self, size: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{size}\n")
        self.process.stdin.flush()
        assert self.hear() == "mapped\n"


@pytest.fixture
def mapper() -> Iterator[Mapper]:
    made = Mapper()
    yield made
    made.process.kill()
    made.process.communicate()


def test_what_is_mapped_between_two_looks_is_told_once(mapper: Mapper, backend: str):
    looks = iter([lambda: None, lambda: mapper.map(SIZE), lambda: None, mapper.process.kill, mapper.process.wait])
    with vmatlas.open(mapper.process, backend=backend) as process:
        changes = list(process.watch(0, wait=lambda _: next(looks, lambda: None)()))
    mapped = [difference for difference in changes if difference.growth == SIZE]
    assert len(mapped) == 1
    assert len(changes) <= 2  # the interpreter may take memory of its own for the line


def test_a_map_that_does_not_change_is_never_read_again(mapper: Mapper, monkeypatch: pytest.MonkeyPatch):
    if not compiled.twin("vmatlas_linux_procfs._native").serves:
        pytest.skip("the compiled twin, which compares, does not serve here")
    import vmatlas_linux_procfs.acquire

    acquired = 0
    real = vmatlas_linux_procfs.acquire.acquire

    def counting(*arguments):
        nonlocal acquired
        acquired += 1
        return real(*arguments)

    monkeypatch.setattr(vmatlas_linux_procfs.acquire, "acquire", counting)
    looks = 0

    def look(_: float) -> None:
        nonlocal looks
        looks += 1
        if looks == 100:
            raise TimeoutError

    with vmatlas.open(mapper.process, backend="linux-procfs") as process, pytest.raises(TimeoutError):
        list(process.watch(0, wait=look))
    assert acquired == 1


@pytest.mark.parametrize("interval", [-1, float("nan"), float("inf")])
def test_an_interval_that_is_none_is_refused_at_once(interval: float):
    with vmatlas.open() as process, pytest.raises(UsageError, match="no interval"):
        process.watch(interval)


@contextmanager
def watching(mapper: Mapper, *options: str) -> Iterator[subprocess.Popen[str]]:
    command = [*VMATLAS, "watch", str(mapper.process.pid), "--interval", "0.02", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        try:
            yield watch
        finally:
            watch.kill()


def test_watch_prints_a_line_of_json_for_each_time(mapper: Mapper):
    with watching(mapper, "--json", "--count", "1", "--for", str(PATIENCE)) as watch:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            mapper.map(SIZE)
            try:
                watch.wait(0.1)
                break
            except subprocess.TimeoutExpired:
                continue
        output, errors = watch.communicate(timeout=PATIENCE)
    assert (watch.returncode, errors) == (0, "")
    (line,) = output.splitlines()
    assert any(change["kind"] in ("added", "grown") for change in json.loads(line)["changes"])


def test_watch_ends_with_the_process_and_says_so(mapper: Mapper):
    with watching(mapper) as watch:
        mapper.map(SIZE)
        mapper.process.kill()
        mapper.process.wait()
        _, errors = watch.communicate(timeout=PATIENCE)
    if watch.returncode == 3:  # it was gone before the first look
        assert "no process" in errors or "has ended" in errors
    else:
        assert (watch.returncode, errors) == (0, f"vmatlas: process {mapper.process.pid} has ended\n")


def test_watch_ends_cleanly_when_interrupted(mapper: Mapper):
    with watching(mapper, "--json") as watch:
        assert watch.stdout is not None
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:  # it watches as soon as it shows something
            mapper.map(SIZE)
            if select.select([watch.stdout], [], [], 0.1)[0]:
                break
        watch.send_signal(signal.SIGINT)
        _, errors = watch.communicate(timeout=PATIENCE)
    assert (watch.returncode, errors) == (0, "")


def test_watch_ends_after_the_time_that_was_given(mapper: Mapper):
    with watching(mapper, "--for", "0.1") as watch:
        output, errors = watch.communicate(timeout=PATIENCE)
    assert (watch.returncode, errors) == (0, "")
    assert output == "" or "process" not in errors


@pytest.mark.parametrize("threads", [1, 3])
def test_a_survey_asks_every_process_once_in_order(mapper: Mapper, threads: int):
    def count(process: vmatlas.Process) -> int:
        return len(process.snapshot())

    answers = list(survey(count, threads=threads))
    pids = [each.process.pid for each in answers]
    first = pids[: answers[0].count]  # then those that came meanwhile, where others had ended
    assert first == sorted(set(first))
    assert mapper.process.pid in first
    assert [each.number for each in answers] == list(range(1, len(answers) + 1))
    assert all((each.answer is None) is (each.error is not None) for each in answers)


def test_a_survey_that_is_left_early_leaves_no_thread_behind():
    before = set(threading.enumerate())
    for process, _ in vmatlas.snapshots(threads=4):
        assert isinstance(process, ProcessInfo)
        break
    begun = set(threading.enumerate()) - before
    for thread in begun:
        thread.join(PATIENCE)
    assert not [thread for thread in begun if thread.is_alive()]
