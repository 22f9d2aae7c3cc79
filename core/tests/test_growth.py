"""Growth of memory in use beside that of address space; what others change is no change."""

from __future__ import annotations

import pytest
from hypothesis import given

from vmatlas.analysis import ChangeKind, diff, growth_by, summarize
from vmatlas.cli.render.diff import difference_table
from vmatlas.errors import UsageError
from vmatlas.model import Details, Kind, Protection, Region

from .strategies import space_of, spaces

RW = Protection.READ | Protection.WRITE


def told(rss: int, *, swap: int = 0, **keys: int) -> dict[str, object]:
    """What smaps tells of a region of private memory."""
    details = {"Rss": rss, "Pss": rss, "Swap": swap, "Anonymous": rss, "Private_Clean": 0, "Private_Dirty": rss} | keys
    return {"resident": rss, "private_resident": rss, "details": Details(details)}


ROOM = Region(0x100000, 0x2000000, RW, False, kind=Kind.ANONYMOUS)
HEAP = Region(0x4000000, 0x5000000, RW, False, name="[heap]", kind=Kind.HEAP)


def change(before: Region, after: Region):
    (found,) = diff(space_of([before]), space_of([after])).changes
    return found


def test_memory_that_is_touched_has_grown_though_its_bounds_stay():
    before, after = ROOM._replace(**told(4096)), ROOM._replace(**told(22 << 20))
    difference = diff(space_of([before]), space_of([after]))
    (grown,) = difference.grown
    assert (grown.kind, grown.growth) == (ChangeKind.FILLED, 0)
    assert grown.memory.held == grown.memory.anonymous == difference.memory.held == (22 << 20) - 4096
    assert difference.growth == 0 and not difference.of(ChangeKind.GROWN)


def test_memory_that_is_given_back_is_emptied_and_has_not_grown():
    emptied = change(ROOM._replace(**told(8192)), ROOM._replace(**told(4096)))
    assert emptied.kind is ChangeKind.EMPTIED and emptied.memory.held == -4096


def test_what_goes_to_swap_is_held_as_before():
    moved = change(ROOM._replace(**told(8192)), ROOM._replace(**told(4096, swap=4096)))
    assert moved.kind is ChangeKind.CHANGED and moved.memory.held == 0
    assert (moved.memory.resident, moved.memory.swapped) == (-4096, 4096)


def test_what_others_change_is_no_change_unless_asked():
    alone = ROOM._replace(**told(8192))
    shared = ROOM._replace(**told(8192, Pss=4096, Private_Dirty=0, Shared_Dirty=8192, Referenced=4096))
    shared = shared._replace(private_resident=0)
    assert not diff(space_of([alone]), space_of([shared]))
    (asked,) = diff(space_of([alone]), space_of([shared]), others=True).changes
    assert asked.fields == ("private_resident", "details")
    grown = change(alone, shared._replace(end=ROOM.end + 4096))
    assert grown.kind is ChangeKind.GROWN and grown.fields == ("end",)


def test_a_page_of_a_file_that_was_written_is_a_change_though_no_more_is_held():
    file = ROOM._replace(kind=Kind.FILE, path="/lib/x")
    written = change(file._replace(**told(8192, Anonymous=0)), file._replace(**told(8192, Anonymous=4096)))
    assert written.kind is ChangeKind.CHANGED and written.memory.anonymous == 4096


def test_what_came_and_went_counts_whole():
    before, after = space_of([HEAP._replace(**told(4096))]), space_of([ROOM._replace(**told(8192))])
    changes = {each.kind: each.memory.held for each in diff(before, after).changes}
    assert changes == {ChangeKind.REMOVED: -4096, ChangeKind.ADDED: 8192}


def test_without_residency_memory_is_not_told_and_growth_is_that_of_address_space():
    difference = diff(space_of([HEAP]), space_of([HEAP._replace(end=HEAP.end + 4096)]))
    assert difference.memory is None and difference.changes[0].memory is None
    assert [each.growth for each in difference.grown] == [4096]


def test_each_group_tells_what_it_gained_and_the_most_stands_first():
    before = space_of([ROOM._replace(**told(4096)), HEAP._replace(**told(4096))])
    after = space_of([ROOM._replace(**told(8192)), HEAP._replace(end=HEAP.end + 4096, **told(1 << 20))])
    difference = diff(before, after)
    heap, anonymous = growth_by(difference, "kind")
    assert (heap.key, heap.size, heap.held) == ("heap", 4096, (1 << 20) - 4096)
    assert (anonymous.key, anonymous.size, anonymous.held) == ("anonymous", 0, 4096)
    assert [each.key for each in growth_by(difference, "name")] == ["[heap]", ""]
    assert growth_by(difference, "file") == []
    with pytest.raises(UsageError, match="colour"):
        growth_by(difference, "colour")


@given(spaces, spaces)
def test_what_groups_gained_adds_up_to_the_whole(before, after):
    difference = diff(before, after)
    for by in ("kind", "use"):
        assert sum(each.size for each in growth_by(difference, by)) == after.total - before.total
    named = growth_by(difference, "file") + growth_by(difference, "name")
    assert sum(each.size for each in named) == after.total - before.total
    assert summarize(after).total.size - summarize(before).total.size == difference.growth


def test_a_change_is_never_shown_as_none():
    before, after = ROOM._replace(**told(1363148)), ROOM._replace(**told(1367244))
    table = difference_table(diff(space_of([before]), space_of([after])), exact=False)
    assert "resident=1363148:1367244" in " ".join(table.rows[0].cells)


def test_what_has_no_name_grows_under_what_it_seems_to_be_where_guesses_were_asked_for():
    code, data = (
        Region(0x500000 + at * 4096, 0x501000 + at * 4096, rights, False, path="/bin/x", kind=Kind.FILE)
        for at, rights in enumerate((Protection.READ | Protection.EXECUTE, RW))
    )
    bss = Region(data.end, data.end + 4096, RW, False, kind=Kind.ANONYMOUS)
    before, after = (space_of([code, data, region, HEAP]) for region in (bss, bss._replace(end=bss.end + 4096)))
    difference = diff(before, after)
    assert [(each.key, each.size) for each in growth_by(difference, "name")] == [("", 4096)]
    guessed = difference.with_guesses()
    assert [(each.key, each.size) for each in growth_by(guessed, "name")] == [("?.bss", 4096)]
    assert [each.key for each in growth_by(guessed, "kind")] == ["anonymous"]
    assert guessed.changes == difference.changes
