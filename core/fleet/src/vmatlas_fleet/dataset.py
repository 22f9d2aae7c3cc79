"""A data set: a folder for each table, in it one for each day and host, in it a file for each recording.

    regions/day=2026-11-30/host=web-1/20261130T140501Z-4f3a9c.parquet
    processes/  findings/  pages/  hosts/          the same; a host's file in hosts/ is written last
    captures/4f/4f3a....vmatlas                    by digest, where they were asked for
    _runs/20261130T140501Z-4f3a9c.json             what was asked, for --resume
    vmatlas-fleet.json                             the version of the schema

A recording of a host is there when its row in `hosts` is: who reads takes no other. A file is replaced by the next
attempt of the same recording at the same host, so nothing counts twice.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import secrets
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import quote, unquote

from vmatlas.errors import MalformedData, UsageError, legible
from vmatlas_fleet.extras import needed
from vmatlas_fleet.schema import HOSTS, TABLES, VERSION
from vmatlas_fleet.storage import Folder, Storage, storage_of

if TYPE_CHECKING:
    import pyarrow

MARK = "vmatlas-fleet.json"
RUNS = "_runs"
_MOST_TOLD = 1 << 26
"""Bytes of what is said of a data set or a recording: as many as an inventory may have."""
_MOST_OF_ROW = 1 << 24
"""Bytes of a host's one row."""
_MOST_OF_WORD = 512
"""Bytes that the one word of it which is read may take in the file. What zstd has packed unpacks to at most some thirty
thousand times that: whatever a file claims of itself, some megabytes come of it."""
_MOST_OF_LISTS = 256
"""Columns of it, and other things that the end of a file lists: readers make much of few bytes there."""
CAPTURES = "captures"
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}T", re.ASCII)
_DELTA = ("start", "pid", "start_time")
"""Columns that are written as what each is more than the one before: they rise."""
_RANGED = ("pid", "start", "size", "began")
"""Columns of which each part of a file tells the least and the most."""


@dataclass(frozen=True, slots=True)
class Run:
    """One recording: when it began, and what it asks."""

    run: str
    began: str
    """ISO 8601, UTC."""
    what: tuple[str, ...]
    select: tuple[str, ...]
    options: Mapping[str, object]
    """What else makes answers differ: build_ids, captures, policy, ..."""
    hosts: int
    """How many the inventory has."""
    vmatlas: str
    schema: int = VERSION

    @property
    def day(self) -> str:
        """The day that it is filed under, also when it goes on over midnight."""
        return self.began[:10]

    def asks(self) -> dict[str, object]:
        """What a going on must ask likewise."""
        return {"what": list(self.what), "select": list(self.select), **self.options}


def _is_run(run: Run) -> bool:
    """Whether what was read has the types that it should have: it may be of anybody."""
    texts = (run.run, run.began, run.vmatlas, *run.what, *run.select)
    numbers = (run.hosts, run.schema)
    return bool(
        all(type(each) is str for each in texts)
        and all(type(each) is int for each in numbers)
        and type(run.options) is dict
        and _RUN.fullmatch(run.run)
        and _DAY.match(run.began)
    )


def new_run(*, what: tuple[str, ...], select: tuple[str, ...], options: Mapping[str, object], hosts: int) -> Run:
    """One that begins now."""
    from vmatlas import __version__

    now = datetime.now(UTC)
    name = f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
    return Run(name, now.isoformat(timespec="seconds"), what, select, options, hosts, __version__)


def folder_of(host: str) -> str:
    """A host's name as the name of a folder: what engines read back is the host's name.

    Letters, digits and "._-" stand for themselves, all else for its bytes (%2F), as Hive and Spark write it.
    """
    quoted = quote(host, safe="").replace("~", "%7E")
    return f"host={quoted if quoted.strip('.') else quoted.replace('.', '%2E')}"


def host_of(folder: str) -> str | None:
    """The host of such a folder."""
    return unquote(folder.removeprefix("host=")) if folder.startswith("host=") else None


