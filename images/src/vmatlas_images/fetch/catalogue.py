"""What resolving asks of others, answered: by a Debian mirror, by publishers, and by what the cache kept of both."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from ..errors import FetchError, NotRunnable, NotThere, VerificationError
from ..resolve.wanted import Before, Choice, File, Package, Question
from .archive import Verified, configured_mirrors, open_archive
from .cache import Cache, key_of
from .download import Progress, download

T = TypeVar("T")
CHECKSUMS_WITHIN = 60.0  # seconds for a checksum file, of some kilobytes: a publisher out of reach is told soon


class Memory:
    """What the cache alone tells: asks nobody."""

    def __init__(self, cache: Cache) -> None:
        self._cache = cache

    @property
    def mirror(self) -> str:
        """The Debian mirrors that would be asked, in this order; "" where none is known."""
        try:
            return " ".join(configured_mirrors())
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
    """The mirrors and the publishers, until `end`; half-made things stand in `space`.

    Of several mirrors the first that answers, and tells the truth, is enough: what an index says is signed, and what
    a package is stands in the index, so each may bring what another lists. One that failed is asked last from then
    on, and none may take more than its part of the time that is left. `passed_over` tells of those that failed. With
    `anew`, caches on the way to a mirror are asked to give way.
    """

    def __init__(
        self, processor: str, cache: Cache, space: Path, end: float, progress: Progress, *, anew: bool = False
    ) -> None:
        super().__init__(cache)
        self._processor, self._end, self._progress, self._anew = processor, end, progress, anew
        self._space = space / ("again" if anew else "first")
        self._order: list[str] = []
        self._archives: dict[str, Verified] = {}
        self._indices: dict[tuple[str, str], Path] = {}
        self.passed_over: list[str] = []

    def index(self, suite: str) -> Path:
        """The suite's list of packages, verified. Raises `FetchError`, `VerificationError`, `NotRunnable`."""
        return self._first(lambda mirror, archive: self._index(mirror, archive, suite))

    def _index(self, mirror: str, archive: Verified, suite: str) -> Path:
        if (mirror, suite) not in self._indices:
            self._indices[mirror, suite] = archive.index(suite)
        return self._indices[mirror, suite]

    def _packages(self, packages: Sequence[Package]) -> list[Path]:
        """Of one suite."""

        def bring(mirror: str, archive: Verified) -> list[Path]:
            self._index(mirror, archive, packages[0].suite)  # apt brings what its own lists have
            return archive.bring(packages)

        return self._first(bring)

    def _first(self, ask: Callable[[str, Verified], T]) -> T:
        """What the first mirror gives that can. Raises what is worst of what they say: a lie, then what is not told,
        then that a file is not there.
        """
        self._order = self._order or list(configured_mirrors())
        failures: list[FetchError] = []
        for number, mirror in enumerate(tuple(self._order)):
            try:
                found = ask(mirror, self._archive(mirror, len(self._order) - number))
            except FetchError as error:
                failures.append(error)
                self._order.remove(mirror)
                self._order.append(mirror)
                continue
            self.passed_over += [f"a mirror was passed over: {error.message}" for error in failures]
            return found
        raise max(failures, key=lambda error: (isinstance(error, VerificationError), not isinstance(error, NotThere)))

    def _archive(self, mirror: str, left: int) -> Verified:
        """`left`: how many mirrors share the time, this one among them."""
        if mirror not in self._archives:
            now = time.monotonic()
            space = self._space / str(len(self._archives))
            space.mkdir(parents=True)
            archive = open_archive(self._processor, anew=self._anew, mirror=mirror)
            end = now + (self._end - now) / left
            self._archives[mirror] = Verified(archive, self._processor, space, end, self._progress)
        return self._archives[mirror]

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
        for package, path in zip(packages, self._packages(packages) if packages else (), strict=True):
            self._cache.add(path, "sha256", package.sha256, origin=package.name)
        for file in missing:
            if isinstance(file.place, str):
                place = self._space.with_name("file")
                limit = max(1.0, self._end - time.monotonic())
                download(file.place, place, limit=limit, progress=self._progress)
                self._cache.add(place, file.algorithm, file.digest, origin=file.place)
