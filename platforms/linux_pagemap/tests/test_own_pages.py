"""Pages of a known state, made in this process, are told as what they are; by each way that this kernel has."""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import struct
import tempfile
from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas import PageState, Unsupported, registry
from vmatlas.backend import PageSource
from vmatlas.model import Query
from vmatlas.model.pages import USUAL, PageRuns
from vmatlas.registry import Broken
from vmatlas.target.local import LOCAL

PAGE = mmap.PAGESIZE
GUARD_INSTALL, GUARD_REMOVE, HUGEPAGE, DONTNEED = 102, 103, 14, 4
LIBC = ctypes.CDLL(None, use_errno=True)
P, Z = PageState.PRESENT, PageState.ZERO
SOURCES = [each for each in registry.page_sources() if not isinstance(each, Broken) and each.system == "linux"]


def madvise(address: int, size: int, advice: int) -> bool:
    return LIBC.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), advice) == 0


@pytest.fixture
def memory() -> Iterator[tuple[mmap.mmap, int]]:
    """16 pages without a file, and where they are."""
    with mmap.mmap(-1, 16 * PAGE, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        view = ctypes.c_char.from_buffer(made)
        yield made, ctypes.addressof(view)
        del view


@pytest.fixture(params=[source.name for source in SOURCES])
def source(request: pytest.FixtureRequest) -> PageSource:
    (found,) = [each for each in SOURCES if each.name == request.param]
    if not (answers := LOCAL.offers(found)):
        pytest.skip(answers.reason)
    return found


def told_by(source: PageSource, of: PageState, start: int, end: int) -> PageRuns:
    process = LOCAL.open(None)
    try:
        return source.pages(process.acquire(source, Query(pages=of, ranges=((start, end),)))).telling(of)
    finally:
        process.close()


def layout_of(runs: PageRuns, first: int) -> list[tuple[int, int, PageState]]:
    return [((run.start - first) // PAGE, (run.end - first) // PAGE, run.state) for run in runs]


def test_touched_pages_are_told_from_untouched_ones(memory: tuple[mmap.mmap, int], source: PageSource) -> None:
    made, at = memory
    for page in (0, 1, 5, 15):
        made[page * PAGE] = 1
    runs = told_by(source, PageState.PRESENT, at, at + 16 * PAGE)
    assert layout_of(runs, at) == [(0, 2, P), (5, 6, P), (15, 16, P)]


def test_a_guard_is_told_as_one_and_not_as_swap(memory: tuple[mmap.mmap, int], source: PageSource) -> None:
    made, at = memory
    made[0] = 1
    if not madvise(at + 4 * PAGE, 2 * PAGE, GUARD_INSTALL):
        pytest.skip("this kernel makes no guards (MADV_GUARD_INSTALL: Linux 6.13)")
    runs = told_by(source, USUAL & source.states, at, at + 16 * PAGE)
    if PageState.GUARD not in runs.told:
        pytest.skip("this kernel makes guards, and does not tell them (Linux 6.13 to 6.15)")
    assert layout_of(runs, at) == [(0, 1, P), (4, 6, PageState.GUARD)]
    assert madvise(at + 4 * PAGE, 2 * PAGE, GUARD_REMOVE)
    assert layout_of(told_by(source, PageState.GUARD, at, at + 16 * PAGE), at) == []


def test_guards_are_entries_of_the_map_where_they_are_asked_for(memory: tuple[mmap.mmap, int]) -> None:
    _, at = memory
    if not madvise(at + 4 * PAGE, 2 * PAGE, GUARD_INSTALL):
        pytest.skip("this kernel makes no guards (MADV_GUARD_INSTALL: Linux 6.13)")
    try:
        space = vmatlas.snapshot(guards=True)
    except Unsupported as error:
        pytest.skip(str(error))
    around = space.neighbours(at + 4 * PAGE)
    assert around.at is not None and around.before is not None and around.after is not None
    assert (around.at.start, around.at.end, around.at.kind) == (at + 4 * PAGE, at + 6 * PAGE, vmatlas.Kind.GUARD)
    assert (around.before.end, around.after.start) == (around.at.start, around.at.end)
    assert around.before.kind is around.after.kind is vmatlas.Kind.ANONYMOUS
    fault = vmatlas.operations.classify_fault(at + 4 * PAGE + 7, space)  # as of a process that has ended
    assert fault.cause is vmatlas.operations.FaultCause.GUARD
    saved = vmatlas.replay(vmatlas.capture(guards=True))
    assert saved.origin.guards and saved.find(at + 4 * PAGE) == around.at
    assert vmatlas.operations.classify_fault(at + 4 * PAGE + 7, saved).cause is fault.cause
    assert not any(each.kind is vmatlas.Kind.GUARD for each in [vmatlas.find(None, at + 4 * PAGE)] if each)


def test_what_lies_around_an_address_has_the_guards_that_no_map_shows(memory: tuple[mmap.mmap, int]) -> None:
    _, at = memory
    if not madvise(at + 4 * PAGE, 2 * PAGE, GUARD_INSTALL) or not madvise(at + 9 * PAGE, PAGE, GUARD_INSTALL):
        pytest.skip("this kernel makes no guards (MADV_GUARD_INSTALL: Linux 6.13)")
    with vmatlas.open() as process:
        if process.guard_at(at + 4 * PAGE) is None:
            pytest.skip("this kernel makes guards, and does not tell them (Linux 6.13 to 6.15)")
        space = process.snapshot()
        inside, between, above = (process.neighbours(at + page * PAGE) for page in (5, 7, 12))
        assert process.neighbours_in(space, at + 5 * PAGE) == inside
        by_map = space.neighbours(at + 5 * PAGE).at  # which has none by itself
        assert by_map is not None and by_map == space.find(at + 9 * PAGE)
        with_use = process.snapshot(residency=True)
        assert process.neighbours_in(with_use, at + 5 * PAGE) == with_use.neighbours(at + 5 * PAGE)
    guard, anonymous = vmatlas.Kind.GUARD, vmatlas.Kind.ANONYMOUS
    told = [
        [(each.start - at) // PAGE if each.start >= at else None, (each.end - at) // PAGE, each.kind]
        for around in (inside, between, above)
        for each in around
        if each is not None and at <= each.end - 1 < at + 10 * PAGE
    ]
    first = told[0][0]  # 0, or where this memory merged with what lies below it
    assert told == [
        [first, 4, anonymous], [4, 6, guard], [6, 9, anonymous],
        [4, 6, guard], [6, 9, anonymous], [9, 10, guard],
        [9, 10, guard],
    ]  # fmt: skip
    assert above.at is not None and (above.at.start, above.at.kind) == (at + 10 * PAGE, anonymous)


def test_the_flag_of_guards_stays_and_spreads_and_only_the_pages_tell_them(
    memory: tuple[mmap.mmap, int], source: PageSource
) -> None:
    """`gu` of smaps says that there may be some (Linux 6.18.15): of what merged, too, and after the last is gone."""
    _, at = memory
    LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4 * PAGE), 1)  # a region of its own, until it merges again
    madvise(at + PAGE, PAGE, GUARD_INSTALL)
    if layout_of(told := told_by(source, USUAL & source.states, at, at + 16 * PAGE), at) != [(1, 2, PageState.GUARD)]:
        pytest.skip(f"this kernel makes no guards, or does not tell them: {' '.join(told.told.words)}")
    LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(4 * PAGE), 3)
    region = vmatlas.snapshot(residency=True).find(at + 15 * PAGE)
    assert region is not None and region.start <= at
    assert layout_of(told_by(source, PageState.GUARD, at, at + 16 * PAGE), at) == [(1, 2, PageState.GUARD)]
    assert madvise(at + PAGE, PAGE, GUARD_REMOVE)
    assert layout_of(told_by(source, PageState.GUARD, at, at + 16 * PAGE), at) == []
    with vmatlas.open() as process:
        entry = process.snapshot(guards=True).find(at + PAGE)
        assert entry is not None and entry.kind is not vmatlas.Kind.GUARD
        assert process.guard_at(at + PAGE) is False
    after = vmatlas.snapshot(residency=True).find(at + PAGE)
    assert after is not None and after.flags is not None and region.flags is not None
    if not region.flags.may_hold_guards:
        pytest.skip("this kernel has no flag of guards (gu: Linux 6.18.15)")
    assert after.flags.may_hold_guards, "a map alone would still say that there may be one"


@pytest.fixture
def watched(memory: tuple[mmap.mmap, int]) -> Iterator[tuple[mmap.mmap, int]]:
    """The 16 pages, of which 12 are watched by a userfaultfd that lets writes pass (WP_ASYNC); all touched before."""
    made, at = memory
    number = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "loongarch64": 282, "s390x": 355, "ppc64le": 364}
    if (call := number.get(os.uname().machine)) is None or ctypes.sizeof(ctypes.c_void_p) != 8:
        pytest.skip("userfaultfd has another number here")
    descriptor = LIBC.syscall(call, os.O_CLOEXEC | 1)  # UFFD_USER_MODE_ONLY
    if descriptor < 0:
        pytest.skip(f"no userfaultfd here: {os.strerror(ctypes.get_errno())}")
    try:
        asynchronous = struct.pack("=QQQ", 0xAA, 1 << 15 | 1 << 13, 0)  # WP_ASYNC, WP_UNPOPULATED
        fcntl.ioctl(descriptor, 0xC018AA3F, asynchronous)  # UFFDIO_API
        fcntl.ioctl(descriptor, 0xC020AA00, struct.pack("=QQQQ", at, 12 * PAGE, 2, 0))  # UFFDIO_REGISTER: WP
        for page in range(16):
            made[page * PAGE] = 1
        fcntl.ioctl(descriptor, 0xC018AA06, struct.pack("=QQQ", at, 12 * PAGE, 1))  # UFFDIO_WRITEPROTECT
    except OSError as error:
        os.close(descriptor)
        pytest.skip(f"userfaultfd lets no writes pass here (WP_ASYNC, Linux 6.7): {error.strerror}")
    yield made, at
    os.close(descriptor)


