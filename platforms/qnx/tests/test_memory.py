"""QNX's memory calls against a scripted libc: the numbers that reach it, and what its answers become.

Never run on a QNX with Python; the agent makes such calls on a real one (the conformance suite).
"""

from __future__ import annotations

from errno import EINVAL, ENOMEM

import pytest

import vmatlas
from vmatlas import Protection
from vmatlas.conformance.scripted_libc import Fails, ScriptedLibc
from vmatlas.operations import Ability, Advice, Memory
from vmatlas.operations.moving import move
from vmatlas.target.program import MapFlag
from vmatlas_qnx.memory import OPERATIONS, QnxMemory

PAGE = OPERATIONS.page_size
READ, WRITE, EXECUTE, NONE = Protection.READ, Protection.WRITE, Protection.EXECUTE, Protection.NONE


def test_each_call_reaches_libc_with_qnxs_numbers() -> None:
    libc = ScriptedLibc(mmap64=0x40100000)
    system = QnxMemory(libc)
    assert system.map(0, 2 * PAGE, READ | WRITE, MapFlag.NONE) == 0x40100000
    system.map(0x40100000, PAGE, NONE, MapFlag.SHARED | MapFlag.FIXED, 7, 3 * PAGE)
    system.map(0, PAGE, READ | EXECUTE, MapFlag.NO_RESERVE | MapFlag.STACK | MapFlag.POPULATE)
    system.protect(0x40100000, PAGE, READ | WRITE | EXECUTE)
    system.lock(0x40100000, PAGE, on_fault=False)
    system.unlock(0x40100000, PAGE)
    system.lock_all(current=True, future=False, on_fault=False)
    system.flush(0x40100000, PAGE, wait=True, invalidate=True)
    system.advise(0x40100000, PAGE, 3)
    assert libc.calls == [
        ("mmap64", None, 2 * PAGE, 0x300, 0x80002, -1, 0),
        ("mmap64", 0x40100000, PAGE, 0, 0x11, 7, 3 * PAGE),
        ("mmap64", None, PAGE, 0x500, 0x80002 | 0x80 | 0x1000, -1, 0),
        ("mprotect", 0x40100000, PAGE, 0x700),
        ("mlock", 0x40100000, PAGE),
        ("munlock", 0x40100000, PAGE),
        ("mlockall", 1),
        ("msync", 0x40100000, PAGE, 6),
        ("posix_madvise", 0x40100000, PAGE, 3),
    ]


def test_posix_madvise_gives_the_errno_itself() -> None:
    with pytest.raises(vmatlas.OperationFailed) as refused:
        QnxMemory(ScriptedLibc(posix_madvise=EINVAL)).advise(0x40100000, PAGE, 3)
    assert refused.value.errno_name == "EINVAL"


def test_release_without_posix_madvise_says_enosys() -> None:
    with pytest.raises(vmatlas.OperationFailed) as refused:
        QnxMemory(ScriptedLibc(lacking=["posix_madvise"])).advise(0x40100000, PAGE, 3)
    assert refused.value.errno_name == "ENOSYS"


def test_placement_compares_the_address_and_undoes() -> None:
    libc = ScriptedLibc(mmap64=[0x40100000, 0x40700000])
    memory = Memory(QnxMemory(libc), lambda: pytest.fail("the map was read"))
    mine = memory.map_anonymous(PAGE, at=0x40100000)
    assert mine.start == 0x40100000
    assert libc.calls[0][4] & 0x10 == 0  # a hint, and nothing replaced
    with pytest.raises(vmatlas.OperationFailed, match="already"):
        memory.map_anonymous(PAGE, at=0x40100000)
    assert libc.calls[-1] == ("munmap", 0x40700000, PAGE)


def test_errno_becomes_a_failure_with_its_name() -> None:
    libc = ScriptedLibc(mmap64=Fails(ENOMEM))
    with pytest.raises(vmatlas.OperationFailed) as refused:
        QnxMemory(libc).map(0, PAGE, READ, MapFlag.NONE)
    assert refused.value.errno_name == "ENOMEM"


def test_what_qnx_lacks_is_unsupported_and_says_so() -> None:
    libc = ScriptedLibc()
    system = QnxMemory(libc)
    memory = Memory(system, lambda: pytest.fail("the map was read"))
    for what, use in {
        "QNX has no mremap": lambda: move(memory, 0x40100000, PAGE),
        "QNX locks pages at once": lambda: memory.lock(0x40100000, PAGE, on_fault=True),
        "QNX has no memfd": lambda: system.open_memory("a", PAGE),
        "QNX has no call that advises another process": lambda: system.advise_process(7, None, [], 0),
        "qnx has no advice 'free'": lambda: memory.advise(
            [(PAGE, 2 * PAGE)], Advice.FREE, 7, unsafe=True, dry_run=False
        ),
        "cannot map with FIXED_NOT_OVER": lambda: system.map(PAGE, PAGE, READ, MapFlag.FIXED_NOT_OVER),
    }.items():
        with pytest.raises(vmatlas.Unsupported, match=what):
            use()
    assert libc.calls == []


def test_dry_run_does_not_ask_and_says_so() -> None:
    libc = ScriptedLibc()
    memory = Memory(QnxMemory(libc), lambda: pytest.fail("the map was read"))
    told = memory.advise([(0x40100000, 0x40100000 + PAGE)], Advice.WILLNEED, 7, unsafe=False, dry_run=True)
    assert "cannot be asked without a range" in (told.unasked or "")
    assert libc.calls == []


def test_abilities_are_the_posix_subset() -> None:
    assert OPERATIONS.abilities == Ability.LOCK | Ability.LOCK_ALL | Ability.SHARED_OBJECT | Ability.BUFFERS


def test_it_is_registered_under_its_system() -> None:
    from vmatlas.operations.systems import operations_of

    assert operations_of("qnx") is OPERATIONS
