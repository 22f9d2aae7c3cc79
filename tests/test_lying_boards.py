"""Whole conversations with boards that lie: every question ends, in an answer that is valid or in an error of ours.

Short here, always the same. The long form draws anew: VMATLAS_LYING_SECONDS=3600 pytest -s tests/test_lying_boards.py,
and VMATLAS_LYING_SEED=N goes through one conversation again.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path

import pytest

import vmatlas
import vmatlas.systems.linux.vanishing as vanishing
import vmatlas.target.asking as asking
from vmatlas.analysis import audit, diff, summarize
from vmatlas.cli.checkup import check_up
from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import AccessDenied, MalformedData, OperationFailed, TargetLost, Unsupported, VmatlasError
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.operations import Advice, advise
from vmatlas.target.agent import Agent, AgentTarget, Limits, MapFlag, MapObject
from vmatlas.target.program import required
from vmatlas.target.streams import ChildStream

from .lying import Clock, Lying, Recorder, Script, of_system

SECONDS = float(os.environ.get("VMATLAS_LYING_SECONDS", "0"))
SEED = os.environ.get("VMATLAS_LYING_SEED")
ROUNDS = 60
"""Of each board."""
PLATFORMS = Path(__file__).parents[1] / "platforms"
LIMITS = Limits(most=1 << 22)
MOST_MEMORY = 600 << 20
"""Bytes by which the largest size of this process may grow."""

MADE = b"/tmp/vmatlas-lying-%d" % os.getpid()
"""A file that the honest board makes, where others' may lie."""

HONEST = None
"""Chance has no part in it."""

Question = Callable[[AgentTarget, int, random.Random], object]


class Enough(VmatlasError):
    """A watch has looked often enough."""


def looked_at(space: AddressSpace) -> int:
    """An answer is one: in order, without overlap, and everything that is made of it can be made."""
    end = 0
    for region in space:
        assert isinstance(region, Region) and end <= region.start < region.end <= 2**64
        end = region.end
        repr(region)
    summarize(space)
    audit(space)
    assert not diff(space, space)
    return len(space)


def watch(process: vmatlas.Process) -> None:
    looks = iter(range(3))

    def wait(_: float) -> None:
        if next(looks, None) is None:
            raise Enough("enough")

    for difference in process.watch(1, wait=wait):
        repr(difference)


def work(target: AgentTarget, pid: int, draw: random.Random) -> None:
    """Operations on the memory of a worker of the agent's."""
    child = target.agent.spawn()
    page = target.agent.hello.page_size
    base = required(child.map(4 * page), "map")
    child.protect(base, page, Protection.READ)
    child.touch(base + page, page, write=1)
    child.lock(base, page)
    child.move(base, page, 2 * page, flags=1)
    child.advise(base, page, 4)
    child.name(base, page, b"x")
    child.peek(base, 100)
    child.unmap(base, 4 * page)
    child.become(65534, 65534)
    child.end()
    child.reap(1)


def files(target: AgentTarget, pid: int, draw: random.Random) -> None:
    agent = target.agent
    agent.read_file(b"/proc/mounts", 1000)
    agent.list_folder(b"/proc/self/task")
    agent.stat_file(b"/")
    agent.look_up(b"/", b"/etc", {1: 2})
    agent.read_link(b"/proc/self/exe")
    agent.write_file(MADE, bytes(50_000))
    agent.unlink(MADE)
    agent.ping(b"x")


def listed(target: AgentTarget, pid: int, draw: random.Random) -> None:
    for process in target.processes():
        repr(process)
    target.unlisted()


def surveyed(target: AgentTarget, pid: int, draw: random.Random) -> None:
    for number, (_, answer) in enumerate(vmatlas.snapshots(target, patience=5)):
        if isinstance(answer, AddressSpace):
            looked_at(answer)
        if number == 3:
            break


def kept(target: AgentTarget, pid: int, draw: random.Random) -> None:
    capture = vmatlas.capture(pid, target=target)
    file = BytesIO()
    capture.write(file)
    looked_at(vmatlas.replay(capture))


def of_process(ask: Callable[[vmatlas.Process, random.Random], object]) -> Question:
    def question(target: AgentTarget, pid: int, draw: random.Random) -> None:
        backend = draw.choice([None, None, "linux-procfs", "linux-ioctl"]) if target.system_info.system else None
        with vmatlas.open(pid, target=target, backend=backend) as process:
            answer = ask(process, draw)
            if isinstance(answer, AddressSpace):
                looked_at(answer)

    return question


