"""Audits of real programs with compilers that make code on purpose; captures recorded on Linux 6.18."""

from __future__ import annotations

from pathlib import Path

import pytest

import vmatlas
from vmatlas import Policy
from vmatlas.analysis import Severity

RECORDED = Path(__file__).parent / "captures" / "naming"
COMPILERS = {"jvm": "libjvm.so is mapped", "node": "node is mapped", "chromium": "chromium is mapped"}


@pytest.mark.parametrize("program", sorted(path.stem for path in RECORDED.glob("*.vmatlas")))
def test_a_compiler_is_recognised_and_nothing_is_found_beside_it(program: str) -> None:
    space = vmatlas.replay(RECORDED / f"{program}.vmatlas")
    usual = vmatlas.audit(space)
    friendly = vmatlas.audit(space, policy=Policy.preset("jit-friendly"))
    assert [each.id for each in usual] == ["writable-and-executable"] * (program in COMPILERS)
    assert [each.severity for each in friendly] == [Severity.NOTE] * len(usual)
    assert all(COMPILERS[program] in each.runtime for each in friendly)


def test_the_name_of_a_process_recognises_nothing() -> None:
    """Whoever injects code may call itself as it likes; the library has to be mapped, and the memory to fit."""
    space = vmatlas.replay(RECORDED / "node.vmatlas").named("node", None)
    without = vmatlas.AddressSpace.of([each for each in space if not (each.path or "").endswith("node")], space.origin)
    (found,) = vmatlas.audit(without, policy=Policy.preset("jit-friendly"))
    assert (found.severity, found.runtime) == (Severity.HIGH, "")
