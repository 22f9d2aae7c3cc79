"""Building agents: what is built is found again, is not built twice, and stays small."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

import vmatlas_agents
from vmatlas.conformance.patience import PATIENCE
from vmatlas_agents import AgentMissing
from vmatlas_agents import build as building
from vmatlas_agents.build import BuildFailed, build, host_compiler, host_target, main, plugin_sources, ziglang
from vmatlas_agents.targets import TARGETS, Target

AGENT = Path(__file__).parents[1]


PRETENDER = """#!/bin/sh
[ "$1" != --version ] || { echo pretender 1; exit; }
while [ "$1" != -o ]; do shift; done
echo pretended >"$2"
"""


@pytest.fixture
def pretender(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A compiler that makes something at once, for what is not about what is made."""
    made = tmp_path_factory.mktemp("compiler") / "cc"
    made.write_text(PRETENDER)
    made.chmod(0o755)
    return str(made)


@pytest.fixture(scope="session")
def built_once(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """A folder with the host's agent, for all tests that need one to begin with."""
    return once("host", lambda folder: build(host_target(), host_compiler("cc"), output=folder))


@pytest.fixture
def agent(built_once: Path, tmp_path: Path) -> Path:
    """The host's agent as it was built, alone in the test's own folder with what tells what it was built from."""
    shutil.copytree(built_once, tmp_path, dirs_exist_ok=True)
    return tmp_path / host_target().file


@pytest.mark.slow
def test_a_second_build_costs_nothing_and_gives_the_same_file(agent: Path, tmp_path: Path) -> None:
    first = agent
    before = first.stat().st_mtime_ns, first.read_bytes()
    second, compiled = build(host_target(), host_compiler("cc"), output=tmp_path)
    assert (second, compiled, (second.stat().st_mtime_ns, second.read_bytes())) == (first, False, before)
    assert sorted(os.listdir(tmp_path)) == [first.name, f"{first.name}.digests"], "nothing else is left"


@pytest.mark.slow
def test_the_same_sources_give_the_same_bytes_in_any_folder(agent: Path, tmp_path: Path) -> None:
    again, compiled = build(host_target(), host_compiler("cc"), output=tmp_path / "another")
    assert compiled and again.read_bytes() == agent.read_bytes()


def test_an_agent_that_was_changed_is_built_again(tmp_path: Path, pretender: str) -> None:
    agent, _ = build(host_target(), host_compiler(pretender), output=tmp_path)
    whole = agent.read_bytes()
    agent.write_bytes(whole[:5])
    assert build(host_target(), host_compiler(pretender), output=tmp_path)[1]
    assert agent.read_bytes() == whole


def test_other_flags_are_another_build(tmp_path: Path, pretender: str) -> None:
    compiler = host_compiler(pretender)
    assert build(host_target(), compiler, output=tmp_path)[1]
    assert not build(host_target(), compiler, output=tmp_path)[1]
    assert build(host_target(), compiler, output=tmp_path, flags=(*building.SMALL, "-DNOTHING"))[1]


def test_a_failed_build_leaves_the_old_agent(agent: Path, tmp_path: Path) -> None:
    whole = agent.read_bytes()
    with pytest.raises(BuildFailed, match="no-such-option"):
        build(host_target(), host_compiler("cc"), output=tmp_path, flags=("--no-such-option",))
    assert agent.read_bytes() == whole
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".building")]


def test_what_a_killed_build_left_is_removed_and_a_build_that_lives_is_not(tmp_path: Path, pretender: str) -> None:
    left, living = tmp_path / ".building-left", tmp_path / ".building-living"
    for folder in (left, living):
        (folder / "sources").mkdir(parents=True)
    os.utime(left, (0, 0))
    build(host_target(), host_compiler(pretender), output=tmp_path)
    assert (left.exists(), living.exists()) == (False, True)


def test_an_agent_that_grew_beyond_its_bound_is_refused(tmp_path: Path, pretender: str) -> None:
    with pytest.raises(BuildFailed, match="the bound is 5"):
        build(replace(host_target(), largest=5), host_compiler(pretender), output=tmp_path)
    assert os.listdir(tmp_path) == []


