"""What the tests of the machines share: a guest's init, its hello, a server and a signed archive on loopback."""

from __future__ import annotations

import hashlib
import http.server
import lzma
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images import Cache, Greeting, Machine, load

HERE = Path(__file__).parent


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cache:
    """An empty cache of the test's own; the environment names it too, and nothing else of vmatlas."""
    for name in ("OFFLINE", "LOCKED", "IMAGES", "DEBIAN_MIRROR", "DEBIAN_KEYRING", "ACCELERATOR"):
        monkeypatch.delenv(f"VMATLAS_{name}", raising=False)
    monkeypatch.setenv("VMATLAS_CACHE", str(tmp_path / "cache"))
    return Cache()


@pytest.fixture(scope="session")
def guest_init(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """tests/guest/init.c, built."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler (cc) to build the test guest's init with")
    place = tmp_path_factory.mktemp("guest") / "init"
    subprocess.run(["cc", "-static", "-Os", "-s", "-o", place, HERE / "guest" / "init.c"], check=True, timeout=PATIENCE)
    return place


def ask(stream: socket.socket, word: str, answer: str, limit: float) -> re.Match[bytes]:
    """Asks the test guest until its answer comes."""
    end = time.monotonic() + limit
    stream.settimeout(0.3)
    heard = b""
    while time.monotonic() < end:
        stream.sendall(word.encode() + b"\n")
        try:
            said = stream.recv(4096)
        except TimeoutError:
            continue
        if not said:
            raise EOFError("the stream ended")
        heard += said
        if found := re.search(answer.encode(), heard):
            return found
    raise TimeoutError(f"no {answer} within {limit} s")


def hello(stream: socket.socket, limit: float) -> Greeting:
    """The test guest's hello."""
    found = ask(stream, "hello", r"hello (\S+) (\d+)\n", limit)
    return Greeting(found[1].decode(), int(found[2]))


def describe(folder: Path, name: str, text: str) -> Machine:
    """A machine from YAML text."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return load(path)


@dataclass
class Server:
    """An HTTP server on loopback. `files` are its paths; faults are by path."""

    url: str = ""
    files: dict[str, bytes] = field(default_factory=dict)
    truncated: dict[str, int] = field(default_factory=dict)  # bytes after which it hangs up
    refusals: dict[str, list[int]] = field(default_factory=dict)  # statuses given before the file
    trickle: dict[str, float] = field(default_factory=dict)  # seconds between two bytes
    stalled: dict[str, int] = field(default_factory=dict)  # bytes after which it says no more, and stays on the line
    pace: dict[str, float] = field(default_factory=dict)  # seconds that the whole file takes
    stale: dict[str, bytes] = field(default_factory=dict)  # what a cache on the way gives to who does not ask past it
    tags: dict[str, str] = field(default_factory=dict)  # ETags: of what has one, parts are given
    asked: list[str] = field(default_factory=list)
    parts: list[str] = field(default_factory=list)  # what of Range was asked for, and given


@pytest.fixture
def server() -> Iterator[Server]:
    """The server, empty."""
    state = Server()
    over = threading.Event()

    class Answers(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = self.path.lstrip("/")
            state.asked.append(path)
            if refusals := state.refusals.get(path):
                return self.send_error(refusals.pop(0))
            is_anew = "no-cache" in self.headers.get("Cache-Control", "")
            content = state.files.get(path) if is_anew else state.stale.get(path, state.files.get(path))
            if content is None:
                return self.send_error(404)
            wanted = self.headers.get("Range") if self.headers.get("If-Range") == state.tags.get(path) else None
            if wanted is not None and path in state.tags:
                state.parts.append(wanted)
                start = int(wanted.removeprefix("bytes=").removesuffix("-"))
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
                content = content[start:]
            else:
                self.send_response(200)
            if path in state.tags:
                self.send_header("ETag", state.tags[path])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if wait := state.trickle.get(path):
                for byte in content:
                    self.wfile.write(bytes([byte]))
                    time.sleep(wait)
            elif wait := state.pace.get(path):
                for start in range(0, len(content), step := len(content) // 20 + 1):
                    self.wfile.write(content[start : start + step])
                    time.sleep(wait / 20)
            elif path in state.stalled:
                self.wfile.write(content[: state.stalled[path]])
                over.wait(PATIENCE)
            else:
                self.wfile.write(content[: state.truncated.get(path)])
            return None

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    class Listening(http.server.ThreadingHTTPServer):
        def handle_error(self, request: object, client_address: object) -> None:
            """Says nothing either: clients that are killed hang up."""

    listening = Listening(("127.0.0.1", 0), Answers)
    listening.daemon_threads = True
    thread = threading.Thread(target=listening.serve_forever, daemon=True)
    thread.start()
    state.url = f"http://127.0.0.1:{listening.server_port}"
    yield state
    over.set()
    listening.shutdown()
    listening.server_close()
    thread.join(PATIENCE)


class Signer:
    """A key pair of the tests' own, made by gpg."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.keyring = home / "archive.gpg"
        home.chmod(0o700)
        self._gpg("--quick-gen-key", "test archive <test@example.invalid>", "ed25519", "sign", "never")
        self.keyring.write_bytes(self._gpg("--export"))

    def sign(self, text: bytes) -> bytes:
        """The text, signed in the clear."""
        return self._gpg("--clearsign", text=text)

    def _gpg(self, *words: str, text: bytes = b"") -> bytes:
        command = ["gpg", "--homedir", str(self.home), "--batch", "--pinentry-mode", "loopback", "--passphrase", ""]
        return subprocess.run([*command, *words], input=text, capture_output=True, check=True, timeout=PATIENCE).stdout

    def end(self) -> None:
        """Ends the key agent that gpg has started."""
        subprocess.run(["gpgconf", "--homedir", str(self.home), "--kill", "all"], check=False, timeout=PATIENCE)


def _signer(factory: pytest.TempPathFactory) -> Iterator[Signer]:
    if shutil.which("gpg") is None or shutil.which("gpgv") is None:
        pytest.skip("no gpg and gpgv to sign and verify a test archive with: apt-get install gnupg gpgv")
    signer = Signer(factory.mktemp("gpg"))
    yield signer
    signer.end()


@pytest.fixture(scope="session")
def signer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """The archive's key."""
    yield from _signer(tmp_path_factory)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Signer]:
    """A key that is not the archive's."""
    yield from _signer(tmp_path_factory)


