"""Surveys, and how long they wait: a process that does not answer is told, and stops nobody."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest

import vmatlas
from vmatlas import AddressSpace, NoSuchProcess, ProcessInfo, Unanswered, UsageError, VmatlasError, patience
from vmatlas.backend import LocalProcess, Reading
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import Query
from vmatlas.patience import Crew, Errand
from vmatlas.survey import survey
from vmatlas.systems.linux import LinuxSystem

from .fakes import FakeBackend, FakeProcess, FakeTarget

SILENT = (3, 4, 7, 8, 9, 20)


@dataclass
class Mute(FakeBackend):
    """A backend that answers about some processes only when it is let go."""

    let_go: threading.Event = field(default_factory=threading.Event)

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        if process.pid in SILENT:
            self.let_go.wait()
        return super().acquire(process, query)


class Crowd(FakeTarget):
    """A machine with processes 1 to 20."""

    def processes(self) -> Iterator[ProcessInfo]:
        return (ProcessInfo(pid, None, f"p{pid}", 1) for pid in range(1, 21))

    def open(self, pid: int | None, thread: int | None = None) -> FakeProcess:
        return FakeProcess(self, pid or 1)


@pytest.fixture
def mute(install) -> Iterator[Mute]:
    backend = Mute()
    install("vmatlas-fake", "vmatlas.backends", "fake", backend)
    yield backend
    backend.let_go.set()


@pytest.mark.parametrize("wrong", [b"\x01", bytearray(b"\x01"), memoryview(b"\x01")])
def test_bytes_are_no_numbers_of_processes(wrong):
    with pytest.raises(vmatlas.UsageError, match="are no processes"):
        list(vmatlas.memories(among=wrong))
    with pytest.raises(vmatlas.UsageError, match="are no processes"):
        list(vmatlas.snapshots(among=wrong))


def test_who_does_not_answer_is_an_entry_in_its_place_and_the_others_are_read(mute: Mute) -> None:
    began = time.monotonic()
    found = list(vmatlas.snapshots(Crowd(), backend="fake", patience=2.0))
    assert [process.pid for process, _ in found] == list(range(1, 21))
    unanswered = {process.pid: answer for process, answer in found if isinstance(answer, VmatlasError)}
    assert tuple(unanswered) == SILENT
    for pid, error in unanswered.items():
        assert isinstance(error, Unanswered)
        assert (error.pid, error.target) == (pid, "board")
        assert error.seconds >= 2.0
        assert f"process {pid} (p{pid}) did not answer in" in str(error)
        assert "what the question waits for is not told" in str(error)
    assert time.monotonic() - began < len(SILENT) + PATIENCE, "others are asked while one waits"


def test_what_a_question_waits_for_is_told_where_the_system_can(mute: Mute) -> None:
    class Knowing(Crowd):
        def waiting_for(self, thread: int) -> str | None:
            return f"something (thread {thread})"

    errors = [each.error for each in survey(lambda process: process.snapshot(), target=Knowing(), patience=0.3)]
    told = [error for error in errors if isinstance(error, Unanswered)]
    assert len(told) == len(SILENT)
    for error in told:
        assert error.waits_for is not None and error.waits_for.startswith("something (thread ")
        assert f"the question waits for {error.waits_for}" in str(error)


@pytest.fixture
def ours(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """The pids of sixteen processes that are all that this machine lists: others end, start, and are silent as they
    like."""
    sleeping = [subprocess.Popen(["sleep", "3600"]) for _ in range(16)]
    pids = {each.pid for each in sleeping}
    everyone = LinuxSystem.numbers

    def listed(system: LinuxSystem) -> dict[int, int]:
        return {pid: mark for pid, mark in everyone(system).items() if pid in pids}

    monkeypatch.setattr(LinuxSystem, "numbers", listed)
    yield sorted(pids)
    for each in sleeping:
        each.kill()
    for each in sleeping:
        each.wait(PATIENCE)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_processes_that_wait_do_not_eat_the_places_of_all_threads(ours: list[int], threads: int) -> None:
    let_go = threading.Event()
    mute = set(ours[: 3 * threads])

    def ask(process: vmatlas.Process) -> int:
        if process.pid in mute:
            let_go.wait()
        return process.pid

    try:
        found = list(survey(ask, threads=threads, patience=0.5))
    finally:
        let_go.set()
    assert {each.answer for each in found if each.answer is not None}.isdisjoint(mute)
    assert [each.process.pid for each in found] == ours
    assert [each.number for each in found] == list(range(1, len(found) + 1))


def test_a_survey_ends_where_no_thread_is_to_be_had(ours: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    here = threading.get_ident()
    found = list(survey(lambda process: threading.get_ident(), threads=4))
    assert [(each.process.pid, each.answer) for each in found] == [(pid, here) for pid in ours]


def test_a_survey_whose_threads_all_wait_and_can_have_no_other_asks_by_itself(
    ours: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr("vmatlas.patience._MOST_THREADS", 2)

    def ask(process: vmatlas.Process) -> int:
        if process.pid in ours[:2]:
            let_go.wait()
        return threading.get_ident()

    try:
        found = list(survey(ask, threads=2, patience=0.5))
    finally:
        let_go.set()
    assert [each.process.pid for each in found if isinstance(each.error, Unanswered)] == ours[:2]
    assert [each.answer for each in found[2:]] == [threading.get_ident()] * len(ours[2:])


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "5", None])
def test_a_patience_that_is_no_time_is_refused(wrong: object) -> None:
    with pytest.raises(UsageError, match="no time to wait"):
        list(vmatlas.snapshots(patience=wrong))  # type: ignore[arg-type]


def test_a_program_ends_while_its_questions_still_wait() -> None:
    program = """
