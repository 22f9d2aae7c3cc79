"""A backend and a target in memory, for the code above the backends."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from vmatlas.backend import YES, Availability, Feature, LocalProcess, Reading, Source
from vmatlas.capture import Capture
from vmatlas.errors import Disordered, NoSuchProcess
from vmatlas.model import AddressSpace, Columns, Consistency, ProcessInfo, Query, Region, SystemInfo

from .strategies import LINUX

STREAM = "regions"


@dataclass
class FakeBackend:
    """Answers from a list of regions; its stream is their pickle. With WALK it also walks, like the ioctl."""

    regions: list[Region] = field(default_factory=list)
    name: str = "fake"
    system: str = "linux"
    distribution: str = "vmatlas-fake"
    source: str = "fake.regions"
    features: Feature = Feature.WALK | Feature.ABOVE_USER | Feature.RESIDENCY
    consistency: Consistency = Consistency.SINGLE_CALL
    availability: Availability = YES
    ranked: int | None = 10
    kernel_filter: Callable[[Region, Query], bool] = lambda region, query: True
    incomplete: str | None = None
    queries: list[Query] = field(default_factory=list)

    def probe(self) -> Availability:
        return self.availability

    def rank(self, query: Query) -> int | None:
        return self.ranked

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        self.queries.append(query)
        found = [region for region in self.regions if self.kernel_filter(region, query)]
        if query.address is not None and Feature.WALK in self.features:
            at = query.address
            found = [region for region in found if region.covers(at) or (query.or_next and region.start >= at)]
            found = found[: query.limit_of_answer]
        return Reading({STREAM: pickle.dumps(found)}, self.incomplete)

    def decode(self, capture: Capture) -> AddressSpace:
        columns = Columns.of(pickle.loads(capture.stream(STREAM)))
        if columns.first_disorder() is not None:
            raise Disordered(STREAM, 0, "order")
        return AddressSpace(columns, capture.origin)


@dataclass
class FakeTarget:
    """A machine with one process, 42."""

    name: str = "board"
    system_info: SystemInfo = LINUX
    closed: int = 0

    def offers(self, backend: Source) -> Availability:
        """What is installed here asks real kernels: this one is made up."""
        made_up = backend.distribution == "vmatlas-fake"
        return backend.probe() if made_up else Availability(False, "it asks a kernel, and this is none")

    def processes(self) -> Iterator[ProcessInfo]:
        yield ProcessInfo(42, None, "fake", 1)

    def open(self, pid: int | None, thread: int | None = None) -> FakeProcess:
        if pid not in (None, 42):
            raise NoSuchProcess(f"there is no process {pid}", pid=pid)
        return FakeProcess(self, 42)

    def rights(self) -> list[tuple[str, str]]:
        return []

    def close(self) -> None:
        self.closed += 1


@dataclass
class FakeProcess:
    target: FakeTarget
    pid: int
    start_time: int | None = 1

    def acquire(self, backend: Source, query: Query) -> Capture:
        reading = backend.acquire(LocalProcess(self.pid), query)
        return Capture(
            streams=reading.streams,
            system=self.target.system_info,
            pid=self.pid,
            backend=backend.name,
            distribution=backend.distribution,
            query=query,
            time=1.0,
            start_time=self.start_time,
            target=self.target.name,
            consistency=backend.consistency,
            incomplete=reading.incomplete,
        )

    def close(self) -> None:
        self.target.closed += 1
