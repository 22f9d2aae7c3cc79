"""A system of somebody else's: its backend, its system, its half for agents, its machines."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from vmatlas.backend import YES, Availability, Feature, LocalProcess, Reading
from vmatlas.capture import Capture
from vmatlas.errors import Unsupported
from vmatlas.model import AddressSpace, Columns, Consistency, ProcessInfo, Protection, Query, Region, SystemInfo
from vmatlas.systems.posix import describe_machine
from vmatlas.target.native import AgentSources, RemoteProcess

_STREAM = "map"
_RIGHTS = {"r": Protection.READ, "w": Protection.WRITE, "x": Protection.EXECUTE}
_HERE = Path(__file__).parent
MACHINES = _HERE / "machines"


class StandinMap:
    """Bounds and rights, and nothing else."""

    name = "standin-map"
    system = "standin"
    distribution = "vmatlas-standin"
    source = "standin.map"
    features = Feature.NONE
    consistency = Consistency.PER_REGION

    def probe(self) -> Availability:
        return Availability(False, "it is asked through an agent alone")

    def rank(self, query: Query) -> int | None:
        return None if query.build_ids or query.residency else 10

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        raise Unsupported("it is asked through an agent alone", pid=process.pid)

    def decode(self, capture: Capture) -> AddressSpace:
        regions = []
        for line in capture.stream(_STREAM).decode().splitlines():
            bounds, letters = line.split()[:2]
            start, end = (int(each, 16) for each in bounds.split("-"))
            rights = sum((_RIGHTS[each] for each in letters if each in _RIGHTS), Protection.NONE)
            regions.append(Region(start, end, Protection(rights)))
        return AddressSpace(Columns.of(regions), capture.origin)


class StandinSystem:
    """What there is to know."""

    name = "standin"
    why_no_pages = "nobody tells"

    def info(self) -> SystemInfo:
        return describe_machine(self.name)

    def processes(self) -> Iterator[ProcessInfo]:
        return iter(())

    def open(self, pid: int, thread: int | None) -> LocalProcess:
        return LocalProcess(pid)

    def rights(self) -> list[tuple[str, str]]:
        return []


def _probe(process: RemoteProcess) -> Availability:
    return YES


def _ask(process: RemoteProcess, query: Query) -> Reading:
    return Reading(process.streams("standin.map"))


BACKEND = StandinMap()
SYSTEM = StandinSystem()
SOURCES = AgentSources(
    system="standin",
    files=(_HERE / "native" / "acquire.c",),
    table="vmatlas_standin_sources",
    names=("standin.map",),
    probe=_probe,
    ask=_ask,
)
