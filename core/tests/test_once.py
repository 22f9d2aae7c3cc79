"""Properties that are found out once: of each object by itself, whoever else is still being asked."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.once import cached_property

SOURCES = Path(__file__).parents[2]


class Asked:
    """Counts how often it was asked."""

    def __init__(self, meeting: threading.Barrier | None = None) -> None:
        self.times = 0
        self._meeting = meeting

    @cached_property
    def answer(self) -> int | None:
        """What it says."""
        self.times += 1
        if self._meeting is not None:
            self._meeting.wait(PATIENCE)
        return None

    @cached_property
    def refusal(self) -> int:
        self.times += 1
        raise OSError("not now")


def test_it_is_found_out_once_and_kept_for_each_object() -> None:
    one, other = Asked(), Asked()
    assert (one.answer, one.answer, one.times, other.times) == (None, None, 1, 0)
    del one.answer
    assert (one.answer, one.times) == (None, 2)


def test_what_could_not_be_found_out_is_asked_again() -> None:
    asked = Asked()
    for times in (1, 2):
        with pytest.raises(OSError, match="not now"):
            _ = asked.refusal
        assert asked.times == times


def test_it_is_looked_at_by_its_class_as_any_property() -> None:
    assert Asked.answer.__doc__ == "What it says." and isinstance(Asked.answer, cached_property)


def test_objects_of_a_class_are_asked_at_once_and_none_waits_for_another() -> None:
    meeting = threading.Barrier(2)
    threads = [threading.Thread(target=getattr, args=(Asked(meeting), "answer"), daemon=True) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert not meeting.broken and not any(thread.is_alive() for thread in threads)


def test_that_of_the_library_which_locks_is_used_nowhere() -> None:
    found = [
        path
        for folder in ("core", "platforms", "images")
        for path in (SOURCES / folder).rglob("src/**/*.py")
        if path.name != "once.py"
        and ("functools.cached_property" in (text := path.read_text()) or "functools import cached_property" in text)
    ]
    assert not found
