"""Brings the bytes of a URL into a file: bounded retries, bounded waits, a bounded total. It verifies nothing:
callers do.
"""

from __future__ import annotations

import contextlib
import errno
import http.client
import re
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmatlas.errors import legible

from ..errors import FetchError, NotThere
from ..resolve.offline import refuse_offline

Progress = Callable[[str, int, int | None], None]
"""Told what is fetched, the bytes so far and the bytes in all (None: not known)."""

_CHUNK = 1 << 18
_ATTEMPTS = 4
_PAUSE = 0.5  # seconds after the first attempt; twice as many after each one more
_SILENCE = 30.0  # seconds without a byte before an attempt is given up
_LOOK = 0.1  # seconds between two looks at how far it is
_LARGEST = 8 << 30
"""Bytes that a file may have where its catalogue does not say how long it is: an image of a disk has a tenth."""
_RETRIED = {408, 425, 429, 500, 502, 503, 504}
_GONE = {404, 410}
_PART, _NO_SUCH_PART = 206, 416
_ANEW = {"Cache-Control": "no-cache", "Pragma": "no-cache"}  # for caches of HTTP/1.1 and of 1.0


def quiet(what: str, done: int, total: int | None) -> None:
    """Shows nothing."""


def download(
    url: str,
    place: Path,
    *,
    limit: float,
    progress: Progress = quiet,
    most: int | None = None,
    what: str | None = None,
    anew: bool = False,
) -> None:
    """Writes what `url` gives to `place`, within `limit` seconds in all and `most` bytes, whatever the server does.

    An attempt that fails is repeated up to three times, after 0.5, 1 and 2 seconds, unless the server says that the
    file is not there (`NotThere`). It goes on where the one before ended, if the server names the file's version and
    gives parts (RFC 9110: Range, If-Range); one that brought the file further so does not count. Raises `FetchError`;
    `place` may then hold a part. With `anew`, caches on the way are told to ask the server itself.
    """
    end = time.monotonic() + limit
    what = what or url.rsplit("/", 1)[-1]
    refuse_offline(url)
    part = Part()
    attempt = 0
    while True:
        before = part.size
        try:
            _attempt(url, place, end, progress, _LARGEST if most is None else most, what, _ANEW if anew else {}, part)
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _GONE:
                raise NotThere(f"{url}: the server says {error.code} {legible(str(error.reason), 200)}") from None
            problem, final = (
                f"the server says {error.code} {legible(str(error.reason), 200)}",
                error.code not in _RETRIED,
            )
            if error.code == _NO_SUCH_PART and part.size:
                final = False
                part.forget()
        except urllib.error.URLError as error:
            problem, final = legible(str(error.reason), 300), False
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
        ) as error:  # the last: of what is in no form, as addresses
            problem = legible(str(error), 300) or type(error).__name__
            final = isinstance(error, _TooLong | ValueError) or getattr(error, "errno", None) in (
                errno.ENOSPC,
                errno.EDQUOT,
            )
        attempt = 0 if part.size > before > 0 else attempt
        wait = _PAUSE * 2**attempt
        if final or attempt + 1 == _ATTEMPTS or time.monotonic() + wait > end:
            tries = f" (after {attempt + 1} attempts)" if attempt else ""
            raise FetchError(f"{url}: {problem}{tries}")
        time.sleep(wait)
        attempt += 1


@dataclass
class Part:
    """What of a file is there, and which version of it the server said that it is; empty: another cannot be joined."""

    size: int = 0
    version: str = ""

    def forget(self) -> None:
        """Begin again."""
        self.size, self.version = 0, ""

    def begin(self, tag: str, modified: str) -> None:
        """A whole file comes; a weak tag does not tell whether two are the same byte for byte."""
        self.size, self.version = 0, modified if not tag or tag.startswith("W/") else tag

    def headers(self) -> dict[str, str]:
        """What asks for the rest of that version, or for all of another."""
        if not (self.size and self.version):
            return {}
        return {"Range": f"bytes={self.size}-", "If-Range": self.version}

    def is_joined_by(self, status: int, told: str | None) -> bool:
        """Whether an answer is the rest that was asked for. Raises OSError for a part that nobody asked for."""
        if status != _PART:
            return False
        if told is None or not told.startswith(f"bytes {self.size}-"):
            raise OSError(f"a part that was not asked for: {told}")
        return True


class _TooLong(OSError):
    pass


