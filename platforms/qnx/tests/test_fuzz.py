"""The compiled decoder, alone, under the sanitizers: some seconds of mutated entries, the same ones every time."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

import vmatlas

HERE = Path(__file__).parent
NATIVE = HERE.parent / "native"
COLUMNS = Path(vmatlas.__path__[0]) / "native"
ROUNDS = 20_000


@pytest.fixture(scope="module")
def fuzzer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler 'cc' in PATH")
    made = tmp_path_factory.mktemp("fuzz") / "fuzz_decode"
    sanitizers = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [HERE / "fuzz_decode.c", NATIVE / "decode.c"]
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", *sanitizers, f"-I{NATIVE}", f"-I{COLUMNS}"]
    subprocess.run([*command, "-D_GNU_SOURCE", "-o", made, *sources], check=True, timeout=120)
    return made


def test_mutated_entries_find_nothing(fuzzer: Path) -> None:
    done = subprocess.run([fuzzer, str(ROUNDS), "7"], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    counts = dict(zip(*[iter(done.stdout.split())] * 2, strict=True))
    assert all(int(counts[word]) > ROUNDS // 20 for word in ("decoded", "refused")), "each way was gone often"
