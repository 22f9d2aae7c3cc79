"""Differences: applied they give the other space, and each kind of change is named as such."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.analysis import ChangeKind, diff
from vmatlas.errors import UsageError
from vmatlas.model import Device, Kind, Protection, Region

from .strategies import plain_spaces, region_lists, space_of, spaces

RW = Protection.READ | Protection.WRITE
RX = Protection.READ | Protection.EXECUTE
LIBC = Region(0x10000, 0x14000, RX, False, 0x1000, Device(8, 1), 77, "/lib/libc.so", kind=Kind.FILE)
HEAP = Region(0x20000, 0x24000, RW, False, name="[heap]", kind=Kind.HEAP)
STACK = Region(0x80000, 0x84000, RW, False, name="[stack]", kind=Kind.STACK)
NAMELESS = Region(0x40000, 0x42000, RW, False, kind=Kind.ANONYMOUS)
BEFORE = space_of([LIBC, HEAP, NAMELESS, STACK])


def only_change(*after: Region):
    difference = diff(BEFORE, space_of(after))
    assert difference.apply(BEFORE) == space_of(after)
    (change,) = difference.changes
    return change


@given(plain_spaces, plain_spaces)
def test_the_difference_applied_to_the_first_gives_the_second(before, after):
    assert diff(before, after).apply(before) == after


@given(spaces, spaces)
def test_the_difference_applied_gives_the_second_in_all_that_both_tell(before, after):
    assert not diff(diff(before, after).apply(before), after)


@given(spaces)
def test_a_space_does_not_differ_from_itself(space):
    assert not diff(space, space)
    assert diff(space, space).apply(space) == space


@given(plain_spaces, plain_spaces)
def test_every_region_is_in_one_change_at_the_most_and_growth_adds_up(before, after):
    difference = diff(before, after)
    old = [change.before for change in difference.changes if change.before]
    new = [change.after for change in difference.changes if change.after]
    assert len({region.start for region in old}) == len(old)
    assert len({region.start for region in new}) == len(new)
    assert difference.growth == after.total - before.total
    assert {region for region in before if region not in after} <= set(old)
    assert {region for region in after if region not in before} <= set(new)


@given(plain_spaces, plain_spaces)
def test_changes_say_what_they_are_named(before, after):
    for change in diff(before, after).changes:
        old, new = change.before, change.after
        match change.kind:
            case ChangeKind.ADDED:
                assert old is None and new in after
            case ChangeKind.REMOVED:
                assert new is None and old in before
            case ChangeKind.GROWN:
                assert new.start <= old.start and new.end >= old.end and change.growth > 0
            case ChangeKind.SHRUNK:
                assert new.start >= old.start and new.end <= old.end and change.growth < 0
            case ChangeKind.MOVED:
                assert new.size == old.size and new.start != old.start
            case ChangeKind.CHANGED:
                assert new.start == old.start and change.fields
        if old is not None and new is not None:
            assert change.fields == tuple(name for name in Region._fields if getattr(old, name) != getattr(new, name))


@given(region_lists(plain=True), st.data())
def test_a_region_taken_out_is_removed_and_put_in_is_added(found, data):
    if not found:
        return
    row = data.draw(st.sampled_from(range(len(found))))
    whole, rest = space_of(found), space_of([*found[:row], *found[row + 1 :]])
    (removed,) = diff(whole, rest).changes
    (added,) = diff(rest, whole).changes
    assert (removed.kind, removed.before, removed.after) == (ChangeKind.REMOVED, found[row], None)
    assert (added.kind, added.before, added.after) == (ChangeKind.ADDED, None, found[row])


def test_a_heap_that_grew_upward_is_grown():
    change = only_change(LIBC, HEAP._replace(end=0x30000), NAMELESS, STACK)
    assert (change.kind, change.growth, change.fields) == (ChangeKind.GROWN, 0xC000, ("end",))


def test_a_stack_that_grew_downward_is_grown():
    change = only_change(LIBC, HEAP, NAMELESS, STACK._replace(start=0x70000))
    assert (change.kind, change.growth) == (ChangeKind.GROWN, 0x10000)


def test_a_region_cut_at_its_end_is_shrunk():
    assert only_change(LIBC, HEAP._replace(end=0x21000), NAMELESS, STACK).kind is ChangeKind.SHRUNK


def test_a_file_mapping_cut_at_its_start_is_shrunk():
    cut = LIBC._replace(start=0x12000, offset=0x3000)
    assert only_change(cut, HEAP, NAMELESS, STACK).kind is ChangeKind.SHRUNK


def test_other_bytes_of_a_file_at_the_same_end_are_no_growth():
    other = LIBC._replace(start=0x12000, offset=0x1000)
    kinds = [change.kind for change in diff(BEFORE, space_of([other, HEAP, NAMELESS, STACK])).changes]
    assert kinds == [ChangeKind.REMOVED, ChangeKind.ADDED]


def test_a_mapping_at_another_address_is_moved():
    change = only_change(HEAP, NAMELESS, LIBC._replace(start=0x60000, end=0x64000), STACK)
    assert (change.kind, change.growth, change.fields) == (ChangeKind.MOVED, 0, ("start", "end"))


def test_nameless_memory_moves_only_where_there_is_no_doubt():
    moved = NAMELESS._replace(start=0x50000, end=0x52000)
    assert only_change(LIBC, HEAP, moved, STACK).kind is ChangeKind.MOVED
    twins = [moved, moved._replace(start=0x60000, end=0x62000)]
    kinds = {change.kind for change in diff(BEFORE, space_of([LIBC, HEAP, *twins, STACK])).changes}
    assert kinds == {ChangeKind.REMOVED, ChangeKind.ADDED}


def test_another_protection_is_a_change_of_that_field():
    change = only_change(LIBC, HEAP._replace(protection=Protection.READ), NAMELESS, STACK)
    assert (change.kind, change.fields) == (ChangeKind.CHANGED, ("protection",))


def test_an_unlinked_file_is_a_change_of_that_field():
    change = only_change(LIBC._replace(deleted=True), HEAP, NAMELESS, STACK)
    assert (change.kind, change.fields) == (ChangeKind.CHANGED, ("deleted",))


@pytest.mark.parametrize("ignore", [["colour"], ["path", "colour"], "path"])
def test_what_is_no_list_of_fields_cannot_be_ignored(ignore):
    with pytest.raises(UsageError, match="no list of a region's fields"):
        diff(BEFORE, BEFORE, ignore=ignore)


def test_ignored_fields_are_not_compared():
    renamed = space_of([LIBC._replace(path="/lib/libc.so.1"), HEAP, NAMELESS, STACK])
    assert {change.kind for change in diff(BEFORE, renamed).changes} == {ChangeKind.REMOVED, ChangeKind.ADDED}
    assert not diff(BEFORE, renamed, ignore=["path"])


def test_what_only_one_of_the_two_tells_is_no_change():
    told = space_of([region._replace(page_size=4096, resident=0) for region in BEFORE])
    assert not diff(BEFORE, told)
    more = space_of([region._replace(page_size=4096, resident=4096) for region in BEFORE])
    assert {change.fields for change in diff(told, more).changes} == {("resident",)}


def test_a_difference_is_not_applied_to_a_space_that_it_does_not_fit():
    difference = diff(BEFORE, space_of([LIBC, HEAP, STACK]))
    with pytest.raises(ValueError, match="0x40000"):
        difference.apply(space_of([LIBC, HEAP, STACK]))
    with pytest.raises(ValueError, match="another region"):
        diff(space_of([LIBC]), BEFORE).apply(BEFORE)


def test_the_names_of_the_kinds_pick_their_changes():
    after = space_of([LIBC._replace(deleted=True), HEAP._replace(end=0x30000), STACK._replace(start=0x82000)])
    difference = diff(BEFORE, after)
    picked = (
        difference.added,
        difference.removed,
        difference.grown,
        difference.shrunk,
        difference.moved,
        difference.changed,
    )
    assert [[change.region.start for change in some] for some in picked] == [
        [], [0x40000], [0x20000], [0x82000], [], [0x10000],
    ]  # fmt: skip
