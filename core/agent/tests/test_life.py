"""How an agent ends: with its input, with its host, by a signal; and what a host is told when it is lost."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import TargetLost
from vmatlas.target.agent import Agent, Limits
from vmatlas.target.streams import ChildStream
from vmatlas.target.wire import Frame, Kind, Operation, encode


def test_it_ends_when_its_input_ends(binary: Path) -> None:
    done = subprocess.run([binary], input=b"", capture_output=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_it_ends_when_its_input_ends_within_a_frame(binary: Path) -> None:
    half = encode(Frame(Kind.REQUEST, Operation.PING, 1))[:20]
    done = subprocess.run([binary], input=half, capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0


def test_it_ends_when_its_input_ends_while_it_works(binary: Path) -> None:
    sleep = encode(Frame(Kind.REQUEST, Operation.SLEEP, 1, payload=int(2000 * PATIENCE).to_bytes(4, "little")))
    assert subprocess.run([binary], input=sleep, capture_output=True, timeout=PATIENCE).returncode == 0


def test_it_ends_when_nobody_reads(binary: Path) -> None:
    child = subprocess.Popen([binary], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdin and child.stdout
    child.stdout.close()
    child.stdin.write(encode(Frame(Kind.REQUEST, Operation.HELLO, 1)))
    child.stdin.flush()
    assert child.wait(PATIENCE) == 0
    child.stdin.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_it_ends_by_a_polite_signal(start: Callable[..., Agent], number: signal.Signals) -> None:
    agent = start()
    os.kill(agent.hello.pid, number)
    with pytest.raises(TargetLost, match="ended with exit code 0"):
        agent.ping()


def test_shutdown_ends_it(agent: Agent) -> None:
    pid = agent.hello.pid
    agent.shutdown()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_wrong_usage_is_said(binary: Path) -> None:
    done = subprocess.run([binary, "--nonsense"], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 2 and done.stderr.startswith(b"usage: vmatlas-agent")


def test_it_tells_its_version(binary: Path) -> None:
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"vmatlas-agent \d+\.\d+\.\d+\n", done.stdout)


def test_it_ends_when_its_host_is_killed(binary: Path) -> None:
    program = (
        "import sys, time\n"
        "from vmatlas.target.agent import Agent\n"
        "from vmatlas.target.streams import ChildStream\n"
        f"agent = Agent(ChildStream([{str(binary)!r}]), 'agent:test')\n"
        "child = agent.spawn()\n"
        "print(agent.hello.pid, child.pid, flush=True)\n"
        "time.sleep(3600)\n"
    )
    host = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert host.stdout
    pids = [int(word) for word in host.stdout.readline().split()]
    assert len(pids) == 2
    host.kill()
    host.communicate()
    until = time.monotonic() + PATIENCE
    while any(is_alive(pid) for pid in pids):
        assert time.monotonic() < until, "the agent or its child lives on"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_an_agent_killed_within_a_frame_is_a_lost_target_at_once(binary: Path, tmp_path: Path) -> None:
    class Killer(ChildStream):
        def receive(self, limit: float) -> bytes:
            data = super().receive(limit)
            if self.armed:
                os.kill(self.pid, signal.SIGKILL)
                return data[: len(data) // 2 + 1]
            return data

        armed = False

    stream = Killer([str(binary)])
    agent = Agent(stream, "agent:test", Limits(silence=2 * PATIENCE))
    stream.armed = True
    large = tmp_path / "large"
    large.write_bytes(bytes(10 << 20))
    began = time.monotonic()
    with pytest.raises(TargetLost, match="was ended by signal 9"):
        agent.read_file(bytes(large))
    assert time.monotonic() - began < PATIENCE
    with pytest.raises(TargetLost, match="was ended by signal 9"):
        agent.ping()
    agent.close()


def test_a_stopped_agent_is_a_lost_target_within_the_limit(start: Callable[..., Agent]) -> None:
    agent = start()
    agent.talk.limits = Limits(silence=1.5, again=0.4)
    os.kill(agent.hello.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(TargetLost, match="did not answer for"):
        agent.ping()
    assert time.monotonic() - began < PATIENCE
    os.kill(agent.hello.pid, signal.SIGCONT)


def test_an_agent_that_stops_for_a_while_is_asked_again(start: Callable[..., Agent]) -> None:
    agent = start(limits=Limits(silence=PATIENCE, again=0.3))
    os.kill(agent.hello.pid, signal.SIGSTOP)
    resume = subprocess.Popen(
        [sys.executable, "-c", f"import os, time; time.sleep(1.2); os.kill({agent.hello.pid}, {signal.SIGCONT})"]
    )
    assert agent.ping(b"late") == b"late"
    assert agent.ping(b"next") == b"next"
    resume.wait()


def test_work_that_takes_longer_than_the_silence_allowed_is_waited_for(start: Callable[..., Agent]) -> None:
    agent = start()
    agent.talk.limits = Limits(silence=2, again=0.2)
    agent.itself.sleep(5)
    assert agent.ping(b"on") == b"on"


def test_an_answer_that_takes_its_time_is_not_begun_again(start: Callable[..., Agent], tmp_path: Path) -> None:
    agent = start(limits=Limits(silence=PATIENCE, again=0.2))
    large = tmp_path / "large"
    large.write_bytes(os.urandom(1 << 20))
    real, began = agent.talk._stream.receive, time.monotonic()

    def slow(limit: float) -> bytes:
        if time.monotonic() - began < 1.0:
            time.sleep(min(limit, 0.15))
            return b""
        return real(limit)

    agent.talk._stream.receive = slow  # type: ignore[method-assign]
    before = agent.talk.frames_received
    assert agent.read_file(bytes(large)) == large.read_bytes()
    assert agent.talk.requests_sent > 4, "it was asked again and again"
    assert agent.talk.frames_received - before < 2 * (len(large.read_bytes()) // 32000 + 2)


def test_what_is_no_agent_is_told_by_its_last_words() -> None:
    with pytest.raises(TargetLost) as lost:
        Agent(ChildStream(["sh", "-c", "echo not an agent; echo no such file >&2; exit 3"]), "agent:sh")
    assert "ended with exit code 3" in str(lost.value)
    assert "not an agent" in lost.value.last_words and "no such file" in lost.value.last_words
    began = time.monotonic()
    with pytest.raises(TargetLost, match="did not answer"):
        Agent(ChildStream(["sh", "-c", "echo hi; exec sleep 3600"]), "agent:sh", Limits(silence=1, again=0.5))
    assert time.monotonic() - began < PATIENCE


def test_a_program_that_echoes_is_no_agent() -> None:
    with pytest.raises(TargetLost, match="did not answer"):
        Agent(ChildStream(["cat"]), "agent:cat", Limits(silence=1, again=0.5))
