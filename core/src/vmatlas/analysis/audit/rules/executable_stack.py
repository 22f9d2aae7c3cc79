"""A stack that can be executed."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import NO_STACK, Case, Hit, Rule, Silence
from vmatlas.model import Kind


def check(case: Case) -> Iterator[Hit | Silence]:
    """Writable or not: it is hardly ever meant. Where no stack is told, it is found as any other memory."""
    if not case.tells_stacks:
        yield Silence(NO_STACK)
        return
    for region in case.code(Kind.STACK, Kind.ANONYMOUS):
        if case.is_stack(region):
            yield Hit((region,), f"the stack is {region.permissions}")


RULE = Rule(
    "executable-stack",
    Severity.HIGH,
    "The stack can be executed: an overflow of a buffer on it is enough to run code.",
    "a program or library with nested functions (trampolines), or with assembly that lacks a .note.GNU-stack section",
    "find the file with `readelf -lW FILE | grep GNU_STACK` (RWE) and build it with -z noexecstack",
    check,
    by_rights=True,
)
