"""One host, asked what an order says: connected to, its processes read, the connection ended. Knows no data set.

Whatever goes wrong with a host is a value, not an exception: it becomes its row.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from typing import TYPE_CHECKING, Any

from vmatlas import api
from vmatlas.analysis.audit import Across, Policy, audit
from vmatlas.analysis.audit.judge import settled
from vmatlas.backend import Target, TellsMembership
from vmatlas.errors import NoSuchProcess, TargetLost, Unsupported, UsageError, VmatlasError, legible
from vmatlas.model import AddressSpace, MemoryUse, ProcessInfo, SystemInfo
from vmatlas.process import Process
from vmatlas.recording import boot_of
from vmatlas.selection.resolving import select
from vmatlas.survey import PATIENCE, survey
from vmatlas.target.agent import AgentTarget
from vmatlas.target.asking import Deadline, Limits
from vmatlas.target.connect import connect
from vmatlas.target.local import LOCAL
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.tables import Gathered, memory_of, number, text

if TYPE_CHECKING:
    import pyarrow

    from vmatlas.analysis.audit import AuditReport
    from vmatlas.analysis.audit.rules.dual_mapping import Objects
    from vmatlas.model.pages import PageRuns

WHAT = ("maps", "memory", "audit", "pages")
"""What may be asked for."""

_NEVER_BETTER = (
    "Permission denied",
    "Host key verification failed",
    "REMOTE HOST IDENTIFICATION HAS CHANGED",
    "No matching host key",
    "Too many authentication failures",
    "Name or service not known",
    "nodename nor servname provided",
    "No address associated with hostname",
    "that is no name of a host",
    "Bad port",
)
"""What ssh and the system say of a host that is no better the next time."""

_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Order:
    """What each host is asked."""

    run: str
    what: frozenset[str] = frozenset(("maps",))
    select: tuple[str, ...] = ()
    build_ids: bool = False
    services: bool = False
    """Which program, service and container each process is of: on another machine two more questions a process."""
    captures: bool = False
    keeps_agents: bool = False
    """Agents that are put on a host by ssh stay there."""
    policy: Policy | None = None
    patience: float | None = None
    """Seconds of silence after which a process is given up, and a host."""
    threads: int | None = None
    """How many ask the processes of this machine."""


@dataclass(slots=True)
class Told:
    """What one attempt at a host gave."""

    status: str
    """As the column of `hosts`."""
    reason: str | None = None
    error: str | None = None
    may_pass: bool = False
    """Another attempt may do better."""
    tables: dict[str, pyarrow.Table] = field(default_factory=dict)
    processes: int = 0
    unread: int = 0
    regions: int = 0
    findings: int = 0
    incomplete: str | None = None
    system: SystemInfo | None = None
    boot: str | None = None
    captures: list[bytes] = field(default_factory=list)
    """Those that were not handed to anybody on the way."""

    @property
    def is_whole(self) -> bool:
        """Every process was asked, and answered, and nothing may be missing."""
        return self.status == "answered" and not self.unread and self.incomplete is None


Keep = Callable[[bytes], None]
"""Takes the bytes of a capture, to be kept."""


def ask_host(host: Host, order: Order, deadline: Deadline, keep: Keep | None = None) -> Told:
    """Ask one host, once. Raises nothing that is the host's: see `Told`. What `keep` raises goes through."""
    told = Told("failed")
    if host.problem:
        told.reason, told.error = host.problem, UsageError.__name__
        return told
    gathered = Gathered(order.run)
    asked = _Asked(host, order, gathered, told, keep or told.captures.append)
    try:
        with _reached(host, order, deadline) as place:
            asked.ask(place, deadline)
        told.status = "answered"
    except VmatlasError as error:
        told.status = "partly" if gathered.processes else "failed"
        told.reason, told.error = _reason(error, host), type(error).__name__
        told.may_pass = isinstance(error, TargetLost) and bool(deadline.left) and not _is_final(error)
    except MemoryError:
        told.status = "partly" if gathered.processes else "failed"
        told.reason, told.error = "no memory is left here for what it has to tell", MemoryError.__name__
    told.tables = gathered.tables()
    told.processes = sum(row["status"] == "answered" for row in gathered.processes)
    told.regions = gathered.regions
    told.findings = sum(row["verdict"] == "found" for row in gathered.findings)
    return told


