"""What eats bytes from outside is fuzzed for a few seconds, with the same inputs every time, after the whole corpus.

The long form is `./run invoke fuzz --minutes 10`.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples
from vmatlas_agents.build import NATIVE

FUZZ = Path(__file__).parents[1] / "fuzz"
ROUNDS = {
    "frames": examples(4_000),
    "requests": examples(1_500),
    "host": examples(3_000),
    "files": examples(200),
}
PARTS = {"files": 7}
IN_PYTHON = ("host", "files")


def fuzz(target: str, tmp_path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    if target not in IN_PYTHON and shutil.which("cc") is None:
        pytest.skip("no compiler 'cc' in PATH")
    command = [sys.executable, str(FUZZ), "--only", target, "--rounds", str(ROUNDS[target]), *options]
    command += ["--objects", str(tmp_path.parent / "fuzz-objects")]  # the tests here share them
    return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.slow
@pytest.mark.parametrize("target", sorted(ROUNDS))
def test_nothing_is_found(target: str, tmp_path: Path) -> None:
    done = fuzz(target, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    runs = re.findall(r"([\d,]+) runs, nothing found", done.stdout)
    assert len(runs) == PARTS.get(target, 1)
    assert all(int(each.replace(",", "")) >= ROUNDS[target] for each in runs)


@pytest.mark.parametrize(
    ("target", "file", "check", "without"),
    [
        ("frames", "frame.c", "if (frame->length > FRAME_PAYLOAD) {", "if (0) {"),
        ("requests", "answer.c", "frame.sequence = answer->sequence++;", "frame.sequence = 0;"),
    ],
)
def test_a_check_that_is_missing_is_found(target: str, file: str, check: str, without: str, tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    shutil.copytree(NATIVE, sources, ignore=shutil.ignore_patterns("vmatlas_agents", "qnx"))
    text = (sources / file).read_text()
    assert check in text
    (sources / file).write_text(text.replace(check, without))
    done = fuzz(target, tmp_path, "--sources", str(sources), "--keep", str(tmp_path / "found"))
    assert done.returncode == 1, done.stdout + done.stderr
    (kept,) = (tmp_path / "found" / target).iterdir()
    assert kept.stat().st_size > 0 and "FOUND something" in done.stderr
