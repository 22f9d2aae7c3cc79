"""Runs a compiled decoder, alone, under the sanitizers: its driver in C feeds it mutated bytes (`native/fuzz.h`)."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from vmatlas.conformance.compiling import MEMORY, compile_test
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples

_ROUNDS = examples(20_000)
_FLAGS = ("-std=c99", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-Werror")


def build_driver(driver: Path, native: Path, folder: Path, *, sanitizers: str = MEMORY) -> Path:
    """`driver` and the decode.c of a plugin's `native`, built into `folder`. Skips where there is no C compiler."""
    return build_with(driver, [native / "decode.c"], folder, sanitizers=sanitizers)


def build_with(driver: Path, sources: Sequence[Path], folder: Path, *, sanitizers: str = MEMORY) -> Path:
    """`driver` and what it feeds, built into `folder`. Skips where there is no C compiler."""
    return compile_test([driver, *sources], _FLAGS, [each.parent for each in sources], folder, sanitizers)


def fuzz_decoder(tests: Path, folder: Path, *words: str, ways: Sequence[str] = ("decoded", "refused")) -> None:
    """A plugin's `tests/fuzz_decode.c` and its decoder, built into `folder`: some seconds of inputs, always the same.

    `words` come before the rounds and the seed. Asserts that nothing was found, and each of `ways` was gone often.
    """
    fuzz_driver(tests / "fuzz_decode.c", [tests.parent / "native" / "decode.c"], folder, *words, ways=ways)


def fuzz_driver(
    driver: Path, sources: Sequence[Path], folder: Path, *words: str, ways: Sequence[str] = ("decoded", "refused")
) -> None:
    """The same of any driver and what it feeds."""
    counts = counts_of(build_with(driver, sources, folder), *words, str(_ROUNDS), "7")
    assert all(counts[word] > _ROUNDS // 20 for word in ways), f"each way was gone often: {counts}"


def counts_of(driver: Path, *arguments: str) -> dict[str, int]:
    """Runs a built driver: how often each way was gone. Asserts that nothing was found."""
    done = subprocess.run([driver, *arguments], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    words = done.stdout.split()
    return {word: int(count) for word, count in zip(words[::2], words[1::2], strict=True)}
