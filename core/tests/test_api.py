"""What stands between a question and a backend, with a backend in memory."""

from __future__ import annotations

import dataclasses
import itertools
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import psutil
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import process as handle
from vmatlas import reading, registry
from vmatlas.backend import Feature, Reading
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import Disordered, MalformedData, NoSuchProcess, TornRead, UsageError
from vmatlas.model import Filter, IncompleteResult, Kind, Protection, Query, Region
from vmatlas.registry import BACKENDS
from vmatlas.target.local import LOCAL

from .fakes import FakeBackend, FakeTarget
from .strategies import addresses, filters, region_lists, space_of

on_fakes = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
EVERY = [Feature.WALK | Feature.ABOVE_USER | Feature.RESIDENCY, Feature.ABOVE_USER | Feature.RESIDENCY]
RW = Protection.READ | Protection.WRITE


@pytest.fixture
def process(install):
    """`process(regions, ...)`: a handle on a process with these regions, read by a backend in memory."""

    def one(found: list[Region], **options) -> vmatlas.Process:
        backend = FakeBackend(found, **options)
        install("vmatlas-fake", BACKENDS, "fake", backend)
        handle = vmatlas.open(42, target=FakeTarget(), backend="fake")
        handle.fake = backend
        return handle

    return one


def kernel_knows_rights(region: Region, query) -> bool:
    """Like the ioctl: it can ask for rights, and for little else."""
    return region.protection & query.where.given == query.where.given


@pytest.mark.parametrize("features", EVERY)
@on_fakes
@given(found=region_lists(), wanted=st.just(Filter()) | filters(), or_next=st.booleans(), data=st.data())
def test_find_agrees_with_a_linear_search_whatever_the_kernel_can_filter(
    process, features, found, wanted, or_next, data
):
    address = data.draw(addresses(found))
    passing = [region for region in found if wanted.matches(region)]
    covering = next((region for region in passing if region.covers(address)), None)
    expected = next((region for region in passing if region.end > address), None) if or_next else covering
    with process(found, features=features, kernel_filter=kernel_knows_rights) as asked:
        assert asked.find(address, or_next=or_next, where=wanted) == expected


@pytest.mark.parametrize("features", EVERY)
@on_fakes
@given(found=region_lists(most=30), wanted=st.just(Filter()) | filters())
def test_iterate_and_snapshot_give_the_same_regions_in_order(process, features, found, wanted):
    expected = [region for region in found if wanted.matches(region)]
    given = [region for region in found if kernel_knows_rights(region, Query(where=wanted))]
    try:
        space_of(found).where(wanted)
        space_of(given).where(wanted)
    except UsageError:  # no region of this map tells a number that the filter compares, or none that the kernel gives
        assume(False)
    with process(found, features=features, kernel_filter=kernel_knows_rights) as asked:
        assert list(asked.snapshot(where=wanted)) == expected
        assert list(asked.iterate(where=wanted)) == expected


@on_fakes
@given(found=region_lists(), data=st.data())
def test_find_many_and_neighbours_agree_with_the_space(process, found, data):
    wanted = data.draw(st.lists(addresses(found), max_size=9))
    with process(found) as asked:
        assert asked.find_many(wanted) == space_of(found).find_many(wanted)
        for address in wanted:
            assert asked.neighbours(address) == space_of(found).neighbours(address)


@pytest.mark.parametrize(("backend", "told"), [(None, None), ("linux-ioctl", {True}), ("linux-procfs", {False})])
def test_a_named_backend_tells_the_page_size_alike_however_many_are_asked_for(backend, told, monkeypatch):
    """What docs/python.md says; without a name only the answers of one call are alike."""
    for name in ("linux-ioctl", "linux-procfs"):
        try:
            if not LOCAL.offers(registry.backend(name)):
                pytest.skip(f"{name} does not answer here")
        except vmatlas.VmatlasError as error:
            pytest.skip(str(error))
    monkeypatch.setattr(handle, "ALWAYS_ASKED", 8)
    with subprocess.Popen(["sleep", "3600"]) as asleep:
        try:
            with vmatlas.open(asleep, backend=backend) as asked:
                starts = [region.start for region in asked.snapshot() if region.end < 2**63]
                calls = [asked.find_many(starts[:count] * times) for count, times in ((3, 1), (9, 100))]
                calls += [[asked.find(start)] for start in starts[:3]]
        finally:
            asleep.kill()
    each = [{region.page_size is not None for region in found if region} for found in calls]
    assert all(len(alike) == 1 for alike in each)
    if told is not None:
        assert each == [told] * len(calls)


