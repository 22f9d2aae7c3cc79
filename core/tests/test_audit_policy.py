"""Policies: what is on, how much it weighs, what is allowed and until when; what is wrong is told with its place."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from vmatlas import UsageError
from vmatlas.analysis import Evidence, Policy, Severity, audit
from vmatlas.analysis.audit import RULES, Baseline
from vmatlas.model import Kind, Protection, Region

from .strategies import space_of

WX = Region(0x1000, 0x2000, Protection(7), False, kind=Kind.ANONYMOUS)
CODE = Region(0x4000, 0x5000, Protection(5), False, kind=Kind.ANONYMOUS)
TODAY = datetime.date(2027, 1, 31)


def found(told, *regions, belongs_to=None, today=TODAY):
    return audit(space_of(regions or (WX, CODE)), Evidence(belongs_to=belongs_to), Policy.of(told), today=today)


def test_a_policy_turns_rules_off_and_weighs_them_otherwise():
    report = found({"rules": {"nameless-code": False, "writable-and-executable": "low"}})
    assert [(each.id, each.severity) for each in report] == [("writable-and-executable", Severity.LOW)]
    assert [each.id for each in found({"rules": {"nameless-code": {"severity": "high"}}})] == [
        "writable-and-executable",
        "nameless-code",
    ]


def test_on_and_off_may_stand_in_quotation_marks():
    words = Policy.of({"rules": {"unknown-code": "on", "deleted-file": "off", "changed-code": {"severity": "on"}}})
    assert words == Policy.of({"rules": {"unknown-code": True, "deleted-file": False}})


def test_a_policy_builds_on_another():
    assert Policy.of({"extends": "jit-friendly"}).knows_runtimes
    assert set(Policy.of({"extends": "strict"}).severities) == {rule.id for rule in RULES}
    strict = Policy.of({"extends": "strict", "rules": {"unknown-code": False}})
    assert "unknown-code" not in strict.severities and "unknown-code" not in strict.required
    assert min(strict.severities.values()) is Severity.MEDIUM


@pytest.mark.parametrize(
    ("allowance", "is_allowed"),
    [
        ({"rules": "writable-and-executable"}, True),
        ({"rules": ["nameless-code"]}, False),
        ({"program": "/usr/bin/*"}, True),
        ({"program": "/usr/bin/*", "user": "root"}, False),
        ({"user": "web", "unit": "web.service"}, True),
        ({"path": "/srv/*"}, False),  # nameless memory lies at no path
        ({"rules": "writable-and-executable", "until": TODAY}, True),
        ({"rules": "writable-and-executable", "until": TODAY - datetime.timedelta(1)}, False),
    ],
)
def test_what_is_allowed_is_told_with_its_reason_and_only_that(allowance, is_allowed):
    who = {"program": "/usr/bin/app", "user": "web", "unit": "web.service"}
    report = found({"allow": [{**allowance, "reason": "known"}]}, WX, belongs_to=who.get)
    assert [each.id for each in report] == ["writable-and-executable"] * (not is_allowed)
    assert [each.allowance.reason for each in report.allowed] == ["known"] * is_allowed


def test_an_allowance_about_who_it_is_holds_only_where_that_is_told():
    told = {"allow": [{"program": "*", "reason": "known"}]}
    assert not found(told, WX).allowed
    assert not found(told, WX, belongs_to=lambda what: None).allowed


@pytest.mark.parametrize(
    ("allowance", "why"),
    [
        ({"path": "/opt/*"}, "the file is none of this path for us: another file has that path"),
        ({"program": "/opt/*"}, "doubt of program"),
        ({"unit": "app.service"}, "doubt of unit"),
        ({"user": "web", "path": "/opt/*"}, "the file is none of this path for us: another file has that path"),
        ({"user": "web"}, None),
    ],
)
def test_a_name_that_the_process_may_have_chosen_allows_nothing_and_that_is_told(allowance, why):
    file = Region(0x1000, 0x2000, Protection(7), False, path="/opt/lib.so", kind=Kind.FILE)
    who = {"program": "/opt/app", "user": "web", "unit": "app.service"}
    doubts = {"program": "doubt of program", "unit": "doubt of unit"}
    evidence = Evidence(misnamed=lambda _: "another file has that path", belongs_to=who.get, doubt=doubts.get)
    policy = Policy.of({"allow": [{**allowance, "reason": "known"}]})
    report = audit(space_of([file]), evidence, policy)
    assert [each.why for each in report.doubted] == ([] if why is None else [why])
    assert [each.id for each in report] == ["writable-and-executable"] * (why is not None)
    assert len(report.allowed) == (why is None)
    both = Policy.of({"allow": [{**allowance, "reason": "known"}, {"user": "web", "reason": "also known"}]})
    assert not audit(space_of([file]), evidence, both).doubted, "another allowance holds"
    assert report.and_also(report).doubted == report.doubted * 2


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([], "is no mapping"),
        (None, "is no mapping"),
        ({"rulez": {}}, "'rulez' is not known"),
        ({"extends": "lax"}, "'lax' is no policy"),
        ({"extends": 3}, "is no text"),
        ({"rules": {"nameless": True}}, "'nameless' is no rule"),
        ({"rules": {"nameless-code": "grave"}}, "'grave' is no severity"),
        ({"rules": {"nameless-code": 3}}, "is no text"),
        ({"rules": {"nameless-code": {"weight": "low"}}}, "'weight' is not known"),
        ({"rules": {"nameless-code": {"required": "yes"}}}, "neither true nor false"),
        ({"rules": []}, None),
        ({"rules": [1]}, "is no mapping"),
        ({"runtimes": "some"}, "neither true nor false"),
        ({"allow": {}}, None),
        ({"allow": {"a": 1}}, "is no list"),
        ({"allow": [{"rules": "nameless-code"}]}, "has no reason"),
        ({"allow": [{"rules": "nameless-code", "reason": " "}]}, "has no reason"),
        ({"allow": [{"reason": "any"}]}, "would allow everything"),
        ({"allow": [{"rules": "all", "reason": "any"}]}, "'all' is no rule"),
        ({"allow": [{"path": "/x", "reason": "any", "until": "soon"}]}, "'soon' is no date"),
        ({"allow": [{"path": 7, "reason": "any"}]}, "is no text"),
        ({"allow": ["/x"]}, "is no mapping"),
    ],
)
def test_what_is_wrong_in_a_policy_is_told_in_a_line(told, message):
    if message is None:
        Policy.of(told)
        return
    with pytest.raises(UsageError) as error:
        Policy.of(told, "policy.yaml")
    assert message in str(error.value) and "\n" not in str(error.value)
    assert str(error.value).startswith("policy.yaml") or "is no policy" in message


@pytest.mark.parametrize("wrong", [[], {}, 10**5000, None, 1.5, b"strict", object(), Policy.preset("strict")], ids=type)
def test_arguments_of_another_kind_are_told_in_a_line_everywhere(wrong):
    allowance = {"rules": ["nameless-code"], "reason": "known"}
    asked = [
        lambda: Policy.preset(wrong),
        lambda: Severity.of(wrong),
        lambda: Policy.preset("default").only([wrong]),
        lambda: Policy.preset("default").without([wrong]),
        lambda: Policy.of([wrong], wrong),
        lambda: Policy.of({"extends": wrong}),
        lambda: Policy.of({"allow": [{**allowance, "reason": wrong}]}),
    ]
    if not isinstance(wrong, list | dict | Policy):  # no key of a mapping
        asked += [lambda: Policy.of({wrong: 1}), lambda: Policy.of({"rules": {wrong: True}})]
    if wrong is not None:
        for key in ("path", "program", "until"):
            asked.append(lambda key=key: Policy.of({"allow": [{**allowance, key: wrong}]}))
    for ask in asked:
        with pytest.raises(UsageError) as error:
            ask()
        assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_only_and_ignore_choose_rules_and_those_alone_have_to_speak():
    policy = Policy.preset("default").only(["changed-code", "unknown-code"])
    assert set(policy.severities) == policy.required == {"changed-code", "unknown-code"}
    assert not policy.without(["changed-code", "unknown-code"]).severities
    assert "unknown-code" in policy.quick().severities  # what was asked for is asked of everybody
    assert not any(rule.is_thorough for rule in Policy.preset("default").quick().rules)
    with pytest.raises(UsageError, match="is no rule"):
        policy.only(["chnaged-code"])


def test_a_baseline_knows_a_finding_up_to_the_weight_that_it_had():
    (finding,) = audit(space_of([WX]))
    assert finding.severity is Severity.HIGH
    for severities, is_known in ((["note"], False), (["medium"], False), (["high"], True), (["high", "note"], True)):
        told = [{"finding": finding.id, "process": "app", "thing": None, "severity": each} for each in severities]
        baseline = Baseline.of({"findings": told}, "known.json")
        assert (baseline.has("app", finding), len(baseline)) == (is_known, 1)
        assert baseline.has("app", dataclasses.replace(finding, severity=Severity.NOTE))


def test_what_a_baseline_knows_of_one_user_is_new_of_another():
    (finding,) = audit(space_of([WX]))
    told = {"findings": [{"finding": finding.id, "process": "app", "thing": None, "severity": "high"}]}
    baseline = Baseline.of({**told, "user": 0}, "known.json")
    assert baseline.has("app", finding, 0)
    assert not baseline.has("app", finding, 65534) and not baseline.has("app", finding, None)
    older = Baseline.of(told, "known.json")  # of a capture, or from before users were told
    assert older.has("app", finding, 0) and older.has("app", finding, None)
    for wrong in ("root", -1, True, 1.0, 1 << 32):
        with pytest.raises(UsageError, match="is no audit"):
            Baseline.of({**told, "user": wrong}, "known.json")


def test_a_baseline_knows_a_finding_again_by_rule_name_and_thing():
    (finding,) = audit(space_of([WX]))
    told = {"findings": [{"finding": "writable-and-executable", "process": "app", "thing": None, "severity": "high"}]}
    for each in (told, {"processes": [told, {"findings": None}]}):
        baseline = Baseline.of(each, "known.json")
        assert baseline.has("app", finding)
        assert not baseline.has("other", finding)


@pytest.mark.parametrize(
    "told",
    [
        *(None, [], {}, {"processes": 3}, {"processes": [3]}, {"findings": [1]}, {"findings": [{"finding": 1}]}),
        *({"findings": wrong} for wrong in (3, True, "", "high", {}, {"finding": "x"}, 0, False)),
        *({"findings": [{"finding": "x", "severity": wrong}]} for wrong in (None, 3, "grave", [])),
        *({"findings": [{"finding": "x", "severity": "high", key: 3}]} for key in ("process", "thing")),
    ],
)
def test_what_is_no_audit_is_no_baseline(told):
    with pytest.raises(UsageError, match="is no audit"):
        Baseline.of(told, "known.json")


def test_a_path_allows_files_alone_and_no_memory_that_has_none():
    nameless = Region(0x1000, 0x2000, Protection(7), False, kind=Kind.ANONYMOUS)
    file = Region(0x3000, 0x4000, Protection(7), False, path="/opt/lib.so", kind=Kind.FILE)
    policy = Policy.of({"allow": [{"path": "*", "reason": "known"}]})
    report = audit(space_of([nameless, file]), Evidence(misnamed=lambda _: None), policy)
    assert {each.thing for each in report if each.id == "writable-and-executable"} == {None}
    assert {each.finding.thing for each in report.allowed} == {"/opt/lib.so"}
