"""Findings: what is suspicious, where, and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from vmatlas.analysis import Finding, Suspicion
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, range_text, size_text
from vmatlas.cli.render.together import Whose, lacks, together, together_json
from vmatlas.model import ProcessInfo
from vmatlas.model.export import region_to_dict

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

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


NO_ANSWER, NOT_READ = "no-answer", "not-read"
"""What stands in the place of a finding for a process that did not answer, and for those that could not be read."""

OfEach: TypeAlias = "Sequence[tuple[ProcessInfo, list[Finding]]]"
"""What was found in each process that was read."""


def word_of(suspicion: Suspicion) -> str:
    """A suspicion in one word: "deleted-file", as the documents list them."""
    return suspicion.value.replace(" ", "-")


def finding_table(found: Sequence[tuple[int, Finding]], *, exact: bool, feet: Sequence[Row] = ()) -> Table:
    """A line for each finding, then the feet."""
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
    totals = Counter(finding.suspicion for _, finding in found)
    processes = len({pid for pid, _ in found})
    told = ", ".join(f"{number} {suspicion.value}" for suspicion, number in totals.most_common())
    notes = (f"{told}; in {count(processes, 'process', 'processes')}",) if found else ()
    return Table(_COLUMNS, [*rows, *feet], notes=notes, empty="nothing suspicious", feet=len(feet))


def everybodys_table(found: OfEach, unread: Unread, *, exact: bool) -> Table:
    """A line for each finding, for each process that did not answer, and for each reason why others were not read."""
    untold = (NOTHING, NOTHING, NOTHING)
    feet = []
    for process, error in unread.unanswered:
        why = f"in {error.seconds:.3g} s; waits for {error.waits_for or 'what is not told'}"
        cells = (str(process.pid), NO_ANSWER, *untold, escape(why), escape(process.name) or NOTHING)
        feet.append(Row(cells, "", {0: "heading", 1: "warning"}))
    for number, why in lacks(unread):
        feet.append(Row((number, NOT_READ, *untold, NOTHING, escape(why)), "", {1: "warning"}))
    lines = [(process.pid, finding) for process, findings in found for finding in findings]
    return finding_table(lines, exact=exact, feet=feet)


def processes_table(found: OfEach, unread: Unread, *, exact: bool) -> Table:
    """The same of processes that were chosen: with their names, and a line for each that was not read."""
    tables = [
        (Whose(process.pid, process.name), finding_table([(process.pid, each) for each in findings], exact=exact))
        for process, findings in found
    ]
    return together(tables, unread)


def findings_json(found: Sequence[tuple[ProcessInfo | int, Finding]]) -> list[dict[str, Any]]:
    """A dictionary for each finding."""
    return [
        {
            "pid": process if isinstance(process, int) else process.pid,
            "process": None if isinstance(process, int) else process.name,
            "finding": word_of(finding.suspicion),
            "explanation": finding.explanation,
            "region": region_to_dict(finding.region),
        }
        for process, finding in found
    ]


def processes_json(found: OfEach, unread: Unread) -> dict[str, Any]:
    """Each process that was read with its findings, who did not answer in time (`error`), and who could not be read."""
    told: list[dict[str, Any]] = [
        {
            "pid": process.pid,
            "process": process.name,
            "error": None,
            "findings": findings_json([(process, each) for each in findings]),
        }
        for process, findings in found
    ]
    told += [
        {"pid": process.pid, "process": process.name, "error": str(error), "findings": None}
        for process, error in unread.unanswered
    ]
    return together_json(told, unread)
