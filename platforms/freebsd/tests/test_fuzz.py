"""The compiled decoder, alone, under the sanitizers: some seconds of mutated records, the same ones every time."""

from __future__ import annotations

from pathlib import Path

from vmatlas.conformance.fuzz import fuzz_decoder


def test_mutated_records_find_nothing(tmp_path: Path) -> None:
    fuzz_decoder(Path(__file__).parent, tmp_path)
