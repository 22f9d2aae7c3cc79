"""One object that a process may write and another executes. Values; no I/O."""

from __future__ import annotations

from vmatlas.analysis.audit.finding import Finding
from vmatlas.analysis.audit.policy import DEFAULT, Policy
from vmatlas.analysis.audit.rules import dual_mapping
from vmatlas.analysis.audit.rules.dual_mapping import Identity, Objects, objects
from vmatlas.model import AddressSpace, ProcessInfo, Region


class Across:
    """Maps of many processes, of which it keeps what may be written and what is executed.

    Device and inode tell the object: on one machine, whichever name each process gives it.
    """

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._severity = policy.severities.get(dual_mapping.RULE.id)
        self._written: dict[Identity, tuple[ProcessInfo, Region]] = {}
        self._executed: dict[Identity, list[tuple[ProcessInfo, Objects, int]]] = {}

    def of(self, space: AddressSpace) -> Objects | None:
        """What it keeps of a map, for `add`."""
        return None if self._severity is None else objects(space)

    def add(self, process: ProcessInfo, found: Objects | None) -> None:
        """One process more, with what `of` gave of its map."""
        if found is None:
            return
        for identity, rows in found.written.items():
            self._written.setdefault(identity, (process, found.region(rows[0])))
        for identity, rows in found.executed.items():
            self._executed.setdefault(identity, []).append((process, found, rows[0]))

    def findings(self) -> list[tuple[ProcessInfo, Finding]]:
        """Each process that executes what another one may write, with the finding."""
        found = []
        for identity, (writer, region) in self._written.items():
            for process, told, row in self._executed.get(identity, ()):
                if process.pid == writer.pid or self._severity is None:
                    continue
                explanation = (
                    f"process {writer.pid} ({writer.name}) can write at {region.start:#x} what is executed here"
                )
                found.append((process, Finding(dual_mapping.RULE, self._severity, (told.region(row),), explanation)))
        return found
