"""The contracts: what a plugin offers (`Backend`, `PageSource`, `System`), and where processes live (`Target`).

A backend has two halves. *Acquire* asks this machine's kernel and returns the kernel's own bytes, untouched. *Decode*
is pure: the same bytes give the same address space on every host. What happens between and above the two (choice,
reading again, filters, identity) exists once, above the backends.
"""

from __future__ import annotations

import contextlib
import enum
import os
from _thread import allocate_lock  # `threading.Lock`; that module takes a twentieth of the start of Python
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from types import NotImplementedType, TracebackType

from vmatlas.contracts import Protocol, TypeVar, runtime_checkable
from vmatlas.errors import Unsupported, UsageError, VmatlasError
from vmatlas.model import (
    AddressSpace,
    Columns,
    Consistency,
    FileNow,
    FileRights,
    MemoryUse,
    ProcessInfo,
    Query,
    Region,
    SystemInfo,
    Thread,
)
from vmatlas.rounds import Numbered
from vmatlas.values import NamedTuple, dataclass

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vmatlas.capture import Capture
    from vmatlas.model.cgroup import CgroupMemory
    from vmatlas.model.crash import Crash
    from vmatlas.model.numa import NumaUse
    from vmatlas.model.pages import PageRuns, PageState, RunColumns

_Item = TypeVar("_Item")

PAGES = "pages-"
"""How the name of a stream of a capture begins that has what a `PageSource` gave."""

THREADS = "threads"
"""The stream of a capture that has what the system told of the process's threads, where they were asked for."""


class Feature(enum.Flag):
    """What a backend can tell, and which questions it answers by itself."""

    NONE = 0
    WALK = enum.auto()
    """It answers from an address on, a limited number of regions; so also a point query."""
    RESIDENCY = enum.auto()
    """`resident` and `private_resident`."""
    BUILD_ID = enum.auto()
    """`build_id`, when asked for."""
    PAGE_SIZE = enum.auto()
    """`page_size` of each region."""
    FLAGS = enum.auto()
    """`flags`."""
    MAX_PROTECTION = enum.auto()
    """`max_protection`."""
    OFFSET = enum.auto()
    """`offset` of what is mapped from a file."""
    FILE_ID = enum.auto()
    """`device` and `inode` of every mapped file; without DELETED, of those that still have a name."""
    FILE_NAME = enum.auto()
    """`path` of every mapped file. Without it some have none (of programs and libraries most systems know it)."""
    ANY_FILE_NAME = enum.auto()
    """It reads a map whatever bytes the names in it hold. Without it a name with a newline may make it refuse the map
    as malformed, since it cannot tell that from a damaged one."""
    LONG_FILE_NAME = enum.auto()
    """`path` however long it is. Without it a region may lack its name for that alone, and `incomplete` says so."""
    ANONYMOUS_SHARING = enum.auto()
    """`shared` of all anonymous memory. Without it that is None where the kernel does not tell it, and never wrong; of
    private memory that a fork has copied it is told."""
    DELETED = enum.auto()
    """`deleted`, with the path that the file had."""
    OWNERS_ONLY = enum.auto()
    """The kernel refuses other users' processes to those who lack the right."""
    KERNEL_FILTER = enum.auto()
    """The kernel itself applies a part of a filter."""
    ABOVE_USER = enum.auto()
    """It also tells the kernel's pages above the process's own memory (Linux: [vsyscall], [vectors]). A backend
    without it may say where those are: see HasBlindSpots."""
    THREADS = enum.auto()
    """It can ask through one thread of a process."""
    TOTALS = enum.auto()
    """It tells the memory in use of a whole process, without a map: see TellsTotals."""
    ANY_SIZE = enum.auto()
    """Maps of any number of regions. Without it, one with more than the kernel tells is refused (Unsupported), or told
    to be incomplete."""
    NAMELESS_SHARING = enum.auto()
    """POSIX shared memory is told as shared memory also when its name is gone. Without it, it may be told as a file,
    where the system keeps such objects as files."""


