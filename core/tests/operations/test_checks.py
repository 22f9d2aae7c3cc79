"""Arguments that make no sense are told before anything is done."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas.operations import Memory
from vmatlas.operations.checks import check_ranges, round_up

from .kernel import PAGE, ScriptedKernel


@pytest.fixture
def kernel() -> ScriptedKernel:
    return ScriptedKernel()


@pytest.fixture
def memory(kernel: ScriptedKernel) -> Memory:
    return Memory(kernel, kernel.space)


RANGES = {
    "unaligned address": (0x1001, PAGE),
    "unaligned size": (0x1000, 100),
    "zero size": (0x1000, 0),
    "negative size": (0x1000, -PAGE),
    "negative address": (-PAGE, PAGE),
    "beyond the address space": (2**64, PAGE),
    "size beyond the address space": (0x1000, 2**64),
    "wraps": (2**64 - PAGE, 2 * PAGE),
    "no number": ("0x1000", PAGE),
    "a fraction": (0x1000, 4096.0),
    "a truth": (True, PAGE),
}


@pytest.mark.parametrize(("address", "size"), RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("call", ["protect", "lock", "unlock", "flush", "move", "protected"])
def test_bad_range_is_refused_and_nothing_called(memory, kernel, call, address, size):
    from vmatlas.operations import moving

    with pytest.raises(vmatlas.UsageError):
        if call == "protect":
            memory.protect(address, size, vmatlas.Protection.READ, unsafe=True)
        elif call == "protected":
            with memory.protected(address, size, vmatlas.Protection.READ, unsafe=True):
                pytest.fail("the block was entered")
        elif call == "move":
            moving.move(memory, address, size, unsafe=True)
        else:
            getattr(memory, call)(address, size)
    assert not kernel.calls


@pytest.mark.parametrize("size", [0, -1, 2**64, 2**70, "1M", None, 1.5])
def test_bad_size_of_a_new_mapping_is_refused_and_nothing_called(memory, kernel, size):
    with pytest.raises(vmatlas.UsageError):
        memory.map_anonymous(size)
    assert not kernel.calls


@pytest.mark.parametrize("at", [1, PAGE + 1, -PAGE, 2**64, 2**64 - PAGE, "0"])
def test_bad_place_of_a_new_mapping_is_refused_and_nothing_called(memory, kernel, at):
    with pytest.raises(vmatlas.UsageError):
        memory.map_anonymous(2 * PAGE, at=at)
    assert not kernel.calls


@pytest.mark.parametrize("protection", [8, -1, "rw", None, 3])
def test_what_is_no_protection_is_refused(memory, kernel, protection):
    with pytest.raises(vmatlas.UsageError, match="protection"):
        memory.map_anonymous(PAGE, protection=protection)
    assert not kernel.calls


@pytest.mark.parametrize(
    ("ranges", "said"),
    [
        ([(0x1000, 0x1000)], "is empty"),
        ([(0x3000, 0x1000)], "is empty"),
        ([(0x4000, 0x1000)], "is empty"),  # (address, size)
        ([(0x1001, 0x3000)], "not where a page"),
        ([(0x1000, 0x3001)], "whole pages"),
        ([(0x1000, 2**64 + 0x1000)], "does not fit"),
        ([(0x1000, 0x3000), (0x2000, 0x4000)], "overlap"),
        ([(0x5000, 0x6000), (0x1000, 0x2000), (0x1000, 0x2000)], "overlap"),
        ([5], "no range"),
        (["ab"], "no whole number"),
        ([(1,)], "no range"),
    ],
)
def test_bad_ranges_are_refused(ranges, said):
    with pytest.raises(vmatlas.UsageError, match=said):
        check_ranges(ranges, page=PAGE, bits=64)


@given(st.lists(st.integers(0, 2**20), unique=True, min_size=2, max_size=20).map(sorted), st.randoms())
def test_ranges_that_do_not_overlap_pass_in_their_order(edges, random):
    ranges = [(low * PAGE, high * PAGE) for low, high in pairwise(edges)]
    random.shuffle(ranges)
    assert check_ranges(ranges, page=PAGE, bits=64) == ranges


@given(st.integers(1, 2**40), st.sampled_from([4096, 16384, 65536]))
def test_rounding_gives_the_fewest_whole_pages(size, page):
    rounded = round_up(size, page)
    assert rounded % page == 0
    assert size <= rounded < size + page
