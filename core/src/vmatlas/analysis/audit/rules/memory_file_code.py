"""Code that is run from a memfd or from shared memory."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import MOST_FILES, Case, Hit, Rule, Silence, name_of
from vmatlas.legible import count
from vmatlas.model import Kind, Protection
from vmatlas.model.columns import UNKNOWN_BYTE

FOLDERS = ("/dev/shm/", "/dev/shmem/")
"""Where POSIX shared memory has its names: of Linux; of QNX."""
_MAY_BE_SEALED = "/memfd:"


def check(case: Case) -> Iterator[Hit | Silence]:
    """Objects that live in memory alone, with a name in a folder for such or without; also where writing is allowed."""
    of_objects = (
        region
        for region in case.code(Kind.SHARED_MEMORY)
        if not (region.path or "").startswith(FOLDERS)
        and not (region.shared and region.protection & Protection.WRITE)  # said as writable and executable
    )
    columns = case.space.columns
    rows = [row for row in case.code_rows if columns.kind[row] == Kind.ANONYMOUS]
    if may_be := sum(columns.shared[row] == UNKNOWN_BYTE for row in rows):
        yield Silence(f"whether {count(may_be, 'region')} of nameless code are shared memory is not told here")
    untold, asked = False, 0
    for region in itertools.chain(of_objects, case.code_below(FOLDERS)):
        may_be_sealed = (region.path or "").startswith(_MAY_BE_SEALED)
        seals = None
        if may_be_sealed and case.evidence.seals is not None and asked < MOST_FILES:
            seals, asked = case.evidence.seals(region), asked + 1
        untold |= may_be_sealed and seals is None
        sealed = "" if seals is None else f"; {_words(seals)}"
        yield Hit((region,), f"code is run from {name_of(region)}, which lies in memory alone{sealed}")
    if untold:
        yield Silence(f"whether {'all' if asked else 'the'} memfds are sealed against writing is not told here")


def _words(seals: frozenset[str]) -> str:
    """What they keep others from, in words: fcntl(2), F_ADD_SEALS."""
    if "write" in seals:
        return "it is sealed: nobody can write it any more"
    if "future-write" in seals:
        return "it is sealed but for who had mapped it to write it before"
    return "it is not sealed: who has it open may write it"


RULE = Rule(
    "code-in-memory-file",
    Severity.HIGH,
    "Code of an object that no disk holds (memfd, POSIX or System V shared memory): the usual way to run a program "
    "that leaves no file.",
    "compilers that map their code twice (.NET's doublemapper, QEMU's tcg-jit, libffi), runc's copy of itself",
    "the object's content is in /proc/PID/map_files or /proc/PID/exe while the process lives: keep it before it ends",
    check,
    by_rights=True,
    asks="the map; the seals of the object",
    of_code=True,
)
