"""What holds on every system, against a scripted kernel: placement, ownership, rights, what is undone."""

from __future__ import annotations

import gc
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas import Protection
from vmatlas.operations import Ability, Advice, Advised, Mapping, Memory
from vmatlas.operations.advising import going_on
from vmatlas.operations.moving import resize
from vmatlas.operations.shapes import guarded_buffer, secret, write_then_execute
from vmatlas.target.program import MapFlag

from .kernel import EVERYTHING, FIRST, PAGE, ScriptedKernel

READ, WRITE, NONE = Protection.READ, Protection.WRITE, Protection.NONE


@pytest.fixture
def kernel() -> ScriptedKernel:
    return ScriptedKernel()


@pytest.fixture
def memory(kernel: ScriptedKernel) -> Memory:
    return Memory(kernel, kernel.space)


def occupy(kernel: ScriptedKernel, address: int, pages: int = 1) -> None:
    """Somebody else's memory."""
    kernel.map(address, pages * PAGE, READ | WRITE, MapFlag.FIXED)


# ---- placement ----


@pytest.mark.parametrize("knows_noreplace", [True, False], ids=["since 4.17", "before 4.17"])
def test_mapping_at_a_free_address_is_there(knows_noreplace):
    kernel = ScriptedKernel(knows_noreplace=knows_noreplace)
    made = Memory(kernel, kernel.space).map_anonymous(2 * PAGE, at=0x500000)
    assert (made.start, made.end) == (0x500000, 0x500000 + 2 * PAGE)


@pytest.mark.parametrize("knows_noreplace", [True, False], ids=["since 4.17", "before 4.17"])
@pytest.mark.parametrize("at", [0x500000, 0x500000 - PAGE, 0x500000 + PAGE])
def test_mapping_over_something_is_refused_and_undone(knows_noreplace, at):
    kernel = ScriptedKernel(knows_noreplace=knows_noreplace)
    occupy(kernel, 0x500000, 2)
    before = dict(kernel.pages)
    with pytest.raises(vmatlas.OperationFailed, match=r"lies in .* already") as refused:
        Memory(kernel, kernel.space).map_anonymous(2 * PAGE, at=at)
    assert refused.value.errno_name == "EEXIST"
    assert kernel.pages == before


def test_system_without_exact_placement_compares_the_address():
    kernel = ScriptedKernel(abilities=EVERYTHING & ~Ability.PLACE, knows_noreplace=False)
    memory = Memory(kernel, kernel.space)
    there = memory.map_anonymous(PAGE, at=0x500000)
    assert there.start == 0x500000
    with pytest.raises(vmatlas.OperationFailed) as refused:
        memory.map_anonymous(PAGE, at=0x500000)
    assert refused.value.errno_name == "EEXIST"


def test_replace_needs_an_address(memory):
    with pytest.raises(vmatlas.UsageError, match="at="):
        memory.map_anonymous(PAGE, replace=True)


def test_replace_of_a_mapping_of_ours_closes_it(memory, kernel):
    old = memory.map_anonymous(2 * PAGE, at=0x500000)
    new = memory.map_anonymous(4 * PAGE, at=0x500000 - PAGE, replace=True)
    assert old.closed
    assert kernel.space().total == 4 * PAGE
    del old
    gc.collect()
    assert (new.start, new.end, kernel.space().total) == (0x500000 - PAGE, 0x500000 + 3 * PAGE, 4 * PAGE)


def test_replace_of_what_is_not_ours_is_refused_and_leaves_all_as_it_was(memory, kernel):
    occupy(kernel, 0x500000 + 3 * PAGE)
    mine = memory.map_anonymous(PAGE, at=0x500000 + PAGE)
    before = dict(kernel.pages)
    with pytest.raises(vmatlas.UsageError, match="not ours"):
        memory.map_anonymous(4 * PAGE, at=0x500000, replace=True)
    assert kernel.pages == before
    assert not mine.closed


def test_replace_of_a_part_of_a_mapping_is_refused(memory, kernel):
    mine = memory.map_anonymous(2 * PAGE, at=0x500000)
    with pytest.raises(vmatlas.UsageError, match="only in part"):
        memory.map_anonymous(PAGE, at=0x500000, replace=True, unsafe=True)
    assert not mine.closed


