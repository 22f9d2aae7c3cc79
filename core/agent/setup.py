"""Refuses to make a wheel without agents: the C is not in it, so nothing could be built from it afterwards."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))

from vmatlas_agents import BUILT
from vmatlas_agents.targets import TARGETS


class BuildWithAgents(build_py):
    """Copies the package, with the agents that are built. An installation in place (pip install -e) needs none yet."""

    def run(self) -> None:
        """Raises SystemExit where none is built; says which are not, where some are."""
        missing = [target.name for target in TARGETS if not (BUILT / target.file).is_file()]
        if len(missing) == len(TARGETS) and not self.editable_mode:
            raise SystemExit(
                "vmatlas-agents: no agent is built, and a wheel without any is of no use: first run "
                "'python -m vmatlas_agents.build --all' here (in a checkout: ./run invoke agents --everything)"
            )
        if missing and not self.editable_mode:
            built = len(TARGETS) - len(missing)
            self.warn(f"this wheel has {built} of {len(TARGETS)} agents; not built: {', '.join(missing)}")
        super().run()


setup(cmdclass={"build_py": BuildWithAgents})
