"""Code of a file that others may write, or may put another in the place of."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence


def check(case: Case) -> Iterator[Hit | Silence]:
    """By the rights of the file and of its folder, which are asked of the mapped file itself."""
    asked = case.evidence.file_rights
    if asked is None:
        if case.code_of_files:
            yield Silence("the rights of files cannot be asked here")
        return
    untold = 0
    for regions in case.code_of_files:
        rights = asked(regions[0])
        if rights is None:
            untold += 1
            continue
        if rights.mode & stat.S_IWOTH:
            mode = stat.filemode(rights.mode)
            yield Hit(tuple(regions), f"everybody may write the file ({mode}, user {rights.user})")
        folder = rights.folder_mode
        if folder is not None and folder & stat.S_IWOTH and not folder & stat.S_ISVTX:
            yield Hit(tuple(regions), f"everybody may put another in its place: its folder is {stat.filemode(folder)}")
    if untold:
        yield Silence(f"the rights of {untold} of {len(case.code_of_files)} files of code are not told")


RULE = Rule(
    "code-anybody-may-write",
    Severity.HIGH,
    "Code is run from a file that every user may write, or from a folder where every user may replace it.",
    "none on a machine with several users; images of containers that were made with umask 0",
    "take the right away: chmod o-w",
    check,
    systems=frozenset({"linux"}),
    asks="the rights of the files of code and of their folders",
    is_thorough=True,
)
