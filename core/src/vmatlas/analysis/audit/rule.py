"""What a rule is, and the map as the rules look at it.

To add one: a file in `rules/` with a `Rule`, its place in `rules.RULES`, a row in docs/audit.md, a program with the
trait and one without in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

from vmatlas.analysis.audit.evidence import Evidence
from vmatlas.analysis.audit.finding import Severity
from vmatlas.model import AddressSpace, Kind, Protection, Region

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
    def code(self) -> Sequence[Region]:
        """What may be executed."""
        columns = self.space.columns
        rows = [row for row, bits in enumerate(columns.protection) if bits & _EXECUTE and not bits & _UNTOLD]
        return [region for region in map(columns.region, rows) if region.kind is not Kind.GUARD]

    @cached_property
    def code_of_files(self) -> Sequence[Sequence[Region]]:
        """The same of files that have a name, by file."""
        found: dict[object, list[Region]] = {}
        for region in self.code:
            if region.kind is Kind.FILE and region.path is not None:
                found.setdefault((region.path, region.device, region.inode), []).append(region)
        return list(found.values())

    @cached_property
    def _below_stacks(self) -> frozenset[int]:
        """Where nameless regions begin that touch a stack from below, or another such: they may be its lower parts."""
        columns = self.space.columns
        nameless = {number for number, each in enumerate(columns.labels) if each.path is None and each.name is None}
        found = set()
        touches = None
        for row in range(len(columns) - 1, -1, -1):
            if columns.kind[row] == Kind.STACK:
                touches = columns.start[row]
            elif touches == columns.end[row] and columns.kind[row] == Kind.ANONYMOUS and columns.label[row] in nameless:
                touches = columns.start[row]
                found.add(touches)
            else:
                touches = None
        return frozenset(found)

    def is_stack(self, region: Region) -> bool:
        """Whether it is a stack, or a part of one: a stack of which a part was locked, or given other rights, is
        several regions, and only the system's flags tell that the lower ones are of it."""
        if region.kind is Kind.STACK:
            return True
        if region.kind is not Kind.ANONYMOUS or region.name is not None or region.shared is not False:
            return False
        if region.start not in self._below_stacks:
            return False
        found = None if self.seen_again is None else self.seen_again.find(region.start)
        return found is not None and found.kind is Kind.STACK

    @cached_property
    def without_rights(self) -> int:
        """Regions whose rights are not told: a core that names memory and did not keep it."""
        return sum(1 for bits in self.space.columns.protection if bits & _UNTOLD)


def name_of(region: Region) -> str:
    """What a region is called, for people."""
    return region.label or "nameless memory"
