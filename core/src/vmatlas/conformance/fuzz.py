"""Runs a compiled decoder, alone, under the sanitizers: its driver in C feeds it mutated bytes (`native/fuzz.h`)."""

from __future__ import annotations

import subprocess
from pathlib import Path

from vmatlas.conformance.compiling import MEMORY, compile_test

_FLAGS = ("-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")


def build_driver(driver: Path, native: Path, folder: Path, *, sanitizers: str = MEMORY) -> Path:
    """`driver` and the decode.c of a plugin's `native`, built into `folder`. Skips where there is no C compiler."""
    return compile_test([driver, native / "decode.c"], _FLAGS, [native], folder, sanitizers)


def counts_of(driver: Path, *arguments: str) -> dict[str, int]:
    """Runs a built driver: how often each way was gone. Asserts that nothing was found."""
    done = subprocess.run([driver, *arguments], capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    words = done.stdout.split()
    return {word: int(count) for word, count in zip(words[::2], words[1::2], strict=True)}
