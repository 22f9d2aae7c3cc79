"""A process that ends in each step of a question: the answer is whole, or says that the process has ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from types import FrameType

import pytest

import vmatlas
from vmatlas.errors import NoSuchProcess

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it counts what is asked of /proc")

ASKS = {"open", "read", "readv", "pread", "preadv", "stat", "fstat", "readlink", "listdir", "scandir", "lseek", "ioctl"}
TWINS = {"read", "rollups", "asker", "walk", "unlisted"}


def memories_by(what: str) -> Callable[[int], object]:
    def ask(pid: int) -> object:
        found = list(vmatlas.memories(among=vmatlas.select(pid)))
        for each in found:
            assert each.error is None or isinstance(each.error, NoSuchProcess), each.error
            assert (each.error is None) is (each.memory is not None)
        return vmatlas.group_memories(found, what)

    return ask


QUESTIONS: dict[str, Callable[[int], object]] = {
    "map": vmatlas.snapshot,
    "map with memory in use": lambda pid: vmatlas.snapshot(pid, residency=True),
    "map with threads": lambda pid: vmatlas.name_regions(vmatlas.snapshot(pid, threads=True)),
    "capture": lambda pid: vmatlas.replay(vmatlas.capture(pid, residency=True)),
    "address": lambda pid: vmatlas.find(pid, 0x1000, or_next=True),
    "totals": vmatlas.memory,
    "cgroup's counters": lambda pid: vmatlas.cgroup_memories(vmatlas.select(pid)),
    **{f"totals by {what}": memories_by(what) for what in ("program", "container")},
}


def dies_at(step: int, reaped: bool, ask: Callable[[int], object]) -> bool:
    """Ask about a process that ends just before the step of this number; whether there was such a step."""
    with subprocess.Popen(["sleep", "3600"]) as process:
        left = step
        one_at_a_time = threading.Lock()

        def count(frame: FrameType, event: str, called: object) -> None:
            nonlocal left
            if event != "c_call" or getattr(called, "__name__", "") not in ASKS | TWINS:
                return
            with one_at_a_time:
                left -= 1
                if left == -1:
                    process.kill()
                    # Not waited for, it stays as a zombie.
                    os.waitid(os.P_PID, process.pid, os.WEXITED | (0 if reaped else os.WNOWAIT))

        threading.setprofile(count)  # of those that a survey starts
        sys.setprofile(count)
        try:
            ask(process.pid)
        except NoSuchProcess:
            pass
        finally:
            sys.setprofile(None)
            threading.setprofile(None)
            process.kill()
    return left < 0


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "zombie"])
@pytest.mark.parametrize("question", QUESTIONS)
def test_a_process_that_ends_in_any_step_is_told_as_ended_or_told_whole(question: str, reaped: bool) -> None:
    ask = QUESTIONS[question]
    dies_at(10**9, reaped, ask)  # what is found out once
    steps = 0
    while dies_at(steps, reaped, ask):
        steps += 1
        assert steps < 2000, "it asks without end"
    assert steps > 0, "the steps are counted"
