"""On a running QNX Neutrino: what only a real kernel behind a real serial line can show.

Runs where VMATLAS_QNX_IMAGE names a disk (docs/get-an-image.md); elsewhere each test says that it did not run.
The conformance suite runs there by itself (`invoke test-all-platforms`); here is what it leaves out.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from typing import Any

import pytest

import vmatlas
from vmatlas import Kind, NoSuchProcess, Protection, Region, TargetLost
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.agent import Agent, AgentProcess, AgentTarget, Limits, MapFlag, MapObject, required
from vmatlas.target.streams import SocketStream
from vmatlas.target.wire import Frame, Operation, encode, pack, read_result, text16
from vmatlas.target.wire import Kind as FrameKind
from vmatlas_images import NotRunnable, boot, find
from vmatlas_images.run.boot import RunningMachine
from vmatlas_images.run.handshake import greet
from vmatlas_qnx import PAGEDATA, MapFlags

from . import pidin
from .recorded import operations, recorded

pytestmark = [pytest.mark.machine, pytest.mark.timeout(6 * PATIENCE)]

READ = Protection.READ
BACKENDS = pytest.mark.parametrize("backend", ["qnx-mapinfo", "qnx-pagedata"])
PATIENT = Limits(silence=2 * PATIENCE, again=3)
BAD_LINE = {"there": 0.003, "back": 0.0002}
"""A request of 60 bytes, or an answer of 1,000, is hit about every sixth time."""


class Line(SocketStream):
    """The wire to the agent, on which things go wrong when they are told to."""

    def __init__(self, machine: RunningMachine, noise: Mapping[str, float] | None = None) -> None:
        super().__init__(machine.stream.dup())
        self.machine = machine
        self.noise = noise or {"there": 0.0, "back": 0.0}
        """How often a byte is hit."""
        self.random = random.Random(20260)
        self.spoiled = {"there": 0, "back": 0}
        self.heard = 0
        self.ahead = b""
        """Sent before the next request, without a word to wait for."""
        self.at: tuple[int, Callable[[], object]] | None = None
        """After how many more bytes from the target what is done."""

    def send(self, data: bytes, limit: float) -> None:
        """To the target, over its real line."""
        ahead, self.ahead = self.ahead, b""
        super().send(ahead + self._spoil(data, "there"), limit)

    def receive(self, limit: float) -> bytes:
        """From the target."""
        data = super().receive(limit)
        self.heard += len(data)
        if self.at is not None and data and self.heard >= self.at[0]:
            (_, act), self.at = self.at, None
            act()
        return self._spoil(data, "back")

    def last_words(self) -> str:
        """The end of the console."""
        return self.machine.console.last_words()

    def after(self, count: int, act: Callable[[], object]) -> None:
        """Do something when so many bytes more came from the target."""
        self.at = (self.heard + count, act)

    def _spoil(self, data: bytes, way: str) -> bytes:
        """Bytes put in, lost, or changed."""
        if self.random.random() >= 1 - (1 - self.noise[way]) ** len(data):
            return data
        self.spoiled[way] += 1
        at = self.random.randrange(len(data))
        lost = self.random.choice([0, 0, 1, 7])
        return data[:at] + self.random.randbytes(self.random.choice([0, 1, 5, 60])) + data[at + lost :]


@pytest.fixture(scope="module")
def machine() -> Iterator[RunningMachine]:
    with ExitStack() as stages:
        try:
            running = stages.enter_context(boot(find("qnx-6.4"), hello=greet))
        except NotRunnable as error:
            pytest.skip(f"not run: {error.message}; {error.hint}")
        yield running


@pytest.fixture
def line(machine: RunningMachine) -> Iterator[Line]:
    made = Line(machine)
    yield made
    made.close()


@pytest.fixture
def board(line: Line, machine: RunningMachine) -> AgentTarget:
    return AgentTarget(Agent(line, "qnx", PATIENT.times(machine.accelerator.scale)))


@pytest.fixture
def worker(board: AgentTarget) -> Iterator[AgentProcess]:
    made = board.agent.spawn()
    yield made
    made.end()
    made.reap()


def over(space: vmatlas.AddressSpace, start: int, size: int) -> list[Region]:
    return [region for region in space if region.start < start + size and start < region.end]


def test_hello_comes_in_less_than_90_seconds(machine: RunningMachine) -> None:
    spent = {stage: machine.seconds[stage] for stage in ("boot", "agent")}
    assert sum(spent.values()) < 90 * machine.accelerator.scale, spent
    assert machine.machine.limits.boot <= 90


# ---- what pidin prints ----


def print_memory(machine: RunningMachine, board: AgentTarget) -> str:
    """What `pidin mem` prints now, typed at the keyboard."""
    path = b"/dev/shmem/pidin"
    before = machine.console.last_words()
    machine.console.type("pidin mem > /dev/shmem/pidin\n")
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        time.sleep(0.5)
        words = machine.console.last_words()
        if words != before and words.rstrip().endswith("#") and board.agent.stat_file(path).ok:
            return board.agent.read_file(path).decode()
    raise AssertionError(f"pidin did not end: {machine.console.last_words()}")


def test_summary_of_every_process_is_what_pidin_prints(machine: RunningMachine, board: AgentTarget) -> None:
    list(board.processes())  # the agent's own memory has grown to what this takes
    board.agent.read_file(b"/proc/boot/pidin", 1)
    before = {process.pid: vmatlas.snapshot(process.pid, target=board, residency=True) for process in board.processes()}
    printed = pidin.read(print_memory(machine, board))
    checked = []
    for pid, told in printed.items():
        if told.name == "pidin":
            continue
        assert pid in before, told
        after = vmatlas.snapshot(pid, target=board, residency=True)
        if [region.size for region in after] == [region.size for region in before[pid]]:
            pidin.check(after, told)
            checked.append(told.name)
    assert len(checked) >= len(printed) - 2, "all but what has changed meanwhile"
    assert {"pci-bios", "devb-eide", "pipe", "devc-con"} <= set(checked)
    assert len(before[1]) == 0, "the kernel itself, which pidin shows as ---"
    names = {process.pid: process.name for process in board.processes()}
    assert names[1] == "procnto-instr"
    assert {pid: names[pid] for pid in printed if pid in names} == {
        pid: told.name for pid, told in printed.items() if pid in names
    }


def test_every_flag_of_every_process_has_a_name(board: AgentTarget) -> None:
    seen = MapFlags(0)
    for process in board.processes():
        for entry in vmatlas.snapshot(process.pid, target=board, residency=True).entries():
            assert isinstance(entry.flags, MapFlags)
            assert not [label for label in entry.flags.labels() if label.startswith("0x")]
            seen |= entry.flags
    assert MapFlags.PG_HWMAPPED in seen and MapFlags.STACK in seen


# ---- processes that are gone, or other users' ----


@BACKENDS
def test_kernel_is_empty_and_what_is_no_process_is_said(board: AgentTarget, backend: str) -> None:
    space = vmatlas.snapshot(1, target=board, backend=backend)
    assert (len(space), space.incomplete) == (0, None)
    for never in (999_999, 4095):
        with pytest.raises(NoSuchProcess, match=f"no process {never}"):
            vmatlas.snapshot(never, target=board, backend=backend)


@BACKENDS
def test_process_that_ends_is_no_process_as_zombie_and_when_reaped(board: AgentTarget, backend: str) -> None:
    worker = board.agent.spawn()
    with vmatlas.open(worker.pid, target=board, backend=backend) as held:
        assert len(held.snapshot()) > 5
        worker.end()
        deadline = time.monotonic() + PATIENCE
        while not all(each.zombie for each in board.agent.processes(worker.pid)):
            assert time.monotonic() < deadline
        for ask in (held.snapshot, lambda: vmatlas.snapshot(worker.pid, target=board, backend=backend)):
            with pytest.raises(NoSuchProcess):
                ask()
        assert worker.reap().ok
        for ask in (held.snapshot, lambda: vmatlas.snapshot(worker.pid, target=board, backend=backend)):
            with pytest.raises(NoSuchProcess):
                ask()


def test_other_users_read_maps_and_may_not_open_for_writing(board: AgentTarget, worker: AgentProcess) -> None:
    assert worker.become(100, 101).ok
    assert [each.user for each in board.agent.processes(worker.pid)] == [100], "the user, and not the group"
    other = board.agent.spawn()
    mine = vmatlas.snapshot(other.pid, target=board.asked_by(worker))
    assert list(mine) == list(vmatlas.snapshot(other.pid, target=board))
    path = b"/proc/%d/as" % other.pid
    written = read_result(worker.ask(Operation.WRITE_FILE, text16(path) + pack("II", 0, 2)).payload)
    assert written.errno_name == "EPERM"
    other.end()
    other.reap()


# ---- maps that are large, that change, with odd names ----


@BACKENDS
def test_map_of_thousands_of_entries_is_whole(board: AgentTarget, worker: AgentProcess, backend: str) -> None:
    pages, size = 5000, 5000 * 4096
    start = required(worker.map(size, flags=MapFlag.NO_RESERVE), "map")
    assert worker.protect_every(start, size, 2 * 4096, 4096, READ).value == pages // 2
    space = vmatlas.snapshot(worker.pid, target=board, backend=backend)
    regions = over(space, start, size)
    assert [region.protection for region in regions] == [READ, Protection(3)] * (pages // 2)
    assert all(region.size == 4096 for region in regions)
    assert space.incomplete is None


def test_map_that_grows_and_shrinks_while_it_is_read_is_read_until_it_is_whole(
    board: AgentTarget, worker: AgentProcess, line: Line
) -> None:
    """The child is left with work for a while, and read at once: its map changes between one call and the next."""
    size, rounds = 6000 * 4096, 20
    start = required(worker.map(size, flags=MapFlag.NO_RESERVE), "map")

    def change(number: int) -> bytes:
        protection = Protection(3) if number % 2 else READ
        payload = pack("QQQQI", start, size, 2 * 4096, 4096, protection)
        return encode(Frame(FrameKind.REQUEST, Operation.PROTECT_EVERY, number, process=worker.pid, payload=payload))

    with vmatlas.open(worker.pid, target=board, backend="qnx-pagedata") as held:
        quiet = held.capture()
        line.ahead = b"".join(map(change, range(1, 2 * rounds)))
        capture = held.capture()
        space = vmatlas.replay(capture)
        assert sum(region.size for region in over(space, start, size)) == size, "nothing of it is missing"
        assert len(capture.streams["mapdebug"]) > len(quiet.streams["mapdebug"]), "its names were asked for anew"
        assert space.incomplete is None or "changed" in space.incomplete
        assert worker.protect(start, size, READ).ok, "after all that it was told before"
        assert [region.size for region in over(held.snapshot(), start, size)] == [size]


@pytest.mark.parametrize(
    "name", [b"a b ", b"new\nline", b"\\012", b"\xff\xfe", b"x (deleted)", b"n" * 200], ids=lambda name: repr(name)[:20]
)
@pytest.mark.parametrize("shared", [False, True], ids=["private", "shared"])
def test_name_in_the_memory_file_system_is_told_byte_for_byte(
    board: AgentTarget, worker: AgentProcess, name: bytes, shared: bool
) -> None:
    """The disk's file system refuses half of them, and its files have no names in a map: /dev/shmem's have."""
    path = b"/dev/shmem/vmatlas-" + name
    assert board.agent.write_file(path, b"x").ok
    try:
        flags = MapFlag.SHARED if shared else MapFlag.NONE
        start = required(worker.map(8192, protection=READ, flags=flags, source=MapObject.FILE, name=path), "map")
        region = vmatlas.snapshot(worker.pid, target=board).find(start)
        assert region is not None
        assert (region.path_bytes, region.kind, region.shared) == (path, Kind.SHARED_MEMORY, shared)
    finally:
        assert board.agent.unlink(path).ok
    unlinked = vmatlas.snapshot(worker.pid, target=board).find(start)
    assert unlinked is not None
    assert (unlinked.path, unlinked.kind) == (None, Kind.SHARED_MEMORY)


# ---- the recorded operations, made again ----

FILES = {"file CD": b"/fs/cd0/agent", "IFS file": b"/proc/boot/esh", "/dev/zero": b"/dev/zero", "/dev/mem": b"/dev/mem"}
NOT_BY_AN_AGENT = ("NOCACHE", "MAP_PHYS", "mmap_device_memory", "shm_ctl", "pthread_create", "dlopen", "no hint")
"""Protections, objects and calls that an agent has no operation for; and places that depend on what else is there."""


def make_again(worker: AgentProcess, made: dict[str, Any]) -> int:
    """One operation, as it was recorded; gives its address."""
    if made["desc"] == "mprotect":
        assert worker.protect(made["addr"], made["len"], Protection(made["prot"] >> 8 & 7)).ok
    elif made["desc"] == "munmap":
        assert worker.unmap(made["addr"], made["len"]).ok
    elif made["desc"] == "mlock":
        assert worker.lock(made["addr"], made["len"]).ok
    if "hint" not in made:
        return int(made["addr"])
    path = next((path for begin, path in FILES.items() if made["desc"].startswith(begin)), b"")
    path = path or (b"/dev/shmem/vmatlas-probe" if made["desc"].startswith("shm") else b"")
    flags = MapFlag.SHARED if made["flags"] & 3 == 1 else MapFlag.NONE
    for bit, flag in ((0x10, MapFlag.FIXED), (0x80, MapFlag.NO_RESERVE), (0x1000, MapFlag.STACK)):
        flags |= flag if made["flags"] & bit else MapFlag.NONE
    rest = made["flags"] & ~(0x80000 | 0x1092 | 1) | (1 if made["flags"] & 3 == 3 else 0)
    start = required(
        worker.map(
            made["len"], address=made["hint"], protection=Protection(made["prot"] >> 8 & 7), flags=flags,
            source=MapObject.FILE if path else MapObject.ANONYMOUS, name=path, offset=made["off"], system_flags=rest,
        ),
        made["desc"],
    )  # fmt: skip
    for offset, size, write in made["touch"] or ():
        assert worker.touch(start + offset, size, write=1 if write else None).ok
    return start


def test_recorded_operations_made_again_are_read_as_they_were(board: AgentTarget, worker: AgentProcess) -> None:
    assert board.agent.write_file(b"/dev/shmem/vmatlas-probe", bytes(32768)).ok
    again = [made for made in operations() if not any(word in made["desc"] for word in NOT_BY_AN_AGENT)]
    starts = [make_again(worker, made) for made in again]
    recording = PAGEDATA.decode(recorded("own", "pagedata"))
    space = vmatlas.snapshot(worker.pid, target=board, residency=True)

    def told(regions: list[Region], start: int) -> list[tuple[object, ...]]:
        return [
            (r.start - start, r.size, r.permissions, r.kind, r.offset, r.resident, int(r.flags), r.details["dev"])
            for r in regions
        ]

    for made, start in zip(again, starts, strict=True):
        if "hint" in made and "hint-less" not in made["desc"]:
            size = -(-made["len"] // 4096) * 4096
            then = told(over(recording, made["result"], size), made["result"])
            assert told(over(space, start, size), start) == then, made["desc"]
    assert len(again) >= 45
    assert board.agent.unlink(b"/dev/shmem/vmatlas-probe").ok


# ---- bad lines ----


def test_noise_both_ways_costs_time_and_nothing_else(machine: RunningMachine, board: AgentTarget) -> None:
    worker = board.agent.spawn()
    quiet = vmatlas.snapshot(worker.pid, target=board, residency=True)
    with Agent(Line(machine, noise=BAD_LINE), "noisy", Limits(silence=PATIENCE, again=1, attempts=200)) as agent:
        line = agent.talk._stream
        assert isinstance(line, Line)
        asked = 60
        for _ in range(asked):
            assert list(vmatlas.snapshot(worker.pid, target=AgentTarget(agent), residency=True)) == list(quiet)
        assert min(line.spoiled.values()) > 5, line.spoiled
        assert agent.talk.requests_sent > asked + 2
    worker.end()
    worker.reap()


def test_what_changes_something_is_done_once_over_a_noisy_line(machine: RunningMachine, board: AgentTarget) -> None:
    child = board.agent.spawn()
    with Agent(Line(machine, noise=BAD_LINE), "noisy", Limits(silence=PATIENCE, again=1, attempts=200)) as agent:
        worker = AgentProcess(agent, child.pid, child.pid)
        for _ in range(40):
            required(worker.map(3 * 4096, protection=Protection.NONE), "map")
    quiet = Agent(Line(machine), "quiet", PATIENT)
    space = vmatlas.snapshot(child.pid, target=AgentTarget(quiet))
    assert sum(region.size for region in space if region.kind is Kind.GUARD and not region.flags.of_stack) == 120 * 4096
    child = AgentProcess(quiet, child.pid, child.pid)
    child.end()
    child.reap()


def test_noise_alone_loses_the_target_in_time_and_hurts_no_agent(machine: RunningMachine, board: AgentTarget) -> None:
    line = Line(machine)
    for _ in range(40):
        line.send(line.random.randbytes(700), 20)
    line.close()
    agent = Agent(Line(machine), "after", PATIENT)
    assert agent.ping(b"still here") == b"still here"
    with pytest.raises(TargetLost):
        Agent(Line(machine, noise={"there": 1.0, "back": 1.0}), "noise", Limits(silence=3, again=0.5, attempts=4))
    assert Agent(Line(machine), "after that", PATIENT).ping(b"here") == b"here"


# ---- a target that stops answering in the middle ----


def large(worker: AgentProcess) -> None:
    """Gives a child a map whose answer takes seconds."""
    size = 5000 * 4096
    start = required(worker.map(size, flags=MapFlag.NO_RESERVE), "map")
    required(worker.protect_every(start, size, 2 * 4096, 4096, READ), "protect")


def test_target_that_stops_in_the_middle_of_an_answer_is_lost_in_time_and_stays_lost(
    machine: RunningMachine, line: Line
) -> None:
    impatient = AgentTarget(Agent(line, "qnx", Limits(silence=4, again=1)))
    worker = impatient.agent.spawn()
    large(worker)
    monitor = machine._monitor
    assert monitor is not None
    line.after(20_000, lambda: monitor.execute("stop"))
    started = time.monotonic()
    try:
        with pytest.raises(TargetLost, match="did not answer for") as caught:
            vmatlas.snapshot(worker.pid, target=impatient)
        assert time.monotonic() - started < PATIENCE
        assert line.at is None, "it was stopped in the middle"
        assert caught.value.last_words.endswith(line.last_words().strip()), "what stood on its screen"
    finally:
        monitor.execute("cont")
    with pytest.raises(TargetLost, match="did not answer for"):
        impatient.agent.ping()
    # Whoever connects anew finds the agent and its child as they were.
    again = AgentTarget(Agent(Line(machine), "again", PATIENT))
    assert len(vmatlas.snapshot(worker.pid, target=again)) > 5000
    child = AgentProcess(again.agent, worker.pid, worker.pid)
    child.end()
    assert child.reap().ok


def test_target_that_pauses_in_the_middle_of_an_answer_is_waited_for(machine: RunningMachine, line: Line) -> None:
    patient = AgentTarget(Agent(line, "qnx", PATIENT))
    worker = patient.agent.spawn()
    large(worker)
    whole = vmatlas.snapshot(worker.pid, target=patient)
    monitor = machine._monitor
    assert monitor is not None
    resumed = threading.Timer(5, lambda: monitor.execute("cont"))

    def pause() -> None:
        monitor.execute("stop")
        resumed.start()

    line.after(20_000, pause)
    assert list(vmatlas.snapshot(worker.pid, target=patient)) == list(whole)
    assert resumed.finished.is_set()
    worker.end()
    worker.reap()


def test_target_that_dies_in_the_middle_of_an_answer_is_lost_at_once(machine: RunningMachine, line: Line) -> None:
    """The last test here: it ends the machine."""
    board = AgentTarget(Agent(line, "qnx", PATIENT))
    worker = board.agent.spawn()
    large(worker)
    guarded = machine._guarded
    assert guarded is not None
    line.after(20_000, guarded.end)
    started = time.monotonic()
    with pytest.raises(TargetLost, match="while it was asked to acquire") as caught:
        vmatlas.snapshot(worker.pid, target=board)
    assert time.monotonic() - started < PATIENCE, "less than its silence may last"
    assert caught.value.last_words.endswith(line.last_words().strip())
