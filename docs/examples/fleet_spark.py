"""The data set of a fleet, read by Spark: deleted code by host, and the memory of each program.

python fleet_spark.py DATASET [MASTER]        spark://HOST:7077, or local-cluster[2,1,1024]: two workers here
"""

from __future__ import annotations

import sys

from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f


def session(master: str = "local[*]") -> SparkSession:
    """A session that leaves the names of hosts as they are: one that is called 007 is no number."""
    return (
        SparkSession.builder.master(master)
        .appName("vmatlas-fleet")
        .config("spark.sql.sources.partitionColumnTypeInference.enabled", "false")
        .config("spark.sql.parquet.mergeSchema", "true")  # files of several versions: what one lacks is null
        .getOrCreate()
    )


def table(spark: SparkSession, data: str, name: str) -> DataFrame:
    """A table of a data set. Addresses (64 bits, without a sign) are decimals here."""
    return spark.read.parquet(f"{data}/{name}")


def deleted(spark: SparkSession, data: str) -> DataFrame:
    """Files that are mapped though they have been unlinked, by day and host."""
    found = table(spark, data, "regions").where(f.col("deleted") & (f.col("kind") == "file"))
    return found.select("day", "host", "pid", "path").distinct().orderBy("day", "host", "pid", "path")


def memory(spark: SparkSession, data: str) -> DataFrame:
    """What each program uses, by day."""
    used = f.sum(f.coalesce("proportional", "resident")).alias("bytes")
    return (
        table(spark, data, "processes")
        .groupBy("day", "name")
        .agg(used, f.count("*").alias("processes"))
        .orderBy("day", "name")
    )


if __name__ == "__main__":
    spark = session(*sys.argv[2:3])
    deleted(spark, sys.argv[1]).show(truncate=False)
    memory(spark, sys.argv[1]).show()
    spark.stop()
