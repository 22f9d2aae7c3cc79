"""URLs to targets, and an agent as a target: the same answers as from this machine."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import vmatlas
from vmatlas import registry
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import NoSuchProcess, TargetLost, Unanswered, Unsupported, UsageError
from vmatlas.target.agent import Agent, AgentTarget, Answer, Limits, MapFlag, MapObject
from vmatlas.target.connect import connect
from vmatlas.target.local import LOCAL, LocalTarget
from vmatlas.target.streams import ChildStream, SocketStream, StreamEnded
from vmatlas.target.wire import Operation

BACKENDS = ["linux-ioctl", "linux-procfs"]


@pytest.fixture
def target(binary: Path) -> Iterator[AgentTarget]:
    reached = connect(f"agent:{binary}")
    assert isinstance(reached, AgentTarget)
    yield reached
    reached.close()


@pytest.fixture
def sleeper() -> Iterator[int]:
    child = subprocess.Popen(
        [sys.executable, "-c", "import os; os.write(1, b'\\n'); os.read(0, 1)"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    child.stdout.readline()
    yield child.pid
    child.kill()
    child.communicate()


def answering(target: AgentTarget, name: str) -> str:
    """The backend's name, when the kernel here has it."""
    offered = target.offers(registry.backend(name))
    if not offered:
        assert "6.11" in offered.reason
        pytest.skip(offered.reason)
    return name


@pytest.mark.parametrize("name", BACKENDS)
def test_a_map_is_the_same_through_an_agent(target: AgentTarget, sleeper: int, name: str) -> None:
    backend = answering(target, name)
    there, here = (list(vmatlas.snapshot(sleeper, target=place, backend=backend)) for place in (target, LOCAL))
    assert there == here


@pytest.mark.parametrize("name", BACKENDS)
def test_points_are_the_same_through_an_agent(target: AgentTarget, sleeper: int, name: str) -> None:
    backend = answering(target, name)
    first = vmatlas.snapshot(sleeper)[0]
    for address in (0, first.start - 1, first.start, first.end - 1, first.end, 2**63):
        for or_next in (False, True):
            assert vmatlas.find(sleeper, address, or_next, target=target, backend=backend) == vmatlas.find(
                sleeper, address, or_next, backend=backend
            )


def test_residency_comes_through_an_agent(target: AgentTarget) -> None:
    child = target.agent.spawn()
    page = target.agent.hello.page_size
    base = child.map(8 * page, flags=MapFlag.SHARED).value
    child.touch(base, 3 * page, write=1)
    region = vmatlas.snapshot(child.pid, target=target, residency=True).find(base)
    assert region is not None and region.resident == 3 * page


def test_build_ids_come_through_an_agent(target: AgentTarget, sleeper: int) -> None:
    answering(target, "linux-ioctl")
    there, here = (vmatlas.snapshot(sleeper, target=place, build_ids=True) for place in (target, LOCAL))
    assert [region.build_id for region in there] == [region.build_id for region in here]
    assert any(region.build_id for region in there)


