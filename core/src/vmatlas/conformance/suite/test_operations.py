"""Memory operations do on this kernel what they say, and what it lacks is refused as declared.

They are carried out in a child of the agent; what became of them is read from the map, and from the memory itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import vmatlas
from vmatlas import OperationFailed, Protection, Unsupported, UsageError
from vmatlas.backend import Target
from vmatlas.conformance.ground import NONE, READ, Ground, own_path
from vmatlas.conformance.memory import memory_of
from vmatlas.operations import Ability, Advice, FaultCause, Mapping, Memory, PartlyMoved, Promise, classify_fault
from vmatlas.operations.moving import move, moves_many, resize
from vmatlas.operations.shapes import guarded_buffer
from vmatlas.target.agent import READ_WRITE, AgentProcess, AgentTarget, MapFlag, MapObject, required
from vmatlas.target.program import WatchMode

FILE = own_path(b"operations")
NOBODY = 65534


@pytest.fixture
def memory(worker: AgentProcess, reader: Target) -> Memory:
    """The worker's memory. Skips where no plugin has memory operations for the target's system."""
    try:
        return memory_of(worker, reader)
    except Unsupported as missing:
        pytest.skip(missing.message)


def needs(memory: Memory, ability: Ability, attempt: Callable[[], object]) -> None:
    """Goes on where the system has the ability; else asserts that it is refused, and skips."""
    if ability in memory.calls.abilities:
        return
    with pytest.raises(Unsupported) as refused:
        attempt()
    assert memory.calls.lacks(ability) in str(refused.value)
    pytest.skip(f"refused as declared: {refused.value.message}")


def promised(memory: Memory, promise: Promise) -> None:
    """Goes on where the system holds to it, else skips."""
    if promise not in memory.calls.promises:
        pytest.skip(f"refused as declared: {memory.calls.system} does not promise {promise.name}")


def tells_locks(memory: Memory) -> bool:
    return Promise.LOCKS_ARE_TOLD in memory.calls.promises


def is_locked(mapping: Mapping) -> bool:
    flags = mapping.as_region().flags
    return flags is not None and flags.locked


def rights(memory: Memory, mapping: Mapping) -> list[tuple[int, str]]:
    """Of each region of a mapping: its first page, and what may be done with it."""
    return [
        ((region.start - mapping.start) // memory.page_size, region.protection.letters) for region in mapping.regions()
    ]


# ---- placing ----


def test_mapping_is_told_by_the_map_and_gone_when_closed(memory: Memory) -> None:
    with memory.map_anonymous(3 * memory.page_size) as mine:
        region = mine.as_region()
        assert (region.start, region.end, region.protection) == (mine.start, mine.end, READ_WRITE)
        start = mine.start
    assert memory.read_map().find(start) is None


def test_mapping_at_an_address_is_there_and_over_nothing(memory: Memory, worker: AgentProcess) -> None:
    page = memory.page_size
    with memory.map_anonymous(4 * page) as there:
        required(worker.poke(there.start + page, b"kept"), "writing")
        for at in (there.start, there.start + page, there.start - page):
            with pytest.raises(OperationFailed) as refused:
                memory.map_anonymous(2 * page, at=at)
            assert refused.value.errno_name == "EEXIST"
        assert worker.peek(there.start + page, 4) == b"kept"
        assert rights(memory, there) == [(0, "rw-")]
        free = there.start
    try:
        again = memory.map_anonymous(2 * page, at=free)
    except OperationFailed as refused:
        if Ability.PLACE in memory.calls.abilities or refused.errno_name != "EEXIST":
            raise
        pytest.skip(f"{memory.calls.system} takes an address for a hint, and did not follow it")
    assert again.start == free


def test_replacing_destroys_what_is_there(memory: Memory, worker: AgentProcess) -> None:
    page = memory.page_size
    old = memory.map_anonymous(2 * page)
    required(worker.poke(old.start, b"gone"), "writing")
    start = old.start
    with memory.map_anonymous(2 * page, at=start, replace=True) as new:
        assert (old.closed, new.start) == (True, start)
        assert worker.peek(start, 4) == bytes(4)


# ---- protecting ----


def test_protection_of_a_part_is_told_and_obeyed_and_restored(memory: Memory, worker: AgentProcess) -> None:
    page = memory.page_size
    with memory.map_anonymous(3 * page) as mine:
        assert worker.touch(mine.start, 3 * page, write=1).value == 3
        with mine.protected(READ, page, page):
            assert rights(memory, mine) == [(0, "rw-"), (1, "r--"), (2, "rw-")]
            assert worker.touch(mine.start + page, page).ok
            assert worker.touch(mine.start + page, page, write=1).errno_name == "EFAULT"
        if Promise.ALIKE_AGAIN_IS_ONE in memory.calls.promises:
            assert rights(memory, mine) == [(0, "rw-")]
        assert {letters for _, letters in rights(memory, mine)} == {"rw-"}
        assert worker.touch(mine.start + page, page, write=1).ok


def test_written_memory_can_become_executable_and_is_never_both(memory: Memory, worker: AgentProcess) -> None:
    with memory.map_anonymous(memory.page_size) as mine:
        required(worker.poke(mine.start, b"\xc3"), "writing")
        mine.protect(Protection.READ | Protection.EXECUTE)
        assert mine.as_region().protection == Protection.READ | Protection.EXECUTE
        assert worker.poke(mine.start, b"\xc3").errno_name == "EFAULT"


@pytest.mark.parametrize("size", [1, 100, 4096, 5000])
def test_first_byte_beyond_a_guarded_buffer_faults(memory: Memory, worker: AgentProcess, size: int) -> None:
    with guarded_buffer(memory, size) as mine:
        assert worker.poke(mine.address, bytes(size)).ok
        assert worker.poke(mine.address + size, b"x").errno_name == "EFAULT"
        assert worker.poke(mine.start - 1, b"x").errno_name == "EFAULT"


# ---- locking, flushing ----


def test_lock_is_taken_and_undone(memory: Memory) -> None:
    with memory.map_anonymous(2 * memory.page_size) as mine:
        mine.lock()
        assert is_locked(mine) is tells_locks(memory)
        mine.unlock()
        assert not is_locked(mine)


def test_lock_on_fault_is_taken_or_refused(memory: Memory) -> None:
    with memory.map_anonymous(2 * memory.page_size) as mine:
        needs(memory, Ability.LOCK_ON_FAULT, lambda: mine.lock(on_fault=True))
        mine.lock(on_fault=True)
        assert is_locked(mine) is tells_locks(memory)
        assert mine.as_region().resident == 0


def test_lock_beyond_the_limit_is_refused_with_the_limits_name(
    agent_target: AgentTarget, memory: Memory, worker: AgentProcess
) -> None:
    resource = memory.calls.lock_resource
    if resource is None:
        pytest.skip(f"refused as declared: {memory.calls.system} has no limit of locked memory")
    if agent_target.agent.hello.fields.get("user") == "0":
        required(worker.become(NOBODY, NOBODY), "becoming nobody")
    required(worker.limit(resource, memory.page_size, memory.page_size), "limiting locked memory")
    with memory.map_anonymous(16 * memory.page_size) as mine:
        with pytest.raises(OperationFailed, match=f"locking {mine.size:,} bytes failed") as refused:
            mine.lock()
        assert refused.value.errno_name in ("ENOMEM", "EPERM", "EAGAIN")


def test_all_memory_is_locked_and_unlocked(memory: Memory) -> None:
    with memory.map_anonymous(2 * memory.page_size) as mine:
        try:
            memory.lock_all(current=True)
        except OperationFailed as refused:
            if refused.errno_name not in ("ENOMEM", "EPERM", "EAGAIN", "ENOSYS"):
                raise
            pytest.skip(f"the target does not let its agent lock all memory: {refused.message}")
        assert is_locked(mine) is tells_locks(memory)
        memory.unlock_all(unsafe=True)
        assert not is_locked(mine)


def test_flush_writes_a_shared_mapping_to_its_file(agent_target: AgentTarget, ground: Ground, memory: Memory) -> None:
    agent, worker = agent_target.agent, ground.worker
    required(agent.write_file(FILE, bytes(ground.page), new=True), "writing a file")
    try:
        try:
            placed = ground.lay(0, flags=MapFlag.SHARED, source=MapObject.FILE, name=FILE)
        except OperationFailed as refused:
            pytest.skip(f"the target's file system does not map a file to be written: {refused.errno_name}")
        required(worker.poke(placed.start, b"flushed"), "writing memory")
        memory.flush(placed.start, placed.size)
        assert agent.read_file(FILE)[:7] == b"flushed"
    finally:
        agent.unlink(FILE)


def test_flush_of_a_hole_is_refused(memory: Memory, ground: Ground) -> None:
    with pytest.raises(OperationFailed) as refused:
        memory.flush(ground.start, ground.page)
    assert refused.value.errno_name in ("ENOMEM", "EINVAL", "EFAULT")  # POSIX: ENOMEM; NetBSD: EFAULT


# ---- advice of a process to its own memory ----


def _has(memory: Memory, advice: Advice, address: int) -> bool:
    """Whether the kernel takes the advice for no bytes there."""
    number = memory.calls.advice_number(advice)
    assert number is not None
    try:
        memory.calls.advise(address, 0, number)
    except OperationFailed:
        return False
    return True


def test_kernel_that_can_be_asked_without_a_range_refuses_advice_that_never_was(memory: Memory) -> None:
    if (reason := memory.calls.why_unasked(Advice.NORMAL)) is not None:
        pytest.skip(f"refused as declared: {reason}")
    with memory.map_anonymous(memory.page_size) as mine, pytest.raises(OperationFailed) as refused:
        memory.calls.advise(mine.start, 0, 9999)
    assert refused.value.errno_name == "EINVAL"


@pytest.mark.parametrize("advice", Advice)
def test_advice_is_taken_or_refused_by_name(memory: Memory, advice: Advice) -> None:
    with memory.map_anonymous(4 * memory.page_size) as mine:
        ranges = [(mine.start, mine.end)]
        if memory.calls.advice_number(advice) is None:
            with pytest.raises(Unsupported, match=f"has no advice '{advice.value}'"):
                memory.advise(ranges, advice, 0, unsafe=True, dry_run=False)
            return
        if advice in (Advice.HWPOISON, Advice.SOFT_OFFLINE):
            return  # they take pages from the machine
        if memory.calls.why_unasked(advice) is None and not _has(memory, advice, mine.start):
            for dry_run in (True, False):
                with pytest.raises(Unsupported, match=r"\((EINVAL|ENOSYS)\)"):
                    memory.advise(ranges, advice, 0, unsafe=True, dry_run=dry_run)
            return
        dry = memory.advise(ranges, advice, 0, unsafe=True, dry_run=True)
        assert (dry.advised, dry.unasked) == (0, memory.calls.why_unasked(advice))
        try:
            advised = memory.advise(ranges, advice, 0, unsafe=True, dry_run=False)
        except Unsupported as refused:
            assert dry.unasked is not None, f"the kernel had it when it was asked: {refused}"
            assert "ENOSYS" in refused.message
            return
        if advised.failure is None:
            assert advised.advised == mine.size
        else:
            assert (advised.advised, advised.stopped_at) == (0, (mine.start, mine.end))
            assert advised.failure.errno_name in advised.failure.message
        if advice in (Advice.NORMAL, Advice.WILLNEED) and Promise.HINTS_SUCCEED in memory.calls.promises:
            assert advised.complete


def test_memory_that_is_not_needed_is_zeros(memory: Memory, worker: AgentProcess) -> None:
    promised(memory, Promise.DONTNEED_DISCARDS)
    with memory.map_anonymous(memory.page_size) as mine:
        required(worker.poke(mine.start, b"gone"), "writing")
        memory.advise([(mine.start, mine.end)], Advice.DONTNEED, 0, unsafe=False, dry_run=False).required()
        assert worker.peek(mine.start, 4) == bytes(4)


def test_advice_with_a_hole_stops_there(memory: Memory, ground: Ground) -> None:
    promised(memory, Promise.HOLES_STOP_ADVICE)
    ground.lay(0, 3)
    ground.lay(4, 3)
    ranges = [(ground.at(0), ground.at(2)), (ground.at(2), ground.at(6)), (ground.at(6), ground.at(7))]
    advised = memory.advise(ranges, Advice.WILLNEED, 0, unsafe=True, dry_run=False)
    assert (advised.advised, advised.stopped_at) == (2 * ground.page, ranges[1])
    assert advised.failure is not None
    assert advised.failure.errno_name == "ENOMEM"


# ---- moving ----


class Three:
    """Three mappings of four pages, with gaps of two between them and a word in each; the middle one is read-only."""

    def __init__(self, memory: Memory, worker: AgentProcess) -> None:
        page = memory.page_size
        self.memory, self.worker, self.size = memory, worker, 16 * page
        with memory.map_anonymous(self.size) as place:
            self.start = place.start
        self.made = [memory.map_anonymous(4 * page, at=self.start + number * 6 * page) for number in range(3)]
        for number, mapping in enumerate(self.made):
            required(worker.poke(mapping.start, b"part%d" % number), "writing")
        self.made[1].protect(READ)

    def word(self, address: int) -> bytes:
        return self.worker.peek(address, 5)


@pytest.fixture
def three(memory: Memory, worker: AgentProcess) -> Iterator[Three]:
    """Those. Skips, after the refusal was seen, where nothing can be moved."""
    needs(memory, Ability.MOVE, lambda: move(memory, memory.page_size, memory.page_size))
    made = Three(memory, worker)
    yield made
    for mapping in made.made:
        mapping.close()


def test_system_that_cannot_move_has_no_such_call(memory: Memory, worker: AgentProcess) -> None:
    with memory.map_anonymous(memory.page_size) as mine:
        answer = worker.move(mine.start, mine.size, mine.size, flags=1)
        assert (answer.errno_name == "ENOSYS") == (Ability.MOVE not in memory.calls.abilities)


def test_several_mappings_move_with_their_gaps(
    three: Three, memory: Memory, record_property: Callable[[str, object], None]
) -> None:
    moved = move(memory, three.start, three.size)
    record_property("moves at once", moved.at_once)
    page = memory.page_size
    assert moved.complete
    assert [mapping.start - moved.to for mapping in three.made] == [0, 6 * page, 12 * page]
    assert [three.word(mapping.start) for mapping in three.made] == [b"part0", b"part1", b"part2"]
    space = memory.read_map()
    assert space.find(three.start) is None
    for gap in (4, 5, 10, 11):
        assert space.find(moved.to + gap * page) is None
    assert [space.find(mapping.start).permissions for mapping in three.made] == ["rw-p", "r--p", "rw-p"]  # type: ignore[union-attr]


def test_what_is_said_of_moving_several_at_once_is_what_the_kernel_does(
    three: Three, memory: Memory, worker: AgentProcess
) -> None:
    said = moves_many(memory)
    with memory.map_anonymous(three.size) as place:
        to = place.start
    answer = worker.move(three.start, three.size, three.size, flags=3, to=to)
    assert answer.ok is said
    if answer.ok:
        required(worker.move(to, three.size, three.size, flags=3, to=three.start), "moving back")
    else:
        assert answer.errno_name == "EFAULT"
    moved = move(memory, three.start, three.size)
    assert (moved.at_once, len(moved.moved)) == (said, 3)


def test_kernels_from_6_17_on_move_several_at_once(three: Three, memory: Memory, agent_target: AgentTarget) -> None:
    """The release is for this assertion alone: the code asks the kernel."""
    release = agent_target.system_info.release.partition("-")[0].split("+")[0].split(".")
    version = int(release[0]), int("".join(filter(str.isdigit, release[1])))
    assert moves_many(memory) is (version >= (6, 17))


def test_locks_survive_a_move(three: Three, memory: Memory) -> None:
    three.made[0].lock()
    move(memory, three.start, three.size)
    assert [is_locked(mapping) for mapping in three.made] == [True, False, False]


def test_old_place_is_kept_and_empty(three: Three, memory: Memory) -> None:
    moved = move(memory, three.start, 4 * memory.page_size, keep_old=True)
    assert three.word(moved.to) == b"part0"
    assert three.word(three.start) == bytes(5)


def test_new_place_must_be_free(three: Three, memory: Memory, worker: AgentProcess) -> None:
    with memory.map_anonymous(three.size) as there:
        required(worker.poke(there.start, b"there"), "writing")
        with pytest.raises(OperationFailed) as refused:
            move(memory, three.start, three.size, there.start)
        assert refused.value.errno_name == "EEXIST"
        assert three.word(there.start) == b"there"
        assert three.word(three.start) == b"part0"


def _watch(three: Three) -> None:
    """Have the middle one watched by a userfaultfd."""
    middle = three.made[1]
    answer = three.worker.watch(middle.start, middle.size, WatchMode.MISSING)
    if not answer.ok:
        pytest.skip(f"the target has no userfaultfd for its agent: {answer.errno_name}")


def test_memory_watched_by_a_userfaultfd_is_refused_and_nothing_moves(three: Three, memory: Memory) -> None:
    _watch(three)
    before = list(memory.read_map())
    with pytest.raises(Unsupported, match="a userfaultfd watches it"):
        move(memory, three.start, three.size)
    after = list(memory.read_map())
    assert [(region.start, region.end) for region in after] == [(region.start, region.end) for region in before]


def _move_stops_at_the_middle(three: Three, memory: Memory) -> None:
    """The kernel is asked for what it does not do: it stops, or, where it moves them singly, does it all the same."""
    if not moves_many(memory):
        moved = move(memory, three.start, three.size, unsafe=True)
        assert (moved.at_once, moved.complete, len(moved.moved)) == (False, True, 3)
        return
    with pytest.raises(PartlyMoved, match="1 of 3 mappings have moved, 2 are where they were") as stopped:
        move(memory, three.start, three.size, unsafe=True)
    result, page = stopped.value.result, memory.page_size
    assert stopped.value.errno_name == "EFAULT"
    assert [piece.start - three.start for piece in result.moved] == [0]
    assert [piece.start - three.start for piece in result.left] == [6 * page, 12 * page]
    assert not result.lost
    space = memory.read_map()
    assert space.find(three.start) is None
    assert three.word(result.moved[0].to) == b"part0"
    assert three.word(three.start + 12 * page) == b"part2"
    assert all(space.find(piece.start) is not None for piece in result.left)
    assert all(space.find(piece.to) is None for piece in result.left)


def test_partial_move_at_a_userfaultfd_is_told_exactly(three: Three, memory: Memory) -> None:
    _watch(three)
    _move_stops_at_the_middle(three, memory)


def test_partial_move_at_a_mapping_that_a_driver_places_is_told_exactly(
    three: Three, memory: Memory, worker: AgentProcess
) -> None:

    middle = three.made[1]
    placed = worker.map(
        middle.size, address=middle.start, flags=MapFlag.FIXED, source=MapObject.FILE, name=b"/dev/zero"
    )
    assert required(placed, "mapping /dev/zero") == middle.start
    with pytest.raises(Unsupported, match="its driver may place it"):
        move(memory, three.start, three.size)
    _move_stops_at_the_middle(three, memory)


def test_mapping_grows_with_its_contents(memory: Memory, worker: AgentProcess) -> None:
    page = memory.page_size
    with memory.map_anonymous(2 * page) as mine:
        needs(memory, Ability.RESIZE, lambda: resize(memory, mine, 4 * page))
        required(worker.poke(mine.start, b"start"), "writing")
        resize(memory, mine, 64 * page)
        assert worker.peek(mine.start, 5) == b"start"
        assert worker.touch(mine.start, mine.size, write=1).value == 64


# ---- faults ----


def test_fault_is_told_by_its_cause(memory: Memory, worker: AgentProcess, reader: Target) -> None:
    page = memory.page_size
    with memory.map_anonymous(8 * page) as mine:
        mine.protect(READ, 2 * page, 2 * page)
        mine.protect(NONE, 5 * page, page)
        for offset, write, cause in ((2, 1, FaultCause.PROTECTION), (5, None, FaultCause.GUARD)):
            address = mine.start + offset * page
            assert worker.touch(address, 1, write=write).errno_name == "EFAULT"
            access = Protection.READ if write is None else Protection.WRITE
            fault = classify_fault(address, worker.pid, access=access, target=reader)
            assert (fault.cause, fault.at is not None) == (cause, True)
        start = mine.start
    assert worker.touch(start, 1).errno_name == "EFAULT"
    fault = classify_fault(start, worker.pid, target=reader)
    assert (fault.cause, fault.at) == (FaultCause.HOLE, None)


def test_address_just_below_the_stack_is_told_as_such(worker: AgentProcess, reader: Target) -> None:
    space = vmatlas.snapshot(worker.pid, target=reader)
    stacks = [region for region in space if region.kind is vmatlas.Kind.STACK]
    if not stacks:
        pytest.skip("the system does not tell which region is a stack")
    found = [classify_fault(stack.start - 1, worker.pid, target=reader) for stack in stacks]
    # A stack may be told as several regions; the lowest of it is the one that overflows.
    told = {FaultCause.STACK_OVERFLOW, FaultCause.STACK_GROWTH, FaultCause.GUARD}  # growth: Linux, within its limit
    assert told & {fault.cause for fault in found}, found
    if space.system.system == "linux":  # where an agent, too, is asked for the limit
        assert all(fault.certain for fault in found), [fault.text for fault in found]


# ---- arguments ----


def test_bad_ranges_reach_no_kernel(memory: Memory, agent_target: AgentTarget) -> None:
    page, top = memory.page_size, 2**memory.address_bits
    with memory.map_anonymous(page) as mine:
        sent = agent_target.agent.talk.requests_sent
        for address, size in (
            (mine.start + 1, page),
            (mine.start, 0),
            (mine.start, -page),
            (mine.start, page + 1),
            (top - page, 2 * page),
            (top, page),
            (mine.start, top),
        ):
            with pytest.raises(UsageError):
                memory.protect(address, size, READ)
            with pytest.raises(UsageError):
                memory.lock(address, size)
        assert agent_target.agent.talk.requests_sent == sent