def test_a_part_of_a_map_that_does_not_tell_a_number_is_passed_over_and_not_refused(process):
    found = [Region(row, row + 1, RW) for row in range(40)] + [Region(40, 41, RW, resident=9)]
    with process(found, features=EVERY[0]) as asked:
        assert asked.find(3, where="resident>0") is None
        assert asked.find(3, or_next=True, where="resident>0") == found[-1]
        assert list(asked.iterate(where="resident>0")) == found[-1:]


def test_find_with_a_filter_that_the_kernel_cannot_apply_asks_in_growing_pieces(process):
    found = [Region(row, row + 1, RW) for row in range(5000)] + [Region(5000, 5001, RW, kind=Kind.STACK)]
    with process(found) as asked:
        assert asked.find(0, or_next=True, kind=Kind.STACK) == found[-1]
        assert len(asked.fake.queries) < 10


def test_a_region_above_the_process_is_sought_with_another_backend(install, monkeypatch):
    below, above = Region(1, 2, RW), Region(2**63, 2**63 + 1, RW)
    lower = FakeBackend([below], name="lower", ranked=1, features=Feature.WALK)
    upper = FakeBackend([below, above], name="upper", ranked=2, features=Feature.ABOVE_USER)
    for installed, expected in (([lower, upper], above), ([lower], None)):
        monkeypatch.setattr("vmatlas.registry.backends", lambda _=None, installed=installed: installed)
        assert vmatlas.find(42, 5, or_next=True, target=FakeTarget()) == expected


def test_a_map_that_is_torn_once_is_read_again(process, monkeypatch):
    torn, whole = [Region(0, 9, RW), Region(5, 10, RW)], [Region(0, 10, RW)]
    with process(torn) as asked:
        ask = asked.fake.acquire

        def heal(local, query) -> Reading:
            reading = ask(local, query)
            asked.fake.regions = whole
            return reading

        monkeypatch.setattr(asked.fake, "acquire", heal)
        assert list(asked.snapshot()) == whole
        assert len(asked.fake.queries) == 2


@pytest.mark.parametrize(
    "question", [lambda p: p.snapshot(), lambda p: p.find(1), lambda p: list(p.iterate()), lambda p: p.capture()]
)
def test_a_map_that_is_torn_each_time_is_a_torn_read_after_bounded_attempts(process, question, monkeypatch):
    with process([], features=Feature.ABOVE_USER) as asked:
        ask, ends = asked.fake.acquire, itertools.cycle([9, 8])

        def tear(local, query) -> Reading:
            asked.fake.regions = [Region(0, next(ends), RW), Region(5, 10, RW)]
            return ask(local, query)

        monkeypatch.setattr(asked.fake, "acquire", tear)
        with pytest.raises(TornRead, match=f"each of {reading.ATTEMPTS} readings") as caught:
            question(asked)
        assert len(asked.fake.queries) == reading.ATTEMPTS
    assert (caught.value.pid, caught.value.target, caught.value.backend) == (42, "board", "fake")


def test_a_map_that_is_out_of_order_in_the_same_bytes_each_time_is_malformed_not_torn(process):
    with process([Region(0, 9, RW), Region(5, 10, RW)], features=Feature.ABOVE_USER) as asked:
        with pytest.raises(Disordered, match=r"\[board, fake\]") as caught:
            asked.snapshot()
        assert len(asked.fake.queries) == reading.ALIKE
    assert "the same bytes" in (caught.value.hint or "")


def test_malformed_data_is_not_read_again_and_says_where_it_comes_from(process, monkeypatch):
    with process([]) as asked:

        def refuse(capture):
            raise MalformedData("maps", 3, "sense")

        monkeypatch.setattr(asked.fake, "decode", refuse)
        with pytest.raises(MalformedData, match=r"\[board, fake\]") as caught:
            asked.snapshot()
        assert (caught.value.pid, len(asked.fake.queries)) == (42, 1)


