"""Named sets of machines: those of this repository, and what is said of a file that is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vmatlas_images import machines, select
from vmatlas_images.describe.sets import find_set
from vmatlas_images.errors import MachineError
from vmatlas_images.resolve.local import is_local

OURS = Path(__file__).parents[2] / "ci" / "sets.yaml"


SETS = yaml.safe_load(OURS.read_text("utf-8"))


def test_there_is_a_set_for_each_occasion() -> None:
    assert set(SETS) == {"default", "pull-request", "nightly", "release"}


def test_the_default_holds_one_machine_for_each_system_and_processor_that_can_be_had() -> None:
    """Downloads that nobody has seen run are left to the nights; a user's own image is no download."""
    there = [each for each in machines() if "never run" not in each.labels or is_local(each)]
    chosen = select(machines(), find_set(OURS, "default").patterns)
    pairs = [(each.system, each.processor) for each in chosen]
    assert sorted(pairs) == sorted({(each.system, each.processor) for each in there})


def test_guests_with_a_python_of_their_own_are_left_to_the_nights_and_releases() -> None:
    for name in SETS:
        has_python = any(each.python for each in select(machines(), find_set(OURS, name).patterns))
        assert has_python == (name in ("nightly", "release"))


@pytest.mark.parametrize("name", SETS)
def test_every_pattern_of_our_sets_fits_a_machine_and_has_a_reason(name: str) -> None:
    chosen = find_set(OURS, name)
    assert select(machines(), chosen.patterns)
    assert all(choice.reason for choice in chosen.choices)


def test_a_release_runs_all_that_a_pull_request_runs() -> None:
    small, large = (select(machines(), find_set(OURS, name).patterns) for name in ("pull-request", "release"))
    assert [machine for machine in small if machine not in large] == []


def test_every_machine_is_in_the_nightly_set() -> None:
    assert select(machines(), find_set(OURS, "nightly").patterns) == machines()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: [", "not YAML"),
        ("- a", "the file"),
        ("a: [{machines: x}]", r"a\.0\.reason"),
        ("a: [{machines: x, reason: y, until: z}]", r"a\.0\.until"),
        ("a: []", "no set 'a'"),
        ("b: [{machines: x, reason: y}]", "no set 'a'; it has: b"),
    ],
)
def test_a_file_that_is_wrong_is_said(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "sets.yaml").write_text(text)
    with pytest.raises(MachineError, match=words):
        find_set(tmp_path / "sets.yaml", "a")


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="cannot be read"):
        find_set(tmp_path / "none.yaml", "a")