def test_what_the_kernel_may_keep_waiting_is_asked_by_a_child_that_can_be_left_behind(
    target: AgentTarget, sleeper: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(target, "linux-ioctl")
    region = next(each for each in vmatlas.snapshot(sleeper).where("file") if each.offset == 0)
    asked: list[tuple[Operation, int]] = []
    ask = target.agent.talk.ask

    def waits(operation: Operation, payload: bytes = b"", *, process: int = 0, **more: Any) -> Answer:
        asked.append((operation, process))
        if process and operation in (Operation.READ_FILE, Operation.ACQUIRE):
            raise Unanswered("no answer came")
        return ask(operation, payload, process=process, **more)

    there = target.open(sleeper)
    assert there.file_head(region, 4) == b"\x7fELF"
    monkeypatch.setattr(target.agent.talk, "ask", waits)
    assert there.file_head(region, 4) is None
    told = vmatlas.snapshot(sleeper, target=target, build_ids=True)
    assert len(told) > 10 and not any(each.build_id for each in told)
    assert told.incomplete is not None and "one that did not answer" in told.incomplete
    assert {who for operation, who in asked if operation == Operation.SPAWN} == {0}
    assert not [each for each in target.processes() if each.parent == target.agent.hello.pid and each.state != "Z"]


@pytest.mark.parametrize("name", BACKENDS)
def test_names_that_only_the_file_system_settles(target: AgentTarget, tmp_path: Path, name: str) -> None:
    backend = answering(target, name)
    child, page = target.agent.spawn(), target.agent.hello.page_size
    told = {}
    names = (("new\nline", False), ("plain", True), ("really (deleted)", False), ("back\\012slash", False))
    for content, gone in names:
        path = os.fsencode(tmp_path / content)
        target.agent.write_file(path, bytes(page))
        base = child.map(page, source=MapObject.FILE, name=path, protection=vmatlas.Protection.READ).value
        if gone:
            target.agent.unlink(path)
        told[base] = (os.fsdecode(path), gone)
    space = vmatlas.snapshot(child.pid, target=target, backend=backend)
    found = {base: space.find(base) for base in told}
    assert {base: (region.path, region.deleted) for base, region in found.items() if region} == told


@pytest.mark.parametrize("name", BACKENDS)
def test_zombies_reused_pids_and_kernel_threads(target: AgentTarget, name: str) -> None:
    backend = answering(target, name)
    child = target.agent.spawn()
    with vmatlas.open(child.pid, target=target, backend=backend) as process:
        assert len(process.snapshot()) > 0
        object.__setattr__(process._process, "_start_time", 1)
        with pytest.raises(NoSuchProcess, match="another process's now"):
            process.snapshot()
    with vmatlas.open(child.pid, target=target, backend=backend) as process:
        child.end()
        with pytest.raises(NoSuchProcess):
            until = time.monotonic() + PATIENCE
            while time.monotonic() < until:
                process.snapshot()
                time.sleep(0.01)
        child.reap()
        with pytest.raises(NoSuchProcess):
            process.snapshot()
    with pytest.raises(NoSuchProcess):
        vmatlas.open(child.pid, target=target)
    kernel = [process.pid for process in target.processes() if process.kernel]
    for pid in kernel[:1]:
        assert len(vmatlas.snapshot(pid, target=target, backend=backend)) == 0


def test_a_process_whose_first_thread_ended_is_read_by_another(target: AgentTarget) -> None:
    program = (
        "import threading, time, ctypes, sys\n"
        "threading.Thread(target=time.sleep, args=(3600,)).start()\n"
        "print(flush=True)\n"
        "ctypes.CDLL(None).pthread_exit(None)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert child.stdout
        child.stdout.readline()
        until = time.monotonic() + PATIENCE
        while b") Z " not in Path(f"/proc/{child.pid}/stat").read_bytes():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert list(vmatlas.snapshot(child.pid, target=target)) == list(vmatlas.snapshot(child.pid)) != []
    finally:
        child.kill()
        child.communicate()


def test_the_machine_is_described_as_here(target: AgentTarget) -> None:
    assert target.system_info == LOCAL.system_info
    assert target.name.startswith("agent:/")


def test_processes_are_listed_as_here(target: AgentTarget, sleeper: int) -> None:
    there = {process.pid: process for process in target.processes()}
    here = {process.pid: process for process in LOCAL.processes()}
    for pid in (sleeper, os.getpid()):
        mine, yours = here[pid], there[pid]
        assert (mine.parent, mine.name, mine.start_time, mine.kernel) == (
            yours.parent,
            yours.name,
            yours.start_time,
            yours.kernel,
        )


def test_a_backend_of_another_system_is_not_offered(target: AgentTarget) -> None:
    class Other:
        name, system, distribution = "other", "freebsd", "vmatlas-other"

    offered = target.offers(Other())  # type: ignore[arg-type]
    assert not offered and "freebsd" in offered.reason and "linux" in offered.reason
    Other.name, Other.system = "unheard-of", "linux"
    offered = target.offers(Other())  # type: ignore[arg-type]
    assert not offered and "vmatlas.agent_sources" in offered.reason


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_target_asked_by_a_child_has_the_rights_of_that_child(target: AgentTarget, sleeper: int) -> None:
    stranger = target.agent.spawn()
    assert stranger.become(65534, 65534).ok
    with pytest.raises(vmatlas.AccessDenied, match=f"process {sleeper}"):
        vmatlas.snapshot(sleeper, target=target.asked_by(stranger))
    assert vmatlas.snapshot(None, target=target.asked_by(stranger)).pid == stranger.pid


def test_serial_urls(binary: Path) -> None:
    near, far = pty.openpty()
    tty.setraw(far)
    agent = subprocess.Popen([binary], stdin=near, stdout=near)
    try:
        with_baud = connect(f"serial:{os.ttyname(far)}?baud=9600")
        assert with_baud.system_info == LOCAL.system_info
        with_baud.close()
    finally:
        agent.terminate()
        agent.wait(PATIENCE)
        os.close(near)
        os.close(far)


@pytest.mark.parametrize("family", ["unix", "tcp"])
def test_socket_urls(binary: Path, tmp_path: Path, family: str) -> None:
    path = str(tmp_path / "agent.sock")
    listener = socket.socket(socket.AF_UNIX if family == "unix" else socket.AF_INET)
    listener.bind(path if family == "unix" else ("127.0.0.1", 0))
    listener.listen()

    def serve() -> None:
        accepted, _ = listener.accept()
        with accepted:
            subprocess.run([binary], stdin=accepted.fileno(), stdout=accepted.fileno(), timeout=PATIENCE, check=False)

    thread = threading.Thread(target=serve)
    thread.start()
    url = f"unix:{path}" if family == "unix" else f"tcp:127.0.0.1:{listener.getsockname()[1]}"
    target = connect(url)
    assert target.system_info == LOCAL.system_info and target.name == url
    target.close()
    thread.join(PATIENCE)
    assert not thread.is_alive(), "the agent ends with its connection"
    listener.close()


def test_a_connected_socket_is_a_stream(binary: Path) -> None:
    ours, theirs = socket.socketpair()
    child = subprocess.Popen([binary], stdin=theirs.fileno(), stdout=theirs.fileno())
    theirs.close()
    with Agent(SocketStream(ours), "socket:test") as agent:
        assert agent.hello.pid == child.pid
    assert child.wait(PATIENCE) == 0


def test_local_is_this_machine() -> None:
    assert connect("local") is LOCAL


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is no target"),
        ("board", "is no target"),
        ("http://board", "is no target"),
        ("agent:", "does not say what to connect to"),
        ("agent:'unclosed", "is no command"),
        ("serial:/dev/ttyS0?speed=3", "is no serial line"),
        ("serial:/dev/ttyS0?baud=fast", "is no serial line"),
        ("tcp:board", "is no address"),
        ("tcp:board:70000", "is no address"),
    ],
)
def test_a_url_that_is_none_is_said_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as wrong:
        connect(url)
    assert wrong.value.hint or "command" in said


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("agent:/no/such/agent", "cannot start '/no/such/agent': No such file"),
        ("agent:/etc/passwd", "cannot start '/etc/passwd': Permission denied"),
        ("agent:true", "ended with exit code 0"),
        ("unix:/no/such/socket", "cannot connect to /no/such/socket"),
        ("serial:/no/such/tty", "cannot open /no/such/tty"),
        ("tcp:127.0.0.1:1", "cannot connect to 127.0.0.1:1"),
    ],
)
def test_a_target_that_is_not_there_is_lost_with_a_reason(url: str, said: str) -> None:
    with pytest.raises(TargetLost, match=said) as lost:
        connect(url, Limits(silence=PATIENCE, again=0.5))
    assert lost.value.target == url


