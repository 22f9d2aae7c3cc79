"""The compiled decoder, and the walk by threads, alone, under the sanitizers: mutated records, and made-up maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas.conformance.fuzz import build_driver, counts_of

HERE = Path(__file__).parent
ROUNDS = 20_000


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_driver(HERE / "fuzz_decode.c", HERE.parent / "native", tmp_path_factory.mktemp("fuzz"))


def test_mutated_records_find_nothing(driver: Path) -> None:
    counts = counts_of(driver, str(ROUNDS), "7")
    assert all(counts[word] > ROUNDS // 20 for word in ("decoded", "refused")), "each way was gone often"


@pytest.mark.parametrize("sanitizers", ["address,undefined", "thread"])
def test_threads_tell_made_up_maps_right(sanitizers: str, tmp_path: Path) -> None:
    walker = build_driver(HERE / "fuzz_walk.c", HERE.parent / "native", tmp_path, sanitizers=sanitizers)
    counts = counts_of(walker, "300", "7")
    assert counts["decoded"] > 200
    assert counts["refused"] > 5
    assert min(counts["together"], counts["changed"]) > 50
    assert counts["asked_by_others"] > 10_000
