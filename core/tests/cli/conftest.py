"""The command line in this process (click's runner) and as a program, and a process with a known layout to look at."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner, Result

from vmatlas import ProcessInfo
from vmatlas.cli.program import program
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.local import LocalTarget

PROGRAM = [sys.executable, "-c", "import sys; from vmatlas.cli import main; sys.exit(main())"]

WEIRD = "new\nline \x1b[31mred\x1b[0m tab\t back\\slash \u202eleft caf\u00e9 \udcff\udcfe"
"""A file name that would break a table, colour a terminal, turn its writing around, and is not UTF-8."""

_CHILD = r"""
import ctypes, mmap, os, sys
folder = sys.argv[1]
libc = ctypes.CDLL(None, use_errno=True)
if sys.platform == "linux":
    libc.prctl(1, 9)  # PR_SET_PDEATHSIG: a killed run of tests leaves no process behind that stands still for ever
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
PAGE = mmap.PAGESIZE

def place(length, protection, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, file=-1, offset=0):
    address = libc.mmap(None, length, protection, flags, file, offset)
    assert address not in (None, 2**64 - 1), ctypes.get_errno()
    return address

R, W, X = 1, 2, 4
told = {}
told["wx"] = place(16 * PAGE, R | W | X)
told["guarded"] = place(8 * PAGE, 0)
for name in ("weird", "gone", "replaced", "plain"):
    path = open(os.path.join(folder, "names." + name), "rb").read()
    file = os.open(path, os.O_RDONLY)
    told[name] = place(2 * PAGE, R, mmap.MAP_PRIVATE, file, PAGE)
    os.close(file)
os.unlink(os.path.join(folder, "gone").encode())
os.rename(os.path.join(folder, "replacement"), os.path.join(folder, "replaced"))
grown = mmap.mmap(-1, 64 * PAGE)
for line in [" ".join(f"{name}={address:x}" for name, address in told.items())]:
    print(line, flush=True)
for line in sys.stdin:
    if line.strip() == "grow":
        extra = mmap.mmap(-1, 32 << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=R)
        print("grown", flush=True)
"""


class Child(NamedTuple):
    """A process that stands still unless it is told to grow."""

    pid: int
    at: dict[str, int]
    """Where it mapped what: wx, guarded, weird, gone, replaced, plain."""
    folder: Path
    process: subprocess.Popen[str]

    def grow(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        os.kill(self.pid, signal.SIGCONT)
        self.process.stdin.write("grow\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "grown\n"
        self.stop()

    def stop(self) -> None:
        """Freeze it, so that its memory in use stays the same between two readings."""
        os.kill(self.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, self.pid, os.WSTOPPED)


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    folder = tmp_path / "mapped"
    folder.mkdir()
    for name, real in {"weird": WEIRD, "gone": "gone", "replaced": "replaced", "plain": "plain file"}.items():
        path = os.fsencode(folder) + b"/" + real.encode("utf-8", "surrogateescape")
        (folder / f"names.{name}").write_bytes(path)
        with open(path, "wb") as file:
            file.write(bytes(4 * 65536))
    (folder / "replacement").write_bytes(b"another file")
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, "the child ended before it had made its layout"
        at = {name: int(address, 16) for name, _, address in (word.partition("=") for word in line.split())}
        child = Child(process.pid, at, folder, process)
        child.stop()
        yield child
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(autouse=True)
def our_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked in this process about all of this machine is asked about ours, their forebears, and some of the
    kernel's: the processes of others end, are silent, and call themselves what they like, and may be thousands."""

    def ours(found: list[ProcessInfo]) -> Iterator[ProcessInfo]:
        parents = {each.pid: each.parent for each in found}

        def line_of(pid: int | None) -> Iterator[int]:
            while pid is not None and pid in parents:
                yield pid
                pid = parents[pid] or None

        forebears, us = set(line_of(os.getpid())), os.getpid()
        kernels = {each.pid for each in found if each.kernel and each.pid < 10}
        return (each for each in found if each.pid in forebears | kernels or us in line_of(each.pid))

    everyone, briefly = LocalTarget.processes, LocalTarget.brief

    def brief(target: LocalTarget, pids: Sequence[int] | None = None) -> Iterator[ProcessInfo]:
        return ours(list(briefly(target))) if pids is None else briefly(target, pids)

    monkeypatch.setattr(LocalTarget, "processes", lambda target: ours(list(everyone(target))))
    monkeypatch.setattr(LocalTarget, "brief", brief)


Run = Callable[..., Result]


@pytest.fixture
def run() -> Run:
    """A command in this process: its exit code, and what it wrote, not a terminal."""

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(program, [str(argument) for argument in arguments])

    return invoke


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """A command as a program of its own, ended with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: object, **how: object) -> subprocess.Popen[bytes]:
        settings: dict[str, object] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
        process = subprocess.Popen([*PROGRAM, *map(str, arguments)], **settings)  # type: ignore[call-overload]
        started.append(process)
        return process  # type: ignore[no-any-return]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def rows_of() -> Callable[[str], list[dict[str, str]]]:
    """A plain table parsed back: a dictionary for each line, by the titles; the last column takes what is left."""

    def parse(text: str) -> list[dict[str, str]]:
        title, *lines = text.splitlines()
        titles = title.split()
        return [dict(zip(titles, line.split(None, len(titles) - 1), strict=True)) for line in lines]

    return parse


@pytest.fixture
def in_terminal() -> Callable[..., tuple[str, int]]:
    """What a command writes to a terminal of some width, and its exit code."""
    return _in_terminal


def _in_terminal(columns: int, *arguments: object, **environment: str) -> tuple[str, int]:
    keeper, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
    process = subprocess.Popen(
        [*PROGRAM, *map(str, arguments)],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        env=known | {"TERM": "xterm-256color"} | environment,
    )
    os.close(terminal)
    written = b""
    try:
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while piece := os.read(keeper, 65536):
                written += piece
        return written.decode().replace("\r\n", "\n"), process.wait(timeout=PATIENCE)
    finally:
        process.kill()
        process.wait()
        os.close(keeper)


@pytest.fixture
def until_asleep() -> Callable[[int], None]:
    """Waits until a process has been found sleeping for half a second: it waits for something then."""

    def wait(pid: int) -> None:
        asleep, deadline = 0, time.monotonic() + PATIENCE
        while asleep < 10:
            assert time.monotonic() < deadline, f"process {pid} does not come to rest"
            with open(f"/proc/{pid}/stat", "rb") as file:
                state = file.read().rpartition(b") ")[2][:1]
            asleep = asleep + 1 if state == b"S" else 0
            time.sleep(0.05)

    return wait
