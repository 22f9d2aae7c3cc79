"""Real programs that leak: which memory grows is the first line of `growth`, and adds up to what the kernel counts.

A JVM that fills its heap and PostgreSQL under pgbench were hunted by hand (docs/leak-hunt.md): they take minutes.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Verdict
from vmatlas.conformance.patience import PATIENCE

MOMENTS = 12

LEAKS = r"""
const kept = [];
require("readline").createInterface({ input: process.stdin }).on("line", (line) => {
  for (let number = 0; line === "leak" && number < 4000; number++) kept.push(new Array(50).fill(number));
  let garbage = [];
  for (let number = 0; number < 20000; number++) garbage.push({ number });
  console.log("ok");
});
console.log("ok");
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []

    def start(*command: str) -> subprocess.Popen[str]:
        begun.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
        return begun[-1]

    yield start
    for each in begun:
        each.kill()
        each.communicate()


def recorded(pid: int, file: Path, step: Callable[[], object]) -> vmatlas.Trends:
    """What `growth` tells of a process between whose moments something happens."""
    for moment in vmatlas.record_series(pid, file, 0.05, wait=lambda _: step()):
        if moment.number == MOMENTS:
            break
    with vmatlas.Series.open(file) as series:
        return vmatlas.trends_of(series)


def held_still(pid: int) -> None:
    """The regions of a process that stands still add up to what the kernel counts of it as a whole, to the page."""
    os.kill(pid, signal.SIGSTOP)
    os.waitid(os.P_PID, pid, os.WSTOPPED)
    capture = vmatlas.capture(pid, residency=True)
    told, whole = vmatlas.replay(capture).memory.use, vmatlas.replay_memory(capture)
    assert (told.resident, told.swapped) == (whole.resident, whole.swapped)
    with open(f"/proc/{pid}/smaps_rollup") as rollup:
        rss = next(int(line.split()[1]) for line in rollup if line.startswith("Rss:"))
    assert told.resident == rss * 1024
    os.kill(pid, signal.SIGCONT)


def grown(found: vmatlas.Trends) -> set[tuple[str, str]]:
    return {(each.by, each.key) for each in found if each.verdict is Verdict.GROWS}


def node(started: Callable[..., subprocess.Popen[str]], line: str) -> tuple[int, Callable[[], object]]:
    process = started(program("node"), "--max-semi-space-size=1", "-e", LEAKS)
    assert process.stdin is not None and process.stdout is not None
    assert process.stdout.readline() == "ok\n"

    def tell() -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{line}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "ok\n"

    for _ in range(5):  # the start
        tell()
    return process.pid, tell


def test_a_leaking_node_grows_by_its_heap(started, tmp_path):
    pid, step = node(started, "leak")
    found = recorded(pid, tmp_path / "node.vmatlas", step)
    first = found[0]
    assert (first.verdict, first.by) == (Verdict.GROWS, "nameless"), list(found)[:5]
    assert ("kind", "anonymous") in grown(found) and first.gained > 10 << 20
    held_still(pid)


def test_a_node_that_makes_garbage_alone_does_not_grow(started, tmp_path):
    """By more than the leak above at the least: what a collector leaves lying for a while is no heap that grows."""
    pid, step = node(started, "garbage")
    found = recorded(pid, tmp_path / "node.vmatlas", step)
    assert max((each.gained for each in found if each.verdict is Verdict.GROWS), default=0) < 10 << 20


def test_a_redis_that_is_filled_while_it_saves_grows_by_its_allocator(started, tmp_path):
    server, where = program("redis-server"), tmp_path / "socket"
    process = started(server, "--port", "0", "--unixsocket", str(where), "--dir", str(tmp_path), "--save", "")
    assert process.stdout is not None
    heard = next((line for line in process.stdout if "Ready to accept" in line or "ready to accept" in line), None)
    assert heard is not None, "redis-server does not serve"
    numbers = iter(range(10**6))
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(PATIENCE)
        client.connect(str(where))

        def fill() -> None:
            """A MiB and more, in keys; every third time it begins to save."""
            number = next(numbers)
            words = b"".join(
                b"*3\r\n$3\r\nSET\r\n$8\r\n%08d\r\n$400\r\n%s\r\n" % (3000 * number + each, b"v" * 400)
                for each in range(3000)
            )
            client.sendall(words)
            left = 3000 * len(b"+OK\r\n")
            while left:
                left -= len(client.recv(left))
            if number % 3 == 0:
                client.sendall(b"*1\r\n$6\r\nBGSAVE\r\n")
                assert client.recv(200)

        found = recorded(process.pid, tmp_path / "redis.vmatlas", fill)
    first = found[0]
    assert first.verdict is Verdict.GROWS, list(found)[:5]
    assert ("use", "data") in grown(found)
    total = found.of("all")[0]
    assert first.gained > total.gained / 2 > 5 << 20
