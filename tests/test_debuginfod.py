"""Servers of debuginfod: asked only where one is set, and believed only what the build id in the file confirms."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import vmatlas
from vmatlas import UsageError, debuginfod
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program as command_line
from vmatlas.conformance.made_core import made_core, note
from vmatlas.conformance.patience import PATIENCE
from vmatlas.debuginfod import Debuginfod, cache_folder, urls_of
from vmatlas.symbols.table import build_id_of_head

CC = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(
    CC is None or not all(map(shutil.which, ("objcopy", "strip"))), reason="no C compiler, or no binutils, is here"
)
SOURCE = """
#include <stdio.h>
__attribute__((noinline)) static int inner(int x) { return x * 3; }
int main(void) { printf("%p\\n", (void *)inner); fflush(stdout); getchar(); return inner(1); }
"""


class Server:
    """A server on the loopback interface that answers as a test wants it to."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.asked: list[str] = []
        self.answer: Callable[[BaseHTTPRequestHandler], None] | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if outer.answer is not None:
                    outer.answer(self)
                    return
                content = outer.files.get(self.path)
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", debuginfod.ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("VMATLAS_CACHE", str(tmp_path / "cache"))
    found = Server()
    yield found
    found.close()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes, bytes]:
    """A program without symbols, its debug file, and their build id."""
    folder = tmp_path_factory.mktemp("debuginfod")
    (folder / "program.c").write_text(SOURCE)
    whole, debug, program = folder / "whole", folder / "debug", folder / "program"
    for command in (
        [str(CC), "-O1", "-g", "-fPIE", "-pie", "-Wl,--build-id=sha1", "-o", whole, folder / "program.c"],
        ["objcopy", "--only-keep-debug", whole, debug],
        ["strip", "-o", program, whole],
    ):
        subprocess.run(command, check=True, timeout=PATIENCE)
    build_id = build_id_of_head(program.read_bytes()[:4096])
    assert build_id is not None
    return program, debug.read_bytes(), build_id


@pytest.fixture
def run(built: tuple[Path, bytes, bytes]) -> Iterator[tuple[int, int]]:
    """The process of it, and an address in a function of which only the debug file knows the name."""
    with subprocess.Popen([built[0]], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline(), 16) + 1
        process.communicate("\n", timeout=PATIENCE)


def path_of(build_id: bytes, what: str = "debuginfo") -> str:
    return f"/buildid/{build_id.hex()}/{what}"