def test_a_word_of_another_distribution_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    from importlib.metadata import EntryPoint

    found = EntryPoint("board", "vmatlas.target.local:LocalTarget", "vmatlas.targets")
    monkeypatch.setattr("vmatlas.target.connect.entries", lambda group: {"board": found})
    monkeypatch.setattr(LocalTarget, "__init__", lambda self, rest, limits: setattr(self, "name", rest))
    assert connect("board:x:y").name == "x:y"


def test_a_child_that_floods_its_standard_error_holds_nobody_up(binary: Path) -> None:
    with Agent(ChildStream(["sh", "-c", f"yes error | head -c 300000 >&2; exec {binary}"]), "agent:sh") as agent:
        assert agent.ping(b"x") == b"x"


def test_a_stream_that_was_closed_says_so() -> None:
    stream = ChildStream(["cat"])
    stream.close()
    stream.close()
    with pytest.raises(StreamEnded, match="closed"):
        stream.receive(0.1)


def test_a_child_that_will_not_end_is_made_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ChildStream, "PATIENCE", 0.2)
    stream = ChildStream(["sh", "-c", "trap '' TERM; echo on; while :; do sleep 0.1; done"])
    assert stream.receive(PATIENCE) == b"on\n"
    stream.close()
    with pytest.raises(ProcessLookupError):
        os.kill(stream.pid, 0)


def test_a_stream_that_takes_nothing_is_given_up_in_time() -> None:
    stream = ChildStream(["sleep", "3600"])
    began = time.monotonic()
    with pytest.raises(StreamEnded, match="took no bytes"):
        stream.send(bytes(1 << 20), 0.5)
    assert time.monotonic() - began < PATIENCE
    stream.close()


def test_an_unsupported_machine_is_said(binary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import vmatlas_agents

    with pytest.raises(vmatlas_agents.AgentMissing, match="there is no agent for Plan9 on pdp11"):
        vmatlas_agents.path("Plan9", "pdp11")
    with pytest.raises(Unsupported):
        from vmatlas.target.ssh import built_agent

        built_agent("Plan9", "pdp11", "ssh:x")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_program_that_was_just_started_is_ended_where_a_signal_comes(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Before it is known to whom it belongs: Popen is not back yet."""
    started: list[subprocess.Popen[bytes]] = []
    begin = subprocess.Popen

    def interrupted(*arguments: Any, **how: Any) -> subprocess.Popen[bytes]:
        started.append(begin(*arguments, **how))
        signal.raise_signal(number)
        return started[0]

    def handle(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(number, handle)
    try:
        monkeypatch.setattr(subprocess, "Popen", interrupted)
        with pytest.raises(KeyboardInterrupt):
            ChildStream(["sh", "-c", "trap '' INT HUP; while :; do sleep 0.05; done"])
        assert signal.getsignal(number) is handle
    finally:
        signal.signal(number, before)
    assert started[0].returncode is not None, "it was ended, and waited for"
