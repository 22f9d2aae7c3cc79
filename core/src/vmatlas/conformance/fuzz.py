"""Runs a compiled decoder, alone, under the sanitizers: its driver in C feeds it mutated bytes (`native/fuzz.h`)."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

COLUMNS = Path(__file__).parent.parent / "native"
SANITIZERS = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build_driver(driver: Path, native: Path, folder: Path) -> Path:
    """`driver` and the decode.c of a plugin's `native`, built into `folder`. Skips where there is no C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no compiler 'cc' in PATH")
    made = folder / driver.stem
    command = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", *SANITIZERS, f"-I{native}", f"-I{COLUMNS}"]
    subprocess.run([*command, "-D_GNU_SOURCE", "-o", made, driver, native / "decode.c"], check=True, timeout=120)
    return made


def counts_of(driver: Path, *arguments: str) -> dict[str, int]:
    """Runs a built driver: how often each way was gone. Asserts that nothing was found."""
    done = subprocess.run([driver, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    words = done.stdout.split()
    return {word: int(count) for word, count in zip(words[::2], words[1::2], strict=True)}
