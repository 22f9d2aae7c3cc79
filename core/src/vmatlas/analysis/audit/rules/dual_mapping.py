"""The same object mapped writable here and executable there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from vmatlas.analysis.audit.finding import Severity
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence, name_of
from vmatlas.legible import count
from vmatlas.model import UNKNOWN, AddressSpace, Kind, Protection, Region

Identity = tuple[int, int]
"""Device and inode, as columns hold them: no file has the same on one machine."""


class Objects(NamedTuple):
    """What of a map is mapped shared and may be written, and what may be executed: rows, by object."""

    space: AddressSpace
    written: Mapping[Identity, Sequence[int]]
    executed: Mapping[Identity, Sequence[int]]

    def region(self, row: int) -> Region:
        """The region of a row."""
        return self.space.columns.region(row)


def objects(space: AddressSpace) -> Objects:
    """Those of a map."""
    columns = space.columns
    written: dict[Identity, list[int]] = {}
    executed: dict[Identity, list[int]] = {}
    for row, bits in enumerate(columns.protection):
        if not bits & _EITHER or bits & _UNTOLD or columns.inode[row] in _NONE or columns.device[row] == UNKNOWN:
            continue
        if bits & _EXECUTE:
            executed.setdefault((columns.device[row], columns.inode[row]), []).append(row)
        if bits & _WRITE and columns.shared[row] == 1:
            written.setdefault((columns.device[row], columns.inode[row]), []).append(row)
    return Objects(space, written, executed)


_NONE = (0, UNKNOWN)
_WRITE, _EXECUTE, _UNTOLD = int(Protection.WRITE), int(Protection.EXECUTE), 8
_EITHER = _WRITE | _EXECUTE


def check(case: Case) -> Iterator[Hit | Silence]:
    """Two regions of one object; one region that is both is found by another rule."""
    found = objects(case.space)
    for identity, writable in found.written.items():
        code = sorted({*found.executed.get(identity, ())} - {*writable})
        if code:
            regions = [found.region(row) for row in (*code, *writable)]
            low, run = found.region(writable[0]), regions[0]
            yield Hit(
                tuple(regions), f"{name_of(low)} can be written at {low.start:#x} and is executed at {run.start:#x}"
            )
    if untold := _untold(case):
        yield Silence(f"which object {count(untold, 'region')} of code show is not told by number here")


def _untold(case: Case) -> int:
    """How many regions of code may show what is mapped writable elsewhere: files another file, memory other memory."""
    columns = case.space.columns

    def untold(row: int) -> bool:
        kind = columns.kind[row]
        may_be = kind in _OBJECTS or (kind == Kind.ANONYMOUS and columns.shared[row] != 0)
        return may_be and (columns.inode[row] == UNKNOWN or columns.device[row] == UNKNOWN)

    code = [row for row in case.code_rows if untold(row)]
    if not code:
        return 0
    written = {
        columns.kind[row] == Kind.FILE
        for row, bits in enumerate(columns.protection)
        if bits & _WRITE and columns.shared[row] and untold(row)
    }
    return sum((columns.kind[row] == Kind.FILE) in written for row in code)


_OBJECTS = (Kind.FILE, Kind.SHARED_MEMORY)


RULE = Rule(
    "dual-mapping",
    Severity.HIGH,
    "One object is mapped twice, writable at one place and executable at the other: writable code that no single "
    "region shows.",
    "compilers that map their code twice to keep the rights apart (.NET, QEMU, Erlang's BEAM, libffi)",
    "find out who maps it; with --all the two places are looked for in different processes, too",
    check,
    by_rights=True,
    of_code=True,
)
