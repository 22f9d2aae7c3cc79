"""A process that maps, touches, guards and unmaps memory without pause, asked for its pages as fast as possible: what
stands still is in every answer, what is a hole in none, and no answer has a page twice.

VMATLAS_RACE_SECONDS sets how long, for each way: 0.4 seconds if not, 3 in a thorough run.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from itertools import pairwise

import pytest

import vmatlas
from tests.conftest import Start
from tests.test_linux_racing import ANCHORED_SECONDS, Race
from vmatlas import PageState, registry
from vmatlas.backend import Target
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import Query
from vmatlas.model.pages import PageRuns
from vmatlas.registry import Broken
from vmatlas.target.local import LOCAL

P = PageState.PRESENT
SOURCES = [each for each in registry.page_sources() if not isinstance(each, Broken) and each.system == "linux"]

pytestmark = pytest.mark.timeout(2 * PATIENCE + 4 * ANCHORED_SECONDS)


@pytest.fixture(params=["local", "agent"])
def target(request: pytest.FixtureRequest) -> Iterator[Target]:
    if request.param == "local":
        yield LOCAL
        return
    with contextlib.closing(vmatlas.connect(f"agent:{request.getfixturevalue('binary')}")) as connected:
        yield connected


def assert_possible(runs: PageRuns, told: dict[str, list[tuple[int, int]]]) -> None:
    """In order, none twice; memory that stands still is present from end to end, and a hole is in no run."""
    assert all(one.start < one.end <= other.start for one, other in pairwise(runs))
    assert all(one.end < other.start or one.state != other.state for one, other in pairwise(runs))
    for start, end in told["still"]:
        assert runs.within(start, end).bytes_of(P) == end - start
    for start, end in told["holes"]:
        assert not runs.within(start, end)


@pytest.mark.slow
@pytest.mark.parametrize("name", [source.name for source in SOURCES])
def test_pages_of_a_racing_process_are_told_as_they_may_have_been(
    start: Start, target: Target, name: str, record_property: Callable[[str, object], None]
) -> None:
    (source,) = [each for each in SOURCES if each.name == name]
    if not (offered := target.offers(source)):
        pytest.skip(f"{name}: {offered.reason}")
    program = start("racer", random.randrange(2**32), "pages")
    told = json.loads(program.hear())
    lowest, highest = told["still"][0][0], told["still"][-1][1]
    of = source.states & (P | PageState.GUARD | PageState.SWAPPED)
    ranges = ((lowest, highest),) if source.passes_holes else tuple(map(tuple, told["mapped"]))
    answers = 0
    race = Race(ANCHORED_SECONDS, 3)
    process = target.open(program.pid)
    try:
        while race.goes_on(answers):
            assert_possible(source.pages(process.acquire(source, Query(pages=of, ranges=ranges))).telling(of), told)
            answers += 1
    finally:
        process.close()
    with vmatlas.open(program.pid, target=target) as handle:  # the map first, where it has to be: torn or not
        assert_possible(handle.pages(between=(lowest, highest), of=of), told)
        by_map = handle.pages(where="w", of=of)
        assert [by_map.within(*each).bytes_of(P) for each in told["still"]] == [e - s for s, e in told["still"]]
    program.send("enough")
    changes = int(program.hear())
    record_property("answers", answers)
    record_property("changes", changes)
    assert answers > 0 and changes > 0


@pytest.mark.parametrize("of", [P, P | PageState.EXCLUSIVE])
def test_a_handle_that_is_closed_while_it_is_asked_gives_an_answer_or_says_that_it_is_closed(
    start: Start, of: PageState
) -> None:
    """From another thread, at any moment: never another file's bytes, and no descriptor is left."""
    program = start("racer", random.randrange(2**32), "pages")
    told = json.loads(program.hear())
    lowest, highest = told["still"][0][0], told["still"][-1][1]
    before = set(os.listdir("/proc/self/fd"))
    ended = 0
    race = Race(ANCHORED_SECONDS, 3)
    while race.goes_on(ended):
        process = vmatlas.open(program.pid)
        closing = threading.Timer(random.random() / 500, process.close)
        closing.start()
        try:
            for _ in range(10_000):
                assert_possible(process.pages(between=(lowest, highest), of=of), told)
        except vmatlas.UsageError as error:
            assert "closed" in str(error)
            ended += 1
        except vmatlas.Unsupported as refused:
            pytest.skip(str(refused))
        finally:
            closing.join()
            process.close()
    assert ended > 0
    assert set(os.listdir("/proc/self/fd")) <= before
    program.send("enough")
    assert int(program.hear()) > 0
