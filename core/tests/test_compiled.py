"""Which compiled twins serve, and the reasons of those that do not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from types import ModuleType

import pytest

from vmatlas import compiled
from vmatlas.conformance.patience import PATIENCE


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


def test_a_twin_that_has_nothing_to_do_with_columns_serves(monkeypatch):
    monkeypatch.setitem(sys.modules, "some_twin", ModuleType("some_twin"))
    assert compiled.twin("some_twin").serves


def test_a_twin_that_was_never_built_does_not_serve():
    assert compiled.load("vmatlas.no_such_twin") is None
    assert "no C compiler" in compiled.twin("vmatlas.no_such_twin").reason


def test_a_twin_that_cannot_be_loaded_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken_twin.py").write_text("raise ImportError('undefined symbol: gone')")
    monkeypatch.syspath_prepend(tmp_path)
    assert compiled.load("broken_twin") is None
    assert "undefined symbol: gone" in compiled.twin("broken_twin").reason


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="a C compiler makes the twin")
def test_a_twin_of_a_newer_libc_does_not_serve_and_says_which(tmp_path, monkeypatch):
    (tmp_path / "libc.c").write_text("int from_the_future(void) { return 0; }")
    (tmp_path / "versions").write_text("GLIBC_2.99 { global: from_the_future; };")
    (tmp_path / "twin.c").write_text(
        "int from_the_future(void); void *PyInit_newer_twin(void) { from_the_future(); return 0; }"
    )
    shared = ["cc", "-shared", "-fPIC", "-nostdlib"]
    newer = [*shared, "-Wl,-soname,libc.so.6", "-Wl,--version-script=versions", "libc.c", "-o", "libc.so.6"]
    for command in (newer, [*shared, "twin.c", "./libc.so.6", "-o", "newer_twin.abi3.so"]):
        subprocess.run(command, cwd=tmp_path, check=True, timeout=PATIENCE)
    monkeypatch.syspath_prepend(tmp_path)
    assert compiled.load("newer_twin") is None
    assert "it cannot be loaded: " in compiled.twin("newer_twin").reason
    assert "GLIBC_2.99" in compiled.twin("newer_twin").reason


@pytest.mark.parametrize(("value", "serves"), [("1", False), ("yes", False), ("0", True), ("", True)])
def test_the_environment_variable_keeps_all_twins_from_being_used(monkeypatch, value, serves):
    module_of_version(monkeypatch, compiled.COLUMNS)
    monkeypatch.setenv(compiled.FORCE, value)
    assert compiled.twin("some_twin").serves is serves
    assert (compiled.FORCE in compiled.twin("some_twin").reason) is not serves