class DataSet:
    """One data set, to be written to. Its methods may be called from several threads."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage

    @classmethod
    def at(cls, location: str, *, makes: bool = True) -> DataSet:
        """The one at a path or a URL; made there, where there is none. Raises UsageError, OSError, Unsupported."""
        made = cls(storage_of(location))
        if makes and isinstance(made.storage, Folder):
            made.storage.sweep()
        told = made.storage.read(MARK, _MOST_TOLD)
        if told is None:
            if not makes:
                raise UsageError(f"{location} is no data set of vmatlas", hint="vmatlas fleet record makes one")
            if any(not name.startswith(("_", ".")) for name in made.storage.names("")):
                raise UsageError(
                    f"{location} holds something else than a data set of vmatlas", hint="name an empty folder"
                )
            made._mark(VERSION)
            return made
        try:
            version = json.loads(told)["schema"]
            if type(version) is not int:
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise MalformedData(MARK, 0, "the version of a schema", found=told) from None
        if makes and version < VERSION:
            made._mark(VERSION)
        return made

    def _mark(self, version: int) -> None:
        self.storage.write(MARK, lambda file: file.write(json.dumps({"schema": version}).encode() + b"\n"))

    # ---- recordings ----

    def begin(self, run: Run) -> None:
        """Keep what a recording asks. Raises OSError."""
        told = json.dumps(asdict(run), indent=1).encode()
        self.storage.write(f"{RUNS}/{run.run}.json", lambda file: file.write(told))

    def runs(self) -> Iterator[Run]:
        """The recordings, the newest first. Raises OSError, MalformedData."""
        for name in reversed(self.storage.names(RUNS)):
            if name.endswith(".json"):
                yield self._run(name)

    def _run(self, name: str) -> Run:
        content = self.storage.read(f"{RUNS}/{name}", _MOST_TOLD) or b""
        try:
            told = json.loads(content)
            if type(told["what"]) is not list or type(told["select"]) is not list:
                raise ValueError
            run = Run(**(told | {"what": tuple(told["what"]), "select": tuple(told["select"])}))
            if not _is_run(run):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            raise MalformedData(f"{RUNS}/{name}", 0, "what a recording asked", found=content) from None
        return run

    def answered(self, run: Run) -> set[str]:
        """The hosts that a recording has whole. Raises OSError, MalformedData."""
        pa, pq = needed("pyarrow"), needed("pyarrow.parquet")
        found = set()
        day = f"{HOSTS.name}/day={run.day}"
        for folder in self.storage.names(day):
            host = host_of(folder)
            name = f"{day}/{folder}/{run.run}.parquet"
            content = None if host is None else self.storage.read(name, _MOST_OF_ROW)
            if host is None or content is None:
                continue
            try:
                kept = pq.ParquetFile(
                    io.BytesIO(content),
                    thrift_container_size_limit=_MOST_OF_LISTS,
                    thrift_string_size_limit=_MOST_OF_ROW,
                )
                if kept.metadata.num_rows != 1:
                    continue
                if not _has_one_word(kept.metadata, "status"):
                    raise MalformedData(name, 0, "a host's row with one status, as vmatlas writes it")
                rows = kept.read(columns=["status"], use_threads=False).to_pylist()
            except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
                raise MalformedData(name, 0, f"a host's row in Parquet ({legible(str(error), 100)})") from None
            if rows and rows[0]["status"] == "answered":
                found.add(host)
        return found

    # ---- writing ----

    def write_host(self, run: Run, host: str, tables: Mapping[str, pyarrow.Table], row: pyarrow.Table) -> None:
        """What one host told, its row in `hosts` last. Raises OSError."""
        for table in TABLES:
            name = f"{table.name}/day={run.day}/{folder_of(host)}/{run.run}.parquet"
            content = row if table is HOSTS else tables.get(table.name)
            if content is None:
                if table is not HOSTS:
                    self.storage.remove(name)  # of an attempt before
                continue
            self.storage.write(name, _parquet(content))

    def keep_capture(self, content: bytes) -> str:
        """The digest under which a capture is kept from now on, once. Raises OSError."""
        digest = hashlib.sha256(content).hexdigest()
        folder, name = f"{CAPTURES}/{digest[:2]}", f"{digest}.vmatlas"
        if name not in self.storage.names(folder):
            self.storage.write(f"{folder}/{name}", lambda file: file.write(content))
        return digest


def _has_one_word(file: Any, name: str) -> bool:
    """Whether a column of a file of one row can be read: what it takes is bound by what it has in the file.

    Of claims no more is believed than the reader is held to: the bytes of the column, how they are packed, and that it
    is no list (one row of which may have any number of values).
    """
    if file.num_row_groups != 1 or file.row_group(0).num_rows != 1 or file.num_columns > _MOST_OF_LISTS:
        return False
    found = [number for number in range(file.num_columns) if file.schema.column(number).path.partition(".")[0] == name]
    if len(found) != 1:
        return False
    kind, held = file.schema.column(found[0]), file.row_group(0).column(found[0])
    return bool(
        kind.path == name
        and kind.physical_type == "BYTE_ARRAY"
        and kind.max_repetition_level == 0
        and kind.max_definition_level <= 1
        and held.compression in ("ZSTD", "UNCOMPRESSED")
        and 0 < held.total_compressed_size <= _MOST_OF_WORD
    )


def _parquet(table: pyarrow.Table) -> Any:
    pq = needed("pyarrow.parquet")
    kinds = {field.name: str(field.type) for field in table.schema}
    delta = [name for name in _DELTA if kinds.get(name) in ("uint64", "int64")]

    def fill(file: BinaryIO) -> None:
        pq.write_table(
            table.replace_schema_metadata({"vmatlas.schema": str(VERSION)}),
            file,
            compression="zstd",
            compression_level=3,
            use_dictionary=[name for name in kinds if name not in delta],
            column_encoding=dict.fromkeys(delta, "DELTA_BINARY_PACKED"),
            write_statistics=[name for name in _RANGED if name in kinds],  # of texts they cost half of the time
            store_schema=False,  # readers see plain texts, however they were held here
        )

    return fill
