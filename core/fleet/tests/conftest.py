"""What the tests of a fleet share: a data set to record into, and hosts of this machine that answer, or fail."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from vmatlas.cli.program import program

pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")

import pyarrow.parquet as pq

from vmatlas_fleet.asking import Order
from vmatlas_fleet.dataset import DataSet, Run, new_run
from vmatlas_fleet.hosts import Host
from vmatlas_fleet.recording import Outcome, Pace, record

Rows = list[dict[str, Any]]


@pytest.fixture
def run() -> Callable[..., Result]:
    """A command in this process; `input` is its standard input."""

    def invoke(*arguments: object, input: str = "") -> Result:
        return CliRunner().invoke(program, [str(each) for each in arguments], input=input)

    return invoke


@pytest.fixture
def child() -> Iterator[int]:
    """A process that stands still."""
    still = [sys.executable, "-c", "import os; os.write(1, b'x'); os.read(0, 1)"]
    with subprocess.Popen(still, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as sleeping:
        assert sleeping.stdout is not None and sleeping.stdout.read(1)
        yield sleeping.pid
        sleeping.kill()


def rows_of(data: Path, table: str) -> Rows:
    """All that a table holds, with the host and the day that the folders tell, by host."""
    found: Rows = []
    for file in sorted(data.glob(f"{table}/day=*/host=*/*.parquet")):
        day, host = file.parent.parent.name.removeprefix("day="), file.parent.name.removeprefix("host=")
        told = pq.read_table(io.BytesIO(file.read_bytes())).to_pylist()
        found += [each | {"day": day, "host": host} for each in told]
    return found


QUICK = Pace(retries=0)


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., tuple[Outcome, Path]]:
    """Record some hosts into a data set: what came of it, and where it lies."""

    def one(*hosts: Host, pace: Pace = QUICK, into: str = "atlas", run: Run | None = None, **order: Any):
        data = DataSet.at(str(tmp_path / into))
        what = tuple(order.pop("what", ("maps",)))
        begun = run or new_run(what=what, select=order.get("select", ()), options={}, hosts=len(hosts))
        data.begin(begun)
        outcome = record(hosts, Order(begun.run, frozenset(what), **order), pace, data, begun)
        return outcome, tmp_path / into

    return one
