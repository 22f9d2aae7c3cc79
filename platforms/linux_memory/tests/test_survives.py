"""No call crashes the interpreter through ordinary use: a child does at random what needs no `unsafe`, and lives."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE

PROGRAM = Path(__file__).parent / "survivor.py"
STEPS = 400
ROOM = 4 << 30
"""Bytes of address space: what is asked for at random shall not take the memory of this machine."""


def survive(seed: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROGRAM), str(seed), str(STEPS)],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (ROOM, ROOM)),
    )


@pytest.mark.parametrize("seed", range(4))
def test_interpreter_survives_ordinary_use(seed: int) -> None:
    done = survive(seed)
    assert done.returncode == 0, f"seed {seed}: {done.returncode}\n{done.stdout}{done.stderr[-3000:]}"
    for kind in ("done", "UsageError", "OperationFailed", "BufferInUse"):
        assert f"'{kind}'" in done.stdout, f"seed {seed} never came to {kind}: {done.stdout}"
