"""Moves, against a scripted kernel: what is where afterwards is what the map shows, whatever the kernel did."""

from __future__ import annotations

import itertools
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas import Protection
from vmatlas.operations import Ability, Memory, PartlyMoved
from vmatlas.operations.moving import move, moves_many, resize
from vmatlas.target.program import MapFlag

from .kernel import EVERYTHING, PAGE, ScriptedKernel, refusal

READ, WRITE, NONE = Protection.READ, Protection.WRITE, Protection.NONE
BASE, AWAY = 0x500000, 0x900000


def lay(kernel: ScriptedKernel, layout: list[tuple[int, int, Protection]]) -> None:
    """Mappings of somebody else's: (page, pages, protection)."""
    for page, pages, protection in layout:
        kernel.map(BASE + page * PAGE, pages * PAGE, protection, MapFlag.FIXED)


THREE = [(0, 2, READ | WRITE), (3, 2, READ), (6, 2, READ | WRITE)]

layouts = st.lists(
    st.tuples(st.integers(0, 2), st.integers(1, 3), st.sampled_from([NONE, READ, READ | WRITE])), min_size=1, max_size=6
)


def spread(layout: list[tuple[int, int, Protection]]) -> list[tuple[int, int, Protection]]:
    """From (gap, pages, protection) to (page, pages, protection)."""
    at, found = 0, []
    for gap, pages, protection in layout:
        found.append((at + gap, pages, protection))
        at += gap + pages
    return found


@given(layouts, st.booleans(), st.booleans(), st.booleans())
def test_every_mapping_arrives_and_gaps_stay_gaps(gaps, moves_at_once, keep_old, placed):
    kernel = ScriptedKernel(moves_many=moves_at_once)
    layout = spread(gaps)
    lay(kernel, layout)
    size = (layout[-1][0] + layout[-1][1]) * PAGE
    before = kernel.contents(BASE, BASE + size)
    rights = {page: each.protection for page, each in kernel.pages.items()}
    moved = move(Memory(kernel, kernel.space), BASE, size, AWAY if placed else None, keep_old=keep_old, unsafe=True)
    assert kernel.contents(moved.to, moved.to + size) == before
    assert {
        page - moved.to + BASE: kernel.pages[page].protection
        for page in range(moved.to, moved.to + size, PAGE)
        if page in kernel.pages
    } == rights
    assert kernel.contents(BASE, BASE + size) == (dict.fromkeys(before, 0) if keep_old else {})
    assert (moved.complete, moved.kept_old, moved.at_once) == (True, keep_old, moves_at_once or len(layout) == 1)
    if placed:
        assert moved.to == AWAY
    assert len(kernel.pages) == len(before) * (2 if keep_old else 1)  # no reservation is left


@given(layouts, st.booleans(), st.booleans(), st.data())
def test_move_that_stops_says_exactly_what_is_where(gaps, moves_at_once, keep_old, data):
    layout = spread(gaps)
    kernel = ScriptedKernel(moves_many=moves_at_once)
    lay(kernel, layout)
    memory = Memory(kernel, kernel.space)
    moves_many(memory)
    regions = list(kernel.space())
    size = (layout[-1][0] + layout[-1][1]) * PAGE
    stop = data.draw(st.integers(0, len(regions) - 1))
    kernel.stops_at = {regions[stop].start}
    single = not moves_at_once or len(regions) == 1
    if single:  # alone, this kernel moves it too: let it refuse altogether from the n-th call on
        original, count = kernel.move, [0]

        def refusing(address: int, *rest: object) -> int:
            if address == regions[stop].start:
                raise vmatlas.OperationFailed("EPERM", errno=1, errno_name="EPERM")
            count[0] += 1
            return original(address, *rest)  # type: ignore[arg-type]

        kernel.move = refusing  # type: ignore[method-assign]
    before = kernel.contents(BASE, BASE + size)
    with pytest.raises(vmatlas.OperationFailed) as stopped:
        move(memory, BASE, size, AWAY, keep_old=keep_old, unsafe=True)
    if stop == 0:
        assert not isinstance(stopped.value, PartlyMoved)
        assert kernel.contents(BASE, BASE + size) == before
        assert kernel.contents(AWAY, AWAY + size) == {}
        return
    assert isinstance(stopped.value, PartlyMoved)
    result = stopped.value.result
    assert [piece.start for piece in result.moved] == [region.start for region in regions[:stop]]
    assert [piece.start for piece in result.left] == [region.start for region in regions[stop:]]
    assert not result.lost
    for piece in result.moved:
        there = kernel.contents(piece.to, piece.to + piece.size)
        assert there == {
            page - (piece.start - BASE): before[page]
            for page in before
            if piece.start - BASE <= page < piece.end - BASE
        }
    arrived = sum(piece.size for piece in result.moved)
    assert len(kernel.contents(AWAY, AWAY + size)) * PAGE == arrived  # what is left of the reservation is gone
    assert f"{stop} of {len(regions)} mappings have moved" in str(stopped.value)


