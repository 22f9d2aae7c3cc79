"""How many threads may serve one question. The environment variable VMATLAS_THREADS overrules what is usual."""

from __future__ import annotations

import os

from vmatlas.errors import UsageError

LIMIT = "VMATLAS_THREADS"
"""The environment variable: a whole number from 1; 1 keeps every question in the thread that asks it."""

MOST = 64
"""More are never of use, whatever the variable says."""


def demanded() -> int | None:
    """What the variable says, at most MOST; None when it is not set. Raises UsageError when it is no number from 1."""
    said = os.environ.get(LIMIT, "")
    if not said:
        return None
    if not (said.isascii() and said.isdigit() and len(said) < 10 and int(said) > 0):
        raise UsageError(f"{LIMIT} is {said[:40]!r}", hint=f"{LIMIT} is a whole number from 1, or not set")
    return min(int(said), MOST)


def allowed(usual: int) -> int:
    """What the variable says; else as `available`."""
    return demanded() or available(usual)


def available(usual: int) -> int:
    """One for each processor that this process may run on, where the system tells them from all; at most `usual`."""
    try:
        processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    except OSError:  # a sandbox denies the question
        processors = 1
    return min(usual, processors)
