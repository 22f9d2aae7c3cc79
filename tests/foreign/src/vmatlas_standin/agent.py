"""Its part of the agent, and what is built for it."""

from __future__ import annotations

from pathlib import Path

from vmatlas_agents.targets import AgentSystem, Target

AGENT = AgentSystem(
    system="standin",
    files=(Path(__file__).parent / "native" / "system_standin.c",),
    ours=("system_plain.c", "system_unix.c"),
    targets=(Target("x86_64-standin", "standin", ("x86_64", "amd64"), zig="x86_64-linux-musl", musl="x86_64"),),
)
