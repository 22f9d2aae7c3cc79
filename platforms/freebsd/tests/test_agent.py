"""Asking an agent: what its answers and refusals mean, and what the built agent needs of a FreeBSD. No machine runs."""

from __future__ import annotations

import re
import struct
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vmatlas import AccessDenied, MalformedData, NoSuchProcess, Query, SystemInfo, Unsupported
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import OperationFailed, VmatlasError
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources
from vmatlas.target.wire import Failure, Origin
from vmatlas_agents import target_for
from vmatlas_agents.build import BuildFailed, build, plugin_sources, ziglang
from vmatlas_freebsd.agent import PROCFS_SOURCES, SYSCTL_SOURCES
from vmatlas_freebsd.decode.map_text import CUT, CUT_AT

from .conftest import CAPTURES, FakeKernel, FakeProcess

RECORDS = (CAPTURES / "plain-sleep.vmmap.bin").read_bytes()
TEXT = (CAPTURES / "plain-sleep.map.txt").read_bytes()
P_KPROC, P_SYSTEM, P_WEXIT, SZOMB = 0x4, 0x200, 0x2000, 5
BOOT = 1_700_000_000_000_000
BOTH = pytest.mark.parametrize(("sources", "stream"), [(SYSCTL_SOURCES, "vmmap"), (PROCFS_SOURCES, "map")])


def record(**known: object) -> bytes:
    return FakeKernel().record(FakeProcess(46, **known))  # type: ignore[arg-type]


def timeval(microseconds: int = BOOT) -> bytes:
    return struct.pack("<qq", *divmod(microseconds, 1_000_000))


@dataclass
class Remote:
    """A process at the other end of a wire; its agent gives the answers in turn, the last one again."""

    answers: list[Mapping[str, bytes] | AgentRefused]
    start_time: int | None = 5_000_000
    mounted: bool = True
    pid: int = 46
    thread: int | None = None
    system: SystemInfo = field(
        default_factory=lambda: SystemInfo("freebsd", "13.2-RELEASE", "", "amd64", "little", 64, 4096)
    )

    def streams(self, source: str, **asked: object) -> Mapping[str, bytes]:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, AgentRefused):
            raise answer
        return answer

    def list_folder(self, path: bytes) -> list[bytes]:
        raise AssertionError("not asked")

    def read_link(self, path: bytes) -> bytes:
        raise AssertionError("not asked")

    def inode(self, path: bytes) -> int | None:
        assert path == b"/proc/curproc"
        return 5 if self.mounted else None


def answer(stream: str, data: bytes, boot: int = BOOT, **known: object) -> Mapping[str, bytes]:
    return {stream: data, "boottime": timeval(boot), "proc": record(**known)}


def refused(name: str, *, by_kernel: bool = True, proc: bytes = b"") -> AgentRefused:
    failure = Failure(Origin.KERNEL if by_kernel else Origin.AGENT, 1, name, "asking")
    return AgentRefused(failure, {"boottime": timeval(), "proc": proc}, "agent:test")


@BOTH
def test_answer_is_the_kernels_bytes_and_the_identity_is_checked(sources: AgentSources, stream: str) -> None:
    reading = sources.ask(Remote([answer(stream, b"bytes")]), Query())
    assert (dict(reading.streams), reading.incomplete) == ({stream: b"bytes"}, None)
    with pytest.raises(NoSuchProcess, match="another process's now"):
        sources.ask(Remote([answer(stream, b"bytes", started=6_000_000)]), Query())


@BOTH
def test_clock_that_is_set_just_then_does_not_make_another_process(sources: AgentSources, stream: str) -> None:
    torn = answer(stream, b"torn", boot=BOOT - 7_000_000)
    assert sources.ask(Remote([torn, answer(stream, b"good")]), Query()).streams == {stream: b"good"}


@BOTH
def test_process_of_the_kernel_tells_itself_beside_its_empty_map(sources: AgentSources, stream: str) -> None:
    reading = sources.ask(Remote([answer(stream, b"", flag=P_KPROC)]), Query())
    assert reading.streams == {stream: b"", "proc": record(flag=P_KPROC)}


@BOTH
@pytest.mark.parametrize(
    ("refusal", "error", "says"),
    [
        (refused("EPERM", proc=record()), AccessDenied, "no right to read the memory map of process 46"),
        (refused("ESRCH"), NoSuchProcess, "there is no process 46"),
        (refused("ESRCH", proc=record(state=SZOMB)), NoSuchProcess, "zombie"),
        (refused("EIO", proc=record()), NoSuchProcess, "its memory is gone"),
        (refused("EFBIG", proc=record()), OperationFailed, "longer than this kernel writes"),
        (refused("ENOMEM", proc=record()), OperationFailed, "failed: ENOMEM"),
        (refused("ENOENT", by_kernel=False), Unsupported, "refused"),
        (refused("ENOTSUP", by_kernel=False), Unsupported, "refused"),
        (refused("ECANCELED", by_kernel=False), AgentRefused, "refused"),
    ],
)
def test_refusal_means(
    sources: AgentSources, stream: str, refusal: AgentRefused, error: type[VmatlasError], says: str
) -> None:
    with pytest.raises(error, match=says):
        sources.ask(Remote([refusal]), Query())


