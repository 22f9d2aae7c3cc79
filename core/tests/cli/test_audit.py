"""`vmatlas audit`: policies, exit codes, baselines, forms, rules, looking again."""

from __future__ import annotations

import csv
import io
import json
import os
import re

import jsonschema
import pytest

import vmatlas
from vmatlas import Policy
from vmatlas.analysis.audit import RULES, AuditReport, Doubted, Evidence, Finding, Untold
from vmatlas.cli.exits import Exit
from vmatlas.cli.render.audit import Audited
from vmatlas.cli.render.sarif import sarif
from vmatlas.cli.render.together import Whose
from vmatlas.model import Kind, Protection, Region

WX = "writable-and-executable"


@pytest.fixture
def policy(tmp_path):
    """A policy's file, of some text."""

    def write(text):
        path = tmp_path / "policy.yaml"
        path.write_text(text, "utf-8")
        return path

    return write


def findings(done):
    return {each["finding"]: each for each in json.loads(done.stdout)["findings"]}


def test_a_policy_decides_what_is_found_and_how_the_command_ends(run, child, policy):
    allowing = policy(
        "extends: default\n"
        "rules: {deleted-file: off, replaced-file: off, code-in-temporary-folder: off}\n"
        "allow:\n"
        "- rules: [writable-and-executable, nameless-code]\n"
        "  program: '*/python*'\n"
        "  reason: the tests lay it out\n"
    )
    done = run("audit", child.pid, "--policy", allowing, "--json")
    assert done.exit_code == Exit.OK, done.stdout
    told = json.loads(done.stdout)
    assert told["findings"] == []
    assert {(each["finding"], each["reason"]) for each in told["allowed"]} == {(WX, "the tests lay it out")}
    assert run("audit", child.pid).exit_code == Exit.FOUND


def test_notes_do_not_fail_unless_asked_to(run, child):
    notes = ("--only", "replaced-file")
    assert findings(run("audit", child.pid, *notes, "--json"))["replaced-file"]["severity"] == "note"
    assert run("audit", child.pid, *notes).exit_code == Exit.OK
    assert run("audit", child.pid, *notes, "--fail-on", "note").exit_code == Exit.FOUND
    assert run("audit", child.pid, "--only", WX, "--fail-on", "high").exit_code == Exit.FOUND


def test_only_and_ignore_choose(run, child):
    assert set(findings(run("audit", child.pid, "--only", f"{WX}, nameless-code", "--json"))) == {WX}
    assert WX not in findings(run("audit", child.pid, "--ignore", WX, "--json"))
    done = run("audit", child.pid, "--only", "writeable-and-executable")
    assert done.exit_code == Exit.USAGE
    assert "'writeable-and-executable' is no rule" in done.stderr and f"meant: {WX}?" in done.stderr


def test_a_rule_that_has_to_speak_and_cannot_is_no_pass(run, child, tmp_path, policy):
    file = tmp_path / "it.vmatlas"
    vmatlas.capture(child.pid).save(file)
    calm = ("--ignore", f"{WX},deleted-file,replaced-file")
    done = run("audit", file, *calm)
    assert done.exit_code == Exit.OK
    assert "warning: not everything can be told here: " in done.stderr and "relro-undone" in done.stderr
    assert run("audit", file, "--only", "relro-undone").exit_code == Exit.INCOMPLETE
    demanding = policy("rules: {relro-undone: {required: true}}")
    assert run("audit", file, *calm, "--policy", demanding).exit_code == Exit.INCOMPLETE
    assert run("audit", child.pid, *calm, "--policy", demanding).exit_code == Exit.OK


def test_what_the_baseline_has_is_not_told_again(run, child, tmp_path):
    known = tmp_path / "known.json"
    known.write_text(run("audit", child.pid, "--only", WX, "--json").stdout)
    done = run("audit", child.pid, "--baseline", known, "--json")
    told = json.loads(done.stdout)
    assert WX not in {each["finding"] for each in told["findings"]}
    assert (told["known"], told["user"]) == (1, os.geteuid())
    other = tmp_path / "other.json"
    other.write_text(json.dumps({**json.loads(known.read_text()), "user": 12345}))
    assert run("audit", child.pid, "--only", WX, "--baseline", other).exit_code == Exit.FOUND, "of another user"
    assert run("audit", child.pid, "--only", WX, "--baseline", known).exit_code == Exit.OK
    several = tmp_path / "several.json"
    several.write_text(run("audit", child.pid, "self", "--json").stdout)
    done = run("audit", child.pid, "--baseline", several)
    assert (done.exit_code, len(done.stdout.splitlines())) == (Exit.OK, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rules: [", "line 2"),
        ("rules:\n  nameless-code: off\n  nameless-code: on\n", "line 3: no YAML: 'nameless-code' stands there twice"),
        ("a: &a [*a]\n", "line 1: no YAML: no value called 'a' ends before"),
        ("rules: {deleted: off}", "'deleted' is no rule"),
        ("!!python/object/apply:os.getpid []", "no YAML"),
        ("allow: [{path: /x}]", "has no reason"),
        ("", "is no mapping"),
        ("[" * 100_000, ""),
        ("\x00", "no YAML"),
        ("allow: [{path: /x, reason: r, until: 2027-02-30}]", "no YAML"),
    ],
)
def test_what_is_wrong_with_a_policy_is_one_line_with_its_place(run, child, policy, text, message):
    done = run("audit", child.pid, "--policy", policy(text))
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")
    assert message in done.stderr and "policy.yaml" in done.stderr
    assert len(done.stderr.splitlines()) <= 2


