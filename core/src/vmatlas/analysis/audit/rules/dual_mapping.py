"""The same object mapped writable here and executable there."""

from __future__ import annotations

from bisect import bisect_left
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


def shown_by_both(one: Objects, code: Sequence[int], other: Objects, written: Sequence[int]) -> list[tuple[int, int]]:
    """Rows of code that show bytes of their object which a row of `written` shows as well, each with such a row.

    A page of a file that is written and another that is executed are no writable code. Of a region of which the offset
    is not told it may be all.
    """
    if not code:
        return []
    ranges = sorted((*_bytes_of(other, row), row) for row in written)
    starts = [start for start, _, _ in ranges]
    reach: list[tuple[int, int]] = []  # of those so far the one that ends last
    for _, end, row in ranges:
        reach.append((end, row) if not reach or end > reach[-1][0] else reach[-1])
    pairs = []
    for row in code:
        start, end = _bytes_of(one, row)
        before = bisect_left(starts, end)
        if before and reach[before - 1][0] > start:
            pairs.append((row, reach[before - 1][1]))
    return pairs


def _bytes_of(found: Objects, row: int) -> tuple[int, int]:
    columns = found.space.columns
    offset = columns.offset[row]
    return (0, _ALL) if offset == UNKNOWN else (offset, offset + columns.end[row] - columns.start[row])


_NONE = (0, UNKNOWN)
_ALL = 1 << 65
_WRITE, _EXECUTE, _UNTOLD = int(Protection.WRITE), int(Protection.EXECUTE), 8
_EITHER = _WRITE | _EXECUTE


def check(case: Case) -> Iterator[Hit | Silence]:
    """Two regions of one object; one region that is both is found by another rule."""
    found = objects(case.space)
    for identity, writable in found.written.items():
        code = sorted({*found.executed.get(identity, ())} - {*writable})
        if pairs := shown_by_both(found, code, found, writable):
            rows = *dict.fromkeys(run for run, _ in pairs), *sorted({row for _, row in pairs})
            regions = [found.region(row) for row in rows]
            low, run = found.region(pairs[0][1]), regions[0]
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
    "The same bytes of one object are mapped twice, writable at one place and executable at the other: writable code "
    "that no single region shows.",
    "compilers that map their code twice to keep the rights apart (.NET, QEMU, Erlang's BEAM, libffi)",
    "find out who maps it; with --all the two places are looked for in different processes, too",
    check,
    by_rights=True,
    of_code=True,
)