def some_address(draw: random.Random) -> int:
    return draw.choice((0, 0x400000, 0x7F0000000000, 2**64 - 1, draw.randrange(2**64)))


def around(process: vmatlas.Process, draw: random.Random) -> None:
    region = process.find(some_address(draw), or_next=True)
    if region is not None:
        process.elf_address(region.start, region)
        process.why_unread(region)
        process.neighbours(region.start)


QUESTIONS: dict[str, Question] = {
    "snapshot": of_process(lambda process, draw: process.snapshot()),
    "residency": of_process(lambda process, draw: process.snapshot(residency=True)),
    "memory": of_process(lambda process, draw: process.memory()),
    "build ids": of_process(lambda process, draw: process.snapshot(build_ids=True)),
    "filtered": of_process(lambda process, draw: process.snapshot(where="x,file")),
    "find": of_process(lambda process, draw: process.find(some_address(draw))),
    "find next": of_process(lambda process, draw: process.find(some_address(draw), or_next=True, where="x")),
    "find many": of_process(lambda process, draw: process.find_many([some_address(draw) for _ in range(9)])),
    "around": of_process(around),
    "iterate": of_process(lambda process, draw: sum(1 for _ in process.iterate())),
    "watch": of_process(lambda process, draw: watch(process)),
    "advise": of_process(lambda process, draw: advise(process, process.snapshot(), Advice.COLD)),
    "capture": kept,
    "processes": listed,
    "survey": surveyed,
    "doctor": lambda target, pid, draw: check_up(target),
    "work": work,
    "files": files,
}


def recorded(binary: Path, folder: Path) -> tuple[Script, int]:
    """What a real agent answers to each of the questions, about a process that has something of everything."""
    recorder = Recorder(ChildStream([str(binary)]))
    target = AgentTarget(Agent(recorder, "board", Limits(silence=PATIENCE)))
    agent = target.agent
    child = agent.spawn()
    page = agent.hello.page_size
    for name, gone in ((b"plain", True), (b"new\nline", False), (b"really (deleted)", False)):
        path = os.fsencode(folder) + b"/" + name
        agent.write_file(path, bytes(page))
        child.map(page, source=MapObject.FILE, name=path, protection=Protection.READ)
        if gone:
            agent.unlink(path)
    child.map(page, source=MapObject.MEMORY, name=b"memory", flags=MapFlag.SHARED)
    draw = random.Random(1)
    for backend in (None, "linux-procfs"):
        for name, question in QUESTIONS.items():
            if name == "survey":
                continue  # of all processes of this machine: what it asks is asked by the others as well
            try:
                question(target, child.pid, draw)
                vmatlas.snapshot(child.pid, target=target, backend=backend)
            except VmatlasError as error:
                assert not isinstance(error, (MalformedData, TargetLost)), f"{name}: {error!s}"
    target.close()
    return recorder.script(), child.pid


def hello(system: str, sources: str, **more: str) -> dict[str, str]:
    """What an agent of such a system says."""
    return {
        "protocol": "1", "agent": "0.1.0", "role": "agent", "system": system, "release": "10.1", "version": "x",
        "machine": "x86_64", "byte_order": "little", "pointer_bits": "64", "page_size": "4096", "pid": "9", "user": "0",
        "sources": sources, "operations": "hello acquire pieces resend", "ticks_per_second": "1000000", **more,
    }  # fmt: skip


def filled(size: int, fields: Iterator[tuple[str, str, int]], values: dict[str, object]) -> bytes:
    """A record of a kernel's."""
    record = bytearray(size)
    for name, code, at in fields:
        if name in values:
            told = values[name]
            struct.pack_into("<" + code, record, at, *(told if isinstance(told, tuple) else (told,)))
    return bytes(record)


def qnx() -> tuple[Script, int]:
    folder, pid = PLATFORMS / "qnx/tests/captures", 40964
    told = {name: (folder / f"pid{pid}_pipe_{name}.bin").read_bytes() for name in ("procinfo", "mapinfo", "pagedata")}
    sources = {
        f"qnx.{name}": {
            "procinfo": told["procinfo"],
            name: told[name],
            "mapdebug": b"".join(struct.pack("<QII", start, 6, 0) for start in range(0, 1 << 20, 4096)),
        }
        for name in ("mapinfo", "pagedata")
    }
    started = struct.unpack_from("<Q", told["procinfo"], 112)[0]
    said = hello("QNX", "qnx.mapinfo qnx.pagedata", machine="x86pc", pointer_bits="32")
    return of_system(said, pid, started, sources), pid


