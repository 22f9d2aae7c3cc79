"""Where a machine's agent comes from: the distribution `vmatlas-agents`, which builds it when it is first wanted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path

import vmatlas_agents
from vmatlas_agents import build as building
from vmatlas_agents.targets import Target

from ..errors import NotRunnable
from ..fetch import guarded

FindAgent = Callable[[str, str], Path]
"""Gives the built agent of a system and a processor."""

_UNAME = {"armhf": "armv7l", "ppc64el": "ppc64le", "loong64": "loongarch64"}
"""Processors whose name in uname(2) is not the one in a description."""
_one_build = threading.Lock()


def built_agent(system: str, processor: str) -> Path:
    """The agent for a machine; it is built first when it was not (half a minute), or when its sources have changed.

    Raises `NotRunnable` when there is none for that machine, or none built and no way to build it here.
    """
    with _one_build:
        found = _at_hand(system, processor)
        target = vmatlas_agents.target_for(system, _uname(processor))
        if found is not None and not _can_be_built(target):
            return found
        command = [sys.executable, "-P", "-m", "vmatlas_agents.build", "--target", target.name]
        status, said = guarded.run([*command, "--output", vmatlas_agents.BUILT], building.SECONDS + 30)
        if status != 0:
            raise NotRunnable(f"the agent {target.name} was not built: {said.strip()[-500:]}")
        return vmatlas_agents.path(system, _uname(processor))


def agent_is_built(system: str, processor: str) -> bool:
    """Whether the agent stands already; builds nothing. Raises `NotRunnable` when it cannot be had here."""
    return _at_hand(system, processor) is not None


def _at_hand(system: str, processor: str) -> Path | None:
    """The built agent, or None when it can be built. Raises `NotRunnable`."""
    try:
        target = vmatlas_agents.target_for(system, _uname(processor))
    except vmatlas_agents.AgentMissing as error:
        raise NotRunnable(str(error)) from error
    found = vmatlas_agents.BUILT / target.file
    if found.is_file():
        return found
    try:
        building.compiler_for(target)
    except building.BuildFailed as error:
        raise NotRunnable(f"the agent {target.name} is not built", hint=str(error)) from error
    if not (building.NATIVE / "main.c").is_file():
        raise NotRunnable(f"the agent {target.name} is not built", hint="it is built from a source tree")
    return None


def _can_be_built(target: Target) -> bool:
    try:
        building.compiler_for(target)
    except building.BuildFailed:
        return False
    return (building.NATIVE / "main.c").is_file()


def _uname(processor: str) -> str:
    return _UNAME.get(processor, processor)
