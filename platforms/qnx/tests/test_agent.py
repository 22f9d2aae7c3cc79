"""The agent's half: what is asked, how refusals are told, how the agent for QNX x86 is built."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

import vmatlas_agents
from vmatlas import (
    AccessDenied,
    Capture,
    MalformedData,
    NoSuchProcess,
    OperationFailed,
    Query,
    SystemInfo,
    TornRead,
    Unsupported,
)
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target import ssh
from vmatlas.target.asking import AgentRefused
from vmatlas.target.streams import ByteStream
from vmatlas.target.wire import Failure, Origin
from vmatlas_agents.build import NATIVE, BuildFailed, build, ziglang
from vmatlas_qnx import PAGEDATA
from vmatlas_qnx.agent import MAPINFO_SOURCES, PAGEDATA_SOURCES

from .recorded import FOLDER, X86, captured, recorded_names

INFORMATION = (FOLDER / "pid40964_pipe_procinfo.bin").read_bytes()
STARTED = struct.unpack_from("<Q", INFORMATION, 112)[0]
ENTRIES = (FOLDER / "own_pagedata.bin").read_bytes()


@dataclass
class Remote:
    """A process at the other end of a wire, with the answers of one agent."""

    answers: Mapping[str, bytes]
    refusal: str = ""
    origin: int = Origin.KERNEL
    pid: int = 40964
    thread: int | None = None
    start_time: int | None = STARTED
    system: SystemInfo = X86
    asked: list[str] = field(default_factory=list)

    def streams(
        self,
        source: str,
        *,
        thread: int | None = None,
        flags: int = 0,
        address: int = 0,
        limit: int = 0,
        build_ids: bool = False,
    ) -> Mapping[str, bytes]:
        self.asked.append(source)
        if self.refusal:
            raise AgentRefused(Failure(self.origin, 6, self.refusal, "devctl MAPINFO"), {}, "board")
        return self.answers

    def list_folder(self, path: bytes) -> list[bytes]:
        raise NotImplementedError

    def read_link(self, path: bytes) -> bytes:
        raise NotImplementedError

    def inode(self, path: bytes) -> int | None:
        raise NotImplementedError


WHOLE = {"procinfo": INFORMATION, "pagedata": ENTRIES, "mapdebug": recorded_names()}


def test_answer_is_the_agents_streams_and_decodes() -> None:
    remote = Remote(WHOLE)
    reading = PAGEDATA_SOURCES.ask(remote, Query(residency=True))
    assert remote.asked == ["qnx.pagedata"]
    assert (dict(reading.streams), reading.incomplete) == (WHOLE, None)
    capture = Capture(reading.streams, X86, 40964, "qnx-pagedata", "vmatlas-qnx", Query(), 0.0)
    assert list(PAGEDATA.decode(capture)) == list(
        PAGEDATA.decode(captured("pagedata", ENTRIES, mapdebug=recorded_names()))
    )


def test_unsettled_names_make_it_incomplete() -> None:
    assert "changed" in str(PAGEDATA_SOURCES.ask(Remote({**WHOLE, "unsettled": b"1"}), Query()).incomplete)


def test_pid_that_is_another_processs_now_is_no_such_process() -> None:
    with pytest.raises(NoSuchProcess, match="another process's now"):
        PAGEDATA_SOURCES.ask(Remote(WHOLE, start_time=STARTED + 1), Query())
    with pytest.raises(NoSuchProcess):
        PAGEDATA_SOURCES.ask(Remote(WHOLE, pid=7, start_time=None), Query())


def test_answer_without_information_is_malformed() -> None:
    with pytest.raises(MalformedData, match="procfs_info"):
        PAGEDATA_SOURCES.ask(Remote({"pagedata": ENTRIES, "procinfo": b"short"}), Query())


def test_kernel_process_without_entries_is_an_empty_stream() -> None:
    assert MAPINFO_SOURCES.ask(Remote({"procinfo": INFORMATION}), Query()).streams["mapinfo"] == b""


def test_the_kernels_own_process_says_why_it_has_no_map() -> None:
    told = (FOLDER / "pid1_procnto-instr_procinfo.bin").read_bytes()
    reading = MAPINFO_SOURCES.ask(Remote({"procinfo": told}, pid=1, start_time=None), Query())
    assert reading.incomplete == "process 1 is the kernel itself (procnto): QNX tells no map of it"


@pytest.mark.parametrize(
    ("refusal", "origin", "expected"),
    [
        ("ENXIO", Origin.KERNEL, NoSuchProcess),
        ("ESRCH", Origin.KERNEL, NoSuchProcess),
        ("ENOENT", Origin.KERNEL, NoSuchProcess),
        ("EPERM", Origin.KERNEL, AccessDenied),
        ("EBUSY", Origin.KERNEL, OperationFailed),
        ("EAGAIN", Origin.KERNEL, OperationFailed),
        ("ENOENT", Origin.AGENT, Unsupported),
        ("EAGAIN", Origin.AGENT, TornRead),
        ("EINVAL", Origin.AGENT, OperationFailed),
    ],
)
def test_refusal_is_told_as_what_it_means(refusal: str, origin: int, expected: type[Exception]) -> None:
    with pytest.raises(expected):
        MAPINFO_SOURCES.ask(Remote({}, refusal=refusal, origin=origin), Query())


def test_probe_tells_the_kernels_refusal() -> None:
    assert MAPINFO_SOURCES.probe(Remote(WHOLE))
    refused = MAPINFO_SOURCES.probe(Remote({}, refusal="ENOTTY"))
    assert not refused
    assert "ENOTTY" in refused.reason


class Greeting:
    """A stream on which a shell says who it is."""

    def __init__(self, said: bytes) -> None:
        self.said = [said]

    def receive(self, limit: float) -> bytes:
        """All of it, once."""
        return self.said.pop()


@pytest.mark.parametrize(
    ("uname", "machine"),
    [(b"QNX x86pc x86_64", "x86_64"), (b"QNX x86pc x86", "x86"), (b"QNX RaspberryPi4B aarch64le", "aarch64le")],
)
def test_shell_over_ssh_tells_the_processor_and_not_the_board(uname: bytes, machine: str) -> None:
    stream = cast("ByteStream", Greeting(b"Welcome\n\nvmatlas-here " + uname + b"\n"))
    assert ssh.Login(stream, "ssh:board").greeted() == ("QNX", machine)
    assert vmatlas_agents.target_for("QNX", machine).system == "qnx"


# ---- the build ----


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = vmatlas_agents.target_for("QNX", "x86pc")
    try:
        compiler = ziglang(target)
    except BuildFailed as error:
        pytest.skip(str(error))
    return build(target, compiler, output=tmp_path_factory.mktemp("agent"))[0]


def _readelf(agent: Path, *options: str) -> str:
    return subprocess.run(
        ["readelf", "-W", *options, str(agent)], capture_output=True, text=True, check=True, timeout=PATIENCE
    ).stdout


@pytest.mark.slow
def test_agent_is_what_the_loader_of_6_4_takes(agent: Path) -> None:
    image = agent.read_bytes()
    assert image[:6] == b"\x7fELF\x01\x01"
    assert len(image) < 100_000
    segments = _readelf(agent, "-l")
    assert "/usr/lib/ldqnx.so.2" in segments
    assert "NOTE" not in segments
    assert "RELRO" not in segments
    dynamic = _readelf(agent, "-d")
    assert "Shared library: [libc.so.3]" in dynamic
    assert dynamic.count("(NEEDED)") == 1
    assert "GNU_HASH" not in dynamic
    assert "BIND_NOW" not in dynamic
    assert str(NATIVE).encode() not in image, "no path of the builder in it"


@pytest.mark.slow
def test_agent_needs_the_names_of_the_list_and_no_others(agent: Path) -> None:
    needed = {
        line.split()[-1]
        for line in _readelf(agent, "--dyn-syms").splitlines()
        if " UND " in line and line.split()[-1] != "UND"
    }
    assert needed == set((NATIVE / "qnx" / "libc.symbols").read_text().split())


def test_each_agent_source_is_asked_for_by_a_backend() -> None:
    assert (MAPINFO_SOURCES.names, PAGEDATA_SOURCES.names) == (("qnx.mapinfo",), ("qnx.pagedata",))
    assert MAPINFO_SOURCES.files == PAGEDATA_SOURCES.files
    text = MAPINFO_SOURCES.files[0].read_text()
    assert '{"qnx.mapinfo", ' in text
    assert '{"qnx.pagedata", ' in text
