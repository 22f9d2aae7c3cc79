"""A data set whose content is known: three hosts on three days, with programs that have one trait each."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from vmatlas.model import AddressSpace, Device, Kind, MemoryUse, Origin, ProcessInfo, Protection, Region, SystemInfo
from vmatlas_fleet.asking import Order, Told
from vmatlas_fleet.dataset import DataSet, Run
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Ledger, Outcome, Task
from vmatlas_fleet.tables import Gathered, memory_of

LINUX = SystemInfo("linux", "6.12.43", "#1 SMP", "x86_64", "little", 64, 4096)
R, RX, RW, RWX = (Protection(bits) for bits in (1, 5, 3, 7))
BASE = 0x7F0000000000
OLD, NEW = bytes.fromhex("aa" * 20), bytes.fromhex("bb" * 20)


def file(path: str, protection: Protection = RX, build_id: bytes | None = None, *, at: int = 0, deleted: bool = False):
    start = BASE + at * 0x1000000
    return Region(start, start + 0x2000, protection, False, 0, Device(8, 1), 100 + at, path, None, deleted, Kind.FILE,
                  resident=0x1000, private_resident=0, build_id=build_id)  # fmt: skip


def anonymous(protection: Protection, *, at: int) -> Region:
    start = BASE + at * 0x1000000
    return Region(
        start, start + 0x10000, protection, False, kind=Kind.ANONYMOUS, resident=0x3000, private_resident=0x3000
    )


def nginx(build: bytes, ssl: str, *, deleted: bool = False, injected: bool = False) -> list[Region]:
    regions = [
        file("/usr/sbin/nginx", build_id=build, at=0),
        file(f"/usr/lib/{ssl}", at=1, deleted=deleted),
        file("/usr/lib/libcrypto-3.0.7.so", R, at=2),
    ]
    return [*regions, anonymous(RWX, at=3)] if injected else [*regions, anonymous(RW, at=3)]


def recording(run: str) -> Run:
    moment = datetime.strptime(run[:16], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return Run(run, moment.isoformat(), ("maps", "memory", "audit"), (), {}, 3, "0.1.0")


def write_day(data: DataSet, run: Run, hosts: dict[str, list[tuple[str, int, int, list[Region]]] | str]) -> None:
    """Of each host its processes (unit, pid, PSS, regions), or why it failed."""
    ledger = Ledger(data, run, Order(run.run), Outcome(hosts=len(hosts)))
    data.begin(run)
    for name, told in hosts.items():
        gathered = Gathered(run.run)
        for unit, pid, proportional, regions in () if isinstance(told, str) else told:
            process = ProcessInfo(pid, 1, unit.partition(".")[0], 1000 + pid)
            space = AddressSpace.of(regions, Origin(LINUX, pid, "made", 0.0, 1000 + pid))
            gathered.add_map(process, space)
            use = MemoryUse(resident=2 * proportional, proportional=proportional, private=proportional // 2)
            gathered.processes.append(
                {"run": run.run, "pid": pid, "start_time": 1000 + pid, "name": process.name, "unit": unit,
                 "program": regions[0].path, "status": "answered", "regions": len(space)} | memory_of(use)
            )  # fmt: skip
            if any(region.protection is RWX or region.protection == RWX for region in regions):
                row = {"run": run.run, "pid": pid, "start_time": 1000 + pid, "process": process.name}
                gathered.findings.append(
                    row
                    | {"rule": "writable-and-executable", "verdict": "found", "severity": "high", "explanation": "x"}
                )
        answer = Told("failed", told, "TargetLost") if isinstance(told, str) else Told("answered", system=LINUX)
        answer.tables = gathered.tables()
        answer.processes, answer.regions = len(gathered.processes), gathered.regions
        ledger.settle(Task(Host(name, "ssh:x", ("web",), {"site": "graz"}), 1), answer)


DAYS = ("20261116T080000Z-000001", "20261123T080000Z-000002", "20261130T080000Z-000003")


def make(location: Path) -> DataSet:
    """Day by day: web-1 is upgraded on the last; web-2 keeps the old library, deleted; web-3 is lost on the last."""
    data = DataSet.at(str(location))
    old, new = "libssl.so.1.1", "libssl.so.3"
    for number, run in enumerate(map(recording, DAYS)):
        last = number == 2
        grown = 10_000_000 * (number + 1)
        write_day(
            data,
            run,
            {
                "web-1": [("nginx.service", 10, 5_000_000, nginx(NEW if last else OLD, new if last else old))],
                "web-2": [
                    ("nginx.service", 20, grown, nginx(OLD, old, deleted=last)),
                    ("redis.service", 21, 3_000_000, nginx(NEW, new, injected=True)),
                ],
                "web-3": "no connection: Connection refused"
                if last
                else [("nginx.service", 30, 4_000_000, nginx(OLD, old))],
            },
        )
    return data
