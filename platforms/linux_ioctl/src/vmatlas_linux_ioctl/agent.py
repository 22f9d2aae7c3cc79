"""What this plugin gives to agents: native/acquire.c."""

from __future__ import annotations

from pathlib import Path

from vmatlas.target.native import AgentSources

SOURCES = AgentSources(
    system="linux",
    files=(Path(__file__).parents[2] / "native" / "acquire.c",),
    table="vmatlas_linux_ioctl_sources",
    names=("linux.procmap_query",),
)
