"""Wheels that a guest's Python and its tests require: brought by this host's pip, and kept in the cache.

They stay as they were when they were first brought, until the cache is emptied.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import FetchError, ImagesError, NotRunnable
from ..resolve.offline import is_offline
from . import guarded
from .cache import Cache, key_of
from .download import Progress

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
        pip([*words, *requirements], limit, FetchError)

    return cache.prepared(_key(requirements, python, platforms), download, limit=limit)


def are_wheels_here(requirements: Sequence[str], python: str, platforms: Sequence[str], cache: Cache) -> bool:
    """Whether `bring_wheels` would ask nobody."""
    return (cache.root / "prepared" / _key(requirements, python, platforms)).is_dir()


def _key(requirements: Sequence[str], python: str, platforms: Sequence[str]) -> str:
    return key_of("wheels", list(requirements), python, list(platforms))


def pip(
    words: Sequence[str | Path], limit: float, error: type[ImagesError], environment: Mapping[str, str] | None = None
) -> None:
    """Runs this host's pip. Raises `error` with its last words when it fails, or takes longer than `limit` seconds."""
    command = [sys.executable, "-P", "-m", "pip", "--disable-pip-version-check", "--no-input", "--quiet", *words]
    status, said = guarded.run(command, limit, environment={**os.environ, **(environment or {})})
    if status != 0:
        ended = f"was not through within {limit:.0f} s" if status is None else f"ended with status {status}"
        raise error(f"pip {words[0]} {ended}: {' '.join(said.split())[-500:] or 'no word'}")
