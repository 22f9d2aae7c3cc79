"""A machine at the other end of a wire as a target: what an agent says, under the contracts of `vmatlas.backend`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from vmatlas import registry
from vmatlas.backend import Availability, KnowsNotListed, Roll, Source, bare
from vmatlas.capture import Capture
from vmatlas.errors import AccessDenied, NoSuchProcess, Unsupported, VmatlasError, legible
from vmatlas.model import ProcessInfo, Query, Region, SystemInfo
from vmatlas.model.system import has_64_bits
from vmatlas.once import cached_property
from vmatlas.registry import entries
from vmatlas.rounds import Rounds
from vmatlas.target.asking import AgentRefused, Answer, Limits, Question
from vmatlas.target.native import AgentSources
from vmatlas.target.patient import PatientAgent
from vmatlas.target.program import READ_WRITE, Agent, AgentProcess, Hello, MapFlag, MapObject, WatchMode, required
from vmatlas.target.wire import ListedProcess, Looked, Operation, Result, pack, read_result, text16

GROUP = "vmatlas.agent_sources"

_MUST_EXIST = 2
"""A flag of WRITE_FILE (PROTOCOL.md)."""

_MOST_OF_A_TABLE = 1 << 22
"""Bytes of a file of the system's that are read to see how it is set up."""


