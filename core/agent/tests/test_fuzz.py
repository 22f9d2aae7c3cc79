"""The agent's frame parser, alone, under the sanitizers: a few seconds of mutated streams, the same ones every time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from vmatlas_agents.build import COMMON, NATIVE

ROUNDS = 20_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler 'cc' in PATH")
    made = tmp_path_factory.mktemp("fuzz") / "fuzz_frame"
    command = [
        compiler,
        *COMMON,
        "-O1",
        "-g",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=all",
        f"-I{NATIVE}",
        "-o",
        str(made),
        str(Path(__file__).with_name("fuzz_frame.c")),
        str(NATIVE / "frame.c"),
    ]
    subprocess.run(command, check=True, timeout=120)
    return made


@pytest.mark.parametrize("seed", [1, 88172645463325252])
def test_mutated_streams_find_nothing(fuzzer: Path, seed: int) -> None:
    done = subprocess.run([fuzzer, str(ROUNDS), str(seed)], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(zip(*[iter(done.stdout.split())] * 2, strict=True))
    assert all(int(counts[word]) > ROUNDS // 20 for word in ("good", "bad", "cut")), "each way was gone often"
