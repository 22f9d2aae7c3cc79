"""How much the tests do: enough to show each claim, or as much as a night has time for."""

from __future__ import annotations

import os

NAME = "VMATLAS_TEST_THOROUGH"
"""The environment variable that asks for more: 1. `invoke test-all-platforms --set nightly` sets it, `release` too."""

THOROUGH = os.environ.get(NAME, "") not in ("", "0")
"""Random inputs in their full number, races in their full length, every process of this machine where else some of
one's own are looked at."""

_LESS = 5
_FEW = 25


def examples(full: int) -> int:
    """How many random inputs a test tries: `full` in a thorough run, else a fifth of them, and 25 at least."""
    return full if THOROUGH else min(full, max(_FEW, full // _LESS))
