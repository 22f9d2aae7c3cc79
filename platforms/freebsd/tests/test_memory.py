"""FreeBSD's memory calls against a scripted libc: the numbers that reach it, and what its errno becomes.

With Python on a FreeBSD they were run by hand once (13.2); the agent makes the same calls on real ones (the conformance
suite).
"""

from __future__ import annotations

from errno import EAGAIN, ENOMEM

import pytest

import vmatlas
from vmatlas import Protection
from vmatlas.conformance.scripted_libc import Answer, Fails, ScriptedLibc
from vmatlas.operations import Ability, Advice, Memory
from vmatlas.operations.moving import move
from vmatlas.target.program import MapFlag
from vmatlas_freebsd.memory import OPERATIONS, FreeBSDMemory

PAGE = OPERATIONS.page_size
READ, WRITE, EXECUTE, NONE = Protection.READ, Protection.WRITE, Protection.EXECUTE, Protection.NONE


def libc_with(**answers: Answer) -> ScriptedLibc:
    """FreeBSD has mmap alone."""
    return ScriptedLibc(lacking=("mmap64",), **answers)


def test_each_call_reaches_libc_with_freebsds_numbers() -> None:
    libc = libc_with(mmap=0x800000000)
    system = FreeBSDMemory(libc)
    assert system.map(0, 2 * PAGE, READ | WRITE, MapFlag.NONE) == 0x800000000
    system.map(0x800000000, PAGE, NONE, MapFlag.SHARED | MapFlag.FIXED, 7, 3 * PAGE)
    system.map(0x800000000, PAGE, READ | EXECUTE, MapFlag.FIXED_NOT_OVER | MapFlag.NO_RESERVE | MapFlag.STACK)
    system.protect(0x800000000, PAGE, READ | EXECUTE)
    system.lock(0x800000000, PAGE, on_fault=False)
    system.unlock(0x800000000, PAGE)
    system.lock_all(current=True, future=True, on_fault=False)
    system.unlock_all()
    system.flush(0x800000000, PAGE, wait=True, invalidate=False)
    system.flush(0x800000000, PAGE, wait=False, invalidate=True)
    system.advise(0x800000000, PAGE, 5)
    system.unmap(0x800000000, PAGE)
    assert libc.calls == [
        ("mmap", None, 2 * PAGE, 3, 0x1002, -1, 0),
        ("mmap", 0x800000000, PAGE, 0, 0x11, 7, 3 * PAGE),
        ("mmap", 0x800000000, PAGE, 5, 0x1002 | 0x4010 | 0x400, -1, 0),
        ("mprotect", 0x800000000, PAGE, 5),
        ("mlock", 0x800000000, PAGE),
        ("munlock", 0x800000000, PAGE),
        ("mlockall", 3),
        ("munlockall",),
        ("msync", 0x800000000, PAGE, 0),
        ("msync", 0x800000000, PAGE, 3),
        ("madvise", 0x800000000, PAGE, 5),
        ("munmap", 0x800000000, PAGE),
    ]


@pytest.mark.parametrize(
    ("advice", "number"),
    [
        (Advice.NORMAL, 0),
        (Advice.WILLNEED, 3),
        (Advice.DONTNEED, 4),
        (Advice.FREE, 5),
        (Advice.NOSYNC, 6),
        (Advice.AUTOSYNC, 7),
        (Advice.DONTDUMP, 8),
        (Advice.DODUMP, 9),
        (Advice.PROTECT, 10),
        (Advice.COLD, None),
        (Advice.PAGEOUT, None),
        (Advice.COLLAPSE, None),
        (Advice.WIPEONFORK, None),
    ],
)
def test_advice_has_freebsds_number_or_none(advice: Advice, number: int | None) -> None:
    assert OPERATIONS.advice_number(advice) == number


def test_placement_over_something_is_told_as_occupied() -> None:
    """MAP_FIXED | MAP_EXCL over a mapping: ENOMEM."""
    libc = libc_with(mmap=Fails(ENOMEM))
    memory = Memory(FreeBSDMemory(libc), lambda: pytest.fail("the map was read"))
    with pytest.raises(vmatlas.OperationFailed, match="already") as refused:
        memory.map_anonymous(PAGE, at=0x800000000)
    assert refused.value.errno_name == "EEXIST"
    assert libc.calls[0][4] & 0x4010 == 0x4010


def test_errno_becomes_a_failure_with_its_name() -> None:
    libc = libc_with(mlock=Fails(EAGAIN))
    with pytest.raises(vmatlas.OperationFailed) as refused:
        FreeBSDMemory(libc).lock(0x800000000, PAGE, on_fault=False)
    assert (refused.value.errno, refused.value.errno_name) == (EAGAIN, "EAGAIN")


def test_what_freebsd_lacks_is_unsupported_and_says_so() -> None:
    libc = libc_with()
    system = FreeBSDMemory(libc)
    memory = Memory(system, lambda: pytest.fail("the map was read"))
    for what, use in {
        "FreeBSD has no mremap": lambda: move(memory, 0x800000000, PAGE),
        "FreeBSD locks pages at once": lambda: memory.lock(0x800000000, PAGE, on_fault=True),
        "FreeBSD has no call that advises another process": lambda: system.advise_process(7, None, [], 0),
        "freebsd has no advice 'cold'": lambda: memory.advise(
            [(PAGE, 2 * PAGE)], Advice.COLD, 7, unsafe=True, dry_run=False
        ),
        "cannot map with HUGE": lambda: system.map(0, PAGE, READ, MapFlag.HUGE),
    }.items():
        with pytest.raises(vmatlas.Unsupported, match=what):
            use()
    assert libc.calls == []


def test_dry_run_asks_the_kernel_but_not_about_what_would_protect_the_whole_process() -> None:
    libc = libc_with()
    memory = Memory(FreeBSDMemory(libc), lambda: pytest.fail("the map was read"))
    ranges = [(0x800000000, 0x800000000 + PAGE)]
    assert memory.advise(ranges, Advice.WILLNEED, 7, unsafe=False, dry_run=True).unasked is None
    assert [call[2:] for call in libc.calls] == [(0, 3)]
    libc.calls.clear()
    told = memory.advise(ranges, Advice.PROTECT, 7, unsafe=False, dry_run=True)
    assert "protects the whole process" in (told.unasked or "")
    assert libc.calls == []


def test_abilities_are_the_posix_subset_placement_and_memfd() -> None:
    lacking = {ability for ability in Ability if ability not in OPERATIONS.abilities}
    assert lacking == {
        Ability.MOVE,
        Ability.KEEP_OLD,
        Ability.RESIZE,
        Ability.LOCK_ON_FAULT,
        Ability.ADVISE_PROCESS,
    }


def test_it_is_registered_under_its_system() -> None:
    from vmatlas.operations.systems import operations_of

    assert operations_of("freebsd") is OPERATIONS
