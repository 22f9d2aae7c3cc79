"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the entries."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.errors import AccessDenied, MalformedData, NoSuchProcess, TornRead, Unsupported, VmatlasError
from vmatlas.model import Query
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_qnx import decode, names
from vmatlas_qnx.acquire import UNSETTLED, error_of, kernel_itself, why_no_entry
from vmatlas_qnx.layout import ProcessInfo, read_info
from vmatlas_qnx.pages import PAGES, pack

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
        info, streams = _streams(process, stream)
        entries = streams.get(stream, b"")
        answers = {
            decode.PROCESS: streams[decode.PROCESS],
            stream: entries,
            names.STREAM: streams.get(names.STREAM, b""),
        }
        if not entries:
            return Reading(answers, kernel_itself(info))
        return Reading(answers, UNSETTLED if _UNSETTLED in streams else None)

    return ask


def _ask_pages(process: RemoteProcess, query: Query) -> Reading:
    """The entries for `query.ranges`; their names come along, and are left. Raises what `_ask` raises."""
    info, streams = _streams(process, decode.PAGEDATA)
    entries = streams.get(decode.PAGEDATA, b"")
    packed = pack(entries, query.ranges, process.system.byte_order)
    return Reading({PAGES: packed}, None if entries else why_no_entry(info))


def _streams(process: RemoteProcess, stream: str) -> tuple[ProcessInfo, Mapping[str, bytes]]:
    """What the process is, and all that was answered. Raises as `_ask` does."""
    try:
        streams = process.streams(f"qnx.{stream}")
    except AgentRefused as refused:
        raise _error(refused, process.pid) from None
    told = streams.get(decode.PROCESS, b"")
    info = read_info(told, process.system.byte_order)
    if info is None:
        raise MalformedData(decode.PROCESS, 0, "a procfs_info", found=told, pid=process.pid)
    if info.pid != process.pid or process.start_time not in (None, info.start_time):
        raise NoSuchProcess(f"process {process.pid} has ended; its number is another process's now", pid=process.pid)
    return info, streams


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


def _sources(stream: str, ask: Callable[[RemoteProcess, Query], Reading] | None = None) -> AgentSources:
    return AgentSources(
        system="qnx",
        files=_FILES,
        table="vmatlas_qnx_sources",
        names=(f"qnx.{stream}",),
        probe=_probe(f"qnx.{stream}"),
        ask=ask or _ask(stream),
    )


MAPINFO_SOURCES = _sources(decode.MAPINFO)
PAGEDATA_SOURCES = _sources(decode.PAGEDATA)
PAGES_SOURCES = _sources(decode.PAGEDATA, _ask_pages)
