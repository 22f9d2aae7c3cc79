"""Every Python example of the documents runs; every link to a file of the repository leads to one."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
import vmatlas_agents

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "core" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTS += sorted((ROOT / "docs" / "tutorials").glob("*.md"))
EXAMPLE = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#:]+)(?:#[^)]*)?\)")


def _examples() -> list[tuple[str, str]]:
    """But of a page whose pieces belong together: test_plots.py."""
    alone = [path for path in DOCUMENTS if path.name != "plots.md"]
    return [(path.name, code) for path in alone for code in EXAMPLE.findall(path.read_text("utf-8"))]


@pytest.fixture
def child() -> Iterator[int]:
    """A process that the examples may read in place of 1234."""
    sleeping = subprocess.Popen(["sleep", "3600"])
    yield sleeping.pid
    sleeping.kill()
    sleeping.wait()


@pytest.mark.parametrize(("document", "code"), _examples(), ids=[name for name, _ in _examples()])
def test_example_runs(document: str, code: str, child: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    agent = f"agent:{vmatlas_agents.path('Linux', 'x86_64')}"
    code = re.sub(r"\b1234\b", str(child), code).replace("ssh:root@board", agent)
    if agent in code:  # the machine of the example has other processes than the agent's
        code = code.replace("snapshot(1,", f"snapshot({child},")
    names = {
        "vmatlas": vmatlas,
        "operations": vmatlas.operations,
        "Protection": vmatlas.Protection,
        "space": vmatlas.snapshot(child),
        "print": lambda *values: None,
    }
    try:
        exec(compile(code, document, "exec"), names)
    except vmatlas.AccessDenied as refused:
        if "CAP_SYS_NICE" not in refused.message or os.geteuid() == 0:
            raise
        pytest.skip("advising another process takes CAP_SYS_NICE, which this user has not")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    missing = [link for link in LINK.findall(path.read_text("utf-8")) if not (path.parent / link).exists()]
    assert not missing