def test_whether_many_move_at_once_is_found_out_by_trying_and_leaves_nothing():
    for answer in (True, False):
        kernel = ScriptedKernel(moves_many=answer)
        assert moves_many(Memory(kernel, kernel.space)) is answer
        assert not kernel.pages


def test_older_kernel_moves_one_at_a_time_and_says_so():
    kernel = ScriptedKernel(moves_many=False)
    lay(kernel, THREE)
    moved = move(Memory(kernel, kernel.space), BASE, 8 * PAGE, AWAY, unsafe=True)
    assert not moved.at_once
    assert len(moved.moved) == 3


def test_what_cannot_be_moved_is_refused_before_anything_is_done():
    kernel = ScriptedKernel(stops_at={BASE}, tells_unmovable=True)
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(4 * PAGE, at=BASE)
    before = dict(kernel.pages)
    with pytest.raises(vmatlas.Unsupported, match="cannot be moved: a userfaultfd watches it"):
        move(memory, BASE, 4 * PAGE, AWAY)
    assert kernel.pages == before
    assert mine.start == BASE


def test_memory_that_is_not_ours_needs_unsafe():
    kernel = ScriptedKernel()
    lay(kernel, THREE)
    before = dict(kernel.pages)
    with pytest.raises(vmatlas.UsageError, match="not in a mapping made by"):
        move(Memory(kernel, kernel.space), BASE, 8 * PAGE, AWAY)
    assert kernel.pages == before


def test_mappings_of_ours_follow_their_contents():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    one = memory.map_anonymous(2 * PAGE, at=BASE)
    two = memory.map_anonymous(PAGE, at=BASE + 4 * PAGE)
    two.protect(READ)
    move(memory, BASE, 5 * PAGE, AWAY)
    assert (one.start, two.start) == (AWAY, AWAY + 4 * PAGE)
    assert two.protection == READ
    one.close()
    two.close()
    assert not kernel.pages


def test_old_place_that_is_kept_goes_with_its_mapping():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(PAGE, at=BASE)
    move(memory, BASE, PAGE, AWAY, keep_old=True)
    assert sorted(kernel.pages) == [BASE, AWAY]
    mine.close()
    assert not kernel.pages


def test_mapping_that_a_stopped_move_tore_can_only_be_closed():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(3 * PAGE, at=BASE)
    mine.protect(READ, PAGE, PAGE)
    kernel.stops_at = {BASE + 2 * PAGE}
    with pytest.raises(PartlyMoved):
        move(memory, BASE, 3 * PAGE, AWAY)
    with pytest.raises(vmatlas.UsageError, match="several places"):
        mine.protect(READ)
    mine.close()
    assert not kernel.pages


def losing(kernel: ScriptedKernel, lost: int, pages: int, arrives: int = 0) -> None:
    """The next move moves `arrives` pages, loses what is mapped in [lost, lost + pages), and is refused."""

    def move_and_lose(address: int, size: int, new_size: int, to: int, may_move: bool, keep_old: bool) -> int:
        for page in range(address, address + arrives * PAGE, PAGE):
            kernel.pages[page - address + to] = kernel.pages.pop(page)
        for page in range(lost, lost + pages * PAGE, PAGE):
            kernel.pages.pop(page, None)
            kernel.pages.pop(page - address + to, None)
        raise refusal("EFAULT")

    kernel.move = move_and_lose  # type: ignore[method-assign]