@BOTH
@pytest.mark.parametrize(
    ("proc", "error"), [(b"", NoSuchProcess), (record(state=SZOMB), NoSuchProcess), (b"x", MalformedData)]
)
def test_answer_without_a_living_process_is_none(
    sources: AgentSources, stream: str, proc: bytes, error: type[VmatlasError]
) -> None:
    with pytest.raises(error):
        sources.ask(Remote([{stream: b"bytes", "boottime": timeval(), "proc": proc}]), Query())


def test_missing_file_of_procfs_is_explained() -> None:
    kernel = sources_ask(refused("ENOENT", proc=record(flag=P_KPROC | P_SYSTEM)))
    assert kernel() == {"map": b"", "proc": record(flag=P_KPROC | P_SYSTEM)}
    for refusal, mounted, error, says in [
        (refused("ENOENT", proc=record()), False, Unsupported, "mount -t procfs proc /proc"),
        (refused("ENOENT", proc=record(flag=P_SYSTEM, name=b"init")), True, Unsupported, r"46 \(init\)"),
        (refused("ENOENT", proc=record(state=SZOMB)), True, NoSuchProcess, "zombie"),
        (refused("ENOENT", proc=record(flag=P_WEXIT)), True, NoSuchProcess, "its memory is gone"),
        (refused("ENOENT"), True, NoSuchProcess, "there is no process 46"),
    ]:
        with pytest.raises(error, match=says):
            sources_ask(refusal, mounted)()


def sources_ask(refusal: AgentRefused, mounted: bool = True) -> Callable[[], Mapping[str, bytes]]:
    return lambda: PROCFS_SOURCES.ask(Remote([refusal], mounted=mounted), Query()).streams


def test_text_of_the_length_at_which_the_kernel_cuts_is_incomplete() -> None:
    assert PROCFS_SOURCES.ask(Remote([answer("map", b"x" * CUT_AT)]), Query()).incomplete == CUT
    assert PROCFS_SOURCES.ask(Remote([answer("map", TEXT)]), Query()).incomplete is None


def test_probe_tells_why_not() -> None:
    assert SYSCTL_SOURCES.probe(Remote([answer("vmmap", RECORDS)]))
    assert PROCFS_SOURCES.probe(Remote([answer("map", TEXT)]))
    assert "mount -t procfs proc /proc" in PROCFS_SOURCES.probe(Remote([refused("ENOENT")])).reason
    assert "EPERM" in SYSCTL_SOURCES.probe(Remote([refused("EPERM")])).reason


def test_agents_of_freebsd_get_both_sources() -> None:
    assert [plugin.names for plugin in plugin_sources("freebsd")] == [("freebsd.procfs_map",), ("freebsd.vmmap",)]


@pytest.mark.slow
@pytest.mark.parametrize("machine", ["amd64", "arm64"])
def test_built_agent_needs_nothing_newer_than_13_2(machine: str, tmp_path: Path) -> None:
    """The compiler's own start files need __libc_start1@FBSD_1.7, of FreeBSD 14: the agent has an entry of its own.

    What libc of 13.2 wants of a program (environ, __progname) the agent has to hand out.
    """
    target = target_for("FreeBSD", machine)
    try:
        agent, _ = build(target, ziglang(target), output=tmp_path)
    except BuildFailed as error:
        if "ziglang is not installed" in str(error):
            pytest.skip(str(error))
        raise
    told = subprocess.run(
        ["readelf", "-hVldW", "--dyn-syms", agent], capture_output=True, text=True, check=True, timeout=PATIENCE
    )
    needs = set(re.findall(r"FBSD_1\.([0-9]+)", told.stdout))
    assert needs and max(map(int, needs)) <= 6
    assert re.findall(r"NEEDED.*\[(.*)\]", told.stdout) == ["libc.so.7"]
    assert "/libexec/ld-elf.so.1" in told.stdout
    assert "__libc_start1" not in told.stdout
    for name in ("environ", "__progname"):
        assert re.search(rf"OBJECT +GLOBAL +DEFAULT +[0-9]+ {name}$", told.stdout, re.MULTILINE), name
    assert int(re.findall(r"Entry point address: +(0x[0-9a-f]+)", told.stdout)[0], 16) > 0
    assert Path(agent).stat().st_size < 100_000
