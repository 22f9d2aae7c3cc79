"""A process that reads its own map does not see the memory that the reading made; its parent, from outside, is the
oracle, before and after."""

from __future__ import annotations

import json
import mmap

import pytest

import vmatlas
from tests.conftest import Start
from vmatlas.conformance.thorough import THOROUGH

Seen = tuple[int, int, str, str]


def from_outside(pid: int, backend: str) -> set[Seen]:
    space = vmatlas.snapshot(pid, backend=backend)
    return {(region.start, region.end, region.permissions, region.label) for region in space}


def reported(answer: str) -> list[Seen]:
    return [(start, end, permissions, label) for start, end, permissions, label in json.loads(answer)]


def uncovered(regions: set[Seen], known: set[Seen]) -> list[Seen]:
    """The regions that are not from end to end such as was known, in whatever pieces: what came and stayed, and what
    it was joined to, is the program's own, whose heap grows while it reads."""
    left = []
    for region in regions:
        at, end = region[:2]
        for known_start, known_end, *rest in sorted(known):
            if known_start <= at < known_end and rest == list(region[2:]):
                at = known_end
        if at < end:
            left.append(region)
    return left


@pytest.mark.parametrize("count", [10, 1_000, 60_000 if THOROUGH else 12_000])
@pytest.mark.parametrize("how", ["maps", "smaps", "iterate"])
def test_self_reading_sees_nothing_that_the_reading_made(start: Start, backend: str, how: str, count: int) -> None:
    if backend == "linux-ioctl" and how == "smaps":
        pytest.skip("the ioctl tells no residency")
    program = start("self_reader", count, backend)
    assert program.hear() == "ready"
    before = from_outside(program.pid, backend)
    inside = reported(program.tell(f"read {backend} {how}"))
    after = from_outside(program.pid, backend)
    assert len(inside) == len(set(inside)) >= count
    assert not (before & after) - set(inside)
    if how == "iterate":  # pieces come at different times, and the caller keeps those that came: that is its own memory
        assert not [region for region in inside if "vmatlas-scratch" in region[3]]
    else:
        assert not uncovered(set(inside) - before - after, before | after)


def test_self_reading_does_not_see_what_another_thread_s_reading_made(start: Start, backend: str) -> None:
    program = start("self_reader", 1000, backend)
    assert program.hear() == "ready"
    seen = reported(program.tell(f"two-threads {backend}"))
    assert not [region for region in seen if "vmatlas-scratch" in region[3]]


def test_self_reading_leaves_nothing_behind(start: Start, backend: str) -> None:
    program = start("self_reader", 1000, backend)
    program.hear()
    program.tell(f"read {backend} maps")
    assert not [region for region in from_outside(program.pid, backend) if "vmatlas-scratch" in region[3]]


def test_self_reading_of_what_passes_a_filter_goes_on_above_its_own_memory(
    backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The memory that Python alone reads into is shared, and mostly the first in the map that is."""
    monkeypatch.setattr("vmatlas_linux_ioctl.acquire.NATIVE", None)
    with mmap.mmap(-1, mmap.PAGESIZE):
        seen = vmatlas.snapshot(backend=backend, where="shared")
        whole = vmatlas.snapshot(backend=backend)
        assert [each.start for each in seen] == [each.start for each in whole.where("shared")]
        assert len(seen)
