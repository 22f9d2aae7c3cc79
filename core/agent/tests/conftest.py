"""Agents to test: the one that is shipped, and the same sources under the sanitizers; each test has both."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import Agent, Limits
from vmatlas.target.streams import ChildStream
from vmatlas_agents import target_for
from vmatlas_agents.build import BuildFailed, build, host_compiler, host_target, ziglang

SANITIZERS = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g", "-O1", "-fno-omit-frame-pointer")


@pytest.fixture(scope="session")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The agent for this machine: by ziglang where that is installed, by the host's compiler otherwise."""
    try:
        target = target_for("Linux", os.uname().machine)
        return build(target, ziglang(target))[0]
    except (BuildFailed, LookupError):
        return build(host_target(), host_compiler("cc"), output=tmp_path_factory.mktemp("built"))[0]


@pytest.fixture(scope="session")
def sanitized(once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The agent under the address and undefined-behaviour sanitizers."""

    def make(folder: Path) -> None:
        build(host_target(), host_compiler("cc"), output=folder, flags=SANITIZERS, check_size=False)

    return once("sanitized", make) / host_target().file


@pytest.fixture(params=["shipped", "sanitized"])
def binary(request: pytest.FixtureRequest) -> Path:
    """An agent to run."""
    os.environ["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1"  # the leak check needs ptrace
    chosen: Path = request.getfixturevalue(request.param)
    return chosen


@pytest.fixture
def start(binary: Path) -> Iterator[Callable[..., Agent]]:
    """Starts agents on the stdio of a child; ends them after the test."""
    started: list[Agent] = []

    def begin(program: Path = binary, limits: Limits | None = None) -> Agent:
        agent = Agent(ChildStream([str(program)]), "agent:test", limits)
        started.append(agent)
        return agent

    yield begin
    for agent in started:
        agent.close()


@pytest.fixture
def agent(start: Callable[..., Agent]) -> Agent:
    """One agent on the stdio of a child."""
    return start()


@pytest.fixture
def ignored_by_a_program(tmp_path: Path) -> Callable[[Agent], set[int]]:
    """Which signals a program that `spawn` runs ignores from its first instruction on, as the kernel tells."""

    def ask(agent: Agent) -> set[int]:
        told, script = tmp_path / "told", tmp_path / "script"
        script.write_text(f"#!/bin/sh\ngrep ^SigIgn: /proc/$$/status >'{told}.part' && mv '{told}.part' '{told}'\n")
        script.chmod(0o755)
        agent.spawn(bytes(script))
        until = time.monotonic() + PATIENCE
        while not told.exists():
            assert time.monotonic() < until, "the program did not run"
            time.sleep(0.01)
        mask = int(told.read_text().split()[1], 16)
        return {number for number in range(1, 65) if mask >> number - 1 & 1}

    return ask