@pytest.mark.parametrize("arrives", [0, 1])
def test_lost_piece_of_a_mapping_is_never_unmapped_at_what_lies_there_since(arrives):
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(3 * PAGE, at=BASE)
    mine.protect(READ, PAGE, PAGE)
    moves_many(memory)
    losing(kernel, BASE + PAGE, 1, arrives)
    with pytest.raises(PartlyMoved) as stopped:
        move(memory, BASE, 3 * PAGE, AWAY)
    assert [piece.start for piece in stopped.value.result.lost] == [BASE + PAGE]
    kernel.map(BASE + PAGE, PAGE, READ, MapFlag.FIXED)
    kernel.map(AWAY + PAGE, PAGE, READ, MapFlag.FIXED)
    with pytest.raises(vmatlas.UsageError, match="several places"):
        mine.protect(READ)
    mine.close()
    assert sorted(kernel.pages) == [BASE + PAGE, AWAY + PAGE]  # somebody else's by now


def test_mapping_that_was_lost_whole_is_closed_and_its_descriptor_too():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    descriptor = os.open(os.devnull, os.O_RDONLY)
    mine = memory.place(
        PAGE, READ | WRITE, MapFlag.SHARED, descriptor=descriptor, at=BASE, what="an object", keep_descriptor=True
    )
    losing(kernel, BASE, 1)
    with pytest.raises(PartlyMoved, match="1 are gone"):
        move(memory, BASE, PAGE, AWAY)
    assert mine.closed
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    kernel.map(BASE, PAGE, READ, MapFlag.FIXED)
    mine.close()
    assert sorted(kernel.pages) == [BASE]


def test_two_mappings_that_the_kernel_tells_as_one_region_both_follow_a_move_that_stopped():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    one = memory.map_anonymous(PAGE, at=BASE)
    two = memory.map_anonymous(PAGE, at=BASE + PAGE)
    three = memory.map_anonymous(PAGE, at=BASE + 2 * PAGE, protection=READ)
    kernel.pages[two.start] = kernel.pages[two.start]._replace(mapping=kernel.pages[one.start].mapping)
    kernel.stops_at = {three.start}
    with pytest.raises(PartlyMoved):
        move(memory, BASE, 3 * PAGE, AWAY)
    assert (one.start, two.start, three.start) == (AWAY, AWAY + PAGE, BASE + 2 * PAGE)
    for mapping in (one, two, three):
        mapping.close()
    assert not kernel.pages


@pytest.mark.parametrize("failing", ["second map", "protect"])
def test_finding_out_that_fails_leaves_nothing_and_says_what_failed(failing, monkeypatch):
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    lay(kernel, THREE)
    before = dict(kernel.pages)
    count = itertools.count()

    def no_second(*arguments):
        if next(count):
            raise refusal("ENOMEM")
        return ScriptedKernel.map(kernel, *arguments)

    if failing == "protect":
        kernel.refuses["protect"] = "ENOMEM"
    else:
        monkeypatch.setattr(kernel, "map", no_second)
    with pytest.raises(vmatlas.OperationFailed, match="finding out whether several") as refused:
        move(memory, BASE, 8 * PAGE, unsafe=True)
    assert refused.value.errno_name == "ENOMEM"
    assert kernel.pages == before
    monkeypatch.undo()
    kernel.refuses.clear()
    assert moves_many(memory)


def test_part_of_a_mapping_is_not_moved():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(3 * PAGE, at=BASE)
    with pytest.raises(vmatlas.UsageError, match="only in part"):
        move(memory, BASE, PAGE, AWAY, unsafe=True)
    assert mine.start == BASE


@pytest.mark.parametrize("to", [BASE, BASE + PAGE, BASE - PAGE])
def test_new_place_that_overlaps_the_old_is_refused(to):
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    memory.map_anonymous(3 * PAGE, at=BASE)
    kernel.calls.clear()
    with pytest.raises(vmatlas.UsageError, match="overlap"):
        move(memory, BASE, 3 * PAGE, to)
    assert not kernel.calls


