"""Whether anybody may be asked for what is not here."""

from __future__ import annotations

import os

from ..errors import NotRunnable


def is_offline() -> bool:
    """Whether `VMATLAS_OFFLINE` asks to use nothing but the cache."""
    return os.environ.get("VMATLAS_OFFLINE", "") not in ("", "0")


def refuse_offline(what: str) -> None:
    """Raises `NotRunnable` when `VMATLAS_OFFLINE` is set: `what` is not in the cache."""
    if is_offline():
        raise NotRunnable(f"{what} is not in the cache, and VMATLAS_OFFLINE is set", hint="run once without it")