import threading, vmatlas
from vmatlas.survey import survey
first = next(survey(lambda process: threading.Event().wait(), threads=3, patience=0.3))
print(type(first.error).__name__)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (0, "Unanswered\n"), done.stderr


def test_a_question_that_is_at_work_is_not_given_up_as_one_that_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    with Crew(1) as crew:
        waits = Errand(let_go.wait)
        assert not waits.asked_by(crew, 0.5)
        let_go.set()
    # As if it had a processor all the time: a loaded machine may keep one that wants it waiting.
    monkeypatch.setattr("vmatlas.patience._worked", lambda clock: time.monotonic())
    with Crew(1) as crew:
        works = Errand(lambda: time.sleep(1.5))
        assert works.asked_by(crew, 0.5)


def test_what_a_thread_has_of_a_processor_is_seen_by_another() -> None:
    let_go = threading.Event()

    def work() -> None:
        while not let_go.is_set():
            pass

    with Crew(1) as crew:
        errand = Errand(work)
        crew.begin(errand)
        end = time.monotonic() + PATIENCE
        while errand._clock is None or patience._worked(errand._clock) < 0.2:
            assert time.monotonic() < end
            time.sleep(0.01)
        let_go.set()
        assert errand.wait(PATIENCE)


def test_a_question_that_is_at_work_for_ever_is_given_up_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    let_go = threading.Event()
    monkeypatch.setattr("vmatlas.patience._worked", lambda clock: time.monotonic())
    with Crew(1) as crew:
        errand = Errand(let_go.wait)
        assert not errand.asked_by(crew, 0.1)
        assert errand.age() >= 1.0
        let_go.set()


def test_a_pause_within_a_question_is_no_silence() -> None:
    errand: Errand[None]

    def work() -> None:
        errand.rest(lambda: time.sleep(1.0))

    with Crew(1) as crew:
        errand = Errand(work)
        assert errand.asked_by(crew, 0.4)


def test_what_a_question_raises_is_raised_for_the_one_who_asked() -> None:
    def work() -> None:
        raise KeyError("x")

    with Crew(1) as crew:
        errand = Errand(work)
        assert errand.asked_by(crew, PATIENCE)
    with pytest.raises(KeyError):
        errand.answer()


def test_a_process_for_which_no_memory_is_left_is_an_entry_and_the_others_are_read(ours: list[int]) -> None:
    def ask(process: vmatlas.Process) -> int:
        if process.pid == ours[3]:
            raise MemoryError
        return process.pid

    found = list(survey(ask))
    assert [each.process.pid for each in found] == ours
    (lost,) = [each for each in found if each.error is not None]
    assert lost.process.pid == ours[3] and lost.answer is None
    assert str(lost.error) == f"no memory is left for what process {ours[3]} has to tell"