@dataclass(frozen=True, slots=True)
class Availability:
    """Yes, or no with the reason."""

    available: bool
    reason: str = ""
    """Why not; empty for yes."""

    def __bool__(self) -> bool:
        return self.available


NO_LIMIT = 2**64 - 1
"""What has no limit (RLIM_INFINITY)."""

YES = Availability(True)


@dataclass(frozen=True, slots=True)
class Reading:
    """What one acquisition gave: the kernel's bytes by the name of their stream."""

    streams: Mapping[str, bytes]
    incomplete: str | None = None
    """None, or why something may be missing."""


class LocalProcess:
    """A process of this machine: its identity, and the descriptors that backends keep open between questions.

    Not for two questions at once: hold `lock` while asking.
    """

    def __init__(self, pid: int, *, start_time: int | None = None, thread: int | None = None) -> None:
        self.pid = pid
        self.start_time = start_time
        self.thread = thread
        self.lock = allocate_lock()
        self._descriptors: dict[str, int] = {}
        self._closed = False

    @property
    def is_self(self) -> bool:
        """Whether it is the process that asks."""
        return self.pid == os.getpid()

    @property
    def doubt(self) -> str | None:
        """Why its maps may lack something, whichever backend reads them; None for no reason."""
        return None

    def file_now(self, region: Region) -> FileNow:
        """What stands now at the path of the file that is mapped at a region; see `FileNow`."""
        return FileNow(None)

    def file_rights(self, region: Region) -> FileRights | None:
        """Who may write that file, or put another in its place; None where that is not told."""
        return None

    def seals(self, region: Region) -> frozenset[str] | None:
        """See `SeesFiles`."""
        return None

    def unmounted(self, regions: Sequence[Region]) -> list[bool | None]:
        """See `SeesFiles`."""
        return [None] * len(regions)

    def misnamed(self, region: Region) -> str | None:
        """See `SeesFiles.misnamed`."""
        return None

    def known_files(self) -> Callable[[Region], bool | None] | None:
        """See `SeesFiles.known_files`."""
        return None

    def file_head(self, region: Region, size: int) -> bytes | None:
        """The first bytes of the very file that a region shows, at most `size`; None where it cannot be read."""
        return None

    def file_size(self, region: Region) -> int | None:
        """Bytes in the very file that a region shows, as it is now; None where it cannot be read."""
        return None

    def why_unread(self, region: Region) -> str | None:
        """Why nothing is read of the file that a region shows, in words; None where it is read."""
        return None

    def open_mapped(self, region: Region) -> int | None:
        """See `OpensFiles`."""
        return None

    def open_jit_map(self) -> JitMap:
        """See `OpensFiles`."""
        return NO_JIT_MAP

    def own_file(self, path: bytes) -> int | None:
        """See `OpensFiles`."""
        return None

    def name_now(self) -> str | None:
        """What the system calls it now, in short; None where it is gone, or that is not told."""
        return None

    def number_inside(self) -> int | None:
        """Its number in its own pid namespace, where that is another; None where it is not, or that is not told."""
        return None

    def guard_at(self, address: int) -> bool | None:
        """Whether a guard page lies there that the map does not show (Linux: MADV_GUARD_INSTALL); None: not told."""
        return None

    def stack_limit(self) -> int | None:
        """Bytes that a stack which grows by itself may have; `NO_LIMIT` where there is none. None: not told."""
        return None

    def threads_told(self) -> bytes | None:
        """What the system tells of its threads: the stream `THREADS` of a capture. None where it tells nothing."""
        return None

    def numa_told(self) -> bytes | None:
        """What the system tells of the memory nodes that its pages lie on; None where it tells nothing."""
        return None

    def clear_marks(self, which: str) -> None:
        """See `ClearsMarks`."""
        raise Unsupported("this system keeps no marks of pages that can be cleared", pid=self.pid)

    def descriptor(self, name: str, opened: Callable[[], int]) -> int:
        """The descriptor kept under a name; made by `opened` the first time, and closed with the process.

        Raises UsageError after `close`: to open anew by the pid might find another process.
        """
        if self._closed:
            raise UsageError(f"the handle of process {self.pid} has been closed", pid=self.pid, hint="open it again")
        found = self._descriptors.get(name)
        if found is None:
            found = self._descriptors[name] = opened()
        return found

    def forget(self, name: str) -> None:
        """Close the descriptor kept under a name, if there is one."""
        if (descriptor := self._descriptors.pop(name, None)) is not None:
            os.close(descriptor)

    def close(self) -> None:
        """Close all, for good. Safe to call twice."""
        self._closed = True
        for name in list(self._descriptors):
            self.forget(name)

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # AttributeError: __init__ did not get that far
            self.close()


