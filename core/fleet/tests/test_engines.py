"""The same data set read by Polars, Dask and Spark, for real, by the examples of the documents: all tell the same."""

from __future__ import annotations

import importlib.util
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from vmatlas.conformance.patience import PATIENCE

from .made import make

EXAMPLES = Path(__file__).parents[3] / "docs" / "examples"
HOW = "./run invoke fleet-engines installs it, and runs these"

DELETED = [("2026-11-30", "web-2", 20, "/usr/lib/libssl.so.1.1")]
MEMORY = {
    ("2026-11-16", "nginx"): 19_000_000,
    ("2026-11-16", "redis"): 3_000_000,
    ("2026-11-23", "nginx"): 29_000_000,
    ("2026-11-23", "redis"): 3_000_000,
    ("2026-11-30", "nginx"): 35_000_000,
    ("2026-11-30", "redis"): 3_000_000,
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("engines") / "atlas"
    make(folder)
    return str(folder)


def example(name: str) -> dict[str, Any]:
    return runpy.run_path(str(EXAMPLES / f"fleet_{name}.py"))


def test_polars_reads_it(data):
    pytest.importorskip("polars", reason=f"Polars is not installed: {HOW}")
    told = example("polars")
    assert [(str(row[0]), *row[1:]) for row in told["deleted"](data).rows()] == DELETED
    assert {(str(row[0]), row[1]): row[2] for row in told["memory"](data).rows()} == MEMORY


def test_dask_reads_it_by_two_workers(data, tmp_path, monkeypatch):
    for library in ("distributed", "pandas"):
        pytest.importorskip(library, reason=f"Dask is not installed: {HOW}")
    from distributed import Client, LocalCluster

    monkeypatch.chdir(tmp_path)  # workers keep what they have no room for in the folder that they are in
    told = example("dask")
    with LocalCluster(  # noqa: SIM117
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, host="127.0.0.1"
    ) as cluster:
        with Client(cluster) as client:
            assert len(client.nthreads()) == 2
            assert [tuple(row) for row in told["deleted"](data).itertuples(index=False)] == DELETED
            assert told["memory"](data).to_dict() == MEMORY


SPARK = """
import json, runpy, sys
told = runpy.run_path(sys.argv[1])
spark = told["session"](sys.argv[3])
spark.sparkContext.setLogLevel("OFF")
deleted = [list(row) for row in told["deleted"](spark, sys.argv[2]).collect()]
memory = [[row["day"], row["name"], row["bytes"]] for row in told["memory"](spark, sys.argv[2]).collect()]
first = told["table"](spark, sys.argv[2], "regions").selectExpr("min(start)", "count(*)").first()
workers = spark.sparkContext._jsc.sc().getExecutorMemoryStatus().size() - 1  # and the driver
print(json.dumps([deleted, memory, int(first[0]), first[1], workers]))
spark.stop()
"""


@pytest.mark.timeout(4 * PATIENCE)
def test_spark_reads_it_by_two_workers(data, tmp_path):
    import json

    pytest.importorskip("pyspark", reason=f"Spark is not installed: {HOW}")
    if shutil.which("java") is None:
        pytest.skip("Spark takes a Java, which is not here: apt-get install default-jre-headless")
    home = importlib.util.find_spec("pyspark")
    assert home is not None and home.submodule_search_locations
    environment = os.environ | {
        "SPARK_HOME": home.submodule_search_locations[0],
        "SPARK_LOCAL_IP": "127.0.0.1",
        "SPARK_WORKER_DIR": str(tmp_path),
        "PYSPARK_PYTHON": sys.executable,
        "PYSPARK_SUBMIT_ARGS": "--conf spark.ui.enabled=false --conf spark.sql.shuffle.partitions=2 pyspark-shell",
    }
    command = [sys.executable, "-c", SPARK, EXAMPLES / "fleet_spark.py", data, "local-cluster[2,1,1024]"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=3 * PATIENCE, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    deleted, memory, first, count, workers = json.loads(done.stdout.strip().splitlines()[-1])
    assert [tuple(row) for row in deleted] == DELETED
    assert {(day, name): used for day, name, used in memory} == MEMORY
    assert (first, count) == (0x7F0000000000, 44)
    assert workers == 2
