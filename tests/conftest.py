"""What the tests across packages share: programs of ours to look at, and the backends of this machine."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest

from vmatlas import registry
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import AddressSpace
from vmatlas.target.local import LOCAL

PROGRAMS = Path(__file__).parent / "programs"
GRACE = 10.0
"""Seconds that a program has to end once its input has: one that stays is killed, and nothing fails."""


def _may_ask_what_is_mapped() -> bool:
    """/proc/PID/map_files: then the count of a file's links is told, whatever its name leads to."""
    try:
        folder = "/proc/self/map_files"
        os.stat(f"{folder}/{os.listdir(folder)[0]}")
    except OSError:
        return False
    return True


MAY_ASK_WHAT_IS_MAPPED = _may_ask_what_is_mapped()


class Program:
    """A program of tests/programs, told and heard line by line, ended with the test."""

    def __init__(self, name: str, *arguments: object, executable: str = sys.executable) -> None:
        command = [executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self.pid = self._process.pid
        self._heard = b""

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def hear(self) -> str:
        """The next line of its output."""
        output = self._pipe(self._process.stdout)
        while b"\n" not in self._heard:
            ready, _, _ = select.select([output], [], [], PATIENCE)
            assert ready, f"the program said nothing for {PATIENCE:.0f} seconds"
            piece = output.read(65536)
            assert piece, f"the program ended with {self._process.wait(PATIENCE)}, having said {self._heard!r}"
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def tell(self, line: str) -> str:
        """Send a line; the line that it answers with."""
        self.send(line)
        return self.hear()

    def send(self, line: str) -> None:
        self._pipe(self._process.stdin).write(line.encode() + b"\n")

    def kill(self) -> None:
        """End it at once and leave the zombie."""
        self._process.kill()

    def end(self) -> int:
        """Close its input, wait for it, and kill it when it stays."""
        self._pipe(self._process.stdin).close()
        try:
            return self._process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait(PATIENCE)
        finally:
            self._pipe(self._process.stdout).close()


Start = Callable[..., Program]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a program of tests/programs by its name; all are ended with the test."""
    started: list[Program] = []

    def begin(name: str, *arguments: object, executable: str = sys.executable) -> Program:
        started.append(Program(name, *arguments, executable=executable))
        return started[-1]

    yield begin
    for program in started:
        program.end()


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def born_with_pid(pid: int, command: list[str]) -> bool:
    """Start a process under a chosen pid: clone3(2) with set_tid, since Linux 5.5. False when the kernel refuses."""
    wanted = (ctypes.c_int * 1)(pid)
    # flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid, set_tid_size, cgroup
    arguments = struct.pack("11Q", 0, 0, 0, 0, signal.SIGCHLD, 0, 0, 0, ctypes.addressof(wanted), 1, 0)
    made = ctypes.CDLL(None).syscall(435, ctypes.c_char_p(arguments), ctypes.c_size_t(len(arguments)))
    if made == 0:
        try:
            os.execv(command[0], command)
        finally:
            os._exit(127)
    return bool(made == pid)


def offered(name: str) -> str:
    """The backend's name, where this machine's kernel has it; the test is skipped with the reason where not."""
    offer = LOCAL.offers(registry.backend(name))
    if not offer:
        pytest.skip(f"{name}: {offer.reason}")
    return name


@pytest.fixture(params=["linux-procfs", "linux-ioctl"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend of Linux in turn."""
    return offered(request.param)


def as_root(reason: str) -> None:
    """Skip with the reason when the tests run as an ordinary user."""
    if os.geteuid() != 0:
        pytest.skip(f"needs root: {reason}")


def unshared(options: str, script: str, *arguments: str) -> list[str]:
    """The lines of a shell script in namespaces of its own (a user namespace, too, for an ordinary user).

    In the script $1 is this Python, the arguments follow. Skipped with the reason where namespaces are refused.
    """
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *user, *options.split(), "sh", "-c", script, "sh", sys.executable, *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except FileNotFoundError:
        pytest.skip("unshare (package util-linux) is missing")
    if done.returncode != 0 and "unshare" in done.stderr:
        pytest.skip(f"no namespaces here: {done.stderr.strip()}")
    if done.returncode == 126 and "Permission denied" in done.stderr:
        pytest.skip("in a user namespace the interpreter's folder may not be entered")
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def without_vsyscall(space: AddressSpace) -> AddressSpace:
    """The process's own memory: [vsyscall] is the kernel's, and only the text tells it."""
    return space.where("!vsyscall")
