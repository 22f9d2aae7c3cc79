"""Memory in use as a value: sums are exact, and know which part of what was not told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.errors import UsageError
from vmatlas.model import Details, Kind, MemoryTotal, MemoryUse, Protection, Region
from vmatlas.model.memory import FIELDS, UNTOLD, memory_of_keys

from .strategies import space_of

numbers = st.none() | st.integers(0, 2**63)
uses = st.builds(MemoryUse, **dict.fromkeys(FIELDS, numbers))
lists = st.lists(uses | st.none(), max_size=6)

SMAPS = {
    "Rss": 100, "Pss": 60, "Shared_Clean": 10, "Shared_Dirty": 20, "Private_Clean": 30, "Private_Dirty": 40,
    "Anonymous": 70, "Swap": 5, "SwapPss": 4, "AnonHugePages": 3, "ShmemPmdMapped": 2, "FilePmdMapped": 1,
    "Private_Hugetlb": 1000, "Shared_Hugetlb": 2000, "Locked": 6,
}  # fmt: skip


@given(lists)
def test_a_sum_is_exact_and_told_only_where_every_part_is(parts):
    total = MemoryTotal.of(parts)
    assert total.parts == len(parts)
    for number, name in enumerate(FIELDS):
        values = [None if part is None else part[number] for part in parts]
        known = [value for value in values if value is not None]
        assert getattr(total.at_least, name) == (sum(known) if known else None)
        assert getattr(total.use, name) == (sum(known) if known and len(known) == len(values) else None)
        assert total.untold.get(name, 0) == (len(values) - len(known) if known else 0)


@given(lists, lists)
def test_sums_of_sums_are_the_sum_of_all(some, others):
    assert MemoryTotal.of(some) + MemoryTotal.of(others) == MemoryTotal.of([*some, *others])


def test_what_does_not_add_up_is_not_added_up():
    total = MemoryTotal.of([MemoryUse(resident=1, private=1)] * 2, private_adds_up=False)
    assert total.use == MemoryUse(resident=2)


def test_the_keys_of_linux_mean_what_the_fields_say():
    use = memory_of_keys(SMAPS)
    assert use == MemoryUse(
        resident=3100, proportional=60, private=1070, swapped=5, swapped_proportional=4, dirty=60, anonymous=70,
        huge=6, hugetlb=3000, locked=6,
    )  # fmt: skip


def test_what_a_kernel_does_not_tell_is_none_and_not_nothing():
    use = memory_of_keys({"Rss": 8, "Private_Clean": 4})  # half of what private is made of
    assert use == MemoryUse(resident=8)
    assert memory_of_keys({"Rss": "8 pages"}) == UNTOLD


def region(**fields: object) -> Region:
    return Region(0x1000, 0x2000, Protection.READ)._replace(**fields)


def test_a_region_tells_its_memory_where_it_was_asked_for():
    told = Details(SMAPS)
    assert region(details=told).memory is None, "without residency nothing is"
    of_file = region(kind=Kind.FILE, details=told, resident=3100, private_resident=1070).memory
    assert of_file is not None and (of_file.file, of_file.shared_memory) == (30, 0)
    of_object = region(kind=Kind.SHARED_MEMORY, details=told, resident=3100, private_resident=1070).memory
    assert of_object is not None and (of_object.file, of_object.shared_memory) == (0, 30)
    for use in (of_file, of_object):
        assert use.anonymous + use.file + use.shared_memory == use.resident - use.hugetlb


def test_a_system_that_tells_little_tells_that():
    assert region(resident=4096).memory == MemoryUse(resident=4096)
    space = space_of([region(resident=4096), region(start=0x4000, end=0x5000)])
    assert space.memory.use == UNTOLD
    assert space.memory.at_least.resident == 4096 and space.memory.untold == {"resident": 1}


def test_a_filter_takes_every_number_of_memory_in_use_by_its_name():
    told = region(details=Details(SMAPS), resident=3100, private_resident=1070, kind=Kind.FILE)
    space = space_of([told, region(start=0x4000, end=0x5000, details=Details(dict.fromkeys(SMAPS, 0)), resident=0)])
    for text in ("dirty>=60", "huge=6", "hugetlb>1K", "file=30", "pss=60", "proportional=60", "swapped>4", "uss>1000"):
        assert list(space.where(text)) == [told], text
    assert not space.where("shared_memory>0")
    with pytest.raises(UsageError, match="dirty"):
        space_of([region(resident=4096)]).where("dirty>0")  # of a system that does not tell it
