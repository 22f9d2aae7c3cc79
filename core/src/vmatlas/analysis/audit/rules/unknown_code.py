"""Code of files that no package brought."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.legible import count


def check(case: Case) -> Iterator[Hit | Silence]:
    """By the package manager's own list of files, of the machine that the path is of."""
    if not case.code_of_files:
        return
    list_of = case.evidence.known_files
    knows = None if list_of is None else list_of()
    if knows is None:
        yield Silence("there is no package manager's list of files to ask (dpkg, rpm)")
        return
    untold = 0
    yield from case.files_unasked()
    for regions in case.files_to_ask:
        known = knows(regions[0])
        if known is None:
            untold += 1
        elif not known:
            yield Hit(tuple(regions), "no installed package has this file")
    if untold:
        yield Silence(f"of {count(untold, 'file')} of code the list of packages cannot tell, or cannot be believed")


RULE = Rule(
    "unknown-code",
    Severity.LOW,
    "Code of a file that no installed package brought: nobody updates it, nobody vouches for it.",
    "what was built or installed by hand, by pip, npm, cargo and the like",
    "find out where it came from; allow the folders that are yours by a policy",
    check,
    systems=frozenset({"linux"}),
    asks="the package manager's list of files",
    is_thorough=True,
    is_usual=False,
)
