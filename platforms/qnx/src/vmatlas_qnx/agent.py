"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the entries."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.errors import AccessDenied, MalformedData, NoSuchProcess, TornRead, Unsupported, VmatlasError
from vmatlas.model import Query
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_qnx import decode, names
from vmatlas_qnx.acquire import UNSETTLED, error_of, kernel_itself
from vmatlas_qnx.layout import read_info

_UNSETTLED = "unsettled"
"""A stream that is there when the map changed each time that its names were asked for."""


def _probe(source: str) -> Callable[[RemoteProcess], Availability]:
    def probe(process: RemoteProcess) -> Availability:
        """Whether the kernel there answers about the agent itself."""
        try:
            process.streams(source)
        except AgentRefused as refused:
            return Availability(False, refused.message)
        return YES

    return probe


def _ask(stream: str) -> Callable[[RemoteProcess, Query], Reading]:
    def ask(process: RemoteProcess, query: Query) -> Reading:
        """The entries and their names.

        Raises NoSuchProcess, AccessDenied, Unsupported, TornRead, OperationFailed, MalformedData, TargetLost.
        """
        try:
            streams = process.streams(f"qnx.{stream}")
        except AgentRefused as refused:
            raise _error(refused, process.pid) from None
        told = streams.get(decode.PROCESS, b"")
        info = read_info(told, process.system.byte_order)
        if info is None:
            raise MalformedData(decode.PROCESS, 0, "a procfs_info", found=told, pid=process.pid)
        if info.pid != process.pid or process.start_time not in (None, info.start_time):
            raise NoSuchProcess(
                f"process {process.pid} has ended; its number is another process's now", pid=process.pid
            )
        entries = streams.get(stream, b"")
        answers = {decode.PROCESS: told, stream: entries, names.STREAM: streams.get(names.STREAM, b"")}
        if not entries:
            return Reading(answers, kernel_itself(info))
        return Reading(answers, UNSETTLED if _UNSETTLED in streams else None)

    return ask


def _error(refused: AgentRefused, pid: int) -> VmatlasError:
    """What an agent's refusal means for the process."""
    if not refused.by_kernel:
        if refused.errno_name in ("ENOSYS", "ENOTSUP", "ENOENT"):
            return Unsupported(refused.message, pid=pid, hint="use an agent of this version of vmatlas")
        if refused.errno_name == "EAGAIN":  # acquire.c: it grew during each reading
            return TornRead(refused.message, pid=pid)
        return refused
    told = error_of(refused.errno_name, refused.errno, pid, refused.failure.what)
    return told if isinstance(told, (NoSuchProcess, AccessDenied)) else refused


_FILES = (Path(__file__).parents[2] / "native" / "acquire.c",)


def _sources(stream: str) -> AgentSources:
    return AgentSources(
        system="qnx",
        files=_FILES,
        table="vmatlas_qnx_sources",
        names=(f"qnx.{stream}",),
        probe=_probe(f"qnx.{stream}"),
        ask=_ask(stream),
    )


MAPINFO_SOURCES = _sources(decode.MAPINFO)
PAGEDATA_SOURCES = _sources(decode.PAGEDATA)
