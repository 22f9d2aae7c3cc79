"""A program that is loaded at a fixed address."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence


def check(case: Case) -> Iterator[Hit | Silence]:
    """By the ELF header of each file of code: only a program can be of the type that is not moved (ET_EXEC)."""
    asked = case.evidence.elf
    if asked is None:
        if case.code_of_files:
            yield Silence("the mapped files cannot be read here")
        return
    untold = 0
    yield from case.files_unasked()
    for regions in case.files_to_ask:
        elf = asked(regions[0])
        if elf is None:
            untold += 1
        elif elf.is_fixed:
            yield Hit(tuple(regions), "the program is not position-independent: it lies at the same place each time")
    if untold:
        yield Silence(f"{untold} of {len(case.code_of_files)} files of code cannot be read, or are no ELF files")


RULE = Rule(
    "fixed-program",
    Severity.LOW,
    "The program is not position-independent (no PIE): its code lies where an attacker knows it.",
    "programs that were built so for speed, or long ago; some languages' compilers by default",
    "build it with -fPIE -pie",
    check,
    systems=frozenset({"linux"}),
    asks="the headers of the files of code",
    is_thorough=True,
    is_usual=False,
)
