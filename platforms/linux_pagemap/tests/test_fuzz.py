"""The compiled decoder, and the loops over the kernel, alone, under the sanitizers: mutated streams, made-up memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas.conformance.fuzz import build_driver, counts_of, fuzz_decoder
from vmatlas.conformance.thorough import examples

HERE = Path(__file__).parent


@pytest.mark.parametrize("stream", ["scan", "entries"])
def test_mutated_streams_find_nothing(stream: str, tmp_path: Path) -> None:
    fuzz_decoder(HERE, tmp_path, stream)


def test_made_up_memory_is_told_page_by_page_as_it_is(tmp_path: Path) -> None:
    driver = build_driver(HERE / "fuzz_scan.c", HERE.parent / "native", tmp_path)
    rounds = examples(1000)
    counts = counts_of(driver, str(rounds), "7")
    assert counts["decoded"] > rounds // 2
    assert min(counts["refused"], counts["stale"], counts["gone"], counts["above"]) > rounds // 50, counts
