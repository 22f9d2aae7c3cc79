"""The data set of a fleet, read by Dask: deleted code by host, and the memory of each program.

python fleet_dask.py DATASET [SCHEDULER]      tcp://HOST:8786; without: threads of this process
"""

from __future__ import annotations

import sys
from typing import Any

import dask.dataframe as dd
import pyarrow as pa
import pyarrow.dataset as ds

PARTITIONING = ds.HivePartitioning(pa.schema([("day", pa.date32()), ("host", pa.string())]))  # 007 is no number


def table(data: str, name: str, columns: list[str]) -> Any:
    """Columns of a table of a data set, a part for each file or some."""
    return dd.read_parquet(f"{data}/{name}", columns=columns, dataset={"partitioning": PARTITIONING})


def deleted(data: str) -> Any:
    """Files that are mapped though they have been unlinked, by day and host."""
    found = table(data, "regions", ["day", "host", "pid", "path", "deleted", "kind"])
    found = found[found.deleted.fillna(False).astype(bool) & (found.kind == "file")]
    told = found[["day", "host", "pid", "path"]].drop_duplicates().compute()
    return told.astype({"day": str, "host": str}).sort_values(["day", "host", "pid", "path"])


def memory(data: str) -> Any:
    """What each program uses, by day."""
    found = table(data, "processes", ["day", "name", "proportional", "resident"])
    found = found.assign(day=found.day.astype(str), bytes=found.proportional.fillna(found.resident))
    return found.groupby(["day", "name"]).bytes.sum().compute().sort_index()


if __name__ == "__main__":
    if sys.argv[2:]:
        from distributed import Client

        Client(sys.argv[2])
    print(deleted(sys.argv[1]), memory(sys.argv[1]))
