"""`python -m vmatlas.conformance`: the suite as a command; arguments are pytest's, and the suite's own options."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from vmatlas import conformance


class _TargetNeeded:
    """Says that no target was named once, before each file of the suite would."""

    @staticmethod
    def pytest_sessionstart(session: pytest.Session) -> None:
        if not session.config.getoption("--vmatlas-target"):
            raise pytest.UsageError("the conformance suite needs --vmatlas-target URL, for example agent:COMMAND")


def main(arguments: list[str]) -> int:
    """Run the suite. Returns pytest's exit code."""
    suite = Path(__file__).parent / "suite"
    # The suite is the same wherever it runs: no options of the surroundings, no configuration, no cache of the folder.
    os.environ.pop("PYTEST_ADDOPTS", None)
    settings = ["-c", str(suite / "pytest.ini"), "--rootdir", str(suite), "-p", "no:cacheprovider"]
    return int(pytest.main([*settings, str(suite), *arguments], plugins=[conformance, _TargetNeeded()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