@runtime_checkable
class Source(Protocol):
    """One way to ask one system's kernel. What it gives is a backend's matter (`Backend`, `PageSource`)."""

    name: str
    """"linux-ioctl": what users type."""
    system: str
    """"linux": the system whose kernel it asks."""
    distribution: str
    """"vmatlas-linux-ioctl": what to install to have it."""
    source: str
    """"linux.procmap_query": what an agent is asked for."""
    consistency: Consistency

    def probe(self) -> Availability:
        """Whether this machine's kernel answers, found out by asking it."""

    def acquire(self, process: LocalProcess, query: Query) -> Reading:
        """Ask this machine's kernel.

        Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed.
        """


@runtime_checkable
class Backend(Source, Protocol):
    """One way to read memory maps from one system's kernel. Registered under `vmatlas.backends`."""

    features: Feature

    def rank(self, query: Query) -> int | None:
        """How well it answers: the lower the better. None: it cannot answer this."""

    def decode(self, capture: Capture) -> AddressSpace:
        """Bytes to an address space; pure, on any host.

        Raises MalformedData for bytes that are not what the source promises, Disordered (which is one) when regions
        overlap, NoSuchProcess when the streams show that the process was gone.
        """


@runtime_checkable
class PageSource(Source, Protocol):
    """One way to ask about pages. Registered under `vmatlas.pages`. It is asked with `Query.pages` and `Query.ranges`.

    It gives one stream, which tells by itself what was asked and what the kernel there tells.
    """

    stream: str
    """"pages-scan": the stream's name in a capture; it begins with `PAGES`."""
    states: PageState
    """What it can tell; a kernel may tell less, which the stream says."""
    cost: int
    """Of two that tell the same, the one of less is asked."""
    passes_holes: bool
    """Ranges may hold what is not mapped: that gives nothing, and costs next to nothing. So no map is read first."""

    def pages(self, capture: Capture) -> PageRuns:
        """Bytes to runs of pages: all that the stream tells; pure, on any host.

        Raises MalformedData for bytes that are not what the source promises.
        """


class Finder(Protocol):
    """Answers about single addresses of one process, in one call each.

    NotImplemented instead of an answer: ask by `acquire` and `decode`, which tell what is wrong or settle what is open.
    """

    def find(self, address: int) -> Region | NotImplementedType | None:
        """The region that covers the address."""

    def ask(self, address: int, **more: Any) -> Region | None:
        """The region that covers the address. What is not its own to answer goes the long way."""

    def hand_on_to(self, long_way: Callable[..., Region | None]) -> None:
        """What `ask` hands other questions on to, with the arguments that it was given."""

    def find_many(self, addresses: array[int]) -> list[Region | None] | NotImplementedType:
        """The region that covers each ("Q"); the kernel is asked once for all addresses in one region."""

    def is_stale(self) -> bool:
        """Whether an answer has shown that the memory it asks about is gone: by exec, or with the process."""

    def close(self) -> None:
        """Let go of what it holds. Safe to call twice."""


