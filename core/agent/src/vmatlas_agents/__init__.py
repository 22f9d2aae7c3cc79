"""The built agents, as files: `path(system, machine)`. How they are built is `vmatlas_agents.build`."""

from __future__ import annotations

from pathlib import Path

from vmatlas_agents.targets import TARGETS, BrokenSystem, Target, all_targets

BUILT = Path(__file__).parent / "built"
"""Where built agents lie: data of the wheel."""


class AgentMissing(LookupError):
    """There is no such agent: it was not built, or no compiler target is known for that machine."""


def target_for(system: str, machine: str) -> Target:
    """The row of the table for a system and a processor, as `uname -s` and `uname -m` name them.

    Raises AgentMissing when none of the agents is for that machine.
    """
    for target in TARGETS:
        if target.system == system.lower() and machine.lower() in target.machines:
            return target
    try:
        known_targets = all_targets()
    except BrokenSystem as error:
        raise AgentMissing(f"there is no agent of ours for {system} on {machine}, and {error}") from error
    for target in known_targets:
        if target.system == system.lower() and machine.lower() in target.machines:
            return target
    known = ", ".join(f"{target.system} {target.machines[0]}" for target in known_targets)
    raise AgentMissing(f"there is no agent for {system} on {machine}; there are agents for: {known}")


def path(system: str, machine: str) -> Path:
    """The built agent for a system and a processor, as `uname -s` and `uname -m` name them.

    Raises AgentMissing, whose text names the command that builds it.
    """
    target = target_for(system, machine)
    found = BUILT / target.file
    if not found.is_file():
        raise AgentMissing(
            f"the agent for {target.system} {target.machines[0]} is not built: "
            f"python -m vmatlas_agents.build --target {target.name} (once; it takes half a minute)"
        )
    return found
