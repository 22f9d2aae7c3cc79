"""The compiled decoder, and the walk by threads, alone, under the sanitizers: mutated records, and made-up maps."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas.conformance.compiling import MEMORY, RACES
from vmatlas.conformance.fuzz import build_driver, counts_of, fuzz_decoder

HERE = Path(__file__).parent


def test_mutated_records_find_nothing(tmp_path: Path) -> None:
    fuzz_decoder(HERE, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("sanitizers", [MEMORY, RACES])
def test_threads_tell_made_up_maps_right(sanitizers: str, tmp_path: Path) -> None:
    walker = build_driver(HERE / "fuzz_walk.c", HERE.parent / "native", tmp_path, sanitizers=sanitizers)
    counts = counts_of(walker, "300", "7")
    assert counts["decoded"] > 200
    assert counts["refused"] > 5
    assert min(counts["together"], counts["changed"]) > 50
    assert counts["asked_by_others"] > 10_000