def test_written_is_believed_of_watched_memory_alone(watched: tuple[mmap.mmap, int]) -> None:
    """Of any other the kernel's word means touched pages, all or none, by release."""
    made, at = watched
    (scan,) = [each for each in SOURCES if PageState.WRITTEN in each.states]
    if not (answers := LOCAL.offers(scan)):
        pytest.skip(answers.reason)
    of = PageState.WRITTEN
    assert layout_of(told_by(scan, of, at, at + 16 * PAGE), at) == []
    made[2 * PAGE] = made[3 * PAGE] = made[14 * PAGE] = 2  # the last is not watched
    assert made[5 * PAGE] == 1  # read alone
    assert layout_of(told_by(scan, of, at, at + 16 * PAGE), at) == [(2, 4, of)]


def test_pages_that_were_read_alone_are_the_page_of_zeros(memory: tuple[mmap.mmap, int]) -> None:
    made, at = memory
    assert made[3 * PAGE] == 0
    made[4 * PAGE] = 1
    (scan,) = [each for each in SOURCES if PageState.ZERO in each.states]
    if not (answers := LOCAL.offers(scan)):
        pytest.skip(answers.reason)
    assert layout_of(told_by(scan, USUAL, at, at + 16 * PAGE), at) == [(3, 4, P | Z), (4, 5, P)]


