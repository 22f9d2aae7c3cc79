"""Recording by a Dask scheduler, with workers that are programs of their own: killed, gone, none at all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip(
    "distributed", reason="Dask is not installed: ./run invoke fleet-engines installs it, and runs these"
)

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import TargetLost, UsageError
from vmatlas_fleet import distributed
from vmatlas_fleet.asking import Order
from vmatlas_fleet.dataset import DataSet, Run, new_run
from vmatlas_fleet.distributed import record_by_scheduler
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Outcome, Pace

from .conftest import rows_of

SLOW = """
import os, subprocess, sys, time
open(f"{sys.argv[2]}/{os.getppid()}", "a").write("x")
time.sleep(0.4)
os.execv(sys.argv[1], [sys.argv[1]])
"""
"""An agent that takes its time, and notes which worker began it."""


class Cluster:
    """A scheduler, and workers with one thread each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._programs: list[subprocess.Popen[bytes]] = []
        file = folder / "scheduler.json"
        self.scheduler = self._start(
            "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", file,
        )  # fmt: skip
        until = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_text().strip():
            assert self.scheduler.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        import json

        self.url: str = json.loads(file.read_text())["address"]

    def _start(self, module: str, *arguments: object) -> subprocess.Popen[bytes]:
        code = f"from {module} import main; main()"
        program = subprocess.Popen(
            [sys.executable, "-c", code, *map(str, arguments)], cwd=self.folder, stderr=subprocess.DEVNULL
        )
        self._programs.append(program)
        return program

    def worker(self) -> subprocess.Popen[bytes]:
        """One more."""
        return self._start(
            "distributed.cli.dask_worker", self.url, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--local-directory", self.folder, "--host", "127.0.0.1",
        )  # fmt: skip

    def end(self) -> None:
        for program in self._programs:
            program.kill()
            program.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.end()


def recorded(
    cluster: Cluster, tmp_path: Path, hosts: list[Host], *, pace: Pace | None = None, **order: object
) -> tuple[Outcome, Path]:
    data = DataSet.at(str(tmp_path / "atlas"))
    run: Run = new_run(what=("maps",), select=(), options={}, hosts=len(hosts))
    data.begin(run)
    asked = Order(run.run, **order)  # type: ignore[arg-type]
    outcome = record_by_scheduler(cluster.url, hosts, asked, pace or Pace(retries=0), data, run)
    return outcome, tmp_path / "atlas"


def slow_hosts(tmp_path: Path, binary: Path, count: int) -> list[Host]:
    program = tmp_path / "slow.py"
    program.write_text(SLOW)
    (tmp_path / "began").mkdir()
    return [Host(f"h{n:02}", f"agent:{sys.executable} {program} {binary} {tmp_path}/began") for n in range(count)]


def test_two_workers_of_which_one_is_killed_lose_nothing_and_count_nothing_twice(cluster, tmp_path, binary, child):
    workers = [cluster.worker(), cluster.worker()]
    hosts = slow_hosts(tmp_path, binary, 12)
    began = tmp_path / "began"

    import threading

    def kill() -> None:
        until = time.monotonic() + PATIENCE
        while not (began / str(workers[0].pid)).exists() and time.monotonic() < until:
            time.sleep(0.01)
        workers[0].kill()

    killer = threading.Thread(target=kill)
    killer.start()
    outcome, data = recorded(cluster, tmp_path, hosts, select=(f"pid:{child}",))
    killer.join()
    assert workers[0].wait(PATIENCE) < 0
    assert (outcome.answered, outcome.failed) == (12, 0)
    rows = rows_of(data, "hosts")
    assert sorted(row["name"] for row in rows) == [host.name for host in hosts]
    processes = rows_of(data, "processes")
    assert len(processes) == 12 and {row["pid"] for row in processes} == {child}
    assert {os.path.basename(path) for path in map(str, began.iterdir())} == {str(each.pid) for each in workers}


def test_hosts_that_fail_by_a_worker_are_rows_too_and_captures_come_along(cluster, tmp_path, child):
    cluster.worker()
    hosts = [Host("here", "local"), Host("x", "tcp:127.0.0.1:1"), Host("y", "", problem="no way")]
    outcome, data = recorded(cluster, tmp_path, hosts, select=(f"pid:{child}",), captures=True)
    told = {row["name"]: row["reason"] for row in rows_of(data, "hosts")}
    assert (outcome.answered, outcome.failed, told["y"]) == (1, 2, "no way")
    assert "Connection refused" in told["x"]
    assert len(list(data.glob("captures/*/*.vmatlas"))) == 1


def test_when_the_scheduler_is_gone_what_was_told_is_there_and_the_rest_says_why(
    cluster, tmp_path, binary, child, monkeypatch
):
    monkeypatch.setattr(distributed, "_GONE", 2.0)
    monkeypatch.setattr(distributed, "_COUNT", 0.3)
    worker = cluster.worker()
    hosts = slow_hosts(tmp_path, binary, 30)

    real = distributed.Ledger.settle

    def settle(self, task, told):
        real(self, task, told)
        if self.outcome.answered == 2:
            cluster.scheduler.kill()

    monkeypatch.setattr(distributed.Ledger, "settle", settle)
    outcome, data = recorded(cluster, tmp_path, hosts, select=(f"pid:{child}",))
    worker.kill()
    assert 2 <= outcome.answered < 30 and outcome.settled == 30
    reasons = {row["reason"] for row in rows_of(data, "hosts") if row["status"] == "failed"}
    assert all("gone" in reason or "worker" in reason for reason in reasons), reasons


def test_a_scheduler_that_is_none_or_has_no_worker_is_told(cluster, tmp_path, monkeypatch, child):
    monkeypatch.setattr(distributed, "_CONNECT", 1.0)
    with pytest.raises(TargetLost, match="has no worker"):
        recorded(cluster, tmp_path, [Host("here", "local")])
    cluster.end()
    with pytest.raises(TargetLost, match="no Dask scheduler answers"):
        recorded(cluster, tmp_path, [Host("here", "local")])
    cluster.url = "nonsense://x"
    with pytest.raises((UsageError, TargetLost)):
        recorded(cluster, tmp_path, [Host("here", "local")])
