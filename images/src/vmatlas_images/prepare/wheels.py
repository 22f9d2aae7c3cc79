"""Wheels of ours for a guest's Python, built from their sources on the host: a guest has no network."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..errors import ImagesError
from ..fetch.cache import Cache, key_of
from ..fetch.wheels import pip

_LEFT_OUT = ("build", "*.egg-info", "__pycache__", "*.so", "*.pyc", "tests", ".*", "built")


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
            pip([*words, *folders], limit, ImagesError, {} if twins else {"VMATLAS_TWINS": "no"})

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
