"""A data set as tables of DuckDB: views for each table, and functions for addresses, sizes and versions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from vmatlas.errors import UsageError, VmatlasError, legible
from vmatlas_fleet.dataset import DataSet
from vmatlas_fleet.extras import needed
from vmatlas_fleet.schema import HOSTS, TABLES, Table
from vmatlas_fleet.storage import Folder, Remote

if TYPE_CHECKING:
    import duckdb

_TYPES = {
    "uint64": "UBIGINT",
    "int64": "BIGINT",
    "bool": "BOOLEAN",
    "text": "VARCHAR",
    "word": "VARCHAR",
    "time": "TIMESTAMP",
    "seconds": "DOUBLE",
    "texts": "VARCHAR[]",
    "labels": "MAP(VARCHAR, VARCHAR)",
}
_PARTITIONS = {"day": "DATE", "host": "VARCHAR"}

_UNITS = "['', 'K', 'M', 'G', 'T', 'P']"

FUNCTIONS = {
    "address(number)": (
        "an address as maps show it: 0x7f0012345000",
        "CREATE MACRO address(number) AS '0x' || lower(to_hex(number::UBIGINT))",
    ),
    "address_of(text)": (
        "the number of an address in hexadecimal, with or without 0x",
        "CREATE MACRO address_of(word) AS list_reduce(list_prepend(0::UBIGINT, list_transform(string_split(lower("
        "regexp_replace(word, '^0[xX]', '')), ''), lambda digit: (instr('0123456789abcdef', digit) - 1)::UBIGINT)), "
        "lambda before, digit: before * 16 + digit)",
    ),
    "size_text(number)": (
        "bytes in powers of 1024: 1.5M",
        "CREATE MACRO size_text(number) AS (SELECT CASE WHEN number IS NULL THEN NULL WHEN power < 1 THEN "
        f"number::VARCHAR ELSE printf('%.1f', number / pow(1024, power)) || {_UNITS}[power + 1] END FROM (SELECT "
        "CASE WHEN number = 0 THEN 0 ELSE least(5, floor(log(abs(number)) / log(1024)))::INTEGER END AS power))",
    ),
    "bytes(text)": (
        "the number of such a size: 1.5M",
        "CREATE MACRO bytes(word) AS (regexp_extract(upper(word), '^[0-9.]+')::DOUBLE * "
        f"pow(1024, list_position({_UNITS}, "
        "regexp_extract(upper(word), '^[0-9.]+([KMGTP]?)', 1)) - 1))::BIGINT",
    ),
    "readable(protection)": (
        "whether it may be read; likewise writable, executable",
        "CREATE MACRO readable(protection) AS contains(protection, 'r')",
    ),
    "writable(protection)": ("", "CREATE MACRO writable(protection) AS contains(protection, 'w')"),
    "executable(protection)": ("", "CREATE MACRO executable(protection) AS contains(protection, 'x')"),
    "file_name(path)": (
        "the path without its folders",
        "CREATE MACRO file_name(path) AS regexp_extract(path, '[^/]*$')",
    ),
    "library(path)": (
        "what a library is called without its version: libssl",
        "CREATE MACRO library(path) AS regexp_replace(file_name(path), '(-[0-9][0-9.]*)?\\.so(\\.[0-9.]+)?$', '')",
    ),
    "version(path)": (
        "the version in its name: 1.1 of libssl.so.1.1, 2.31 of libc-2.31.so; else null",
        "CREATE MACRO version(path) AS coalesce(nullif(regexp_extract(path, '\\.so\\.([0-9][0-9.]*)$', 1), ''), "
        "nullif(regexp_extract(path, '-([0-9][0-9.]*)\\.so$', 1), ''))",
    ),
    "version_order(text)": (
        "a version as something that '<' compares number by number: 1.10 is above 1.9",
        "CREATE MACRO version_order(word) AS list_transform(string_split(word, '.'), "
        "lambda part: coalesce(try_cast(part AS BIGINT), -1))",
    ),
}
"""What a query may call, with what it is for."""

_NOW = {"regions": "maps", "findings": "audit", "pages": "pages"}
"""Of which recording the newest is meant: of those that asked for it."""


class Result(NamedTuple):
    """What a query gave."""

    columns: tuple[str, ...]
    rows: list[tuple[Any, ...]]


@contextmanager
def opened(location: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views and functions of a data set. Raises UsageError, OSError, Unsupported."""
    database: Any = needed("duckdb")
    data = DataSet.at(location, makes=False)
    connection = database.connect(config={"autoinstall_known_extensions": "false"})  # nothing is fetched by itself
    try:
        if isinstance(data.storage, Remote):
            connection.register_filesystem(data.storage.files)
        connection.execute("SET parquet_metadata_cache = true")  # a fleet has many small files
        for _, made in FUNCTIONS.values():
            connection.execute(made)
        for table in TABLES:
            if isinstance(data.storage, Folder):
                data.storage.check(table.name)
            connection.execute(_view(connection, table, location))
        for made in _now():
            connection.execute(made)
        yield connection
    except database.Error as error:
        raise _story(error, database) from None
    finally:
        connection.close()


