"""A question about pages: who is asked, about what, and what becomes of the answer."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint
from typing import cast

import pytest

import vmatlas
from vmatlas import PageRun, PageRuns, PageState, Protection, Query, Region, Unsupported, UsageError, registry
from vmatlas.backend import YES, Availability, LocalProcess, PageSource, Reading, Target
from vmatlas.capture import Capture
from vmatlas.choice import choose, choose_for_pages
from vmatlas.errors import AccessDenied
from vmatlas.model import Consistency
from vmatlas.model.pages import USUAL

from .fakes import FakeBackend, FakeTarget

PAGE = 4096
P, S, G, E = PageState.PRESENT, PageState.SWAPPED, PageState.GUARD, PageState.EXCLUSIVE


@dataclass
class FakePages:
    """Tells of every page that it is asked about that it is present."""

    name: str = "fake-pages"
    states: PageState = USUAL
    cost: int = 10
    passes_holes: bool = False
    told: PageState = USUAL
    system: str = "linux"
    availability: Availability = YES
    distribution: str = "vmatlas-fake"
    source: str = "fake.pages"
    consistency: Consistency = Consistency.PER_REGION
    stream: str = "pages-fake"
    asked: list[Query] = field(default_factory=list)
    refuses: bool = False

    def probe(self) -> Availability:
        return self.availability

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        if self.refuses:
            raise AccessDenied("no right", pid=process.pid)
        self.asked.append(query)
        return Reading({self.stream: b""})

    def pages(self, capture: Capture) -> PageRuns:
        ranges = capture.query.ranges
        runs = [PageRun(start, end, P & self.told, self.told) for start, end in ranges] if self.told else []
        return PageRuns.of(runs, capture.origin, self.told)


def region(first: int, last: int, protection: int = 3) -> Region:
    return Region(first * PAGE, last * PAGE, Protection(protection))


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> tuple[FakeTarget, FakeBackend, list[FakePages]]:
    backend = FakeBackend([region(1, 3), region(3, 5, 1), region(8, 9)])
    sources: list[FakePages] = [FakePages()]
    monkeypatch.setattr(registry, "backends", lambda *_: [backend])
    monkeypatch.setattr(registry, "page_sources", lambda: sources)
    return FakeTarget(), backend, sources


Machine = tuple[FakeTarget, FakeBackend, list[FakePages]]


def opened(machine: Machine) -> vmatlas.Process:
    return vmatlas.open(42, target=cast(Target, machine[0]))


def bounds(runs: PageRuns) -> list[tuple[float, float]]:
    return [(run.start / PAGE, run.end / PAGE) for run in runs]


def test_what_the_regions_cover_is_asked_about_and_no_hole(machine: Machine) -> None:
    with opened(machine) as process:
        assert bounds(process.pages()) == [(1, 5), (8, 9)]
        assert machine[2][0].asked[0].ranges == ((PAGE, 5 * PAGE), (8 * PAGE, 9 * PAGE))
        assert machine[2][0].asked[0].pages == USUAL


def test_a_source_that_passes_holes_is_asked_about_a_range_and_no_map_is_read(machine: Machine) -> None:
    target, backend, sources = machine
    sources[0].passes_holes = True
    with opened(machine) as process:
        process.pages()
        process.pages(between=(2 * PAGE + 1, 4 * PAGE + 1))
        process.pages(between=(4 * PAGE, 4 * PAGE))
        asked = [query.ranges for query in sources[0].asked]
        assert asked == [((0, 2**64 - PAGE),), ((2 * PAGE, 5 * PAGE),), ()]
        assert backend.queries == []
        process.pages(writable=True)
        assert sources[0].asked[3].ranges == ((PAGE, 3 * PAGE), (8 * PAGE, 9 * PAGE))
    # To a kernel of 32 bits a range that is wider than its addresses is another one.
    target.system_info = dataclasses.replace(target.system_info, pointer_width=32)
    with opened(machine) as process:
        process.pages()
    assert sources[0].asked[4].ranges == ((PAGE, 5 * PAGE), (8 * PAGE, 9 * PAGE))


def test_regions_that_pass_a_filter_are_asked_about_alone(machine: Machine) -> None:
    with opened(machine) as process:
        assert bounds(process.pages(where="r--")) == [(3, 5)]
        assert bounds(process.pages(writable=True)) == [(1, 3), (8, 9)]


def test_a_range_that_ends_within_a_page_is_asked_in_whole_pages_and_told_as_it_is(machine: Machine) -> None:
    with opened(machine) as process:
        assert bounds(process.pages(between=(2 * PAGE + 2048, 4 * PAGE + 1024))) == [(2.5, 4.25)]
        assert machine[2][0].asked[0].ranges == ((2 * PAGE, 5 * PAGE),)
        assert bounds(process.pages(between=(5 * PAGE, 8 * PAGE))) == []
        assert bounds(process.pages(between=(0, 2**64))) == [(1, 5), (8, 9)]


def test_regions_that_merge_between_two_pieces_of_the_map_are_asked_about_once(machine: Machine) -> None:
    """A piece is 16 regions. What was two of the first is, with another, one of the second: it begins below its end."""
    _, backend, sources = machine
    apart = [region(2 * each, 2 * each + 1) for each in range(1, 15)]
    first = [*apart, region(40, 42), region(42, 43, 1), region(43, 45)]
    merged = [*apart, region(39, 45)]
    backend.regions = [*first, merged[-1]]
    backend.kernel_filter = lambda each, query: each in (first if len(backend.queries) == 1 else merged)
    with opened(machine) as process:
        assert bounds(process.pages(between=(0, 44 * PAGE)))[-2:] == [(28, 29), (39, 44)]
    assert sources[0].asked[0].ranges[-1] == (39 * PAGE, 44 * PAGE)
    assert len(backend.queries) == 2


def test_what_is_told_beyond_what_was_asked_for_is_left_out(machine: Machine) -> None:
    with opened(machine) as process:
        runs = process.pages(of=S)
    assert (list(runs), runs.told) == ([], S)


def test_who_tells_most_of_it_is_asked_and_of_two_alike_the_cheaper(machine: Machine) -> None:
    target, _, sources = machine
    sources[:] = [FakePages("dear", cost=20), FakePages("cheap"), FakePages("less", P | S, 1)]
    place = cast(Target, target)
    assert choose_for_pages(place, USUAL, all_of_it=False).name == "cheap"
    assert choose_for_pages(place, P | S, all_of_it=True).name == "less"
    sources[1].availability = Availability(False, "too old")
    assert choose_for_pages(place, USUAL, all_of_it=False).name == "dear"
    sources[0].availability = Availability(False, "too old")
    assert choose_for_pages(place, USUAL, all_of_it=False).name == "less"


def test_what_nobody_tells_is_refused_with_the_reason_of_each(machine: Machine) -> None:
    target, _, sources = machine
    sources[:] = [FakePages("one", P), FakePages("two", E, availability=Availability(False, "too old"))]
    with opened(machine) as process, pytest.raises(Unsupported) as caught:
        process.pages(of=E)
    assert "one: does not tell exclusive; two: too old" in str(caught.value)
    with pytest.raises(Unsupported, match="one: does not tell exclusive; two: does not tell present"):
        choose_for_pages(cast(Target, target), P | E, all_of_it=True)
    sources[:] = [FakePages(system="qnx")]
    with opened(machine) as process, pytest.raises(Unsupported) as caught:
        process.pages()
    assert "pip install ./platforms/linux_ioctl " in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("system", "words"),
    [("netbsd", "mincore")],
)
def test_a_system_that_tells_no_pages_says_what_it_tells_instead(machine: Machine, system: str, words: str) -> None:
    if system not in registry.entries(registry.SYSTEMS):
        pytest.skip(f"the plugin of {system} is not installed")
    target, _, sources = machine
    target.system_info = dataclasses.replace(target.system_info, system=system)
    sources[:] = []
    with opened(machine) as process, pytest.raises(Unsupported, match=words) as caught:
        process.pages()
    assert caught.value.hint is None


def test_what_tells_its_own_pages_alone_is_asked_about_nobody_else(machine: Machine) -> None:
    @dataclass
    class OwnPages(FakePages):
        own_alone: str = "it tells pages to the process itself alone"

    target, _, sources = machine
    sources[:] = [OwnPages("own", P | E)]
    with opened(machine) as process, pytest.raises(Unsupported, match="own: it tells pages to the process itself"):
        process.pages()
    assert choose_for_pages(cast(Target, target), P, all_of_it=True, own=True) is sources[0]
    sources.append(FakePages("other"))
    with opened(machine) as process:
        assert process.pages().origin.backend == "other"


def test_what_this_kernel_does_not_tell_is_refused_and_what_it_tells_in_part_is_said(machine: Machine) -> None:
    machine[2][0].told = P
    with opened(machine) as process:
        assert process.pages().told == P
        with pytest.raises(Unsupported, match="this kernel does not tell which pages are guard") as caught:
            process.pages(of=G)
    assert (caught.value.pid, caught.value.backend) == (42, "fake-pages")


def test_an_error_says_who_was_asked(machine: Machine) -> None:
    machine[2][0].refuses = True
    with opened(machine) as process, pytest.raises(AccessDenied) as caught:
        process.pages()
    assert (caught.value.backend, caught.value.target) == ("fake-pages", "board")


def test_guards_are_entries_of_a_map_that_asks_for_them_and_pass_its_filter(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pages(self: FakePages, capture: Capture) -> PageRuns:
        return PageRuns.of([PageRun(2 * PAGE, 3 * PAGE, G, G)], capture.origin, G)

    monkeypatch.setattr(FakePages, "pages", pages)
    with opened(machine) as process:
        seen = [(each.start // PAGE, each.end // PAGE) for each in process.snapshot(guards=True)]
        assert seen == [(1, 2), (2, 3), (3, 5), (8, 9)]
        assert [each.start // PAGE for each in process.snapshot(guards=True, kind="guard")] == [2]
        assert len(process.snapshot()) == 3
        with pytest.raises(UsageError, match="guards go without the memory in use"):
            process.snapshot(guards=True, residency=True)
    machine[2][:] = []
    with opened(machine) as process, pytest.raises(Unsupported, match="cannot be told here which pages are guard"):
        process.snapshot(guards=True)


def test_a_capture_has_the_guards_beside_the_map(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def pages(self: FakePages, capture: Capture) -> PageRuns:
        return PageRuns.of([PageRun(2 * PAGE, 3 * PAGE, G, G)], capture.origin, G)

    monkeypatch.setattr(FakePages, "pages", pages)
    monkeypatch.setattr(registry, "backend", lambda name, distribution=None: machine[1])
    with opened(machine) as process:
        saved = process.capture(guards=True)
        assert set(saved.streams) == {"regions", "pages-fake"}
        space = vmatlas.replay(saved)
        assert space == process.snapshot(guards=True) and space.origin.guards
        assert "pages-fake" not in process.capture().streams
        with pytest.raises(UsageError, match="guards go without"):
            process.capture(guards=True, residency=True)
    machine[2][:] = []
    with pytest.raises(Unsupported, match="nothing installed reads 'pages-fake'"):
        vmatlas.replay(saved)


def test_no_backend_is_asked_about_pages(machine: Machine) -> None:
    with pytest.raises(UsageError, match="no backend is asked about pages"):
        choose(cast(Target, machine[0]), Query(pages=P))


def test_what_is_no_source_of_pages_is_told_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("odd", "vmatlas.model.pages:USUAL", registry.PAGES)
    broken = {"odd": registry.Entry("odd", entry.value, "vmatlas-odd")}
    monkeypatch.setattr(registry, "entries", lambda group: broken if group == registry.PAGES else {})
    registry._load.cache_clear()
    (found,) = registry.page_sources()
    registry._load.cache_clear()
    assert isinstance(found, registry.Broken) and "is no vmatlas.backend.PageSource" in found.reason


def test_a_fake_source_is_one() -> None:
    assert isinstance(FakePages(), PageSource)
