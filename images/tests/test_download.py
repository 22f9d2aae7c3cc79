"""Downloads from a server on loopback that fails in each way a server fails."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import FetchError, NotRunnable
from vmatlas_images.fetch import download as downloading
from vmatlas_images.fetch.download import download

from .conftest import Server


def test_a_file_arrives_and_its_progress_is_told(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = bytes(range(256)) * 4096
    told: list[tuple[str, int, int | None]] = []
    download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE, progress=lambda *what: told.append(what))
    assert (tmp_path / "f").read_bytes() == server.files["disk"]
    assert told[-1] == ("disk", 1 << 20, 1 << 20)
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_a_passing_fault_is_tried_again(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"all of it"
    server.refusals["disk"] = [503, 502]
    download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert (tmp_path / "f").read_bytes() == b"all of it"
    assert len(server.asked) == 3


def test_a_file_that_is_not_there_is_not_asked_for_twice(server: Server, tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="404"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert len(server.asked) == 1


def test_a_server_that_hangs_up_half_way_is_told_from_a_whole_file(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * 100_000
    server.truncated["disk"] = 60_000
    with pytest.raises(FetchError, match=r"ended after 60000 of 100000 bytes \(after 4 attempts\)"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)


def test_a_download_goes_on_where_it_was_cut(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PAUSE", 0.01)
    server.files["disk"] = bytes(range(256)) * 400
    server.truncated["disk"], server.tags["disk"] = 15_000, '"one"'
    download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert (tmp_path / "f").read_bytes() == server.files["disk"]
    assert server.parts == [f"bytes={start}-" for start in range(15_000, 102_400, 15_000)], "more than four attempts"


def test_a_file_that_is_another_now_is_fetched_from_its_beginning(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["disk"] = b"x" * 100_000
    server.truncated["disk"], server.tags["disk"] = 60_000, '"one"'

    def changed(_: float) -> None:
        server.files["disk"], server.tags["disk"] = b"y" * 90_000, '"two"'
        server.truncated.clear()

    monkeypatch.setattr(downloading.time, "sleep", changed)
    download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert (tmp_path / "f").read_bytes() == b"y" * 90_000
    assert server.parts == []


def test_a_weak_tag_joins_nothing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloading, "_PAUSE", 0.01)
    server.files["disk"] = b"x" * 100_000
    server.truncated["disk"], server.tags["disk"] = 60_000, 'W/"one"'
    with pytest.raises(FetchError, match="after 4 attempts"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert server.parts == []


def test_a_trickle_is_ended_by_the_limit(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * int(40 * PATIENCE)
    server.trickle["disk"] = 0.05
    started = time.monotonic()
    with pytest.raises(FetchError, match="not through within the time limit"):
        download(f"{server.url}/disk", tmp_path / "f", limit=1)
    assert time.monotonic() - started < PATIENCE


def test_a_mirror_that_falls_silent_in_the_middle_is_given_up(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_SILENCE", 1.0)
    monkeypatch.setattr(downloading, "_ATTEMPTS", 2)
    server.files["f"], server.stalled["f"] = b"x" * 100_000, 40_000
    with pytest.raises(FetchError, match=r"timed out \(after 2 attempts\)"):
        download(f"{server.url}/f", tmp_path / "f", limit=PATIENCE)
    assert server.asked == ["f", "f"]


def test_more_than_was_announced_is_refused(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * 1000
    with pytest.raises(FetchError, match="longer than the 999 bytes"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE, most=999)


def test_no_server_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(FetchError, match="refused") as caught:
        download("http://127.0.0.1:9/disk", tmp_path / "f", limit=PATIENCE)
    assert "\n" not in str(caught.value)


def test_offline_asks_nobody(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VMATLAS_OFFLINE", "1")
    with pytest.raises(NotRunnable, match="not in the cache, and VMATLAS_OFFLINE is set"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE)
    assert server.asked == []


def test_a_full_disk_is_not_tried_again(server: Server) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    server.files["disk"] = b"x" * 100_000
    with pytest.raises(FetchError, match="No space left"):
        download(f"{server.url}/disk", Path("/dev/full"), limit=PATIENCE)
    assert len(server.asked) == 1


# ---- servers that mean harm ----


def _for_ever(pieces: bytes, wait: float = 0.2, before: bytes = b"") -> Callable[[socket.socket], None]:
    def answer(line: socket.socket) -> None:
        line.sendall(before)
        while True:
            line.sendall(pieces)
            time.sleep(wait)

    return answer


def _redirects(line: socket.socket) -> None:
    time.sleep(0.3)
    line.sendall(b"HTTP/1.1 302 x\r\nLocation: /%d\r\nContent-Length: 0\r\nConnection: close\r\n\r\n" % time.time_ns())


_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"
HARMFUL = {
    "drips a header": _for_ever(b"a", before=_OK + b"X-A: "),
    "drips its status": _for_ever(b"H"),
    "says to go on, for ever": _for_ever(b"HTTP/1.1 100 Continue\r\n\r\n" * 100, 0.05),
    "drips a chunk's size": _for_ever(b"0", before=_CHUNKED),
    "adds trailers": _for_ever(b"X: y\r\n", before=_CHUNKED + b"5\r\nhello\r\n0\r\n"),
    "drips the file": _for_ever(b"a", before=_OK + b"Content-Length: 1000000\r\n\r\n"),
    "redirects slowly": _redirects,
    "says nothing": lambda line: time.sleep(PATIENCE),
}


@pytest.fixture
def harmful() -> Iterator[Callable[[Callable[[socket.socket], None]], str]]:
    """Serves each connection by a function; gives the URL."""
    listening: list[socket.socket] = []

    def serve(answer: Callable[[socket.socket], None]) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def one(line: socket.socket) -> None:
            with contextlib.suppress(OSError), line:
                line.recv(65536)
                answer(line)

        def all_of_them() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()

        threading.Thread(target=all_of_them, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/file"

    yield serve
    for server in listening:
        server.close()


@pytest.mark.parametrize("how", HARMFUL)
def test_no_server_holds_a_download_beyond_its_limit(
    how: str, harmful: Callable[[Callable[[socket.socket], None]], str], tmp_path: Path
) -> None:
    url = harmful(HARMFUL[how])
    started = time.monotonic()
    with pytest.raises(FetchError, match=r"not through within the time limit|redirect|timed out"):
        download(url, tmp_path / "f", limit=1.5)
    assert time.monotonic() - started < 1.5 + PATIENCE / 2
    left = [thread for thread in threading.enumerate() if thread.name == f"fetches {url}"]
    for thread in left:
        thread.join(PATIENCE)
        assert not thread.is_alive(), "what fetched is left"


def test_endless_file_ends_at_the_most_that_it_may_have(
    harmful: Callable[[Callable[[socket.socket], None]], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(downloading, "_LARGEST", 1 << 20)
    url = harmful(_for_ever(b"a" * 65536, 0, _OK + b"\r\n"))
    with pytest.raises(FetchError, match="longer than the 1,048,576 bytes"):
        download(url, tmp_path / "f", limit=PATIENCE)
    assert (tmp_path / "f").stat().st_size < 2 << 20


def test_file_that_is_announced_as_too_long_is_not_begun(server: Server, tmp_path: Path) -> None:
    server.files["disk"] = b"x" * 1000
    with pytest.raises(FetchError, match="longer than the 999 bytes"):
        download(f"{server.url}/disk", tmp_path / "f", limit=PATIENCE, most=999)
    assert (tmp_path / "f").stat().st_size == 0


def test_name_server_that_does_not_answer_holds_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(PATIENCE))
    started = time.monotonic()
    try:
        with pytest.raises(FetchError, match="not through within the time limit"):
            download("http://mirror.invalid/f", tmp_path / "f", limit=1)
        assert time.monotonic() - started < PATIENCE / 2
    finally:
        over.set()


@pytest.mark.parametrize("to", ["file:///etc/hostname", "ftp://127.0.0.1/x", "data:,x", "gopher://127.0.0.1/x"])
def test_redirect_leads_to_no_other_protocol(
    to: str, harmful: Callable[[Callable[[socket.socket], None]], str], tmp_path: Path
) -> None:
    head = f"HTTP/1.1 302 x\r\nLocation: {to}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
    with pytest.raises(FetchError):
        download(harmful(lambda line: line.sendall(head)), tmp_path / "f", limit=PATIENCE)
    assert not (tmp_path / "f").exists()


@pytest.mark.parametrize(
    "answer",
    [
        b"302 x\r\nLocation: http://[::1/x\r\nContent-Length: 0",
        b"302 x\r\nLocation: http://" + b"a" * 300 + b"/\r\nContent-Length: 0",
        b"302 x\r\nLocation: http://a..b/\r\nContent-Length: 0",
        b"302 x\r\nLocation: http://\xff\xfe/\r\nContent-Length: 0",
        b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc",
        b"99999999999 OK",
    ],
)
def test_an_answer_in_no_form_is_told_as_the_server_s(
    harmful: Callable[[Callable[[socket.socket], None]], str], tmp_path: Path, answer: bytes
) -> None:
    url = harmful(lambda line: line.sendall(b"HTTP/1.1 " + answer + b"\r\n\r\n"))
    with pytest.raises(FetchError, match=re.escape(url)):
        download(url, tmp_path / "f", limit=0.4)


def test_what_a_server_says_is_told_in_short_and_cannot_steer_a_terminal(
    harmful: Callable[[Callable[[socket.socket], None]], str], tmp_path: Path
) -> None:
    url = harmful(
        lambda line: line.sendall(b"HTTP/1.1 403 \x1b[31m" + b"x" * 60_000 + b"\r\nContent-Length: 0\r\n\r\n")
    )
    with pytest.raises(FetchError) as error:
        download(url, tmp_path / "f", limit=PATIENCE)
    assert len(str(error.value)) < 600 and str(error.value).isprintable()