def test_a_policy_that_is_no_file_is_refused(run, child, tmp_path):
    os.mkfifo(tmp_path / "fifo.yaml")
    for name, code in (("fifo.yaml", Exit.USAGE), ("none.yaml", Exit.FAILED), (".", None)):
        done = run("audit", child.pid, "--policy", tmp_path / name)
        assert done.exit_code == (code or done.exit_code) and done.exit_code in (Exit.USAGE, Exit.FAILED)
        assert len(done.stderr.splitlines()) <= 2
    done = run("audit", child.pid, "--policy", "lenient")
    assert done.exit_code == Exit.USAGE and "default, strict, jit-friendly" in done.stderr
    done = run("audit", child.pid, "--baseline", tmp_path / "none.json")
    assert done.exit_code == Exit.FAILED
    (tmp_path / "some.json").write_text("{")
    assert run("audit", child.pid, "--baseline", tmp_path / "some.json").exit_code == Exit.USAGE


def test_an_allowance_that_has_ended_is_said(run, child, policy):
    ended = policy("allow: [{rules: writable-and-executable, reason: until the release, until: 2020-01-31}]")
    done = run("audit", child.pid, "--policy", ended)
    assert done.exit_code == Exit.FOUND
    assert "an allowance ended on 2020-01-31: until the release" in done.stderr


def test_by_file_tells_who_has_it(run, rows_of, child):
    done = run("audit", child.pid, "self", "--by", "file", "--only", "replaced-file,writable-and-executable")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["SEVERITY", "FINDING", "PROCESSES", "NAME", "WHO", "WHY"]
    (row,) = [line for line in lines if " replaced-file " in line]
    assert row.split()[2] == "1" and f" {child.pid} " in row
    assert run("audit", child.pid, "--by", "file", "--json").exit_code == Exit.USAGE


def test_csv_has_a_row_for_each_finding(run, child):
    for words in ((child.pid,), (child.pid, "self")):
        rows = list(csv.DictReader(io.StringIO(run("audit", *words, "--csv").stdout)))
        (row,) = [row for row in rows if row["finding"] == WX and row["pid"] == str(child.pid)]  # we may have some too
        assert row["severity"] == "high"
        assert int(row["start"]) == child.at["wx"]


