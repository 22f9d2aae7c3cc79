"""The compiled decoder, alone, under the sanitizers: some seconds of mutated entries, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas.conformance.fuzz import build_driver, counts_of

HERE = Path(__file__).parent
ROUNDS = 20_000


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(HERE / "fuzz_decode.c", HERE.parent / "native", tmp_path_factory.mktemp("fuzz"))


def test_mutated_entries_find_nothing(driver: Path) -> None:
    counts = counts_of(driver, str(ROUNDS), "7")
    assert all(counts[word] > ROUNDS // 20 for word in ("decoded", "refused")), "each way was gone often"
