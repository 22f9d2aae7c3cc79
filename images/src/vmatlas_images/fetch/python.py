"""Brings what a guest's Python needs of others: Debian's packages, verified, and the wheels that pip knows."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ..describe.machine import Machine
from ..errors import FetchError, NotThere
from ..resolve.python import WantedPython, known_python, resolve_python
from ..resolve.wanted import Choice
from .cache import Cache, key_of
from .catalogue import Memory, Publishers
from .download import Progress, quiet
from .wheels import are_wheels_here, bring_wheels


@dataclass(frozen=True)
class Userland:
    """What a machine's Python comes to: the packages, their files, the wheels that pip brought."""

    python: str  # the version of Debian's package python3.N-minimal ("3.11.2-6+deb12u8"), or what is asked for
    digests: tuple[str, ...]
    files: tuple[Path, ...]
    wheels: tuple[Path, ...]
    notes: tuple[str, ...] = ()


def fetch_userland(machine: Machine, cache: Cache, *, progress: Progress = quiet) -> Userland:
    """Brings the packages, verified, and the wheels. Raises `FetchError`, `VerificationError` or `NotRunnable`."""
    assert machine.python is not None
    limit = machine.limits.fetch
    end = time.monotonic() + limit
    suite = machine.python.suite
    with cache.in_use():
        if suite is None:
            return _with_wheels(resolve_python(machine, Memory(cache)), cache, end, progress)
        with cache.lock("python-" + key_of(machine.processor, suite), limit=limit), cache.workspace() as space:
            wanted = _packages(machine, suite, cache, space, end, progress)
            if wanted.version not in machine.python.version:
                told = f"{suite} has Python {wanted.version}; the description wants {machine.python.version}"
                raise FetchError(told)
            return _with_wheels(wanted, cache, end, progress)


def is_userland_cached(machine: Machine, cache: Cache) -> bool:
    """Whether a machine's Python and the wheels it needs are here. Raises `NotRunnable` where its plan is not."""
    wanted = known_python(machine, Memory(cache))
    return wanted is not None and are_wheels_here(wanted.requirements, wanted.short, wanted.platforms, cache)


def _packages(machine: Machine, suite: str, cache: Cache, space: Path, end: float, progress: Progress) -> WantedPython:
    """The packages, in the cache."""
    publishers = Publishers(machine.processor, cache, space, end, progress)
    wanted = resolve_python(machine, publishers)
    try:
        publishers.bring(wanted.files)
    except NotThere:  # the index may be an old one, out of a cache on the way
        publishers = Publishers(machine.processor, cache, space, end, progress, anew=True)
        wanted = resolve_python(machine, publishers, refresh=True)
        try:
            publishers.bring(wanted.files)
        except FetchError as error:
            return wanted.instead(error)
    except FetchError as error:
        return wanted.instead(error)
    if wanted.answers is not None:
        publishers.learn(wanted.answers, Choice(wanted.version, wanted.files))
    if not publishers.holds(wanted.files):
        raise FetchError(f"the packages of {suite} were fetched and are not in the cache {cache.root}")
    return wanted


def _with_wheels(wanted: WantedPython, cache: Cache, end: float, progress: Progress) -> Userland:
    limit = max(1.0, end - time.monotonic())
    folder = bring_wheels(wanted.requirements, wanted.short, wanted.platforms, cache, limit, progress)
    digests = tuple(file.digest for file in wanted.files)
    files = tuple(cache.file("sha256", digest) for digest in digests)
    return Userland(wanted.version, digests, files, tuple(sorted(folder.glob("*.whl"))), wanted.notes)
