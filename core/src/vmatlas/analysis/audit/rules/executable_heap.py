"""A heap that can be executed."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.model import Kind


def check(case: Case) -> Iterator[Hit | Silence]:
    """Writable or not: it is hardly ever meant."""
    for region in case.code(Kind.HEAP):
        yield Hit((region,), f"the heap is {region.permissions}")


RULE = Rule(
    "executable-heap",
    Severity.HIGH,
    "The program break's memory can be executed: what a program reads from outside lies there.",
    "very old programs; READ_IMPLIES_EXEC (personality(2)), which a program without .note.GNU-stack gets on 32-bit x86",
    "look at the program with `readelf -lW`; `setarch -X` starts a program so on purpose",
    check,
    systems=frozenset({"linux"}),
    by_rights=True,
)
