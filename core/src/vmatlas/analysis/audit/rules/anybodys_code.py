"""Code of a file that others may write, or may put another in the place of."""

from __future__ import annotations

import stat
from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence


def check(case: Case) -> Iterator[Hit | Silence]:
    """By the rights of the file, which are asked of the mapped file itself, and of the folders that lead to it."""
    asked = case.evidence.file_rights
    if asked is None:
        if case.code_of_files:
            yield Silence("the rights of files cannot be asked here")
        return
    untold = 0
    yield from case.files_unasked()
    for regions in case.files_to_ask:
        rights = asked(regions[0])
        if rights is None:
            untold += 1
            continue
        if rights.mode & stat.S_IWOTH:
            mode = stat.filemode(rights.mode)
            yield Hit(tuple(regions), f"everybody may write the file ({mode}, user {rights.user})")
        folder = rights.folder_mode
        if folder is not None and _is_everybodys(folder):
            yield Hit(tuple(regions), f"everybody may put another in its place: its folder is {stat.filemode(folder)}")
            continue
        for path, above in rights.above:
            if _is_everybodys(above):
                yield Hit(tuple(regions), f"everybody may put another in its place: {path} is {stat.filemode(above)}")
                break
    if untold:
        yield Silence(f"the rights of {untold} of {len(case.code_of_files)} files of code are not told")


def _is_everybodys(folder: int) -> bool:
    """Whether every user may rename and remove what is in a folder; where it is sticky its owner alone may."""
    return bool(folder & stat.S_IWOTH and not folder & stat.S_ISVTX)


RULE = Rule(
    "code-anybody-may-write",
    Severity.HIGH,
    "Code is run from a file that every user may write, or where every user may replace it, or a folder on the way.",
    "none on a machine with several users; images of containers that were made with umask 0",
    "take the right away: chmod o-w",
    check,
    systems=frozenset({"linux"}),
    asks="the rights of the files of code and of the folders on the way",
    is_thorough=True,
)
