"""What the kernel splits and merges is seen split and merged; holes are holes; many regions are all there."""

from __future__ import annotations

import pytest

import vmatlas
from vmatlas import Region, Unsupported, registry
from vmatlas.backend import Feature, Target
from vmatlas.conformance import STRIPES
from vmatlas.conformance.ground import READ, Ground
from vmatlas.operations import Promise
from vmatlas.operations.systems import operations_of
from vmatlas.target.agent import READ_WRITE


def _laid(ground: Ground, reader: Target, backend: str) -> list[Region]:
    return ground.within(list(vmatlas.snapshot(ground.worker.pid, target=reader, backend=backend)))


def _shape(ground: Ground, regions: list[Region]) -> list[tuple[int, int, str]]:
    return [
        ((region.start - ground.start) // ground.page, region.size // ground.page, region.protection.letters)
        for region in regions
    ]


def _joins(reader: Target) -> bool:
    """Whether the system makes one of what is alike again. Where no plugin tells, nothing is asserted of it."""
    try:
        return Promise.ALIKE_AGAIN_IS_ONE in operations_of(reader.system_info.system).promises
    except Unsupported:
        return False


def test_region_after_mprotect_in_its_middle_is_three_and_then_one_again(
    ground: Ground, reader: Target, backend: str
) -> None:
    """Some systems leave them three, each as it is (NetBSD: uvm_map_protect joins nothing)."""
    ground.lay(10, 9)
    assert _shape(ground, _laid(ground, reader, backend)) == [(10, 9, "rw-")]
    ground.protect(13, 3, READ)
    assert _shape(ground, _laid(ground, reader, backend)) == [(10, 3, "rw-"), (13, 3, "r--"), (16, 3, "rw-")]
    ground.protect(13, 3, READ_WRITE)
    again = _shape(ground, _laid(ground, reader, backend))
    if _joins(reader):
        assert again == [(10, 9, "rw-")]
    else:
        assert again in ([(10, 9, "rw-")], [(10, 3, "rw-"), (13, 3, "rw-"), (16, 3, "rw-")])


def test_adjacent_alike_mappings_are_one_region(ground: Ground, reader: Target, backend: str) -> None:
    ground.lay(10, 2)
    ground.lay(12, 2)
    assert _shape(ground, _laid(ground, reader, backend)) == [(10, 4, "rw-")]


def test_unmapping_the_middle_leaves_a_hole(ground: Ground, reader: Target, backend: str) -> None:
    ground.lay(10, 9)
    ground.clear(13, 3)
    with vmatlas.open(ground.worker.pid, target=reader, backend=backend) as process:
        space = process.snapshot()
        assert _shape(ground, ground.within(list(space))) == [(10, 3, "rw-"), (16, 3, "rw-")]
        assert (ground.at(13), ground.at(16)) in [(gap.start, gap.end) for gap in space.gaps()]
        for page in (13, 14, 15):
            assert process.find(ground.at(page)) is None
        after = process.find(ground.at(14), or_next=True)
        assert after is not None
        assert after.start == ground.at(16)
        around = process.neighbours(ground.at(14))
        assert around.before is not None
        assert around.after is not None
        assert (around.before.end, around.at, around.after.start) == (ground.at(13), None, ground.at(16))


def test_ten_thousand_regions_are_all_there(stripes: Ground, reader: Target, backend: str) -> None:
    try:
        laid = _laid(stripes, reader, backend)
    except Unsupported as refused:
        if Feature.ANY_SIZE in registry.backend(backend).features:
            raise
        assert "more regions than" in refused.message
        pytest.skip(f"refused as declared: {refused.message}")
    assert _shape(stripes, laid) == [(page, 1, "r--" if page % 2 else "rw-") for page in range(STRIPES)]