def test_pages_of_files_and_of_shared_memory_are_told_from_others(
    memory: tuple[mmap.mmap, int], source: PageSource
) -> None:
    made, at = memory
    made[0] = 1
    of = PageState.FILE | PageState.ANONYMOUS
    assert layout_of(told_by(source, of, at, at + PAGE), at) == [(0, 1, PageState.ANONYMOUS)]
    for shared in (mmap.MAP_SHARED, mmap.MAP_PRIVATE):
        with tempfile.TemporaryFile() as file:
            file.truncate(2 * PAGE)
            with mmap.mmap(file.fileno(), 2 * PAGE, shared) as mapped:
                view = ctypes.c_char.from_buffer(mapped)
                first = ctypes.addressof(view)
                del view
                assert mapped[0] == 0 and mapped[PAGE] == 0
                assert layout_of(told_by(source, of, first, first + 2 * PAGE), first) == [(0, 2, PageState.FILE)]
                mapped[PAGE] = 1
                states = [PageState.FILE, PageState.FILE if shared == mmap.MAP_SHARED else PageState.ANONYMOUS]
                runs = told_by(source, of, first, first + 2 * PAGE)
                assert [runs.find(first + page * PAGE).state for page in (0, 1)] == states  # type: ignore[union-attr]
    with mmap.mmap(-1, PAGE) as shared_memory:
        shared_memory[0] = 1
        view = ctypes.c_char.from_buffer(shared_memory)
        first = ctypes.addressof(view)
        del view
        assert layout_of(told_by(source, of, first, first + PAGE), first) == [(0, 1, PageState.FILE)]


