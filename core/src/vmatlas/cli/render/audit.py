"""Findings: what is suspicious, where, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, TypeAlias

from vmatlas.analysis import Finding, Suspicion
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, range_text, size_text
from vmatlas.errors import Unanswered
from vmatlas.model import ProcessInfo
from vmatlas.model.export import region_to_dict

_ALARMING = frozenset([Suspicion.WRITABLE_EXECUTABLE, Suspicion.EXECUTABLE_STACK, Suspicion.EXECUTABLE_HEAP])

_COLUMNS = (
    Column("PID", right=True),
    Column("FINDING"),
    Column("RANGE", leaves=1, asked=True),
    Column("PERM"),
    Column("SIZE", right=True, leaves=2),
    Column("WHY", leaves=3, below=True),
    Column("NAME", crops=True),
)


Silent: TypeAlias = Sequence[tuple[ProcessInfo, Unanswered]]
"""Who did not answer in time, and why."""

NO_ANSWER = "no-answer"
"""What stands in the place of a finding for a process that did not answer."""


def word_of(suspicion: Suspicion) -> str:
    """A suspicion in one word: "deleted-file", as the documents list them."""
    return suspicion.value.replace(" ", "-")


def finding_table(found: Sequence[tuple[int, Finding]], silent: Silent, *, exact: bool) -> Table:
    """A line for each finding, then for each process that did not answer."""
    rows = []
    for pid, finding in found:
        region = finding.region
        cells = (
            str(pid),
            word_of(finding.suspicion),
            range_text(region.start, region.end),
            region.permissions,
            size_text(region.size, exact=exact),
            escape(finding.explanation),
            escape(region.path or region.name or NOTHING),
        )
        rows.append(Row(cells, "", {0: "heading", 1: "alarm" if finding.suspicion in _ALARMING else "warning"}))
    for process, error in silent:
        why = f"in {error.seconds:.3g} s; waits for {error.waits_for or 'what is not told'}"
        cells = (str(process.pid), NO_ANSWER, NOTHING, NOTHING, NOTHING, escape(why), escape(process.name) or NOTHING)
        rows.append(Row(cells, "", {0: "heading", 1: "warning"}))
    totals = Counter(finding.suspicion for _, finding in found)
    processes = len({pid for pid, _ in found})
    told = ", ".join(f"{number} {suspicion.value}" for suspicion, number in totals.most_common())
    notes = (f"{told}; in {count(processes, 'process', 'processes')}",) if found else ()
    return Table(_COLUMNS, rows, notes=notes, empty="nothing suspicious")


def findings_json(found: Sequence[tuple[ProcessInfo | int, Finding]], silent: Silent) -> list[dict[str, Any]]:
    """A dictionary for each finding, then for each process that did not answer: that has no region."""
    told = [
        {
            "pid": process if isinstance(process, int) else process.pid,
            "process": None if isinstance(process, int) else process.name,
            "finding": word_of(finding.suspicion),
            "explanation": finding.explanation,
            "region": region_to_dict(finding.region),
        }
        for process, finding in found
    ]
    told += [
        {
            "pid": process.pid,
            "process": process.name,
            "finding": NO_ANSWER,
            "explanation": str(error),
            "region": None,
        }
        for process, error in silent
    ]
    return told