def freebsd() -> tuple[Script, int]:
    layout = pytest.importorskip("vmatlas_freebsd.layout")
    folder, pid = PLATFORMS / "freebsd/tests/captures", 77
    values = {"pid": pid, "ppid": 1, "stat": 2, "comm": b"sleep", "start": (100, 0)}
    fields = ((name, code, at) for name, (at, code) in layout.PROC_FIELDS.items())
    proc = bytearray(filled(layout.PROC_SIZE, fields, values))
    struct.pack_into("<I", proc, 0, layout.PROC_SIZE)
    beside = {"boottime": struct.pack("<qq", 50, 0), "proc": bytes(proc)}
    sources = {
        "freebsd.vmmap": {"vmmap": (folder / "plain-sleep.vmmap.bin").read_bytes(), **beside},
        "freebsd.procfs_map": {"map": (folder / "plain-sleep.map.txt").read_bytes(), **beside},
    }
    return of_system(hello("FreeBSD", " ".join(sources)), pid, 50_000_000, sources), pid


def netbsd() -> tuple[Script, int]:
    layout = pytest.importorskip("vmatlas_netbsd.layout")
    from vmatlas_netbsd.decode import MAP, PROCESS

    pid = 46
    regions = [
        filled(
            layout.REGION_SIZE,
            iter(layout.REGION_FIELDS),
            {"start": start, "end": start + 8192, "protection": 5, "path": b"/bin/sleep", "pages": 1, "type": 3},
        )
        for start in range(0x400000, 0x480000, 0x8000)
    ]
    values = {"pid": pid, "ppid": 1, "comm": b"sleep", "uvalid": 1, "ustart_sec": 5, "realstat": 2}
    proc = filled(layout.PROCESS_SIZE, iter(layout.PROCESS_FIELDS), values)
    sources = {"netbsd.map": {MAP: b"".join(regions), PROCESS: proc}}
    return of_system(hello("NetBSD", "netbsd.map"), pid, 5_000_000, sources), pid


@pytest.fixture(scope="module")
def boards(binary: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Script, int]]:
    """What each kind of board says when it does not lie, and a process that lives there."""
    made = {"linux": recorded(binary, tmp_path_factory.mktemp("mapped"))}
    for board in (qnx, freebsd, netbsd):
        made[board.__name__] = board()
    return made


def converse(seed: int, script: Script, pid: int) -> tuple[list[str], float]:
    """One conversation: what came of each question, and the seconds of the board's time."""
    draw, clock = random.Random(seed), Clock()
    board = Lying(script, draw, clock)
    outcomes: list[str] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(asking, "time", clock)
        patched.setattr(vanishing, "time", clock)
        try:
            target = AgentTarget(Agent(board, "board", LIMITS))
        except VmatlasError as error:
            return [f"hello: {told(error)}"], clock.now - 1000
        for _ in range(draw.choice((1, 2, 4))):
            name = draw.choice(list(QUESTIONS))
            try:
                QUESTIONS[name](target, pid, draw)
                outcomes.append(f"{name}: answer")
            except VmatlasError as error:
                outcomes.append(f"{name}: {told(error)}")
    return outcomes, clock.now - 1000


STAT = b"77 (x) S 1 1 1 0 -1 4194304 0 0 0 0 0 0 0 0 20 0 1 0 5 " + b"0 " * 30 + b"\n"
TEXT = b"00400000-00452000 r-xp 00000000 08:02 173521     /usr/bin/x\n"


def old_linux(text: bytes, stat: bytes = STAT) -> AgentTarget:
    """A board whose agent has the first sources alone, and tells this of process 77."""
    memory = b"Size: 328 kB\nKernelPageSize: 4 kB\nMMUPageSize: 4 kB\nRss: 100 kB\nPss: 50 kB\nVmFlags: rd ex mr\n"
    sources = {"linux.maps": {"stat": stat, "maps": text}, "linux.smaps": {"stat": stat, "smaps": text + memory}}
    script = of_system(hello("Linux", " ".join(sources)), 77, 5, sources)
    return AgentTarget(Agent(Lying(script, HONEST, Clock()), "board", LIMITS))


