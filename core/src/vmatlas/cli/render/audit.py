"""Findings: what is suspicious, where, how much it weighs, and why. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vmatlas.analysis.audit import AuditReport, Finding, Rule, Severity
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, name_text, range_text, size_text
from vmatlas.cli.render.together import Whose, lacks, together_csv, unread_json
from vmatlas.model.export import region_to_dict

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

_STYLES = {Severity.HIGH: "alarm", Severity.MEDIUM: "warning"}

_WHOSE = (Column("PID", right=True), Column("PROCESS", leaves=4))
_COLUMNS = (
    Column("SEVERITY"),
    Column("FINDING"),
    Column("RANGE", leaves=1, asked=True),
    Column("PERM"),
    Column("SIZE", right=True, leaves=2),
    Column("WHY", leaves=3, below=True),
    Column("NAME", crops=True),
)
_BY_FILE = (
    Column("SEVERITY"),
    Column("FINDING"),
    Column("PROCESSES", right=True),
    Column("NAME", crops=True),
    Column("WHO", leaves=1, below=True),
    Column("WHY", leaves=2, below=True),
)

NO_ANSWER, NOT_READ = "no-answer", "not-read"
"""What stands in the place of a finding for a process that did not answer, and for those that could not be read."""

_NAMED = 12
"""So many of the processes that have a file are named."""


class Audited(NamedTuple):
    """What was found in a process."""

    whose: Whose
    report: AuditReport
    user: int | None = None
    """The number of the user whose rights it has; None where that is not told."""
    known: int = 0
    """Findings that stand in the baseline."""
    start_time: int | None = None
    """When it started: with the number, who it is."""


def findings_table(
    found: Sequence[Audited], *, exact: bool, named: bool, unread: Unread | None = None, quick: Sequence[Rule] = ()
) -> Table:
    """A line for each finding; a line for each process that did not answer, and for each reason why others were not
    read. `named`: with the names of the processes. `quick`: rules that were left out of so many processes."""
    rows = [_row(each.whose, finding, exact=exact, named=named) for each in found for finding in each.report.findings]
    feet = [] if unread is None else _feet(unread, named=named)
    columns = (*_WHOSE[: 2 if named else 1], *_COLUMNS)
    return Table(columns, [*rows, *feet], notes=_notes(found, quick), empty="nothing suspicious", feet=len(feet))


def _row(whose: Whose, finding: Finding, *, exact: bool, named: bool) -> Row:
    first, number = finding.region, len(finding.regions)
    more = f" +{number - 1}" if number > 1 else ""
    cells = (
        str(whose.pid),
        *((name_text(whose.name),) if named else ()),
        finding.severity.word,
        finding.id,
        NOTHING if first is None else f"{range_text(first.start, first.end)}{more}",
        NOTHING if first is None else first.permissions,
        NOTHING if first is None else size_text(finding.size, exact=exact),
        escape(_why(finding)),
        escape(finding.thing or NOTHING),
    )
    at = 2 if named else 1
    style = _STYLES.get(finding.severity)
    return Row(cells, "", {0: "heading"} | ({at: style, at + 1: style} if style else {}))


def _why(finding: Finding) -> str:
    return f"{finding.explanation}; {finding.runtime}" if finding.runtime else finding.explanation


def _feet(unread: Unread, *, named: bool) -> list[Row]:
    feet = []
    name = (NOTHING,) if named else ()
    untold = (NOTHING, NOTHING, NOTHING)
    for process, error in unread.unanswered:
        why = f"in {error.seconds:.3g} s; waits for {error.waits_for or 'what is not told'}"
        called = name_text(process.known_name)
        cells = (str(process.pid), *((called,) if named else ()), NOTHING, NO_ANSWER, *untold, escape(why))
        feet.append(Row((*cells, NOTHING if named else called), "", {0: "heading", 2 if not named else 3: "warning"}))
    for number, why in lacks(unread):
        cells = (number, *name, NOTHING, NOT_READ, *untold, NOTHING, escape(why))
        feet.append(Row(cells, "", {2 if not named else 3: "warning"}))
    return feet


def _notes(found: Sequence[Audited], quick: Sequence[Rule]) -> tuple[str, ...]:
    findings = [finding for each in found for finding in each.report.findings]
    notes = []
    if findings:
        totals = Counter(finding.id for finding in findings)
        told = ", ".join(f"{number} {rule}" for rule, number in totals.most_common())
        whose = len({each.whose.pid for each in found if each.report.findings})
        notes.append(f"{told}; in {count(whose, 'process', 'processes')}")
    allowed = sum(len(each.report.allowed) for each in found)
    known = sum(each.known for each in found)
    if allowed:
        notes.append(f"{count(allowed, 'finding')} that the policy allows")
    if known:
        notes.append(f"{count(known, 'finding')} that the baseline has")
    notes += doubted_lines(found)
    notes += untold_lines(found)
    if quick:
        notes.append(f"not asked of so many: {', '.join(rule.id for rule in quick)} (--thorough asks)")
    return tuple(notes)


def doubted_lines(found: Sequence[Audited]) -> list[str]:
    """What a policy speaks of by a name alone, and does not allow for that: each reason once, the first few."""
    reasons: dict[tuple[str, str], list[int]] = {}
    for each in found:
        for doubted in each.report.doubted:
            reasons.setdefault((doubted.allowance.reason, doubted.why), []).append(each.whose.pid)
    told = []
    for (reason, why), pids in list(reasons.items())[:_NAMED]:
        whose = dict.fromkeys(pids)
        who = f"process {pids[0]}" if len(whose) == 1 else count(len(whose), "process", "processes")
        told.append(f"not allowed: {count(len(pids), 'finding')} of {who} ({escape(reason)}): {escape(why)}")
    if len(reasons) > _NAMED:
        told.append(f"not allowed for {len(reasons) - _NAMED:,} more reasons (--json has them)")
    return told


def untold_lines(found: Sequence[Audited]) -> list[str]:
    """What rules could not tell, each reason once."""
    reasons = Counter((untold.rule.id, untold.why) for each in found for untold in each.report.untold)
    told = []
    for (rule, why), number in reasons.items():
        of = f" ({count(number, 'process', 'processes')})" if len(found) > 1 else ""
        told.append(f"not told: {rule}: {escape(why)}{of}")
    return told


def untold_line(found: Sequence[Audited]) -> str | None:
    """Which rules could not tell everything, in a line; None where all could."""
    rules = dict.fromkeys(untold.rule.id for each in found for untold in each.report.untold)
    return f"not everything can be told here: {', '.join(rules)} (--json says why)" if rules else None


def files_table(found: Sequence[Audited], unread: Unread | None) -> Table:
    """A line for each file or name and rule, with the processes that have it: who is to be restarted."""
    rows = []
    for finding, whose in _by_thing(found):
        told = [f"{name_text(each.name)} {each.pid}" for each in whose[:_NAMED]]
        more = ["..."] if len(whose) > _NAMED else []
        style = _STYLES.get(finding.severity)
        cells = (
            finding.severity.word,
            finding.id,
            str(len(whose)),
            escape(finding.thing or NOTHING),
            ", ".join(told + more),
            escape(_why(finding)),
        )
        rows.append(Row(cells, "", {0: style, 1: style} if style else {}))
    feet = []
    for number, why in [] if unread is None else lacks(unread):
        cells = (NOTHING, NOT_READ, number, NOTHING, NOTHING, escape(why))
        feet.append(Row(cells, "", {1: "warning"}))
    return Table(_BY_FILE, [*rows, *feet], notes=_notes(found, ()), empty="nothing suspicious", feet=len(feet))


def _by_thing(found: Sequence[Audited]) -> list[tuple[Finding, list[Whose]]]:
    groups: dict[tuple[str, str | None], tuple[Finding, list[Whose]]] = {}
    for each in found:
        for finding in each.report.findings:
            first, whose = groups.setdefault((finding.id, finding.thing), (finding, []))
            if finding.severity > first.severity:
                groups[finding.id, finding.thing] = finding, whose
            if each.whose not in whose:
                whose.append(each.whose)
    return sorted(groups.values(), key=lambda pair: (-pair[0].severity, -len(pair[1]), pair[0].thing or ""))


# ---- JSON, CSV ----


def audited_json(each: Audited, error: str | None = None) -> dict[str, Any]:
    """What was found in a process, what is allowed, and what could not be told."""
    return {
        "pid": each.whose.pid,
        "process": each.whose.name,
        "user": each.user,
        "error": error,
        "findings": [finding_json(each.whose, finding) for finding in each.report.findings],
        "allowed": [
            {
                **finding_json(each.whose, allowed.finding),
                "reason": allowed.allowance.reason,
                "until": None if allowed.allowance.until is None else allowed.allowance.until.isoformat(),
            }
            for allowed in each.report.allowed
        ],
        "doubted": [
            {"finding": doubted.finding.id, "thing": doubted.finding.thing}
            | {"reason": doubted.allowance.reason, "why": doubted.why}
            for doubted in each.report.doubted
        ],
        "untold": [{"finding": untold.rule.id, "why": untold.why} for untold in each.report.untold],
        "known": each.known,
    }


def finding_json(whose: Whose, finding: Finding) -> dict[str, Any]:
    """A finding."""
    return {
        "pid": whose.pid,
        "process": whose.name,
        "finding": finding.id,
        "severity": finding.severity.word,
        "explanation": finding.explanation,
        "runtime": finding.runtime or None,
        "thing": finding.thing,
        "regions": [region_to_dict(region) for region in finding.regions],
    }


def several_json(found: Sequence[Audited], unread: Unread, quick: Sequence[Rule]) -> dict[str, Any]:
    """Each process that was read, who did not answer in time (`error`), and who could not be read."""
    told = [audited_json(each) for each in found]
    told += [
        {**audited_json(Audited(Whose(process.pid, process.known_name), AuditReport(()))), "error": str(error)}
        | {"findings": None, "allowed": None, "doubted": None, "untold": None, "known": None}
        for process, error in unread.unanswered
    ]
    return {"processes": told, "unasked": [rule.id for rule in quick], **unread_json(unread)}


_CSV = ["severity", "finding", "start", "end", "regions", "permissions", "size", "explanation", "runtime", "name"]


def findings_csv(found: Iterable[Audited], unread: Unread | None) -> tuple[list[str], list[dict[str, Any]]]:
    """A row for each finding, with its first region; what was not told, and who was not read, in `error`."""
    told = [
        (each.whose, _CSV, [_csv(finding) for finding in each.report.findings] + _untold_csv(each)) for each in found
    ]
    if unread is not None:
        return together_csv(told, unread)
    titles = ["pid", "process", *_CSV, "error"]
    return titles, [{"pid": whose.pid, "process": whose.name, **row} for whose, _, rows in told for row in rows]


def _csv(finding: Finding) -> dict[str, Any]:
    first = finding.region
    return {
        "severity": finding.severity.word,
        "finding": finding.id,
        "start": None if first is None else first.start,
        "end": None if first is None else first.end,
        "regions": len(finding.regions),
        "permissions": None if first is None else first.permissions,
        "size": finding.size,
        "explanation": finding.explanation,
        "runtime": finding.runtime or None,
        "name": finding.thing,
    }


def _untold_csv(each: Audited) -> list[dict[str, Any]]:
    return [{"finding": untold.rule.id, "error": f"not told: {untold.why}"} for untold in each.report.untold]


# ---- the rules ----


def rules_table(rules: Sequence[Rule], severities: Mapping[str, Severity]) -> Table:
    """A line for each rule: how much it weighs by a policy, or that it is off."""
    columns = (Column("FINDING"), Column("SEVERITY"), Column("ASKS", leaves=1), Column("MEANING", below=True))
    rows = [
        Row((rule.id, severities[rule.id].word if rule.id in severities else "off", rule.asks, rule.meaning), "")
        for rule in rules
    ]
    return Table(columns, rows, notes=("'vmatlas audit --explain FINDING' tells the whole of one",))


def rule_words(rule: Rule, severity: Severity | None) -> list[str]:
    """The whole of one."""
    where = "every system" if rule.systems is None else ", ".join(sorted(rule.systems))
    return [
        f"{rule.id} ({severity.word if severity is not None else 'off'})",
        "",
        rule.meaning,
        "",
        f"Honest cause: {rule.legitimate}",
        f"What to do: {rule.remedy}",
        f"Speaks of: {where}",
        f"Asks: {rule.asks}{' (of many processes with --thorough alone)' if rule.is_thorough else ''}",
    ]