class AgentTarget:
    """The machine of an agent. `agent` is the agent itself, for what the target's contract does not have."""

    def __init__(
        self, agent: Agent, *, asked_by: AgentProcess | None = None, on_close: Callable[[], None] | None = None
    ) -> None:
        """Made by `connect`.

        `asked_by`: the process whose rights are used, if not the agent's. `on_close` runs when the connection ended.
        """
        self.agent = agent
        self.name = agent.name
        self._asker = asked_by or agent.itself
        self._on_close = on_close
        self._offers: dict[str, Availability] = {}

    def __repr__(self) -> str:
        return f"<vmatlas.target {self.name}>"

    def asked_by(self, process: AgentProcess) -> AgentTarget:
        """The same machine as a child of the agent sees it, with the rights of that child."""
        return AgentTarget(self.agent, asked_by=process)

    @property
    def asker(self) -> AgentProcess:
        """The process there whose rights are used: the agent, or a child of it."""
        return self._asker

    @cached_property
    def system_info(self) -> SystemInfo:
        """What the agent's hello says of its machine."""
        hello = self.agent.hello
        machine = hello.fields.get("machine", "")
        return SystemInfo(
            system=hello.system,
            release=hello.fields.get("release", ""),
            version=hello.fields.get("version", ""),
            machine=machine,
            byte_order=hello.byte_order,
            pointer_width=64 if hello.pointer_bits == 64 or has_64_bits(machine) else 32,
            page_size=hello.page_size,
        )

    def sources(self, backend: Source) -> AgentSources:
        """The plugin's half for agents. Raises Unsupported when it has none."""
        entry = entries(GROUP).get(backend.name)
        if entry is None:
            raise Unsupported(
                f"the backend '{backend.name}' cannot be asked through an agent: "
                f"{backend.distribution} registers nothing under {GROUP}",
                backend=backend.name,
            )
        loaded = entry.load()
        if not isinstance(loaded, AgentSources):
            raise Unsupported(f"{entry.value} is no vmatlas.target.native.AgentSources", backend=backend.name)
        return loaded

    def offers(self, backend: Source) -> Availability:
        """Whether the backend is of that machine's system, the agent has its sources, and the kernel there answers."""
        if backend.name not in self._offers:
            self._offers[backend.name] = self._find_out(backend)
        return self._offers[backend.name]

    def _find_out(self, backend: Source) -> Availability:
        if backend.system != self.system_info.system:
            runs = legible(self.system_info.system, 40) or "another system"
            return Availability(False, f"it asks {backend.system} kernels; {self.name} runs {runs}")
        try:
            sources = self.sources(backend)
        except Unsupported as error:
            return Availability(False, error.message)
        missing = [name for name in sources.names if name not in self.agent.hello.sources]
        if missing:
            return Availability(False, f"the agent on {self.name} was built without the source {missing[0]}")
        return sources.probe(AgentTargetProcess(self, self._asker, self._asker.pid, None, None))

    def processes(self) -> Roll:
        """Every process there that the agent finds listed, in order of pid; last those that came later, where others
        had gone before the agent looked at them. Raises Unsupported, TargetLost."""
        listed: dict[int, ListedProcess] = {}
        found: list[ProcessInfo] = []

        def list_them() -> dict[int, int | None]:
            listed.clear()
            listed.update((each.pid, each) for each in self._listed())
            return {pid: each.start_time for pid, each in listed.items()}

        rounds = Rounds(list_them)
        with self.agent.talk.question():
            for pids in rounds:
                for pid in pids:
                    each = listed[pid]
                    if each.gone or (each.zombie and not each.lives_on):
                        rounds.ended()
                    if not each.gone:
                        found.append(_as_info(each))
        return Roll(iter(found), lambda: rounds.gap)

    def unlisted(self) -> str | None:
        """Why processes may be missing from the list, in words; None when none is."""
        system = registry.system(self.system_info.system)
        return system.not_listed(self._read_file) if isinstance(system, KnowsNotListed) else None

    def _listed(self, pid: int = 0) -> list[ListedProcess]:
        try:
            return self.agent.processes(pid)
        except AgentRefused as refused:
            raise refused.other_numbers or refused from None

    def _read_file(self, path: str) -> bytes | None:
        """As the process that is used there sees it; None where it may not, or there is none."""
        payload = text16(path.encode()) + pack("Q", _MOST_OF_A_TABLE)
        try:
            answer = self._asker.ask(Operation.READ_FILE, payload, most=2 * _MOST_OF_A_TABLE)
            return answer.streams.get("file", b"")
        except AgentRefused:
            return None

    def open(self, pid: int | None, thread: int | None = None) -> AgentTargetProcess:
        """A process there; None is the one that answers. Raises NoSuchProcess (of a thread's number, too), Unsupported
        (a process numbered 0)."""
        number = self._asker.pid if pid is None else pid
        if number == 0 and any(each.pid == 0 for each in self._listed()):
            raise Unsupported(
                "process 0 cannot be asked for through an agent: to it 0 is the agent", pid=0, target=self.name
            )
        for what, each in (("process", number), ("thread", thread)):
            if each is not None and each >= 2**32:
                raise NoSuchProcess(f"there is no {what} {each}", pid=number, target=self.name)
        found = [each for each in self._listed(number) if each.pid == number] if number > 0 else []
        if not found:
            raise NoSuchProcess(f"there is no process {number}", pid=number, target=self.name)
        if found[0].hidden:
            raise AccessDenied(
                f"process {number} is hidden from the agent: it is there, and may not be looked at",
                pid=number,
                target=self.name,
                hint="run the agent as root, or as the user whose process it is",
            )
        if found[0].thread:  # which Linux alone tells
            from vmatlas.systems.linux.proc import is_of_thread

            raise is_of_thread(number, found[0].parent).located(target=self.name)
        name = found[0].name.decode("utf-8", "surrogateescape")
        inside = found[0].number_inside
        return AgentTargetProcess(self, self._asker, number, found[0].start_time, thread, name, inside)

    def rights(self) -> list[tuple[str, str]]:
        """Who the agent is there."""
        user = self.agent.hello.fields.get("user", "?")
        told = [("agent", f"uid {user}" + (", root" if user == "0" else "")), ("role", self.agent.hello.role)]
        emulator = self.agent.hello.emulator
        return told if emulator is None else [*told, ("emulator", f"{emulator}: the agent runs under it")]

    @contextlib.contextmanager
    def patiently(self, seconds: float) -> Iterator[AgentTarget]:
        """See `vmatlas.backend.Patient`: a child of the agent is asked, and another one when that is stuck."""
        if self._asker is not self.agent.itself or self.agent.hello.role == "child":
            yield self  # whose rights are used is a child already: its questions have the limits of the wire
            return
        agent = PatientAgent(self.agent, seconds)
        target = AgentTarget(agent)
        target._offers = self._offers  # what the kernel there can do is found out once
        try:
            yield target
        finally:
            agent.close()

    def close(self) -> None:
        """End the connection, and what was started or put there for it. Safe to call twice."""
        self.agent.close()
        if self._on_close is not None:
            clean, self._on_close = self._on_close, None
            clean()

    def __enter__(self) -> AgentTarget:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _as_info(process: ListedProcess) -> ProcessInfo:
    if process.hidden:
        return bare(process.pid)
    return ProcessInfo(
        pid=process.pid,
        parent=process.parent,
        name=process.name.decode("utf-8", "surrogateescape"),
        start_time=process.start_time,
        state=process.state,
        kernel=process.kernel,
        user=process.user,
        number_inside=process.number_inside,
        lives_on=process.lives_on,
    )


