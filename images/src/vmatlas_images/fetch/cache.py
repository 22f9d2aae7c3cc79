"""What was fetched and prepared, kept by the digests of what it is or was made from.

Everything appears in the cache by a rename of something complete, so an entry is whole or absent whatever kills a run;
half-made things stand in `tmp/`, each under a lock that dies with its process, and are swept by the next run. This
module knows nothing of where things come from; it must never hand out an entry that it did not check when it was added.

What is in it is believed, and booted: so it is a folder that nobody else can write to. Where the folder that is named
can be written by others, a folder of one's own in it is the cache, and of what is beside that only files are taken,
copied, and their digests checked. Nor may others be able to put another folder in its place (`is_safe_way`).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from vmatlas.caching import PLACE, cache_root, is_ours, is_safe_way

from ..errors import ImagesError, VerificationError


def default_root() -> Path:
    """See `cache_root`. Raises `ImagesError` when there is no such place: a home that nobody knows, a current folder
    that is gone."""
    try:
        return cache_root()
    except (RuntimeError, OSError) as error:
        named = os.environ.get(PLACE)
        what = f"{PLACE} is '{named}'" if named else "where this user's cache is, is not known"
        raise ImagesError(f"{what}: {error}", hint=f"{PLACE}=FOLDER names a place") from error


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def key_of(*parts: object) -> str:
    """A key made from JSON values: the same parts, the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


_EMPTIED = ("files", "prepared", "records", "consoles", "tmp")
_ROOMS = (*_EMPTIED, "locks", "kept")
_MOST_COPIED = 8 << 30
"""Bytes of a file that is copied from a shared cache: as many as a download may have."""
_COPY_SECONDS = 1800.0


def _take(source: Path, place: Path, algorithm: str, digest: str) -> None:
    """Copies a file of somebody else's that has the digest; it is read first, so that no other costs room on the disk.

    It may grow or change between the two readings: no more is written than was read first, and what came of it is for
    the caller to check. Raises OSError: for what is no regular file (a link, a pipe), is larger than any download, or
    has another digest, and when the time is up.
    """
    end = time.monotonic() + _COPY_SECONDS
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        told = os.fstat(descriptor)
        if not stat.S_ISREG(told.st_mode) or told.st_size > _MOST_COPIED:
            raise OSError(errno.EINVAL, "no regular file, or larger than any download")

        def pieces(left: int) -> Iterator[bytes]:
            file.seek(0)
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                if time.monotonic() > end:
                    raise OSError(errno.ETIMEDOUT, "it took too long")
                left -= len(piece)
                yield piece

        found, size = hashlib.new(algorithm), 0
        for piece in pieces(told.st_size):
            found.update(piece)
            size += len(piece)
        if found.hexdigest() != digest:
            raise OSError(errno.EINVAL, "another digest")
        with place.open("xb") as copy:
            for piece in pieces(size):
                copy.write(piece)


