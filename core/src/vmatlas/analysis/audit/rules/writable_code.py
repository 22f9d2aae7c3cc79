"""Memory that can be written and executed."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence, name_of
from vmatlas.model import Kind, Protection


def check(case: Case) -> Iterator[Hit | Silence]:
    """Stacks and heaps have rules of their own."""
    columns = case.space.columns
    for row in case.code_rows:
        if not columns.protection[row] & Protection.WRITE or columns.kind[row] in (Kind.HEAP, Kind.STACK):
            continue
        region = columns.region(row)
        if not case.is_stack(region):
            yield Hit((region,), f"{name_of(region)} is {region.permissions}")


RULE = Rule(
    "writable-and-executable",
    Severity.HIGH,
    "Code can be written and run in the same place: whoever can write memory there runs code of their own.",
    "just-in-time compilers that do not keep the two apart (older JVMs, .NET before 7, LuaJIT, PCRE2, QEMU); libffi's "
    "callbacks",
    "find out who maps it (`vmatlas maps --names`); newer versions of most compilers map it twice or change its rights",
    check,
    by_rights=True,
    of_code=True,
)
