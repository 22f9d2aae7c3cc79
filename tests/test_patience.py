"""No test has a limit of its own: one that a loaded machine cannot keep fails although nothing is wrong."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmatlas.conformance import patience
from vmatlas.conformance.patience import PATIENCE

ROOT = Path(__file__).parents[1]
TESTS = sorted(
    path
    for folder in (ROOT / "core", ROOT / "images", *(ROOT / "platforms").iterdir(), ROOT / "tests")
    for path in folder.rglob("*.py")
    if ("tests" in path.relative_to(ROOT).parts or "conformance" in path.parts)
    and not {"bench", "programs", "fuzz", "build"} & set(path.relative_to(ROOT).parts)
)
LONG = 5.0
"""Seconds from which on a number is a limit: shorter ones are pauses, and looks at what should not come."""


def tells_time(node: ast.AST) -> bool:
    return any(isinstance(each, ast.Attribute) and each.attr == "monotonic" for each in ast.walk(node))


def limits(text: str) -> Iterator[int]:
    """The lines on which a number says how long something may take."""
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Call(func=ast.Attribute(attr="wait" | "join" | "communicate"), args=[said]):
                is_limit = True
            case ast.Call(func=ast.Attribute(attr="timeout", value=ast.Attribute(attr="mark")), args=[said]):
                is_limit = True
            case ast.keyword(arg="timeout", value=said):
                is_limit = True
            case ast.BinOp(left=left, op=ast.Add(), right=said):
                is_limit = tells_time(left)
            case ast.Compare(ops=[*_, ast.Lt() | ast.LtE()], comparators=[*_, said]):
                is_limit = tells_time(node)
            case _:
                continue
        if is_limit and isinstance(said, ast.Constant) and isinstance(said.value, int | float) and said.value >= LONG:
            yield said.lineno


def test_what_a_test_waits_for_has_the_time_that_all_have() -> None:
    assert len(TESTS) > 100
    assert [f"{path}:{line}" for path in TESTS for line in limits(path.read_text("utf-8"))] == []


@pytest.mark.parametrize(
    "line",
    [
        "subprocess.run(['x'], timeout=20)",
        "thread.join(30)",
        "until = time.monotonic() + 10",
        "assert time.monotonic() - began < 5",
        "assert 0.5 < time.monotonic() - began < 15",
        "pytestmark = pytest.mark.timeout(100)",
    ],
)
def test_a_limit_of_a_tests_own_is_found(line: str) -> None:
    assert list(limits(line)) == [1]


def test_a_pause_and_a_multiple_of_patience_are_no_limits_of_a_tests_own() -> None:
    assert list(limits("time.sleep(5)\nthread.join(0.2)\nthread.join(2 * PATIENCE)\nstream.receive(timeout=0.3)")) == []


def test_patience_grows_with_the_load_and_is_measured_once_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> float:
        code = f"import {patience.__name__} as it; print(it.PATIENCE)"
        return float(subprocess.check_output([sys.executable, "-c", code], timeout=PATIENCE))

    assert os.environ[patience.NAME] == f"{PATIENCE:.0f}" and ask() == pytest.approx(PATIENCE, abs=1)
    monkeypatch.setattr(subprocess, "run", lambda *words, **how: None)
    clock = iter([10.0, 10.5])
    monkeypatch.setattr(patience.time, "monotonic", lambda: next(clock))
    assert patience._measured() == 2500
