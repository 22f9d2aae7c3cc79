"""A large map walked by several threads is what one thread tells, and what the kernel writes as text."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from tests.conftest import offered, without_vsyscall
from vmatlas.threads import LIMIT

REGIONS = 6_000
"""Enough for each of four threads to be given a part more than once."""


@pytest.fixture(scope="module")
def large() -> Iterator[int]:
    """The pid of a process with many regions, a third of them of a file; it stands still."""
    program = Path(__file__).parent / "bench" / "child.py"
    command = [sys.executable, "-I", "-S", program, str(REGIONS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert int(process.stdout.readline()) == REGIONS
        yield process.pid
        process.kill()


@pytest.mark.parametrize("criteria", [{}, {"writable": True}, {"file_backed": True}], ids=["all", "writable", "files"])
def test_threads_tell_what_one_tells(large: int, criteria: dict[str, bool], monkeypatch: pytest.MonkeyPatch) -> None:
    with vmatlas.open(large, backend=offered("linux-ioctl")) as process:
        told = []
        for threads in ("1", "2", "4", "9"):
            monkeypatch.setenv(LIMIT, threads)
            told.append(process.snapshot(**criteria))
        monkeypatch.delenv(LIMIT)
        told.append(process.snapshot(**criteria))
    assert all(space == told[0] for space in told)
    text = without_vsyscall(vmatlas.snapshot(large, backend="linux-procfs", **criteria))
    assert [(region.start, region.end, region.offset, region.path) for region in told[0]] == [
        (region.start, region.end, region.offset, region.path) for region in text
    ]
    assert len(text) > REGIONS // 4


def test_a_wrong_number_of_threads_is_said(large: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LIMIT, "many")
    with (
        vmatlas.open(large, backend=offered("linux-ioctl")) as process,
        pytest.raises(vmatlas.UsageError, match=f"{LIMIT} is 'many'"),
    ):
        process.snapshot()


def test_build_ids_are_asked_for_by_several_threads_at_once() -> None:
    """Each has a child that asks, and ends it: no other thread waits for that child, whose number may be reused."""
    offered("linux-ioctl")
    errors: list[BaseException] = []

    def ask(pid: int) -> None:
        try:
            for _ in range(15):
                vmatlas.snapshot(pid, backend="linux-ioctl", build_ids=True)
        except BaseException as error:
            errors.append(error)

    with subprocess.Popen(["sleep", "3600"]) as still:
        threads = [threading.Thread(target=ask, args=[still.pid]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        still.kill()
    assert errors == []
