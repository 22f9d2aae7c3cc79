"""What others made and we install: every version, and the digest of each of its files, for every Python and processor.

    python ci/lock.py    resolves anew: tests/requirements.lock, which ./run installs, and those of ci/

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
TOOLS, SITE, ENGINES, OBJECTS = (ROOT / "ci" / f"{name}.lock" for name in ("tools", "site", "engines", "objects"))
"""Of what stands in the .txt beside each."""

OLDEST = "3.11"
EXTRAS = {"core": ("metrics", "top", "arrow", "numpy", "packed", "lines"), "core/fleet": ("parquet", "sql", "storage")}
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


def environment(lock: Path) -> Path:
    """The environment that is made of a lock, apart from that of ./run. Raises CalledProcessError."""
    place = ROOT / ".vmatlas" / lock.stem
    stamp, text = place / "made-of", lock.read_text("utf-8")
    if not stamp.is_file() or stamp.read_text("utf-8") != text:
        venv.create(place, clear=True, with_pip=True)
        command = ["-P", "-m", "pip", "install", "-q", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
        subprocess.run([place / "bin" / "python", *command, "-r", lock], check=True)
        stamp.write_text(text, "utf-8")
    return place


def tool(*words: str | Path, text: str = "", lock: Path = TOOLS) -> None:
    """Run a program of an environment that is made of a lock. Raises CalledProcessError."""
    program, *rest = words
    subprocess.run([environment(lock) / "bin" / program, *rest], check=True, input=text, text=True)


def resolve(asked: Sequence[str], lock: Path, what: str) -> None:
    """Write a lock for some requirements, with the newest versions that there are; those of engines.lock go into the
    environment of ./run."""
    text = "\n".join(asked) + "\n"
    beside = ["--constraint", LOCK] if lock == ENGINES else []
    options: list[str | Path] = [
        *beside,
        "--quiet",
        "--universal",
        "--upgrade",
        "--generate-hashes",
        "--no-header",
        "--no-annotate",
    ]
    tool(
        "uv", "pip", "compile", *options, "--no-emit-index-url", "--python-version", OLDEST, "-o", lock, "-", text=text
    )
    lock.write_text(_HEADER.format(what=what) + lock.read_text("utf-8"), "utf-8")


def main() -> None:
    """All locks; that of the tools last, so that the tools that are known made the others."""
    resolve([*ASKED.read_text("utf-8").splitlines(), *needs()], LOCK, "tests/requirements.txt and our pyproject.toml")
    for lock in (SITE, ENGINES, OBJECTS, TOOLS):
        asked = lock.with_suffix(".txt")
        resolve(asked.read_text("utf-8").splitlines(), lock, asked.relative_to(ROOT).as_posix())


if __name__ == "__main__":
    sys.exit(main())
