"""One recorded run over all that is at hand: `python -P -m tests.bench.fleet_run --machines linux-6.12,linux-6.1-i386`.

This host, sshd's in namespaces, machines in QEMU (one at a time), and a host that is not there, in one recording; the
queries that ship, asked of it; and the sshd's once more by a Dask scheduler with two workers, of which one is killed
(where Dask is installed: ./run invoke fleet-engines). Takes root. It ends with 1 when something was lost or counted
twice.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from vmatlas_fleet import queries
from vmatlas_fleet.sql import ask, opened

PATIENCE = 1200.0
VMATLAS = [sys.executable, "-P", "-c", "import sys; from vmatlas.cli import main; sys.exit(main())"]
ODD = """
import mmap, os, shutil, sys
program = shutil.copy("/bin/sleep", sys.argv[1])
if not os.fork():
    os.execv(program, [program, "3600"])
held = mmap.mmap(-1, 65536, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
sys.stdin.read(1)
os.unlink(program)
print("ready", flush=True)
sys.stdin.read()
"""
"""A program whose file has been unlinked, and one with memory that may be written and executed."""


def main() -> int:
    """All of it; what came of it, line by line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sshds", type=int, default=24)
    parser.add_argument("--machines", default="", help="names of machines, with commas between them")
    parser.add_argument("--data", help="where the data set is to stay (nowhere)")
    options = parser.parse_args()
    machines = [name for name in options.machines.split(",") if name]
    with tempfile.TemporaryDirectory() as folder:
        space = Path(folder)
        there = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.bench.namespaces", folder, str(options.sshds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        odd = subprocess.Popen(
            [sys.executable, "-c", ODD, str(space / "program")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        try:
            assert there.stdout is not None and odd.stdin is not None and odd.stdout is not None
            addresses = json.loads(there.stdout.readline())
            os.environ["PATH"] = f"{space}/sshd/bin:{os.environ['PATH']}"
            odd.stdin.write(b"x")
            odd.stdin.flush()
            odd.stdout.readline()
            return _run(space, options.data or str(space / "atlas"), addresses, machines)
        finally:
            odd.kill()
            odd.communicate()
            there.communicate(timeout=PATIENCE)


def _run(space: Path, data: str, addresses: list[str], machines: list[str]) -> int:
    sshds = {f"ns-{number:02}": f"ssh:root@{address}" for number, address in enumerate(addresses, 1)}
    here = {"here": "local", "nowhere": "tcp:127.0.0.1:1"}
    asked = [
        "--what",
        "maps,memory,audit,pages",
        "--build-ids",
        "--deadline",
        "15m",
        "--patience",
        "60",
        "--retries",
        "1",
    ]
    bad = 0
    _record(space, data, here | sshds, *asked, "--concurrency", "8")
    if machines:  # the same recording goes on, with one at a time
        vms = {name: f"qemu:{name}" for name in machines}
        _record(space, data, here | sshds | vms, *asked, "--concurrency", "1", "--resume")
    with opened(data) as connection:
        shown = ask(
            connection,
            "select name, status, system, release, machine, processes, regions, findings, seconds, reason "
            "from hosts_now order by name not like 'ns-%', name",
        )
        bad += len(shown.rows) != len(here) + len(sshds) + len(machines)
        for row in shown.rows:
            print("  ".join("-" if value is None else str(value) for value in row))
        sums = ask(
            connection, "select count(distinct host), count(*), count(distinct (host, run, pid)) from regions_now"
        )
        print(f"{sums.rows[0][0]} hosts, {sums.rows[0][1]:,} regions of {sums.rows[0][2]:,} processes in one recording")
        for query in map(queries.query, queries.names()):
            given = {"library": "libc", "before": "9"} if query.name == "old-libraries" else {}
            began = time.monotonic()
            found = ask(connection, query.sql, query.values(given))
            print(f"{query.name}: {len(found.rows):,} rows in {time.monotonic() - began:.2f} s")
    if importlib.util.find_spec("distributed") is None:
        print("by Dask: not run, it is not installed (./run invoke fleet-engines)")
        return 1
    return _by_dask(space, data, sshds) or bad


def _record(space: Path, data: str, hosts: dict[str, str], *options: str) -> str:
    inventory = space / "inventory.yaml"
    inventory.write_text(json.dumps({"hosts": hosts}))
    command = [*VMATLAS, "fleet", "record", str(inventory), "--to", data, *options]
    began = time.monotonic()
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, check=False)
    print(done.stderr.rstrip())
    print(f"exit {done.returncode}, {time.monotonic() - began:.1f} s with its start", flush=True)
    return done.stderr


def _by_dask(space: Path, data: str, sshds: dict[str, str]) -> int:
    """The sshd's again, by two workers of which one is killed as soon as a host was written. Gives 1 for a loss."""
    file = space / "scheduler.json"

    def begin(module: str, *words: object) -> subprocess.Popen[bytes]:
        code = f"from {module} import main; main()"
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *map(str, words)], cwd=space, stderr=subprocess.DEVNULL
        )

    programs = [
        begin(
            "distributed.cli.dask_scheduler",
            "--host",
            "127.0.0.1",
            "--port",
            0,
            "--no-dashboard",
            "--scheduler-file",
            file,
        )
    ]
    try:
        _wait_for(lambda: file.exists() and file.read_text().strip())
        url = json.loads(file.read_text())["address"]
        worker = ("--nthreads", 2, "--no-nanny", "--no-dashboard", "--local-directory", space, "--host", "127.0.0.1")
        programs += [begin("distributed.cli.dask_worker", url, *worker) for _ in range(2)]
        inventory = space / "inventory.yaml"
        inventory.write_text(json.dumps({"hosts": sshds}))
        before = set(Path(data).glob("hosts/*/*/*.parquet"))
        command = [*VMATLAS, "fleet", "record", str(inventory), "--to", data, "--scheduler", url, "--concurrency", "4"]
        began = time.monotonic()
        recording = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        _wait_for(lambda: set(Path(data).glob("hosts/*/*/*.parquet")) - before or recording.poll() is not None)
        told = len(set(Path(data).glob("hosts/*/*/*.parquet")) - before)
        programs[1].kill()
        _, said = recording.communicate(timeout=PATIENCE)
        print(f"by Dask, a worker killed when {told} of {len(sshds)} hosts were written:\n{said.rstrip()}")
        print(f"exit {recording.returncode}, {time.monotonic() - began:.1f} s with its start")
        with opened(data) as connection:
            newest = ask(
                connection,
                "select count(*), count(distinct name), count(*) filter (status = 'answered') from hosts where run = "
                "(select max(run) from hosts)",
            ).rows[0]
        print(f"rows of hosts: {newest[0]}, names: {newest[1]}, answered: {newest[2]}")
        return int(tuple(newest) != (len(sshds),) * 3)
    finally:
        for program in programs:
            program.kill()
            program.wait()


def _wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
