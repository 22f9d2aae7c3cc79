"""What a machine needs of others, as values: names, versions, digests and places. And whom resolving asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .lock import LockedKernel


@dataclass(frozen=True)
class Package:
    """A binary package as an index lists it. `size` is in bytes, `path` is relative to the mirror."""

    name: str
    version: str
    suite: str
    path: str
    size: int
    sha256: str
    depends: tuple[str, ...]  # of alternatives the first
    needs: tuple[tuple[str, ...], ...] = ()  # Pre-Depends and Depends, each with its alternatives

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.suite})"


@dataclass(frozen=True)
class File:
    """A file that is wanted: its digest, and where it is to be had.

    That is a package of a mirror, a URL, or the user's own file, which may have no digest (""). None: it was fetched
    before, and its digest is all that is known of it.
    """

    digest: str
    place: Package | str | Path | None = None
    algorithm: str = "sha256"


@dataclass(frozen=True)
class Choice:
    """Files that are wanted together. `says` is what a report calls them, `release` the package's version, if any."""

    says: str
    files: tuple[File, ...]
    release: str | None = None


@dataclass(frozen=True)
class Question:
    """What was asked, to find the answer again: JSON values, and whether a mirror is part of it."""

    kind: str
    asked: tuple[object, ...]
    of_mirror: bool = True


@dataclass(frozen=True)
class Before:
    """What it came to when it was asked last, and is still here; `age` is in seconds."""

    choice: Choice
    age: float

    def not_anew(self, why: str) -> str:
        """The note of a run that has to do with that."""
        return f"resolved {self.age / 3600:.0f} h ago, and not anew: {why}"


@dataclass(frozen=True)
class Wanted:
    """The complete list. `choices` are in order: what a mirror lists and does not have is passed over for the next.

    `before` is what does if none of them can be had. What is learned is kept, each as the answer to `Question`s of its
    kind: `learned` at once, the choice that was brought as that to `answers` (None: it is not).
    """

    choices: tuple[Choice, ...]
    notes: tuple[str, ...] = ()
    before: Before | None = None
    answers: Question | None = None
    learned: tuple[Question, File] | None = None
    locked: LockedKernel | None = None
    """What of the lock file it is."""


class Catalogue(Protocol):
    """What resolving asks of others: of a Debian mirror, of publishers, and of the cache of what they said before."""

    @property
    def mirror(self) -> str:
        """The Debian mirrors that would be asked; "" where none is known."""

    def index(self, suite: str) -> Path:
        """The mirror's list of that suite's packages, verified. Raises `FetchError`, `NotRunnable`."""

    def checksums(self, url: str) -> str:
        """A publisher's checksum file. Raises `FetchError`."""

    def before(self, question: Question, count: int | None = None) -> Before | None:
        """What it came to when it was asked last, if all its files (`count` of them) are in the cache."""

    def holds(self, files: Sequence[File]) -> bool:
        """Whether all of these are in the cache."""
