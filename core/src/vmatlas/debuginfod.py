"""Programs and debug files by their build id, from debuginfod servers. Nobody is asked unless a server's URL is set: by
the caller, or in DEBUGINFOD_URLS.

A server is a stranger. What it sends has a limit in bytes, asking has one in seconds, and a file is used if the build
id in it is the one that was asked for, and only then; what was wrong is said. What came is kept in a folder that nobody
else writes to. The protocol is that of debuginfod(8): GET URL/buildid/HEX/debuginfo, or /executable.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from vmatlas.arguments import iterated, shown
from vmatlas.caching import cache_root, is_safe_way
from vmatlas.errors import UsageError
from vmatlas.symbols.table import Sections

if TYPE_CHECKING:
    import socket
    from http.client import HTTPResponse
    from urllib.request import OpenerDirector

ENVIRONMENT = "DEBUGINFOD_URLS"
"""URLs with blanks between them, as other clients take them."""
SECONDS = 90.0
"""How long servers may take in all, for one that asks (debuginfod's own clients give each file as long)."""
LARGEST = 1 << 30
"""Bytes of one file. The debug file of a browser has some hundred million."""
MOST_FILES = 64
"""So many files are asked for by one that asks."""
MOST_URLS = 16
_PIECE = 1 << 16
_QUIET = 10.0
"""Seconds without a byte."""

What = Literal["debuginfo", "executable"]


def urls_of(given: Sequence[str] | None) -> tuple[tuple[str, ...], list[str]]:
    """The servers to ask: those that are given, or where nothing is (None) those of the environment; and what is to be
    said of the others there. Raises UsageError for what is given and is no URL of http or https."""
    wrong = UsageError(f"{shown(given)} are no URLs of debuginfod servers", hint="a list of them: http://HOST")
    asked = os.environ.get(ENVIRONMENT, "").split() if given is None else list(iterated(given, wrong))
    found, said = [], []
    for each in asked:
        if _is_url(each):
            found.append(each.rstrip("/"))
        elif given is not None:
            raise UsageError(
                f"{shown(each)} is no URL of a debuginfod server",
                hint="http://HOST or https://HOST, without a user's name",
            )
        elif not each.startswith("ima:"):  # a word of how elfutils' client checks signatures
            said.append(f"debuginfod: {shown(each)} in {ENVIRONMENT} is no URL of http or https: it is passed over")
    return tuple(found[:MOST_URLS]), said


def _is_url(word: object) -> bool:
    if not isinstance(word, str) or any(letter <= " " for letter in word):
        return False
    try:
        parts = urlsplit(word)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and parts.username is None
    except ValueError:
        return False


def cache_folder() -> Path:
    """Where files are kept, below `cache_root`. Raises RuntimeError and OSError where there is no home."""
    return cache_root() / "debuginfod"


class Debuginfod:
    """Asks servers, as long as one who asks for names needs it. Close it."""

    def __init__(self, urls: Sequence[str], folder: Path | None = None, *, seconds: float = SECONDS) -> None:
        """Asks nobody yet. `folder`: where files are kept, instead of `cache_folder()`."""
        self.said: list[str] = []
        """What went wrong, a line each."""
        self._urls = list(urls)
        self._path = folder
        self._folder: int | None = None
        self._left = seconds
        self._asked: dict[tuple[bytes, What], bool] = {}

    def file(self, build_id: bytes, what: What) -> int | None:
        """A descriptor of the file, to be closed by the caller; None where no server has it, or was fit to be asked."""
        if not self._urls or not build_id:
            return None
        folder = self._own_folder()
        if folder is None:
            return None
        name = f"{build_id.hex()}.{what}"
        found = self._kept(folder, name, build_id)
        if found is not None or self._asked.get((build_id, what)):
            return found
        if len(self._asked) >= MOST_FILES:
            self._say(f"debuginfod: no more than {MOST_FILES} files are asked for")
            return None
        self._asked[build_id, what] = True
        for url in list(self._urls):
            if self._from(url, folder, name, build_id, what):
                return self._kept(folder, name, build_id)
        return None

    def close(self) -> None:
        """Safe to call twice."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None
        self._urls = []

    def _say(self, line: str) -> None:
        if line not in self.said:
            self.said.append(line)

    def _own_folder(self) -> int | None:
        """The folder, held; None, and nobody is asked, where another user could write to it."""
        if self._folder is not None:
            return self._folder
        try:
            path = self._path or cache_folder()
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except (OSError, RuntimeError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            self._say(f"debuginfod: no folder to keep files in: {why}")
            self._urls = []
            return None
        told = os.fstat(held)
        if told.st_uid != os.geteuid() or told.st_mode & (stat.S_IWGRP | stat.S_IWOTH) or not is_safe_way(path):
            os.close(held)
            self._say(f"debuginfod: {path} is another user's, or others may write to it: nobody is asked")
            self._urls = []
            return None
        self._folder = held
        return held

    @staticmethod
    def _kept(folder: int, name: str, build_id: bytes) -> int | None:
        """What is there already, and is what it should be."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            descriptor = os.open(name, flags, dir_fd=folder)
        except OSError:
            return None
        told = os.fstat(descriptor)
        if stat.S_ISREG(told.st_mode) and told.st_uid == os.geteuid() and _build_id_of(descriptor) == build_id:
            return descriptor
        os.close(descriptor)
        return None

    def _from(self, url: str, folder: int, name: str, build_id: bytes, what: What) -> bool:
        """Whether a server sent it. One that failed otherwise than by having none is not asked again."""
        begin = time.monotonic()
        part = f".{name}.{secrets.token_hex(8)}"
        work = _Receiving(f"{url}/buildid/{build_id.hex()}/{what}", folder, part, self._left)
        try:
            why = work.run()
            if why is None:
                descriptor = os.open(part, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
                with contextlib.closing(open(descriptor, "rb", buffering=0)):
                    found = _build_id_of(descriptor)
                if found == build_id:
                    os.rename(part, name, src_dir_fd=folder, dst_dir_fd=folder)
                    return True
                sent = "a file without a build id" if found is None else f"that of build id {found.hex()}"
                why = f"it sent {sent} for {build_id.hex()}, which was thrown away"
        except OSError as error:
            why = f"what it sent cannot be kept: {error.strerror}"
        finally:
            self._left -= time.monotonic() - begin
            with contextlib.suppress(OSError):
                os.unlink(part, dir_fd=folder)
        if why:
            self._say(f"debuginfod at {url}: {why}")
            self._urls.remove(url)
        return False


class _Receiving:
    """One file on its way, in a thread of its own: whatever a server does, whoever waits for it has an end."""

    def __init__(self, url: str, folder: int, name: str, seconds: float) -> None:
        self._url, self._folder, self._name, self._seconds = url, folder, name, seconds
        self._sockets: list[socket.socket] = []
        self._over = threading.Event()
        self._why: str | None = "no answer"

    def run(self) -> str | None:
        """None when the file is there whole; empty when the server has none; else why not, in words. Raises OSError."""
        if self._seconds <= 0:
            return "the time for asking was over"
        descriptor = os.open(
            self._name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=self._folder
        )
        thread = threading.Thread(target=self._receive, args=(descriptor,), daemon=True, name="vmatlas-debuginfod")
        thread.start()
        thread.join(self._seconds)
        if not thread.is_alive():
            return self._why
        self._over.set()
        for each in list(self._sockets):
            with contextlib.suppress(OSError):
                each.shutdown(2)
        thread.join(1)
        return f"it took more than {self._seconds:.3g} seconds"

    def _receive(self, descriptor: int) -> None:
        from http.client import HTTPException
        from urllib.error import HTTPError
        from urllib.request import Request

        with open(descriptor, "wb", buffering=0) as file:
            try:
                request = Request(self._url, headers={"User-Agent": "vmatlas", "Accept-Encoding": "identity"})
                with self._opener().open(request, timeout=_QUIET) as answer:
                    self._why = self._copy(answer, file.write)
            except HTTPError as error:
                self._why = "" if error.code in (404, 410) else f"it answered {error.code}"
                error.close()
            except (OSError, HTTPException, ValueError) as error:
                reason = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
                self._why = f"it cannot be asked: {str(reason)[:200] or type(error).__name__}"

    def _copy(self, answer: HTTPResponse, write: Callable[[bytes], int | None]) -> str | None:
        told = answer.headers.get("Content-Length", "")
        if told.isdigit() and int(told) > LARGEST:
            return f"it offered a file of more than {LARGEST:,} bytes"
        if answer.headers.get("Content-Encoding", "identity") != "identity":
            return "it packed what it sent, which it was asked not to"
        size = 0
        while piece := answer.read(_PIECE):
            size += len(piece)
            if size > LARGEST:
                return f"it sent more than {LARGEST:,} bytes"
            if self._over.is_set():
                return "it was given up"
            view = memoryview(piece)
            while view:
                view = view[write(bytes(view)) or 0 :]
        return f"it ended after {size:,} of {told} bytes" if told.isdigit() and int(told) != size else None

    def _opener(self) -> OpenerDirector:
        """Of http and https alone: a redirection leads to no file of this machine."""
        from functools import partial
        from http.client import HTTPConnection, HTTPSConnection
        from urllib import request

        sockets = self._sockets

        class Plain(HTTPConnection):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        class Secure(HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                sockets.append(self.sock)

        class OpensPlain(request.HTTPHandler):
            def http_open(self, req: request.Request) -> HTTPResponse:
                return self.do_open(partial(Plain), req)

        class OpensSecure(request.HTTPSHandler):
            def https_open(self, req: request.Request) -> HTTPResponse:
                return self.do_open(partial(Secure), req)

        opener = request.OpenerDirector()
        for handler in (
            request.ProxyHandler(),
            OpensPlain(),
            OpensSecure(),
            request.HTTPRedirectHandler(),
            request.HTTPDefaultErrorHandler(),
            request.HTTPErrorProcessor(),
            request.UnknownHandler(),
        ):
            opener.add_handler(handler)
        return opener


def _build_id_of(descriptor: int) -> bytes | None:
    def read(offset: int, size: int) -> bytes:
        return os.pread(descriptor, size, offset) if size and offset < 1 << 63 else b""

    try:
        return Sections(read).build_id
    except OSError:
        return None


__all__ = ["ENVIRONMENT", "LARGEST", "MOST_FILES", "SECONDS", "Debuginfod", "cache_folder", "urls_of"]