def test_pages_without_any_right_are_present_all_the_same(memory: tuple[mmap.mmap, int], source: PageSource) -> None:
    made, at = memory
    made[0] = 1
    assert LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(PAGE), 0) == 0
    try:
        assert layout_of(told_by(source, PageState.PRESENT, at, at + 16 * PAGE), at) == [(0, 1, P)]
    finally:
        LIBC.mprotect(ctypes.c_void_p(at), ctypes.c_size_t(PAGE), 3)


def test_a_page_that_a_child_shares_is_not_this_process_s_alone(memory: tuple[mmap.mmap, int]) -> None:
    made, at = memory
    made[0] = made[PAGE] = 1
    of = PageState.PRESENT | PageState.EXCLUSIVE
    with vmatlas.open() as process:
        assert layout_of(process.pages(between=(at, at + 16 * PAGE), of=of), at) == [(0, 2, of)]
        read_end, write_end = os.pipe()
        child = os.fork()
        if not child:
            os.close(write_end)
            os.read(read_end, 1)
            os._exit(0)
        os.close(read_end)
        try:
            made[PAGE] = 2  # a page of its own again
            assert layout_of(process.pages(between=(at, at + 16 * PAGE), of=of), at) == [(0, 1, P), (1, 2, of)]
        finally:
            os.close(write_end)
            os.waitpid(child, 0)


def test_both_ways_say_the_same_of_a_whole_process(memory: tuple[mmap.mmap, int]) -> None:
    made, at = memory
    for page in range(0, 16, 2):
        made[page * PAGE] = 1
    of = PageState.PRESENT | PageState.SWAPPED | PageState.GUARD
    one, *others = [told_by(each, of, at, at + 16 * PAGE) for each in SOURCES if LOCAL.offers(each)]
    assert len(one) >= 8
    for other in others:
        assert other == one


def test_a_huge_page_is_told_where_the_system_makes_one() -> None:
    huge = 2 << 20
    with mmap.mmap(-1, 2 * huge, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as made:
        view = ctypes.c_char.from_buffer(made)
        at = -(-ctypes.addressof(view) // huge) * huge
        offset = at - ctypes.addressof(view)
        del view
        if not madvise(at, huge, HUGEPAGE):
            pytest.skip("this kernel makes no huge pages by itself (CONFIG_TRANSPARENT_HUGEPAGE)")
        made[offset] = 1
        (scan,) = [each for each in SOURCES if PageState.HUGE in each.states]
        if not (answers := LOCAL.offers(scan)):
            pytest.skip(answers.reason)
        runs = told_by(scan, USUAL, at, at + huge)
        if runs.total == PAGE:
            pytest.skip("the kernel had no huge page to give, or makes them of another size")
        assert [*runs.sums().items()][:1] == [(PageState.PRESENT, huge)]
        assert runs.bytes_of(PageState.HUGE) == huge
        assert not LIBC.mprotect(ctypes.c_void_p(at + PAGE), ctypes.c_size_t(PAGE), 1)
        split = told_by(scan, USUAL, at, at + huge)
        assert (split.bytes_of(PageState.HUGE), split.bytes_of(PageState.PRESENT)) == (0, huge)


def test_untouched_memory_of_a_terabyte_is_not_walked_page_by_page() -> None:
    size = 1 << 40
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000  # MAP_NORESERVE
    try:
        made = mmap.mmap(-1, size, flags)
    except OSError:
        pytest.skip("no terabyte may be reserved here (vm.overcommit_memory, a limit, 32 bits)")
    with made:
        touched = [0, size // 3 // PAGE, size // 2 // PAGE, size // PAGE - 1]
        for page in touched:
            made[page * PAGE] = 1
        view = ctypes.c_char.from_buffer(made)
        at = ctypes.addressof(view)
        del view
        with vmatlas.open() as process:
            try:
                runs = process.pages(between=(at, at + size), of=PageState.HUGE | PageState.PRESENT)
            except Unsupported as error:
                pytest.skip(str(error))
        assert [runs.find(at + page * PAGE) is not None for page in touched] == [True] * 4
        assert len(runs) == 4
