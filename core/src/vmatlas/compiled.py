"""The compiled twins: C that does what Python does here too, only faster. Which of them serve, and why others do not.

Every distribution that has one works without: a twin is left out where it was never built (no C compiler when it was
installed), where it was built for another version of the shared columns (native/columns.h), and where the environment
variable VMATLAS_PURE is set to anything but 0. The Python twin then serves, with the same results and the same errors.
"""

from __future__ import annotations

import os
from importlib import import_module

from vmatlas.values import dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

FORCE = "VMATLAS_PURE"
"""The environment variable that keeps all twins from being used."""

COLUMNS = 1
"""VMATLAS_COLUMNS of native/columns.h: what a twin must have been built with."""


@dataclass(frozen=True, slots=True)
class Twin:
    """One compiled module, as it stands here."""

    module: str
    serves: bool
    reason: str
    """Why not; empty where it serves."""


_looked_at: dict[str, tuple[Twin, Any]] = {}


def load(module: str) -> Any:
    """The compiled module, or None: then its twin in Python is to serve."""
    if module not in _looked_at:
        _looked_at[module] = _look(module)
    return _looked_at[module][1]


def twin(module: str) -> Twin:
    """How a compiled module stands here."""
    load(module)
    return _looked_at[module][0]


def _look(module: str) -> tuple[Twin, Any]:
    if os.environ.get(FORCE, "0") not in ("", "0"):
        return Twin(module, False, f"the environment variable {FORCE} is set"), None
    try:
        found = import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            return Twin(module, False, f"it cannot be loaded: {error}"), None
        return Twin(module, False, "it was not built: there was no C compiler when it was installed"), None
    except ImportError as error:
        return Twin(module, False, f"it cannot be loaded: {error}"), None
    columns: int = getattr(found, "COLUMNS", COLUMNS)  # one that has nothing to do with columns does not say
    if columns != COLUMNS:
        versions = f"it was built for version {columns} of the columns, this is version {COLUMNS}"
        return Twin(module, False, f"{versions}: install both distributions of one release"), None
    return Twin(module, True, ""), found
