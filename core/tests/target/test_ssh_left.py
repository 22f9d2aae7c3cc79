"""What `ssh:` does before an agent speaks: bounded in time and bytes, and nothing stays on a board whatever dies when.

No sshd: the line for the other side's shell is run here, by each shell that boards have.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vmatlas.target.ssh as ssh
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import TargetLost
from vmatlas.target.asking import LOGIN_SECONDS, MOST_GREETING

SHELLS = {"dash": ("dash",), "bash": ("bash", "--posix"), "busybox": ("busybox", "sh")}
AGENT = b"#!/bin/sh\necho $$\nexec cat >/dev/null\n"
"""Tells its pid, and ends with its input."""


class Board:
    """The shell of a board, run by a host."""

    def __init__(self, shell: tuple[str, ...], folder: Path) -> None:
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.child = subprocess.Popen(
            [*shell, "-c", "; ".join(('place="$TMPDIR"', *ssh._STEPS))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": str(self.temporary)},
            bufsize=0,
        )
        assert self.child.stdin and self.child.stdout
        self.input, self.output = self.child.stdin, self.child.stdout

    def hears(self, mark: bytes) -> bytes:
        said = b""
        while mark not in said:
            more = os.read(self.output.fileno(), 4096)
            assert more, f"the shell ended after {said!r}"
            said += more
        return said

    def runs_an_agent(self) -> int:
        """Its pid."""
        self.hears(b"vmatlas-here ")
        self.input.write(b"%d\n" % len(AGENT) + AGENT)
        said = self.hears(b"vmatlas-ready\n").rpartition(b"vmatlas-ready\n")[2]
        while b"\n" not in said:
            said += os.read(self.output.fileno(), 100)
        return int(said)

    def is_cut_off(self) -> None:
        """The host is dead, or the connection is."""
        self.input.close()
        self.output.close()

    def left_over(self) -> list[str]:
        until = time.monotonic() + PATIENCE
        while (left := os.listdir(self.temporary)) and time.monotonic() < until:
            time.sleep(0.01)
        return left


@pytest.fixture(params=sorted(SHELLS))
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Board]:
    shell = SHELLS[request.param]
    if shutil.which(shell[0]) is None:
        pytest.skip(f"no {shell[0]} here")
    made = Board(shell, tmp_path)
    yield made
    made.is_cut_off()
    made.child.wait(PATIENCE)


def before_the_greeting(board: Board) -> None:
    board.is_cut_off()


def after_the_greeting(board: Board) -> None:
    board.hears(b"vmatlas-here ")
    board.is_cut_off()


def within_the_agent(board: Board) -> None:
    board.hears(b"vmatlas-here ")
    board.input.write(b"%d\n" % len(AGENT) + AGENT[:10])
    board.is_cut_off()


def while_the_agent_runs(board: Board) -> None:
    board.runs_an_agent()
    board.is_cut_off()


def the_agent_is_killed(board: Board) -> None:
    os.kill(board.runs_an_agent(), signal.SIGKILL)


def the_shell_is_killed(board: Board) -> None:
    board.runs_an_agent()
    board.child.kill()
    board.is_cut_off()


def the_shell_hangs_up(board: Board) -> None:
    board.runs_an_agent()
    board.child.send_signal(signal.SIGHUP)
    board.is_cut_off()


def the_second_shell_is_killed(board: Board) -> None:
    agent = board.runs_an_agent()
    parent = int(Path(f"/proc/{agent}/stat").read_text().rpartition(")")[2].split()[1])
    assert parent != board.child.pid, "a second shell stands between"
    os.kill(parent, signal.SIGKILL)
    board.is_cut_off()


@pytest.mark.parametrize(
    "dies",
    [
        before_the_greeting,
        after_the_greeting,
        within_the_agent,
        while_the_agent_runs,
        the_agent_is_killed,
        the_shell_is_killed,
        the_shell_hangs_up,
        the_second_shell_is_killed,
    ],
    ids=lambda dies: dies.__name__,
)
def test_nothing_stays_on_a_board_whatever_dies_when(board: Board, dies: Callable[[Board], None]) -> None:
    dies(board)
    board.child.wait(PATIENCE)
    assert board.left_over() == []


class Talking:
    """A stream that says the same again and again; each time takes some seconds."""

    def __init__(self, clock: Clock, said: bytes, seconds: float, first: bytes = b"") -> None:
        self.clock, self.said, self.seconds, self.first = clock, said, seconds, first
        self.received = 0

    def receive(self, limit: float) -> bytes:
        self.clock.now += min(self.seconds, limit)
        said, self.first = self.first or self.said, b""
        self.received += len(said)
        return said

    def last_words(self) -> str:
        return ""


class Clock:
    """Time that passes when something is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.mark.parametrize("first", [b"", b"\nvmatlas-here ", b"\nvmatlas-here Linux x86_64 "])
@pytest.mark.parametrize(("said", "seconds"), [(b"x" * 60_000, 0.02), (b"x", 0.5), (b"", 1.0), (b"vmatlas-here ", 0.1)])
def test_a_board_that_greets_for_ever_is_left(
    monkeypatch: pytest.MonkeyPatch, first: bytes, said: bytes, seconds: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(ssh, "time", clock)
    stream = Talking(clock, said, seconds, first)
    with pytest.raises(TargetLost, match=r"no shell over ssh: [\d,]+ bytes came in [\d.e+]+ s, and no agent"):
        ssh.Login(stream, "ssh:board").greeted()  # type: ignore[arg-type]
    assert clock.now - 1000 <= LOGIN_SECONDS + 2
    assert stream.received <= MOST_GREETING + 2 * len(said or b"x")
