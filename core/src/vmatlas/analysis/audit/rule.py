"""What a rule is, and the map as the rules look at it.

To add one: a file in `rules/` with a `Rule`, its place in `rules.RULES`, a row in docs/audit.md, a program with the
trait and one without in the tests.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from vmatlas.analysis.audit.evidence import Evidence
from vmatlas.analysis.audit.finding import Severity
from vmatlas.model import AddressSpace, Kind, Protection, Region, SystemInfo
from vmatlas.model.stacks import lower_parts
from vmatlas.once import cached_property

NO_STACK = "which memory is a stack is not told here"

MOST_FILES = 2048
"""So many files of a process are asked about beside its map: a browser has 200 files of code. Who maps more, or a board
that says so, decides how long an audit takes otherwise."""

_EXECUTE, _UNTOLD = int(Protection.EXECUTE), 8


@dataclass(frozen=True, slots=True)
class Hit:
    """What a rule found, of one thing."""

    regions: tuple[Region, ...]
    explanation: str
    severity: Severity | None = None
    """Where it is another than the rule's."""


@dataclass(frozen=True, slots=True)
class Silence:
    """Why a rule cannot speak, or not of everything."""

    why: str


Checks: TypeAlias = "Callable[[Case], Iterator[Hit | Silence]]"


@dataclass(frozen=True, slots=True, repr=False)
class Rule:
    """One thing that is looked for."""

    id: str
    """In small letters, with hyphens; for ever."""
    severity: Severity
    meaning: str
    """What it is, and why it matters."""
    legitimate: str
    """What honest cause it may have."""
    remedy: str
    """What to do."""
    check: Checks
    systems: frozenset[str] | None = None
    """Where it can speak; None: everywhere."""
    asks: str = "the map"
    """What it takes: "the map", or what beside it."""
    is_thorough: bool = False
    """It asks much of each process: `audit --all` leaves it out unless it is asked for."""
    is_usual: bool = True
    """The policy `default` has it on."""
    by_rights: bool = False
    """It goes by the rights of regions: of those whose rights are not told it says nothing."""
    of_code: bool = False
    """Just-in-time compilers give cause to it."""

    def __repr__(self) -> str:
        return f"<Rule {self.id}>"


class Case:
    """One process under audit."""

    def __init__(self, space: AddressSpace, evidence: Evidence) -> None:
        self.space, self.evidence = space, evidence
        self.judged_files: dict[object, tuple[str, str]] = {}
        """What was found of files that are gone, each asked once."""

    @cached_property
    def seen_again(self) -> AddressSpace | None:
        """The same map with the system's flags, read once, where a rule needs them; None where they are not told."""
        return None if self.evidence.look_again is None else self.evidence.look_again()

    @cached_property
    def code_rows(self) -> Sequence[int]:
        """The rows of what may be executed. Most processes have some dozen, all of files: a region is made of a row
        only where a rule has something to say of it."""
        columns = self.space.columns
        rows = [row for row, bits in enumerate(columns.protection) if bits & _EXECUTE and not bits & _UNTOLD]
        return [row for row in rows if columns.kind[row] != Kind.GUARD]

    def code(self, *kinds: Kind) -> Iterator[Region]:
        """What may be executed and is of one of these kinds; of any, where none is named."""
        columns = self.space.columns
        for row in self.code_rows:
            if not kinds or columns.kind[row] in kinds:
                yield columns.region(row)

    @cached_property
    def code_of_files(self) -> Sequence[Sequence[Region]]:
        """What may be executed of files that have a name, by file."""
        found: dict[object, list[Region]] = {}
        for region in self.code(Kind.FILE):
            if region.path is not None:
                found.setdefault((region.path, region.device, region.inode), []).append(region)
        return list(found.values())

    @property
    def files_to_ask(self) -> Sequence[Sequence[Region]]:
        """The first of `code_of_files`, as many as are asked about."""
        return self.code_of_files[:MOST_FILES]

    def files_unasked(self) -> Iterator[Silence]:
        """What a rule says that asks about `files_to_ask`, where there are more."""
        more = len(self.code_of_files) - MOST_FILES
        if more > 0:
            yield Silence(f"of one process {MOST_FILES:,} files are asked about, and {more:,} of code were not")

    def code_below(self, folders: tuple[str, ...]) -> Iterator[Region]:
        """What may be executed of files whose path begins so."""
        columns = self.space.columns
        fitting = {at for at, each in enumerate(columns.labels) if each.path and each.path.startswith(folders)}
        if fitting:
            for row in self.code_rows:
                if columns.label[row] in fitting:
                    yield columns.region(row)

    @cached_property
    def _rows_by_label(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row, label in enumerate(self.space.columns.label):
            found.setdefault(label, []).append(row)
        return found

    def named_as(self, region: Region) -> list[Region]:
        """All regions of the file that this one of `code_of_files` shows, by address."""
        columns = self.space.columns
        row = bisect_left(columns.start, region.start)
        found = map(columns.region, self._rows_by_label[columns.label[row]])
        return [each for each in found if (each.device, each.inode) == (region.device, region.inode)]

    @cached_property
    def gone(self) -> Sequence[Region]:
        """Regions of files that have been unlinked, or of which nobody can tell."""
        columns = self.space.columns
        labels = {number for number, each in enumerate(columns.labels) if each.deleted is not False and each.path}
        if not labels:
            return []
        rows = [row for row, label in enumerate(columns.label) if label in labels]
        return [columns.region(row) for row in rows if columns.kind[row] == Kind.FILE]

    @cached_property
    def _lower_parts(self) -> frozenset[int]:
        return lower_parts(self.space)

    def is_stack(self, region: Region) -> bool:
        """Whether it is a stack, or a part of one: a stack of which a part was locked, or given other rights, is
        several regions, and only the system's flags tell that the lower ones are of it."""
        if region.kind is Kind.STACK:
            return True
        if region.kind is not Kind.ANONYMOUS or region.start not in self._lower_parts:
            return False
        found = None if self.seen_again is None else self.seen_again.find(region.start)
        return found is not None and found.kind is Kind.STACK

    @cached_property
    def tells_stacks(self) -> bool:
        """Whether the map says what is a stack: each process has one, or no memory at all."""
        return not len(self.space) or Kind.STACK in self.space.columns.kind

    @cached_property
    def nameless_files(self) -> tuple[int, int]:
        """How many regions of files have no name, and how many of these are code: FreeBSD and NetBSD look a name up
        that leads to a file (vn_fullpath), and find none where it was unlinked, and sometimes else. Linux has one."""
        columns = self.space.columns
        if self.space.system.system == "linux":
            return 0, 0
        nameless = {number for number, each in enumerate(columns.labels) if each.path is None}
        rows = [row for row, kind in enumerate(columns.kind) if kind == Kind.FILE and columns.label[row] in nameless]
        return len(rows), len({*rows} & {*self.code_rows})

    @cached_property
    def without_rights(self) -> int:
        """Regions whose rights are not told: a core that names memory and did not keep it."""
        return sum(1 for bits in self.space.columns.protection if bits & _UNTOLD)


def release_of(system: SystemInfo) -> tuple[int, int] | None:
    """The first two numbers of a kernel's release; None where it has no such form."""
    found = re.match(r"(\d{1,4})\.(\d{1,4})", system.release)
    return (int(found[1]), int(found[2])) if found else None


def name_of(region: Region) -> str:
    """What a region is called, for people."""
    return region.label or "nameless memory"