def test_an_incomplete_result_is_a_value_and_with_strict_an_error_that_carries_it(process):
    with process([Region(0, 1, RW)], incomplete="a name was too long") as asked:
        space = asked.snapshot()
        assert space.incomplete == "a name was too long"
        with pytest.raises(IncompleteResult, match="a name was too long") as caught:
            asked.snapshot(strict=True)
    assert caught.value.space == space
    assert (caught.value.pid, caught.value.target, caught.value.backend) == (42, "board", "fake")


def test_the_choice_is_made_once_for_questions_of_a_kind(process, monkeypatch):
    with process([Region(0, 1, RW)]) as asked:
        first = asked.choice(vmatlas.Query(address=5))
        monkeypatch.setattr(handle, "choose", lambda *_: pytest.fail("chosen again"))
        assert asked.choice(vmatlas.Query(address=7)) is first


class Pid:
    """Like an integer of numpy: no int, and yet a whole number."""

    def __index__(self) -> int:
        return os.getpid()


@pytest.mark.parametrize(
    "form",
    [
        os.getpid(),
        None,
        Pid(),
        SimpleNamespace(pid=os.getpid()),
        psutil.Process(),
        multiprocessing.current_process(),
    ],
    ids=lambda form: type(form).__name__,
)
def test_a_process_is_named_by_a_number_none_or_an_object_with_a_pid(form):
    with vmatlas.open(form) as handle:
        assert handle.pid == os.getpid()


def test_a_popen_names_its_process_and_when_it_is_gone_that_is_said():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        with vmatlas.open(child) as handle:
            assert handle.pid == child.pid
            assert len(handle.snapshot()) > 0
            child.communicate(b"\n", timeout=PATIENCE)
            for question in (handle.snapshot, lambda: handle.find(0, or_next=True)):
                with pytest.raises(NoSuchProcess, match=str(child.pid)):
                    question()
    finally:
        child.kill()
        child.wait(PATIENCE)


@pytest.mark.parametrize(
    "form",
    [True, False, "1", "self", 1.0, b"1", -1, 2**31, 2**70, 10**5000, [1], {}, SimpleNamespace(pid=None)],
    ids=lambda form: "10**5000" if form == 10**5000 else repr(form),
)
@pytest.mark.parametrize("asked", [vmatlas.open, vmatlas.snapshot, lambda pid: vmatlas.find(pid, 0)])
def test_what_is_no_process_id_is_a_usage_error(form, asked):
    with pytest.raises(UsageError, match="is no process id"):
        asked(form)


@pytest.mark.parametrize("thread", [-1, 2**31, "1", True])
def test_what_is_no_thread_is_called_so(thread):
    with pytest.raises(UsageError, match="is no thread id") as caught:
        vmatlas.snapshot(thread=thread)
    assert "process ids" not in str(caught.value.hint)


@pytest.mark.parametrize("interval", ["1", None, -0.1, float("nan"), float("inf"), 10**400, 1e9])
def test_what_is_no_interval_is_a_usage_error(process, interval):
    with process([]) as asked, pytest.raises(UsageError, match="is no interval"):
        asked.watch(interval)


@pytest.mark.parametrize(
    "address",
    ["0x1000", 1.5, None, -1, 2**64, 10**5000],
    ids=lambda odd: repr(odd)[:9] if not isinstance(odd, int) else hex(odd)[:9],
)
def test_what_is_no_address_is_a_usage_error(process, address):
    with process([]) as asked:
        for question in (asked.find, asked.neighbours, lambda address: asked.find_many([0, address])):
            with pytest.raises(UsageError, match="address"):
                question(address)


def test_an_unknown_backend_is_refused_when_opened():
    with pytest.raises(UsageError, match="'nothing'"):
        vmatlas.open(backend="nothing")


def test_a_process_that_never_was_is_no_such_process():
    with pytest.raises(NoSuchProcess):
        vmatlas.snapshot(2**31 - 1)


def test_a_handle_is_closed_by_with_and_twice_does_no_harm():
    with vmatlas.open() as handle:
        handle.snapshot()
    handle.close()


