"""Metrics by HTTP, on loopback: one request at a time, each bounded; no page of a browser may read them."""

from __future__ import annotations

import io
import socket
import sys
import time
from collections.abc import Callable, Iterable
from typing import IO, TYPE_CHECKING, Any, cast
from wsgiref.simple_server import ServerHandler, WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

from vmatlas.cli.exits import say, story_of

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer
    from prometheus_client import CollectorRegistry

_SLOWEST = 10.0
"""Seconds that a client may take for its whole request, and then for taking each of the few pieces of the answer."""

_NAMES = frozenset(["127.0.0.1", "localhost", ""])
"""What we may be called: a page of somebody's, whose name is made to lead here, calls us otherwise."""

_Start = Callable[[str, list[tuple[str, str]]], Any]


class _Until(io.RawIOBase):
    """What a client sends, until a time: a limit for each piece of it would be none for a client that drips."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._seconds = connection, seconds
        self._end = time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        try:
            return self._connection.recv_into(buffer)
        finally:
            self._connection.settimeout(self._seconds)  # for the answer


class _Answer(ServerHandler):
    """As the library's, but that a signal ends the server: it would take one for a fault of the answer, and go on."""

    status: str | None = None

    def handle_error(self) -> None:
        error = sys.exc_info()[1]
        if error is None or isinstance(error, Exception):
            super().handle_error()
            return
        self.status = self.status or "500"  # which it tells as it closes
        raise error


_LONGEST = 65536
"""Bytes that the first line of a request may have (as of the library's)."""


class _Handler(WSGIRequestHandler):
    timeout = _SLOWEST

    def setup(self) -> None:
        super().setup()
        self.rfile.close()
        self.rfile = io.BufferedReader(_Until(self.connection, self.timeout))

    def handle(self) -> None:
        self.raw_requestline = self.rfile.readline(_LONGEST + 1)
        if len(self.raw_requestline) > _LONGEST or not self.parse_request():
            return
        streams = cast("IO[bytes]", self.rfile), cast("IO[bytes]", self.wfile)
        answer = _Answer(*streams, self.get_stderr(), self.get_environ(), multithread=False)
        answer.request_handler = self  # type: ignore[attr-defined]
        if (app := cast(WSGIServer, self.server).get_app()) is not None:
            answer.run(app)

    def log_message(self, format: str, *arguments: Any) -> None:
        """Nothing: standard error is for what goes wrong."""


class _Server(WSGIServer):
    request_queue_size = 8

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was too slow, is nobody's fault here."""


def server_of(registry: CollectorRegistry, host: str, port: int) -> WSGIServer:
    """Bound, and not yet serving. Raises OSError."""
    metrics = make_wsgi_app(registry)

    def answer(environment: dict[str, Any], start: _Start) -> Iterable[bytes]:
        if environment.get("HTTP_HOST", "").partition(":")[0] not in _NAMES:
            return _plain(start, "403 Forbidden", "ask for 127.0.0.1 or localhost\n")
        if environment.get("REQUEST_METHOD") not in ("GET", "HEAD", "OPTIONS"):
            return _plain(start, "405 Method Not Allowed", "GET\n")
        if environment.get("PATH_INFO") not in ("/", "/metrics"):
            return _plain(start, "404 Not Found", "/metrics\n")
        try:
            return list(metrics(environment, start))
        except Exception as error:  # told to both, and the next scrape may succeed
            line, hint = story_of(error)
            say(line, hint=hint)
            return _plain(start, "503 Service Unavailable", f"{line.encode('ascii', 'backslashreplace').decode()}\n")

    return make_server(host, port, answer, _Server, _Handler)


def _plain(start: _Start, status: str, text: str) -> list[bytes]:
    start(status, [("Content-Type", "text/plain; charset=utf-8")])
    return [text.encode()]