@contextlib.contextmanager
def _reached(host: Host, order: Order, deadline: Deadline) -> Iterator[Target]:
    """Raises UsageError, Unsupported, TargetLost."""
    deadline.check(host.name)
    if host.target == "local":
        yield LOCAL
        return
    usual = Limits()
    silence = usual.silence if order.patience is None else order.patience
    limits = replace(usual, silence=silence, again=min(usual.again, silence / 4), deadline=deadline)
    scheme, _, rest = host.target.partition(":")
    if scheme == "ssh":
        from vmatlas.target.ssh import connect_by_ssh

        target: Target = connect_by_ssh(rest, limits, asks=False, keeps=order.keeps_agents)
    else:
        target = connect(host.target, limits)
    try:
        yield target
    finally:
        target.close()


def _is_final(error: TargetLost) -> bool:
    said = f"{error.message}\n{error.last_words}"
    return any(words in said for words in _NEVER_BETTER)


def _reason(error: VmatlasError, host: Host) -> str:
    """In one line, without what the inventory alone may know."""
    words = error.last_words.strip("\0 \t\r\n").splitlines() if isinstance(error, TargetLost) else []
    last = f"; its last words: {legible(words[-1], 200)}" if words else ""
    return legible(host.clean(f"{error.message}{last}"), _LONGEST_REASON)


@dataclass(slots=True)
class _Answer:
    """What one process told."""

    space: AddressSpace | None = None
    memory: MemoryUse | None = None
    report: AuditReport | None = None
    objects: Objects | None = None
    pages: PageRuns | None = None
    capture: bytes | None = None
    belongs: dict[str, str | None] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    time: float = 0.0


class _Asked:
    """One host, while it is asked."""

    def __init__(self, host: Host, order: Order, gathered: Gathered, told: Told, keep: Keep) -> None:
        self._host, self._order, self._gathered, self._told, self._keep = host, order, gathered, told, keep
        self._policy = order.policy or Policy.preset("default")
        self._notes: dict[str, None] = {}

    def ask(self, place: Target, deadline: Deadline) -> None:
        """All of it. Raises VmatlasError."""
        order, told = self._order, self._told
        told.system, told.boot = place.system_info, text(boot_of(place))
        try:
            among = select(*order.select, target=place) if order.select else None
        except NoSuchProcess as error:  # nobody is such here, which is an answer
            if error.incomplete is not None:
                told.incomplete = legible(error.incomplete)
            return
        if among is not None:
            self._note(*among.notes, among.incomplete)
        policy = self._policy if among is not None else self._policy.quick()
        across = Across(policy)
        asked = survey(
            lambda process: self._ask(process, policy, across),
            target=place,
            threads=order.threads,
            patience=PATIENCE if order.patience is None else order.patience,
            among=among,
        )
        for each in asked:
            deadline.check(self._host.name)
            if each.error is not None:
                self._miss(each.process, each.error)
            elif each.answer is not None:
                self._add(each.process, each.answer, across)
        self._note(asked.incomplete)
        if "audit" in order.what:
            self._add_across(across, policy)
        told.incomplete = legible(self._host.clean("; ".join(self._notes)), _LONGEST_REASON) or None

    def _note(self, *notes: str | None) -> None:
        self._notes.update(dict.fromkeys(note for note in notes if note))

    # ---- one process; in other threads ----

    def _ask(self, process: Process, policy: Policy, across: Across) -> _Answer:
        order, answer = self._order, _Answer(time=time.time())
        wants = order.what
        if order.captures or wants & {"maps", "audit"}:
            self._read(process, answer)
        if "memory" in wants:
            answer.memory = process.memory()
        if "audit" in wants and answer.space is not None:
            answer.report = audit(answer.space, process.evidence(), policy)
            answer.objects = across.of(answer.space)
        if "pages" in wants:
            try:
                answer.pages = process.pages()
                if answer.pages.incomplete is not None:
                    answer.notes.append(answer.pages.incomplete)
            except Unsupported as error:
                answer.notes.append(f"pages are not told: {error.message}")
        if order.services or process.target is LOCAL:
            answer.belongs = _belonging(process)
        return answer

    def _read(self, process: Process, answer: _Answer) -> None:
        """The map, and what is to be told of each region; what is not told here is noted."""
        order = self._order
        residency = "memory" in order.what and "maps" in order.what
        try:
            answer.space = self._map(process, answer, residency=residency, build_ids=order.build_ids and not residency)
        except Unsupported as error:
            if not (residency or order.build_ids):
                raise
            answer.notes.append(f"{'memory' if residency else 'build ids'} not told of regions: {error.message}")
            answer.space = self._map(process, answer, residency=False, build_ids=False)
        if residency and order.build_ids:  # which no backend tells together
            try:
                _take_build_ids(answer.space, process.snapshot(build_ids=True))
            except Unsupported as error:
                answer.notes.append(f"build ids not told of regions: {error.message}")

    def _map(self, process: Process, answer: _Answer, *, residency: bool, build_ids: bool) -> AddressSpace:
        if not self._order.captures:
            return process.snapshot(residency=residency, build_ids=build_ids)
        capture = process.capture(residency=residency, build_ids=build_ids)
        held = BytesIO()
        replace(capture, target=self._host.name).write(held)  # its own name is the URL, which may hold a secret
        answer.capture = held.getvalue()
        return api.replay(capture)

    # ---- what came of it ----

    def _row(self, process: ProcessInfo) -> dict[str, Any]:
        return {
            "run": self._order.run,
            "pid": process.pid,
            "start_time": number(process.start_time),
            "name": text(process.name) or None,
            "parent": process.parent,
            "user": process.user,
            "inside": process.number_inside,
        }

    def _miss(self, process: ProcessInfo, error: VmatlasError) -> None:
        if not isinstance(error, NoSuchProcess):  # who ended is not missing
            self._told.unread += 1
        row = {"status": "failed", "reason": text(_reason(error, self._host)), "error": type(error).__name__}
        self._gathered.processes.append(self._row(process) | row)

    def _add(self, process: ProcessInfo, answer: _Answer, across: Across) -> None:
        row = self._row(process) | {name: text(value) for name, value in answer.belongs.items()}
        row |= {"status": "answered", "time": round(answer.time * 1e6)}
        self._note(*answer.notes)
        space = answer.space
        if space is not None:
            if "maps" in self._order.what:
                try:
                    self._gathered.add_map(process, space)
                except VmatlasError as error:
                    self._miss(process, error)
                    return
            incomplete = None if space.incomplete is None else legible(self._host.clean(space.incomplete))
            row |= {"time": round(space.time * 1e6), "backend": space.backend, "incomplete": text(incomplete)}
            row |= {"regions": len(space), "mapped": number(space.total)}
            if space.incomplete is not None:
                self._note("a map may lack something")
        if answer.pages is not None:
            self._gathered.add_pages(process, answer.pages)
        if answer.report is not None:
            self._gathered.add_report(process, answer.report)
            across.add(process, answer.objects)
        if answer.capture is not None:
            from hashlib import sha256

            self._keep(answer.capture)
            row["capture"] = sha256(answer.capture).hexdigest()
        self._gathered.processes.append(row | memory_of(answer.memory))

    def _add_across(self, across: Across, policy: Policy) -> None:
        from vmatlas.analysis.audit import Evidence

        for process, finding in across.findings():
            self._gathered.add_report(process, settled([finding], Evidence(), policy))


