"""The choice of a backend: the best that answers, with its reason, and what a user says goes."""

from __future__ import annotations

import pytest

from vmatlas.backend import Availability, Feature
from vmatlas.choice import choose, consider
from vmatlas.errors import Unsupported, UsageError
from vmatlas.model import Filter, Query, Question
from vmatlas.registry import BACKENDS

from .fakes import FakeBackend, FakeTarget

TARGET = FakeTarget()


@pytest.fixture
def only(install, monkeypatch):
    """`only(backend, ...)`: these are installed, and no other."""

    def these(*backends: FakeBackend) -> None:
        monkeypatch.setattr("vmatlas.registry.backends", lambda *_: list(backends))
        for backend in backends:
            install("vmatlas-fake", BACKENDS, backend.name, backend)

    return these


def test_the_lowest_rank_is_chosen_and_the_reason_names_the_others(only):
    good, better = FakeBackend(name="a", ranked=20), FakeBackend(name="b", ranked=10)
    only(good, better)
    choice = choose(TARGET, Query())
    assert choice.backend is better
    assert (choice.reason, choice.asked_for) == ("best for a whole map; before a", False)


def test_a_backend_that_the_kernel_refuses_is_passed_over_with_the_reason(only):
    refused = FakeBackend(name="a", ranked=1, availability=Availability(False, "kernel older than 6.11"))
    only(refused, FakeBackend(name="b"))
    choice = choose(TARGET, Query())
    assert choice.backend.name == "b"
    assert choice.reason == "the only one that answers (a: kernel older than 6.11)"


def test_a_backend_that_cannot_answer_the_question_is_passed_over_with_the_reason(only):
    only(FakeBackend(name="a", ranked=None), FakeBackend(name="b"))
    choice = choose(TARGET, Query(residency=True))
    assert choice.reason == "the only one that answers (a: cannot answer the question 'residency')"


def test_needed_features_are_heeded(only):
    plain, above = FakeBackend(name="a", ranked=1, features=Feature.WALK), FakeBackend(name="b", ranked=2)
    only(plain, above)
    assert choose(TARGET, Query()).backend is plain
    assert choose(TARGET, Query(), needs=Feature.ABOVE_USER).backend is above


def test_equal_ranks_are_settled_by_name(only):
    only(FakeBackend(name="b"), FakeBackend(name="a"))
    assert choose(TARGET, Query()).backend.name == "a"


def test_the_named_backend_is_taken_though_another_is_better(only):
    named = FakeBackend(name="a", ranked=99)
    only(named, FakeBackend(name="b", ranked=1))
    choice = choose(TARGET, Query(), "a")
    assert (choice.backend, choice.asked_for) == (named, True)


def test_an_unknown_name_is_a_usage_error():
    with pytest.raises(UsageError, match="no backend 'nothing'"):
        choose(TARGET, Query(), "nothing")


def test_a_named_backend_that_is_not_available_says_why(only):
    only(FakeBackend(availability=Availability(False, "ENOTTY")))
    with pytest.raises(Unsupported, match="'fake' is not available: ENOTTY") as caught:
        choose(TARGET, Query(), "fake")
    assert (caught.value.target, caught.value.backend) == ("board", "fake")


def test_a_named_backend_that_cannot_answer_says_so(only):
    only(FakeBackend(ranked=None))
    with pytest.raises(Unsupported, match="cannot answer the question 'build ids'"):
        choose(TARGET, Query(build_ids=True), "fake")


def test_when_none_answers_the_reason_of_each_is_told(only):
    only(FakeBackend(name="a", ranked=None), FakeBackend(name="b", availability=Availability(False, "no /proc")))
    with pytest.raises(Unsupported, match="a: cannot answer the question 'whole map'; b: no /proc"):
        choose(TARGET, Query())


def test_when_none_is_installed_the_hint_says_what_to_install(only):
    only()
    with pytest.raises(Unsupported, match="no backend is installed") as caught:
        choose(TARGET, Query())
    assert "--find-links FOLDER vmatlas-linux-ioctl " in caught.value.hint
    assert " ./platforms/linux_procfs" in caught.value.hint


def test_a_broken_plugin_is_considered_with_its_reason(install):
    install("vmatlas-fake", BACKENDS, "fake", None)
    (broken,) = [each for each in consider(TARGET) if each.name == "fake"]
    assert broken.backend is None
    assert broken.availability.reason.startswith("cannot be loaded: ModuleNotFoundError")


@pytest.mark.parametrize(
    ("query", "question"),
    [
        (Query(), Question.WHOLE_MAP),
        (Query(where=Filter.of("x")), Question.FILTERED_MAP),
        (Query(address=0), Question.POINT),
        (Query(address=0, where=Filter.of("x")), Question.POINT),
        (Query(residency=True, build_ids=True), Question.RESIDENCY),
        (Query(build_ids=True), Question.BUILD_IDS),
    ],
)
def test_questions_are_told_from_queries(query, question):
    assert query.question is question
