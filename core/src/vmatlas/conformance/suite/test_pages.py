"""Pages of a known state are told as what they are: untouched, touched, of zeros, of files, shared, guards, huge."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

import vmatlas
from vmatlas import PageState, Unsupported, operations, registry
from vmatlas.backend import Availability, Feature, PageSource, Target, TellsOwnAlone
from vmatlas.conformance.ground import READ, Ground, own_path
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import Query
from vmatlas.model.pages import USUAL, PageRuns
from vmatlas.operations import Advice
from vmatlas.operations.systems import operations_of
from vmatlas.registry import Broken
from vmatlas.target.agent import AgentProcess, AgentTarget, MapFlag, MapObject, required
from vmatlas.target.asking import AgentRefused
from vmatlas.target.local import LOCAL
from vmatlas.target.program import Agent

FILE = own_path(b"pages")
NOBODY = 65534
GUARD_INSTALL, GUARD_REMOVE, HUGEPAGE = 102, 103, 14
"""madvise(2) of Linux, for which there is no plugin's word yet."""
MADE_HUGE, SET_ASIDE = b"/sys/kernel/mm/transparent_hugepage/hpage_pmd_size", b"/proc/meminfo"
"""Of Linux: the bytes of a huge page of the kernel's own making, and (Hugepagesize) of one that is set aside."""
LARGEST = 1 << 26
"""Bytes of the largest huge page that is asked for here."""
P, S, Z, G, H = PageState.PRESENT, PageState.SWAPPED, PageState.ZERO, PageState.GUARD, PageState.HUGE

LAZY = MapFlag.NO_RESERVE
"""Memory that is not there before it is touched: on Linux all is so, on QNX what is mapped with this (MAP_LAZY)."""

Layout = list[tuple[int, int, PageState]]


def source_named(name: str) -> PageSource:
    """The page source of that name."""
    (found,) = [each for each in registry.page_sources() if not isinstance(each, Broken) and each.name == name]
    return found


def runs_of(ground: Ground, reader: Target, page_source: str, of: PageState, *ranges: tuple[int, int]) -> PageRuns:
    """What the source tells of ranges of the ground, by their pages; of all of it when none are given."""
    source, process = source_named(page_source), reader.open(ground.worker.pid)
    asked = tuple((ground.at(first), ground.at(last)) for first, last in ranges) or ((ground.start, ground.end),)
    try:
        return source.pages(process.acquire(source, Query(pages=of, ranges=asked))).telling(of)
    finally:
        process.close()