@runtime_checkable
class TellsOwnAlone(Protocol):
    """A source of pages that tells the pages of the process that asks, and of no other."""

    own_alone: str
    """Why that is so, in words, with what is told of others instead."""


@runtime_checkable
class HasTwin(Protocol):
    """A backend whose decoder has a compiled twin."""

    @property
    def compiled(self) -> str:
        """The module: "vmatlas_linux_ioctl._native", for `vmatlas.compiled`."""


@runtime_checkable
class HasBlindSpots(Protocol):
    """A backend that never tells some of what may be mapped: a point query that finds nothing there goes to another."""

    @property
    def blind_spots(self) -> Sequence[tuple[int, int]]:
        """Where: ranges of addresses, [start, end)."""


def is_blind(backend: Source, address: int | None) -> bool:
    """Whether there may be something at the address that the backend never tells."""
    spots = backend.blind_spots if isinstance(backend, HasBlindSpots) else ()
    return address is not None and any(start <= address < end for start, end in spots)


@runtime_checkable
class TellsCrash(Protocol):
    """A backend whose captures may come from what a process left at its end."""

    def crash(self, capture: Capture) -> Crash:
        """Why and where it ended; pure. Raises MalformedData, Unsupported for a capture of a process that lived."""


@runtime_checkable
class TellsTotals(Protocol):
    """A backend that answers a query for `totals`."""

    def totals(self, capture: Capture) -> MemoryUse:
        """The memory in use that a capture of such a query tells, or of one that has it beside a map; pure.

        Raises MalformedData, and NoSuchProcess when the streams show that the process was gone.
        """


class Totals(NamedTuple):
    """What one process told at once of the memory that it uses."""

    process: ProcessInfo | None
    """Who it is, where that was asked for and told."""
    memory: MemoryUse | None
    """None: it is to be asked by itself, which tells why."""
    regions: int | None
    """How many it has, where that was asked for and told."""
    error: VmatlasError | None = None
    """Why its memory is not told, where that is known so far."""


@runtime_checkable
class TellsTotalsOfMany(TellsTotals, Protocol):
    """A backend that asks many processes of this machine in one call. Nothing is raised for one of them."""

    def totals_of(self, pids: Sequence[int], *, described: bool, counted: bool) -> list[Totals]:
        """Of each, in order. `described`: with who it is (but for its user). `counted`: with its number of regions."""


@runtime_checkable
class DirectBackend(Backend, HasTwin, Protocol):
    """A backend that also takes short ways on this machine: both halves in one, by code that is compiled.

    A short way gives the same answer as the long one, or None: then the long way is to be gone.
    """

    def read(self, process: LocalProcess, query: Query, most: int) -> Columns | None:
        """The columns; None also when there are more regions than `most`, unless that is 0. Raises VmatlasError."""

    def reads_like(self, process: LocalProcess, capture: Capture) -> bool | None:
        """Whether the map reads just as it does in a capture of it. Raises VmatlasError."""

    def finder(self, process: LocalProcess) -> Finder | None:
        """What answers about single addresses. Raises VmatlasError."""


@runtime_checkable
class DirectPageSource(PageSource, HasTwin, Protocol):
    """A page source that takes a short way on this machine: both halves in one, by code that is compiled."""

    def read(self, process: LocalProcess, query: Query) -> tuple[RunColumns, PageState] | None:
        """The runs, and which of the states asked for are told; None: the long way. Raises VmatlasError."""


