"""Brings what a machine's source comes to: verified files on this disk.

Nothing is returned whose digest was not checked when it came. This module does not look into the files.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from ..describe.machine import DebianKernel, DebianProgram, LocalFile, Machine
from ..errors import FetchError, NotRunnable, NotThere, VerificationError
from ..resolve.kernel import is_known, resolve
from ..resolve.wanted import Choice, Wanted
from .cache import Cache, digest_of, key_of
from .catalogue import Memory, Publishers
from .download import Progress, quiet


@dataclass(frozen=True)
class Fetched:
    """What a source came to. `digests` identify the bytes; `says` is what a report shows; `notes` what a user should
    know.
    """

    says: str
    files: tuple[Path, ...]
    digests: tuple[str, ...]
    release: str | None = None  # the package's upstream version, where there is one
    notes: tuple[str, ...] = ()
    disk: Path | None = None  # the user's own beside a kernel, which is not read here


def fetch(
    machine: Machine, cache: Cache | None = None, *, progress: Progress = quiet, refresh: bool = False
) -> Fetched:
    """Brings what the machine needs, verified. Raises `FetchError`, `VerificationError` or `NotRunnable`."""
    cache = cache or Cache()
    try:
        if isinstance(machine.source, LocalFile):
            return _own(resolve(machine, Memory(cache)))
        limit = machine.limits.fetch
        end = time.monotonic() + limit
        source = machine.source.model_dump(mode="json", exclude={"modules", "program"})
        name = "source-" + key_of(machine.processor, source)
        with cache.in_use(), cache.lock(name, limit=limit), cache.workspace() as space:
            return _fetched(machine, cache, space, end, progress, refresh)
    except (FetchError, NotRunnable) as error:
        error.located(target=machine.name)
        raise


def is_cached(machine: Machine, cache: Cache) -> bool:
    """Whether the machine could be prepared with no network."""
    return is_known(machine, Memory(cache))


def _own(wanted: Wanted) -> Fetched:
    (choice,) = wanted.choices
    file, *beside = choice.files
    path, *disks = (each.place for each in (file, *beside) if isinstance(each.place, Path))
    digest = digest_of(path)
    if file.digest and digest != file.digest:
        raise VerificationError(f"{path}: sha256 is {digest}, should be {file.digest}")
    return Fetched(choice.says, (path,), (digest,), disk=disks[0] if disks else None)


def _fetched(machine: Machine, cache: Cache, space: Path, end: float, progress: Progress, refresh: bool) -> Fetched:
    """The first choice that can be had, brought into the cache.

    A package that is not there is no verdict on the mirror yet: the index may be an old one. So it is read again, past
    all caches; what that one lists and the mirror lacks as well is passed over.
    """
    publishers = Publishers(machine.processor, cache, space, end, progress)
    wanted = resolve(machine, publishers, refresh=refresh)
    if wanted.learned is not None:
        question, file = wanted.learned
        publishers.learn(question, Choice(wanted.choices[0].says, (file,)))
    try:
        return _brought(wanted.choices[0], wanted, publishers, cache)
    except NotThere as error:
        if not isinstance(machine.source, DebianKernel | DebianProgram):
            raise
        missing = error
    except FetchError as error:
        return _instead(wanted, cache, error)
    publishers = Publishers(machine.processor, cache, space, end, progress, anew=True)
    wanted = resolve(machine, publishers, refresh=True)
    absent: list[str] = []
    for choice in wanted.choices:
        try:
            return _brought(choice, wanted, publishers, cache, tuple(absent))
        except NotThere as error:
            missing = error
            absent.append(f"the mirror lists {choice.says} and does not have it: the next in range was taken")
        except FetchError as error:
            return _instead(wanted, cache, error)
    return _instead(wanted, cache, missing)


def _brought(
    choice: Choice, wanted: Wanted, publishers: Publishers, cache: Cache, notes: tuple[str, ...] = ()
) -> Fetched:
    publishers.bring(choice.files)
    if wanted.answers is not None:
        publishers.learn(wanted.answers, choice)
    if not publishers.holds(choice.files):
        raise FetchError(f"{choice.says} was fetched and is not in the cache {cache.root}: is something removing it?")
    return _here(choice, cache, wanted.notes + notes + tuple(dict.fromkeys(publishers.passed_over)))


def _here(choice: Choice, cache: Cache, notes: tuple[str, ...]) -> Fetched:
    paths = tuple(cache.file(file.algorithm, file.digest) for file in choice.files)
    return Fetched(choice.says, paths, tuple(file.digest for file in choice.files), choice.release, notes)


def _instead(wanted: Wanted, cache: Cache, error: FetchError) -> Fetched:
    """What does where none of the choices was to be had. Raises the error, or one that says what that means here."""
    if isinstance(error, VerificationError):
        raise error
    if wanted.locked is not None:
        raise wanted.locked.gone(error.message) from error
    if wanted.before is None:
        raise error
    return _here(wanted.before.choice, cache, (wanted.before.not_anew(error.message),))
