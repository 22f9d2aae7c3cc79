"""The compiled decoder, alone, under the sanitizers: some seconds of mutated texts, the same ones every time."""

from __future__ import annotations

from pathlib import Path

import pytest

from vmatlas.conformance.fuzz import fuzz_decoder


@pytest.mark.parametrize("what", ["maps", "smaps"])
def test_mutated_texts_find_nothing(tmp_path: Path, what: str) -> None:
    fuzz_decoder(Path(__file__).parent, tmp_path, what, ways=("decoded", "refused", "pieces"))
