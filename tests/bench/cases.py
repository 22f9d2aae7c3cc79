"""What is measured: for each case the floor, the peers, and vmatlas, as functions that do the job once."""

from __future__ import annotations

import bisect
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version

import vmatlas
from tests.bench.processes import LIMIT, Floors, Missing, child

MAPS = (100, 1000, 60_000)
"""Regions of the whole maps."""

POINT_QUERIES = 4435
MANY_REGIONS, MANY_ADDRESSES = 702, 4435
"""The shape of a profiler's batch: so many addresses of stack traces, among so many regions."""

SMAPS_REGIONS = 1000

Measure = Callable[[], float]
"""Does the job once; nanoseconds. Raises Missing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """Somebody who does the job of a case."""

    name: str
    measure: Measure


@dataclass(frozen=True, slots=True)
class Case:
    """One job, done by several. The first subject is the floor that ratios are told against."""

    name: str
    unit: str
    """What one is counted in: "region"."""
    units: int
    """How many of them one job has."""
    subjects: list[Subject]


def timed(job: Callable[[], object], repeat: int = 1) -> Measure:
    """Measures a job of ours, in this process; `repeat` times for what is too short for the clock."""

    def measure() -> float:
        begin = time.perf_counter_ns()
        for _ in range(repeat):
            job()
        return (time.perf_counter_ns() - begin) / repeat

    return measure


def cases(floors: Floors, sizes: tuple[int, ...], stack: ExitStack) -> Iterator[Case]:
    """Each case, with its process running; what they open is closed by `stack`."""
    for regions in sizes:
        yield _whole_map(floors, stack.enter_context(child(regions)), regions, stack)
    pid = stack.enter_context(child(MANY_REGIONS))
    yield _point_query(floors, pid, stack)
    yield _many(floors, pid, stack)
    yield _residency(floors, stack.enter_context(child(SMAPS_REGIONS)), stack)


def _whole_map(floors: Floors, pid: int, regions: int, stack: ExitStack) -> Case:
    file = f"/proc/{pid}/maps"
    subjects = [
        Subject("C: read(2), nothing parsed", lambda: floors.run("read", file)),
        Subject("C: PROCMAP_QUERY, region to region", lambda: floors.run("walk", file)),
        Subject("cat (its start included)", _cat(file)),
        Subject("Python: open, split each line", timed(lambda: _split_lines(file))),
        Subject(f"psutil {version('psutil')} memory_maps (reads smaps)", _psutil(pid)),
    ]
    for name in ("linux-procfs", "linux-ioctl"):
        subjects.append(Subject(f"vmatlas {name}", _on_handle(pid, name, stack, lambda process: process.snapshot())))
    subjects.append(Subject("vmatlas.snapshot(pid), one-shot", timed(lambda: vmatlas.snapshot(pid))))
    return Case(f"whole map of {regions:,} regions", "region", regions, subjects)


def _point_query(floors: Floors, pid: int, stack: ExitStack) -> Case:
    asked = random.Random(2).choices(_addresses(pid), k=POINT_QUERIES)
    file = f"/proc/{pid}/maps"
    some = asked[:200]
    subjects = [
        Subject("C: PROCMAP_QUERY", lambda: floors.run("query", file, addresses=asked) / POINT_QUERIES),
        Subject("C: read(2) of the whole text", lambda: floors.run("read", file)),
    ]
    for name, addresses in (("linux-ioctl", some), ("linux-procfs", some[:5])):

        def find_each(process: vmatlas.Process, addresses: list[int] = addresses) -> None:
            for address in addresses:
                process.find(address)

        measure = _on_handle(pid, name, stack, find_each)
        subjects.append(Subject(f"vmatlas {name}", _divided(measure, len(addresses))))
    subjects.append(Subject("vmatlas.find(pid, address), one-shot", timed(lambda: vmatlas.find(pid, asked[0]), 20)))
    return Case(f"point query, {MANY_REGIONS} regions", "query", 1, subjects)


def _many(floors: Floors, pid: int, stack: ExitStack) -> Case:
    asked = random.Random(1).choices(_addresses(pid), k=MANY_ADDRESSES)
    file = f"/proc/{pid}/maps"
    subjects = [
        Subject("C: PROCMAP_QUERY for each", lambda: floors.run("query", file, addresses=asked)),
        Subject("C: read(2) of the whole text", lambda: floors.run("read", file)),
        Subject(f"psutil {version('psutil')} memory_maps and bisect", timed(lambda: _psutil_search(pid, asked))),
    ]
    for name in ("linux-procfs", "linux-ioctl"):
        subjects.append(
            Subject(f"vmatlas {name}", _on_handle(pid, name, stack, lambda process: process.find_many(asked)))
        )
    name = f"find_many of {MANY_ADDRESSES:,} addresses in {MANY_REGIONS} regions"
    return Case(name, "address", MANY_ADDRESSES, subjects)


def _residency(floors: Floors, pid: int, stack: ExitStack) -> Case:
    file = f"/proc/{pid}/smaps"
    subjects = [
        Subject("C: read(2) of smaps, nothing parsed", lambda: floors.run("read", file)),
        Subject(f"psutil {version('psutil')} memory_maps", _psutil(pid)),
        Subject(
            "vmatlas linux-procfs",
            _on_handle(pid, "linux-procfs", stack, lambda process: process.snapshot(residency=True)),
        ),
    ]
    return Case(f"residency of {SMAPS_REGIONS:,} regions", "region", SMAPS_REGIONS, subjects)


def _addresses(pid: int) -> list[int]:
    """An address in each region of a process, and one just behind each."""
    space = vmatlas.snapshot(pid, backend="linux-procfs")
    user = [region for region in space if region.end < 2**63]
    return [address for region in user for address in (region.start + region.size // 2, region.end)]


def _on_handle(pid: int, backend: str, stack: ExitStack, job: Callable[[vmatlas.Process], object]) -> Measure:
    process = stack.enter_context(vmatlas.open(pid, backend=backend))

    def measure() -> float:
        begin = time.perf_counter_ns()
        try:
            job(process)
        except vmatlas.Unsupported as error:
            raise Missing(str(error)) from error
        return time.perf_counter_ns() - begin

    return measure


def _divided(measure: Measure, by: int) -> Measure:
    return lambda: measure() / by


def _cat(file: str) -> Measure:
    program = shutil.which("cat")

    def job() -> None:
        if program is None:
            raise Missing("no cat in PATH")
        subprocess.run([program, file], stdout=subprocess.DEVNULL, check=True, timeout=LIMIT)

    return timed(job)


def _psutil(pid: int) -> Measure:
    import psutil

    process = psutil.Process(pid)
    return timed(lambda: process.memory_maps(grouped=False))


def _psutil_search(pid: int, addresses: list[int]) -> list[object]:
    """The same question by psutil, as its users have to ask it: it gives bounds as text."""
    import psutil

    regions = psutil.Process(pid).memory_maps(grouped=False)
    bounds = [tuple(int(edge, 16) for edge in region.addr.split("-")) for region in regions]
    starts = [start for start, _ in bounds]
    found: list[object] = []
    for address in addresses:
        row = bisect.bisect_right(starts, address) - 1
        found.append(regions[row] if row >= 0 and address < bounds[row][1] else None)
    return found


def _split_lines(file: str) -> list[tuple[int, int, str, int, str, int, str]]:
    """What people write themselves: right for ordinary names, and with no check at all."""
    found = []
    with open(file, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            span, rights, offset, device, inode, *path = line.rstrip("\n").split(None, 5)
            start, end = span.split("-")
            found.append(
                (int(start, 16), int(end, 16), rights, int(offset, 16), device, int(inode), path[0] if path else "")
            )
    return found


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
