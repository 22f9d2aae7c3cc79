"""Where the files of a data set lie: a folder here, or what fsspec reaches (s3://, gs://, memory://).

Each file is whole when it is seen. Here it is written under another name, flushed, and renamed; an object store shows
an object when all of it has come, and not before.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, cast

from vmatlas.errors import MalformedData, UsageError, VmatlasError, legible
from vmatlas.systems.posix import read_plain
from vmatlas.writing import held_folder, make_folder, open_regular
from vmatlas_fleet.extras import needed

UNSEEN = "_writing"
"""The folder of what is not whole yet. Engines pass over names that begin so."""
_OWN = 0o700
"""Of the folders that are made, which are called as hosts are."""
_LONG_AGO = 86400.0
"""Seconds after which nobody is still writing a file."""


class Storage(Protocol):
    """Files by name, with "/" between folders."""

    location: str
    """As it was given."""

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """Put a file there, or in the place of one, at once. Raises OSError; nothing is left then."""
        ...

    def read(self, name: str, most: int) -> bytes | None:
        """All of it; None where there is none. Raises OSError; MalformedData for what has more than `most` bytes, and
        for what is no file: a data set may be somebody else's."""
        ...

    def names(self, folder: str) -> list[str]:
        """Of what lies in a folder; none where there is no such folder. Raises OSError."""
        ...

    def remove(self, name: str) -> None:
        """One file, if it is there. Raises OSError."""
        ...

    def hold(self, name: str) -> contextlib.AbstractContextManager[bool]:
        """Whether nobody else holds that name; meanwhile nobody does, where the storage has locks."""
        ...


def storage_of(location: str) -> Storage:
    """Of a path, or of a URL. Raises UsageError, Unsupported."""
    scheme, found, rest = location.partition("://")
    if not location or (found and not rest):
        raise UsageError(f"'{location}' is no place for a data set")
    if not found:
        return Folder(location)
    return Folder(rest) if scheme == "file" else Remote(location)


def _checked(name: str, content: bytes, most: int) -> bytes:
    if len(content) > most:
        raise MalformedData(name, most, f"the end of a file of at most {most:,} bytes")
    return content


class Folder:
    """A folder of this machine."""

    def __init__(self, path: str) -> None:
        self.location = path

    def _path(self, name: str) -> str:
        return os.path.join(self.location, *name.split("/"))

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """See `Storage`."""
        folder, _, last = self._path(name).rpartition("/")
        part = f"{last[:100]}.{secrets.token_hex(8)}"
        with held_folder(self._path(UNSEEN), makes=_OWN) as unseen, held_folder(folder, makes=_OWN) as there:
            # Addresses are what an attack lacks: for its owner alone, as a capture is.
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(part, flags, 0o600, dir_fd=unseen)
            try:
                with open(descriptor, "wb") as file:
                    fill(cast(BinaryIO, file))
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(part, last, src_dir_fd=unseen, dst_dir_fd=there)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(part, dir_fd=unseen)
                raise

    def read(self, name: str, most: int) -> bytes | None:
        """See `Storage`."""
        try:
            content, _ = read_plain(self._path(name), most + 1)
        except ValueError:
            raise MalformedData(name, 0, "a regular file") from None
        except (FileNotFoundError, NotADirectoryError):
            return None
        return _checked(name, content, most)

    def check(self, folder: str, below: int = 2) -> None:
        """Look whether a folder, and those `below` it, hold regular files alone: an engine would wait for a pipe, and
        read a device for ever. Raises OSError, MalformedData."""
        with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(self._path(folder)) as entries:
            for entry in entries:
                name = f"{folder}/{entry.name}"
                if entry.is_dir():
                    if below:
                        self.check(name, below - 1)
                elif not entry.is_file():
                    raise MalformedData(name, 0, "a regular file")

    def names(self, folder: str) -> list[str]:
        """See `Storage`."""
        try:
            return sorted(os.listdir(self._path(folder) if folder else self.location))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def remove(self, name: str) -> None:
        """See `Storage`."""
        folder, _, last = self._path(name).rpartition("/")
        with contextlib.suppress(FileNotFoundError), held_folder(folder) as there:
            os.unlink(last, dir_fd=there)

    def sweep(self) -> None:
        """Take away what recordings that were killed long ago had not finished. Raises OSError."""
        with contextlib.suppress(FileNotFoundError), held_folder(self._path(UNSEEN)) as unseen:
            listed = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=unseen)
            try:
                names = os.listdir(listed)
            finally:
                os.close(listed)
            for name in names:
                with contextlib.suppress(FileNotFoundError):
                    if time.time() - os.stat(name, dir_fd=unseen, follow_symlinks=False).st_mtime > _LONG_AGO:
                        os.unlink(name, dir_fd=unseen)

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """See `Storage`: by flock, which the system lets go of when this process ends, however it ends."""
        import fcntl

        path = self._path(name)
        make_folder(os.path.dirname(path), _OWN)
        with open(open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True


@contextlib.contextmanager
def _told(location: str) -> Iterator[None]:
    """What a storage refuses is an OSError, whatever its library calls it."""
    try:
        yield
    except (OSError, VmatlasError):
        raise
    except Exception as error:  # each has errors of its own for a server that is gone, a key, a name
        raise OSError(errno.EIO, legible(f"{location}: {type(error).__name__}: {error}", 300)) from None


class Remote:
    """What fsspec reaches."""

    def __init__(self, url: str) -> None:
        self.location = url
        try:
            with _told(url):
                self._files, self._root = needed("fsspec").core.url_to_fs(url)
        except OSError as error:  # the library of that storage is another one, or finds something wrong with the URL
            raise UsageError(f"'{url}' cannot be reached: {error.strerror or error}") from None

    @property
    def files(self) -> Any:
        """fsspec's own file system, for an engine."""
        return self._files

    def _path(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}" if name else self._root

    def write(self, name: str, fill: Callable[[BinaryIO], object]) -> None:
        """See `Storage`: in one piece."""
        import io

        held = io.BytesIO()
        fill(held)
        path, content = self._path(name), held.getvalue()
        with _told(self.location):
            try:
                self._files.pipe_file(path, content)
            except FileNotFoundError:
                self._make_folders(path)
                self._files.pipe_file(path, content)

    def _make_folders(self, path: str) -> None:
        """Those above a file, where there are folders. A bucket is not made: its name may be a slip."""
        folders = path.split("/")[:-1]
        for count in range(2, len(folders) + 1):
            with contextlib.suppress(FileExistsError):
                self._files.mkdir("/".join(folders[:count]), create_parents=False)

    def read(self, name: str, most: int) -> bytes | None:
        """See `Storage`."""
        try:
            with _told(self.location):
                content: bytes = self._files.cat_file(self._path(name), start=0, end=most + 1)
        except FileNotFoundError:
            return None
        return _checked(name, content, most)

    def names(self, folder: str) -> list[str]:
        """See `Storage`. Asked anew: others write there too."""
        try:
            with _told(self.location):
                found = self._files.ls(self._path(folder), detail=False, refresh=True)
        except FileNotFoundError:
            return []
        return sorted(each.rstrip("/").rpartition("/")[2] for each in found)

    def remove(self, name: str) -> None:
        """See `Storage`."""
        with contextlib.suppress(FileNotFoundError), _told(self.location):
            self._files.rm_file(self._path(name))

    @contextlib.contextmanager
    def hold(self, name: str) -> Iterator[bool]:
        """See `Storage`: object stores have no locks."""
        yield True
