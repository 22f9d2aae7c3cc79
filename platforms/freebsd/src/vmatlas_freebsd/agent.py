"""What this plugin gives to agents: the C in native/, and how an agent is asked for records and text.

The agent sends who the process is (`proc`, `boottime`) along with each answer, asked after the map was read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.errors import Unsupported, VmatlasError
from vmatlas.model import Query
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_freebsd.decode.map_text import CUT, CUT_AT, MAP
from vmatlas_freebsd.decode.process import BOOT_TIME, Process, parse_boot_time, start_time
from vmatlas_freebsd.decode.process import STREAM as PROC
from vmatlas_freebsd.decode.vmmap import VMMAP
from vmatlas_freebsd.story import NOT_MOUNTED, absence, another, find, judge_missing_file, refusal

_VMMAP_SOURCE = "freebsd.vmmap"
_MAP_SOURCE = "freebsd.procfs_map"
_NATIVE = Path(__file__).parents[2] / "native"
_CLOCK_ATTEMPTS = 3


def probe_vmmap(process: RemoteProcess) -> Availability:
    """Whether the kernel there tells the agent its own map."""
    try:
        process.streams(_VMMAP_SOURCE)
    except AgentRefused as refused:
        return Availability(False, refused.message)
    return YES


def probe_map(process: RemoteProcess) -> Availability:
    """Whether procfs is mounted there."""
    try:
        process.streams(_MAP_SOURCE)
    except AgentRefused as refused:
        return Availability(False, NOT_MOUNTED if refused.errno_name == "ENOENT" else refused.message)
    return YES


def ask_vmmap(process: RemoteProcess, query: Query) -> Reading:
    """The records, whole."""
    streams = _identified(process, _VMMAP_SOURCE)
    return _reading(streams, VMMAP)


def ask_map(process: RemoteProcess, query: Query) -> Reading:
    """The text, in one read of the agent's."""
    streams = _identified(process, _MAP_SOURCE)
    return _reading(streams, MAP, CUT if len(streams.get(MAP, b"")) == CUT_AT else None)


def _reading(streams: Mapping[str, bytes], stream: str, incomplete: str | None = None) -> Reading:
    """The process is told beside an empty map only, as on the machine itself."""
    data = streams.get(stream, b"")
    return Reading({stream: data} if data else {stream: data, PROC: streams[PROC]}, incomplete)


def _identified(process: RemoteProcess, source: str) -> Mapping[str, bytes]:
    """The streams of the very process that was opened. Asked again when its start time differs, since the clock of the
    machine may have been set between the two streams that tell it.

    Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed, TargetLost.
    """
    for _ in range(_CLOCK_ATTEMPTS):
        try:
            streams: Mapping[str, bytes] = process.streams(source)
        except AgentRefused as refused:
            streams = _explained(process, source, refused)
        found = find(streams.get(PROC, b""), process.system.byte_order)
        if found is None or found.is_zombie:
            raise absence(found, process.pid)
        if _is_same(process, found, streams):
            return streams
    raise another(process.pid)


def _is_same(process: RemoteProcess, found: Process, streams: Mapping[str, bytes]) -> bool:
    boot_time = parse_boot_time(streams.get(BOOT_TIME, b""), process.system.byte_order)
    return process.start_time in (None, start_time(found, boot_time))


def _explained(process: RemoteProcess, source: str, refused: AgentRefused) -> Mapping[str, bytes]:
    """What came before a refusal that means an empty map; raises what any other means for the process."""
    if not refused.by_kernel:
        raise _agents_own(refused, process.pid) from None
    found = find(refused.streams.get(PROC, b""), process.system.byte_order)
    if source == _MAP_SOURCE and refused.errno_name == "ENOENT":
        judge_missing_file(found, process.inode(b"/proc/curproc") is not None, process.pid)
        return refused.streams
    asked = "sysctl kern.proc.vmmap" if source == _VMMAP_SOURCE else "/proc/PID/map"
    raise refusal(
        refused.errno_name, refused.errno, refused.errno_name, pid=process.pid, asked=asked, found=found
    ) from None


def _agents_own(refused: AgentRefused, pid: int) -> VmatlasError:
    if refused.errno_name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOENT"):
        return Unsupported(refused.message, pid=pid, hint="use an agent of this version of vmatlas")
    return refused


SYSCTL_SOURCES = AgentSources(
    system="freebsd",
    files=(_NATIVE / "vmmap.c",),
    table="vmatlas_freebsd_vmmap_sources",
    names=(_VMMAP_SOURCE,),
    probe=probe_vmmap,
    ask=ask_vmmap,
)
PROCFS_SOURCES = AgentSources(
    system="freebsd",
    files=(_NATIVE / "map_text.c",),
    table="vmatlas_freebsd_map_sources",
    names=(_MAP_SOURCE,),
    probe=probe_map,
    ask=ask_map,
)