def test_replacement_that_cannot_be_had_destroys_nothing(kernel):
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(PAGE, at=0x500000)
    kernel.refuses["map"] = "ENOMEM"
    with pytest.raises(vmatlas.OperationFailed, match="ENOMEM"):
        memory.map_anonymous(PAGE, at=0x500000, replace=True)
    assert not mine.closed
    assert 0x500000 in kernel.pages


@pytest.mark.parametrize("errno", ["EPERM", "ENOMEM", "EACCES"])
def test_replacement_that_the_kernel_refuses_leaves_all_as_it_was(memory, kernel, errno):
    mine = memory.map_anonymous(PAGE, at=0x500000)
    beside = memory.map_anonymous(PAGE, at=0x500000 + 2 * PAGE)
    before = dict(kernel.pages)
    kernel.refuses_over = errno
    with pytest.raises(vmatlas.OperationFailed, match=errno):
        memory.map_anonymous(4 * PAGE, at=0x500000, replace=True)
    assert kernel.pages == before, "what was free between them is free again"
    assert (mine.closed, beside.closed) == (False, False)
    mine.protect(READ)
    mine.close()
    beside.close()
    assert kernel.pages == {}


@pytest.mark.parametrize("unsafe", [False, True])
def test_what_the_kernel_had_unmapped_when_it_refused_is_gone_and_never_unmapped(memory, kernel, unsafe):
    mine = memory.map_anonymous(PAGE, at=0x500000)
    kernel.refuses_over, kernel.unmaps_first = "ENOMEM", True
    with pytest.raises(vmatlas.OperationFailed, match="ENOMEM"):
        memory.map_anonymous(2 * PAGE, at=0x500000, replace=True, unsafe=unsafe)
    assert mine.closed
    kernel.refuses_over = None
    occupy(kernel, 0x500000, 2)
    mine.close()
    del mine
    gc.collect()
    assert set(kernel.pages) == {0x500000, 0x500000 + PAGE}


def test_what_may_be_gone_is_counted_as_gone_where_the_map_cannot_be_read_then(kernel):
    readings = [None]

    def read_map():
        if kernel.refuses_over is not None and kernel.calls[-1] == "map":
            raise vmatlas.Unsupported("no map")
        readings.append(None)
        return kernel.space()

    memory = Memory(kernel, read_map)
    mine = memory.map_anonymous(PAGE, at=0x500000)
    kernel.stacks_grow, kernel.refuses_over = False, "ENOMEM"
    kernel.calls.append("none yet")
    with pytest.raises(vmatlas.OperationFailed, match="ENOMEM"):
        memory.map_anonymous(PAGE, at=0x500000, replace=True, unsafe=True)
    assert mine.closed
    assert 0x500000 in kernel.pages


def test_mapping_of_several_places_that_is_unmapped_in_part_forgets_that_part(memory, kernel):
    mine = memory.map_anonymous(PAGE, at=0x500000)
    mine.note_scattered([(0x500000, 0x501000), (0x600000, 0x601000)])
    occupy(kernel, 0x600000)
    kernel.sealed.add(0x600000)
    with pytest.raises(vmatlas.OperationFailed, match="unmapping <Mapping of anonymous memory: 0x500000"):
        mine.close()
    assert (mine.closed, mine.extents) == (False, [(0x600000, 0x601000)])
    occupy(kernel, 0x500000)
    kernel.sealed.clear()
    mine.close()
    assert set(kernel.pages) == {0x500000}


def test_rights_that_could_not_be_changed_are_what_they_were(memory, kernel):
    mine = memory.map_anonymous(PAGE)
    kernel.refuses["protect"] = "EPERM"
    with pytest.raises(vmatlas.OperationFailed):
        mine.protect(READ)
    assert mine.protection == READ | WRITE


