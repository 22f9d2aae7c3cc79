"""What this plugin gives to agents: native/acquire.c, and how an agent is asked for the map."""

from __future__ import annotations

from pathlib import Path

from vmatlas.backend import YES, Availability, Reading
from vmatlas.errors import Unsupported
from vmatlas.model import Query
from vmatlas.target.asking import AgentRefused
from vmatlas.target.native import AgentSources, RemoteProcess
from vmatlas_netbsd.story import reading_of, refusal

_SOURCE = "netbsd.map"


def probe(process: RemoteProcess) -> Availability:
    """Whether the kernel there tells the agent its own map."""
    try:
        process.streams(_SOURCE)
    except AgentRefused as refused:
        return Availability(False, refused.message)
    return YES


def ask(process: RemoteProcess, query: Query) -> Reading:
    """The map, and who the process is. Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed, TargetLost."""
    try:
        streams = process.streams(_SOURCE)
    except AgentRefused as refused:
        if refused.by_kernel:
            raise refusal(refused.errno_name, refused.errno, refused.failure.what, process.pid) from None
        if refused.errno_name in ("ENOSYS", "ENOTSUP", "ENOENT"):
            hint = "use an agent of this version of vmatlas"
            raise Unsupported(refused.message, pid=process.pid, hint=hint) from None
        raise
    return reading_of(streams, process.pid, process.start_time, process.system.byte_order)


SOURCES = AgentSources(
    system="netbsd",
    files=(Path(__file__).parents[2] / "native" / "acquire.c",),
    table="vmatlas_netbsd_sources",
    names=(_SOURCE,),
    probe=probe,
    ask=ask,
)
