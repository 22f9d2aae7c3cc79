"""A distribution outside of this repository adds a system: agent, what is built for it, source, backend, machine.

It is a stand-in (tests/foreign): what it proves are the entry points, and nothing about another kernel.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE

pytestmark = [pytest.mark.timeout(4 * PATIENCE), pytest.mark.slow]
ROOT = Path(__file__).parents[1]
BUILDS = """
import sys
from pathlib import Path
from dataclasses import replace
from vmatlas_agents import target_for
from vmatlas_agents.build import build, host_compiler
target = replace(target_for("standin", "x86_64"), flags=(), musl="")
print(build(target, host_compiler("cc"), output=Path(sys.argv[1]), flags=("-O0",))[0])
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed it, from a copy, beside what this Python has."""
    place = tmp_path_factory.mktemp("foreign")
    shutil.copytree(ROOT / "tests" / "foreign", place / "source")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*pip, "--no-build-isolation", "--target", place / "site", place / "source"],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return place / "site"


def run(site: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        env={**os.environ, "PYTHONPATH": str(site), **environment},
    )


def test_its_target_is_listed_among_ours_and_its_machine_too(site: Path) -> None:
    listed = run(site, "-m", "vmatlas_agents.build", "--list").stdout.splitlines()
    assert any(line.startswith("x86_64-standin ") for line in listed)
    assert any(line.startswith("x86_64-linux-musl ") for line in listed)
    assert "x86_64-standin" not in run(ROOT / "nowhere", "-m", "vmatlas_agents.build", "--list").stdout
    found = run(site, "-c", "from vmatlas_images import find; print(find('standin').system, find('linux-6.12').system)")
    assert found.stdout == "standin linux\n"


@pytest.mark.skipif(platform.machine() != "x86_64" or not shutil.which("cc"), reason="it is built by cc for x86-64")
def test_its_agent_is_built_and_asked_by_its_backend(site: Path, tmp_path: Path) -> None:
    built = run(site, "-c", BUILDS, str(tmp_path))
    assert built.returncode == 0, built.stderr
    agent = f"agent:{built.stdout.strip()}"
    # Its kernel is called Linux by uname: who uses it says whose agent answers.
    own = {"VMATLAS_ALIASES": "linux=standin"}
    told = run(site, "-m", "vmatlas", "maps", "self", "--target", agent, "--json", **own)
    assert told.returncode == 0, told.stderr
    space = json.loads(told.stdout)
    assert (space["system"]["system"], space["backend"]) == ("standin", "standin-map")
    assert len(space["regions"]) > 3
    assert any(region["protection"] == "r-x" for region in space["regions"])


def test_what_is_no_part_of_an_agent_is_named_and_ours_are_built_all_the_same(site: Path, tmp_path: Path) -> None:
    shutil.copytree(site, tmp_path / "site")
    (tmp_path / "site" / "vmatlas_standin" / "agent.py").write_text("AGENT = 'nothing'\n")
    listed = run(tmp_path / "site", "-m", "vmatlas_agents.build", "--list")
    assert "standin of vmatlas.agent_systems gives vmatlas_standin.agent:AGENT" in listed.stderr
    assert "which is no AgentSystem" in listed.stderr
    assert "x86_64-linux-musl" in listed.stdout
    assert vmatlas.snapshot()
