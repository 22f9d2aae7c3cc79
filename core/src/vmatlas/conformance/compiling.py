"""Compiles the C of a test for this machine, under the sanitizers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE

SHARED = Path(__file__).parent.parent / "native"
"""Where the headers lie that such C shares."""

MEMORY = "address,undefined"
"""The sanitizers that find wrong accesses and what C leaves undefined."""
RACES = "thread"
"""The one that finds what two threads touch at once."""


def compile_test(
    sources: Sequence[Path],
    flags: Sequence[str],
    headers: Sequence[Path],
    folder: Path,
    sanitizers: str = MEMORY,
) -> Path:
    """The program of `sources`, in `folder`, named as the first of them. Skips where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler 'cc' in PATH: apt-get install gcc libc6-dev")
    made = folder / sources[0].stem
    watched = ("-O1", "-g", f"-fsanitize={sanitizers}", "-fno-sanitize-recover=all")
    searched = [f"-I{each}" for each in (*headers, SHARED)]
    subprocess.run([compiler, *flags, *watched, *searched, "-o", made, *sources], check=True, timeout=PATIENCE)
    return made
