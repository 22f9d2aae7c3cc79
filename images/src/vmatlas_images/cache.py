"""What was fetched and prepared, kept by the digests of what it is or was made from.

Everything appears in the cache by a rename of something complete, so an entry is whole or absent whatever kills a run;
half-made things stand in `tmp/`, each under a lock that dies with its process, and are swept by the next run. This
module knows nothing of where things come from; it must never hand out an entry that it did not check when it was added.

What is in it is believed, and booted: so it is a folder that nobody else can write to. Where the folder that is named
can be written by others, a folder of one's own in it is the cache, and of what is beside that only files are taken,
copied, and their digests checked.
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

from .errors import ImagesError, VerificationError


def default_root() -> Path:
    """`$VMATLAS_CACHE`, or `~/.cache/vmatlas` (`$XDG_CACHE_HOME/vmatlas`)."""
    if named := os.environ.get("VMATLAS_CACHE"):
        return Path(named).expanduser().absolute()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache").absolute() / "vmatlas"


def digest_of(path: Path, algorithm: str = "sha256") -> str:
    """The hexadecimal digest of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def key_of(*parts: object) -> str:
    """A key made from JSON values: the same parts, the same key."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


_ROOMS = ("files", "prepared", "records", "consoles", "tmp")


def is_ours(folder: Path) -> bool:
    """Whether nobody but this user and root can change what is in a folder; true of what is none, or not there yet."""
    try:
        told = folder.stat()
    except OSError:
        return True
    if not stat.S_ISDIR(told.st_mode):
        return True
    if told.st_uid not in (os.geteuid(), 0):
        return False
    # Where each user has a group of their own, of the same number, folders are often made writable for that.
    others = stat.S_IWOTH | (0 if told.st_gid == told.st_uid else stat.S_IWGRP)
    return not told.st_mode & others


def _copy_file(source: Path, place: Path) -> None:
    """Raises OSError, for what is no regular file, too: a link, a pipe."""
    descriptor = os.open(source, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file, place.open("xb") as copy:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "no regular file")
        shutil.copyfileobj(file, copy, 1 << 20)


class Cache:
    """One cache folder. It may be shared by any number of processes at once."""

    def __init__(self, root: Path | None = None) -> None:
        self._named = root or default_root()
        self.root = self._named
        if not all(map(is_ours, [self._named, *(self._named / name for name in _ROOMS)])):
            self.root = self._named / f"user-{os.geteuid()}"

    def _check(self) -> None:
        """Raises `ImagesError` when others can change what is in the folder."""
        if not is_ours(self.root):
            raise ImagesError(
                f"{self.root} can be changed by others, and what is in the cache is booted",
                hint="VMATLAS_CACHE=FOLDER names another place",
            )

    def _room(self, name: str) -> Path:
        """A folder in it, made when it is first needed, for nobody else to write to whatever the umask says."""
        folder = self.root / name
        self.root.mkdir(0o755, parents=True, exist_ok=True)
        folder.mkdir(0o755, exist_ok=True)
        return folder

    def has(self, algorithm: str, digest: str) -> bool:
        """Whether the file of that digest is here: of a cache that others fill, too, a copy is taken and checked."""
        self._check()
        place = self.file(algorithm, digest)
        if not place.is_file() and self.root != self._named and re.fullmatch("[a-z0-9]+", algorithm + digest):
            with self.workspace() as space, contextlib.suppress(OSError, VerificationError):
                _copy_file(self._named / "files" / place.name, space / "file")
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
            folder = self._room("tmp")
            for old in folder.iterdir():
                _remove_if_dead(old)
            space = Path(tempfile.mkdtemp(dir=folder))
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
            self._room("locks")
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
        total = 0
        for folder, _, names in os.walk(self.root):
            for name in names:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    continue  # another run has just removed it
        return total

    def clean(self) -> int:
        """Empties the cache, once no other run fetches or prepares; the bytes that were freed."""
        if not self.root.is_dir():
            return 0
        with self.lock("use", limit=10):
            before = self.size()
            for name in _ROOMS:
                if (self.root / name).is_dir():
                    shutil.rmtree(self.root / name)
            return before - self.size()

    def _keep(self, new: Path, place: Path) -> None:
        self._room(place.parent.name)
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
