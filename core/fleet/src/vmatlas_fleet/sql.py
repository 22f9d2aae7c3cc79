"""A data set as tables of DuckDB: views for each table, and functions for addresses, sizes and versions.

A data set may be somebody else's, and a file of some KiB may hold any number of rows: what the engine takes has a
limit, and so has what of an answer is held at once.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from vmatlas.errors import MalformedData, UsageError, VmatlasError, legible
from vmatlas.patience import THREAD
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
MOST_MEMORY = "2GiB"
"""What the engine holds at once; beyond it writes to a folder of its own, of at most `MOST_SPILLED`."""
MOST_SPILLED = "16GiB"
MOST_THREADS = 16
MOST_OF_ANSWER = 1 << 28
"""Bytes, about, of an answer that is held as a whole."""
_ENDING = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
_INTERRUPTED = "Query interrupted"
"""What its bindings say in the place of KeyboardInterrupt, where they look for signals first: a RuntimeError."""
_AT_ONCE = 16
"""Rows that are taken of an answer at once: in the engine a long text that they share stands once."""
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


@contextlib.contextmanager
def opened(location: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the views and functions of a data set. Raises UsageError, OSError, Unsupported,
    MalformedData for a file of it that is none."""
    database: Any = needed("duckdb")
    data = DataSet.at(location, makes=False)
    with tempfile.TemporaryDirectory(prefix="vmatlas-sql-", ignore_cleanup_errors=True) as spilled:
        connection = database.connect(config=_limits(spilled))
        try:
            with _ended_by_signals(connection):
                yield _prepared(connection, data, location)
        except database.Error as error:
            raise _damage(connection, error, location) or _story(error, database) from None
        except VmatlasError as told:
            if not isinstance(told.__cause__, database.Error):
                raise
            raise _damage(connection, told.__cause__, location) or told from None
        finally:
            connection.close()