class System(Protocol):
    """What a machine of one operating system tells besides maps. Registered under `vmatlas.systems`."""

    name: str
    """"linux": what `SystemInfo.system` says."""

    def info(self) -> SystemInfo:
        """This machine."""

    def processes(self) -> Iterator[ProcessInfo]:
        """Every process that the system lists for the caller, in order of pid: also those of which it tells no more."""

    def open(self, pid: int, thread: int | None) -> LocalProcess:
        """A process by its pid, with its start time. Raises NoSuchProcess, AccessDenied."""

    def rights(self) -> list[tuple[str, str]]:
        """What decides whose maps the caller may read: pairs of what and how it stands, for `vmatlas doctor`."""


class Target(Protocol):
    """Where processes live: this machine, or one at the other end of a wire."""

    name: str
    """"local", or what `connect` was given."""

    @property
    def system_info(self) -> SystemInfo:
        """The machine's system. Raises TargetLost."""

    def offers(self, backend: Source) -> Availability:
        """Whether the backend's question can be asked there."""

    def processes(self) -> Iterator[ProcessInfo]:
        """Every process that is listed there: see `System.processes`. Raises TargetLost."""

    def open(self, pid: int | None, thread: int | None = None) -> TargetProcess:
        """A process there; None is the one that answers: this process, or the agent. Raises NoSuchProcess."""

    def rights(self) -> list[tuple[str, str]]:
        """What decides whose maps may be read there."""

    def close(self) -> None:
        """End the connection. Safe to call twice."""

    def __enter__(self) -> Target:
        """A context manager: its end closes it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class TargetProcess(Protocol):
    """A process on a target, held by identity."""

    @property
    def pid(self) -> int:
        """Its process id there."""

    @property
    def start_time(self) -> int | None:
        """When it started, in that system's own unit."""

    def acquire(self, backend: Source, query: Query) -> Capture:
        """The kernel's bytes. Raises what `Backend.acquire` raises, and TargetLost."""

    def close(self) -> None:
        """Let go of what is held for it. Safe to call twice."""


@runtime_checkable
class DirectProcess(Protocol):
    """A target's process that can be asked by the short ways of a backend: a process of this machine."""

    def read(self, backend: DirectBackend, query: Query, most: int) -> AddressSpace | None:
        """See `DirectBackend.read`."""

    def reads_like(self, backend: DirectBackend, capture: Capture) -> bool | None:
        """See `DirectBackend.reads_like`."""

    def finder(self, backend: DirectBackend) -> Finder | None:
        """See `DirectBackend.finder`."""


@runtime_checkable
class DirectPages(Protocol):
    """A target's process whose pages can be asked about by the short way of a page source."""

    def read_pages(self, source: DirectPageSource, query: Query) -> PageRuns | None:
        """See `DirectPageSource.read`."""


@runtime_checkable
class Bounded(Protocol):
    """A target's process whose answers come from somebody who may never end: a question has limits, for all of it."""

    def question(self) -> AbstractContextManager[object]:
        """Entered as often as it takes: what is asked meanwhile, by this thread, is one question with its limits."""


@runtime_checkable
class SeesFiles(Protocol):
    """A target's process through which the file system can be asked as well; not every target can do that."""

    def file_now(self, region: Region) -> FileNow:
        """What stands now at the path of the file that is mapped at a region."""

    def file_rights(self, region: Region) -> FileRights | None:
        """Who may write the file that is mapped at a region, or put another in its place; None: it is not told."""

    def seals(self, region: Region) -> frozenset[str] | None:
        """How the object in memory (a memfd) that is mapped at a region is sealed, in the system's words: "write",
        "future-write", "grow", "shrink", "exec", "seal" (no seal can be added); None: it is not told."""

    def unmounted(self, regions: Sequence[Region]) -> list[bool | None]:
        """Whether the file system of the file that is mapped at each is mounted nowhere any more; None: not told."""

    def misnamed(self, region: Region) -> str | None:
        """Why the path of the file that is mapped at a region leads to another file, or none, for who asks, in words;
        None: it leads there. A process may have mounts of its own."""

    def known_files(self) -> Callable[[Region], bool | None] | None:
        """Whether a package manager knows the file that is mapped at a region, None where that cannot be told; None
        instead of the answer where there is none to ask."""


