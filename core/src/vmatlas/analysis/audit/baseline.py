"""What an earlier audit found, so that only what is new is told. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmatlas.analysis.audit.finding import Finding, Severity
from vmatlas.errors import UsageError

Mark = tuple[str, str | None, str | None, int | None]
"""By what a finding is known again in another process of the same program: the rule, the process's name, the thing, and
the user, since anybody may call a process so. Numbers and addresses are others each time."""


class Baseline:
    """The findings of an earlier audit."""

    def __init__(self, marks: Mapping[Mark, Severity]) -> None:
        """What was found, each with how much it weighed at most."""
        self._marks = marks

    def __len__(self) -> int:
        return len(self._marks)

    def has(self, process: str | None, finding: Finding, user: int | None = None) -> bool:
        """Whether it was found before, in a process of this name, and weighed as much: what was a note as the data of
        somebody, or as the memory of a compiler that was recognised, is new as code that nobody vouches for.

        `user`: the number of whose rights the process has. A baseline that does not tell users knows it of everybody.
        """
        found = (self._marks.get((finding.id, process, finding.thing, of)) for of in (user, None))
        return any(known is not None and finding.severity <= known for known in found)

    @classmethod
    def of(cls, told: object, where: str) -> Baseline:
        """From what `vmatlas audit --json` wrote, of one process or of several. Raises UsageError."""
        found: dict[Mark, Severity] = {}
        for mark, severity in _marks(told, where):
            found[mark] = max(severity, found.get(mark, severity))
        return cls(found)


def _marks(told: object, where: str) -> Iterator[tuple[Mark, Severity]]:
    if not isinstance(told, Mapping):
        raise _no_baseline(where)
    each_of = told.get("processes", [told])
    if not isinstance(each_of, list):
        raise _no_baseline(where)
    for process in each_of:
        if not isinstance(process, Mapping) or "findings" not in process:
            raise _no_baseline(where)
        findings = process["findings"]
        if findings is None:  # it did not answer
            continue
        if not isinstance(findings, list):
            raise _no_baseline(where)
        user = process.get("user")
        if user is not None and (type(user) is not int or not 0 <= user < 1 << 32):
            raise _no_baseline(where)
        for finding in findings:
            yield _mark(finding, user, where)


def _mark(finding: Any, user: int | None, where: str) -> tuple[Mark, Severity]:
    if not isinstance(finding, Mapping) or not isinstance(finding.get("finding"), str):
        raise _no_baseline(where)
    try:
        severity = Severity.of(_text(finding.get("severity"), where) or "")
    except UsageError:
        raise _no_baseline(where) from None
    mark = finding["finding"], _text(finding.get("process"), where), _text(finding.get("thing"), where), user
    return mark, severity


def _text(told: object, where: str) -> str | None:
    if told is not None and not isinstance(told, str):
        raise _no_baseline(where)
    return told


def _no_baseline(where: str) -> UsageError:
    return UsageError(f"{where} is no audit", hint="'vmatlas audit --all --json > FILE' writes one")
