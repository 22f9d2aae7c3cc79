"""Code whose rights may still be changed, where the kernel can seal them."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence, release_of
from vmatlas.model import Kind, Protection

_SINCE = (6, 10)
"""Linux from this release on has mseal(2), for 64 bits alone (mm/mseal.c)."""


def check(case: Case) -> Iterator[Hit | Silence]:
    """By the flags of the code of files (VmFlags `sl`). A process that seals nothing is one note: hardly any does."""
    if not case.code_of_files:
        return
    seen = case.seen_again
    code = [] if seen is None else [each for each in seen if each.protection & Protection.EXECUTE]
    code = [each for each in code if each.kind is Kind.FILE and each.path is not None]
    if seen is None or any(each.flags is None for each in code):
        yield Silence("whether code is sealed is told with the flags of memory, which are not told here")
        return
    if not any(each.flags is not None and each.flags.sealed for each in seen):
        release = release_of(seen.system)
        if seen.system.pointer_width < 64 or (release is not None and release < _SINCE):
            yield Silence("this kernel cannot seal memory (mseal: Linux 6.10 and newer, of 64 bits)")
        else:
            yield Hit((), "nothing is sealed: whoever calls mprotect can make any code writable", Severity.NOTE)
        return
    for region in code:
        if region.flags is not None and not region.flags.sealed:
            yield Hit((region,), "other memory of the process is sealed, and this code is not")


RULE = Rule(
    "unsealed-code",
    Severity.LOW,
    "Code of a file whose rights can still be changed (no mseal), in a process that has sealed other memory. One that "
    "has sealed nothing is a note.",
    "hardly any program seals its memory yet; one that loads libraries later, or was sealed by hand",
    "have the loader seal what it loads, or call mseal(2) once all is loaded",
    check,
    systems=frozenset({"linux"}),
    asks="the flags of memory (smaps)",
    is_thorough=True,
    is_usual=False,
)
