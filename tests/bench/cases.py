"""What is measured: for each case the floor, the peers, and vmatlas with each backend, by C and by Python alone."""

from __future__ import annotations

import functools
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version

import vmatlas
from tests.bench.crash import REGIONS, core, of_libc
from tests.bench.pages import THREADS
from tests.bench.processes import LIMIT, Floors, Missing, Rust, Worker, child, paged, sleepers

SIZES = (100, 1_000, 10_000, 60_000, 100_000)
"""Regions of the whole maps, as many as vm.max_map_count allows."""

ALONE = 1024
"""Larger maps `linux-ioctl` walks by several threads."""

MANY_REGIONS, MANY_ADDRESSES = 702, 4435
"""The shape of a profiler's batch: so many addresses of stack traces, among so many regions."""

FEW = 200
SMAPS_REGIONS = 1000
MANY_PROCESSES = 300
"""That sleep, beside those that are there."""
OWN_REGIONS = 30_000
PRINTED_REGIONS = 60_000

Measure = Callable[[], float]
"""Does the job once; nanoseconds. Raises Missing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody who does the job of a case."""

    name: str
    measure: Measure
    rounds: int | None = None
    """At most so many, where one takes seconds."""
    spreads: bool = False
    """It uses several processors at once, or a machine of its own: it is not kept on one."""


@dataclass(frozen=True, slots=True)
class Case:
    """One job, done by several. The first subject is the floor that ratios are told against."""

    name: str
    unit: str
    """What one is counted in: "region"."""
    units: int
    """How many of them one job has."""
    subjects: list[Subject]


@dataclass(frozen=True, slots=True)
class Bench:
    """Those who do the jobs."""

    floors: Floors
    rust: Rust
    compiled: Worker
    python: Worker
    """vmatlas without its compiled twins."""

    @property
    def pids(self) -> tuple[int, ...]:
        """Those who measure, and keep what they start where they are."""
        return os.getpid(), self.compiled.pid, self.python.pid

    def ours(
        self, job: str, *, backends: tuple[str | None, ...], spreads: str | None = None, **details: object
    ) -> Iterator[Subject]:
        """By each backend (None: the one that vmatlas chooses), by C and by Python. In C, `spreads` calls threads."""
        for backend in backends:
            name = f"vmatlas {backend}" if backend else "vmatlas"
            wanted = details | ({"backend": backend} if backend else {})
            yield Subject(
                name,
                lambda wanted=wanted: self.compiled.do(job, **wanted),  # type: ignore[misc]
                spreads=backend is not None and backend == spreads,
            )
            yield Subject(f"{name}, Python alone", lambda wanted=wanted: self.python.do(job, **wanted))  # type: ignore[misc]


def cases(bench: Bench, sizes: tuple[int, ...], stack: ExitStack, *, remote: bool) -> Iterator[Case]:
    """Each case, with its process running; what they open is closed by `stack`."""
    for regions in sizes:
        yield _whole_map(bench, stack.enter_context(child(regions)), regions)
    pid = stack.enter_context(child(MANY_REGIONS))
    asked = random.Random(1).choices(_addresses(pid), k=MANY_ADDRESSES)
    yield _point_query(bench, pid, asked)
    yield _many(bench, pid, asked)
    yield _executable_files(bench, pid)
    yield _residency(bench, stack.enter_context(child(SMAPS_REGIONS)))
    yield _watch(bench, pid)
    for regions in (size for size in (MANY_REGIONS, OWN_REGIONS) if size < sizes[-1]):
        compiled, python = (stack.enter_context(Worker(compiled=each)) for each in (True, False))
        own = Bench(bench.floors, bench.rust, compiled, python)
        yield _own_map(own, regions)
        yield _own_residency(own, regions)
    yield from _pages(bench, stack, quick=sizes[-1] <= SMAPS_REGIONS)
    yield _core(bench, str(stack.enter_context(core())))
    yield _symbols(bench)
    yield _machine(bench)
    yield _start()
    for regions in (size for size in (SMAPS_REGIONS, PRINTED_REGIONS) if size <= sizes[-1]):
        yield _printed(stack.enter_context(child(regions)), regions)
    stack.enter_context(sleepers(MANY_PROCESSES))
    yield _totals(bench)
    yield _everyones_maps(bench)
    yield _over_everybody(bench)
    if remote:
        yield _remote(stack)


