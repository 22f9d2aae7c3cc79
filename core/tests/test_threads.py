from __future__ import annotations

import os

import pytest

from vmatlas.errors import UsageError
from vmatlas.threads import LIMIT, MOST, allowed


def test_as_many_threads_as_processors_up_to_what_is_usual(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert [allowed(usual) for usual in (1, 4, 8)] == [1, 4, 6]


def test_a_system_without_affinities_counts_its_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIMIT, raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    for told, expected in ((3, 3), (None, 1)):
        monkeypatch.setattr(os, "cpu_count", lambda told=told: told)
        assert allowed(8) == expected


def test_where_a_sandbox_denies_the_question_one_thread_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(_: int) -> set[int]:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.delenv(LIMIT, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", deny, raising=False)
    assert allowed(8) == 1


@pytest.mark.parametrize(("said", "expected"), [("1", 1), ("12", 12), ("999", MOST)])
def test_the_variable_says_how_many_whatever_is_usual(
    monkeypatch: pytest.MonkeyPatch, said: str, expected: int
) -> None:
    monkeypatch.setenv(LIMIT, said)
    assert allowed(4) == expected


@pytest.mark.parametrize("said", ["0", "-1", "two", "1.5", " 4", "٣", "9" * 5000])
def test_what_is_no_number_of_threads_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv(LIMIT, said)
    with pytest.raises(UsageError) as refused:
        allowed(4)
    assert LIMIT in refused.value.message
    assert len(str(refused.value)) < 300