_TOLD = ("program", "unit", "container")


def _belonging(process: Process) -> dict[str, str | None]:
    """The program, the service and the container of a process, as far as its system tells them."""
    place = process.target
    if place is LOCAL:
        system: object = LOCAL.system
        if not isinstance(system, TellsMembership):
            return {}
        told = {what: system.belongs_to(process.pid, process.start_time, what) for what in _TOLD}
        return told | {"program": _without_mark(told["program"])}
    if isinstance(place, AgentTarget) and place.system_info.system == "linux":
        from vmatlas.systems.linux.cgroups import container_in, places_of, unit_in
        from vmatlas.target.asking import AgentRefused

        found: dict[str, str | None] = {}
        with contextlib.suppress(AgentRefused):  # of other users the program is not told
            link = place.agent.read_link(b"/proc/%d/exe" % process.pid).decode("utf-8", "surrogateescape")
            found["program"] = _without_mark(link)
        with contextlib.suppress(AgentRefused):
            places = places_of(place.agent.read_file(b"/proc/%d/cgroup" % process.pid, 1 << 16))
            container = container_in(places)
            found |= {"unit": unit_in(places), "container": None if container is None else container.short}
        return found
    return {}


def _without_mark(program: str | None) -> str | None:
    """The file, whether it has been unlinked meanwhile or not: so that a program counts as one over an upgrade."""
    return None if program is None else program.removesuffix(" (deleted)")


def _take_build_ids(space: AddressSpace, other: AddressSpace) -> None:
    """Those that another reading of the same process tells, of the same files."""
    ids = {(each.device, each.inode, each.path): each.build_id for each in other if each.build_id is not None}
    space.columns.build_id = [ids.get((each.device, each.inode, each.path)) for each in space.columns.regions()]
