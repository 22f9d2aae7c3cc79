"""What an earlier audit found, so that only what is new is told. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from vmatlas.analysis.audit.finding import Finding
from vmatlas.errors import UsageError

Mark = tuple[str, str | None, str | None]
"""By what a finding is known again in another process of the same program: the rule, the process's name, the thing.
Numbers and addresses are others each time."""


class Baseline:
    """The findings of an earlier audit."""

    def __init__(self, marks: frozenset[Mark]) -> None:
        self._marks = marks

    def __len__(self) -> int:
        return len(self._marks)

    def has(self, process: str | None, finding: Finding) -> bool:
        """Whether it was found before, in a process of this name."""
        return (finding.id, process, finding.thing) in self._marks

    @classmethod
    def of(cls, told: object, where: str) -> Baseline:
        """From what `vmatlas audit --json` wrote, of one process or of several. Raises UsageError."""
        return cls(frozenset(_marks(told, where)))


def _marks(told: object, where: str) -> Iterator[Mark]:
    if not isinstance(told, Mapping):
        raise _no_baseline(where)
    each_of = told.get("processes", [told])
    if not isinstance(each_of, list):
        raise _no_baseline(where)
    for process in each_of:
        if not isinstance(process, Mapping) or "findings" not in process:
            raise _no_baseline(where)
        for finding in process["findings"] or ():
            yield _mark(finding, where)


def _mark(finding: Any, where: str) -> Mark:
    if not isinstance(finding, Mapping) or not isinstance(finding.get("finding"), str):
        raise _no_baseline(where)
    return finding["finding"], _text(finding.get("process"), where), _text(finding.get("thing"), where)


def _text(told: object, where: str) -> str | None:
    if told is not None and not isinstance(told, str):
        raise _no_baseline(where)
    return told


def _no_baseline(where: str) -> UsageError:
    return UsageError(f"{where} is no audit", hint="'vmatlas audit --all --json > FILE' writes one")
