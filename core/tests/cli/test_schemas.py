"""What `--json` gives is what `vmatlas schema` says of it: no less, and no key more."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from vmatlas.cli.exits import Exit
from vmatlas.cli.schema import COMMANDS, schema_of
from vmatlas.conformance.patience import PATIENCE

ASKED = {
    "maps": [("PID", "self"), ("PID",), ("PID", "--residency", "--gaps"), ("self", "--build-ids"), ("PID", "--names")],
    "replay": [("FILE",), ("SERIES", "--moments")],
    "growth": [
        ("SERIES",),
        ("SERIES", "SERIES"),
        ("PID", "self", "--every", "0.05", "--for", "0.1"),
        ("PID", "--every", "0.05", "--for", "0.5"),
    ],
    "find": [("PID", "0"), ("PID", "0", "--or-next"), ("PID", "0", "--neighbours"), ("PID", "self", "0")],
    "pages": [("PID",), ("PID", "--state", "present"), ("self", "--where", "stack")],
    "numa": [("PID",), ("self", "--where", "stack")],
    "written": [("PID", "--during", "0", "--force")],
    "working-set": [("PID", "--during", "0", "--force")],
    "summary": [
        ("PID",),
        ("PID", "--residency"),
        ("PID", "--by", "name"),
        ("--all",),
        ("--all", "--by", "name"),
        ("PID", "self", "--by", "cgroup"),
        ("PID", "self", "--uses"),
        ("--all", "--uses"),
    ],
    "diff": [
        ("FILE", "PID"),
        ("FILE", "PID", "--by", "kind"),
        ("PID", "--after", "0", "--by", "name"),
        ("PID", "self", "--after", "0"),
    ],
    "audit": [("PID", "self"), ("PID",), ("FILE",), ("--all",)],
    "explain": [("PID",), ("FILE",)],
    "advise": [("PID", "self", "--cold", "--dry-run"), ("PID", "--cold"), ("self", "--cold", "--dry-run")],
    "processes": [()],
    "doctor": [()],
}
"""By command: what it is asked."""


def strict(schema: dict[str, Any]) -> dict[str, Any]:
    """The same, but no object may have a key that it does not name: newer versions may add some, this one does not."""
    named = schema["$defs"]

    def part(node: Any) -> dict[str, Any]:
        """One of several that an object is put together from: the whole of them is closed, not each."""
        whole: dict[str, Any] = closed(named[node["$ref"].rpartition("/")[2]] if "$ref" in node else node)
        return {key: value for key, value in whole.items() if key != "unevaluatedProperties"}

    def closed(node: Any) -> Any:
        if isinstance(node, list):
            return [closed(each) for each in node]
        if not isinstance(node, dict):
            return node
        made = {key: closed(value) for key, value in node.items() if key not in ("allOf", "properties")}
        if "properties" in node:
            made["properties"] = {key: closed(value) for key, value in node["properties"].items()}
        if "allOf" in node:
            made["allOf"] = [part(each) for each in node["allOf"]]
        if "properties" in node or "allOf" in node:
            made["unevaluatedProperties"] = False
        return made

    own = {key: value for key, value in schema.items() if key != "$defs"}
    return {**closed(own), "$defs": {name: closed(value) for name, value in named.items()}}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_schema_is_one_and_stands_by_itself(run, command):
    told = json.loads(run("schema", command).stdout)
    assert told == schema_of(command)
    Draft202012Validator.check_schema(told)
    Draft202012Validator.check_schema(strict(told))


@pytest.mark.parametrize(
    ("command", "asked"), [(command, asked) for command, several in ASKED.items() for asked in several]
)
def test_json_is_what_its_schema_says(run, child, tmp_path, command, asked):
    file = tmp_path / "before.vmatlas"
    if "FILE" in asked:
        run("record", child.pid, "-o", file)
        child.grow()
    series = tmp_path / "series.vmatlas"
    if "SERIES" in asked:
        run("record", child.pid, "--every", "0.05", "--for", "0.5", "-o", series)
    words = [{"SERIES": series, "PID": child.pid, "FILE": file}.get(word, word) for word in asked]
    result = run(command, *words, "--json")
    if command == "advise" and result.exit_code == Exit.ACCESS_DENIED and os.geteuid():
        pytest.skip("advising another process takes CAP_SYS_NICE, which this user has not")
    if command in ("numa", "written", "working-set") and result.exit_code == Exit.UNSUPPORTED:
        pytest.skip(f"not told by this kernel: {result.stderr.strip()}")
    told = json.loads(result.stdout)
    wrong = [
        f"{'/'.join(map(str, error.absolute_path))}: {error.message:.300}"
        for error in Draft202012Validator(strict(schema_of(command))).iter_errors(told)
    ]
    assert not wrong


def test_what_the_schemas_leave_out_would_be_seen():
    schema = strict(schema_of("maps"))
    region = {"start": 0, "end": 4096}
    [wrong] = Draft202012Validator(schema).iter_errors({"regions": [region]})
    messages = " ".join(error.message for error in wrong.context)
    assert "'pid' is a required property" in messages
    assert "'protection' is a required property" in messages
    assert any(
        "news" in error.message for error in Draft202012Validator(strict(schema_of("doctor"))).iter_errors({"news": 1})
    )


def test_watch_gives_an_object_of_its_schema_in_a_line(start, child):
    watching = start("watch", child.pid, "--interval", "0.05", "--count", "1", "--for", PATIENCE, "--json")
    while watching.poll() is None:  # its first look may come late
        child.grow()
        time.sleep(0.1)
    (line,) = watching.communicate()[0].splitlines()
    assert not list(Draft202012Validator(strict(schema_of("watch"))).iter_errors(json.loads(line)))