@contextlib.contextmanager
def _ended_by_signals(connection: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Ctrl-C ends what the engine does at once: by itself it looks for signals between its steps, which may last.

    A thread waits for signals, where this one can be told of them and another one can be had.
    """
    try:
        told, tell = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        yield
        return
    over = threading.Event()

    def wait() -> None:
        while not over.is_set():
            if select.select([told], [], [], 1.0)[0] and _ENDING & set(os.read(told, 64)) and not over.is_set():
                connection.interrupt()

    watching = threading.Thread(target=wait, name=THREAD, daemon=True)
    before: int | None = None
    try:
        with contextlib.suppress(RuntimeError, ValueError):  # no thread to be had; or this is not the main one
            watching.start()
            before = signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        yield
    finally:
        over.set()
        if before is not None:
            signal.set_wakeup_fd(before)
        if watching.ident is not None:
            os.write(tell, b"\0")
            watching.join()
        os.close(told)
        os.close(tell)


def _limits(spilled: str) -> dict[str, Any]:
    return {
        "autoinstall_known_extensions": "false",  # nothing is fetched by itself
        "memory_limit": MOST_MEMORY,
        "threads": min(os.cpu_count() or 1, MOST_THREADS),
        "temp_directory": spilled,
        "max_temp_directory_size": MOST_SPILLED,
    }


def _prepared(connection: duckdb.DuckDBPyConnection, data: DataSet, location: str) -> duckdb.DuckDBPyConnection:
    """With all views and functions. Raises what the engine does, and OSError, MalformedData."""
    if isinstance(data.storage, Remote):
        connection.register_filesystem(data.storage.files)
    connection.execute("SET enable_progress_bar = false")  # it goes to standard output
    connection.execute("SET parquet_metadata_cache = true")  # a fleet has many small files
    for _, made in FUNCTIONS.values():
        connection.execute(made)
    for table in TABLES:
        if isinstance(data.storage, Folder):
            data.storage.check(table.name)
        connection.execute(_view(connection, table, location))
    for made in _now():
        connection.execute(made)
    return connection


def ask(connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object] | None = None) -> Result:
    """What a statement gives, as a whole. Raises UsageError, with what the engine says of it, or for too much of it."""
    columns, rows = ask_by_rows(connection, query, parameters)
    held: list[tuple[Any, ...]] = []
    size = 0
    for row in rows:
        size += 64 + sum(map(_size, row))
        if size > MOST_OF_ANSWER:
            raise UsageError(
                f"the answer has more than {len(held):,} rows, and takes more than {MOST_OF_ANSWER >> 20} MiB",
                hint="ask for less (LIMIT, fewer columns); --csv holds no answer as a whole",
            )
        held.append(row)
    return Result(columns, held)


def ask_by_rows(
    connection: duckdb.DuckDBPyConnection, query: str, parameters: Mapping[str, object] | None = None
) -> tuple[tuple[str, ...], Iterator[tuple[Any, ...]]]:
    """The columns of what a statement gives, and its rows as the engine makes them. Raises UsageError, then as well."""
    database: Any = needed("duckdb")
    try:
        done = connection.execute(query, dict(parameters) if parameters else None)
        columns = tuple(each[0] for each in done.description or ())
    except (database.Error, RuntimeError) as error:
        raise _story(error, database) from error

    def rows() -> Iterator[tuple[Any, ...]]:
        try:
            while some := done.fetchmany(_AT_ONCE):
                yield from some
        except (database.Error, RuntimeError) as error:
            raise _story(error, database) from error

    return columns, rows() if columns else iter(())


def _size(value: Any) -> int:
    """Bytes that a value takes, about."""
    if isinstance(value, (str, bytes)):
        return 64 + len(value)
    if isinstance(value, dict):
        return 256 + sum(_size(key) + _size(each) for key, each in value.items())
    if isinstance(value, (list, tuple)):
        return 64 + sum(map(_size, value))
    return 64


def _story(error: Exception, database: Any) -> VmatlasError:
    """What is wrong with the question is the user's; what is wrong with files or memory is not."""
    if isinstance(error, database.InterruptException) or str(error) == _INTERRUPTED:
        raise KeyboardInterrupt from None
    if not isinstance(error, database.Error):
        raise error
    said = legible(" ".join(str(error).split()), 400)
    if isinstance(error, database.OutOfMemoryException):
        hint = f"SQL that begins with SET memory_limit = '8GiB'; has more than {MOST_MEMORY}"
        return VmatlasError(said, hint=None if "bad allocation" in said else hint)  # that is the system's limit
    if isinstance(error, (database.IOException, database.InternalException)):
        return VmatlasError(said)
    return UsageError(said, hint="vmatlas sql --tables tells which tables, columns and functions there are")


def _damage(connection: duckdb.DuckDBPyConnection, error: Exception, location: str) -> MalformedData | None:
    """The first file of a data set that is not as it should be, where that can be why the engine failed."""
    database: Any = needed("duckdb")
    if isinstance(error, (database.ParserException, database.CatalogException, database.OutOfMemoryException)):
        return None  # of the question, or of this machine
    unnamed = type(error) is database.Error  # what was wrong with a page, and not where
    for table in TABLES:
        wanted = {each.name: _TYPES[each.type] for each in table.columns}
        asked = connection.execute("SELECT file FROM glob($pattern)", {"pattern": _pattern(table, location)})
        files = [row[0] for row in asked.fetchall()]
        if not unnamed and not any(file in str(error) for file in files):
            with contextlib.suppress(database.Error):
                if not files or not _odd(connection, _source(connection, table, location)[0], wanted):
                    continue  # so it is what was asked, and not what is there
        for file in files:
            name = f"{table.name}/{file.rpartition(f'/{table.name}/')[2]}"
            alone = f"read_parquet({_literal(file)}, hive_partitioning = false)"
            told = error
            try:
                if (odd := _odd(connection, alone, wanted)) is not None:
                    return MalformedData(name, 0, odd)
                if unnamed:
                    connection.execute(f"SELECT max(hash(COLUMNS(*))) FROM {alone}").fetchall()
                if file not in str(error):
                    continue
            except database.Error as found:
                told = found
            return MalformedData(name, 0, f"a table in Parquet ({legible(' '.join(str(told).split()), 200)})")
    return None


def _odd(connection: duckdb.DuckDBPyConnection, source: str, wanted: Mapping[str, str]) -> str | None:
    """What of its columns should be there, where one has another type than the documented one."""
    for name, kind, *_ in connection.execute(f"DESCRIBE SELECT * FROM {source}").fetchall():
        if wanted.get(name, kind) != kind:
            return f"a column {name} of {wanted[name]}, not {legible(kind, 100)}"
    return None


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


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


def _pattern(table: Table, location: str) -> str:
    escaped = "".join(f"[{each}]" if each in "*?[" else each for each in location.removeprefix("file://"))
    return f"{escaped.rstrip('/')}/{table.name}/day=*/host=*/*.parquet"


def _source(connection: duckdb.DuckDBPyConnection, table: Table, location: str) -> tuple[str, list[str]]:
    """What reads its files, and which columns these have; nothing where there is no file."""
    database: Any = needed("duckdb")
    types = ", ".join(f"'{name}': {kind}" for name, kind in _PARTITIONS.items())
    source = (
        f"read_parquet({_literal(_pattern(table, location))}, hive_partitioning = true, "
        f"hive_types_autocast = false, hive_types = {{{types}}}, "
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
