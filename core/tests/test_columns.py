"""Columns keep every region exactly as it was, in little memory."""

from __future__ import annotations

import pickle
import sys
from array import array
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.model import UNKNOWN, Columns, Protection, Region
from vmatlas.model import columns as columns_module

from .strategies import protections, region_lists, regions, space_of


@given(region_lists())
def test_regions_put_into_columns_come_out_equal(found):
    assert list(Columns.of(found).regions()) == found


@given(region_lists())
def test_regions_come_out_with_the_same_types(found):
    for before, after in zip(found, Columns.of(found).regions(), strict=True):
        assert [type(value) for value in after] == [type(value) for value in before]


@given(region_lists(), st.data())
def test_take_gives_the_chosen_rows_in_the_chosen_order(found, data):
    rows = data.draw(st.lists(st.sampled_from(range(len(found))))) if found else []
    assert list(Columns.of(found).take(rows).regions()) == [found[row] for row in rows]


@given(region_lists())
def test_columns_survive_pickling(found):
    assert list(pickle.loads(pickle.dumps(Columns.of(found))).regions()) == found


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_first_disorder_is_the_first_row_that_is_empty_or_starts_inside_another(bounds):
    columns = Columns.of(Region(start, end, protections_none) for start, end in bounds)
    wrong = [row for row, (start, end) in enumerate(bounds) if start >= end]
    wrong += [row + 1 for row, (before, after) in enumerate(pairwise(bounds)) if before[1] > after[0]]
    assert columns.first_disorder() == min(wrong, default=None)


protections_none = Region(0, 1, 0).protection


@given(region_lists(), st.data())
def test_numbers_that_do_not_fit_are_refused_and_not_cut(found, data):
    region = data.draw(regions(2**64, 2**64 + 1))
    with pytest.raises(ValueError, match="64 bits"):
        space_of([*found, region])


def test_unknown_is_told_from_zero():
    known = Region(0, 1, 0, offset=0, inode=0, resident=0, page_size=0)
    unknown = Region(1, 2, 0)
    columns = Columns.of([known, unknown])
    assert columns.offset == array("Q", [0, UNKNOWN])
    assert [(each.offset, each.inode, each.resident, each.page_size) for each in columns.regions()] == [
        (0, 0, 0, 0),
        (None, None, None, None),
    ]


def test_a_region_costs_47_bytes_without_what_is_optional():
    columns = Columns.of(Region(row, row + 1, 7, False, 0, None, 0, "/lib") for row in range(1000))
    arrays = [getattr(columns, name) for name in columns.__slots__]
    sizes = [each.itemsize for each in arrays if isinstance(each, array)]
    assert sum(sizes) == 47
    # An array that grew has an eighth of spare room at the most, and a head of its own.
    held = sum(sys.getsizeof(each) for each in arrays if isinstance(each, array))
    assert held <= 47 * 1000 * 9 / 8 + 100 * len(sizes)


@given(protections)
def test_protection_letters_name_each_right(protection):
    assert protection.letters == "".join(
        letter if protection & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4))
    )


@pytest.mark.parametrize("twin", ["compiled", "python"])
@pytest.mark.parametrize(("column", "number"), [("label", 7), ("protection", 9), ("kind", 200), ("max_protection", 9)])
def test_a_number_that_stands_for_nothing_is_an_error_and_no_region(monkeypatch, twin, column, number):
    if twin == "python":
        monkeypatch.setattr(columns_module, "NATIVE", None)
    elif columns_module.NATIVE is None:
        pytest.skip("the compiled twin does not serve here")
    region = Region(0x1000, 0x2000, Protection.READ, max_protection=Protection.READ)
    columns = Columns.of([region])
    assert list(columns.regions()) == [region]
    getattr(columns, column)[0] = number
    with pytest.raises((IndexError, KeyError)):
        list(columns.regions())
    with pytest.raises((IndexError, KeyError)):
        columns.find_many(array("Q", [0x1000]))