def test_move_that_the_kernel_refuses_destroys_nothing_of_its_new_place():
    kernel = ScriptedKernel()
    lay(kernel, [(0, 1, READ)])
    memory = Memory(kernel, kernel.space)
    there = memory.map_anonymous(PAGE, at=AWAY)
    before = dict(kernel.pages)
    kernel.sealed.add(BASE)
    with pytest.raises(vmatlas.OperationFailed, match="EPERM"):
        move(memory, BASE, PAGE, AWAY, replace=True, unsafe=True)
    assert not there.closed
    assert kernel.pages == before


def test_new_place_must_be_free_unless_replaced():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine, there = memory.map_anonymous(PAGE, at=BASE), memory.map_anonymous(PAGE, at=AWAY)
    before = dict(kernel.pages)
    with pytest.raises(vmatlas.OperationFailed) as refused:
        move(memory, BASE, PAGE, AWAY)
    assert refused.value.errno_name == "EEXIST"
    assert kernel.pages == before
    move(memory, BASE, PAGE, AWAY, replace=True)
    assert there.closed
    assert mine.start == AWAY
    assert kernel.pages[AWAY].content == before[BASE].content


def test_nothing_to_move_is_told():
    kernel = ScriptedKernel()
    with pytest.raises(vmatlas.UsageError, match="nothing is mapped"):
        move(Memory(kernel, kernel.space), BASE, PAGE, AWAY, unsafe=True)
    assert not kernel.pages


@pytest.mark.parametrize("ability", [Ability.MOVE, Ability.KEEP_OLD])
def test_system_that_cannot_move_says_so(ability):
    kernel = ScriptedKernel(abilities=EVERYTHING & ~ability)
    with pytest.raises(vmatlas.Unsupported, match=f"has no {ability.name}"):
        move(Memory(kernel, kernel.space), BASE, PAGE, AWAY, keep_old=True)


# ---- resize ----


def test_resize_keeps_contents_and_gives_the_same_mapping():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(2 * PAGE, at=BASE)
    content = kernel.contents(BASE, BASE + 2 * PAGE)
    assert resize(memory, mine, 4 * PAGE + 1) is mine
    assert (mine.start, mine.size, mine.length) == (BASE, 5 * PAGE, 4 * PAGE + 1)
    assert {page: kernel.contents(BASE, mine.end)[page] for page in content} == content
    resize(memory, mine, PAGE)
    assert len(kernel.pages) == 1


def test_resize_in_place_is_refused_where_there_is_no_room_and_otherwise_moves():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine, above = memory.map_anonymous(PAGE, at=BASE), memory.map_anonymous(PAGE, at=BASE + PAGE)
    with pytest.raises(vmatlas.OperationFailed, match="ENOMEM") as refused:
        resize(memory, mine, 2 * PAGE, may_move=False)
    assert "may_move=True" in (refused.value.hint or "")
    assert mine.size == PAGE
    resize(memory, mine, 2 * PAGE)
    assert mine.start != BASE
    assert above.start == BASE + PAGE


def test_resize_of_parts_with_different_rights_is_refused():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(2 * PAGE)
    mine.protect(READ, 0, PAGE)
    with pytest.raises(vmatlas.UsageError, match="different rights"):
        resize(memory, mine, 4 * PAGE)


@pytest.mark.parametrize("change", ["move", "resize"])
def test_mapping_whose_move_was_interrupted_is_lost_and_never_touched_where_it_was(change, monkeypatch):
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mapping = memory.map_anonymous(2 * PAGE)
    start = mapping.start
    moves_many(memory)

    def stopped(*arguments):
        ScriptedKernel.move(kernel, *arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(kernel, "move", stopped)
    with pytest.raises(KeyboardInterrupt):
        if change == "move":
            move(memory, start, 2 * PAGE)
        else:
            resize(memory, mapping, PAGE)
    assert mapping.closed
    assert memory.own(start, start + PAGE) is None
    with pytest.raises(vmatlas.UsageError):
        _ = mapping.start


def test_shared_memory_shrinks_but_does_not_outgrow_its_object():
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mapping = memory.map_anonymous(PAGE + 1, shared=True)
    resize(memory, mapping, 2 * PAGE)
    with pytest.raises(vmatlas.UsageError, match="more than the 8,192 that are behind"):
        resize(memory, mapping, 2 * PAGE + 1)
    resize(memory, mapping, PAGE)
    assert mapping.size == PAGE