@pytest.mark.parametrize(
    ("errno", "told"),
    [("ENOMEM", "65,530 of 65,530 regions that it may have .vm.max_map_count."), ("EAGAIN", "may lock 4,096 bytes")],
)
def test_limit_that_is_reached_is_told_by_every_operation(memory, kernel, errno, told):
    mine = memory.map_anonymous(PAGE)
    kernel.regions, kernel.limit = (65530, 65530), (4096, 4096)
    for name, call in {
        "map": lambda: memory.map_anonymous(PAGE),
        "protect": lambda: mine.protect(READ),
        "unmap": mine.close,
        "move": lambda: resize(memory, mine, 2 * PAGE),
    }.items():
        kernel.refuses = {name: errno}
        with pytest.raises(vmatlas.OperationFailed) as refused:
            call()
        assert re.search(told, refused.value.hint or ""), name
    kernel.refuses, kernel.regions = {"map": "ENOMEM"}, (60000, 65530)
    with pytest.raises(vmatlas.OperationFailed) as refused:
        memory.map_anonymous(PAGE)
    assert "60,000" not in (refused.value.hint or "")


def test_unsafe_replace_destroys_what_is_there(memory, kernel):
    occupy(kernel, 0x500000)
    inside = kernel.pages[0x500000]
    new = memory.map_anonymous(PAGE, at=0x500000, replace=True, unsafe=True)
    assert kernel.pages[new.start] != inside


# ---- ownership and rights ----


def test_protect_of_what_is_not_ours_needs_unsafe(memory, kernel):
    occupy(kernel, 0x500000)
    with pytest.raises(vmatlas.UsageError, match="not in a mapping") as refused:
        memory.protect(0x500000, PAGE, NONE)
    assert "unsafe=True" in (refused.value.hint or "")
    assert kernel.pages[0x500000].protection == READ | WRITE
    memory.protect(0x500000, PAGE, NONE, unsafe=True)
    assert kernel.pages[0x500000].protection == NONE


def test_range_that_reaches_beyond_a_mapping_is_not_ours(memory, kernel):
    mine = memory.map_anonymous(2 * PAGE)
    occupy(kernel, mine.end)
    with pytest.raises(vmatlas.UsageError, match="not in a mapping"):
        memory.protect(mine.start, 3 * PAGE, READ)


def test_two_mappings_side_by_side_are_not_one(memory, kernel):
    one = memory.map_anonymous(PAGE, at=0x500000)
    two = memory.map_anonymous(PAGE, at=0x500000 + PAGE)
    with pytest.raises(vmatlas.UsageError):
        memory.protect(one.start, 2 * PAGE, READ)
    assert two.protection == READ | WRITE


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8), st.sampled_from([NONE, READ, READ | WRITE])), max_size=12)
)
def test_mapping_knows_the_rights_of_each_of_its_pages(changes):
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(8 * PAGE)
    for first, count, protection in changes:
        mine.protect(protection, first * PAGE, min(count, 8 - first) * PAGE)
    known = {page: rights for low, high, rights in mine.parts for page in range(low, high, PAGE)}
    assert known == {page: each.protection for page, each in kernel.pages.items()}
    assert len(mine.regions()) == len(kernel.space())


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(1, 8), st.sampled_from([NONE, READ, READ | WRITE])), max_size=6)
)
def test_guard_restores_every_part(changes):
    kernel = ScriptedKernel()
    memory = Memory(kernel, kernel.space)
    mine = memory.map_anonymous(8 * PAGE)
    for first, count, protection in changes:
        mine.protect(protection, first * PAGE, min(count, 8 - first) * PAGE)
    before = dict(kernel.pages)
    with pytest.raises(RuntimeError), mine.protected(READ, PAGE, 6 * PAGE):
        assert all(kernel.pages[mine.start + page * PAGE].protection == READ for page in range(1, 7))
        raise RuntimeError
    assert kernel.pages == before


def test_guard_over_memory_that_is_not_ours_restores_by_the_map(memory, kernel):
    occupy(kernel, 0x500000, 3)
    kernel.protect(0x501000, PAGE, READ)
    before = dict(kernel.pages)
    with memory.protected(0x500000, 3 * PAGE, NONE, unsafe=True):
        assert {page.protection for page in kernel.pages.values()} == {NONE}
    assert kernel.pages == before


def test_closed_mapping_is_told_so(memory):
    mine = memory.map_anonymous(PAGE)
    mine.close()
    mine.close()
    for use in (
        lambda: mine.address,
        lambda: mine.start,
        lambda: mine.protection,
        lambda: mine.protect(READ),
        mine.lock,
        mine.unlock,
        mine.flush,
        mine.regions,
        mine.as_region,
        mine.__enter__,
        lambda: mine.descriptor,
    ):
        with pytest.raises(vmatlas.UsageError, match="has been closed"):
            use()
    assert "closed" in repr(mine)


