"""Executable memory of no file and no name."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.model import Kind, Protection


def check(case: Case) -> Iterator[Hit | Silence]:
    """What can be written as well is found by another rule."""
    for region in case.code(Kind.ANONYMOUS):
        if region.name is None and not region.protection & Protection.WRITE and not case.is_stack(region):
            yield Hit((region,), f"nameless memory is {region.permissions}: no file says what its code is")


RULE = Rule(
    "nameless-code",
    Severity.MEDIUM,
    "Executable memory that no file stands behind: code that was made, unpacked or injected while the process ran.",
    "just-in-time compilers, which write code and then take the right to write away; unpackers; libffi's closures",
    "find out who maps it; the policy `jit-friendly` passes over compilers that are recognised",
    check,
    by_rights=True,
    of_code=True,
)
