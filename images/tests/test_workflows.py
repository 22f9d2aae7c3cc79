"""What continuous integration is told to run exists: tasks, their options, sets of machines, scripts."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from invoke.collection import Collection
from invoke.exceptions import ParseError
from invoke.loader import FilesystemLoader
from invoke.parser import Parser

from vmatlas.conformance.patience import PATIENCE

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SETS = set(yaml.safe_load((ROOT / "ci" / "sets.yaml").read_text("utf-8")))
SCRIPT = ROOT / ".ci" / "run"
EVENTS = {"pull_request", "push", "schedule"}


def tasks() -> Parser:
    module, _ = FilesystemLoader(start=str(ROOT)).load("tasks")
    return Parser(contexts=Collection.from_module(module).to_contexts(), ignore_unknown=False)


def invocations(text: str) -> list[list[str]]:
    """The words after each `./run invoke` of a script."""
    lines = re.findall(r"^\s*(?:[^#\n]*?)\./run invoke ([^|&;\n]+)$", text.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def commands() -> list[tuple[str, list[str]]]:
    found = [(SCRIPT.name, words) for words in invocations(SCRIPT.read_text("utf-8"))]
    for path in WORKFLOWS:
        for job in yaml.safe_load(path.read_text("utf-8"))["jobs"].values():
            for step in job["steps"]:
                found += [(path.name, words) for words in invocations(step.get("run", ""))]
    return found


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_one_by_its_published_schema(path: Path) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("where", "words"), commands(), ids=lambda each: each if isinstance(each, str) else each[0])
def test_a_command_is_a_task_with_these_options(where: str, words: list[str]) -> None:
    [context] = tasks().parse_argv(words)
    assert context.name == words[0]


def test_a_task_or_an_option_that_is_none_would_be_noticed() -> None:
    for words in (["test-all-platform"], ["test-all-platforms", "--sets", "nightly"], ["test", "--machines-only"]):
        with pytest.raises(ParseError):
            tasks().parse_argv(words)
    assert {"test-as-user", "test-all-platforms"} <= {words[0] for where, words in commands() if where == SCRIPT.name}


def test_a_number_that_is_none_is_one_line(tmp_path: Path) -> None:
    for words in (
        ["test-all-platforms", "--jobs", "abc"],
        ["test-all-platforms", "--jobs", "1.5"],
        ["fuzz", "--minutes", "x"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "invoke", *words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert done.returncode == 2
        assert re.fullmatch(rf"{words[1]} {words[2]}: a (whole )?number is needed\n", done.stderr)


def test_no_task_leaves_a_number_to_invoke_which_shows_a_traceback_for_one_that_is_none() -> None:
    for context in tasks().contexts.values():
        assert {argument.kind for argument in context.args.values()} <= {str, bool}, context.name


def words_of(expression: str) -> set[str]:
    """The texts that an expression of a workflow may come to."""
    return set(re.findall(r"(?:&&|\|\|)\s*'([^']+)'", expression))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_every_set_that_is_named_is_one_of_ours(path: Path) -> None:
    workflow: dict[Any, Any] = yaml.safe_load(path.read_text("utf-8"))
    events = workflow[True]  # `on` is a yes in YAML 1.1
    assert set(events) >= EVENTS
    assert set(events["workflow_dispatch"]["inputs"]["set"]["options"]) == SETS - {"default"}
    assert events["workflow_dispatch"]["inputs"]["set"]["default"] in SETS
    [job] = workflow["jobs"].values()
    assert words_of(job["env"]["SET"]) == SETS - {"default"}
    assert set(re.findall(r"github\.event_name == '(\w+)'", job["env"]["SET"])) <= EVENTS
    assert words_of(job["env"]["REQUIRED"]) == {"linux", "linux,freebsd", "linux-*,freebsd"}
    assert any(step.get("run") == '.ci/run "$SET" "$REQUIRED"' for step in job["steps"])


def test_the_script_uses_a_set_of_ours_when_none_is_named() -> None:
    text = SCRIPT.read_text("utf-8")
    [default] = re.findall(r"^set=\$\{1:-(\S+)\}$", text, re.MULTILINE)
    assert default in SETS
    assert SCRIPT.stat().st_mode & 0o111
    assert subprocess.run(["bash", "-n", SCRIPT], check=False, timeout=PATIENCE).returncode == 0
