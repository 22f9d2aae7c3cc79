"""What an audit looks for, how much it weighs, and what is allowed. Values, made of a mapping; no I/O."""

from __future__ import annotations

import datetime
import difflib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from vmatlas import arguments
from vmatlas.analysis.audit.evidence import Evidence
from vmatlas.analysis.audit.finding import Finding, Severity
from vmatlas.analysis.audit.rule import Rule
from vmatlas.analysis.audit.rules import RULES
from vmatlas.errors import UsageError

BY_ID = {rule.id: rule for rule in RULES}

_SUBJECTS = ("program", "user", "unit")
"""What an allowance may say of the process."""
_OF_ALLOWANCE = ("rules", "path", *_SUBJECTS, "reason", "until")
_OF_POLICY = ("extends", "runtimes", "rules", "allow")
_OF_RULE = ("severity", "required")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Findings that are known and accepted, with the reason. Each pattern is a glob; all that are there must fit."""

    reason: str
    rules: frozenset[str] = frozenset()
    """Ids; empty: every rule."""
    path: str | None = None
    """Of the file or memory that the finding is about."""
    program: str | None = None
    """The path of the process's program."""
    user: str | None = None
    unit: str | None = None
    until: datetime.date | None = None
    """The last day on which it holds."""

    def fits(self, finding: Finding, belongs_to: Callable[[str], str | None] | None) -> bool:
        """Whether it speaks of this finding of a process of which `belongs_to` tells the program, user and unit."""
        if self.rules and finding.id not in self.rules:
            return False
        thing = finding.thing or ""
        if self.path is not None and not (thing.startswith("/") and fnmatchcase(thing, self.path)):
            return False  # what has no path fits none, not even "*"
        for what in _SUBJECTS:
            pattern = getattr(self, what)
            if pattern is None:
                continue
            told = None if belongs_to is None else belongs_to(what)
            if told is None or not fnmatchcase(told, pattern):
                return False
        return True

    def doubt(self, finding: Finding, evidence: Evidence) -> str | None:
        """Why it does not hold though it fits: what it goes by is a name that the process may have chosen.

        In words; None: it holds. Memory that lies in no file is called what the process calls it.
        """
        region = finding.region
        if self.path is not None and evidence.misnamed is not None and region is not None and region.path is not None:
            why = evidence.misnamed(region)
            if why is not None:
                return f"the file is none of this path for us: {why}"
        asks = evidence.doubt or (lambda _: None)
        asked = (what for what in _SUBJECTS if getattr(self, what) is not None)
        return next((why for what in asked if (why := asks(what)) is not None), None)

    def has_expired(self, today: datetime.date) -> bool:
        """Whether its last day is over."""
        return self.until is not None and today > self.until


@dataclass(frozen=True, slots=True)
class Policy:
    """Which rules are asked, how much each weighs, and what is allowed."""

    severities: Mapping[str, Severity]
    """Of the rules that are on, by id, in the order of the rules."""
    required: frozenset[str] = frozenset()
    """Rules that have to speak: where one cannot, the audit is not passed."""
    knows_runtimes: bool = False
    """What a recognised just-in-time compiler gives cause to is a note."""
    allowances: tuple[Allowance, ...] = ()
    name: str = field(default="", compare=False)

    @property
    def rules(self) -> tuple[Rule, ...]:
        """Those that are on."""
        return tuple(rule for rule in RULES if rule.id in self.severities)

    def only(self, ids: list[str]) -> Policy:
        """With these rules alone, each of which has to speak. Raises UsageError for an unknown one."""
        wanted = {check_id(each) for each in ids}
        severities = {rule.id: self.severities.get(rule.id, rule.severity) for rule in RULES if rule.id in wanted}
        return Policy(severities, frozenset(wanted), self.knows_runtimes, self.allowances, self.name)

    def without(self, ids: list[str]) -> Policy:
        """Without these rules. Raises UsageError for an unknown one."""
        left = {check_id(each) for each in ids}
        severities = {key: value for key, value in self.severities.items() if key not in left}
        return Policy(severities, self.required - left, self.knows_runtimes, self.allowances, self.name)

    def quick(self) -> Policy:
        """Without rules that ask much of each process, but for those that have to speak."""
        slow = [rule.id for rule in self.rules if rule.is_thorough and rule.id not in self.required]
        return self.without(slow)

    def expired(self, today: datetime.date) -> list[Allowance]:
        """Allowances that hold no longer."""
        return [each for each in self.allowances if each.has_expired(today)]

    @classmethod
    def preset(cls, name: str) -> Policy:
        """ "default"; "strict" (every rule, at least medium, and those of `default` have to speak); "jit-friendly" (as
        `default`; what recognised compilers give cause to is a note). Raises UsageError."""
        if not isinstance(name, str) or name not in PRESETS:
            raise UsageError(
                f"{arguments.shown(name)} is no policy", hint=f"one of: {', '.join(PRESETS)}; or a YAML file"
            )
        return PRESETS[name]

    @classmethod
    def of(cls, told: object, name: str = "the policy") -> Policy:
        """From a mapping, as YAML gives it. Raises UsageError, with the place of what is wrong."""
        name = name if isinstance(name, str) else arguments.shown(name)
        mapping = _mapping(told, name, _OF_POLICY)
        base = cls.preset(_text(mapping.get("extends", "default"), f"{name}: extends"))
        severities, required = dict(base.severities), set(base.required)
        for key, value in _mapping(mapping.get("rules") or {}, f"{name}: rules", None).items():
            _apply(check_id(key, f"{name}: rules: "), value, severities, required, f"{name}: rules: {key}")
        listed = mapping.get("allow") or []
        if not isinstance(listed, list):
            raise UsageError(f"{name}: allow: is no list")
        allowances = tuple(_allowance(each, f"{name}: allow, number {at}") for at, each in enumerate(listed, 1))
        runtimes = mapping.get("runtimes", base.knows_runtimes)
        if not isinstance(runtimes, bool):
            raise UsageError(f"{name}: runtimes: is neither true nor false")
        ordered = {rule.id: severities[rule.id] for rule in RULES if rule.id in severities}
        return cls(ordered, frozenset(required), runtimes, allowances, name)