class AgentTargetProcess:
    """A process on the machine of an agent. Nothing is held open there: identity is its pid and its start time."""

    def __init__(
        self,
        target: AgentTarget,
        asker: AgentProcess,
        pid: int,
        start_time: int | None,
        thread: int | None,
        name: str | None = None,
        number_inside: int | None = None,
    ) -> None:
        self._target = target
        self._asker = asker
        self._pid = pid
        self._start_time = start_time
        self._thread = thread
        self._name = name
        self._number_inside = number_inside

    @property
    def pid(self) -> int:
        """Its process id there."""
        return self._pid

    @property
    def thread(self) -> int | None:
        """The thread through which it is asked."""
        return self._thread

    @property
    def start_time(self) -> int | None:
        """When it started, in that system's own unit."""
        return self._start_time

    @property
    def system(self) -> SystemInfo:
        """The machine it lives on."""
        return self._target.system_info

    @property
    def emulator(self) -> str | None:
        """The emulator that runs the agent, where it is the agent that is asked about; None where there is none."""
        return self._target.agent.hello.emulator if self._pid == self._asker.pid else None

    def question(self) -> Question:
        """See `Bounded`."""
        return self._target.agent.talk.question()

    def streams(
        self,
        source: str,
        *,
        thread: int | None = None,
        flags: int = 0,
        address: int = 0,
        limit: int = 0,
        build_ids: bool = False,
        ranges: Sequence[tuple[int, int]] | None = None,
    ) -> Mapping[str, bytes]:
        """See `RemoteProcess`."""
        chosen = self._thread if thread is None else thread
        if ranges is not None:
            return self._asker.query_ranges(source, ranges, self._pid, tid=chosen or 0, flags=flags)
        return self._asker.acquire(
            source, self._pid, tid=chosen or 0, flags=flags, address=address, limit=limit, build_ids=build_ids
        )

    @contextlib.contextmanager
    def apart(self) -> Iterator[AgentTargetProcess]:
        """See `RemoteProcess`."""
        if isinstance(self._target.agent, PatientAgent):
            yield self
            return
        with self._target.patiently(self._target.agent.talk.limits.silence) as target:
            yield AgentTargetProcess(
                target,
                target.asker,
                self._pid,
                self._start_time,
                self._thread,
                self._name,
                self._number_inside,
            )

    def list_folder(self, path: bytes) -> list[bytes]:
        """See `RemoteProcess`."""
        return self._target.agent.list_folder(path)

    def read_file(self, path: bytes, limit: int = 0) -> bytes:
        """See `RemoteProcess`."""
        return self._target.agent.read_file(path, limit)

    def look_up(self, root: bytes, path: bytes, answering: Mapping[int, int] | None = None) -> Looked | None:
        """See `RemoteProcess`."""
        try:
            return self._target.agent.look_up(root, path, answering)
        except (AgentRefused, ValueError):  # an older agent; a path too long for it
            return None

    def read_link(self, path: bytes) -> bytes:
        """See `RemoteProcess`."""
        return self._target.agent.read_link(path)

    def inode(self, path: bytes) -> int | None:
        """See `RemoteProcess`."""
        try:
            found = self._target.agent.stat_file(path)
        except (AgentRefused, ValueError):  # a path too long for the agent
            return None
        return found.detail if found.ok else None

    def name_now(self) -> str | None:
        """As it was called when it was opened."""
        return self._name

    def number_inside(self) -> int | None:
        """As it was when it was opened."""
        return self._number_inside

    def file_head(self, region: Region, size: int) -> bytes | None:
        """See `ReadsFiles`: on Linux through what it shows of a process's files; else by its path, if it is it."""
        found = self._head(region, size)
        return found if isinstance(found, bytes) else None

    def _head(self, region: Region, size: int) -> bytes | str:
        """The same, or why there is none, in words."""
        path = region.path_bytes
        if path is None or region.inode is None:
            return "its path and its inode are not both told"
        with self.question():
            if self.system.system == "linux":
                from vmatlas.systems.linux.remote import file_head

                return file_head(self, region, size)
            try:
                if self.inode(path) != region.inode:
                    return "it does not lie at its path, or that may not be looked up"
                return self.read_file(path, size)
            except (AgentRefused, ValueError) as error:
                return f"it cannot be read ({error})"

    def file_size(self, region: Region) -> int | None:
        """See `ReadsFiles`: an agent does not tell it."""
        return None

    def why_unread(self, region: Region) -> str | None:
        """See `ReadsFiles`."""
        found = self._head(region, 1)
        return found if isinstance(found, str) else None

    def stack_limit(self) -> int | None:
        """See `TellsStackLimit`: of Linux alone, by the files of /proc."""
        if self.system.system != "linux":
            return None
        from vmatlas.systems.linux.remote import stack_limit

        with self.question():
            return stack_limit(self)

    def threads_told(self) -> bytes | None:
        """See `TellsThreads`: of Linux alone, by the files of /proc."""
        if self.system.system != "linux":
            return None
        from vmatlas.systems.linux.remote import threads_told

        with self.question():
            return threads_told(self)

    def numa_told(self) -> bytes | None:
        """See `TellsNuma`: of Linux alone, by the files of /proc."""
        if self.system.system != "linux":
            return None
        from vmatlas.systems.linux.remote import numa_told

        with self.question():
            return numa_told(self)

    def clear_marks(self, which: str) -> None:
        """See `ClearsMarks`: of Linux alone, by the files of /proc."""
        if self.system.system != "linux":
            raise Unsupported("this system keeps no marks of pages that can be cleared", pid=self._pid)
        from vmatlas.systems.linux.remote import clear_marks

        def write(path: bytes, content: bytes) -> Result:  # by whose rights are used, which the agent itself may exceed
            payload = text16(path) + pack("II", 0, _MUST_EXIST) + content
            return read_result(self._asker.ask(Operation.WRITE_FILE, payload).payload)

        with self.question():
            clear_marks(self, which, write)

    def acquire(self, backend: Source, query: Query) -> Capture:
        """The kernel's bytes. Raises what `Backend.acquire` raises, and TargetLost."""
        try:
            reading = self._target.sources(backend).ask(self, query)
        except VmatlasError as error:
            raise error.located(pid=self._pid, target=self._target.name, backend=backend.name) from None
        return Capture(
            streams=reading.streams,
            system=self._target.system_info,
            pid=self._pid,
            backend=backend.name,
            distribution=backend.distribution,
            query=query,
            time=time.time(),
            start_time=self._start_time,
            thread=self._thread,
            target=self._target.name,
            consistency=backend.consistency,
            incomplete=reading.incomplete,
        )

    def close(self) -> None:
        """Nothing is held for it."""


__all__ = [
    "READ_WRITE",
    "Agent",
    "AgentProcess",
    "AgentRefused",
    "AgentTarget",
    "AgentTargetProcess",
    "Answer",
    "Hello",
    "Limits",
    "MapFlag",
    "MapObject",
    "WatchMode",
    "required",
]
