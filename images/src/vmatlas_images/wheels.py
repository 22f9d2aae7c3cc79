"""Wheels for a guest's Python: ours, built from their sources, and those that they and the tests require.

All are made or brought on the host, by its own pip, and kept in the cache; a guest has no network. What is required
stays as it was when it was first brought, until the cache is emptied.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from . import guarded
from .cache import Cache, key_of
from .download import Progress, is_offline
from .errors import FetchError, ImagesError, NotRunnable

_LEFT_OUT = ("build", "*.egg-info", "__pycache__", "*.so", "*.pyc", "tests", ".*", "built")
_OFFLINE = "a guest's wheels"


def bring_wheels(
    requirements: Sequence[str],
    python: str,
    platforms: Sequence[str],
    cache: Cache,
    limit: float,
    progress: Progress,
) -> Path:
    """The folder with wheels of the requirements, and of what those require, for Python `python` ("3.11").

    `platforms` are those that wheels may be built for ("manylinux_2_28_x86_64"); none: wheels of Python alone.

    Raises `NotRunnable` offline when they are not in the cache, `FetchError` when pip cannot bring them.
    """

    def download(new: Path) -> None:
        if is_offline():
            raise NotRunnable(
                f"{_OFFLINE} are not in the cache, and VMATLAS_OFFLINE is set", hint="run once without it"
            )
        progress("wheels", 0, None)
        words = [
            "download",
            "--only-binary=:all:",
            "--implementation=cp",
            f"--python-version={python}",
            f"--dest={new}",
        ]
        words += [f"--abi={name}" for name in (f"cp{python.replace('.', '')}", "abi3", "none")]
        words += [f"--platform={name}" for name in platforms or ("any",)]
        _pip([*words, *requirements], limit, FetchError)

    return cache.prepared(_key(requirements, python, platforms), download, limit=limit)


def are_wheels_here(requirements: Sequence[str], python: str, platforms: Sequence[str], cache: Cache) -> bool:
    """Whether `bring_wheels` would ask nobody."""
    return (cache.root / "prepared" / _key(requirements, python, platforms)).is_dir()


def _key(requirements: Sequence[str], python: str, platforms: Sequence[str]) -> str:
    return key_of("wheels", list(requirements), python, list(platforms))


def build_wheels(tree: Path, distributions: Sequence[str], cache: Cache, limit: float, *, twins: bool = True) -> Path:
    """The folder with wheels of the distributions, folders below `tree`, built by this host's Python.

    Without `twins` they hold Python alone, and go wherever Python does.

    They are built in a copy that keeps their places: a source tree is never written to. Raises `ImagesError` when one
    cannot be built.
    """
    sources = sorted(path for name in distributions for path in files_below(tree / name))

    def build(new: Path) -> None:
        with cache.workspace() as space:
            for path in sources:
                place = space / "tree" / path.relative_to(tree)
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, place)
            folders = [space / "tree" / name for name in distributions]
            words = ["wheel", "--no-deps", "--no-build-isolation", "--no-index", f"--wheel-dir={new}"]
            _pip([*words, *folders], limit, ImagesError, {} if twins else {"VMATLAS_TWINS": "no"})

    key = key_of("our wheels", sys.version, list(distributions), twins, digest_of_files(tree, sources))
    return cache.prepared(key, build, limit=limit)


def files_below(place: Path, left_out: Sequence[str] = _LEFT_OUT) -> Iterator[Path]:
    """The files of a folder, or the file itself, but those that are made from others."""
    if place.is_file():
        yield place
        return
    for folder, folders, names in os.walk(place):
        dropped = shutil.ignore_patterns(*left_out)(folder, [*folders, *names])
        folders[:] = sorted(name for name in folders if name not in dropped)
        yield from (Path(folder, name) for name in sorted(names) if name not in dropped)


def digest_of_files(tree: Path, paths: Sequence[Path]) -> str:
    """A digest of the names and bytes of files below `tree`."""
    digest = hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(tree)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _pip(
    words: Sequence[str | Path], limit: float, error: type[ImagesError], environment: Mapping[str, str] | None = None
) -> None:
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *words]
    status, said = guarded.run(command, limit, environment={**os.environ, **(environment or {})})
    if status != 0:
        ended = f"was not through within {limit:.0f} s" if status is None else f"ended with status {status}"
        raise error(f"pip {words[0]} {ended}: {' '.join(said.split())[-500:] or 'no word'}")
