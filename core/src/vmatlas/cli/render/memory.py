"""The memory in use for JSON and CSV: the fields of `MemoryUse`, the same everywhere."""

from __future__ import annotations

from vmatlas.model import MemoryTotal, MemoryUse
from vmatlas.model.memory import FIELDS, UNTOLD

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MEMORY_CSV = tuple(f"memory.{name}" for name in FIELDS)


def memory_json(use: MemoryUse | None) -> dict[str, int | None] | None:
    """Bytes; None where nothing is told."""
    return None if use is None or use == UNTOLD else use._asdict()


def memory_csv(use: MemoryUse | None) -> dict[str, int | None]:
    """Bytes, under the titles of MEMORY_CSV."""
    return {} if use is None else dict(zip(MEMORY_CSV, use, strict=True))


def total_memory_json(total: MemoryTotal) -> dict[str, Any]:
    """A sum, and, by field, how many of the parts do not tell it; with a part missing the sum is of the others."""
    return {"parts": total.parts, "memory": memory_json(total.at_least), "untold": total.untold}