def ask(connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object] | None = None) -> Result:
    """What a statement gives. Raises UsageError, with what the engine says of it."""
    database: Any = needed("duckdb")
    try:
        done = connection.execute(query, dict(parameters) if parameters else None)
        return Result(tuple(each[0] for each in done.description or ()), done.fetchall())
    except database.Error as error:
        raise _story(error, database) from None


def _story(error: Exception, database: Any) -> VmatlasError:
    """What is wrong with the question is the user's; what is wrong with files or memory is not."""
    said = legible(" ".join(str(error).split()), 400)
    if isinstance(error, (database.IOException, database.OutOfMemoryException, database.InternalException)):
        return VmatlasError(said)
    return UsageError(said, hint="vmatlas sql --tables tells which tables, columns and functions there are")


def quoted(name: str) -> str:
    """A name as SQL has it: what files call their columns is a name and nothing else, whatever stands in it."""
    return '"' + name.replace('"', '""') + '"'


def _view(connection: duckdb.DuckDBPyConnection, table: Table, location: str) -> str:
    """A table as it is documented: what older files lack is null, and what newer ones have besides is there."""
    types = {each.name: _TYPES[each.type] for each in table.columns} | _PARTITIONS
    source, told = _source(connection, table, location)
    columns = [
        quoted(name) if name in told else f"CAST(NULL AS {kind}) AS {quoted(name)}" for name, kind in types.items()
    ] + [quoted(name) for name in told if name not in types]
    empty = "" if source else " WHERE false"
    return f"CREATE VIEW {quoted(table.name)} AS SELECT {', '.join(columns)} FROM {source or '(SELECT 1)'}{empty}"


def _source(connection: duckdb.DuckDBPyConnection, table: Table, location: str) -> tuple[str, list[str]]:
    """What reads its files, and which columns these have; nothing where there is no file."""
    database: Any = needed("duckdb")
    escaped = "".join(f"[{each}]" if each in "*?[" else each for each in location.removeprefix("file://"))
    pattern = f"{escaped.rstrip('/')}/{table.name}/day=*/host=*/*.parquet".replace("'", "''")
    types = ", ".join(f"'{name}': {kind}" for name, kind in _PARTITIONS.items())
    source = (
        f"read_parquet('{pattern}', hive_partitioning = true, hive_types_autocast = false, hive_types = {{{types}}}, "
        "union_by_name = true)"
    )
    try:
        told = connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall()
    except database.IOException as error:
        if "No files found" not in str(error):
            raise
        return "", []
    return source, [row[0] for row in told]


def _now() -> Iterator[str]:
    """Of each host what its newest recording told that asked for it."""
    yield (
        "CREATE TABLE newest AS SELECT host, word, max(run) AS run FROM (SELECT host, run, status, "
        "unnest(string_split(what, ',')) AS word FROM hosts) WHERE status <> 'failed' GROUP BY ALL"
    )
    yield (
        "CREATE VIEW hosts_now AS SELECT * FROM hosts WHERE (host, run) IN "
        "(SELECT host, max(run) FROM hosts GROUP BY host)"
    )
    yield (
        "CREATE VIEW processes_now AS SELECT * FROM processes WHERE (host, run) IN "
        "(SELECT host, max(run) FROM newest GROUP BY host)"
    )
    yield (
        "CREATE VIEW memory_now AS SELECT * FROM processes WHERE (host, run) IN "
        "(SELECT host, run FROM newest WHERE word = 'memory')"
    )
    for name, word in _NOW.items():
        yield (
            f"CREATE VIEW {name}_now AS SELECT * FROM {name} WHERE (host, run) IN "
            f"(SELECT host, run FROM newest WHERE word = '{word}')"
        )


VIEWS = {
    "hosts_now": "of each host its newest row, failed or not",
    "processes_now": "of each host the processes of the newest recording that it answered",
    "memory_now": "the same of the newest that asked for memory",
    **{f"{name}_now": f"the same of {name}, of the newest that asked for {word}" for name, word in _NOW.items()},
    "newest": "of each host and word of --what the newest recording that it answered",
}
"""Beside the tables themselves."""


def tables() -> Sequence[Table]:
    """Those that there are, `hosts` first."""
    return sorted(TABLES, key=lambda each: each is not HOSTS)