class Cache:
    """One cache folder. It may be shared by any number of processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self._named = (root or default_root()).absolute()
        self.root = self._named
        if not self._is_ours():
            self.root = self._named / f"user-{os.geteuid()}"

    def _is_ours(self) -> bool:
        """Whether nobody else can change what is in it, or put something else in the place of it or of its rooms."""
        rooms = [self.root / name for name in _ROOMS]
        is_elsewhere = (self.root != self._named and self.root.is_symlink()) or any(room.is_symlink() for room in rooms)
        return not is_elsewhere and is_safe_way(self.root) and all(map(is_ours, [self.root, *rooms]))

    def _check(self) -> None:
        """Raises `ImagesError` when others can change what is in the folder, or put another in its place."""
        if not self._is_ours():
            raise ImagesError(
                f"{self.root} can be changed by others, and what is in the cache is booted",
                hint="VMATLAS_CACHE=FOLDER names another place",
            )

    def room(self, name: str) -> Path:
        """A folder in it, made when it is first needed, for nobody else to write to whatever the umask says.

        Raises `ImagesError` where others can change it; OSError.
        """
        self._check()
        folder = self.root / name
        for each in reversed([folder, *folder.parents]):
            if not each.is_dir():
                each.mkdir(0o755, exist_ok=True)
        self._check()  # again: it may have come meanwhile
        return folder

    def has(self, algorithm: str, digest: str) -> bool:
        """Whether the file of that digest is here: of a cache that others fill, too, a copy is taken and checked."""
        self._check()
        place = self.file(algorithm, digest)
        if (
            not place.is_file()
            and self.root != self._named
            and re.fullmatch("sha(256|512)[0-9a-f]+", algorithm + digest)
        ):
            with self.workspace() as space, contextlib.suppress(OSError, VerificationError):
                _take(self._named / "files" / place.name, space / "file", algorithm, digest)
                self.add(space / "file", algorithm, digest, origin=str(self._named))
        return place.is_file()

    def file(self, algorithm: str, digest: str) -> Path:
        """Where the file of that digest is, if it is here."""
        return self.root / "files" / f"{algorithm}-{digest}"

    def add(self, path: Path, algorithm: str, digest: str, *, origin: str) -> Path:
        """Takes a file in (it is moved), after its digest was checked. Raises `VerificationError`."""
        found = digest_of(path, algorithm)
        if found != digest:
            raise VerificationError(
                f"{origin}: {algorithm} is {found}, should be {digest}; the file was not kept",
                hint="the download was damaged or the file was changed at its source: try again, or another mirror",
            )
        place = self.file(algorithm, digest)
        self._keep(path, place)
        return place

    def prepared(self, key: str, make: Callable[[Path], object], *, limit: float) -> Path:
        """The folder of that key; when it is not here, `make` fills it first. Others wait while one makes it."""
        self._check()
        place = self.root / "prepared" / key
        if not place.is_dir():
            with self.lock(key, limit=limit):
                if not place.is_dir():
                    with self.workspace() as space:
                        new = space / "new"
                        new.mkdir()
                        make(new)
                        self._keep(new, place)
        return place

    def record(self, name: str) -> tuple[dict[str, str], float] | None:
        """A small record, and its age in seconds; None when there is none that can be read.

        One from the future, which a clock that was set back makes, counts as old as it is ahead.
        """
        self._check()
        place = self.root / "records" / f"{name}.json"
        try:
            value = json.loads(place.read_text("utf-8"))
            return {str(key): str(text) for key, text in value.items()}, abs(time.time() - place.stat().st_mtime)
        except (OSError, ValueError, AttributeError):
            return None

    def write_record(self, name: str, value: dict[str, str]) -> None:
        """Keeps a small record under a name; the one before is replaced at once or not at all."""
        with self.workspace() as space:
            new = space / "record"
            new.write_text(json.dumps(value, indent=1, sort_keys=True), "utf-8")
            self._keep(new, self.root / "records" / f"{name}.json")

    @contextmanager
    def workspace(self) -> Iterator[Path]:
        """A folder in the cache for things half made; it is removed at the end, and swept by others if we are
        killed.
        """
        with self.lock("sweep", limit=30):
            folder = self.room("tmp")
            for old in folder.glob(f"{tempfile.gettempprefix()}*"):
                _remove_if_dead(old)
            space = Path(tempfile.mkdtemp(prefix=tempfile.gettempprefix(), dir=folder))
            alive = os.open(space / ".alive", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
            fcntl.flock(alive, fcntl.LOCK_EX)
        try:
            yield space
        finally:
            shutil.rmtree(space, ignore_errors=True)
            os.close(alive)

    @contextmanager
    def lock(self, name: str, *, limit: float, shared: bool = False) -> Iterator[None]:
        """Holds a lock that ends with this process, however it ends. Raises `ImagesError` after `limit` seconds."""
        self._check()
        folder = self.root / "locks"
        try:
            self.room("locks")
            descriptor = os.open(folder / name, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ImagesError(
                f"the cache {self.root} cannot be written: {error.strerror}",
                hint="VMATLAS_CACHE=FOLDER names another place",
            ) from error
        try:
            end = time.monotonic() + limit
            while True:
                try:
                    fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end:
                        raise ImagesError(
                            f"another run holds {folder / name} for more than {limit:.0f} s",
                            hint="wait for it to end, or use another VMATLAS_CACHE",
                        ) from None
                    time.sleep(0.05)
            yield
        finally:
            os.close(descriptor)

    def in_use(self, limit: float = 60) -> AbstractContextManager[None]:
        """A context in which the cache is not emptied by another run."""
        return self.lock("use", limit=limit, shared=True)

    def size(self) -> int:
        """Bytes that the cache takes on disk."""
        self._check()
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    continue  # another run has just removed it
        return total

    def clean(self) -> int:
        """Empties the cache, once no other run fetches or prepares; the bytes that were freed.

        Raises `ImagesError` for a folder in which something else lies: what is called as our rooms may be of that.
        """
        self._check()
        if not self.root.is_dir():
            return 0
        known = (*_ROOMS, "lost+found", "CACHEDIR.TAG")
        if other := sorted(
            each.name
            for each in self.root.iterdir()
            if not each.name.startswith(("user-", ".nfs")) and each.name not in known
        ):
            raise ImagesError(
                f"{self.root} is more than a cache, {other[0]} lies there: nothing was removed",
                hint=f"remove in it by hand what is the cache's: {', '.join(_ROOMS)}",
            )
        with self.lock("use", limit=10):
            before = self.size()
            for name in _EMPTIED:
                if (self.root / name).is_dir():
                    shutil.rmtree(self.root / name)
            return before - self.size()

    def _keep(self, new: Path, place: Path) -> None:
        self.room(place.parent.name)
        for path in [new, *new.rglob("*")] if new.is_dir() else [new]:
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        try:
            new.rename(place)
        except OSError:
            if not place.is_dir():  # another run has made the same folder meanwhile
                raise


def _remove_if_dead(space: Path) -> None:
    try:
        descriptor = os.open(space / ".alive", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        shutil.rmtree(space, ignore_errors=True)
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(space, ignore_errors=True)
    except BlockingIOError:
        pass  # its process lives
    finally:
        os.close(descriptor)
