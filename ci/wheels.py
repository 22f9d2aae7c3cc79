"""Wheels and source distributions of all that is ours, and what is in them: dist/, with a bill of materials.

python ci/wheels.py [FOLDER]    with the agents that are built (`invoke wheels` builds all of them before)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from lock import ROOT, distributions, tool

_MADE = shutil.ignore_patterns("build", "*.egg-info", "*.so", "__pycache__", ".*")
_SOURCES = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
BILL = "vmatlas.cdx.json"


def make(output: Path) -> None:
    """Build them in a copy: a source tree is never written to. Raises CalledProcessError."""
    output.mkdir(parents=True, exist_ok=True)
    for left in (*output.glob("vmatlas*.whl"), *output.glob("vmatlas*.tar.gz")):
        left.unlink()
    with tempfile.TemporaryDirectory() as space:
        for folder in distributions():
            copy = Path(space, folder.relative_to(ROOT))
            shutil.copytree(folder, copy, ignore=_MADE, dirs_exist_ok=True)
        for folder in distributions():
            copy = Path(space, folder.relative_to(ROOT))
            pip = [sys.executable, "-P", "-m", "pip", "wheel", "-q", "--disable-pip-version-check"]
            subprocess.run([*pip, "--no-deps", "--no-build-isolation", "--no-index", "-w", output, copy], check=True)
            subprocess.run(
                [sys.executable, "-P", "-c", _SOURCES, output], cwd=copy, check=True, stdout=subprocess.DEVNULL
            )
    tool("python", ROOT / "ci" / "bill.py", output / BILL, _compiler(), *sorted(output.glob("vmatlas*.whl")))
    print(f"{output}: {len(list(output.glob('*.whl')))} wheels, {len(list(output.glob('*.tar.gz')))} sources, {BILL}")


def _compiler() -> Path:
    """The folder of ziglang, which says whose C library is in the agents."""
    import ziglang

    return Path(ziglang.__file__).parent


if __name__ == "__main__":
    make(Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "dist").resolve())