_Contents = tuple[str, str, tuple[tuple[str, bytes], ...], str]
_DEBS: dict[_Contents, bytes] = {}
"""Those that were made: nearly every test has the same few."""


def deb(folder: Path, name: str, version: str, files: dict[str, bytes], depends: str = "") -> bytes:
    """A Debian package, made by dpkg-deb."""
    contents = name, version, tuple(sorted(files.items())), depends
    if contents not in _DEBS:
        _DEBS[contents] = _made_deb(folder, name, version, files, depends)
    return _DEBS[contents]


def _made_deb(folder: Path, name: str, version: str, files: dict[str, bytes], depends: str) -> bytes:
    if shutil.which("dpkg-deb") is None:
        pytest.skip("no dpkg-deb to make test packages with")
    tree = folder / f"{name}-{version.replace('~', '-')}"
    for path, content in files.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_bytes(content)
    (tree / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: amd64\nMaintainer: T <t@example.invalid>\n"
    control += f"Depends: {depends}\n" if depends else ""
    (tree / "DEBIAN" / "control").write_text(f"{control}Description: a test\n")
    place = tree.with_suffix(".deb")
    subprocess.run(["dpkg-deb", "-Zxz", "--build", tree, place], check=True, capture_output=True, timeout=PATIENCE)
    return place.read_bytes()


class Mirror:
    """A Debian mirror of one suite on the loopback server."""

    def __init__(self, server: Server, signer: Signer, folder: Path) -> None:
        self.server, self.signer, self.folder = server, signer, folder
        self.url = f"{server.url}/debian"
        self.packages = ""
        self.suite = "trixie"

    def add(self, name: str, version: str, files: dict[str, bytes], depends: str = "") -> str:
        """Adds a package; its path on the server."""
        content = deb(self.folder, name, version, files, depends)
        path = f"pool/main/l/linux/{name}_{version}_amd64.deb"
        self.server.files[f"debian/{path}"] = content
        self.packages += f"Package: {name}\nVersion: {version}\nArchitecture: amd64\n"
        self.packages += "Maintainer: T <t@example.invalid>\n"
        self.packages += f"Depends: {depends}\n" if depends else ""
        self.packages += f"Filename: {path}\nSize: {len(content)}\nSHA256: {hashlib.sha256(content).hexdigest()}\n"
        self.packages += "Description: a test\n\n"
        return f"debian/{path}"

    def publish(self, *, signer: Signer | None = None, suite: str | None = None, named: str | None = None) -> None:
        """Writes the index and its signed release. `named` is the suite that the release says."""
        plain = self.packages.encode()
        packed = lzma.compress(plain)
        suite = suite or self.suite
        base = "main/binary-amd64/Packages"
        sums = "".join(
            f" {hashlib.sha256(content).hexdigest()} {len(content)} {name}\n"
            for name, content in ((base, plain), (f"{base}.xz", packed))
        )
        release = (
            f"Origin: Debian\nSuite: {named or suite}\nCodename: {named or suite}\n"
            f"Date: Sat, 21 Nov 2020 10:00:00 UTC\nArchitectures: amd64\nComponents: main\nSHA256:\n{sums}"
        )
        files = self.server.files
        files[f"debian/dists/{suite}/InRelease"] = (signer or self.signer).sign(release.encode())
        files[f"debian/dists/{suite}/{base}.xz"] = packed
        files[f"debian/dists/{suite}/{base}"] = plain


@pytest.fixture
def mirror(server: Server, signer: Signer, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """The mirror with two kernels of 6.12 in one package each, and one of 7.2 in three; published."""
    made = Mirror(server, signer, tmp_path)
    for version in ("6.12.9-1", "6.12.10-1"):
        upstream = version.split("-")[0]
        made.add(
            f"linux-image-{upstream}-cloud-amd64", version, {f"boot/vmlinuz-{upstream}": f"kernel {upstream}".encode()}
        )
    made.add("linux-image-6.12.10-cloud-amd64-dbg", "6.12.10-1", {"boot/vmlinuz-debug": b"never this"})
    made.add("linux-binary-7.2.1-cloud-amd64", "7.2.1-1", {"usr/lib/modules/7.2.1/vmlinuz": b"kernel 7.2.1"})
    made.add("linux-modules-7.2.1-cloud-amd64", "7.2.1-1", {"usr/lib/modules/7.2.1/kernel/x.ko": b"\0depends=\0"})
    made.add(
        "linux-image-7.2.1-cloud-amd64", "7.2.1-1", {"usr/share/doc/x": b""},
        "linux-binary-7.2.1-cloud-amd64 (= 7.2.1-1), linux-modules-7.2.1-cloud-amd64 (= 7.2.1-1)",
    )  # fmt: skip
    made.add("unrelated", "1", {"x": b""})
    made.publish()
    monkeypatch.setenv("VMATLAS_DEBIAN_MIRROR", made.url)
    monkeypatch.setenv("VMATLAS_DEBIAN_KEYRING", str(signer.keyring))
    return made