def test_a_closed_handle_answers_no_more_since_its_pid_may_be_another_process(recwarn):
    before = len(os.listdir("/proc/self/fd"))
    with vmatlas.open(os.getppid()) as handle:
        handle.find(0, or_next=True)
    for question in (handle.snapshot, lambda: handle.find(0)):
        with pytest.raises(UsageError, match="closed"):
            question()
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("backend", ["linux-procfs", "linux-ioctl"])
def test_one_handle_serves_many_threads_at_once(backend):
    if not (offer := LOCAL.offers(registry.backend(backend))):
        pytest.skip(f"{backend}: {offer.reason}")
    child = subprocess.Popen([sys.executable, "-c", "print(flush=True); input()"], stdin=-1, stdout=-1)
    try:
        child.stdout.readline()
        with vmatlas.open(child, backend=backend) as handle:
            expected = handle.snapshot()
            starts = list(expected.columns.start)
            gate = threading.Barrier(8)

            def ask(number: int) -> bool:
                gate.wait(PATIENCE)
                for _ in range(20):
                    region = expected[(number * 7) % len(starts)]
                    if handle.snapshot() != expected or handle.find(region.start) != region:
                        return False
                return True

            with ThreadPoolExecutor(8) as threads:
                assert all(threads.map(ask, range(8)))
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)


def test_closing_while_another_thread_asks_gives_an_answer_or_says_closed():
    for _ in range(30):
        handle = vmatlas.open(os.getppid())
        outcomes: list[str] = []

        def ask(handle=handle, outcomes=outcomes) -> None:
            try:
                while True:
                    handle.find(0, or_next=True)
            except UsageError as error:
                outcomes.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        handle.close()
        thread.join(PATIENCE)
        assert len(outcomes) == 1 and "closed" in outcomes[0]


def test_an_abandoned_iteration_closes_its_handle():
    before = len(os.listdir("/proc/self/fd"))
    regions = vmatlas.iterate(os.getppid())
    next(regions)
    regions.close()
    assert len(os.listdir("/proc/self/fd")) == before


def test_processes_are_those_of_the_target():
    assert [each.pid for each in vmatlas.processes(FakeTarget())] == [42]
    assert os.getpid() in [each.pid for each in vmatlas.processes()]


def test_the_url_of_a_target_is_not_taken_for_a_target():
    for ask in (lambda: vmatlas.open(target="ssh:root@board"), lambda: vmatlas.processes("ssh:root@board")):
        with pytest.raises(UsageError, match="is no target") as caught:
            ask()
        assert "vmatlas.connect('ssh:root@board')" in caught.value.hint


def test_what_is_no_filter_is_refused():
    with pytest.raises(UsageError, match="is no filter"):
        vmatlas.snapshot(where=lambda region: True)


class Blind(FakeBackend):
    """Never tells some of what is mapped, and says where."""

    blind_spots = ((100, 200), (2**63, 2**63 + 100))


@pytest.mark.parametrize("high", [Region(100, 150, RW), Region(2**63, 2**63 + 10, RW)])
def test_an_address_that_a_backend_never_tells_is_asked_of_another_and_no_other_address_is(install, monkeypatch, high):
    """Whatever the address: [vectors] of 32-bit ARM lies below 2**63, and ordinary memory of s390x may lie above."""
    ordinary = Region(2**63 + 4096, 2**63 + 8192, RW)
    lower = Blind([Region(1, 2, RW), ordinary], name="lower", ranked=1, features=Feature.WALK)
    upper = FakeBackend([*lower.regions[:1], high, ordinary], name="upper", ranked=2, features=Feature.ABOVE_USER)
    monkeypatch.setattr("vmatlas.registry.backends", lambda *_: [lower, upper])
    with vmatlas.open(42, target=FakeTarget()) as asked:
        assert [asked.find(address) for address in (1, 5, ordinary.start, ordinary.end)] == [
            lower.regions[0], None, ordinary, None,
        ]  # fmt: skip
        assert not upper.queries
        assert asked.find(high.start) == high
        assert asked.find(high.end) is None


