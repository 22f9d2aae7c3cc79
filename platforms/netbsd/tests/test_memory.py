"""NetBSD's memory calls against a scripted libc: the numbers that reach it, and what its errno becomes.

The agent makes the same calls on real kernels (the conformance suite); with Python on a NetBSD they were never run.
"""

from __future__ import annotations

from errno import EAGAIN, ENOSYS

import pytest

import vmatlas
from vmatlas import Protection
from vmatlas.conformance.scripted_libc import Answer, Fails, ScriptedLibc
from vmatlas.operations import Ability, Advice, Memory, Promise
from vmatlas.operations.moving import move
from vmatlas.target.program import MapFlag
from vmatlas_netbsd.memory import OPERATIONS, NetBSDMemory

PAGE = OPERATIONS.page_size
AT = 0x7F0000000000
READ, WRITE, EXECUTE, NONE = Protection.READ, Protection.WRITE, Protection.EXECUTE, Protection.NONE


def libc_with(**answers: Answer) -> ScriptedLibc:
    """NetBSD has mmap alone."""
    return ScriptedLibc(lacking=("mmap64",), **answers)


def test_each_call_reaches_libc_with_netbsds_numbers() -> None:
    libc = libc_with(mmap=AT)
    system = NetBSDMemory(libc)
    assert system.map(0, 2 * PAGE, READ | WRITE, MapFlag.NONE) == AT
    system.map(AT, PAGE, NONE, MapFlag.SHARED | MapFlag.FIXED, 7, 3 * PAGE)
    system.map(AT, PAGE, READ | EXECUTE, MapFlag.FIXED_NOT_OVER | MapFlag.NO_RESERVE | MapFlag.STACK | MapFlag.LOCKED)
    system.protect(AT, PAGE, READ | EXECUTE)
    system.lock(AT, PAGE, on_fault=False)
    system.unlock(AT, PAGE)
    system.lock_all(current=True, future=True, on_fault=False)
    system.unlock_all()
    system.flush(AT, PAGE, wait=True, invalidate=False)
    system.flush(AT, PAGE, wait=False, invalidate=True)
    system.advise(AT, PAGE, 6)
    system.unmap(AT, PAGE)
    assert libc.calls == [
        ("mmap", None, 2 * PAGE, 3, 0x1002, -1, 0),
        ("mmap", AT, PAGE, 0, 0x11, 7, 3 * PAGE),
        ("mmap", AT, PAGE, 5, 0x1002 | 0x400 | 0x40 | 0x2000 | 0x800, -1, 0),
        ("mprotect", AT, PAGE, 5),
        ("mlock", AT, PAGE),
        ("munlock", AT, PAGE),
        ("mlockall", 3),
        ("munlockall",),
        ("msync", AT, PAGE, 4),
        ("msync", AT, PAGE, 3),
        ("madvise", AT, PAGE, 6),
        ("munmap", AT, PAGE),
    ]


@pytest.mark.parametrize(
    ("advice", "number"),
    [
        (Advice.NORMAL, 0),
        (Advice.RANDOM, 1),
        (Advice.SEQUENTIAL, 2),
        (Advice.WILLNEED, 3),
        (Advice.DONTNEED, 4),
        (Advice.FREE, 6),
        (Advice.COLD, None),
        (Advice.DONTDUMP, None),
        (Advice.NOSYNC, None),
    ],
)
def test_advice_has_netbsds_number_or_none(advice: Advice, number: int | None) -> None:
    assert OPERATIONS.advice_number(advice) == number


def test_placement_over_something_comes_elsewhere_and_is_undone_and_told_as_occupied() -> None:
    """MAP_TRYFIXED gives another place then (mmap(2))."""
    libc = libc_with(mmap=AT + 16 * PAGE)
    memory = Memory(NetBSDMemory(libc), lambda: pytest.fail("the map was read"))
    with pytest.raises(vmatlas.OperationFailed, match="already") as refused:
        memory.map_anonymous(PAGE, at=AT)
    assert refused.value.errno_name == "EEXIST"
    assert [call[0] for call in libc.calls] == ["mmap", "munmap"]
    assert libc.calls[0][4] & 0x410 == 0x400
    assert libc.calls[1][1] == AT + 16 * PAGE


def test_errno_becomes_a_failure_with_its_name() -> None:
    libc = libc_with(mlock=Fails(EAGAIN))
    with pytest.raises(vmatlas.OperationFailed) as refused:
        NetBSDMemory(libc).lock(AT, PAGE, on_fault=False)
    assert (refused.value.errno, refused.value.errno_name) == (EAGAIN, "EAGAIN")


def test_a_kernel_or_a_library_before_11_has_no_memory_object() -> None:
    for libc in (libc_with(memfd_create=Fails(ENOSYS)), ScriptedLibc(lacking=("memfd_create",))):
        with pytest.raises(vmatlas.OperationFailed) as refused:
            NetBSDMemory(libc).open_memory("name", PAGE)
        assert refused.value.errno_name == "ENOSYS"


def test_what_netbsd_lacks_is_unsupported_and_says_so() -> None:
    libc = libc_with()
    system = NetBSDMemory(libc)
    memory = Memory(system, lambda: pytest.fail("the map was read"))
    for what, use in {
        "NetBSD's mremap has other rules": lambda: move(memory, AT, PAGE),
        "NetBSD locks pages at once": lambda: memory.lock(AT, PAGE, on_fault=True),
        "NetBSD has no call that advises another process": lambda: system.advise_process(7, None, [], 0),
        "netbsd has no advice 'cold'": lambda: memory.advise(
            [(PAGE, 2 * PAGE)], Advice.COLD, 7, unsafe=True, dry_run=False
        ),
        "cannot map with HUGE": lambda: system.map(0, PAGE, READ, MapFlag.HUGE),
    }.items():
        with pytest.raises(vmatlas.Unsupported, match=what):
            use()
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
    assert OPERATIONS.promises == Promise.NONE


def test_it_is_registered_under_its_system() -> None:
    from vmatlas.operations.systems import operations_of

    assert operations_of("netbsd") is OPERATIONS
