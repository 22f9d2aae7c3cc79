"""What an audit gives: findings, what was allowed, and what no rule could tell. Values; no I/O."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

from vmatlas import arguments
from vmatlas.errors import UsageError
from vmatlas.model import Region
from vmatlas.notebook import repr_html

if TYPE_CHECKING:
    from vmatlas.analysis.audit.policy import Allowance
    from vmatlas.analysis.audit.rule import Rule


class Severity(enum.IntEnum):
    """How much a finding weighs. They are in order: `Severity.HIGH > Severity.LOW`."""

    NOTE = 1
    """Has a known cause that is no harm: a just-in-time compiler that was recognised, a data file that was unlinked."""
    LOW = 2
    """Weakens a defence, or wants tidying up."""
    MEDIUM = 3
    """Code that nobody vouches for, or that is not what lies on the disk."""
    HIGH = 4
    """What injected code looks like, or what lets it be injected."""

    @property
    def word(self) -> str:
        """In small letters: "high"."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Severity:
        """From its word. Raises UsageError."""
        try:
            return cls[word.upper()] if word == word.lower() else cls[word]
        except (KeyError, AttributeError):
            words = ", ".join(each.word for each in cls)
            raise UsageError(f"{arguments.shown(word)} is no severity", hint=f"one of: {words}") from None


@dataclass(frozen=True, slots=True, repr=False)
class Finding:
    """One suspicion about one thing: a file, with all of its segments that show it, or memory of one name."""

    rule: Rule
    severity: Severity
    regions: tuple[Region, ...]
    """Where it shows, by address; none for what is said of the map as a whole."""
    explanation: str
    runtime: str = ""
    """Where the cause is a just-in-time compiler that was recognised: which one, and by what."""

    _repr_html_ = repr_html

    @property
    def id(self) -> str:
        """The rule's: "writable-and-executable"."""
        return self.rule.id

    @property
    def region(self) -> Region | None:
        """The first."""
        return self.regions[0] if self.regions else None

    @property
    def thing(self) -> str | None:
        """The file, or what the memory is called; None for memory without a name, and for the map as a whole."""
        return (self.regions[0].path or self.regions[0].name) if self.regions else None

    @property
    def size(self) -> int:
        """Bytes of all its regions."""
        return sum(region.size for region in self.regions)

    def __repr__(self) -> str:
        where = f"; {self.regions[0]!r}" if self.regions else ""
        more = f" and {len(self.regions) - 1} more" if len(self.regions) > 1 else ""
        return f"<Finding {self.severity.word} {self.id}: {self.explanation}{where}{more}>"


def order(finding: Finding) -> tuple[int, int]:
    """The weightiest first, then by address."""
    return -finding.severity, finding.regions[0].start if finding.regions else -1


@dataclass(frozen=True, slots=True)
class Untold:
    """A rule that could not speak, or not of everything. It is no pass."""

    rule: Rule
    why: str


@dataclass(frozen=True, slots=True)
class Allowed:
    """A finding that a policy allows."""

    finding: Finding
    allowance: Allowance


@dataclass(frozen=True, slots=True)
class Doubted:
    """A finding that an allowance speaks of by a name that the process may have chosen: it is not allowed."""

    finding: Finding
    allowance: Allowance
    why: str


@dataclass(frozen=True, slots=True, repr=False)
class AuditReport(Sequence[Finding]):
    """The findings, the weightiest first, then by address; a sequence."""

    findings: tuple[Finding, ...]
    allowed: tuple[Allowed, ...] = ()
    """What the policy allows, with the reason that it gives."""
    untold: tuple[Untold, ...] = ()
    """What the rules that were asked could not tell here."""
    doubted: tuple[Doubted, ...] = ()
    """Of the findings those that an allowance fits by name alone."""

    @overload
    def __getitem__(self, index: int) -> Finding: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Finding, ...]: ...
    def __getitem__(self, index: int | slice) -> Finding | tuple[Finding, ...]:
        return self.findings[index]

    def __len__(self) -> int:
        return len(self.findings)

    _repr_html_ = repr_html

    def and_also(self, other: AuditReport) -> AuditReport:
        """With what another one of the same process found, in order."""
        both = sorted((*self.findings, *other.findings), key=order)
        allowed, untold = self.allowed + other.allowed, self.untold + other.untold
        return AuditReport(tuple(both), allowed, untold, self.doubted + other.doubted)

    @property
    def worst(self) -> Severity | None:
        """The greatest severity found; None where nothing was."""
        return max((finding.severity for finding in self.findings), default=None)

    def __repr__(self) -> str:
        return f"<AuditReport {len(self.findings)} findings, {len(self.allowed)} allowed, {len(self.untold)} untold>"
