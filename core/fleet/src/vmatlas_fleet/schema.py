"""The tables of a data set and their columns, as data: what is written, what DuckDB is told, what docs/fleet.md shows.

A schema only grows: a column keeps its name, its type and its meaning for ever, and a later version adds others. So an
older data set lacks columns (they are null), and a newer one has some that are not looked at.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

from vmatlas_fleet.extras import needed

if TYPE_CHECKING:
    import pyarrow

VERSION = 1
"""What this version writes. It goes up when a column is added."""


class Column(NamedTuple):
    """One column. What a system does not tell is null."""

    name: str
    type: str
    """"uint64", "int64", "bool", "text", "word" (a text of which there are few), "time" (UTC), "seconds", "texts",
    "labels"."""
    meaning: str
    since: int = 1


class Table(NamedTuple):
    """One table: a folder of the data set."""

    name: str
    meaning: str
    columns: tuple[Column, ...]


_RUN = Column("run", "word", "the recording: its time and a random end")
_PROCESS = (
    _RUN,
    Column("pid", "int64", "the process"),
    Column("start_time", "int64", "when it started, in the system's own unit: with pid and boot its identity"),
)

HOSTS = Table(
    "hosts",
    "a row for each host that was asked, whether it answered or not: the last of its files to be written",
    (
        _RUN,
        Column("name", "text", "the host, as the inventory calls it"),
        Column("status", "word", "answered; partly: lost before every process was asked; failed"),
        Column("reason", "text", "why it is not answered"),
        Column("error", "word", "the kind of that error: TargetLost, Unsupported, ..."),
        Column("scheme", "word", "how it was reached: ssh, tcp, ...; the URL is not kept"),
        Column("groups", "texts", "the groups of the inventory that it is in"),
        Column("labels", "labels", "what the inventory's own labels say of it"),
        Column("began", "time", "when it was first asked"),
        Column("seconds", "seconds", "how long that took, all attempts together"),
        Column("attempts", "int64", "how often it was tried"),
        Column("what", "word", "what was asked: maps,memory,audit,pages"),
        Column("selected", "text", "the words that chose processes; null: all"),
        Column("processes", "int64", "how many were read"),
        Column("unread", "int64", "how many could not be"),
        Column("regions", "int64", "how many regions were written"),
        Column("findings", "int64", "how many findings were"),
        Column("incomplete", "text", "why something may be missing though it answered"),
        Column("system", "word", "linux, freebsd, qnx, ..."),
        Column("release", "word", "of its kernel"),
        Column("version", "text", "its kernel's own words on its build"),
        Column("machine", "word", "its processor"),
        Column("byte_order", "word", "little or big"),
        Column("pointer_width", "int64", "bits of a pointer of its kernel"),
        Column("page_size", "int64", "bytes"),
        Column("boot", "word", "which start of the system that was, where it is told"),
        Column("vmatlas", "word", "the version that asked"),
    ),
)

MEMORY = (
    Column("resident", "int64", "bytes in memory; null where memory was not asked for, or is not told"),
    Column("proportional", "int64", "the same, each page divided by its mappings (PSS): what adds up"),
    Column("private", "int64", "in pages that nobody else maps (USS)"),
    Column("swapped", "int64", "in swap"),
    Column("dirty", "int64", "in memory and changed"),
    Column("anonymous", "int64", "in memory, in pages of no file"),
    Column("huge", "int64", "of what is in memory: in huge pages"),
    Column("locked", "int64", "kept in memory by mlock"),
)

PROCESSES = Table(
    "processes",
    "a row for each process that was asked, whether it could be read or not",
    (
        *_PROCESS,
        Column("name", "word", "what the system calls it, in short"),
        Column("parent", "int64", "the process that it is a child of"),
        Column("user", "int64", "the number of the user whose rights it has"),
        Column("inside", "int64", "its number in its own pid namespace, where that is another"),
        Column("program", "word", "the file that it runs, where that is told"),
        Column("unit", "word", "the service that it belongs to (systemd), where that is told"),
        Column("container", "word", "the container that it is in, where that is told"),
        Column("status", "word", "answered or failed"),
        Column("reason", "text", "why it is not answered"),
        Column("error", "word", "the kind of that error: AccessDenied, NoSuchProcess, ..."),
        Column("incomplete", "text", "why its map may lack something"),
        Column("time", "time", "when its map was read"),
        Column("backend", "word", "what read it"),
        Column("regions", "int64", "how many it has"),
        Column("mapped", "int64", "bytes of address space in them"),
        *MEMORY,
        Column("capture", "word", "the digest of its capture, where captures were kept"),
    ),
)

REGIONS = Table(
    "regions",
    "a row for each region of each process, by process and address",
    (
        *_PROCESS,
        Column("start", "uint64", "the first address"),
        Column("size", "int64", "bytes: the region ends at start + size"),
        Column("protection", "word", "r-x; ??? where it is not told"),
        Column("shared", "bool", "whether writes are seen by whoever maps the same"),
        Column("kind", "word", "file, anonymous, heap, stack, ... as vmatlas maps tells it"),
        Column("path", "word", "the file, without ' (deleted)'"),
        Column("name", "word", "what the kernel calls a region without a path"),
        Column("deleted", "bool", "whether the file has been unlinked"),
        Column("offset", "uint64", "where in the file it begins"),
        Column("device", "word", "the device of the file: 08:01"),
        Column("inode", "uint64", "of the file"),
        Column("build_id", "word", "the ELF build id of the file, where it was asked for"),
        Column("flags", "word", "the system's own, with blanks between them"),
        *MEMORY,
    ),
)

FINDINGS = Table(
    "findings",
    "a row for each finding of vmatlas audit, for each that a policy allows, and for each rule that could not speak",
    (
        *_PROCESS,
        Column("process", "word", "the name of the process"),
        Column("rule", "word", "writable-and-executable, ..."),
        Column("verdict", "word", "found; allowed: by the policy; untold: the rule could not speak"),
        Column("severity", "word", "high, medium, low, note; null where untold"),
        Column("thing", "word", "the file, or what the memory is called"),
        Column("explanation", "text", "what it is; of what is untold: why"),
        Column("runtime", "word", "the just-in-time compiler that was recognised as the cause"),
        Column("start", "uint64", "the first address of the first region"),
        Column("size", "int64", "bytes of all its regions"),
        Column("regions", "int64", "how many these are"),
        Column("allowed_because", "text", "the reason that the policy gives"),
    ),
)

PAGES = Table(
    "pages",
    "a row for each run of pages in one state; pages in none have no row",
    (
        *_PROCESS,
        Column("start", "uint64", "the first address"),
        Column("size", "int64", "bytes"),
        Column("states", "word", "present, swapped, zero, huge, guard: with blanks between them"),
    ),
)

TABLES = (REGIONS, PROCESSES, FINDINGS, PAGES, HOSTS)
"""In the order in which the files of a host are made visible."""

PARTITIONS = ("day", "host")
"""What the folders tell, `day=2026-11-30/host=web-1`: columns that stand in no file."""


def arrow_type(word: str) -> pyarrow.DataType:
    """The type of a column as Arrow has it, without the dictionaries in which words are written."""
    pa = needed("pyarrow")
    types = {
        "uint64": pa.uint64(),
        "int64": pa.int64(),
        "bool": pa.bool_(),
        "text": pa.string(),
        "word": pa.string(),
        "time": pa.timestamp("us"),
        "seconds": pa.float64(),
        "texts": pa.list_(pa.string()),
        "labels": pa.map_(pa.string(), pa.string()),
    }
    found: pyarrow.DataType = types[word]
    return found


def arrow_schema(table: Table) -> pyarrow.Schema:
    """A table's schema as Arrow has it."""
    found: pyarrow.Schema = needed("pyarrow").schema([(each.name, arrow_type(each.type)) for each in table.columns])
    return found


def document() -> str:
    """The tables as docs/fleet.md shows them."""
    lines: list[str] = []
    for table in sorted(TABLES, key=lambda each: each is not HOSTS):
        lines += [f"### `{table.name}`", "", f"{table.meaning[0].upper()}{table.meaning[1:]}.", ""]
        lines += ["| column | type | what it is |", "|---|---|---|"]
        lines += [f"| `{each.name}` | {each.type} | {each.meaning} |" for each in table.columns]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.stdout.write(document())