def check_id(word: object, where: str = "") -> str:
    """The id of a rule. Raises UsageError, with what may have been meant."""
    if isinstance(word, str) and word in BY_ID:
        return word
    close = _close(word, BY_ID)
    hint = f"meant: {close[0]}?" if close else "'vmatlas audit --rules' lists them"
    raise UsageError(f"{where}{arguments.shown(word)} is no rule", hint=hint)


def _apply(rule: str, value: object, severities: dict[str, Severity], required: set[str], where: str) -> None:
    """What a policy says of one rule: off, on, a severity, or both in a mapping."""
    if isinstance(value, Mapping):
        told = _mapping(value, where, _OF_RULE)
        must = told.get("required", False)
        if not isinstance(must, bool):
            raise UsageError(f"{where}: required: is neither true nor false")
        _apply(rule, told.get("severity", True), severities, required, where)
        if must:
            required.add(rule)
        return
    if isinstance(value, str):  # YAML reads the words as true and false; in Python and in quotation marks they stay
        value = {"on": True, "off": False}.get(value, value)
    if value is False:
        severities.pop(rule, None)
        required.discard(rule)
    elif value is True:
        severities.setdefault(rule, BY_ID[rule].severity)
    else:
        try:
            severities[rule] = Severity.of(_text(value, where))
        except UsageError as error:
            raise UsageError(f"{where}: {error.message}", hint=f"{error.hint}, or on, off") from None


def _allowance(told: object, where: str) -> Allowance:
    mapping = _mapping(told, where, _OF_ALLOWANCE)
    reason = mapping.get("reason")
    if not isinstance(reason, str) or not reason.strip():
        raise UsageError(f"{where}: has no reason", hint="say why it is allowed: reason: ...")
    rules = mapping.get("rules", [])
    listed = [rules] if isinstance(rules, str) else rules
    if not isinstance(listed, list):
        raise UsageError(f"{where}: rules: is no list of rules")
    until = mapping.get("until")
    if until is not None and (not isinstance(until, datetime.date) or isinstance(until, datetime.datetime)):
        raise UsageError(f"{where}: until: {arguments.shown(until)} is no date", hint="YEAR-MONTH-DAY: 2027-01-31")
    patterns = {
        key: None if mapping.get(key) is None else _text(mapping[key], f"{where}: {key}")
        for key in ("path", *_SUBJECTS)
    }
    if not listed and not any(patterns.values()):
        raise UsageError(f"{where}: would allow everything", hint="name rules, a path, a program, a user or a unit")
    ids = frozenset(check_id(each, f"{where}: ") for each in listed)
    return Allowance(reason.strip(), ids, **patterns, until=until)


def _mapping(told: object, where: str, keys: tuple[str, ...] | None) -> Mapping[str, Any]:
    if not isinstance(told, Mapping):
        raise UsageError(f"{where}: is no mapping of names to values")
    for key in told:
        if keys is not None and key not in keys:
            close = _close(key, keys)
            hint = f"meant: {close[0]}?" if close else f"one of: {', '.join(keys)}"
            raise UsageError(f"{where}: {arguments.shown(key)} is not known", hint=hint)
    return told


def _close(word: object, known: Iterable[str]) -> list[str]:
    """What may have been meant."""
    return difflib.get_close_matches(word, list(known), 1) if isinstance(word, str) else []


def _text(told: object, where: str) -> str:
    if not isinstance(told, str):
        raise UsageError(f"{where}: {arguments.shown(told)} is no text", hint="put it in quotation marks")
    return told


_USUAL = {rule.id: rule.severity for rule in RULES if rule.is_usual}

DEFAULT = Policy(_USUAL, name="default")
PRESETS: Mapping[str, Policy] = {
    "default": DEFAULT,
    "strict": Policy(
        {rule.id: max(rule.severity, Severity.MEDIUM) for rule in RULES},
        frozenset(rule.id for rule in RULES if rule.is_usual),
        name="strict",
    ),
    "jit-friendly": Policy(_USUAL, knows_runtimes=True, name="jit-friendly"),
}
