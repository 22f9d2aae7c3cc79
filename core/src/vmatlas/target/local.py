"""This machine as a target."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence

from vmatlas import registry
from vmatlas.backend import (
    Availability,
    DirectBackend,
    DirectPageSource,
    Finder,
    JitMap,
    KnowsNotListed,
    ListsBriefly,
    LocalProcess,
    Source,
    System,
    TellsWaits,
)
from vmatlas.model import AddressSpace, FileNow, FileRights, Origin, ProcessInfo, Query, Region, SystemInfo
from vmatlas.once import cached_property
from vmatlas.systems.names import system_called

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.model.pages import PageRuns


class LocalTarget:
    """The machine that this program runs on."""

    name = "local"

    def __init__(self) -> None:
        self._probed: dict[str, Availability] = {}

    def __repr__(self) -> str:
        return f"<vmatlas.target {self.name}>"

    @cached_property
    def system(self) -> System:
        """What is known of this machine's system. Raises Unsupported when no installed plugin knows it."""
        word = sys.platform.rstrip("0123456789").replace("nto", "qnx")
        return registry.system(system_called(word))

    @cached_property
    def system_info(self) -> SystemInfo:
        """This machine. Raises Unsupported."""
        return self.system.info()

    def offers(self, backend: Source) -> Availability:
        """Whether the backend is of this system and its kernel answers."""
        if backend.system != self.system_info.system:
            return Availability(False, f"it asks {backend.system} kernels; this machine runs {self.system_info.system}")
        if backend.name not in self._probed:
            self._probed[backend.name] = backend.probe()
        return self._probed[backend.name]

    def processes(self) -> Iterator[ProcessInfo]:
        """Every process that is listed here."""
        return self.system.processes()

    def brief(self, pids: Sequence[int] | None = None) -> Iterator[ProcessInfo]:
        """See `ListsBriefly`; of a system that is asked the long way it tells more."""
        if isinstance(self.system, ListsBriefly):
            return self.system.brief(pids)
        wanted = None if pids is None else set(pids)
        return (each for each in self.processes() if wanted is None or each.pid in wanted)

    def unlisted(self) -> str | None:
        """Why processes may be missing from the list, in words; None when none is."""
        return self.system.not_listed(_read_file) if isinstance(self.system, KnowsNotListed) else None

    def open(self, pid: int | None, thread: int | None = None) -> LocalTargetProcess:
        """A process of this machine; None is this one. Raises NoSuchProcess, AccessDenied, Unsupported."""
        return LocalTargetProcess(self, self.system.open(os.getpid() if pid is None else pid, thread))

    def rights(self) -> list[tuple[str, str]]:
        """What decides whose maps may be read here."""
        return self.system.rights()

    def waiting_for(self, thread: int) -> str | None:
        """See `TellsWaits`."""
        return self.system.waiting_for(thread) if isinstance(self.system, TellsWaits) else None

    def close(self) -> None:
        """There is nothing to end."""

    def __enter__(self) -> LocalTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LocalTargetProcess:
    """A process of this machine."""

    def __init__(self, target: LocalTarget, process: LocalProcess) -> None:
        self._target = target
        self._process = process

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def start_time(self) -> int | None:
        """When it started, in the system's own unit."""
        return self._process.start_time

    def acquire(self, backend: Source, query: Query) -> Capture:
        """The kernel's bytes. Raises what `Backend.acquire` raises."""
        with self._process.lock:
            reading = backend.acquire(self._process, query)
        from vmatlas.capture import Capture  # what is read by a short way has none

        return Capture(
            streams=reading.streams,
            system=self._target.system_info,
            pid=self._process.pid,
            backend=backend.name,
            distribution=backend.distribution,
            query=query,
            time=time.time(),
            start_time=self._process.start_time,
            thread=self._process.thread,
            consistency=backend.consistency,
            incomplete=_joined(reading.incomplete, self._process.doubt),
        )

    def read(self, backend: DirectBackend, query: Query, most: int) -> AddressSpace | None:
        """See `DirectBackend.read`."""
        with self._process.lock:
            columns = backend.read(self._process, query, most)
        return None if columns is None else AddressSpace(columns, self._origin(backend))

    def read_pages(self, source: DirectPageSource, query: Query) -> PageRuns | None:
        """See `DirectPageSource.read`."""
        from vmatlas.model.pages import PageRuns

        with self._process.lock:
            found = source.read(self._process, query)
        if found is None:
            return None
        columns, told = found
        return PageRuns(columns, self._origin(source), told, incomplete=self._process.doubt)

    def _origin(self, source: Source) -> Origin:
        process = self._process
        return Origin(
            self._target.system_info,
            process.pid,
            source.name,
            time.time(),
            process.start_time,
            process.thread,
            self._target.name,
            source.consistency,
            process.doubt,
        )

    def reads_like(self, backend: DirectBackend, capture: Capture) -> bool | None:
        """See `DirectBackend.reads_like`."""
        with self._process.lock:
            return backend.reads_like(self._process, capture)

    def finder(self, backend: DirectBackend) -> Finder | None:
        """See `DirectBackend.finder`."""
        with self._process.lock:
            return backend.finder(self._process)

    def file_now(self, region: Region) -> FileNow:
        """See `SeesFiles`."""
        with self._process.lock:
            return self._process.file_now(region)

    def file_rights(self, region: Region) -> FileRights | None:
        """See `SeesFiles`."""
        with self._process.lock:
            return self._process.file_rights(region)

    def seals(self, region: Region) -> frozenset[str] | None:
        """See `SeesFiles`."""
        with self._process.lock:
            return self._process.seals(region)

    def unmounted(self, regions: Sequence[Region]) -> list[bool | None]:
        """See `SeesFiles`."""
        with self._process.lock:
            return self._process.unmounted(regions)

    def misnamed(self, region: Region) -> str | None:
        """See `SeesFiles`."""
        with self._process.lock:
            return self._process.misnamed(region)

    def known_files(self) -> Callable[[Region], bool | None] | None:
        """See `SeesFiles`."""
        with self._process.lock:
            return self._process.known_files()

    def name_now(self) -> str | None:
        """See `HasName`."""
        return self._process.name_now()

    def number_inside(self) -> int | None:
        """See `HasName`."""
        return self._process.number_inside()

    def file_head(self, region: Region, size: int) -> bytes | None:
        """See `ReadsFiles`."""
        return self._process.file_head(region, size)

    def file_size(self, region: Region) -> int | None:
        """See `ReadsFiles`."""
        return self._process.file_size(region)

    def why_unread(self, region: Region) -> str | None:
        """See `ReadsFiles`."""
        return self._process.why_unread(region)

    def open_mapped(self, region: Region) -> int | None:
        """See `OpensFiles`."""
        return self._process.open_mapped(region)

    def open_jit_map(self) -> JitMap:
        """See `OpensFiles`."""
        return self._process.open_jit_map()

    def own_file(self, path: bytes) -> int | None:
        """See `OpensFiles`."""
        return self._process.own_file(path)

    def guard_at(self, address: int) -> bool | None:
        """Whether a guard page lies there that the map does not show; None where that is not told."""
        with self._process.lock:
            return self._process.guard_at(address)

    def stack_limit(self) -> int | None:
        """See `TellsStackLimit`."""
        with self._process.lock:
            return self._process.stack_limit()

    def threads_told(self) -> bytes | None:
        """See `TellsThreads`."""
        with self._process.lock:
            return self._process.threads_told()

    def numa_told(self) -> bytes | None:
        """See `TellsNuma`."""
        with self._process.lock:
            return self._process.numa_told()

    def clear_marks(self, which: str) -> None:
        """See `ClearsMarks`."""
        with self._process.lock:
            self._process.clear_marks(which)

    def close(self) -> None:
        """Close the descriptors kept for it, once no other thread is asking."""
        with self._process.lock:
            self._process.close()


def _joined(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None


def _read_file(path: str) -> bytes | None:
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except OSError:
        return None


LOCAL = LocalTarget()
