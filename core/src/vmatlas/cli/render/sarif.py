"""Findings as SARIF 2.1.0 (OASIS), for what shows and gates the findings of many tools. Pure."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_from_bytes

from vmatlas.analysis.audit import RULES, Finding, Policy, Rule, Severity
from vmatlas.cli.render.audit import Audited
from vmatlas.cli.render.together import Whose, lacks
from vmatlas.model import Region

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.NOTE: "note", Severity.LOW: "note", Severity.MEDIUM: "warning", Severity.HIGH: "error"}
_SECURITY = {Severity.NOTE: "1.0", Severity.LOW: "3.0", Severity.MEDIUM: "5.5", Severity.HIGH: "8.0"}
"""What services that rank by a number of CVSS's range read: the middle of each of its bands."""


def sarif(found: Sequence[Audited], unread: Unread | None, policy: Policy, version: str) -> dict[str, Any]:
    """A log of one run. What is allowed is there, suppressed, with the reason; what was not told, and who was not
    read, is a notification of the run."""
    results = []
    for each in found:
        results += [_result(each.whose, finding) for finding in each.report.findings]
        for allowed in each.report.allowed:
            reason = {"kind": "external", "justification": allowed.allowance.reason}
            results.append({**_result(each.whose, allowed.finding), "suppressions": [reason]})
    driver = {
        "name": "vmatlas",
        "version": version,
        "rules": [_rule(rule, policy.severities.get(rule.id)) for rule in RULES],
    }
    invocation = {
        "executionSuccessful": unread is None or not unread.unread,
        "toolExecutionNotifications": [*_doubted(found), *_untold(found), *_unread(unread)],
    }
    run = {"tool": {"driver": driver}, "invocations": [invocation], "results": results}
    log: dict[str, Any] = _readable({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})
    return log


def _readable(value: Any) -> Any:
    r"""The same, where bytes of names that are no UTF-8 are told as \xNN: strict readers of JSON refuse what stands for
    them elsewhere (a half of a pair of surrogates), and with it the whole log."""
    if isinstance(value, str):
        return (
            value if value.isascii() else value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        )
    if isinstance(value, dict):
        return {key: _readable(each) for key, each in value.items()}
    return [_readable(each) for each in value] if isinstance(value, list) else value


_MARKUP = str.maketrans({"\\": r"\\", "[": r"\[", "]": r"\]", "{": "{{", "}": "}}"})


def _message(text: str) -> dict[str, str]:
    """A message that says just this: `[text](address)` would be a link (3.11.6), `{0}` stand for an argument (3.11.5),
    and a process chooses its name."""
    return {"text": _readable(text).translate(_MARKUP)}


def _rule(rule: Rule, severity: Severity | None) -> dict[str, Any]:
    weight = severity or rule.severity
    return {
        "id": rule.id,
        "shortDescription": _message(rule.id.replace("-", " ")),
        "fullDescription": _message(rule.meaning),
        "help": _message(f"Honest cause: {rule.legitimate}. What to do: {rule.remedy}."),
        "defaultConfiguration": {"enabled": severity is not None, "level": _LEVELS[weight]},
        "properties": {"security-severity": _SECURITY[weight], "tags": ["security", "memory"]},
    }


_INDEX = {rule.id: index for index, rule in enumerate(RULES)}


def _result(whose: Whose, finding: Finding) -> dict[str, Any]:
    who = f"process {whose.pid}" + (f" ({whose.name})" if whose.name else "")
    mark = "\0".join((finding.id, whose.name or "", finding.thing or ""))
    told = {
        "ruleId": finding.id,
        "ruleIndex": _INDEX[finding.id],
        "level": _LEVELS[finding.severity],
        "message": _message(f"{who}: {finding.explanation}"),
        "partialFingerprints": {"finding/v1": hashlib.sha256(os.fsencode(_safe(mark))).hexdigest()},
        "properties": {"pid": whose.pid, "severity": finding.severity.word, "runtime": finding.runtime},
    }
    logical = [{"name": whose.name or str(whose.pid), "fullyQualifiedName": who, "kind": "process"}]
    places = [_place(region) | {"logicalLocations": logical} for region in finding.regions]
    return told | {"locations": places or [{"logicalLocations": logical}]}


def _place(region: Region) -> dict[str, Any]:
    name = region.path or region.name
    address: dict[str, Any] = {"absoluteAddress": region.start, "length": region.size}
    physical: dict[str, Any] = {"address": address | ({"name": name} if name else {})}
    if region.path is not None and region.path.startswith("/"):
        physical["artifactLocation"] = {"uri": f"file://{quote_from_bytes(os.fsencode(_safe(region.path)))}"}
    return {"physicalLocation": physical}


def _safe(text: str) -> str:
    """Text that a path can be made of: what is no byte of it is replaced."""
    try:
        os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _doubted(found: Sequence[Audited]) -> list[dict[str, Any]]:
    return [
        _warning(each, told.finding.id, f"not allowed ({told.allowance.reason}): {told.why}")
        for each in found
        for told in each.report.doubted
    ]


def _untold(found: Sequence[Audited]) -> list[dict[str, Any]]:
    return [
        _warning(each, untold.rule.id, f"not told: {untold.why}") for each in found for untold in each.report.untold
    ]


def _warning(audited: Audited, rule: str, words: str) -> dict[str, Any]:
    return {
        "level": "warning",
        "message": _message(f"process {audited.whose.pid}: {words}"),
        "associatedRule": {"id": rule, "index": _INDEX[rule]},
    }


def _unread(unread: Unread | None) -> list[dict[str, Any]]:
    if unread is None:
        return []
    told = [f"process {process.pid} ({process.name}): {error}" for process, error in unread.unanswered]
    told += [f"{number} processes: {why}" for number, why in lacks(unread)]
    return [{"level": "error", "message": _message(text)} for text in told]
