"""Asking an agent: what its answers and refusals mean, and that it can be built. No machine runs."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmatlas import AccessDenied, NoSuchProcess, Query, SystemInfo, Unsupported
from vmatlas.backend import LocalProcess
from vmatlas.errors import OperationFailed, VmatlasError
from vmatlas.target.asking import AgentRefused
from vmatlas.target.wire import Failure, Origin
from vmatlas_agents.build import NATIVE, BuildFailed, build, ziglang
from vmatlas_agents.targets import SYSTEM_SOURCES, TARGETS
from vmatlas_images import load
from vmatlas_netbsd import BACKEND, acquire, story
from vmatlas_netbsd.agent import SOURCES
from vmatlas_netbsd.decode import MAP, PROCESS, Process

ROOT = Path(__file__).parents[3]
ALIVE = Process(pid=46, parent=1, name="sleep", start_time=5, is_zombie=False, is_kernel=False)


@dataclass
class Remote:
    """A process at the other end of a wire."""

    answer: Mapping[str, bytes] | AgentRefused
    start_time: int | None = 5
    pid: int = 46
    thread: int | None = None
    system: SystemInfo = field(default_factory=lambda: SystemInfo("netbsd", "1.0", "", "x86_64", "little", 64, 4096))

    def streams(self, source: str, **asked: object) -> Mapping[str, bytes]:
        assert source in SOURCES.names
        if isinstance(self.answer, AgentRefused):
            raise self.answer
        return self.answer

    def list_folder(self, path: bytes) -> list[bytes]:
        raise AssertionError("not asked")

    def read_link(self, path: bytes) -> bytes:
        raise AssertionError("not asked")

    def inode(self, path: bytes) -> int | None:
        raise AssertionError("not asked")


def refused(name: str, *, by_kernel: bool = True) -> AgentRefused:
    return AgentRefused(Failure(Origin.KERNEL if by_kernel else Origin.AGENT, 1, name, "asking"), {}, "agent:test")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    """What the stream `process` is taken for, whatever its bytes."""
    processes = [ALIVE]
    monkeypatch.setattr(story, "parse_processes", lambda data, order: processes if data else [])
    return processes


def test_an_answer_is_the_kernels_bytes_of_the_very_process(told: list[Process]) -> None:
    assert SOURCES.ask(Remote({MAP: b"bytes", PROCESS: b"x"}), Query()).streams == {MAP: b"bytes", PROCESS: b"x"}
    for pid, start_time in ((46, 6), (47, None)):
        with pytest.raises(NoSuchProcess, match="another process's now"):
            SOURCES.ask(Remote({MAP: b"bytes", PROCESS: b"x"}, start_time, pid), Query())
    with pytest.raises(NoSuchProcess, match="there is no process 46"):
        SOURCES.ask(Remote({MAP: b""}), Query())
    told[0] = Process(46, 1, "sleep", 5, is_zombie=True, is_kernel=False)
    with pytest.raises(NoSuchProcess, match="zombie"):
        SOURCES.ask(Remote({MAP: b"", PROCESS: b"x"}), Query())


@pytest.mark.parametrize(
    ("refusal", "error"),
    [
        (refused("ESRCH"), NoSuchProcess),
        (refused("EPERM"), AccessDenied),
        (refused("EACCES"), AccessDenied),
        (refused("EOPNOTSUPP"), Unsupported),
        (refused("ENOMEM"), OperationFailed),
        (refused("ENOSYS", by_kernel=False), Unsupported),
        (refused("ECANCELED", by_kernel=False), AgentRefused),
    ],
)
def test_a_refusal_means(refusal: AgentRefused, error: type[VmatlasError]) -> None:
    with pytest.raises(error):
        SOURCES.ask(Remote(refusal), Query())
    availability = SOURCES.probe(Remote(refusal))
    assert not availability
    assert refusal.errno_name in availability.reason


def test_reading_on_this_machine_is_judged_alike(told: list[Process], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acquire, "read_map", lambda pid: b"bytes")
    monkeypatch.setattr(acquire, "read_process", lambda pid: b"x")
    process = LocalProcess(46, start_time=5)
    assert BACKEND.acquire(process, Query()).streams == {MAP: b"bytes", PROCESS: b"x"}

    def refuse(pid: int) -> bytes:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(acquire, "read_map", refuse)
    with pytest.raises(AccessDenied):
        BACKEND.acquire(process, Query())


@pytest.mark.skipif(platform.system().lower() == "netbsd", reason="this is one")
def test_on_another_system_it_says_why_it_cannot_answer() -> None:
    availability = BACKEND.probe()
    assert not availability
    assert f"this is {platform.system().lower()}" in availability.reason


def test_the_agent_has_a_part_for_the_system() -> None:
    told = "fill in SYSTEM_SOURCES of core/agent/src/vmatlas_agents/targets.py, with a system_netbsd.c"
    assert "netbsd" in SYSTEM_SOURCES, told
    assert all((NATIVE / file).is_file() for file in SYSTEM_SOURCES["netbsd"]), told
    row = "fill in TARGETS of core/agent/src/vmatlas_agents/targets.py: a row for each processor"
    assert any(target.system == "netbsd" for target in TARGETS), row


@pytest.mark.slow
@pytest.mark.parametrize(
    "target", [each for each in TARGETS if each.system == "netbsd"], ids=lambda target: target.name
)
def test_the_agent_is_built(tmp_path: Path, target: object) -> None:
    [chosen] = [each for each in TARGETS if each is target]
    try:
        agent, _ = build(chosen, ziglang(chosen), output=tmp_path)
    except BuildFailed as error:
        if "ziglang is not installed" in str(error):
            pytest.skip(str(error))
        raise
    assert b"netbsd.map" in agent.read_bytes()


def test_the_machine_says_what_must_answer_on_it() -> None:
    machine = load(ROOT / "images" / "netbsd.yaml")
    assert (machine.system, machine.expect.answering) == ("netbsd", (BACKEND.name,))