@runtime_checkable
class TellsGuards(Protocol):
    """A target's process of which it can be asked whether a page is a guard page that its map does not show."""

    def guard_at(self, address: int) -> bool | None:
        """Whether it is; None where that is not told."""


@runtime_checkable
class TellsStackLimit(Protocol):
    """A target's process of which it can be asked how large its stack may become; not every target can do that."""

    def stack_limit(self) -> int | None:
        """See `LocalProcess.stack_limit`."""


@runtime_checkable
class TellsThreads(Protocol):
    """A target's process whose threads can be asked as well; not every target can do that."""

    def threads_told(self) -> bytes | None:
        """See `LocalProcess.threads_told`."""


@runtime_checkable
class ReadsThreads(Protocol):
    """A system that knows what the stream `THREADS` means that was acquired on a machine of its kind."""

    def threads_of(self, stream: bytes, pid: int) -> tuple[Thread, ...]:
        """The threads, in order of their numbers; pure, on any host. Raises MalformedData."""


@runtime_checkable
class TellsNuma(Protocol):
    """A target's process of which it can be asked on which memory nodes its pages lie."""

    def numa_told(self) -> bytes | None:
        """The system's own bytes; None where it has no such nodes. Raises NoSuchProcess, AccessDenied."""


@runtime_checkable
class ReadsNuma(Protocol):
    """A system that knows what those bytes mean."""

    def numa_of(self, told: bytes, pid: int) -> tuple[NumaUse, ...]:
        """By region, in order; pure, on any host. Raises MalformedData."""


@runtime_checkable
class ClearsMarks(Protocol):
    """A target's process whose marks of what was done to its pages can be cleared: for good."""

    def clear_marks(self, which: str) -> None:
        """`which`: "written" or "referenced". Raises NoSuchProcess, AccessDenied, Unsupported, OperationFailed."""


@runtime_checkable
class TellsWaits(Protocol):
    """A target on which it can be looked up why a question is not answered."""

    def waiting_for(self, thread: int) -> str | None:
        """What a thread of this program waits for there, in words; None when it does not wait, or that is not told."""


@runtime_checkable
class Patient(Protocol):
    """A target that can itself give up a question, and stays of use for the next."""

    def patiently(self, seconds: float) -> AbstractContextManager[Target]:
        """The same target; its questions raise Unanswered after so long without a sign of life."""


@runtime_checkable
class ReadsFiles(Protocol):
    """A target's process whose mapped files can be read; not every target can do that."""

    def file_head(self, region: Region, size: int) -> bytes | None:
        """The first bytes of the very file that a region shows, at most `size`; None where it cannot be read."""

    def file_size(self, region: Region) -> int | None:
        """Bytes in that file, as it is now; None where it cannot be read, or that is not told."""

    def why_unread(self, region: Region) -> str | None:
        """Why nothing is read of that file, in words; None where it is read."""


class JitMap(NamedTuple):
    """What a JIT of a process wrote for perf, a file that is found by the number of the process alone."""

    descriptor: int | None
    """To read it; None where there is nothing that is its own."""
    why: str | None = None
    """Why a file that is there is not taken for its own, in words."""


NO_JIT_MAP = JitMap(None)


@runtime_checkable
class OpensFiles(Protocol):
    """A target's process whose mapped files can be opened here; processes of this machine alone."""

    def open_mapped(self, region: Region) -> int | None:
        """A descriptor to read the very file that a region shows, which the caller closes; None where it cannot be
        had: no rights, no regular file, or a file system that may not answer."""

    def open_jit_map(self) -> JitMap:
        """What a JIT of the process wrote for perf; the caller closes it."""

    def own_file(self, path: bytes) -> int | None:
        """A descriptor to read the regular file at a path as the process sees it, which the caller closes; None where
        there is none, a link stands on the way, or its file system may not answer."""


