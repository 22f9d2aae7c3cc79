"""What a fleet costs: `python -m tests.bench.fleet`. Hosts behind a relay that delays, or sshd's; ten million regions.

--hosts N        agents behind sockets with 50 ms of added delay, against a loop over them      (200)
--ssh N          the same with real sshd's, each in a network namespace of its own (root)        (0: not)
--regions N      written by one thread, bytes a region, and the query for old libraries         (10,000,000)
--many N         hosts of no work: memory against their number                                  (2,000)
--names N        names of which half do not resolve                                             (10,000)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from array import array
from collections.abc import Iterator
from pathlib import Path

import vmatlas
from tests.bench.namespaces import Sshds
from tests.bench.relay import Relay
from vmatlas.model import AddressSpace, ProcessInfo
from vmatlas.target.asking import Deadline
from vmatlas_fleet.asking import Order, ask_host
from vmatlas_fleet.dataset import DataSet, new_run
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Ledger, Outcome, Pace, Task, record
from vmatlas_fleet.tables import Gathered

DELAY = 0.05
"""Seconds there and back."""


def main() -> None:
    """Measure what was asked for, and tell it line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, usual in (("hosts", 200), ("ssh", 0), ("regions", 10_000_000), ("many", 2000), ("names", 10_000)):
        parser.add_argument(f"--{name}", type=int, default=usual)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder)
        if options.hosts:
            behind_a_relay(space, options.hosts, options.concurrency)
        if options.regions:
            many_regions(space, options.regions)
        if options.names:
            names(space, options.names)
        if options.many:
            many_hosts(space, options.many)
        if options.ssh:  # the last: the network is another one then
            by_ssh(space, options.ssh, options.concurrency)


def told(line: str) -> None:
    print(line, flush=True)


# ---- hosts behind a wire ----