def test_sarif_has_results_rules_and_what_was_not_told(run, child, tmp_path):
    done = run("audit", child.pid, "--sarif")
    assert done.exit_code == Exit.FOUND
    log = json.loads(done.stdout)
    jsonschema.validate(log, SARIF)
    (told,) = log["runs"]
    assert [rule["id"] for rule in told["tool"]["driver"]["rules"]] == [rule.id for rule in RULES]
    result = next(each for each in told["results"] if each["ruleId"] == WX)
    assert result["level"] == "error"
    assert told["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == WX
    assert result["locations"][0]["physicalLocation"]["address"]["absoluteAddress"] == child.at["wx"]
    gone = next(each for each in told["results"] if each["ruleId"] == "replaced-file")
    assert gone["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("file:///")
    file = tmp_path / "it.vmatlas"
    vmatlas.capture(child.pid).save(file)
    (told,) = json.loads(run("audit", file, "--sarif").stdout)["runs"]
    notes = told["invocations"][0]["toolExecutionNotifications"]
    assert "relro-undone" in {note["associatedRule"]["id"] for note in notes}


def test_a_name_is_no_link_and_no_placeholder_in_sarif():
    """Whoever reads the log shows `[text](address)` as a link, and takes `{0}` for an argument."""
    name = r"\[a](http://b.c){1}\\"
    file = Region(0x1000, 0x2000, Protection(7), False, path=f"/srv/{name}", kind=Kind.FILE)
    rule = RULES[0]
    finding = Finding(rule, rule.severity, (file,), f"{name} can be written")
    allowance = Policy.of({"allow": [{"user": "web", "reason": name}]}).allowances[0]
    report = AuditReport((finding,), (), (Untold(rule, name),), (Doubted(finding, allowance, name),))
    log = sarif([Audited(Whose(1, name), report)], None, Policy.preset("default"), "1")
    jsonschema.validate(log, SARIF)
    told = list(messages(log))
    assert sum(name in plain(text) for text in told) == 3  # the finding, what is not told, what is not allowed
    for text in told:
        assert not re.search(r"[][{}]", re.sub(r"\\[][\\]|{{|}}", "", text)), text


def test_a_name_of_no_characters_does_not_make_the_whole_log_unreadable():
    """Half of a pair of surrogates, which stands for a byte, is what strict readers of JSON refuse."""
    name = "\udcff\u00fc"
    file = Region(0x1000, 0x2000, Protection(7), False, path=f"/srv/{name}", kind=Kind.FILE)
    finding = Finding(RULES[0], RULES[0].severity, (file,), f"{name} can be written")
    log = sarif([Audited(Whose(1, name), AuditReport((finding,)))], None, Policy.preset("default"), "1")
    json.dumps(log, ensure_ascii=False).encode()
    assert f"{name} can be written" not in json.dumps(log)
    assert any("\\xff\u00fc can be written" in plain(text) for text in messages(log))
    assert "file:///srv/%FF%C3%BC" in json.dumps(log), "the address of the file is the file's"


def messages(log):
    """The texts in it that may hold markup."""
    for each in log.values() if isinstance(log, dict) else log if isinstance(log, list) else ():
        yield from messages(each)
    if isinstance(log, dict) and isinstance(log.get("text"), str):
        yield log["text"]


def plain(text):
    """What a reader of the log shows."""
    return re.sub(r"\\([][\\])", r"\1", text).replace("{{", "{").replace("}}", "}")


def test_sarif_keeps_what_is_allowed_as_suppressed(run, child, policy):
    allowing = policy("allow: [{rules: writable-and-executable, reason: the tests lay it out}]")
    log = json.loads(run("audit", child.pid, "self", "--policy", allowing, "--sarif").stdout)
    jsonschema.validate(log, SARIF)
    found = [each for each in log["runs"][0]["results"] if each["ruleId"] == WX]
    (result,) = [each for each in found if each["properties"]["pid"] == child.pid]
    assert result["suppressions"] == [{"kind": "external", "justification": "the tests lay it out"}]


def _of(required, **properties):
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


_TEXT, _WORDS = {"type": "string"}, _of(["text"], text={"type": "string"})
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_LOGICAL = _of([], name=_TEXT, fullyQualifiedName=_TEXT, kind=_TEXT)
_ADDRESS = _of([], absoluteAddress={"type": "integer", "minimum": -1}, length={"type": "integer"}, name=_TEXT)
_PHYSICAL = _of(["address"], address=_ADDRESS, artifactLocation=_of(["uri"], uri={"type": "string", "format": "uri"}))
_RULE = _of(
    ["id"],
    id=_TEXT,
    shortDescription=_WORDS,
    fullDescription=_WORDS,
    help=_WORDS,
    defaultConfiguration=_of([], enabled={"type": "boolean"}, level=_LEVEL),
    properties={"type": "object"},
)
_RESULT = _of(
    ["message"],
    ruleId=_TEXT,
    ruleIndex={"type": "integer", "minimum": -1},
    level=_LEVEL,
    message=_WORDS,
    partialFingerprints={"type": "object", "additionalProperties": _TEXT},
    properties={"type": "object"},
    suppressions={
        "type": "array",
        "items": _of(["kind"], kind={"enum": ["inSource", "external"]}, justification=_TEXT),
    },
    locations={"type": "array", "items": _of([], physicalLocation=_PHYSICAL, logicalLocations={"items": _LOGICAL})},
)
_NOTE = _of(["message"], level=_LEVEL, message=_WORDS, associatedRule=_of([], id=_TEXT, index={"type": "integer"}))
_RUN = _of(
    ["tool"],
    tool=_of(["driver"], driver=_of(["name"], name=_TEXT, version=_TEXT, rules={"type": "array", "items": _RULE})),
    invocations={
        "type": "array",
        "items": _of(
            ["executionSuccessful"],
            executionSuccessful={"type": "boolean"},
            toolExecutionNotifications={"type": "array", "items": _NOTE},
        ),
    },
    results={"type": "array", "items": _RESULT},
)
SARIF = _of(
    ["version", "runs"],
    **{"$schema": _TEXT},
    version={"const": "2.1.0"},
    runs={"type": "array", "minItems": 1, "items": _RUN},
)
"""SARIF 2.1.0, sections 3.13 to 3.58, as far as we write it; the whole schema of OASIS is run by hand."""


def test_rules_are_listed_by_the_policy_and_explained(run):
    lines = run("audit", "--rules").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == [rule.id for rule in RULES]
    assert next(line for line in lines if line.startswith("unknown-code")).split()[1] == "off"
    strict = run("audit", "--rules", "--policy", "strict").stdout
    assert next(line for line in strict.splitlines() if line.startswith("unknown-code")).split()[1] == "medium"
    told = run("audit", "--explain", "dual-mapping").stdout
    assert "Honest cause: " in told and "What to do: " in told
    assert run("audit", "--explain", "dual").exit_code == Exit.USAGE


def test_watching_says_once_which_rule_cannot_speak_and_ends_so(run, child, monkeypatch):
    monkeypatch.setattr(vmatlas.Process, "evidence", lambda self: Evidence())
    words = ["audit", child.pid, "--only", "changed-code", "--watch", "--interval", "0.05", "--for", "0.5"]
    done = run(*words, "--json")
    assert (done.exit_code, done.stderr.count("changed-code")) == (Exit.INCOMPLETE, 1)
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["pid"], each["finding"]) for each in line["untold"]] == [(child.pid, "changed-code")]
    assert run(*words[:3], f"changed-code,{WX}", *words[4:]).exit_code == Exit.FOUND


