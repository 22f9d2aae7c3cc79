"""Code in a folder for temporary files."""

from __future__ import annotations

from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.legible import count
from vmatlas.model import Kind

FOLDERS = ("/tmp/", "/var/tmp/", "/usr/tmp/", "/run/user/", "/data/local/tmp/", "/private/tmp/")
"""Where every user may leave files; of Android and others too."""


def check(case: Case) -> Iterator[Hit | Silence]:
    """By the path that the map tells, from the root of who read it."""
    for region in case.code_below(FOLDERS):
        if region.kind is Kind.FILE:
            folder = next(each for each in FOLDERS if (region.path or "").startswith(each))
            yield Hit((region,), f"code is run from {folder.rstrip('/')}, where every user may leave files")
    if case.nameless_files[1]:
        yield Silence(f"{count(case.nameless_files[1], 'region')} of code of files have no name here")


RULE = Rule(
    "code-in-temporary-folder",
    Severity.MEDIUM,
    "Code is run from a folder for temporary files, which is where droppers put theirs.",
    "tests and builds; programs that unpack libraries of their own (JNI, PyInstaller, AppImage)",
    "find out who put the file there; mount such folders with noexec",
    check,
    by_rights=True,
)
