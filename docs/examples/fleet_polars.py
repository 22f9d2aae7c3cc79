"""The data set of a fleet, read by Polars: deleted code by host, and the memory of each program.

python fleet_polars.py DATASET
"""

from __future__ import annotations

import sys

import polars as pl

HIVE = {"day": pl.Date, "host": pl.String}  # a host that is called 007 keeps its name


def table(data: str, name: str) -> pl.LazyFrame:
    """A table of a data set, read as far as a question needs it. Columns that older files lack are null."""
    return pl.scan_parquet(
        f"{data}/{name}/day=*/host=*/*.parquet",
        hive_partitioning=True,
        hive_schema=HIVE,
        missing_columns="insert",
        extra_columns="ignore",
    )


def deleted(data: str) -> pl.DataFrame:
    """Files that are mapped though they have been unlinked, by day and host."""
    found = table(data, "regions").filter(pl.col("deleted") & (pl.col("kind") == "file"))
    return found.select("day", "host", "pid", "path").unique().sort("day", "host", "pid", "path").collect()


def memory(data: str) -> pl.DataFrame:
    """What each program uses, by day."""
    used = pl.coalesce("proportional", "resident").sum().alias("bytes")
    return (
        table(data, "processes")
        .group_by("day", "name")
        .agg(used, pl.len().alias("processes"))
        .sort("day", "name")
        .collect()
    )


if __name__ == "__main__":
    print(deleted(sys.argv[1]), memory(sys.argv[1]))
