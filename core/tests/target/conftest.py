"""An agent to connect to: the one that is built for this machine, or one built by the host's compiler."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def binary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    agents = pytest.importorskip("vmatlas_agents", reason="vmatlas-agents is not installed")
    from vmatlas_agents.build import BuildFailed, build, host_compiler, host_target, ziglang

    try:
        target = agents.target_for("Linux", os.uname().machine)
        return build(target, ziglang(target))[0]
    except (BuildFailed, LookupError):
        return build(host_target(), host_compiler("cc"), output=tmp_path_factory.mktemp("built"))[0]