def _whole_map(bench: Bench, pid: int, regions: int) -> Case:
    file, repeat = f"/proc/{pid}/maps", max(1, 3000 // regions)
    floors = bench.floors
    subjects = [
        Subject("C: read(2), nothing parsed", lambda: floors.run("read", file, repeat=repeat)),
        Subject("C: read and parse by strtoull", lambda: floors.run("parse", file, repeat=repeat)),
        Subject("C: PROCMAP_QUERY, region to region", lambda: floors.run("walk", file, repeat=repeat)),
        Subject("Rust: crate procfs, Process::maps", lambda: bench.rust.run("maps", pid, repeat=repeat)),
        Subject("pmap (its start included)", _pmap(pid, min(repeat, 10))),
        Subject("Python: open, split each line", lambda: bench.python.do("split_lines", pid=pid, repeat=repeat)),
        Subject(_psutil(), lambda: bench.python.do("psutil_maps", pid=pid), 5 if regions > 50_000 else None),
        *bench.ours(
            "whole_map",
            backends=("linux-procfs", "linux-ioctl"),
            spreads="linux-ioctl" if regions > ALONE else None,
            pid=pid,
            repeat=repeat,
        ),
        Subject(
            "vmatlas linux-ioctl, one thread",
            lambda: bench.compiled.do("whole_map", pid=pid, backend="linux-ioctl", repeat=repeat, map_threads=1),
        ),
        Subject(
            "vmatlas, each region made as well", lambda: bench.compiled.do("regions", pid=pid, repeat=repeat)
        ),
        Subject("vmatlas.snapshot(pid), one-shot", lambda: bench.compiled.do("one_shot", pid=pid, repeat=repeat)),
    ]  # fmt: skip
    return Case(f"whole map of {regions:,} regions", "region", regions, subjects)


def _point_query(bench: Bench, pid: int, asked: list[int]) -> Case:
    file, few = f"/proc/{pid}/maps", asked[:FEW]
    floors = bench.floors
    subjects = [
        Subject("C: PROCMAP_QUERY", lambda: floors.run("query", file, addresses=asked, repeat=3) / len(asked)),
        Subject("C: read and parse the whole text", lambda: floors.run("parse", file)),
        Subject(
            "vmatlas linux-ioctl",
            lambda: bench.compiled.do("points", pid=pid, backend="linux-ioctl", addresses=asked) / len(asked),
        ),
        Subject(
            "vmatlas linux-ioctl, Python alone",
            lambda: bench.python.do("points", pid=pid, backend="linux-ioctl", addresses=few) / FEW,
        ),
        Subject(
            "vmatlas linux-procfs",
            lambda: bench.compiled.do("points", pid=pid, backend="linux-procfs", addresses=few) / FEW,
        ),
        Subject(
            "vmatlas.find(pid, address), one-shot",
            lambda: bench.compiled.do("one_shot_points", pid=pid, addresses=few) / FEW,
        ),
    ]
    return Case(f"point query on an open process, {MANY_REGIONS} regions", "query", 1, subjects)


def _many(bench: Bench, pid: int, asked: list[int]) -> Case:
    file = f"/proc/{pid}/maps"
    floors = bench.floors
    subjects = [
        Subject("C: PROCMAP_QUERY for each", lambda: floors.run("query", file, addresses=asked)),
        Subject("C: read, parse by strtoull, search", lambda: floors.run("search", file, addresses=asked)),
        Subject(f"{_psutil()} and bisect", lambda: bench.python.do("psutil_search", pid=pid, addresses=asked)),
        *bench.ours("many", backends=(None, "linux-procfs", "linux-ioctl"), pid=pid, addresses=asked),
    ]
    name = f"find_many of {MANY_ADDRESSES:,} addresses in {MANY_REGIONS} regions"
    return Case(name, "address", MANY_ADDRESSES, subjects)


def _executable_files(bench: Bench, pid: int) -> Case:
    file = f"/proc/{pid}/maps"
    floors = bench.floors
    subjects = [
        Subject("C: PROCMAP_QUERY, filtered by the kernel", lambda: floors.run("files", file, repeat=20)),
        Subject("C: read and parse by strtoull", lambda: floors.run("parse", file, repeat=20)),
        Subject(_psutil(), lambda: bench.python.do("psutil_files", pid=pid)),
        *bench.ours("executable_files", backends=("linux-ioctl", "linux-procfs"), pid=pid, repeat=20),
    ]
    return Case(f"executable files among {MANY_REGIONS} regions", "question", 1, subjects)


def _residency(bench: Bench, pid: int) -> Case:
    file = f"/proc/{pid}/smaps"
    subjects = [
        Subject("C: read(2) of smaps, nothing parsed", lambda: bench.floors.run("read", file, repeat=3)),
        Subject("Rust: crate procfs, Process::smaps", lambda: bench.rust.run("smaps", pid)),
        Subject(_psutil(), lambda: bench.python.do("psutil_maps", pid=pid)),
        *bench.ours("residency", backends=("linux-procfs",), pid=pid, repeat=3),
    ]
    return Case(f"residency of {SMAPS_REGIONS:,} regions", "region", SMAPS_REGIONS, subjects)


def _watch(bench: Bench, pid: int) -> Case:
    looks = 20
    subjects = [
        Subject("C: read(2), nothing parsed", lambda: bench.floors.run("read", f"/proc/{pid}/maps", repeat=20)),
        *(
            Subject(each.name, lambda measure=each.measure: measure() / looks)  # type: ignore[misc]
            for each in bench.ours("unchanged", backends=("linux-procfs",), pid=pid, looks=looks)
        ),
    ]
    return Case(f"watch: a look at a map of {MANY_REGIONS} regions that did not change", "look", 1, subjects)


def _own_map(own: Bench, regions: int) -> Case:
    """A worker with so many regions, that reads its own map; the floor is read from outside."""
    for worker in (own.compiled, own.python):
        worker.do("fill", regions=regions)
    file, repeat = f"/proc/{own.compiled.pid}/maps", max(1, 3000 // regions)
    subjects = [
        Subject("C: read(2), nothing parsed", lambda: own.floors.run("read", file, repeat=repeat)),
        *_of_itself(own, "whole_map", ("linux-procfs", "linux-ioctl"), repeat),
    ]
    return Case(f"one's own map of {regions:,} regions", "region", regions, subjects)


def _own_residency(own: Bench, regions: int) -> Case:
    """The same of the memory in use."""
    file = f"/proc/{own.compiled.pid}/smaps"
    subjects = [
        Subject("C: read(2) of smaps, nothing parsed", lambda: own.floors.run("read", file, repeat=1)),
        *_of_itself(own, "residency", ("linux-procfs",), 1),
    ]
    return Case(f"one's own residency of {regions:,} regions", "region", regions, subjects)


def _of_itself(own: Bench, job: str, backends: tuple[str, ...], repeat: int) -> Iterator[Subject]:
    for name in backends:
        for worker, how in ((own.compiled, ""), (own.python, ", Python alone")):
            yield Subject(
                f"vmatlas {name}{how}",
                lambda worker=worker, name=name: worker.do(job, pid=worker.pid, backend=name, repeat=repeat),  # type: ignore[misc]
            )


def _pages(bench: Bench, stack: ExitStack, *, quick: bool) -> Iterator[Case]:
    """What lies inside regions, in time of the processor. The gibibytes are only made where there is time for them."""
    page = os.sysconf("SC_PAGESIZE")
    for how, what in (("touched", "1 GiB, every page touched"), ("striped", "1 GiB, every second page touched")):
        if not quick:
            pid, start, end = stack.enter_context(paged(how))
            count = (end - start) // page
            yield Case(f"pages of {what}", "page", count, list(_of_range(bench, pid, start, end, unpacked=True)))
    pid, start, end = stack.enter_context(paged("reserved"))
    subjects = list(_of_range(bench, pid, start, end, unpacked=False))
    yield Case("pages of 1 TiB that is reserved, four of them touched", "question", 1, subjects)
    pid, _, _ = stack.enter_context(paged("threads"))
    subjects = [
        Subject("vmatlas, residency", lambda: bench.compiled.do("residency", pid=pid, repeat=3, worked=True)),
        Subject("vmatlas, guards", lambda: bench.compiled.do("guards", pid=pid, repeat=3, worked=True)),
        Subject("vmatlas, guards, Python alone", lambda: bench.python.do("guards", pid=pid, repeat=3, worked=True)),
    ]
    yield Case(f"pages: map with guards of {THREADS} threads", "map", 1, subjects)


def _of_range(bench: Bench, pid: int, start: int, end: int, *, unpacked: bool) -> Iterator[Subject]:
    """By the scan, then by the entries (8 bytes for each page of a range: of a reservation there are too many)."""
    file, floors, repeat = f"/proc/{pid}/pagemap", bench.floors, 10 if unpacked else 50
    once: dict[str, object] = {"pid": pid, "start": start, "end": end, "worked": True}
    asked, by_entries = once | {"repeat": repeat}, once | {"of": ["present", "exclusive"]}
    edges = [start, end]
    yield Subject("C: PAGEMAP_SCAN", lambda: floors.run("scan", file, addresses=edges, repeat=repeat))
    yield Subject("vmatlas", lambda: bench.compiled.do("pages", **asked))
    yield Subject("vmatlas, Python alone", lambda: bench.python.do("pages", **asked))
    if unpacked:
        yield Subject("C: read(2) of pagemap", lambda: floors.run("entries", file, addresses=edges))
        yield Subject("vmatlas, exclusive as well", lambda: bench.compiled.do("pages", **by_entries))
        yield Subject("vmatlas, exclusive as well, Python alone", lambda: bench.python.do("pages", **by_entries))
        yield Subject("Python: unpack pagemap", lambda: bench.python.do("unpack_pagemap", **once), 5)
        by_page = "Python: unpack pagemap page by page"
        yield Subject(by_page, lambda: bench.python.do("unpack_pagemap_by_page", **once), 3)


def _machine(bench: Bench) -> Case:
    count = sum(1 for process in vmatlas.processes() if not process.kernel)
    subjects = [
        Subject("C: open and read(2) maps of each", lambda: bench.floors.run("machine", "maps")),
        Subject("psutil: memory_maps of each", lambda: bench.python.do("psutil_machine"), 5),
        Subject("vmatlas.snapshots, one thread", lambda: bench.compiled.do("machine", threads=1)),
        Subject("vmatlas.snapshots, 4 threads", lambda: bench.compiled.do("machine", threads=4), spreads=True),
        Subject("vmatlas.snapshots, one thread, Python alone", lambda: bench.python.do("machine", threads=1)),
        Subject("the same with residency, one thread", lambda: bench.compiled.do("machine", threads=1, residency=True)),
        Subject(
            "the same with residency, 4 threads",
            lambda: bench.compiled.do("machine", threads=4, residency=True),
            spreads=True,
        ),
    ]
    return Case(f"the whole machine, {count} processes", "process", count, subjects)


def _totals(bench: Bench) -> Case:
    """In processor time, of all threads: that is what it costs others."""
    count = sum(1 for process in vmatlas.processes() if not process.kernel)

    def ours(worker: Worker, **details: object) -> Measure:
        return lambda: worker.do("totals", worked=True, repeat=3, **details)

    subjects = [
        Subject(
            "C: open and read(2) smaps_rollup of each",
            lambda: bench.floors.run("machine-worked", "smaps_rollup", repeat=3),
        ),
        Subject("psutil: memory_full_info of each", lambda: bench.python.do("psutil_totals", worked=True, repeat=3)),
        Subject("vmatlas.memories", ours(bench.compiled, described=True)),
        Subject("vmatlas.memories, by number alone", ours(bench.compiled, described=False)),
        Subject("vmatlas.memories, Python alone", ours(bench.python, described=True)),
        Subject("the psutil program, its start included", _program([sys.executable, "-c", _PSUTIL])),
        Subject("vmatlas summary --all, its start included", _vmatlas("summary", "--all")),
    ]
    return Case(f"totals of the whole machine, {count} processes, processor time", "process", count, subjects)


def _everyones_maps(bench: Bench) -> Case:
    """In processor time, as the totals."""
    count = sum(1 for process in vmatlas.processes() if not process.kernel)
    ours = {"worked": True, "repeat": 3, "threads": 1}
    subjects = [
        Subject("C: open and read(2) maps of each", lambda: bench.floors.run("machine-worked", "maps", repeat=3)),
        Subject("psutil: memory_maps of each", lambda: bench.python.do("psutil_machine", worked=True), 3),
        Subject("vmatlas.snapshots", lambda: bench.compiled.do("machine", **ours)),
        Subject("vmatlas.snapshots, Python alone", lambda: bench.python.do("machine", **ours)),
        Subject("vmatlas.audit of each", lambda: bench.compiled.do("audits", **ours)),
    ]
    return Case(f"maps of the whole machine, {count} processes, processor time", "process", count, subjects)


def _over_everybody(bench: Bench) -> Case:
    """Commands that ask every process, from start to end: against what the kernel and Python's start take anyhow."""
    start = _program([sys.executable, "-c", "pass"])

    def least(*files: str) -> Measure:
        return lambda: sum((bench.floors.run("machine-worked", file, repeat=3) for file in files), start())

    subjects = [
        Subject("C: maps of each; and python -c pass", least("maps")),
        Subject("vmatlas audit --all", _vmatlas("audit", "--all")),
        Subject("C: smaps_rollup and maps of each; and python -c pass", least("smaps_rollup", "maps")),
        Subject("vmatlas summary --all", _vmatlas("summary", "--all")),
    ]
    return Case("commands over the whole machine, processor time", "command", 1, subjects)


def _core(bench: Bench, path: str) -> Case:
    """The map of a core file, from the file to the columns; each in the processor's time."""
    subjects = [
        Subject("readelf -lW", _tool("readelf", "-lW", path)),
        *bench.ours("core", backends=(None,), path=path, worked=True),
        Subject("pyelftools, iter_segments", lambda: bench.python.do("pyelftools", path=path, worked=True), 2),
        Subject("gdb, info proc mappings (names alone)", _tool("gdb", "-nx", "-batch", *_asked_of_gdb(path)), 2),
    ]
    return Case(f"the map of a core file of {REGIONS:,} regions, processor time", "region", REGIONS, subjects)


def _asked_of_gdb(path: str) -> list[str]:
    return ["-ex", f"core-file {path}", "-ex", "info proc mappings"]


def _symbols(bench: Bench) -> Case:
    """The function at each of many addresses of the C library."""
    library, here, own = of_libc()
    text = "".join(f"{each:#x}\n" for each in own).encode()
    subjects = [
        Subject("addr2line -f, called with all", _tool("addr2line", "-f", "-e", library, given=text)),
        Subject(
            "vmatlas.symbolize_many", lambda: bench.compiled.do("symbols", library=library, addresses=own, worked=True)
        ),
        Subject(
            "the same, by a Symbolizer that is kept",
            lambda: bench.compiled.do("kept_symbols", library=library, addresses=own, worked=True),
        ),
    ]
    return Case(f"{len(here):,} addresses of {library} to functions, processor time", "address", len(here), subjects)


def _tool(name: str, *words: str, given: bytes | None = None) -> Measure:
    program = shutil.which(name)

    def none() -> float:
        raise Missing(f"no {name} in PATH")

    return none if program is None else _program([program, *words], given)


def _start() -> Case:
    """What a command takes that has next to nothing to do."""
    subjects = [
        Subject(f"python -c '{program}'", _program([sys.executable, "-c", program]))
        for program in ("pass", "import typing", "import click", "import os, vmatlas; vmatlas.snapshot(os.getpid())")
    ]
    subjects.append(Subject("vmatlas maps self", _vmatlas("maps", "self")))
    return Case("from start to end, processor time", "command", 1, subjects)


def _printed(pid: int, regions: int) -> Case:
    pmap = shutil.which("pmap")

    def no_pmap() -> float:
        raise Missing("no pmap in PATH")

    subjects = [
        Subject("pmap -x", no_pmap if pmap is None else _program([pmap, "-x", str(pid)])),
        Subject("vmatlas maps", _vmatlas("maps", str(pid))),
        Subject("vmatlas maps --json", _vmatlas("maps", str(pid), "--json")),
        Subject("vmatlas maps --csv", _vmatlas("maps", str(pid), "--csv")),
    ]
    return Case(f"{regions:,} regions shown, from start to end, processor time", "region", regions, subjects)


def _vmatlas(*words: str) -> Measure:
    return _program([sys.executable, "-m", "vmatlas", *words])


_PSUTIL = """
import psutil
for process in psutil.process_iter():
    try:
        print(process.pid, process.memory_full_info())
    except psutil.Error:
        pass
"""


def _program(command: list[str], given: bytes | None = None) -> Measure:
    """The processor time of a program from its start to its end; `given` on its standard input."""

    def measure() -> float:
        with subprocess.Popen(
            command,
            stdin=None if given is None else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        ) as started:
            if given is not None and started.stdin is not None:
                started.stdin.write(given)
                started.stdin.close()
            _, _, used = os.wait4(started.pid, 0)
            started.returncode = 0
        return (used.ru_utime + used.ru_stime) * 1e9

    return measure


def _remote(stack: ExitStack) -> Case:
    """The map of an agent's own process, over the serial line of a machine in QEMU; booted when first asked."""
    machine = os.environ.get("VMATLAS_BENCH_MACHINE", "linux-6.12")
    connected: list[vmatlas.Process] = []

    def agent() -> vmatlas.Process:
        if not connected:
            try:
                target = vmatlas.connect(f"qemu:{machine}")
            except vmatlas.VmatlasError as error:
                raise Missing(f"{machine}: {error}") from error
            stack.callback(target.close)
            connected.append(stack.enter_context(vmatlas.open(None, target=target)))
        return connected[0]

    def timed(job: Callable[[vmatlas.Process], object]) -> Measure:
        def measure() -> float:
            process = agent()
            begin = time.perf_counter_ns()
            job(process)
            return time.perf_counter_ns() - begin

        return measure

    subjects = [
        Subject("the first of its processes", timed(lambda process: next(process.target.processes())), spreads=True),
        Subject("vmatlas: whole map", timed(lambda process: process.snapshot()), spreads=True),
        Subject("vmatlas: point query", timed(lambda process: process.find(0x400000, or_next=True)), spreads=True),
    ]  # fmt: skip
    return Case(f"remote: over a serial line of the machine {machine} (TCG)", "question", 1, subjects)


def _addresses(pid: int) -> list[int]:
    """An address in each region of a process, and one just behind each."""
    space = vmatlas.snapshot(pid, backend="linux-procfs")
    user = [region for region in space if region.end < 2**63]
    return [address for region in user for address in (region.start + region.size // 2, region.end)]


def _psutil() -> str:
    return f"psutil {version('psutil')} memory_maps"


def _pmap(pid: int, repeat: int) -> Measure:
    program = shutil.which("pmap")

    def measure() -> float:
        if program is None:
            raise Missing("no pmap in PATH")
        run = functools.partial(
            subprocess.run, [program, str(pid)], stdout=subprocess.DEVNULL, check=True, timeout=LIMIT
        )
        run()  # as with the others, the first does not count
        begin = time.perf_counter_ns()
        for _ in range(repeat):
            run()
        return (time.perf_counter_ns() - begin) / repeat

    return measure


def machine() -> dict[str, str]:
    """What it ran on."""
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        model = next((line.partition(":")[2].strip() for line in file if line.startswith("model name")), "unknown")
    uname = os.uname()
    return {
        "processor": f"{model}, {os.cpu_count()} visible",
        "kernel": f"{uname.sysname} {uname.release} {uname.machine}",
        "load": " ".join(f"{load:.1f}" for load in os.getloadavg()),
    }