@runtime_checkable
class ListsNumbers(Numbered, Protocol):
    """A system that lists its processes by their numbers alone, which costs less than what each of them is."""

    def among(self, pids: Iterable[int]) -> Iterator[tuple[int, ProcessInfo | None]]:
        """What each of them is; None for one that is gone."""

    def described(self, pid: int) -> ProcessInfo | None:
        """What is told of one of them without waiting for it; None where nothing is, or it is gone."""


@runtime_checkable
class ListsBriefly(Protocol):
    """A system, or a target, that tells who its processes are by one short question about each."""

    def brief(self, pids: Sequence[int] | None = None) -> Iterator[ProcessInfo]:
        """As `processes`, without `user` and `number_inside`; of all, or of those of these numbers that are there."""


@runtime_checkable
class HasNoPages(Protocol):
    """A system of which no plugin asks about pages, and why that is so."""

    why_no_pages: str
    """In words, with what it tells instead."""


@runtime_checkable
class TellsMembership(Protocol):
    """A system that tells what a process belongs to."""

    def belongs_to(self, pid: int, start_time: int | None, what: str) -> str | None:
        """`what`: "user", "program", "cgroup", "unit" or "container". None where it is not told, it belongs to none, or
        the number is another process's now."""

    def doubt(self, pid: int, start_time: int | None, what: str) -> str | None:
        """Why what `belongs_to` tells may be a name that the process chose, in words; None: it is what it is called.

        A program has the path that is told for who asks, too; a unit is one that the system's own manager made."""


class Members(NamedTuple):
    """Processes that belong to something, and the cgroups by which its memory is counted."""

    processes: list[ProcessInfo]
    cgroups: tuple[str, ...] = ()
    """See `TellsCgroups.cgroup_memories`. None: its memory is counted with that of others."""
    gap: str | None = None
    """Why others may belong to it as well; None where that is known of each."""
    notes: tuple[str, ...] = ()
    """What is doubtful: one name that is of several."""


class Programs(NamedTuple):
    """What the programs of processes are called."""

    names: dict[int, str | None]
    """By the number of the process; None, or no entry: not told."""
    gap: str | None = None
    """Whose could not be asked, and why."""


@runtime_checkable
class FindsMembers(Protocol):
    """A system that finds the processes that belong to something."""

    def members(self, processes: Sequence[ProcessInfo], what: str, wanted: str) -> Members:
        """Of these processes. `what`: "cgroup", "unit" or "container".

        Raises NoSuchProcess where there is none, with what may have been meant, and the gap as `incomplete`; UsageError
        for what has no meaning.
        """

    def program_names(self, processes: Sequence[ProcessInfo]) -> Programs:
        """The names of the files that they run, without their folders."""


@runtime_checkable
class TellsCgroups(Protocol):
    """A system that counts the memory of groups of processes (Linux: cgroups)."""

    def cgroups_of(self, processes: Sequence[ProcessInfo], what: str) -> list[str]:
        """The cgroups that count the memory of what they belong to, each once: see `belongs_to`."""

    def cgroup_memories(self, paths: Sequence[str]) -> list[CgroupMemory]:
        """The counters of each, or why they are not told. Raises nothing."""


CLOCK_SLACK = 2.0
"""Seconds by which a file's time may be before that of the process that wrote it: starts are told to the second."""


@runtime_checkable
class TellsStart(Protocol):
    """A system by whose word it is known when a process started."""

    def started(self, start_time: int) -> float | None:
        """Seconds since 1970 UTC, by the clock as it stands now; None where that is not told."""


@runtime_checkable
class ReadsPidfiles(Protocol):
    """A system of which a number can mean one process to who wrote it down and another to us."""

    def number_meant(self, path: str, number: int) -> tuple[int, str | None]:
        """The number that the process of a pidfile has here, and what is doubtful about it, in words.

        Raises NoSuchProcess, AccessDenied, and Unsupported for a file of which it cannot be told.
        """


