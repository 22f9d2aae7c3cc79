"""What resolving asks of others, answered: by a Debian mirror, by publishers, and by what the cache kept of both."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

from ..errors import NotRunnable
from ..resolve.wanted import Before, Choice, File, Package, Question
from .archive import Verified, configured_mirror, open_archive
from .cache import Cache, key_of
from .download import Progress, download

CHECKSUMS_WITHIN = 60.0  # seconds for a checksum file, of some kilobytes: a publisher out of reach is told soon


class Memory:
    """What the cache alone tells: asks nobody."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def mirror(self) -> str:
        """The Debian mirror that would be asked; "" where none is known."""
        try:
            return configured_mirror()
        except NotRunnable:
            return ""

    def index(self, suite: str) -> Path:
        """Raises `NotRunnable`."""
        raise NotRunnable(f"the packages of {suite} are not asked for")

    def checksums(self, url: str) -> str:
        """Raises `NotRunnable`."""
        raise NotRunnable(f"{url} is not asked for")

    def before(self, question: Question, count: int | None = None) -> Before | None:
        """What the cache keeps of it, and its age; None where it holds not all the files, or another number."""
        found = self._cache.record(self._name(question))
        if found is None or not {"says", "digests", "release"} <= found[0].keys():
            return None
        told, age = found
        files = tuple(File(digest, None, told.get("algorithm", "sha256")) for digest in told["digests"].split())
        if (count is not None and len(files) != count) or not files or not self.holds(files):
            return None
        return Before(Choice(told["says"], files, told["release"]), age)

    def learn(self, question: Question, choice: Choice) -> None:
        """Keep what it came to."""
        told = {"says": choice.says, "release": choice.release or "", "algorithm": choice.files[0].algorithm}
        self._cache.write_record(
            self._name(question), told | {"digests": " ".join(file.digest for file in choice.files)}
        )

    def _name(self, question: Question) -> str:
        of = (self.mirror,) if question.of_mirror else ()
        return f"{question.kind}-{key_of(*of, *question.asked)}"

    def holds(self, files: Sequence[File]) -> bool:
        """Whether all of these are in the cache."""
        return all(self._cache.has(file.algorithm, file.digest) for file in files)


class Publishers(Memory):
    """The mirror and the publishers, until `end`; half-made things stand in `space`.

    With `anew`, caches between here and a mirror are asked to give way.
    """

    def __init__(
        self, processor: str, cache: Cache, space: Path, end: float, progress: Progress, *, anew: bool = False
    ) -> None:
        super().__init__(cache)
        self._processor, self._end, self._progress, self._anew = processor, end, progress, anew
        self._space = space / ("again" if anew else "first")

    @cached_property
    def _archive(self) -> Verified:
        self._space.mkdir()
        archive = open_archive(self._processor, anew=self._anew)
        return Verified(archive, self._processor, self._space, self._end, self._progress)

    def index(self, suite: str) -> Path:
        """The suite's list of packages, verified. Raises `FetchError`, `VerificationError`, `NotRunnable`."""
        return self._archive.index(suite)

    def checksums(self, url: str) -> str:
        """A publisher's checksum file, of at most 4 MiB. Raises `FetchError`."""
        place = self._space.with_name("checksums")
        limit = min(CHECKSUMS_WITHIN, max(1.0, self._end - time.monotonic()))
        download(url, place, limit=limit, progress=self._progress, most=4 << 20)
        return place.read_text("utf-8", "replace")

    def bring(self, files: Sequence[File]) -> None:
        """Those of a mirror's packages or of a URL that are not in the cache, into it, each with its digest checked.

        Raises `FetchError`, and `NotThere` when one is not to be had where it should be.
        """
        once = {(file.algorithm, file.digest): file for file in files}.values()  # a kernel and its modules may be one
        missing = [file for file in once if not self._cache.has(file.algorithm, file.digest)]
        packages = [file.place for file in missing if isinstance(file.place, Package)]
        for package, path in zip(packages, self._archive.bring(packages) if packages else (), strict=True):
            self._cache.add(path, "sha256", package.sha256, origin=package.name)
        for file in missing:
            if isinstance(file.place, str):
                place = self._space.with_name("file")
                limit = max(1.0, self._end - time.monotonic())
                download(file.place, place, limit=limit, progress=self._progress)
                self._cache.add(place, file.algorithm, file.digest, origin=file.place)
