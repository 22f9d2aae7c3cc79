"""Questions to an address space have the answers of a linear search."""

from __future__ import annotations

import copy
import pickle
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.errors import UsageError
from vmatlas.model import ANY, AddressSpace, Filter, Gap, Protection, Region

from .strategies import ORIGIN, addresses, filters, region_lists, space_of, spaces

spaces_and_addresses = region_lists().flatmap(lambda found: st.tuples(st.just(found), addresses(found)))


@given(spaces_and_addresses)
def test_find_agrees_with_a_linear_search(case):
    found, address = case
    expected = next((region for region in found if region.start <= address < region.end), None)
    assert space_of(found).find(address) == expected
    assert (address in space_of(found)) == (expected is not None)


@given(spaces_and_addresses)
def test_find_or_next_agrees_with_a_linear_search(case):
    found, address = case
    expected = next((region for region in found if region.end > address), None)
    assert space_of(found).find(address, or_next=True) == expected


@given(region_lists().flatmap(lambda found: st.tuples(st.just(found), st.lists(addresses(found), max_size=20))))
def test_find_many_agrees_with_find_in_the_order_asked(case):
    found, asked = case
    space = space_of(found)
    assert space.find_many(iter(asked)) == [space.find(address) for address in asked]


@given(spaces_and_addresses)
def test_neighbours_agree_with_a_linear_search(case):
    found, address = case
    before, at, after = space_of(found).neighbours(address)
    assert at == next((region for region in found if region.covers(address)), None)
    assert before == next((region for region in reversed(found) if region.end <= address), None)
    assert after == next((region for region in found if region.start > address), None)


@given(spaces)
def test_gaps_and_regions_together_cover_the_whole_span_once(space):
    pieces = sorted([(region.start, region.end) for region in space] + list(space.gaps()))
    assert all(isinstance(gap, Gap) and gap.size > 0 for gap in space.gaps())
    assert [end for _, end in pieces[:-1]] == [start for start, _ in pieces[1:]]
    assert space.total == sum(region.size for region in space)


@given(region_lists(), filters())
def test_where_agrees_with_each_regions_own_match(found, wanted):
    try:
        space = space_of(found).where(wanted)
    except UsageError as refused:
        assert "no region of this map tells" in str(refused)
        assert not any(wanted.matches(region) for region in found)
        return
    assert list(space) == [region for region in found if wanted.matches(region)]
    assert space.origin is ORIGIN


def test_where_without_a_condition_is_the_space_itself():
    space = space_of([Region(0, 1, 0)])
    assert space.where() is space
    assert space.where(ANY) is space


@given(region_lists(), st.integers(-10, 10) | st.none(), st.integers(-10, 10) | st.none(), st.integers(1, 4))
def test_slices_are_spaces_of_the_same_rows(found, start, stop, step):
    part = space_of(found)[start:stop:step]
    assert isinstance(part, AddressSpace)
    assert list(part) == found[start:stop:step]


@given(region_lists())
def test_indices_from_both_ends_are_those_of_a_list(found):
    space = space_of(found)
    assert [space[row] for row in range(-len(found), len(found))] == [*found, *found]
    for row in (len(found), -len(found) - 1):
        with pytest.raises(IndexError):
            space[row]


def test_a_backward_slice_is_refused():
    with pytest.raises(ValueError, match="sorted"):
        space_of([Region(0, 1, 0)])[::-1]


@given(spaces)
def test_spaces_survive_pickling_and_copying_with_their_origin(space):
    for again in (pickle.loads(pickle.dumps(space)), copy.copy(space), copy.deepcopy(space)):
        assert again == space
        assert again.origin == space.origin


@given(region_lists(), st.randoms())
def test_order_given_does_not_matter(found, random):
    shuffled = list(found)
    random.shuffle(shuffled)
    assert list(AddressSpace.of(shuffled, ORIGIN)) == found


@given(st.integers(0, 5), st.integers(0, 5), st.integers(0, 5))
def test_overlapping_and_empty_regions_are_refused(start, size, step):
    pair = [Region(start, start + size, 0), Region(start + step, start + step + 3, 0)]
    if size and size <= step:
        assert len(AddressSpace.of(pair, ORIGIN)) == 2
    else:
        with pytest.raises(ValueError, match="overlap or are empty"):
            AddressSpace.of(pair, ORIGIN)


@given(spaces, spaces)
def test_spaces_are_equal_when_their_regions_are(one, other):
    assert (one == other) == (list(one) == list(other))
    assert one != list(one)


@given(spaces)
def test_a_region_is_in_the_space_and_a_changed_one_is_not(space):
    for region in space:
        assert region in space
        assert region._replace(end=region.end + 1) not in space
    assert "text" not in space


@given(spaces)
def test_without_entries_of_its_own_the_entries_are_the_regions(space):
    assert space.entries() is space
    entries = space.columns.take(range(0, len(space), 2))
    assert list(AddressSpace(space.columns, ORIGIN, entries=entries).entries()) == list(space)[::2]


def test_filter_by_keywords_text_and_value_agree():
    space = space_of([Region(0, 1, 3), Region(1, 2, 5), Region(2, 3, 7)])
    expected = [space[1], space[2]]
    assert list(space.where(executable=True)) == list(space.where("x")) == list(space.where(Filter.of("x"))) == expected


@pytest.mark.parametrize("wrong", [1.0, 4096.5, float("nan"), "5", None, True, b"a", Fraction(1)])
def test_what_is_no_whole_number_is_no_address(wrong):
    """A large address is no float: it would mean another."""
    space = space_of([Region(0x1000, 0x2000, Protection.READ, False)])
    for ask in (space.find, space.neighbours, space[0].covers, lambda each: space.find_many([each])):
        with pytest.raises(UsageError, match="is no address"):
            ask(wrong)


def test_a_number_of_another_library_is_an_address():
    class Whole:
        def __index__(self):
            return 0x1800

    space = space_of([Region(0x1000, 0x2000, Protection.READ, False)])
    assert space.find(Whole()) == space[0] and space[0].covers(Whole()) and space.neighbours(Whole()).at == space[0]