@pytest.mark.parametrize("own", [True, False], ids=["this process", "another process"])
def test_mapping_that_nobody_holds_is_unmapped_in_this_process_only(own):
    """The collector runs anywhere, in the middle of a conversation with another process, too."""
    kernel = ScriptedKernel(abilities=EVERYTHING | (Ability.BUFFERS if own else Ability.NONE))
    Memory(kernel, kernel.space).map_anonymous(PAGE)
    gc.collect()
    assert bool(kernel.pages) is not own


def test_block_unmaps_at_its_end_whatever_happens(memory, kernel):
    with pytest.raises(RuntimeError), memory.map_anonymous(PAGE):
        raise RuntimeError
    assert not kernel.pages


def test_part_beyond_the_mapping_is_refused(memory):
    mine = memory.map_anonymous(2 * PAGE)
    for offset, size in ((0, 3 * PAGE), (2 * PAGE, PAGE), (-PAGE, PAGE), (1, PAGE), (0, 0)):
        with pytest.raises(vmatlas.UsageError):
            mine.protect(READ, offset, size)


# ---- what a system lacks ----


LACKS = {
    "locking": (Ability.LOCK, lambda memory: memory.lock(FIRST, PAGE)),
    "locking on fault": (Ability.LOCK_ON_FAULT, lambda memory: memory.lock(FIRST, PAGE, on_fault=True)),
    "locking all": (Ability.LOCK_ALL, lambda memory: memory.lock_all()),
    "a buffer": (Ability.BUFFERS, lambda memory: memory.map_anonymous(PAGE).buffer),
    "a secret": (Ability.BUFFERS, lambda memory: secret(memory, PAGE)),
    "code": (Ability.BUFFERS, lambda memory: write_then_execute(memory, b"\xc3")),
}


@pytest.mark.parametrize("name", LACKS)
def test_what_a_system_lacks_is_unsupported_with_the_reason(name):
    ability, use = LACKS[name]
    kernel = ScriptedKernel(abilities=EVERYTHING & ~ability)
    with pytest.raises(vmatlas.Unsupported, match=f"the scripted kernel has no {ability.name}"):
        use(Memory(kernel, kernel.space))


def test_advice_that_the_system_has_not_is_unsupported(memory, kernel):
    with pytest.raises(vmatlas.Unsupported, match="has no advice 'nosync'"):
        memory.advise([(FIRST, FIRST + PAGE)], Advice.NOSYNC, 1, unsafe=True, dry_run=False)
    assert not kernel.calls


# ---- shapes ----


