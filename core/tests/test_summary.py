"""Totals add up, however they are grouped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hypothesis import given

from vmatlas.analysis import Total, Use, summarize, use_of
from vmatlas.model import AddressSpace, Kind, Protection, Region, SystemFlags

from .strategies import space_of, spaces

R, W, X = Protection.READ, Protection.WRITE, Protection.EXECUTE


@given(spaces)
def test_every_region_counts_once_in_each_grouping(space):
    summary = summarize(space)
    assert (summary.total.regions, summary.total.size) == (len(space), space.total)
    for groups in (summary.uses, summary.kinds):
        assert sum(total.regions for total in groups.values()) == len(space)
        assert sum(total.size for total in groups.values()) == space.total
    named = [region for region in space if region.path is not None]
    assert sum(file.total.regions for file in summary.files) == len(named)
    assert sum(file.total.size for file in summary.files) == sum(region.size for region in named)
    for file in summary.files:
        assert sum(total.size for total in file.uses.values()) == file.total.size


@given(spaces)
def test_groups_hold_what_their_names_say(space):
    summary = summarize(space)
    for kind, total in summary.kinds.items():
        assert total.size == space.where(kind=kind).total
    for use, total in summary.uses.items():
        assert total.size == sum(region.size for region in space if use_of(region) is use)
    assert {(file.path, file.deleted) for file in summary.files} == {
        (region.path, region.deleted) for region in space if region.path is not None
    }


@given(spaces)
def test_groups_are_ordered_as_documented(space):
    summary = summarize(space)
    assert list(summary.uses) == [use for use in Use if use in summary.uses]
    for sizes in ([total.size for total in summary.kinds.values()], [file.total.size for file in summary.files]):
        assert sizes == sorted(sizes, reverse=True)


@given(spaces)
def test_residency_is_told_only_where_it_is_known_of_every_region(space):
    known = [region.resident for region in space]
    expected = sum(known) if known and None not in known else None
    assert summarize(space).total.resident == expected


@given(spaces)
def test_private_memory_that_does_not_add_up_is_not_added_up(space):
    listed = AddressSpace.of(list(space), replace(space.origin, private_adds_up=False))
    summary, as_told = summarize(listed), summarize(space)
    assert summary.total.memory.use == as_told.total.memory.use._replace(private=None)
    assert {total.private_resident for total in (*summary.uses.values(), *summary.kinds.values())} <= {None}
    assert {total.private_resident for file in summary.files for total in (file.total, *file.uses.values())} <= {None}


def test_uses_are_told_by_kind_and_protection():
    expected = {
        (Kind.STACK, R | W): Use.STACK,
        (Kind.FILE, R | X): Use.CODE,
        (Kind.ANONYMOUS, R | W | X): Use.DATA,
        (Kind.HEAP, R | W): Use.DATA,
        (Kind.FILE, R): Use.READ_ONLY,
        (Kind.GUARD, Protection.NONE): Use.RESERVED,
        (Kind.VSYSCALL, X): Use.CODE,
        (Kind.PHYSICAL, R | W): Use.PHYSICAL,
    }
    for (kind, protection), use in expected.items():
        assert use_of(Region(0, 1, protection, kind=kind)) is use


def test_guard_that_the_systems_flags_give_to_a_stack_is_part_of_it():
    class Flags(SystemFlags):
        BELOW_A_STACK = 1

        @property
        def of_stack(self):
            return bool(self)

    guard = Region(0, 1, Protection.NONE, kind=Kind.GUARD)
    assert use_of(guard) is use_of(guard._replace(flags=Flags(0))) is Use.RESERVED
    assert use_of(guard._replace(flags=Flags.BELOW_A_STACK)) is Use.STACK


def test_a_library_is_a_file_with_code():
    regions = [Region(0, 4, R | X, path="/lib/a.so"), Region(4, 5, R, path="/lib/a.so"), Region(5, 6, R, path="/data")]
    library, data = summarize(space_of(regions)).files
    assert (library.path, library.is_library, library.total.size) == ("/lib/a.so", True, 5)
    assert (data.path, data.is_library) == ("/data", False)


def test_what_a_file_costs_does_not_grow_with_their_number(monkeypatch):
    added_up: list[int] = []
    real = Total._of_told

    def counted(told: Sequence[Any], private_adds_up: bool) -> Total:
        added_up.append(len(told))
        return real(told, private_adds_up)

    monkeypatch.setattr(Total, "_of_told", counted)
    costs = []
    for count in (10, 1000):
        regions = [
            Region(0x1000 * i, 0x1000 * (i + 1), Protection.READ, path=f"/{i}", kind=Kind.FILE) for i in range(count)
        ]
        added_up.clear()
        assert len(summarize(space_of(regions)).files) == count
        costs.append((len(added_up) - count, sum(added_up) - 4 * count))
    assert costs[0] == costs[1], "one sum a file, and each region is in four: all, its use, its kind, its file"


def test_an_empty_space_has_no_totals_but_zero():
    summary = summarize(space_of([]))
    assert (summary.total.regions, summary.total.size, summary.total.resident) == (0, 0, None)
    assert (summary.uses, summary.kinds, summary.files) == ({}, {}, ())