@contextlib.contextmanager
def looked_at() -> Iterator[list[int]]:
    """Ten processes that stand still."""
    still = [sys.executable, "-I", "-S", "-c", "import os; os.write(1, b'x'); os.read(0, 1)"]
    programs = [subprocess.Popen(still, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(10)]
    try:
        for each in programs:
            assert each.stdout is not None
            each.stdout.read(1)
        yield [each.pid for each in programs]
    finally:
        for each in programs:
            each.kill()
            each.wait()


def behind_a_relay(space: Path, count: int, concurrency: int) -> None:
    """So many hosts at once, against one, and against a loop."""
    import vmatlas_agents

    relay = Relay(DELAY, "agent", vmatlas_agents.path("Linux", os.uname().machine))
    (port,) = relay.ports
    try:
        at_once(space / "relay", [Host(f"h{n}", f"tcp:127.0.0.1:{port}") for n in range(count)], concurrency, "agents")
    finally:
        relay.end()


def at_once(place: Path, hosts: list[Host], concurrency: int, by: str) -> None:
    """The figures of the issue: against the slowest single host, and against a loop."""
    count = len(hosts)
    with looked_at() as pids:
        select = tuple(f"pid:{pid}" for pid in pids)
        run = new_run(what=("maps",), select=select, options={}, hosts=count)
        order = Order(run.run, select=select)
        single = []
        for host in hosts[:8]:
            began = time.monotonic()
            answer = ask_host(host, order, Deadline(300))
            single.append(time.monotonic() - began)
            assert answer.status == "answered", answer.reason
        began, worked = time.monotonic(), time.process_time()
        outcome = record(hosts, order, Pace(concurrency), DataSet.at(str(place)), run)
        seconds, worked = time.monotonic() - began, time.process_time() - worked
    assert outcome.answered == count, outcome.reasons
    alone, mean = max(single), sum(single) / len(single)
    told(
        f"{by}: {count} hosts, {concurrency} at once: {seconds:.1f} s ({worked:.1f} s of a processor); the slowest "
        f"alone {alone:.2f} s: {seconds / (alone * count / concurrency):.2f} x slowest x hosts / concurrency; a loop "
        f"would take {mean * count:.0f} s: {mean * count / seconds:.1f} x as long; largest size {largest_size():.0f} MB"
    )


def by_ssh(space: Path, count: int, concurrency: int) -> None:
    """Real sshd's, each in a network namespace of its own, behind the relay."""
    sshds = Sshds(space / "sshd", count)
    relay = Relay(DELAY, "to", *(f"{host}:22" for host in sshds.hosts))
    hosts = [Host(f"h{n}", f"ssh:127.0.0.1:{port}") for n, port in enumerate(relay.ports)]
    try:
        at_once(space / "ssh", hosts, concurrency, "sshd's")
    finally:
        relay.end()
        sshds.end()


def largest_size() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# ---- many regions ----


def moved(space: AddressSpace, chance: random.Random) -> AddressSpace:
    """The same map at other addresses, as another process of the same program has it: libraries stay together."""
    by = {0x55: chance.randrange(1 << 26) * 4096, 0x7F: chance.randrange(1 << 26) * 4096}
    columns = space.columns.take(range(len(space)))
    for name in ("start", "end"):
        there = getattr(columns, name)
        setattr(columns, name, array("Q", (each - by.get(each >> 40, 0) for each in there)))
    if columns.first_disorder() is not None:  # what lies at the edge of both
        return space
    return AddressSpace(columns, space.origin)


def many_regions(space: Path, count: int) -> None:
    """Maps of this machine's own programs, as of hosts of 50,000 regions each, written by one thread."""
    chance = random.Random(1)
    maps = [each.answer for each in vmatlas.survey(lambda process: process.snapshot()) if each.answer is not None]
    maps = [each for each in maps if 50 < len(each) < 1000][:40]
    apiece = max(24, 1000 // len(maps))  # few come twice in a file
    variants = [[moved(each, chance) for _ in range(apiece)] for each in maps]
    data = DataSet.at(str(space / "regions"))
    run = new_run(what=("maps",), select=(), options={}, hosts=0)
    ledger = Ledger(data, run, Order(run.run), Outcome())
    from vmatlas_fleet.asking import Told

    written = number = 0
    seconds = worked = 0.0
    while written < count:
        pid, processes = 100, []
        regions = 0
        while regions < min(50_000, count - written):
            which = chance.randrange(len(maps))
            processes.append((ProcessInfo(pid, 1, f"program{which}", 1000 + pid), chance.choice(variants[which])))
            regions += len(maps[which])
            pid += chance.randrange(1, 9)
        began, before = time.monotonic(), time.process_time()
        gathered = Gathered(run.run)
        for process, told_of in processes:
            gathered.add_map(process, told_of)
            row = {"run": run.run, "pid": process.pid, "start_time": process.start_time, "name": process.name}
            gathered.processes.append(row | {"status": "answered"})
        answer = Told("answered", tables=gathered.tables(), regions=gathered.regions)
        written += gathered.regions
        ledger.settle(Task(Host(f"host{number}", "ssh:x"), 1), answer)
        seconds, worked = seconds + time.monotonic() - began, worked + time.process_time() - before
        number += 1
    on_disk = sum(each.stat().st_size for each in (space / "regions" / "regions").rglob("*.parquet"))
    told(
        f"{written:,} regions of {number} hosts in {seconds:.1f} s: {written / worked:,.0f} a second of one processor; "
        f"{on_disk / written:.2f} bytes a region; {len(maps)} programs at {apiece} places each"
    )
    from vmatlas_fleet import queries
    from vmatlas_fleet.sql import ask, opened

    old = queries.query("old-libraries")
    took, opening = [], time.monotonic()
    with opened(str(space / "regions")) as connection:
        opening = time.monotonic() - opening
        for _ in range(3):
            began, before = time.monotonic(), time.process_time()
            found = ask(connection, old.sql, old.values({"library": "libc", "before": "7"}))
            took.append(time.monotonic() - began)
            cost = time.process_time() - before
    told(
        f"old-libraries over {written:,} regions: {min(took):.2f} s (of {', '.join(f'{each:.2f}' for each in took)}; "
        f"{cost:.2f} s of a processor), {len(found.rows):,} rows; opening the data set {opening:.2f} s"
    )


# ---- many hosts ----


def names(space: Path, count: int) -> None:
    """Names of which half do not resolve, and half are refused."""
    hosts = [Host(f"n{n}", "tcp:no-such-host.invalid:1" if n % 2 else "tcp:127.0.0.1:1") for n in range(count)]
    run = new_run(what=("maps",), select=(), options={}, hosts=count)
    began = time.monotonic()
    outcome = record(hosts, Order(run.run), Pace(64, retries=0), DataSet.at(str(space / "names")), run)
    rows = sum(1 for _ in (space / "names" / "hosts").rglob("*.parquet"))
    told(f"{count:,} names: {time.monotonic() - began:.1f} s, {outcome.failed:,} failed, {rows:,} rows")


def many_hosts(space: Path, count: int) -> None:
    """The same ten processes of this machine as so many hosts: what is largest, at a tenth and at the end."""
    with looked_at() as pids:
        select = tuple(f"pid:{pid}" for pid in pids)
        sizes = []
        for part in (count // 10, count):
            run = new_run(what=("maps",), select=select, options={}, hosts=part)
            order = Order(run.run, select=select, threads=1)
            hosts = [Host(f"m{n}", "local") for n in range(part)]
            before = time.monotonic()
            outcome = record(hosts, order, Pace(32), DataSet.at(str(space / f"many{part}")), run)
            sizes.append((part, largest_size(), time.monotonic() - before))
            assert outcome.answered == part
    told("; ".join(f"{part:,} hosts: largest size {size:.0f} MB, {seconds:.1f} s" for part, size, seconds in sizes))


if __name__ == "__main__":
    main()
