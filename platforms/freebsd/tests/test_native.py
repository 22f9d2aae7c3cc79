"""The agent's half in C, compiled for this machine under the sanitizers and run against a scripted sysctl."""

from __future__ import annotations

from errno import E2BIG, ENOTSUP, EPERM, EPIPE, ESRCH
from pathlib import Path

import pytest

from vmatlas.conformance.scripted_kernel import Asked, ScriptedKernel

HERE = Path(__file__).parent
IN_PLACE = 4 << 20
"""Bytes of the room that the source has from the start."""
BOOT_TIME = {"boottime": b"\x07" * 16}
IDENTITY = BOOT_TIME | {"proc": b"\x09" * 8}
FAILED = "sysctl kern.proc.vmmap of process 46"


@pytest.fixture(scope="module")
def kernel(tmp_path_factory: pytest.TempPathFactory) -> ScriptedKernel:
    folder = tmp_path_factory.mktemp("native")
    return ScriptedKernel(folder, HERE / "native" / "driver.c", HERE.parent / "native" / "vmmap.c")


def check_answer(asked: Asked, size: int, readings: int) -> None:
    """The map, whole, and behind it who the process is."""
    assert asked.streams == {"vmmap": b"m" * size} | IDENTITY
    assert list(asked.streams) == ["vmmap", "boottime", "proc"]
    assert (asked.error, asked.refused, asked.failed, len(asked.calls)) == (0, False, "", readings)


@pytest.mark.parametrize("size", [144, 147_712, IN_PLACE, 3 * IN_PLACE])
def test_map_comes_whole_with_who_the_process_is_behind_it(kernel: ScriptedKernel, size: int) -> None:
    check_answer(kernel.ask(46, size=size), size, 1)


def test_map_of_a_process_of_the_kernel_is_empty(kernel: ScriptedKernel) -> None:
    check_answer(kernel.ask(0, size=0), 0, 0)


@pytest.mark.parametrize(
    ("size", "growth", "readings"),
    [
        (1000, [IN_PLACE - 1000], 1),  # what is there anyway is room
        (1000, [IN_PLACE, 2 * IN_PLACE - 1000], 2),  # then twice as much
        (6_000_000, [2_000_000], 1),  # a third more
        (6_000_000, [2_000_001, 10_000_000], 2),
        (6_000_000, [3_000_000, 12_000_000, 26_000_000], 3),
    ],
)
def test_growth_between_the_size_and_the_reading(
    kernel: ScriptedKernel, size: int, growth: list[int], readings: int
) -> None:
    check_answer(kernel.ask(46, size=size, growth=growth), size + growth[-1], readings)


def test_map_that_grows_for_ever_is_given_up(kernel: ScriptedKernel) -> None:
    """From 4 MiB on, twice as much each time, up to a bound."""
    asked = kernel.ask(46, size=1000, growth=[300_000_000] * 16)
    rooms = [f"reading {IN_PLACE << doubled}" for doubled in range(7)]
    assert asked == Asked(IDENTITY, E2BIG, False, FAILED, rooms)


def test_size_beyond_all_reason_makes_no_room(kernel: ScriptedKernel) -> None:
    assert kernel.ask(46, size=2**28 + 1) == Asked(IDENTITY, E2BIG, False, FAILED, [])


@pytest.mark.parametrize("puts", [0, 1, 2])
def test_source_stops_when_nobody_takes_what_it_puts(kernel: ScriptedKernel, puts: int) -> None:
    asked = kernel.ask(46, size=3 * IN_PLACE, puts=puts)
    assert (asked.error, list(asked.streams)) == (EPIPE, ["vmmap", "boottime", "proc"][:puts])


@pytest.mark.parametrize(("number", "gone", "streams"), [(EPERM, 0, IDENTITY), (ESRCH, 1, BOOT_TIME)])
def test_refusal_comes_with_what_explains_it(
    kernel: ScriptedKernel, number: int, gone: int, streams: dict[str, bytes]
) -> None:
    assert kernel.ask(46, size=-number, gone=gone) == Asked(streams, number, False, FAILED, [])


def test_thread_and_number_beyond_a_pid_are_refused_by_the_agent(kernel: ScriptedKernel) -> None:
    for asked in (kernel.ask(46, tid=1), kernel.ask(2**32 - 1)):
        assert asked[:3] == ({}, ENOTSUP, True)
        assert asked.failed.startswith("the map of a thread")
        assert asked.calls == []