def _attempt(
    url: str, place: Path, end: float, progress: Progress, most: int, what: str, headers: dict[str, str], part: Part
) -> None:
    """One attempt, in a thread of its own: this one waits no longer than to the end, whatever the other hangs in.

    A timeout of a socket begins anew with each byte, of which a server can send one now and then for ever: of a header,
    of a hundred-and-first redirect, of what comes behind the file. So the line is cut from here.
    """
    attempt = _Attempt(url, place, end, most, headers | part.headers(), part)
    try:
        attempt.start()
    except RuntimeError as error:  # no thread to spare
        raise OSError(errno.EAGAIN, str(error)) from error
    told = 0
    try:
        while not attempt.ended.wait(_LOOK):
            if attempt.done > told:
                told = attempt.done
                progress(what, told, attempt.total)
            if time.monotonic() > end:
                raise _TooLong(f"not through within the time limit ({attempt.done} bytes came)")
    finally:
        attempt.cut()
    if attempt.done > told or attempt.failure is None:
        progress(what, attempt.done, attempt.total)
    if attempt.failure is not None:
        if time.monotonic() > end:
            raise _TooLong(f"not through within the time limit ({attempt.done} bytes came)")
        raise attempt.failure


class _Attempt(threading.Thread):
    """Fetches once. What it does may hang in a name server, or in bytes that drip: `cut` ends it from outside."""

    def __init__(self, url: str, place: Path, end: float, most: int, headers: dict[str, str], part: Part) -> None:
        super().__init__(name=f"fetches {url}", daemon=True)
        self._request = urllib.request.Request(url, headers={"User-Agent": "vmatlas-images"} | headers)
        self._place, self._most, self._part = place, most, part
        self._silence = max(1.0, min(_SILENCE, end - time.monotonic()))
        self._lines: list[socket.socket] = []
        self._guard, self._is_cut = threading.Lock(), False
        self.ended = threading.Event()
        self.done = 0
        self.total: int | None = None
        self.failure: Exception | None = None

    def cut(self) -> None:
        """End whatever it is at, and what it would begin."""
        with self._guard:
            self._is_cut = True
            for line in self._lines:
                with contextlib.suppress(OSError):
                    line.shutdown(socket.SHUT_RDWR)
        self.join(_LOOK * 20)  # it ends at once, but in the midst of asking a name server
        with self._guard:
            while self._lines:
                self._lines.pop().close()

    def connect(self, *arguments: Any, **options: Any) -> socket.socket:
        """As `socket.create_connection`; the connection can be cut from now on."""
        line = socket.create_connection(*arguments, **options)
        with self._guard:
            if self._is_cut:
                line.close()
                raise OSError(errno.ECANCELED, "given up")
            self._lines.append(line.dup())  # TLS takes the first one over
        return line

    def run(self) -> None:
        """Fetches; what goes wrong is in `failure`."""
        try:
            self._fetch()
        except Exception as error:
            self.failure = error
        finally:
            self.ended.set()

    def _fetch(self) -> None:
        opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            _Http(self),
            _Https(self),
            urllib.request.FileHandler() if self._request.type == "file" else urllib.request.UnknownHandler(),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPRedirectHandler(),
            urllib.request.HTTPErrorProcessor(),
        ):
            opener.add_handler(handler)
        with contextlib.ExitStack() as held:
            answer = held.enter_context(opener.open(self._request, timeout=self._silence))
            status = getattr(answer, "status", None) or 200  # a file: URL has none
            goes_on = self._part.is_joined_by(status, answer.headers.get("Content-Range"))
            file = held.enter_context(self._place.open("r+b" if goes_on else "wb"))
            if goes_on:
                file.truncate(self._part.size)
                file.seek(self._part.size)
            else:
                self._part.begin(answer.headers.get("ETag") or "", answer.headers.get("Last-Modified") or "")
            self.done = self._part.size
            length = re.fullmatch("[0-9]{1,19}", answer.headers.get("Content-Length") or "")
            self.total = self.done + int(length[0]) if length else None
            if self.total is not None and self.total > self._most:
                raise _TooLong(f"longer than the {self._most:,} bytes that it may have")
            while chunk := answer.read1(_CHUNK) if hasattr(answer, "read1") else answer.read(_CHUNK):
                if self._is_cut:
                    return
                file.write(chunk)
                self.done = self._part.size = self.done + len(chunk)
                if self.done > self._most:
                    raise _TooLong(f"longer than the {self._most:,} bytes that it may have")
            if self.total is not None and self.done != self.total:
                raise OSError(f"ended after {self.done} of {self.total} bytes")


class _Http(urllib.request.HTTPHandler):
    def __init__(self, attempt: _Attempt) -> None:
        super().__init__()
        self._attempt = attempt

    def http_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Opens it by a connection that can be cut."""

        def connection(host: str, **options: Any) -> http.client.HTTPConnection:
            made = http.client.HTTPConnection(host, **options)
            made._create_connection = self._attempt.connect  # type: ignore[attr-defined]
            return made

        return self.do_open(connection, request)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, attempt: _Attempt) -> None:
        super().__init__()
        self._attempt = attempt

    def https_open(self, request: urllib.request.Request) -> http.client.HTTPResponse:
        """Opens it by a connection that can be cut."""

        def connection(host: str, **options: Any) -> http.client.HTTPSConnection:
            made = http.client.HTTPSConnection(host, **options)
            made._create_connection = self._attempt.connect  # type: ignore[attr-defined]
            return made

        return self.do_open(connection, request)
