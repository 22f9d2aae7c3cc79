"""What others made and we install: every version, and the digest of each of its files, for every Python and processor.

    python ci/lock.py    resolves anew: tests/requirements.lock, which ./run installs, and ci/tools.lock

A lock names no index: whichever one pip is set to serves it, and what it serves must have the digests.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
import venv
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASKED, LOCK = ROOT / "tests" / "requirements.txt", ROOT / "tests" / "requirements.lock"
TOOLS, TOOLS_LOCK = ROOT / "ci" / "tools.txt", ROOT / "ci" / "tools.lock"
ENVIRONMENT = ROOT / ".vmatlas" / "tools"

OLDEST = "3.11"
EXTRAS = {"core": ("metrics", "arrow", "numpy", "packed"), "core/fleet": ("parquet", "sql", "storage")}
"""What ./run installs of the optional dependencies, by distribution."""

_HEADER = "# Made by `invoke lock` from {what}: change that, and run it again.\n"


def distributions() -> list[Path]:
    """The folders of ours."""
    ours = [ROOT / "core", ROOT / "core" / "agent", ROOT / "core" / "fleet", ROOT / "images"]
    folders = [*ours, *sorted((ROOT / "platforms").iterdir())]
    return [folder for folder in folders if (folder / "pyproject.toml").is_file()]


def needs() -> Iterator[str]:
    """What our own distributions need of others', as their pyproject.toml say it."""
    for folder in distributions():
        project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
        extras = project.get("optional-dependencies", {})
        chosen = EXTRAS.get(folder.relative_to(ROOT).as_posix(), ())
        for need in [*project["dependencies"], *(each for extra in chosen for each in extras[extra])]:
            if not need.startswith("vmatlas"):
                yield need


def tool(*words: str | Path, text: str = "") -> None:
    """Run a program of ci/tools.lock, in the environment that is made of it. Raises CalledProcessError."""
    stamp, lock = ENVIRONMENT / "made-of", TOOLS_LOCK.read_text("utf-8")
    if not stamp.is_file() or stamp.read_text("utf-8") != lock:
        venv.create(ENVIRONMENT, clear=True, with_pip=True)
        command = ["-P", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
        subprocess.run([ENVIRONMENT / "bin" / "python", *command, "-r", TOOLS_LOCK], check=True)
        stamp.write_text(lock, "utf-8")
    program, *rest = words
    subprocess.run([ENVIRONMENT / "bin" / program, *rest], check=True, input=text, text=True)


def resolve(asked: Sequence[str], lock: Path, what: str) -> None:
    """Write a lock for some requirements, with the newest versions that there are."""
    text = "\n".join(asked) + "\n"
    options = ["--quiet", "--universal", "--upgrade", "--generate-hashes", "--no-header", "--no-annotate"]
    tool(
        "uv", "pip", "compile", *options, "--no-emit-index-url", "--python-version", OLDEST, "-o", lock, "-", text=text
    )
    lock.write_text(_HEADER.format(what=what) + lock.read_text("utf-8"), "utf-8")


def main() -> None:
    """Both locks; that of the tools last, so that the tools that are known made the other."""
    resolve([*ASKED.read_text("utf-8").splitlines(), *needs()], LOCK, "tests/requirements.txt and our pyproject.toml")
    resolve(TOOLS.read_text("utf-8").splitlines(), TOOLS_LOCK, "ci/tools.txt")


if __name__ == "__main__":
    sys.exit(main())
