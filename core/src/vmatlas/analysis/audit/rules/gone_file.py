"""Files that are no longer what lies on the disk: deleted, made without a name, replaced. Three rules, one look."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import MOST_FILES, Case, Hit, Rule, Silence
from vmatlas.legible import count
from vmatlas.model import FileNow, Protection, Region

_IN_PLACE_OF_A_FILE = {"file": "another file", "symbolic link": "a symbolic link"}
"""What may have taken its place, after an upgrade say; a folder has not."""


_AS_NAMED = "its name ends in ' (deleted)', which a kernel adds to that of an unlinked file, or which is its own"
"""Where no file system is at hand: a core file, a saved map."""


_UNMOUNTED = "its file system was unmounted under it: what stands at that path now is another file, or none"


def _judged(case: Case, region: Region) -> tuple[str, str]:
    """Which rule it is, and the explanation."""
    if region.path is not None and region.path.endswith(f"/#{region.inode}"):  # d_tmpfile() in fs/dcache.c
        return NAMELESS.id, "the file was made without a name (O_TMPFILE); whether it was given one since is not told"
    now = FileNow(None)
    if len(case.judged_files) >= MOST_FILES:
        now = FileNow(None, unasked=f"of one process {MOST_FILES:,} files are asked about")
    elif case.evidence.file_now is not None:
        now = case.evidence.file_now(region)
    if region.deleted is None:
        elsewhere = "its name leads elsewhere now, or nowhere" if case.evidence.file_now else _AS_NAMED
        why = f"its name was not asked: {now.unasked}" if now.unasked else elsewhere
        return DELETED.id, f"nobody can tell whether the file has been unlinked; {why}"
    if now.inode is None or now.inode == region.inode:
        unasked = f"; what stands there now was not asked: {now.unasked}" if now.unasked else ""
        return DELETED.id, f"the file has been unlinked{unasked}"
    if now.what not in _IN_PLACE_OF_A_FILE:
        return DELETED.id, f"the file has been unlinked; a {now.what} stands there now"
    what = _IN_PLACE_OF_A_FILE[now.what]
    return REPLACED.id, f"{what} stands there now (inode {now.inode}, mapped is {region.inode})"


def _found(case: Case, rule: str) -> Iterator[Hit | Silence]:
    files: dict[object, list[Region]] = {}
    for region in case.gone:
        files.setdefault((region.path, region.device, region.inode, region.deleted), []).append(region)
    for regions in files.values():
        which, explanation = _asked(case, regions[0])
        if which == rule:
            is_code = any(region.protection & Protection.EXECUTE for region in regions)
            yield Hit(tuple(regions), explanation, None if is_code else Severity.NOTE)


def _asked(case: Case, region: Region) -> tuple[str, str]:
    """Asked once for each file, by whichever rule comes first."""
    key = region.path, region.device, region.inode, region.deleted
    known = case.judged_files
    if key not in known:
        known[key] = _judged(case, region)
    return known[key]


def _deleted(case: Case) -> Iterator[Hit | Silence]:
    yield from _found(case, DELETED.id)
    if case.nameless_files[0]:
        number = count(case.nameless_files[0], "region")
        yield Silence(f"{number} of files have no name here: they were unlinked or replaced, or none was found")
    files = [each for each, *_ in case.files_to_ask if each.deleted is False]
    if not files or case.evidence.unmounted is None:
        return
    yield from case.files_unasked()
    answers = case.evidence.unmounted(files)
    for region, is_unmounted in zip(files, answers, strict=True):
        if is_unmounted:
            yield Hit(tuple(case.named_as(region)), _UNMOUNTED)
    if untold := sum(each is None for each in answers):
        yield Silence(f"of {count(untold, 'file')} of code nobody can tell whether it can still be looked at")


def _nameless(case: Case) -> Iterator[Hit | Silence]:
    yield from _found(case, NAMELESS.id)


def _replaced(case: Case) -> Iterator[Hit | Silence]:
    yield from _found(case, REPLACED.id)
    if case.evidence.file_now is None and case.gone:
        yield Silence("nobody can be asked what stands at the paths of deleted files now")


DELETED = Rule(
    "deleted-file",
    Severity.MEDIUM,
    "The process uses a file that has been unlinked, or code of a file system that was unmounted: it runs what nobody "
    "can look at on the disk any more. A data file is only noted.",
    "an upgrade that removed the file, or its image, while the process that had it goes on; data files that are "
    "unlinked on purpose",
    "restart the process; `/proc/PID/map_files` still leads to the content",
    _deleted,
    systems=frozenset({"freebsd", "linux", "netbsd"}),
    asks="the map; what stands at the path now",
)
NAMELESS = replace(
    DELETED,
    id="nameless-file",
    systems=frozenset({"linux"}),
    meaning="The process uses a file that was made without a name in any folder (Linux: O_TMPFILE). Unless it was "
    "given one since (linkat), which no map tells, nobody can have looked at it on the disk.",
    legitimate="data of programs that keep temporary files so (a note); code hardly ever",
    remedy="find out who made it; `/proc/PID/map_files` leads to the content",
    check=_nameless,
)
REPLACED = replace(
    DELETED,
    id="replaced-file",
    systems=frozenset({"linux"}),
    meaning="Another file, newer or older, or a symbolic link stands at the path of the mapped one: the process runs "
    "the old one.",
    legitimate="an upgrade of a library or program whose services were not restarted",
    remedy="restart the process: `vmatlas audit --all --by file` lists, for each file, who has to be",
    check=_replaced,
)
