"""Who has no guard below its stack: by the map, by guards that no map shows, and where they cannot be told."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest

import vmatlas
from vmatlas import Kind, Protection, Region
from vmatlas.analysis.audit import Evidence, audit
from vmatlas.analysis.audit.policy import Policy
from vmatlas.analysis.audit.rules.unguarded_thread import RULE
from vmatlas.model import AddressSpace, Thread
from vmatlas.values import replace

from .strategies import ORIGIN

PAGE = 4096
R, W, NONE = Protection.READ, Protection.WRITE, Protection.NONE
FIRST = 0x7000_0000


def stack(first: int, last: int) -> Region:
    return Region(FIRST + first * PAGE, FIRST + last * PAGE, R | W, False, kind=Kind.ANONYMOUS)


def guard(first: int, last: int) -> Region:
    return Region(FIRST + first * PAGE, FIRST + last * PAGE, NONE, False, kind=Kind.GUARD)


def thread(number: int, page: float | None) -> Thread:
    return Thread(number, f"t{number}", None if page is None else FIRST + int(page * PAGE))


def found(
    *regions: Region,
    threads: list[Thread] | None,
    guards: list[tuple[int, int]] | None = None,
    release: str = "6.1.0-50-amd64",
) -> tuple[list[int], list[str]]:
    """The numbers of the threads that are named, and why the rule cannot speak."""
    system = dataclasses.replace(ORIGIN.system, system="linux", release=release)
    space = AddressSpace.of(list(regions), replace(ORIGIN, system=system))
    evidence = Evidence(
        threads=lambda: None if threads is None else tuple(threads),
        hidden_guards=lambda: (
            None if guards is None else [(FIRST + start * PAGE, FIRST + end * PAGE) for start, end in guards]
        ),
    )
    report = audit(space, evidence, policy=Policy({RULE.id: RULE.severity}))
    named = [each.number for finding in report for each in threads or () if f"{each.number} (" in finding.explanation]
    return named, [each.why for each in report.untold]


def test_a_stack_above_a_guard_a_hole_or_what_may_not_be_written_is_guarded() -> None:
    regions = [guard(0, 1), stack(1, 9), stack(20, 29), Region(FIRST + 40 * PAGE, FIRST + 41 * PAGE, R), stack(41, 49)]
    assert found(*regions, threads=[thread(1, 8.5), thread(2, 28.5), thread(3, 48.5)]) == ([], [])


def test_a_stack_above_memory_that_can_be_written_is_not() -> None:
    shared = Region(FIRST, FIRST + PAGE, R | W, True, kind=Kind.SHARED_MEMORY)
    assert found(shared, stack(1, 9), threads=[thread(7, 8.5)]) == ([7], [])


def test_of_two_stacks_in_one_region_the_upper_has_no_guard() -> None:
    """glibc without a guard (pthread_attr_setguardsize 0): their mappings merge."""
    assert found(guard(0, 1), stack(1, 17), threads=[thread(1, 8.5), thread(2, 16.5)]) == ([2], [])


@pytest.mark.parametrize(
    ("guards", "expected"),
    [
        ([(1, 2), (9, 10)], []),  # two stacks of glibc 2.42, one region
        ([(1, 2)], [2]),  # the upper one has none
        ([(9, 10)], [1]),  # below the lower one lies what can be written
        ([], [1, 2]),
    ],
)
def test_guards_that_no_map_shows_count(guards: list[tuple[int, int]], expected: list[int]) -> None:
    below = Region(FIRST, FIRST + PAGE, R | W, True, kind=Kind.SHARED_MEMORY)
    threads = [thread(1, 8.5), thread(2, 16.5)]
    assert found(below, stack(1, 17), threads=threads, guards=guards, release="7.3.4") == (expected, [])


def test_where_such_guards_may_be_and_are_not_told_nothing_is_found_and_it_is_said() -> None:
    threads = [thread(1, 8.5), thread(2, 16.5)]
    for release in ("6.13.0", "7.3.4", "odd"):
        named, why = found(guard(0, 1), stack(1, 17), threads=threads, release=release)
        assert named == []
        assert why == ["1 thread(s) may have a guard that no map shows (MADV_GUARD_INSTALL), which is not told here"]
    assert found(guard(0, 1), stack(1, 17), threads=threads, release="6.12.117")[0] == [2]


def test_threads_that_tell_nothing_are_counted() -> None:
    named, why = found(guard(0, 1), stack(1, 9), threads=[thread(1, 8.5), thread(2, None)])
    assert (named, why) == ([], ["1 of 2 threads do not tell their stack pointers"])
    assert found(stack(1, 9), threads=None) == ([], ["where threads have their stacks is not told here"])


def test_five_hundred_guarded_threads_are_no_finding_and_one_that_is_not_is_named() -> None:
    regions = []
    for first in range(0, 5000, 10):
        if first == 2500:
            continue  # without its guard it is one region with the stack below
        regions += [guard(first, first + 1), stack(first + 1, first + (20 if first == 2490 else 10))]
    threads = [thread(1000 + number, number * 10 + 9.5) for number in range(500)]
    assert found(*regions, threads=threads)[0] == [1250]


PROGRAM = """
import ctypes, sys, threading
libc = ctypes.CDLL(None)
if sys.argv[1] == "guarded":
    end = threading.Event()
    for _ in range(int(sys.argv[2])):
        threading.Thread(target=end.wait, daemon=True).start()
else:
    attributes = ctypes.create_string_buffer(256)
    libc.pthread_attr_init(attributes)
    libc.pthread_attr_setguardsize(attributes, ctypes.c_size_t(0))
    start = ctypes.cast(libc.pause, ctypes.c_void_p)
    for _ in range(int(sys.argv[2])):
        assert libc.pthread_create(ctypes.byref(ctypes.c_ulong()), attributes, start, None) == 0
print(flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux")
@pytest.mark.parametrize(("how", "count"), [("guarded", 500), ("bare", 20)])
def test_threads_of_a_program_are_told_by_this_kernel(how: str, count: int) -> None:
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, how, str(count)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdout is not None
            program.stdout.readline()
            with vmatlas.open(program.pid) as process:
                threads = process.threads() or ()
                if not any(each.stack_pointer for each in threads):
                    pytest.skip("no thread tells its stack pointer here: it takes the right to trace")
                report = audit(process.snapshot(), process.evidence(), policy=Policy({RULE.id: RULE.severity}))
        finally:
            program.kill()
    if any("which is not told here" in each.why for each in report.untold):
        pytest.skip("this kernel makes guards that no map shows, and does not tell them")
    assert len(threads) > count
    assert bool(list(report)) is (how == "bare"), [each.explanation for each in report]