def test_watching_tells_a_finding_once(run, child):
    done = run("audit", child.pid, "--only", WX, "--watch", "--interval", "0.05", "--for", "0.5", "--json")
    assert done.exit_code == Exit.FOUND
    (line,) = done.stdout.splitlines()
    assert [each["finding"] for each in json.loads(line)["findings"]] == [WX]
    done = run("audit", child.pid, "--only", WX, "--watch", "--interval", "0.05", "--for", "0.2")
    assert done.stdout.count(WX) == 1


@pytest.mark.parametrize(
    "words",
    [
        ("--json", "--csv"),
        ("--csv", "--sarif"),
        ("--for", "1"),
        ("--watch", "--csv"),
        ("--watch", "--sarif"),
        ("--watch", "--interval", "0"),
        ("--watch", "--interval", "nan"),
        ("--watch", "--for", "-1"),
        ("--fail-on", "grave"),
        ("--by", "pid"),
    ],
)
def test_what_does_not_go_together_is_refused(run, words):
    done = run("audit", "self", *words)
    assert (done.exit_code, done.stdout) == (Exit.USAGE, "")


def test_a_file_is_not_watched(run, child, tmp_path):
    file = tmp_path / "it.vmatlas"
    vmatlas.capture(child.pid).save(file)
    assert run("audit", file, "--watch").exit_code == Exit.USAGE


def test_names_of_others_are_no_markup_and_no_rows_in_any_form(run, start_named):
    """A process chooses its name and its files'."""
    pid, path = start_named("x[red]\x1b[31m\n,\"';=1")
    for form in ((), ("--by", "file"), ("--csv",), ("--json",), ("--sarif",)):
        done = run("audit", pid, *form, "--only", "deleted-file")
        if "--csv" in form:  # bytes as they are, where that is no terminal
            (row,) = csv.DictReader(io.StringIO(done.stdout, newline=""))
            assert row["name"] == str(path)
            continue
        assert "\x1b" not in done.stdout
        if form in ((), ("--by", "file")):
            assert len(done.stdout.splitlines()) == 2
        if "--sarif" in form:
            (result,) = json.loads(done.stdout)["runs"][0]["results"]
            assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].isascii()


@pytest.fixture
def start_named(tmp_path):
    """A process with a mapped, unlinked file of a name, in executable memory."""
    import subprocess
    import sys

    started = []

    def start(name):
        path = tmp_path / name
        path.write_bytes(b"\xc3" * os.sysconf("SC_PAGESIZE"))
        script = (
            "import mmap, os, sys; file = open(sys.argv[1], 'rb'); "
            "mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE, 5); os.unlink(sys.argv[1]); "
            "print('ready', flush=True); sys.stdin.read()"
        )
        process = subprocess.Popen(
            [sys.executable, "-c", script, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        assert process.stdout.readline() == "ready\n"
        return process.pid, path

    yield start
    for process in started:
        process.kill()
        process.communicate()