@pytest.mark.parametrize(
    "ask",
    {
        "an address below zero": lambda: vmatlas.find_many(None, [1, -1]),
        "no addresses": lambda: vmatlas.find_many(None, 5),
        "no addresses of a space": lambda: space_of([]).find_many(5),
        "words for addresses": lambda: space_of([Region(0, 9, Protection.READ)]).find_many(["x"]),
        "a word to find": lambda: space_of([Region(0, 9, Protection.READ)]).find("x"),
        "a word for a neighbour": lambda: space_of([Region(0, 9, Protection.READ)]).neighbours("x"),
        "a number for a path": lambda: vmatlas.snapshot(path=3),
        "a number for a flag": lambda: vmatlas.snapshot(flag=3),
        "a number for a kind": lambda: vmatlas.snapshot(kind=3),
        "a number for one of the kinds": lambda: vmatlas.snapshot(kind=[3]),
        "a size below zero": lambda: vmatlas.snapshot(larger_than=-1),
        "half a byte": lambda: vmatlas.snapshot(smaller_than=0.5),
        "rights in words": lambda: vmatlas.Filter("x"),
        "a number for a URL": lambda: vmatlas.connect(5),
        "a number for a target": lambda: vmatlas.snapshot(target=5),
        "a number for a target that lists": lambda: vmatlas.processes(5),
        "a number for a capture": lambda: vmatlas.replay(5),
        "numbers to compare": lambda: vmatlas.diff(1, 2),
        "a number to judge": lambda: vmatlas.audit(5),
        "a number to sum up": lambda: vmatlas.summarize(5),
    }.items(),
    ids=lambda named: named[0].replace(" ", "-"),
)
def test_an_argument_of_the_wrong_kind_is_a_usage_error_in_one_line_and_without_another(ask):
    with pytest.raises(UsageError) as caught:
        ask[1]()
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None or caught.value.__suppress_context__


def test_numbers_that_no_address_can_be_are_found_in_no_region_of_a_space():
    found = space_of([Region(0x1000, 0x2000, Protection.READ)]).find_many([-1, 0x1800, 2**70])
    assert [None if region is None else region.start for region in found] == [None, 0x1000, None]


def test_a_listing_says_what_it_is_and_not_what_is_in_it():
    assert repr(vmatlas.processes()) == "<vmatlas.Listing of processes>"


class Circling(FakeBackend):
    """One whose walk gives the same regions, wherever it is to begin."""

    def acquire(self, process, query):
        return super().acquire(process, dataclasses.replace(query, address=0))


@pytest.mark.parametrize("question", ["find", "iterate"])
def test_a_walk_that_does_not_get_on_is_malformed(install, question):
    there = [Region(address, address + 1, RW) for address in range(0, 200_000, 2)]
    install("vmatlas-fake", BACKENDS, "fake", Circling(there))
    with (
        vmatlas.open(42, target=FakeTarget(), backend="fake") as process,
        pytest.raises(MalformedData, match="where the walk was to go on"),
    ):
        if question == "find":
            process.find(0, or_next=True, where="x")
        else:
            list(process.iterate())


@dataclasses.dataclass
class Handed:
    """What a library may hand over for a process."""

    pid: int = 42
    returncode: int | None = None
    exitcode: int | None = None
    exitstatus: int | None = None
    running: bool = True

    def create_time(self) -> float:
        return 1.0

    def is_running(self) -> bool:
        return self.running


@pytest.mark.parametrize("end", [{"returncode": 0}, {"exitcode": -9}, {"exitstatus": 1}, {"running": False}])
def test_an_object_that_says_that_its_process_has_ended_stands_for_none(end):
    place = FakeTarget()
    vmatlas.open(Handed(), target=place).close()
    with pytest.raises(NoSuchProcess, match=r"the process 42 that was handed over .*may be another's now") as caught:
        vmatlas.open(Handed(**end), target=place)
    assert caught.value.pid == 42
    assert "\n" not in str(caught.value)


def test_an_object_that_tells_nothing_any_more_is_refused_in_one_line():
    class Closed:
        @property
        def pid(self) -> int:
            raise ValueError("process object is closed")

    with pytest.raises(NoSuchProcess, match=r"stands for no process any more \(ValueError: process object is closed\)"):
        vmatlas.open(Closed(), target=FakeTarget())
