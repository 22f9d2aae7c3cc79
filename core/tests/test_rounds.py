"""Whoever is listed is asked, or had ended: and where that cannot be had of any list, it is said."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas import NoSuchProcess, ProcessInfo
from vmatlas.conformance.patience import PATIENCE
from vmatlas.rounds import MOST, MOST_REMOTE, Rounds, rounds_of
from vmatlas.survey import survey
from vmatlas.systems.linux import LinuxSystem

from .fakes import FakeBackend, FakeProcess, FakeTarget


def lists(*marks: dict[int, int]) -> Iterator[dict[int, int]]:
    yield from marks
    raise AssertionError("no more lists are needed")


def test_where_nobody_ends_there_is_one_list() -> None:
    found = lists({1: 1, 2: 1})
    rounds = Rounds(lambda: next(found))
    assert (list(rounds), rounds.gap, rounds.asked) == ([[1, 2]], None, 2)


def test_where_one_ended_those_that_are_new_are_asked_and_nobody_twice() -> None:
    found = lists({1: 1, 2: 1}, {1: 1, 3: 1})
    rounds = Rounds(lambda: next(found))
    asked = []
    for numbers in rounds:
        asked.append(numbers)
        if 2 in numbers:
            rounds.ended()
    assert (asked, rounds.gap) == ([[1, 2], [3]], None)


def test_who_has_ended_and_is_listed_still_is_not_asked_again() -> None:
    found = lists({1: 1, 2: 1}, {1: 1, 2: 1})
    rounds = Rounds(lambda: next(found))
    for _ in rounds:
        rounds.ended()
    assert (rounds.asked, rounds.gap) == (2, None)


def test_a_number_that_is_another_process_s_is_asked_again_and_one_whose_mark_alone_changed_is_not() -> None:
    found = lists({1: 1, 2: 1}, {1: 9, 2: 9})
    rounds = Rounds(lambda: next(found), is_another=lambda number: number == 2)
    asked = []
    for numbers in rounds:
        asked.append(numbers)
        if len(asked) == 1:
            rounds.ended()
    assert asked == [[1, 2], [2]]


def test_those_that_come_and_go_faster_than_they_can_be_asked_are_a_gap_after_a_bound() -> None:
    hops = itertools.count(100)
    rounds = Rounds(lambda: {1: 1, next(hops): 1}, most=5)
    for numbers in rounds:
        if max(numbers) >= 100:
            rounds.ended()
    assert rounds.asked == 1 + 5
    assert rounds.gap == (
        "1 process came and went faster than could be asked, in each of 5 lists: others may go on for them"
    )


class Hopping(FakeTarget):
    """A machine with process 1, and one that goes on in a child before it can be asked, so many times."""

    def __init__(self, hops: int) -> None:
        super().__init__()
        self.hops = hops
        self.now = 99
        self.lists = 0

    def processes(self) -> Iterator[ProcessInfo]:
        self.now += self.lists < self.hops
        self.lists += 1
        return iter([ProcessInfo(1, None, "init", 1), ProcessInfo(self.now, 1, "hops", self.now)])

    def open(self, pid: int | None, thread: int | None = None) -> FakeProcess:
        if pid == self.now and self.lists < self.hops:
            raise NoSuchProcess(f"there is no process {pid}", pid=pid)
        return FakeProcess(self, pid or 1, pid)


@pytest.fixture
def fake(install) -> None:
    install("vmatlas-fake", "vmatlas.backends", "fake", FakeBackend())


@pytest.mark.parametrize("hops", [1, 2, MOST_REMOTE])
def test_a_survey_asks_who_goes_on_in_a_child_as_soon_as_it_holds_still(fake: None, hops: int) -> None:
    place = Hopping(hops)
    found = survey(lambda process: process.pid, target=place)
    answers = [each.answer for each in found if each.answer is not None]
    assert (answers, found.incomplete, place.lists) == ([1, 99 + hops], None, hops)


def test_a_survey_that_never_could_ask_one_says_so(fake: None) -> None:
    place = Hopping(10**6)
    found = survey(lambda process: process.pid, target=place)
    errors = [each.error for each in found if each.error is not None]
    assert len(errors) == MOST_REMOTE
    assert all(isinstance(error, NoSuchProcess) for error in errors)
    assert found.incomplete is not None and "came and went faster than could be asked" in found.incomplete


def test_a_number_of_this_machine_keeps_its_mark_and_a_process_that_began_since_is_told() -> None:
    system = LinuxSystem()
    before = system.moment()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        marks = system.numbers(), system.numbers()
        assert marks[0][child.pid] == marks[1][child.pid]
        assert system.began_since(child.pid, before)
        assert not system.began_since(os.getppid(), before)
        assert not system.began_since(2**22 + 1, 0), "there is none"
    finally:
        child.kill()
        child.communicate(timeout=PATIENCE)


class OneThatHops(LinuxSystem):
    """This machine, where one process ends after each list before it can be looked at, and this process is there."""

    def __init__(self) -> None:
        self.hops = itertools.count(2**22 + 1)

    def numbers(self) -> dict[int, int]:
        return {os.getpid(): 1, next(self.hops): 1}


def test_a_list_of_this_machine_says_that_one_came_and_went() -> None:
    found = OneThatHops().processes()
    assert [each.pid for each in found] == [os.getpid()]
    assert found.gap is not None and f"in each of {MOST} lists" in found.gap


def test_the_memories_of_this_machine_say_so_too(monkeypatch: pytest.MonkeyPatch) -> None:
    system = OneThatHops()
    monkeypatch.setattr(LinuxSystem, "numbers", lambda _: system.numbers())
    found = vmatlas.memories()
    assert [each.process.pid for each in found] == [os.getpid()]
    assert found.incomplete is not None
    assert rounds_of(system).gap is None, "nobody was asked yet"
