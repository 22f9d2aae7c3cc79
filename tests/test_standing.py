"""The comparison that other tests rest on: what is real is found, and what came and went is not taken for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests import standing
from tests.standing import LOOKS, agree_while_still

Tell = Callable[[], int | None]


class Scripted:
    """Tells its values in turn, the last one from then on; counts how often it was asked."""

    def __init__(self, *values: int | None) -> None:
        self.values, self.asked = list(values), 0

    def __call__(self) -> int | None:
        self.asked += 1
        return self.values.pop(0) if len(self.values) > 1 else self.values[0]


def ever_other() -> Tell:
    numbers: Iterator[int] = iter(range(10**6))
    return lambda: next(numbers)


def equal(ours: int | None, theirs: int) -> None:
    assert ours == theirs


def test_those_that_agree_are_compared_once() -> None:
    read, ask = Scripted(7), Scripted(7)
    assert agree_while_still(read, ask, equal)
    assert (read.asked, ask.asked) == (2, 1)


def test_what_changed_and_changed_back_while_the_other_looked_is_no_disagreement() -> None:
    ask = Scripted(8, 8, 7)
    assert agree_while_still(Scripted(7), ask, equal)
    assert ask.asked == 3


def test_what_settles_is_compared_as_it_settled() -> None:
    assert agree_while_still(Scripted(1, 2, 3, 4, 7), Scripted(1, 3, 7), equal)


def test_disagreement_that_lasts_is_found_and_the_last_one_is_told() -> None:
    ask = Scripted(*range(100, 100 + LOOKS))
    with pytest.raises(AssertionError, match=f"7 == {99 + LOOKS}"):
        agree_while_still(Scripted(7), ask, equal)
    assert ask.asked == LOOKS


def test_disagreement_is_told_though_the_map_moved_at_every_other_look() -> None:
    with pytest.raises(AssertionError, match="7 == 8"):
        agree_while_still(Scripted(7, 7, 1, 2, 3, 7), Scripted(8), equal)


def test_what_changes_and_changes_back_all_the_time_is_not_compared() -> None:
    moves = [7, 7, 7, 9] * LOOKS  # at every other look it seems to stand still
    assert not agree_while_still(Scripted(*moves), ever_other(), lambda ours, theirs: equal(ours, theirs + 100))
    assert not agree_while_still(Scripted(7, 7, *range(10, 100)), Scripted(8), equal)


@pytest.mark.parametrize(("read", "ask"), [(ever_other(), Scripted(7)), (Scripted(7), Scripted(None))])
def test_where_nothing_could_be_compared_that_is_said_and_nothing_is_checked(read: Tell, ask: Tell) -> None:
    def never(*_: object) -> None:
        pytest.fail("compared")

    assert not agree_while_still(read, ask, never)


def test_few_looks_are_for_what_never_stands_still_and_not_for_a_disagreement() -> None:
    read, ask = Scripted(*range(100)), Scripted(7)
    assert not agree_while_still(read, ask, equal, looks=2)
    assert ask.asked == 2
    ask = Scripted(8, 8, 8, 7)
    assert agree_while_still(Scripted(7), ask, equal, looks=2)
    assert ask.asked == 4


def test_patience_ends_for_what_never_stands_still_and_not_for_a_disagreement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "PATIENCE", 0)
    ask = Scripted(7)
    assert not agree_while_still(ever_other(), ask, equal)
    assert ask.asked == 1
    ask = Scripted(8, 8, 8, 7)
    assert agree_while_still(Scripted(7), ask, equal)
    assert ask.asked == 4


def test_sameness_is_what_the_caller_says_it_is() -> None:
    assert agree_while_still(ever_other(), Scripted(7), lambda *_: None, same=lambda *_: True)


def test_error_of_either_teller_is_not_kept_back() -> None:
    def gone() -> int:
        raise ProcessLookupError("gone")

    for read, ask in ((gone, Scripted(7)), (Scripted(7), gone)):
        with pytest.raises(ProcessLookupError):
            agree_while_still(read, ask, equal)
