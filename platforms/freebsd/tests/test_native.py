"""The agent's half in C, compiled for this machine under the sanitizers and run against a scripted sysctl."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from errno import E2BIG, ENOTSUP, EPERM, ESRCH
from pathlib import Path

import pytest

from vmatlas_agents.build import COMMON, NATIVE

HERE = Path(__file__).parent
SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1")
IN_PLACE = 4 << 20
"""Bytes of the room that the source has from the start."""
Run = Callable[..., list[str]]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs the source; the lines that it put and its end."""
    if shutil.which("cc") is None:
        pytest.skip("needs a C compiler: apt-get install gcc libc6-dev")
    program = tmp_path_factory.mktemp("native") / "driver"
    sources = [HERE / "native" / "driver.c", HERE.parent / "native" / "vmmap.c"]
    include = [f"-I{HERE / 'native'}", f"-I{NATIVE}"]
    subprocess.run(["cc", *COMMON, *SANITIZERS, *include, "-o", program, *sources], check=True, timeout=120)

    def run(*words: int) -> list[str]:
        done = subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return run


IDENTITY = ["boottime 0 16 0", "proc 0 8 0"]


@pytest.mark.parametrize("size", [144, 147_712, IN_PLACE, 3 * IN_PLACE])
def test_map_comes_whole_with_who_the_process_is_behind_it(ask: Run, size: int) -> None:
    assert ask(46, size) == [f"vmmap 0 {size} {size}", *IDENTITY, "error 0 refused 0 readings 1: "]


def test_map_of_a_process_of_the_kernel_is_empty(ask: Run) -> None:
    assert ask(0, 0)[-1] == "error 0 refused 0 readings 0: "
    assert ask(0, 0)[-3:-1] == IDENTITY


@pytest.mark.parametrize(
    ("size", "growths", "readings"),
    [
        (1000, [IN_PLACE - 1000], 1),  # what is there anyway is room
        (1000, [IN_PLACE, 2 * IN_PLACE - 1000], 2),  # then twice as much
        (6_000_000, [2_000_000], 1),  # a third more
        (6_000_000, [2_000_001, 10_000_000], 2),
        (6_000_000, [3_000_000, 12_000_000, 26_000_000], 3),
    ],
)
def test_growth_between_the_size_and_the_reading(ask: Run, size: int, growths: list[int], readings: int) -> None:
    whole = size + growths[-1]
    assert ask(46, size, *growths) == [
        f"vmmap 0 {whole} {whole}",
        *IDENTITY,
        f"error 0 refused 0 readings {readings}: ",
    ]


def test_map_that_grows_for_ever_is_given_up(ask: Run) -> None:
    """From 4 MiB on, twice as much each time, up to a bound."""
    end = ask(46, 1000, *[300_000_000] * 16)[-1]
    assert end == f"error {E2BIG} refused 0 readings 7: sysctl kern.proc.vmmap of process 46"


def test_size_beyond_all_reason_makes_no_room(ask: Run) -> None:
    assert ask(46, 2**28 + 1)[-1] == f"error {E2BIG} refused 0 readings 0: sysctl kern.proc.vmmap of process 46"


@pytest.mark.parametrize(("pid", "number", "streams"), [(46, EPERM, IDENTITY), (404, ESRCH, IDENTITY[:1])])
def test_refusal_comes_with_what_explains_it(ask: Run, pid: int, number: int, streams: list[str]) -> None:
    assert ask(pid, -number) == [
        *streams,
        f"error {number} refused 0 readings 0: sysctl kern.proc.vmmap of process {pid}",
    ]


def test_thread_and_number_beyond_a_pid_are_refused_by_the_agent(ask: Run) -> None:
    for pid in (99, 2**32 - 1):
        (end,) = ask(pid, 1000)
        assert end.startswith(f"error {ENOTSUP} refused 1 readings 0: the map of a thread")