@pytest.mark.parametrize("size", [1, 100, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_guarded_buffer_ends_where_its_guard_begins(memory, kernel, size):
    made = guarded_buffer(memory, size)
    assert made.address + size == made.end
    rights = [page.protection for _, page in sorted(kernel.pages.items())]
    body = -(-size // PAGE)
    assert rights == [NONE, *[READ | WRITE] * body, NONE]
    made.close()
    assert not kernel.pages


def test_hidden_guards_take_no_region(memory, kernel):
    made = guarded_buffer(memory, 100, hidden=True)
    assert [page.protection for _, page in sorted(kernel.pages.items())] == [READ | WRITE] * 3
    assert kernel.calls.count("advise") == 2
    assert made.address + 100 == made.end
    made.close()
    assert not kernel.pages


def test_where_the_kernel_makes_no_such_guards_they_are_pages_without_rights(kernel):
    kernel.refuses["advise"] = "EINVAL"
    made = guarded_buffer(Memory(kernel, kernel.space), PAGE, hidden=True)
    assert [page.protection for _, page in sorted(kernel.pages.items())] == [NONE, READ | WRITE, NONE]
    made.close()


def test_guarded_buffer_that_cannot_be_made_leaves_nothing(kernel):
    kernel.refuses["protect"] = "ENOMEM"
    with pytest.raises(vmatlas.OperationFailed):
        guarded_buffer(Memory(kernel, kernel.space), PAGE)
    assert not kernel.pages


def test_rights_of_a_guard_are_no_rights_of_the_buffer(memory):
    made = guarded_buffer(memory, PAGE)
    memory.protect(made.start - PAGE, PAGE, READ, unsafe=True)
    memory.protect(made.end, PAGE, READ, unsafe=True)
    assert made.protection == READ | WRITE
    assert made.parts == [(made.start, made.end, READ | WRITE)]


# ---- advice on memory of this process ----


def test_advice_that_goes_on_passes_over_what_is_refused(memory, kernel):
    mine = memory.map_anonymous(6 * PAGE, at=0x500000)
    kernel.unmap(0x501000, PAGE)
    kernel.unmap(0x504000, PAGE)
    ranges = [(page, page + PAGE) for page in range(0x500000, 0x506000, PAGE)]

    def advise(some):
        return memory.advise(some, Advice.COLD, 7, unsafe=False, dry_run=False)

    advised = going_on(advise, ranges, go_on=True)
    assert (advised.asked, advised.advised, advised.stopped_at) == (6 * PAGE, 4 * PAGE, None)
    assert advised.refused == ((0x501000, 0x502000), (0x504000, 0x505000))
    assert not advised.complete and "ENOMEM" in (advised.reason or "") and "0x501000" in advised.reason
    assert "2 refused" in repr(advised)
    assert going_on(advise, ranges, go_on=False).refused == ()
    assert going_on(advise, ranges[2:4], go_on=True).complete
    del mine


def test_advice_stops_at_a_hole_and_says_what_was_done(memory, kernel):
    mine = memory.map_anonymous(4 * PAGE, at=0x500000)
    kernel.unmap(0x502000, PAGE)
    ranges = [(page, page + PAGE) for page in range(0x500000, 0x504000, PAGE)]
    advised = memory.advise(ranges, Advice.COLD, 7, unsafe=False, dry_run=False)
    assert (advised.asked, advised.advised, advised.stopped_at) == (4 * PAGE, 2 * PAGE, (0x502000, 0x503000))
    assert not advised.complete
    assert advised.reason is not None
    assert "ENOMEM" in advised.reason
    with pytest.raises(vmatlas.OperationFailed, match="ENOMEM"):
        advised.required()
    del mine


def test_advice_that_loses_contents_needs_memory_of_ours(memory, kernel):
    occupy(kernel, 0x500000)
    with pytest.raises(vmatlas.UsageError, match="would throw away"):
        memory.advise([(0x500000, 0x501000)], Advice.DONTNEED, 7, unsafe=False, dry_run=False)
    mine = memory.map_anonymous(PAGE)
    assert memory.advise([(mine.start, mine.end)], Advice.DONTNEED, 7, unsafe=False, dry_run=False).complete


def test_advice_that_makes_faults_always_needs_unsafe(memory):
    mine = memory.map_anonymous(PAGE)
    with pytest.raises(vmatlas.UsageError, match="needs unsafe=True"):
        memory.advise([(mine.start, mine.end)], Advice.GUARD_INSTALL, 7, unsafe=False, dry_run=False)


def dry_run(memory: Memory, advice: Advice = Advice.COLD, **options: bool) -> Advised:
    return memory.advise([(0x500000, 0x501000)], advice, 7, dry_run=True, **{"unsafe": False} | options)


def test_dry_run_asks_the_kernel_about_no_bytes_and_nothing_else(memory, kernel):
    advised = dry_run(memory)
    assert (advised.asked, advised.advised, advised.dry_run, advised.complete) == (PAGE, 0, True, False)
    assert advised.unasked is None
    assert kernel.calls == ["advise nothing"]


@pytest.mark.parametrize(
    ("errno", "said"), [("EINVAL", "this kernel has no advice 'cold'"), ("ENOSYS", "no such call")]
)
@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "in earnest"])
def test_advice_that_the_kernel_refuses_for_no_bytes_as_well_is_unsupported(memory, kernel, errno, said, dry):
    kernel.refuses.update({"advise": errno, "advise nothing": errno})
    with pytest.raises(vmatlas.Unsupported, match=rf"{said}.*\({errno}\)"):
        memory.advise([(0x500000, 0x501000)], Advice.COLD, 7, unsafe=False, dry_run=dry)


def test_dry_run_that_meets_another_refusal_raises_it(memory, kernel):
    kernel.refuses["advise nothing"] = "EPERM"
    with pytest.raises(vmatlas.OperationFailed) as refused:
        dry_run(memory)
    assert refused.value.errno_name == "EPERM"


def test_range_that_is_refused_is_told_from_advice_that_the_kernel_lacks(memory, kernel):
    kernel.refuses["advise"] = "EINVAL"
    advised = memory.advise([(0x500000, 0x501000)], Advice.COLD, 7, unsafe=False, dry_run=False)
    assert advised.stopped_at == (0x500000, 0x501000)
    assert "EINVAL" in (advised.reason or "")
    assert kernel.calls == ["advise", "advise nothing"]


def test_kernel_that_cannot_be_asked_without_a_range_is_not_asked_and_that_is_told(memory, kernel):
    kernel.unasked = "it would protect the process"
    kernel.refuses["advise"] = "EINVAL"
    assert dry_run(memory).unasked == "it would protect the process"
    assert kernel.calls == []
    advised = memory.advise([(0x500000, 0x501000)], Advice.COLD, 7, unsafe=False, dry_run=False)
    assert "refused (EINVAL)" in (advised.reason or "")  # whether of the advice or of the range, nobody knows
    assert kernel.calls == ["advise"]


# ---- secrets ----


@pytest.fixture
def hidden(memory) -> Mapping:
    """Three pages of which the kernel knows no more than of others; a secret's own making needs a real one."""
    plain = memory.map_anonymous(3 * PAGE, at=0x500000)
    extent = plain.extents[0]
    plain.note_closed()
    made = Mapping(memory, extent, extent, READ | WRITE, address=extent[0], length=10, what="a secret", secret=True)
    return memory.lifetimes.adopt(made)


@pytest.mark.parametrize("unsafe", [False, True])
@pytest.mark.parametrize("dry", [True, False], ids=["dry run", "in earnest"])
@pytest.mark.parametrize("advice", [Advice.COLD, Advice.DONTNEED, Advice.GUARD_INSTALL])
def test_advice_that_would_undo_a_secret_is_refused_in_one_line_and_nothing_is_asked(
    memory, kernel, hidden, advice, dry, unsafe
):
    kernel.calls.clear()
    around = [(0x400000, 0x401000), (hidden.start + PAGE, hidden.end + PAGE)]  # a part of it, and what is not ours
    with pytest.raises(
        vmatlas.UsageError, match=f"advice '{advice.value}' for 0x501000-0x504000 would undo"
    ) as refused:
        memory.advise(around, advice, 7, unsafe=unsafe, dry_run=dry)
    assert "a secret: 0x500000-0x503000" in refused.value.message
    assert "\n" not in str(refused.value)
    assert "close it first" in (refused.value.hint or "")
    assert kernel.calls == []


def test_advice_beside_a_secret_or_that_leaves_it_one_is_taken(memory, kernel, hidden):
    ours = memory.map_anonymous(PAGE, at=hidden.end)
    assert memory.advise([(ours.start, ours.end)], Advice.DONTNEED, 7, unsafe=False, dry_run=False).complete
    kept = memory.advise([(hidden.start, hidden.end)], Advice.DONTDUMP, 7, unsafe=False, dry_run=False)
    assert kept.advised == 3 * PAGE


# ---- locks ----


@pytest.mark.parametrize(
    ("limit", "size", "errno", "said", "hints"),
    [
        ((65536, 4096), 2**20, "ENOMEM", "may lock 65,536 bytes .RLIMIT_MEMLOCK. and has locked 4,096", True),
        ((0, 0), PAGE, "EPERM", "may lock 0 bytes", True),
        ((2**20, 0), PAGE, "ENOMEM", "ENOMEM.: a part of the range is not mapped", False),
        (None, PAGE, "ENOMEM", "ENOMEM.: a part of the range is not mapped", False),
        ((2**20, 0), PAGE, "EAGAIN", "memory is short, or a page of it could not be had", False),
    ],
)
def test_refused_lock_tells_the_limit(limit, size, errno, said, hints):
    kernel = ScriptedKernel(limit=limit, refuses={"lock": errno})
    with pytest.raises(vmatlas.OperationFailed, match=said) as refused:
        Memory(kernel, kernel.space).lock(FIRST, size)
    assert refused.value.errno_name == errno
    assert ("ulimit -l" in (refused.value.hint or "")) is hints


def test_lock_all_wants_to_know_what(memory, kernel):
    with pytest.raises(vmatlas.UsageError, match="say what"):
        memory.lock_all(current=False)
    memory.lock_all(current=True, future=True, on_fault=True)
    assert kernel.calls == ["lock_all"]


# ---- exceptions that come from outside, in the middle of a call (Ctrl-C) ----


class Stop(BaseException):
    """What a signal handler raises."""


def interrupt_after(monkeypatch: pytest.MonkeyPatch, kernel: ScriptedKernel, name: str) -> None:
    """The kernel does it, and then the exception comes before anybody has noted it."""
    call = getattr(kernel, name)

    def stopped(*arguments: object) -> None:
        call(*arguments)
        raise Stop

    monkeypatch.setattr(kernel, name, stopped)


def test_mapping_whose_unmapping_was_interrupted_is_not_used_or_unmapped_again(memory, kernel, monkeypatch):
    mapping = memory.map_anonymous(PAGE)
    start = mapping.start
    with monkeypatch.context() as patch:
        interrupt_after(patch, kernel, "unmap")
        with pytest.raises(Stop):
            mapping.close()
    assert mapping.closed
    occupy(kernel, start)  # somebody else's now
    mapping.close()
    assert memory.own(start, start + PAGE) is None
    del mapping
    gc.collect()
    assert start in kernel.pages


def test_mapping_whose_unmapping_was_refused_is_still_open(memory, kernel, monkeypatch):
    mapping = memory.map_anonymous(PAGE)

    def refused(*_: object) -> None:
        raise vmatlas.OperationFailed("munmap", errno=12, errno_name="ENOMEM")

    with monkeypatch.context() as patch:
        patch.setattr(kernel, "unmap", refused)
        with pytest.raises(vmatlas.OperationFailed, match="unmapping"):
            mapping.close()
    assert not mapping.closed
    mapping.close()
    assert not kernel.pages


def test_rights_whose_change_was_interrupted_are_not_counted_on(memory, kernel, monkeypatch):
    mapping = memory.map_anonymous(2 * PAGE)
    interrupt_after(monkeypatch, kernel, "protect")
    with pytest.raises(Stop):
        mapping.protect(READ, PAGE, PAGE)
    assert mapping.protection == READ


def test_guard_leaves_alone_what_lies_where_its_mapping_was(memory, kernel):
    mapping = memory.map_anonymous(PAGE)
    start = mapping.start
    with memory.protected(start, PAGE, READ):
        mapping.close()
        other = memory.map_anonymous(PAGE, at=start, protection=NONE)
    assert kernel.pages[start].protection == NONE
    other.close()


def test_unlocking_or_flushing_a_hole_says_so(memory, kernel, monkeypatch):
    def hole(*_: object) -> None:
        raise vmatlas.OperationFailed("msync", errno=12, errno_name="ENOMEM")

    for name, how in (("unlock", {"unsafe": True}), ("flush", {})):
        monkeypatch.setattr(kernel, name, hole)
        with pytest.raises(vmatlas.OperationFailed) as refused:
            getattr(memory, name)(FIRST, PAGE, **how)
        assert refused.value.hint == "a part of the range is not mapped"


def test_the_locks_of_others_are_not_undone(memory, kernel):
    mine = memory.map_anonymous(PAGE)
    kernel.calls.clear()
    for low, size in ((mine.end, PAGE), (mine.start, 2 * PAGE), (mine.start - PAGE, 2 * PAGE)):
        with pytest.raises(vmatlas.UsageError, match="is not in a mapping made by"):
            memory.unlock(low, size)
    with pytest.raises(vmatlas.UsageError, match="needs unsafe=True"):
        memory.unlock_all()
    assert not kernel.calls
    mine.unlock()
    memory.unlock(mine.start, PAGE)
    memory.unlock_all(unsafe=True)
    assert kernel.calls == ["unlock", "unlock", "unlock_all"]