@runtime_checkable
class TellsBoot(Protocol):
    """A system of this machine that tells its starts from one another."""

    def boot(self) -> str | None:
        """A word for this start that no other has (Linux: random/boot_id); None where it is not told."""


@runtime_checkable
class LimitsRegions(Protocol):
    """A system that allows a process so many regions and no more."""

    def most_regions(self) -> int | None:
        """How many; None where that is not told."""

    def own_regions(self) -> int | None:
        """How many this process has of those that count; None where that is not told. It takes no memory."""


@runtime_checkable
class KnowsNotListed(Protocol):
    """A system that may leave processes out of its list, and knows which of its files tell so."""

    def not_listed(self, read: Callable[[str], bytes | None]) -> str | None:
        """Why processes may be missing from the list, in words; None when none is.

        `read` gives a whole file of that machine, as the one who lists sees it, or None where it cannot be read.
        """


@runtime_checkable
class KnowsUnlisted(Protocol):
    """A target that may leave processes out of its list, and tells so."""

    def unlisted(self) -> str | None:
        """Why processes may be missing from the list, in words; None when none is."""


def bare(pid: int) -> ProcessInfo:
    """A process of which its number alone is told."""
    return ProcessInfo(pid=pid, parent=None, name="", start_time=None, kernel=None)


class Identified(Protocol):
    """What knows which process it is of: `ProcessInfo`, `TargetProcess`, `vmatlas.Process`, a map."""

    @property
    def pid(self) -> int:
        """The process id."""

    @property
    def start_time(self) -> int | None:
        """When it started, in the system's own unit."""


def may_be(one: Identified, other: Identified) -> bool:
    """Whether two that were told at different moments may be one process: who did not answer has no start time."""
    return one.pid == other.pid and (None in (one.start_time, other.start_time) or one.start_time == other.start_time)


class Roll(Iterator[ProcessInfo]):
    """Processes one by one, of a system or a target that knows when some came and went before it could look at them."""

    def __init__(self, items: Iterator[ProcessInfo], gap: Callable[[], str | None]) -> None:
        """`gap`: what is to be told of those, in words, once all have been given."""
        self._items = items
        self._gap = gap

    def __next__(self) -> ProcessInfo:
        return next(self._items)

    @property
    def gap(self) -> str | None:
        """Why some may be missing, in words; None where none is. Known when all have been given."""
        return self._gap()


class Listing(Iterator[_Item]):
    """Processes, or what each of them answered, one by one; and whether any may be missing among them."""

    def __init__(self, items: Iterator[_Item], place: object, gap: Callable[[], str | None] | None = None) -> None:
        """`place`: the target that lists them. `gap`: see `Roll`."""
        self._items = items
        self._place = place
        self._gap = gap

    def __repr__(self) -> str:
        return "<vmatlas.Listing of processes>"

    def __next__(self) -> _Item:
        return next(self._items)

    @property
    def incomplete(self) -> str | None:
        """None, or why processes may be missing: the system does not list all, or some came and went unasked.

        Asked when it is looked at; whole once all have been given.
        """
        unlisted = self._place.unlisted() if isinstance(self._place, KnowsUnlisted) else None
        return "; ".join(filter(None, (unlisted, self.gap))) or None

    @property
    def gap(self) -> str | None:
        """The part of `incomplete` that the target cannot tell: some came and went unasked."""
        return None if self._gap is None else self._gap()

    def close(self) -> None:
        """Leave out the rest."""
        self._items = iter(())


@runtime_checkable
class HasName(Protocol):
    """A target's process whose name can be asked for."""

    def name_now(self) -> str | None:
        """What the system calls it, in short; None where that is not told."""

    def number_inside(self) -> int | None:
        """Its number in its own pid namespace, where that is another; None where that is not told."""
