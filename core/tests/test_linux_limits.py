"""The limit of stacks, as /proc/PID/limits tells it."""

from __future__ import annotations

import pytest

from vmatlas.backend import NO_LIMIT
from vmatlas.systems.linux.proc import stack_limit_of

LIMITS = b"""Limit                     Soft Limit           Hard Limit           Units
Max data size             unlimited            unlimited            bytes
Max stack size            %s unlimited            bytes
Max core file size        0                    unlimited            bytes
"""


@pytest.mark.parametrize(
    ("soft", "limit"),
    [(b"8388608             ", 8 << 20), (b"0", 0), (b"unlimited           ", NO_LIMIT), (b"x", None)],
)
def test_soft_limit_of_stacks_is_read(soft: bytes, limit: int | None) -> None:
    assert stack_limit_of(LIMITS % soft) == limit


@pytest.mark.parametrize("limits", [b"", b"Max stack size", b"Max stack size  \n", LIMITS[:90]])
def test_what_does_not_tell_a_limit_tells_none(limits: bytes) -> None:
    assert stack_limit_of(limits) is None