def test_the_shipped_agent_is_static_stripped_and_below_100_kb(tmp_path: Path) -> None:
    target = vmatlas_agents.target_for("Linux", "x86_64")
    try:
        agent, _ = build(target, ziglang(target))
    except BuildFailed as error:
        pytest.skip(str(error))
    image = agent.read_bytes()
    assert image[:4] == b"\x7fELF" and len(image) < 100_000
    told = subprocess.run(
        ["readelf", "-lSW", agent], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout
    assert "INTERP" not in told and ".symtab" not in told and ".debug" not in told
    assert str(Path(__file__).parents[1]).encode() not in image, "no path of the builder in it"


def test_an_agent_for_linux_is_built_of_a_part_of_musl_and_of_all_where_a_plugin_needs_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = vmatlas_agents.target_for("Linux", "x86_64")
    try:
        compiler = ziglang(target)
    except BuildFailed as error:
        pytest.skip(str(error))
    musl = [each for each in TARGETS if each.musl]
    assert {each.system for each in TARGETS if each not in musl} == {"freebsd", "netbsd", "qnx"}
    assert all(building._musl_of(each) for each in musl), "this ziglang lacks files that MUSL_FILES names"
    whole: list[Path] = []

    def compile_whole(compiler: object, arguments: object, inputs: object, made: Path) -> None:
        whole.append(made)
        made.write_bytes(b"whole")

    monkeypatch.setattr(building, "_compile", compile_whole)
    build(target, compiler, output=tmp_path / "part")
    assert whole == []
    lacking = {folder: names for folder, names in building.MUSL_FILES.items() if folder != "select"}
    monkeypatch.setattr(building, "MUSL_FILES", lacking)
    build(target, compiler, output=tmp_path / "whole")
    assert len(whole) == 1
    monkeypatch.setattr(building, "MUSL_FILES", lacking | {"select": "no-such-file"})
    build(target, compiler, output=tmp_path / "other")
    assert len(whole) == 2


def test_every_plugins_sources_are_in_the_agent() -> None:
    names = {name for plugin in plugin_sources("linux") for name in plugin.names}
    assert {"linux.maps", "linux.smaps", "linux.procmap_query"} <= names
    assert plugin_sources("plan9") == []


def test_an_agent_that_is_not_built_names_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(vmatlas_agents, "BUILT", tmp_path)
    with pytest.raises(AgentMissing, match=r"python -m vmatlas_agents\.build --target aarch64-linux-musl"):
        vmatlas_agents.path("Linux", "arm64")


def test_a_machine_that_no_agent_is_for_is_said() -> None:
    with pytest.raises(AgentMissing, match="there is no agent for VMS on vax; there are agents for: linux x86_64"):
        vmatlas_agents.path("VMS", "vax")


def test_each_target_has_a_file_of_its_own() -> None:
    assert len({target.file for target in TARGETS}) == len({target.name for target in TARGETS}) == len(TARGETS)


def wheel_with(targets: Sequence[Target], folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Make a wheel of a copy of the distribution in which the agents of these targets are built."""
    tree = folder / "agent"
    shutil.copytree(AGENT, tree, ignore=shutil.ignore_patterns("built", "tests", "fuzz", "build", "*.egg-info"))
    built = tree / "src" / "vmatlas_agents" / "built"
    built.mkdir()
    for target in targets:
        (built / target.file).write_text(target.name)
    command = [sys.executable, "-m", "pip", "wheel", *options, "--no-deps", "--no-build-isolation", "-w", folder, tree]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.slow
def test_a_wheel_holds_the_agents_of_all_targets_that_are_built(tmp_path: Path) -> None:
    done = wheel_with(TARGETS, tmp_path, "-v")
    assert done.returncode == 0, done.stderr
    assert "not built" not in done.stdout
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        for target in TARGETS:
            assert held.read(f"vmatlas_agents/built/{target.file}").decode() == target.name


def test_a_wheel_without_any_agent_is_not_made(tmp_path: Path) -> None:
    done = wheel_with([], tmp_path, "-q")
    assert done.returncode != 0
    (said,) = (line for line in done.stderr.splitlines() if "vmatlas-agents: no agent is built" in line)
    assert "python -m vmatlas_agents.build --all" in said
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.glob("*.whl"))


def test_a_wheel_with_some_agents_says_which_are_not_built(tmp_path: Path) -> None:
    done = wheel_with(TARGETS[:1], tmp_path, "-v")
    assert done.returncode == 0, done.stderr
    others = ", ".join(target.name for target in TARGETS[1:])
    assert f"this wheel has 1 of {len(TARGETS)} agents; not built: {others}" in done.stdout + done.stderr


def test_the_command_builds_and_says_so(tmp_path: Path, pretender: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--cc", pretender, "--output", str(tmp_path)]) == 0
    assert ": built, " in capsys.readouterr().out
    assert main(["--cc", pretender, "--output", str(tmp_path)]) == 0
    assert ": unchanged, " in capsys.readouterr().out
    assert main(["--list", "--output", str(tmp_path)]) == 0
    assert "s390x-linux-musl         linux s390x: not built" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [["--target", "vax"], ["--cc", "cc", "--all"]])
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_missing_compiler_is_one_line_and_1(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "vmatlas_agents.build", "--cc", "no-such-cc", "--output", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "no compiler 'no-such-cc' in PATH" in done.stderr
