"""One object that a process may write and another executes. Values; no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from vmatlas.analysis.audit.finding import Finding
from vmatlas.analysis.audit.policy import DEFAULT, Policy
from vmatlas.analysis.audit.rules import dual_mapping
from vmatlas.analysis.audit.rules.dual_mapping import Identity, Objects, objects, shown_by_both
from vmatlas.model import AddressSpace, ProcessInfo


class Across:
    """Maps of many processes, of which it keeps what may be written and what is executed.

    Device and inode tell the object: on one machine, whichever name each process gives it.
    """

    def __init__(self, policy: Policy = DEFAULT) -> None:
        self._severity = policy.severities.get(dual_mapping.RULE.id)
        self._written: dict[Identity, list[_Shown]] = {}
        self._executed: dict[Identity, list[_Shown]] = {}

    def of(self, space: AddressSpace) -> Objects | None:
        """What it keeps of a map, for `add`."""
        return None if self._severity is None else objects(space)

    def add(self, process: ProcessInfo, found: Objects | None) -> None:
        """One process more, with what `of` gave of its map."""
        if found is None:
            return
        for identity, rows in found.written.items():
            self._written.setdefault(identity, []).append((process, found, rows))
        for identity, rows in found.executed.items():
            self._executed.setdefault(identity, []).append((process, found, rows))

    def findings(self) -> list[tuple[ProcessInfo, Finding]]:
        """Each process that executes what another one may write, with the finding."""
        if self._severity is None:
            return []
        found = []
        for identity, executed in self._executed.items():
            writers = self._written.get(identity, ())
            for process, told, code in executed:
                for writer, theirs, rows in writers:
                    if process.pid == writer.pid or not (pairs := shown_by_both(told, code, theirs, rows)):
                        continue
                    (row, written), *_ = pairs
                    start = theirs.region(written).start
                    why = f"process {writer.pid} ({writer.name}) can write at {start:#x} what is executed here"
                    found.append((process, Finding(dual_mapping.RULE, self._severity, (told.region(row),), why)))
                    break
        return found


_Shown = tuple[ProcessInfo, Objects, Sequence[int]]
"""Who shows an object, and in which rows."""