def test_debug_file_comes_from_a_server_and_is_kept_for_its_owner_alone(
    server: Server, built: tuple[Path, bytes, bytes], run: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, debug, build_id = built
    pid, address = run
    server.files[path_of(build_id)] = debug
    assert [str(each) for each in vmatlas.symbolize_many(pid, [address])] != ["inner+0x1"]
    assert server.asked == []  # nobody named it
    (found,) = vmatlas.symbolize_many(pid, [address], debuginfod=[server.url + "/"])
    assert (str(found), found and found.source) == ("inner+0x1", "debug file")
    (kept,) = cache_folder().iterdir()
    assert kept.read_bytes() == debug
    assert (kept.stat().st_mode & 0o777, cache_folder().stat().st_mode & 0o777) == (0o600, 0o700)
    monkeypatch.setenv(debuginfod.ENVIRONMENT, f"{server.url} ima:enforcing")
    assert [str(each) for each in vmatlas.symbolize_many(pid, [address])] == ["inner+0x1"]
    assert server.asked == [path_of(build_id)]  # once
    kept.write_bytes(debug[:-9000].replace(build_id, bytes(20)))
    assert [str(each) for each in vmatlas.symbolize_many(pid, [address])] == ["inner+0x1"]
    assert server.asked == [path_of(build_id)] * 2  # what was kept is another file now
    assert [
        each for each in vmatlas.symbolize_many(pid, [address], debuginfod=()) if each and each.name == "inner"
    ] == []


def test_program_that_is_not_here_comes_from_a_server_too(
    server: Server, built: tuple[Path, bytes, bytes], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program, debug, build_id = built
    content = program.read_bytes()
    name = b"/no/such/place/program\0"
    start = 0x7F0000000000
    files = b"".join(each.to_bytes(8, "little") for each in (1, 4096, start, start + 0x1000, 0)) + name
    notes = note(b"CORE", 1, bytes(336)) + note(b"CORE", 0x46494C45, files)
    core = tmp_path / "core"
    made = bytearray(made_core([(start, 0x1000, 4)], notes))
    page = 64 + 56  # where its program header stands: behind that of the notes
    made[page + 8 : page + 16] = len(made).to_bytes(8, "little")
    made[page + 32 : page + 40] = (4096).to_bytes(8, "little")
    core.write_bytes(bytes(made) + content[:4096])
    server.files |= {path_of(build_id, "executable"): content, path_of(build_id): debug}
    words = ["find", str(core), f"{start + 0x10:x}", "--symbol"]
    assert command_line.run(words) == Exit.OK
    assert "no file that can be read lies at that path here" in capsys.readouterr().err
    assert server.asked == []
    assert command_line.run([*words, "--debuginfod", server.url]) == Exit.OK
    shown = capsys.readouterr()
    assert "no symbols of" not in shown.err
    assert " 10 " in shown.out  # the address in the file, of which the first page alone is in the core
    assert server.asked[0] == path_of(build_id, "executable")
    assert command_line.run(["find", str(core), "10", "--debuginfod", server.url]) == Exit.USAGE


def lies(handler: BaseHTTPRequestHandler, content: bytes) -> None:
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(content)


def test_server_that_sends_another_file_is_told_and_not_asked_again(
    server: Server, built: tuple[Path, bytes, bytes], run: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    _, debug, build_id = built
    pid, address = run
    server.answer = lambda handler: lies(handler, debug.replace(build_id, bytes(range(20))))
    words = ["find", str(pid), f"{address:x}", "--symbol", "--debuginfod", server.url]
    assert command_line.run(words) == Exit.OK
    said = capsys.readouterr().err
    assert f"it sent that of build id {bytes(range(20)).hex()} for {build_id.hex()}, which was thrown away" in said
    assert list(cache_folder().iterdir()) == []
    asks = Debuginfod([server.url])
    assert asks.file(build_id, "debuginfo") is None
    assert asks.file(bytes(20), "debuginfo") is None
    assert len(server.asked) == 2
    asks.close()


def never_ends(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(10_000):
        try:
            handler.wfile.write(b"x")
            time.sleep(0.01)
        except OSError:
            return


def test_server_that_never_ends_is_given_up(server: Server) -> None:
    server.answer = never_ends
    asks = Debuginfod([server.url], seconds=0.3)
    begin = time.monotonic()
    assert asks.file(b"\1" * 20, "debuginfo") is None
    assert time.monotonic() - begin < PATIENCE
    assert "took more than 0.3 seconds" in asks.said[0]
    assert list(cache_folder().iterdir()) == []
    asks.close()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (lambda handler: lies(handler, b"not an ELF file"), "a file without a build id"),
        (lambda handler: handler.send_error(500), "it answered 500"),
        (lambda handler: handler.wfile.write(b"nonsense\r\n\r\n"), "it cannot be asked"),
        (lambda handler: lies(handler, bytes(2000)), "it sent more than 1,000 bytes"),
    ],
)
def test_what_a_server_does_wrong_is_said(
    answer: Callable[[BaseHTTPRequestHandler], None], words: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(debuginfod, "LARGEST", 1000)
    server.answer = answer
    asks = Debuginfod([server.url])
    assert asks.file(b"\1" * 20, "debuginfo") is None
    assert words in asks.said[0]
    asks.close()


def test_server_that_leads_to_a_file_of_this_machine_leads_nowhere(server: Server) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "file:///etc/hostname")
        handler.end_headers()

    server.answer = answer
    asks = Debuginfod([server.url])
    assert asks.file(b"\1" * 20, "debuginfo") is None
    assert len(asks.said) == 1
    asks.close()


def test_file_that_a_server_has_not_is_nothing_to_tell(server: Server) -> None:
    asks = Debuginfod([server.url])
    for _ in range(2):
        assert asks.file(b"\1" * 20, "debuginfo") is None
    assert (asks.said, len(server.asked)) == ([], 1)
    asks.close()


def test_folder_that_others_may_write_to_is_not_used(server: Server) -> None:
    cache_folder().mkdir(parents=True)
    os.chmod(cache_folder(), 0o777)
    asks = Debuginfod([server.url])
    assert asks.file(b"\1" * 20, "debuginfo") is None
    assert "others may write to it" in asks.said[0]
    assert server.asked == []


def test_what_is_no_url_is_refused_or_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("file:///etc", "ftp://x", "x", "http://", "http://x:99999", "http://a b", "http://me:secret@x"):
        with pytest.raises(UsageError, match="no URL"):
            urls_of([wrong])
    monkeypatch.setenv(debuginfod.ENVIRONMENT, "ima:enforcing https://one/ file:///etc")
    assert urls_of(None) == (("https://one",), [urls_of(None)[1][0]])
    assert "'file:///etc'" in urls_of(None)[1][0]
    assert urls_of(()) == ((), [])
