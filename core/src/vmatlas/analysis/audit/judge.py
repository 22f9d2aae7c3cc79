"""Asks the rules, and puts what they say together: one finding for one thing. Pure; the questions are passed in."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator

from vmatlas import arguments
from vmatlas.analysis.audit.evidence import NONE, Evidence
from vmatlas.analysis.audit.finding import Allowed, AuditReport, Doubted, Finding, Severity, Untold, order
from vmatlas.analysis.audit.policy import DEFAULT, Policy
from vmatlas.analysis.audit.rule import Case, Hit, Rule, Silence
from vmatlas.analysis.audit.runtimes import Recogniser
from vmatlas.errors import UsageError
from vmatlas.model import AddressSpace
from vmatlas.model.space import check_space


def audit(
    space: AddressSpace,
    evidence: Evidence = NONE,
    policy: Policy = DEFAULT,
    *,
    today: datetime.date | None = None,
) -> AuditReport:
    """What is suspicious in a map.

        with vmatlas.open(1234) as process:
            for finding in vmatlas.audit(process.snapshot(), process.evidence()):
                print(finding.severity.word, finding.id, finding.explanation)

    `evidence` tells what the map does not (`Process.evidence` gives it); without, rules that need it say so in
    `untold`. `policy`: see `Policy.of` and `Policy.preset`. `today`: by which allowances expire. Raises UsageError for
    what is none of these, and what the evidence raises.
    """
    check_space(space)
    for value, kind, name in ((evidence, Evidence, "evidence"), (policy, Policy, "policy")):
        if not isinstance(value, kind):
            hint = "Process.evidence() gives it" if kind is Evidence else "Policy.of(...), or Policy.preset('default')"
            raise UsageError(f"{arguments.shown(value)} is no {name} of an audit", hint=hint)
    if today is not None and type(today) is not datetime.date:
        raise UsageError(f"{arguments.shown(today)} is no date", hint="datetime.date(2027, 1, 31), or None: today")
    case = Case(space, evidence)
    recogniser = Recogniser(space)
    findings: list[Finding] = []
    untold: list[Untold] = []
    for rule in policy.rules:
        if rule.systems is not None and space.system.system not in rule.systems:
            untold.append(Untold(rule, f"it cannot speak of {space.system.system}"))
            continue
        hits = []
        for said in rule.check(case):
            if isinstance(said, Silence):
                untold.append(Untold(rule, said.why))
            else:
                hits.append(said)
        if rule.by_rights and case.without_rights:
            untold.append(Untold(rule, f"the rights of {case.without_rights:,} regions are not told"))
        severity = policy.severities[rule.id]
        asked = recogniser if rule.of_code and policy.knows_runtimes else None
        findings += (_finding(rule, severity, hit, asked) for hit in _together(hits))
    return settled(findings, evidence, policy, untold, today)


def settled(
    findings: Iterable[Finding],
    evidence: Evidence,
    policy: Policy,
    untold: Iterable[Untold] = (),
    today: datetime.date | None = None,
) -> AuditReport:
    """The findings in order, without those that the policy allows: by what is known, not by a name alone."""
    day = today or (datetime.date.today() if policy.allowances else datetime.date.min)
    holding = [each for each in policy.allowances if not each.has_expired(day)]
    left: list[Finding] = []
    allowed: list[Allowed] = []
    doubted: list[Doubted] = []
    for finding in findings:
        fitting = [each for each in holding if each.fits(finding, evidence.belongs_to)]
        reasons = [(each, each.doubt(finding, evidence)) for each in fitting]
        sure = next((each for each, why in reasons if why is None), None)
        if sure is None:
            left.append(finding)
            doubted += (Doubted(finding, each, why) for each, why in reasons if why is not None)
        else:
            allowed.append(Allowed(finding, sure))
    left.sort(key=order)
    return AuditReport(tuple(left), tuple(allowed), tuple(untold), tuple(doubted))


def _together(hits: list[Hit]) -> Iterator[Hit]:
    """Hits that say the same of one thing as one."""
    found: dict[object, list[Hit]] = {}
    for hit in hits:
        first = hit.regions[0] if hit.regions else None
        thing = None if first is None else (first.path, first.name, first.device, first.inode)
        found.setdefault((thing, hit.explanation), []).append(hit)
    for same in found.values():
        regions = tuple(region for hit in same for region in hit.regions)
        least = [hit.severity for hit in same if hit.severity is not None]
        yield Hit(regions, same[0].explanation, max(least) if len(least) == len(same) else None)


def _finding(rule: Rule, severity: Severity, hit: Hit, recogniser: Recogniser | None) -> Finding:
    weight = severity if hit.severity is None else min(severity, hit.severity)
    runtime = "" if recogniser is None else recogniser.recognised(hit.regions)
    weight = Severity.NOTE if runtime else weight
    return Finding(rule, weight, hit.regions, hit.explanation, runtime)
