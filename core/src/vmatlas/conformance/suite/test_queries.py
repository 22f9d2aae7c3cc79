"""Questions for one address, for many, and with filters agree with the whole map."""

from __future__ import annotations

from itertools import pairwise

import pytest

import vmatlas
from vmatlas import Filter, Kind
from vmatlas.backend import Target
from vmatlas.conformance.ground import NONE, READ, READ_EXECUTE, Ground
from vmatlas.target.agent import MapFlag

FILTERS = [
    "r",
    "w",
    "x",
    "rw",
    "rx",
    "---",
    "rw-",
    "r-x",
    "!w",
    "shared",
    "private",
    "file",
    "!file",
    "rw,shared",
    "x,file",
    "file,private",
    "deleted",
    "anonymous",
    "guard",
    "stack",
    "heap",
    "kind=file",
    "size>64K",
    "size<=8K",
    "path=*/*",
    "!anonymous",
]


@pytest.fixture
def varied(ground: Ground) -> Ground:
    """Ground with regions of every right, private and shared, and holes between some."""
    for number, protection in enumerate([NONE, READ, READ_EXECUTE, READ | 2]):
        ground.lay(10 * number + 1, 3, protection=protection)
        ground.lay(10 * number + 4, 2, protection=protection, flags=MapFlag.SHARED)
    return ground


def test_first_and_last_byte_belong_to_the_region_and_the_next_does_not(
    varied: Ground, reader: Target, backend: str
) -> None:
    with vmatlas.open(varied.worker.pid, target=reader, backend=backend) as process:
        for region in varied.within(list(process.snapshot())):
            assert process.find(region.start) == region
            assert process.find(region.end - 1) == region
            below, beyond = process.find(region.start - 1), process.find(region.end)
            assert below is None or below.end == region.start
            assert beyond is None or beyond.start == region.end


def test_every_address_question_agrees_with_the_map(varied: Ground, reader: Target, backend: str) -> None:
    with vmatlas.open(varied.worker.pid, target=reader, backend=backend) as process:
        space = process.snapshot()
        addresses = [varied.at(page) + 7 for page in range(0, 60, 3)] + [0, varied.start - 1, varied.end]
        assert process.find_many(addresses) == [space.find(address) for address in addresses]
        for address in addresses:
            assert process.find(address) == space.find(address)
            assert process.find(address, or_next=True) == space.find(address, or_next=True)
            assert process.neighbours(address) == space.neighbours(address)


@pytest.mark.parametrize("text", FILTERS)
def test_filter_gives_what_a_look_at_every_region_gives(
    varied: Ground, reader: Target, backend: str, text: str
) -> None:
    wanted = Filter.parse(text)
    with vmatlas.open(varied.worker.pid, target=reader, backend=backend) as process:
        space = process.snapshot()
        expected = [region for region in space if wanted.matches(region)]
        assert list(process.snapshot(where=wanted)) == expected
        assert list(process.iterate(where=wanted)) == expected
        first = process.find(varied.start, or_next=True, where=wanted)
        assert first == next((region for region in expected if region.end > varied.start), None)


def test_iterating_gives_the_map(varied: Ground, reader: Target, backend: str) -> None:
    with vmatlas.open(varied.worker.pid, target=reader, backend=backend) as process:
        assert list(process.iterate()) == list(process.snapshot())


def test_map_is_sorted_and_every_region_has_a_kind(varied: Ground, reader: Target, backend: str) -> None:
    space = vmatlas.snapshot(varied.worker.pid, target=reader, backend=backend)
    assert all(before.end <= after.start for before, after in pairwise(space))
    assert any(region.kind is Kind.FILE for region in space)
    assert space.incomplete is None


def test_capture_decodes_to_the_same_map(varied: Ground, reader: Target, backend: str) -> None:
    with vmatlas.open(varied.worker.pid, target=reader, backend=backend) as process:
        assert vmatlas.replay(process.capture()) == process.snapshot()
