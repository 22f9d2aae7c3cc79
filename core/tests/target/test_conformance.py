"""The conformance suite, as a plugin of another distribution uses it: it passes an honest backend and fails a liar."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from vmatlas import conformance
from vmatlas.conformance.ground import own_path
from vmatlas.conformance.patience import PATIENCE

LIAR = '''
"""Backends that an outside distribution could bring: procfs's with one lie each."""
from dataclasses import replace
from vmatlas.backend import Feature
from vmatlas.model import AddressSpace
from vmatlas_linux_procfs import LinuxProcfs

class Honest(LinuxProcfs):
    name = "outside-honest"
    distribution = "outside"

class NoShared(Honest):
    """Says of shared memory that it is private: the flag lies in the text, `s` for shared."""
    name = "outside-private"
    def decode(self, capture):
        lie = {name: data.replace(b"s ", b"p ") if name in ("maps", "smaps") else data
               for name, data in capture.streams.items()}
        return super().decode(replace(capture, streams=lie))

class Boastful(Honest):
    """Declares build ids that it does not have."""
    name = "outside-boastful"
    features = Honest.features | Feature.BUILD_ID

HONEST, PRIVATE, BOASTFUL = Honest(), NoShared(), Boastful()
'''
ENTRIES = """[vmatlas.backends]
outside-honest = outside:HONEST
outside-private = outside:PRIVATE
outside-boastful = outside:BOASTFUL
"""


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A distribution that is none of ours, as installed."""
    folder = tmp_path / "outside"
    info = folder / "outside-1.dist-info"
    info.mkdir(parents=True)
    (folder / "outside.py").write_text(LIAR)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    return folder


def conform(arguments: list[str], outside: Path, tmp_path: Path) -> dict[str, bool]:
    """Test to whether it passed, each with its backend in brackets."""
    report = tmp_path / "report.xml"
    # The run of pytest that this test belongs to has options that are not the other one's.
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTEST_ADDOPTS"}
    done = subprocess.run(
        [sys.executable, "-m", *arguments, "--vmatlas-reader=local", f"--junit-xml={report}"],
        cwd=tmp_path, env={**surroundings, "PYTHONPATH": str(outside)}, capture_output=True, text=True,
        timeout=PATIENCE,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stdout + done.stderr
    cases = ElementTree.parse(report).iter("testcase")
    return {case.get("name", ""): case.find("failure") is None and case.find("error") is None for case in cases}


def test_an_honest_backend_passes_and_each_lie_is_found(outside: Path, tmp_path: Path, binary: Path) -> None:
    named = "shared_anonymous or mprotect or ten_thousand or build_ids"
    suite = ["vmatlas.conformance", f"--vmatlas-target=agent:{binary}", "-k", f"outside and ({named})"]
    passed = conform(suite, outside, tmp_path)
    split = "test_region_after_mprotect_in_its_middle_is_three_and_then_one_again"
    for test in ("test_shared_anonymous_memory", split, "test_build_ids_are_told_or_refused"):
        assert passed[f"{test}[outside-honest]"]
    assert passed["test_ten_thousand_regions_are_all_there[outside-honest]"]
    assert not passed["test_shared_anonymous_memory[outside-private]"]
    assert passed[f"{split}[outside-private]"]
    assert not passed["test_build_ids_are_told_or_refused[outside-boastful]"]


def test_a_project_of_its_own_uses_the_fixtures(outside: Path, tmp_path: Path, binary: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["vmatlas.conformance"]\n')
    (tmp_path / "test_own.py").write_text(
        "import vmatlas\n"
        "def test_three_pages(ground, reader, backend):\n"
        "    placed = ground.lay(4, 3)\n"
        "    space = vmatlas.snapshot(ground.worker.pid, target=reader, backend=backend)\n"
        "    assert space.find(placed.start).size == placed.size\n"
    )
    arguments = ["pytest", "-q", "-p", "no:cacheprovider", f"--vmatlas-target=agent:{binary}", "test_own.py"]
    passed = conform(arguments, outside, tmp_path)
    assert passed["test_three_pages[outside-honest]"]
    assert passed["test_three_pages[linux-procfs]"]


def test_what_the_suite_writes_on_a_board_stands_in_the_place_of_nothing() -> None:
    """As root it would write over what a link leads to that somebody laid into /tmp, where the kernel follows such."""
    assert own_path(b"x") == own_path(b"x")
    assert re.fullmatch(rb"/tmp/vmatlas-[0-9a-f]{8}-x", own_path(b"x"))
    suite = Path(conformance.__file__).parent / "suite"
    written = [line for path in suite.glob("*.py") for line in path.read_text("utf-8").split("\n")]
    assert [line for line in written if "/tmp" in line] == []
    calls = [line for line in written if "write_file(" in line]
    assert len(calls) > 1
    assert [line for line in calls if "new=True" not in line] == []


def test_no_target_is_said(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "vmatlas.conformance"], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 4
    assert "needs --vmatlas-target URL" in done.stdout + done.stderr
