"""What a plugin gives to the agent's build. Registered under `vmatlas.agent_sources`. No I/O."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class AgentSources:
    """The C half of a plugin's acquisition, to be compiled into agents (core/agent/src/source.h is its contract)."""

    system: str
    """"linux": the agents of this system get it."""
    files: tuple[Path, ...]
    """The C files. They are compiled as they are, with the folder of the agent's headers in the search path."""
    table: str
    """The symbol of the plugin's `const struct source []`, which ends with a source without a name."""
    names: tuple[str, ...]
    """The sources in that table: "linux.maps"."""
