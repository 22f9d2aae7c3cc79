"""What others made is pinned by its digest, ours carries its notices, and workflows give nobody more than it takes."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re
import runpy
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LOCKS = [
    ROOT / "tests" / "requirements.lock",
    *(ROOT / "ci" / f"{name}.lock" for name in ("tools", "site", "engines", "objects")),
]
PROJECTS = [folder / "pyproject.toml" for folder in runpy.run_path(str(ROOT / "ci" / "lock.py"))["distributions"]()]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
LICENCES = ROOT / "core" / "agent" / "licenses"

FOR_PULL_REQUESTS = (
    r"\$\{\{ github\.event_name == 'pull_request' && '(?![^']*privileged)[^']*' \|\| '--privileged' \}\}"
)
"""Rights that the code of a pull request does not have."""

FLOORS = {"setuptools": "78.1.1", "jinja2": "3.1.6", "pyarrow": "14.0.1"}
"""The oldest releases without a hole that is known: CVE-2025-47273, CVE-2025-27516, CVE-2023-47248."""


def entries(lock: Path) -> Iterator[tuple[str, list[str]]]:
    """What a lock asks for, and the digests of its files."""
    for entry in re.split(r"\n(?=[^ #])", lock.read_text("utf-8"))[1:]:
        wanted, *lines = entry.replace("\\\n", "\n").splitlines()
        yield wanted.strip(), [line.strip() for line in lines]


def requirements() -> Iterator[str]:
    for project in PROJECTS:
        told = tomllib.loads(project.read_text("utf-8"))
        yield from [*told["build-system"]["requires"], *told["project"]["dependencies"]]
        for extra in told["project"].get("optional-dependencies", {}).values():
            yield from extra
    yield from wanted_by_hand()


def wanted_by_hand() -> list[str]:
    lines = [line.partition("#")[0].strip() for line in (ROOT / "tests" / "requirements.txt").read_text().splitlines()]
    return [line for line in lines if line]


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_a_lock_has_versions_and_digests_and_no_index(lock: Path) -> None:
    found = dict(entries(lock))
    assert len(found) > 20
    for wanted, digests in found.items():
        assert re.fullmatch(r"[a-z0-9.-]+==[A-Za-z0-9.+]+( ; .+)?", wanted)
        assert digests
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", digest) for digest in digests)
    assert "://" not in lock.read_text("utf-8")


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_lock_has_all_that_is_asked_for_on_each_python_and_processor(python: str, machine: str) -> None:
    there = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    there |= {"platform_machine": machine, "sys_platform": "linux", "os_name": "posix", "extra": ""}
    pinned: dict[str, list[str]] = {}
    for wanted, _ in entries(LOCKS[0]):
        requirement = Requirement(wanted)
        if requirement.marker is None or requirement.marker.evaluate(there):
            pinned.setdefault(canonicalize_name(requirement.name), []).append(str(requirement.specifier)[2:])
    assert {name: versions for name, versions in pinned.items() if len(versions) != 1} == {}
    lock = runpy.run_path(str(ROOT / "ci" / "lock.py"))
    for asked in map(Requirement, [*lock["needs"](), *wanted_by_hand()]):
        if asked.marker is not None and not asked.marker.evaluate(there):
            continue
        (version,) = pinned[canonicalize_name(asked.name)]
        assert asked.specifier.contains(version), f"{asked}: the lock is older (invoke lock makes it anew)"


def test_what_is_installed_here_is_what_the_lock_says() -> None:
    here = [Requirement(wanted) for wanted, _ in entries(LOCKS[0])]
    here = [each for each in here if each.marker is None or each.marker.evaluate()]
    if importlib.util.find_spec("ziglang") is None or importlib.util.find_spec("invoke") is None:
        pytest.skip("this is not the environment of ./run")
    found = {each.name: importlib.metadata.version(each.name) for each in here}
    assert {name: version for name, version in found.items() if f"{name}=={version}" not in map(bare, here)} == {}


def bare(requirement: Requirement) -> str:
    return f"{requirement.name}{requirement.specifier}"


def test_no_floor_lets_a_version_in_that_is_known_to_be_bad() -> None:
    asked = [Requirement(text) for text in requirements()]
    for requirement in asked:
        floor = FLOORS.get(canonicalize_name(requirement.name))
        if floor is not None:
            assert [each.version for each in requirement.specifier if each.operator == ">="] == [floor]
    assert {canonicalize_name(each.name) for each in asked} >= set(FLOORS)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda path: path.parent.name)
def test_each_distribution_names_its_licence_and_the_files_with_it(project: Path) -> None:
    told = tomllib.loads(project.read_text("utf-8"))["project"]
    assert told["license"].split(" AND ")[0] == "MIT"
    assert told["license-files"][0] == "LICENSE"
    for pattern in told["license-files"]:
        assert list(project.parent.glob(pattern))


def test_the_agents_carry_the_notices_of_what_is_linked_into_them() -> None:
    assert "licenses/*" in tomllib.loads((ROOT / "core/agent/pyproject.toml").read_text())["project"]["license-files"]
    found = importlib.util.find_spec("ziglang")
    if found is None or not found.submodule_search_locations:
        pytest.skip("ziglang, whose copies they are, is not installed")
    ziglang = Path(next(iter(found.submodule_search_locations)))
    copies = {"musl": "lib/libc/musl/COPYRIGHT", "freebsd": "lib/libc/freebsd/COPYRIGHT", "zig": "LICENSE"}
    for file, source in copies.items():
        assert (LICENCES / f"{file}.txt").read_bytes() == (ziglang / source).read_bytes(), file
    table = (LICENCES / "README.md").read_text()
    assert {path.name for path in LICENCES.glob("*.txt")} == set(re.findall(r"^\| `(.+?)` \|", table, re.M))


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_has_actions_by_digest_and_no_more_rights_than_it_takes(workflow: Path) -> None:
    text = workflow.read_text("utf-8")
    told = yaml.safe_load(text)
    assert told["permissions"] == {"contents": "read"}
    assert re.findall(r"uses: (?!\S+@[0-9a-f]{40} +# v\d)\S+", text) == []
    assert "pull_request_target" not in text
    for job in told["jobs"].values():
        options = str(job.get("container", {}).get("options", ""))
        assert "--privileged" not in options or re.fullmatch(FOR_PULL_REQUESTS, options)
        for step in job["steps"]:
            if "checkout" in step.get("uses", ""):
                assert step["with"]["persist-credentials"] is False