def layout_of(runs: PageRuns, ground: Ground) -> Layout:
    """The runs by the pages of the ground."""
    page, first = ground.page, ground.start
    return [((run.start - first) // page, (run.end - first) // page, run.state) for run in runs]


def told(runs: PageRuns, expected: Layout) -> Layout:
    """What is expected, without the states that are not told here."""
    return [(start, end, state & runs.told) for start, end, state in expected]


@pytest.fixture
def _file(agent_target: AgentTarget) -> Iterator[None]:
    """A file of one byte on the target."""
    required(agent_target.agent.write_file(FILE, b"x", new=True), "writing a file")
    yield
    agent_target.agent.unlink(FILE)


def test_source_of_pages_is_available_or_says_why_not(
    any_page_source: str, reader: Target, ground: Ground, record_property: Callable[[str, object], None]
) -> None:
    source = source_named(any_page_source)
    availability: Availability = reader.offers(source)
    if availability:
        record_property("answers", any_page_source)
        if isinstance(source, TellsOwnAlone):
            with pytest.raises(Unsupported) as refused:
                runs_of(ground, reader, any_page_source, P)
            assert source.own_alone in str(refused.value)
            return
        ground.lay(0, 1)
        required(ground.worker.touch(ground.start, ground.page, write=1), "touching")
        assert layout_of(runs_of(ground, reader, any_page_source, P), ground) == [(0, 1, P)]
        return
    record_property("refuses", availability.reason)
    assert availability.reason


def test_pages_of_the_one_who_asks_are_told(any_page_source: str, reader: Target, agent_target: AgentTarget) -> None:
    source = source_named(any_page_source)
    if not (offered := reader.offers(source)):
        pytest.skip(f"refused as declared: {offered.reason}")
    if reader is not LOCAL:
        ground = Ground(agent_target.agent.itself)
        placed = ground.lay(0, 16, flags=LAZY)
        try:
            required(ground.worker.touch(ground.at(1), 2 * ground.page, write=1), "touching")
            assert layout_of(runs_of(ground, reader, any_page_source, P), ground) == [(1, 3, P)]
        finally:
            required(ground.worker.unmap(placed.start, placed.size), "unmapping")
        return
    page = reader.system_info.page_size
    with operations.map_anonymous(16 * page, no_reserve=True) as mapping:
        for touched in (1, 2, 5):
            mapping.buffer[touched * page] = 1
        process = reader.open(None)
        try:
            query = Query(pages=P, ranges=((mapping.start, mapping.start + mapping.size),))
            runs = source.pages(process.acquire(source, query)).telling(P)
        finally:
            process.close()
        found = [((run.start - mapping.start) // page, (run.end - mapping.start) // page) for run in runs]
        assert found == [(1, 3), (5, 6)]


def test_pages_are_told_or_refused(
    reader: Target, ground: Ground, record_property: Callable[[str, object], None]
) -> None:
    ground.lay(0, 4, flags=LAZY)
    required(ground.worker.touch(ground.at(1), 2 * ground.page, write=1), "touching")
    with vmatlas.open(ground.worker.pid, target=reader) as process:
        try:
            runs = process.pages(between=(ground.at(1) + 8, ground.at(9)))
        except Unsupported as refused:
            record_property("refused", str(refused))
            return
        assert [(run.start, run.end, run.says(P)) for run in runs] == [(ground.at(1) + 8, ground.at(3), True)]
        by_map = process.pages_in(process.snapshot(), between=(ground.start, ground.end), of=P)
        assert process.pages(of=P).within(ground.start, ground.end) == by_map
        assert process.pages(where="w", of=P).within(ground.start, ground.end) == by_map


def test_touched_pages_are_told_from_untouched_ones_and_from_the_page_of_zeros(
    ground: Ground, reader: Target, page_source: str
) -> None:
    ground.lay(0, 16, flags=LAZY)
    worker, page = ground.worker, ground.page
    required(worker.touch(ground.at(0), 3 * page, write=1), "touching")
    required(worker.touch(ground.at(5), page, write=1), "touching")
    required(worker.touch(ground.at(8), 2 * page), "reading")
    runs = runs_of(ground, reader, page_source, USUAL)
    assert layout_of(runs, ground) == told(runs, [(0, 3, P), (5, 6, P), (8, 10, P | Z)])
    runs = runs_of(ground, reader, page_source, USUAL, (1, 2), (4, 9))
    assert layout_of(runs, ground) == told(runs, [(1, 2, P), (5, 6, P), (8, 9, P | Z)])


def test_what_is_unmapped_is_in_no_run_and_what_has_no_rights_is(
    ground: Ground, reader: Target, page_source: str
) -> None:
    ground.lay(0, 8)
    required(ground.worker.touch(ground.start, 8 * ground.page, write=1), "touching")
    ground.clear(2, 2)
    ground.protect(5, 1, vmatlas.Protection.NONE)
    runs = runs_of(ground, reader, page_source, P)
    assert layout_of(runs, ground) == [(0, 2, P), (4, 8, P)]


def test_more_runs_than_a_kernel_gives_at_once_are_told_each_once(
    ground: Ground, reader: Target, page_source: str
) -> None:
    """3,000 pages, of which every second one may not be written: to lock them reads the page of zeros there."""
    states = source_named(page_source).states
    other = Z if Z in states else PageState.EXCLUSIVE
    if other not in states:
        pytest.skip(f"refused as declared: {page_source} tells no pages of this sort apart")
    pages = 3000
    large = Ground(ground.worker, pages)
    large.lay(0, pages)
    changed = ground.worker.protect_every(large.at(1), (pages - 1) * large.page, 2 * large.page, large.page, READ)
    required(changed, "striping")
    if not (locked := ground.worker.lock(large.start, pages * large.page)).ok:
        pytest.skip(f"the caller may not lock {pages} pages: {locked.errno_name}")
    runs = runs_of(large, reader, page_source, P | other)
    of_zeros, written = (P | Z, P) if other is Z else (P, P | other)
    assert layout_of(runs, large) == [(at, at + 1, of_zeros if at % 2 else written) for at in range(pages)]


def test_pages_of_files_and_of_shared_memory_are_told_from_others(
    ground: Ground, _file: None, reader: Target, page_source: str
) -> None:
    of = P | PageState.FILE | PageState.ANONYMOUS
    if of & ~source_named(page_source).states:
        pytest.skip(f"refused as declared: {page_source} does not tell files from other memory")
    worker, page = ground.worker, ground.page
    ground.lay(0)
    ground.lay(16, flags=MapFlag.SHARED)
    ground.lay(32, 1, protection=READ, source=MapObject.FILE, name=FILE)
    ground.lay(48, 1, source=MapObject.FILE, name=FILE)
    for first, write in ((0, 1), (16, 1), (32, None), (48, 1)):
        required(worker.touch(ground.at(first), page, write=write), "touching")
    runs = runs_of(ground, reader, page_source, of)
    own, of_file = P | PageState.ANONYMOUS, P | PageState.FILE
    assert layout_of(runs, ground) == [(0, 1, own), (16, 17, of_file), (32, 33, of_file), (48, 49, own)]


def test_pages_that_a_child_shares_are_not_the_process_s_alone(
    agent_target: AgentTarget, reader: Target, page_source: str
) -> None:
    of = P | PageState.EXCLUSIVE
    if of & ~source_named(page_source).states:
        pytest.skip(f"refused as declared: {page_source} does not tell which pages are a process's alone")
    ground = Ground(agent_target.agent.itself)
    page, placed = ground.page, ground.lay(4, 4)
    try:
        required(ground.worker.touch(placed.start, placed.size, write=1), "touching")
        assert layout_of(runs_of(ground, reader, page_source, of), ground) == [(4, 8, of)]
        child = agent_target.agent.spawn()
        try:
            required(child.touch(placed.start, page, write=2), "touching in the child")
            runs = runs_of(ground, reader, page_source, of)
            assert layout_of(runs, ground) in ([(4, 5, of), (5, 8, P)], [(4, 8, P)])  # copied, or not yet looked at
        finally:
            child.end()
            child.reap()
    finally:
        required(ground.worker.unmap(placed.start, placed.size), "unmapping")


def test_guards_are_told_and_are_no_swap(
    ground: Ground, reader: Target, page_source: str, record_property: Callable[[str, object], None]
) -> None:
    ground.lay(0, 16, flags=LAZY)
    worker, page = ground.worker, ground.page
    required(worker.touch(ground.at(0), page, write=1), "touching")
    installed = worker.advise(ground.at(4), 2 * page, GUARD_INSTALL)
    if not installed.ok:
        record_property("refused", f"this kernel makes no guards (MADV_GUARD_INSTALL): {installed.errno_name}")
        assert layout_of(runs_of(ground, reader, page_source, USUAL), ground) == [(0, 1, P)]
        return
    runs = runs_of(ground, reader, page_source, USUAL)
    if G not in runs.told:
        pytest.skip("this kernel makes guards, and does not tell them (Linux 6.13 to 6.15)")
    assert layout_of(runs, ground) == [(0, 1, P), (4, 6, G)]
    with vmatlas.open(worker.pid, target=reader) as process:
        entry = process.snapshot(guards=True).find(ground.at(5))
        assert entry is not None and entry.kind is vmatlas.Kind.GUARD
        assert (entry.start, entry.end) == (ground.at(4), ground.at(6))
        assert vmatlas.replay(process.capture(guards=True)).find(ground.at(5)) == entry
        assert (process.guard_at(ground.at(5)), process.guard_at(ground.at(3))) == (True, False)
    required(worker.advise(ground.at(4), 2 * page, GUARD_REMOVE), "removing the guards")
    assert layout_of(runs_of(ground, reader, page_source, USUAL), ground) == [(0, 1, P)]


def huge_page(agent: Agent, file: bytes, key: bytes = b"") -> int:
    """The bytes of a huge page, as a file there says; 0 where nothing says it, or it is too large to be made here."""
    try:
        text = agent.read_file(file)
    except AgentRefused:
        return 0
    line = next((line for line in text.split(b"\n") if line.startswith(key)), b"").removeprefix(key).split()
    size = int(line[0]) * (1024 if line[1:] == [b"kB"] else 1) if line and line[0].isdigit() else 0
    return size if size <= LARGEST else 0


@pytest.fixture
def made_huge(agent_target: AgentTarget, worker: AgentProcess, page_source: str) -> tuple[Ground, int, int]:
    """Ground with a huge page of the system's own making, where it begins and what it has; a page of it was written."""
    if H not in source_named(page_source).states:
        pytest.skip(f"refused as declared: {page_source} tells no huge pages")
    if not (size := huge_page(agent_target.agent, MADE_HUGE)):
        pytest.skip(f"refused as declared: this kernel makes no huge pages of at most {LARGEST:,} bytes by itself")
    large = Ground(worker, 2 * size // agent_target.agent.hello.page_size)
    large.lay(0, 2 * size // large.page)
    first = -(-large.start // size) * size
    if not (advised := worker.advise(first, size, HUGEPAGE)).ok:
        pytest.skip(f"refused as declared: this kernel makes no huge pages by itself: {advised.errno_name}")
    required(worker.touch(first, large.page, write=1), "touching")
    return large, first, size


def test_a_huge_page_is_told_where_the_system_makes_one(
    made_huge: tuple[Ground, int, int], reader: Target, page_source: str
) -> None:
    large, first, size = made_huge
    runs = runs_of(large, reader, page_source, USUAL)
    if not runs.bytes_of(H):
        pytest.skip(f"the kernel had no huge page of {size:,} bytes to give")
    assert [(run.start, run.size, run.state) for run in runs] == [(first, size, P | H)]


def test_a_huge_page_that_was_split_is_none_any_more(
    made_huge: tuple[Ground, int, int], reader: Target, page_source: str
) -> None:
    """As Linux tells it: it is mapped page by page from then on, and all of it stays in memory."""
    large, first, size = made_huge
    if not runs_of(large, reader, page_source, H):
        pytest.skip(f"the kernel had no huge page of {size:,} bytes to give")
    required(large.worker.protect(first + large.page, large.page, READ), "protecting")
    runs = runs_of(large, reader, page_source, P | H)
    assert [(run.start, run.size, run.state) for run in runs] == [(first, size, P)]


def test_huge_pages_that_were_set_aside_are_told_before_they_are_touched(
    agent_target: AgentTarget, worker: AgentProcess, reader: Target, page_source: str
) -> None:
    of = (P | H) & source_named(page_source).states
    if not (size := huge_page(agent_target.agent, SET_ASIDE, b"Hugepagesize:")):
        pytest.skip(f"refused as declared: this kernel sets no huge pages aside, or none of at most {LARGEST:,} bytes")
    made = worker.map(2 * size, flags=MapFlag.HUGE)
    if not made.ok:
        pytest.skip(f"no two huge pages of {size:,} bytes are set aside there: {made.errno_name}")
    start, source, process = made.value, source_named(page_source), reader.open(worker.pid)
    try:

        def told() -> Layout:
            query = Query(pages=of, ranges=((start, start + 2 * size),))
            runs = source.pages(process.acquire(source, query)).telling(of)
            return [((run.start - start) // size, (run.end - start) // size, run.state & (P | H)) for run in runs]

        # There is nothing to be told of one before the kernel has made a table for where it lies (`hugetlb_walk`): it
        # has where other memory is near, on POWER hardly ever; of two on both sides of a table's end, of one perhaps.
        huge = H & of
        assert told() in ([[], [(0, 1, H)], [(1, 2, H)], [(0, 2, H)]] if huge else [[]])
        required(worker.touch(start, 1, write=1), "touching")
        first, *others = told()
        assert first == (0, 1, P | huge)
        assert others in ([[], [(1, 2, H)]] if huge else [[]])
    finally:
        process.close()
        required(worker.unmap(start, 2 * size), "unmapping")


def test_what_is_sent_to_swap_is_in_memory_or_there(ground: Ground, reader: Target, page_source: str) -> None:
    ground.lay(0, 8, flags=LAZY)
    required(ground.worker.touch(ground.at(1), 3 * ground.page, write=1), "touching")
    try:
        number = operations_of(reader.system_info.system).advice_number(Advice.PAGEOUT)
    except Unsupported:  # a system without such advice leaves it where it is
        number = None
    if number is not None:
        ground.worker.advise(ground.start, 8 * ground.page, number)
    runs = runs_of(ground, reader, page_source, P | S)
    assert [(start, end) for start, end, _ in joined(layout_of(runs, ground))] == [(1, 4)]
    assert all(state in (P, S) for _, _, state in layout_of(runs, ground))


def owners_only(system: str) -> bool:
    """Whether maps there are for the process's user, and so its pages."""
    found = [each for each in registry.backends() if not isinstance(each, Broken) and each.system == system]
    return any(Feature.OWNERS_ONLY in each.features for each in found)


def joined(layout: Layout) -> Layout:
    """Runs that touch as one, whatever they say."""
    found: Layout = []
    for start, end, state in layout:
        if found and found[-1][1] == start:
            start, state = found[-1][0], state | found.pop()[2]
        found.append((start, end, state))
    return found


def test_a_process_that_has_ended_is_told_so(reader: Target, page_source: str, agent_target: AgentTarget) -> None:
    child = agent_target.agent.spawn()
    ground = Ground(child)
    ground.lay(0, 1)
    required(child.touch(ground.start, ground.page, write=1), "touching")
    assert layout_of(runs_of(ground, reader, page_source, P), ground) == [(0, 1, P)]
    source, process = source_named(page_source), reader.open(child.pid)
    try:
        required(child.end(), "ending the child")
        until = time.monotonic() + PATIENCE
        while not any(each.pid == child.pid and each.state == "Z" for each in reader.processes()):
            assert time.monotonic() < until, "the child did not become a zombie"
            time.sleep(0.05)
        with pytest.raises(vmatlas.NoSuchProcess):
            process.acquire(source, Query(pages=P, ranges=((ground.start, ground.end),)))
        assert required(child.reap(), "reaping the child") == child.pid
        with pytest.raises(vmatlas.NoSuchProcess):
            process.acquire(source, Query(pages=P, ranges=((ground.start, ground.end),)))
    finally:
        process.close()


def test_a_process_of_the_kernel_has_no_pages(reader: Target, page_source: str) -> None:
    kernel = [process for process in reader.processes() if process.kernel and process.pid]
    if not kernel:
        pytest.skip("this machine lists no process of the kernel (a container hides them)")
    source, process = source_named(page_source), reader.open(kernel[0].pid)
    try:
        capture = process.acquire(source, Query(pages=P, ranges=((4096 * 16, 1 << 31),)))
    finally:
        process.close()
    assert len(source.pages(capture)) == 0


def test_a_process_of_another_user_is_told_as_its_map_is(
    agent_target: AgentTarget, ground: Ground, page_source: str
) -> None:
    if agent_target.agent.hello.fields.get("user") != "0":
        pytest.skip("the agent is not root, so it cannot make a process of another user")
    stranger = agent_target.agent.spawn()
    try:
        required(stranger.become(NOBODY, NOBODY), "becoming nobody")
        if not owners_only(agent_target.system_info.system):
            by_stranger = runs_of(ground, agent_target.asked_by(stranger), page_source, P)
            assert by_stranger == runs_of(ground, agent_target, page_source, P)
            return
        with pytest.raises(vmatlas.AccessDenied):
            runs_of(ground, agent_target.asked_by(stranger), page_source, P)
    finally:
        stranger.end()
        stranger.reap()
