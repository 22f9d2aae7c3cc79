"""MIT asks for its notice in all copies: a wheel of each distribution holds it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

from vmatlas.conformance.patience import PATIENCE

ROOT = Path(__file__).parents[1]
LICENCE = (ROOT / "LICENSE").read_bytes()


def test_every_distribution_has_the_licence_beside_what_it_is_built_from() -> None:
    core = ROOT / "core"
    folders = [core, core / "agent", core / "fleet", ROOT / "images", *(ROOT / "platforms").iterdir()]
    distributions = [folder for folder in folders if (folder / "pyproject.toml").is_file()]
    assert len(distributions) > 8
    assert [str(each) for each in distributions if (each / "LICENSE").read_bytes() != LICENCE] == []


def test_a_wheel_and_a_source_distribution_hold_it(tmp_path: Path) -> None:
    shutil.copytree(
        ROOT / "platforms" / "linux_memory", tmp_path / "source", ignore=shutil.ignore_patterns("*.egg-info")
    )
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", tmp_path]
    subprocess.run([*command, tmp_path / "source"], check=True, timeout=PATIENCE)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as held:
        assert LICENCE in [held.read(name) for name in held.namelist() if name.endswith("LICENSE")]
    build = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
    made = subprocess.run(
        [sys.executable, "-c", build, tmp_path], cwd=tmp_path / "source", capture_output=True, timeout=PATIENCE
    )
    assert made.returncode == 0, made.stderr
    (sources,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sources) as held:
        inside = [held.extractfile(name) for name in held.getnames() if name.endswith("/LICENSE")]
        assert LICENCE in [file.read() for file in inside if file is not None]