def test_totals_for_which_no_memory_is_left_at_once_are_asked_one_by_one(
    ours: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def asked(*_: object, **__: object) -> list[object]:
        raise MemoryError

    monkeypatch.setattr("vmatlas_linux_procfs.backend.LinuxProcfs.totals_of", asked)
    assert [each.process.pid for each in vmatlas.memories() if each.memory is not None] == ours


class Chain(FakeTarget):
    """A process that ends before it is asked, again and again, and goes on in a child; and one that stays."""

    def __init__(self, lists: int, error: VmatlasError | None = None) -> None:
        super().__init__()
        self.lists, self.error, self.listed = lists, error, 0

    def processes(self) -> Iterator[ProcessInfo]:
        self.listed += 1
        if self.error is not None and self.listed > 1:
            raise self.error
        return iter([ProcessInfo(5, None, "stays", 1), ProcessInfo(9 + self.listed, None, "chain", 1)])

    def open(self, pid: int | None, thread: int | None = None) -> FakeProcess:
        if pid not in (None, 5, 9 + self.lists):
            raise vmatlas.NoSuchProcess("it has ended")
        return FakeProcess(self, pid or 1)


def test_whom_words_choose_does_not_slip_through_by_going_on_in_a_child() -> None:
    place = Chain(3)
    chosen = vmatlas.select("name:*", target=place)
    asked = survey(lambda process: process.pid, target=place, among=chosen)
    assert [each.answer for each in asked] == [5, None, None, 12]
    assert (place.listed, asked.incomplete) == (3, None)


def test_whom_words_choose_and_who_is_always_faster_is_told_as_missing() -> None:
    place = Chain(1000)
    asked = survey(lambda process: process.pid, target=place, among=vmatlas.select("name:chain", "5", target=place))
    assert {each.answer for each in asked} == {5, None}
    assert place.listed == 8 and "came and went" in str(asked.incomplete)


def test_a_process_that_was_named_and_has_ended_is_not_looked_for_in_others() -> None:
    place = Chain(1000)
    for among in (vmatlas.select("10", target=place), [ProcessInfo(10, None, "chain", 1)]):
        asked = survey(lambda process: process.pid, target=place, among=among)
        assert [type(each.error) for each in asked] == [vmatlas.NoSuchProcess]
        assert (place.listed, asked.incomplete) == (1, None)


def test_who_else_is_chosen_and_cannot_be_told_is_said() -> None:
    place = Chain(1000, vmatlas.Unsupported("no list any more"))
    asked = survey(lambda process: process.pid, target=place, among=vmatlas.select("name:chain", target=place))
    assert [each.answer for each in asked] == [None]
    assert "no list any more" in str(asked.incomplete)


def test_whatever_names_a_process_is_taken_among_them() -> None:
    """A number, a handle, a map, a program that was started: one, or several."""
    own = os.getpid()
    info = next(each for each in vmatlas.processes() if each.pid == own)
    with vmatlas.open() as handle:
        space = handle.snapshot()
        all_ways: list[vmatlas.Pids] = [own, info, handle, space, [own], [info, handle], (each for each in [space])]
        for among in (*all_ways, vmatlas.select(own)):
            ((process, answer),) = vmatlas.snapshots(among=among)
            assert (process.pid, type(answer)) == (own, AddressSpace)
        [told] = vmatlas.memories(among=handle)
        assert (told.process.pid, told.error, told.process.start_time) == (own, None, handle.start_time)
        assert [each.pid for each in vmatlas.select(handle, space, info)] == [own]


def test_a_process_that_was_handed_over_is_never_the_one_that_has_its_number_now() -> None:
    space = vmatlas.snapshot()
    before = AddressSpace(space.columns, replace(space.origin, start_time=1))
    [told] = vmatlas.memories(among=before)
    assert isinstance(told.error, NoSuchProcess)
    with pytest.raises(NoSuchProcess, match="another's now"):
        vmatlas.select(before)
