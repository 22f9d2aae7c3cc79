"""Memory that the loader makes read-only, and that is writable again."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.model import Kind, Protection


def check(case: Case) -> Iterator[Hit | Silence]:
    """By PT_GNU_RELRO of each file of code, which the loader protects from the page of its begin to that of its end."""
    asked = case.evidence.elf
    if asked is None:
        if case.code_of_files:
            yield Silence("the mapped files cannot be read here")
        return
    page = case.space.system.page_size
    untold = 0
    yield from case.files_unasked()
    for regions in case.files_to_ask:
        elf = asked(regions[0])
        if elf is None:
            untold += 1
            continue
        if elf.relro is None or (bias := elf.bias_of(regions[0], page)) is None:
            continue
        start = (bias + elf.relro[0]) // page * page
        end = (bias + elf.relro[1]) // page * page  # what of the last page is not of it stays writable
        parts = case.named_as(regions[0])
        behind = case.space.find(parts[-1].end)
        if behind is not None and behind.kind is Kind.ANONYMOUS and behind.start == parts[-1].end:
            parts.append(behind)  # lld has zeros to protect as well (.bss.rel.ro), which lie behind the file's pages
        inside = [each for each in parts if each.start < end and start < each.end]
        writable = tuple(each for each in inside if each.protection & Protection.WRITE)
        if writable:
            yield Hit(writable, f"{start:#x}-{end:#x} is to be read-only once the loader is done (RELRO)")
    if untold:
        yield Silence(f"{untold} of {len(case.code_of_files)} files of code cannot be read, or are no ELF files")


RULE = Rule(
    "relro-undone",
    Severity.MEDIUM,
    "Tables of addresses of functions that the loader made read-only can be written: overwriting one diverts calls.",
    "a process that is just starting, whose loader is not done; programs that hook functions (some profilers)",
    "look again; who calls mprotect on it is told by `strace -e mprotect`",
    check,
    systems=frozenset({"linux"}),
    asks="the program headers of the files of code",
    is_thorough=True,
)
