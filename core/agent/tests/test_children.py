"""Children of the agent: what they can be asked, how they end, and that none outlives it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import OperationFailed
from vmatlas.target.agent import Agent, AgentRefused, required


def wait_until(true: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Whether it became true in time."""
    until = time.monotonic() + seconds
    while not true():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def is_gone(pid: int) -> bool:
    """Neither running nor a zombie of ours."""
    return not psutil.pid_exists(pid)


def is_zombie(pid: int) -> bool:
    return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def is_dead(pid: int) -> bool:
    """Gone, or a zombie that somebody else has to reap."""
    try:
        return is_zombie(pid)
    except psutil.NoSuchProcess:
        return True


def test_a_child_is_a_process_of_the_agent(agent: Agent) -> None:
    child = agent.spawn()
    assert psutil.Process(child.pid).ppid() == agent.hello.pid
    assert int(child.acquire("linux.maps")["stat"].split()[0]) == child.pid


def test_a_child_holds_no_descriptor_of_the_agent_or_of_other_children(agent: Agent) -> None:
    program = Path(f"/proc/{agent.hello.pid}/exe").resolve()
    for child in [agent.spawn(), agent.spawn(), agent.spawn(bytes(program)), agent.spawn()]:
        child.sleep(0)  # it answers, so it has let go of what it does not need
        assert sorted(each.name for each in Path(f"/proc/{child.pid}/fd").iterdir()) == ["0", "1", "2"]


def test_an_ended_child_is_a_zombie_until_it_is_reaped(agent: Agent) -> None:
    child = agent.spawn()
    assert child.end(signal.SIGKILL).ok
    assert wait_until(lambda: is_zombie(child.pid))
    with pytest.raises(AgentRefused) as refused:
        agent.itself.acquire("linux.procmap_query", child.pid, flags=0x10)
    assert refused.value.errno_name == "ESRCH"
    reaped = child.reap()
    assert reaped.value == child.pid and os.WTERMSIG(reaped.detail) == signal.SIGKILL
    assert is_gone(child.pid)
    with pytest.raises(AgentRefused, match="ECHILD"):
        child.reap()


def test_a_child_that_runs_is_not_reaped(agent: Agent) -> None:
    child = agent.spawn()
    assert child.reap(0.05).value == 0
    assert child.acquire("linux.maps")["maps"]


def test_a_dead_child_that_is_asked_is_an_error_and_the_agent_goes_on(agent: Agent) -> None:
    child = agent.spawn()
    child.end()
    assert wait_until(lambda: is_zombie(child.pid))
    with pytest.raises(AgentRefused, match="ECHILD"):
        child.acquire("linux.maps")
    assert agent.ping(b"on") == b"on"


def test_a_process_that_is_no_child_gets_no_requests(agent: Agent) -> None:
    stranger = type(agent.itself)(agent, os.getpid(), os.getpid())
    with pytest.raises(AgentRefused, match="ECHILD"):
        stranger.peek(0x1000, 1)
    with pytest.raises(AgentRefused, match="ECHILD"):
        stranger.end()


def test_a_child_cannot_have_children(agent: Agent) -> None:
    child = agent.spawn()
    from vmatlas.target.wire import Operation, text16

    with pytest.raises(AgentRefused, match="ENOTSUP"):
        child.ask(Operation.SPAWN, text16(b""))


def test_there_are_at_most_64_children(agent: Agent) -> None:
    children = [agent.spawn() for _ in range(64)]
    with pytest.raises(AgentRefused, match="EAGAIN"):
        agent.spawn()
    children[10].end()
    assert children[10].reap().value == children[10].pid
    assert agent.spawn().acquire("linux.maps")["maps"]
    assert len({child.pid for child in children}) == 64


def test_an_agent_is_run_as_the_child_of_another(agent: Agent, binary: Path) -> None:
    child = agent.spawn(bytes(binary))
    assert os.readlink(f"/proc/{child.pid}/exe") == str(binary)
    assert child.acquire("linux.maps")["maps"]


def test_a_program_does_not_inherit_that_the_agent_ignores_broken_pipes(
    agent: Agent, ignored_by_a_program: Callable[[Agent], set[int]]
) -> None:
    assert signal.SIGPIPE not in ignored_by_a_program(agent)


def test_a_program_that_is_not_there_is_the_systems_error(agent: Agent) -> None:
    with pytest.raises(OperationFailed, match="ENOENT"):
        agent.spawn(b"/no/such/agent")
    assert psutil.Process(agent.hello.pid).children() == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_child_of_another_user_has_no_rights(agent: Agent) -> None:
    child = agent.spawn()
    required(child.become(65534, 65534), "become")
    assert psutil.Process(child.pid).uids().real == 65534
    with pytest.raises(AgentRefused) as refused:
        child.acquire("linux.maps", agent.hello.pid)
    assert (refused.value.errno_name, refused.value.by_kernel) == ("EACCES", True)
    assert child.acquire("linux.maps")["maps"], "its own map may be read"
    assert child.become(0, 0).errno_name == "EPERM"


def test_the_agent_itself_stays_who_it_is(agent: Agent) -> None:
    with pytest.raises(AgentRefused, match="EPERM"):
        agent.itself.become(65534, 65534)


def test_a_child_that_works_is_interrupted_by_another_question(agent: Agent) -> None:
    import threading

    from vmatlas.target.streams import ChildStream
    from vmatlas.target.wire import Decoder, Frame, Kind, Operation, encode, pack, read_failure

    stream = agent.talk._stream
    assert isinstance(stream, ChildStream) and isinstance(agent.talk._lock, type(threading.Lock()))
    child = agent.spawn()
    stream.send(encode(Frame(Kind.REQUEST, Operation.SLEEP, 71, process=child.pid, payload=pack("I", 60_000))), 5)
    stream.send(encode(Frame(Kind.REQUEST, Operation.PING, 72, process=child.pid, payload=b"now")), PATIENCE)
    decoder = Decoder()
    frames: list[Frame] = []
    until = time.monotonic() + PATIENCE
    while len(frames) < 2 and time.monotonic() < until:
        frames += [each for each in decoder.feed(stream.receive(1)) if isinstance(each, Frame)]
    assert (frames[0].request, read_failure(frames[0].payload).errno_name) == (71, "ECANCELED")
    assert (frames[1].request, frames[1].process, frames[1].payload) == (72, child.pid, b"now")


def test_no_child_outlives_an_agent_whose_input_ended(start: Callable[..., Agent]) -> None:
    agent = start()
    pids = [agent.spawn().pid for _ in range(3)]
    agent.close()
    assert wait_until(lambda: all(is_gone(pid) for pid in [agent.hello.pid, *pids]))


def test_no_child_outlives_an_agent_that_was_killed(start: Callable[..., Agent], binary: Path) -> None:
    agent = start()
    pids = [agent.spawn().pid, agent.spawn(bytes(binary)).pid]
    if os.geteuid() == 0:
        other = agent.spawn()
        required(other.become(65534, 65534), "become")
        pids.append(other.pid)
    os.kill(agent.hello.pid, signal.SIGKILL)
    assert wait_until(lambda: all(map(is_dead, pids)))
