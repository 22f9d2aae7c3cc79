"""Which compiled twins serve, and the reasons of those that do not."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from vmatlas import compiled


@pytest.fixture(autouse=True)
def nothing_looked_at(monkeypatch):
    monkeypatch.setattr(compiled, "_looked_at", {})
    monkeypatch.delenv(compiled.FORCE, raising=False)


def module_of_version(monkeypatch, version):
    made = ModuleType("some_twin")
    made.COLUMNS = version
    monkeypatch.setitem(sys.modules, "some_twin", made)
    return made


def test_a_twin_of_this_version_serves(monkeypatch):
    made = module_of_version(monkeypatch, compiled.COLUMNS)
    assert compiled.load("some_twin") is made
    assert compiled.twin("some_twin") == compiled.Twin("some_twin", True, "")


def test_a_twin_of_another_version_does_not_serve_and_says_so(monkeypatch):
    module_of_version(monkeypatch, compiled.COLUMNS + 1)
    assert compiled.load("some_twin") is None
    assert f"version {compiled.COLUMNS + 1}" in compiled.twin("some_twin").reason


def test_a_twin_that_was_never_built_does_not_serve():
    assert compiled.load("vmatlas.no_such_twin") is None
    assert "no C compiler" in compiled.twin("vmatlas.no_such_twin").reason


def test_a_twin_that_cannot_be_loaded_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_twin.py").write_text("raise ImportError('undefined symbol: gone')")
    monkeypatch.syspath_prepend(tmp_path)
    assert compiled.load("broken_twin") is None
    assert "undefined symbol: gone" in compiled.twin("broken_twin").reason


@pytest.mark.parametrize(("value", "serves"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_environment_variable_keeps_all_twins_from_being_used(monkeypatch, value, serves):
    module_of_version(monkeypatch, compiled.COLUMNS)
    monkeypatch.setenv(compiled.FORCE, value)
    assert compiled.twin("some_twin").serves is serves
    assert (compiled.FORCE in compiled.twin("some_twin").reason) is not serves