@pytest.mark.parametrize(
    ("stream", "text", "stat"),
    [
        ("maps", TEXT.replace(b"173521", b"9" * 5000).replace(b"/x", b"/x (deleted)"), STAT),
        ("maps", b"0" * 5000 + TEXT.replace(b"/x", rb"/x\012y"), STAT),
        ("maps", TEXT.replace(b"08:02", b"f" * 5000 + b":02").replace(b"/x", b"/x (deleted)"), STAT),
        ("maps", TEXT.replace(b"00452000", b"1" + b"0" * 16), STAT),
        ("maps", TEXT.replace(b"/x", b"/x\0y (deleted)"), STAT),
        ("stat", TEXT, STAT.replace(b" 5 ", b" %s " % (b"9" * 5000))),
        ("stat", TEXT, b"-" * 3000),
    ],
)
def test_numbers_of_any_size_in_what_a_board_says_are_malformed(stream: str, text: bytes, stat: bytes) -> None:
    with pytest.raises(MalformedData) as wrong:
        vmatlas.snapshot(77, target=old_linux(text, stat))
    assert wrong.value.stream == stream and "\n" not in str(wrong.value) and len(str(wrong.value)) < 400


def test_an_agent_of_before_a_source_was_added_serves_without_it() -> None:
    with vmatlas.open(77, target=old_linux(TEXT)) as process:
        assert [region.path for region in process.snapshot()] == ["/usr/bin/x"]
        assert process.memory() == process.snapshot(residency=True).memory.use


def told(error: VmatlasError) -> str:
    """What kind it is. An error of data is one line that can be read."""
    if isinstance(error, MalformedData):
        assert "\n" not in str(error) and len(str(error)) < 1000, str(error)
    assert len(str(error)) < 20_000
    return type(error).__name__


def run(boards: dict[str, tuple[Script, int]], seeds: Iterator[int]) -> Counter[str]:
    counts: Counter[str] = Counter()
    slowest = (0.0, "")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for seed in seeds:
        for name, (script, pid) in boards.items():
            began = time.process_time()
            try:
                outcomes, seconds = converse(seed, script, pid)
            except BaseException as error:
                error.add_note(f"the board is {name}, and VMATLAS_LYING_SEED={seed}")
                raise
            assert seconds < 30 * LIMITS.talk, f"{name}, seed {seed}: {seconds:.0f} s of the board's time: {outcomes}"
            slowest = max(slowest, (time.process_time() - began, f"{name}, seed {seed}: {outcomes}"))
            assert slowest[0] < PATIENCE, slowest
            counts["conversations"] += 1
            counts.update(outcomes)
    if SECONDS or SEED:
        sys.stdout.write(f"slowest, in seconds of a processor: {slowest}\n")
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < MOST_MEMORY, f"{grown:,} bytes more"
    return counts


def seeds() -> Iterator[int]:
    if SEED is not None:
        yield int(SEED)
        return
    yield from range(ROUNDS)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until:
        yield random.SystemRandom().randrange(2**40)


def test_every_question_to_a_board_that_lies_ends(boards: dict[str, tuple[Script, int]]) -> None:
    counts = run(boards, seeds())
    if SECONDS or SEED:
        sys.stdout.write("".join(f"{count:9,}  {what}\n" for what, count in sorted(counts.items())))
    if not SEED:
        assert counts["conversations"] >= ROUNDS * 4
        kinds = {outcome.split(": ")[1] for outcome in counts if ": " in outcome}
        assert kinds >= {"answer", "MalformedData", "TargetLost"}, "each way was gone"


def test_an_honest_board_is_answered(boards: dict[str, tuple[Script, int]]) -> None:
    """So that the others are told from it: every question is answered by the recording, and nothing is lost."""
    for name, (script, pid) in boards.items():
        draw = random.Random(0)
        target = AgentTarget(Agent(Lying(script, HONEST, Clock()), "board", LIMITS))
        assert looked_at(vmatlas.snapshot(pid, target=target)) > 3, name
        for asked, question in QUESTIONS.items():
            if asked.startswith("find") or asked == "around":
                continue  # at addresses that are drawn: the recording has others
            # No backend there, or not the one that was drawn; what only root may do there.
            with contextlib.suppress(Enough, Unsupported, OperationFailed, AccessDenied):
                question(target, pid, draw)
