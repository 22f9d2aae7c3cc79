"""Totals: by use, by kind, by file; and one line a process for many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmatlas.analysis import FileTotal, Summary, Total, Use
from vmatlas.cli.render.maps import headline, origin_json
from vmatlas.cli.render.memory import MEMORY_CSV, memory_csv, memory_json
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, foot, human, name_text, size_text
from vmatlas.cli.render.together import lacks, together_json, unread_of
from vmatlas.model import AddressSpace, ProcessInfo

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

_USES = {
    Use.CODE: "executable, not writable",
    Use.DATA: "writable",
    Use.READ_ONLY: "readable only",
    Use.STACK: "stacks, and guards that the system's flags give them",
    Use.RESERVED: "no rights: guards and reserved addresses",
    Use.PHYSICAL: "physical memory, devices",
    Use.UNTOLD: "their rights are not told",
}
_SOME = (Use.PHYSICAL, Use.UNTOLD)
"""Of most there is none: a column of them is in the way."""
_FILE_USES = (Use.CODE, Use.DATA, Use.READ_ONLY, Use.RESERVED)


_MEASURES = ("resident", "private", "proportional", "swapped", "huge", "hugetlb")
_TITLES = {"proportional": "PSS", "swapped": "SWAP"}
_SELDOM = ("swapped", "huge", "hugetlb")
"""Shown where there is any."""


def _told(whole: Total) -> list[str]:
    use = whole.memory.use
    return [name for name in _MEASURES if (value := getattr(use, name)) is not None and (value or name not in _SELDOM)]


def _measure_columns(total: Total) -> list[Column]:
    columns = [Column("REGIONS", right=True), Column("SIZE", right=True)]
    return columns + [Column(_TITLES.get(name, name.upper()), right=True) for name in _told(total)]


def _measures(total: Total, whole: Total, *, exact: bool) -> list[str]:
    cells = [str(total.regions), size_text(total.size, exact=exact)]
    use = total.memory.use
    return cells + [size_text(getattr(use, name), exact=exact) for name in _told(whole)]


def summary_tables(space: AddressSpace, summary: Summary, *, exact: bool) -> list[Table]:
    """By use, by kind, by file."""
    whole = summary.total
    measures = _measure_columns(whole)

    def row(name: str, total: Total, style: str, *more: str) -> Row:
        return Row((name, *_measures(total, whole, exact=exact), *more), "", {0: style})

    uses = [row(use.value, total, "heading", _USES[use]) for use, total in summary.uses.items()]
    uses.append(Row(("total", *_measures(whole, whole, exact=exact), "everything"), "heading"))
    kinds = [row(kind.label, total, f"kind.{kind.label}") for kind, total in summary.kinds.items()]
    return [
        Table((Column("USE"), *measures, Column("WHAT", leaves=1)), uses, title=headline(space), feet=1),
        Table((Column("KIND"), *measures), kinds),
        _file_table(summary, exact=exact),
    ]


def names_table(space: AddressSpace, summary: Summary, *, exact: bool) -> Table:
    """What has no file, by name, guesses at what has none among them; the most in memory first, else the largest."""
    whole = summary.total
    regions = [region for region in space if region.path is None]
    total = Total.of(regions, private_adds_up=space.origin.private_adds_up)
    found = sorted(summary.names.items(), key=lambda item: -(item[1].resident or 0))  # those alike: the larger first
    rows = [Row((*_measures(each, whole, exact=exact), escape(name) or NOTHING)) for name, each in found]
    rows.append(Row((*_measures(total, whole, exact=exact), foot("total of what has no file")), "heading"))
    return Table((*_measure_columns(whole), Column("NAME", crops=True)), rows, title=headline(space), feet=1)


def _file_table(summary: Summary, *, exact: bool) -> Table:
    whole = summary.total
    others = (use for use in Use if use not in _FILE_USES)
    uses = [*_FILE_USES, *(use for use in others if any(use in file.uses for file in summary.files))]
    columns = [
        *(Column(use.value.upper(), right=True, leaves=index) for index, use in enumerate(uses)),
        Column("SIZE", right=True),
        *[Column("RESIDENT", right=True)] * (whole.resident is not None),
        Column("FILE", crops=True),
    ]
    rows = []
    for file in summary.files:
        cells = [_use_size(file, use, exact=exact) for use in uses]
        cells.append(size_text(file.total.size, exact=exact))
        cells += [size_text(file.total.resident, exact=exact)] * (whole.resident is not None)
        cells.append(_file_name(file))
        style = "bad" if file.deleted else ""
        rows.append(Row(tuple(cells), "", {len(cells) - 1: style} if style else None))
    libraries = [file for file in summary.files if file.is_library]
    notes = (f"{count(len(summary.files), 'file')}, {len(libraries)} of them with code",) if rows else ()
    return Table(tuple(columns), rows, notes=notes, empty="no file is mapped")


def _use_size(file: FileTotal, use: Use, *, exact: bool) -> str:
    total = file.uses.get(use)
    return NOTHING if total is None else size_text(total.size, exact=exact)


def _file_name(file: FileTotal) -> str:
    return escape(file.path) + (" (deleted)" if file.deleted else "")


def processes_table(found: Sequence[tuple[ProcessInfo, Summary]], unread: Unread, *, exact: bool) -> Table:
    """One line a process, the largest first; then who did not answer, and how many could not be read, and why."""
    resident = any(summary.total.resident is not None for _, summary in found)
    uses = [use for use in Use if use not in _SOME or any(_use_of(summary, use) for _, summary in found)]
    columns = [
        Column("PID", right=True),
        Column("REGIONS", right=True, leaves=2),
        *(Column(use.value.upper(), right=True) for use in uses),
        Column("SIZE", right=True),
        *[Column("RESIDENT", right=True), Column("PRIVATE", right=True, leaves=1)] * resident,
        Column("NAME", crops=True),
    ]
    rows = []
    for process, summary in sorted(found, key=lambda pair: (-_weight(pair[1]), pair[0].pid)):
        cells = [str(process.pid), str(summary.total.regions)]
        cells += [size_text(_use_of(summary, use), exact=exact) for use in uses]
        cells.append(size_text(summary.total.size, exact=exact))
        if resident:
            cells.append(size_text(summary.total.resident, exact=exact))
            cells.append(size_text(summary.total.private_resident, exact=exact))
        cells.append(name_text(process.known_name))
        rows.append(Row(tuple(cells), "", {0: "heading"}))
    empty, last = [NOTHING] * (len(columns) - 2), len(columns) - 1
    silent = [(str(who.pid), f"{who.name}: no answer in {error.seconds:.3g} s") for who, error in unread.unanswered]
    feet = [Row((who, *empty, foot(told)), "", {0: "heading", last: "bad"}) for who, told in silent]
    feet += [Row((number, *empty, foot(why)), "", {last: "bad"}) for number, why in lacks(unread)]
    mapped = human(sum(summary.total.size for _, summary in found))
    notes = (f"{count(len(found), 'process', 'processes')}, {mapped} mapped",)
    return Table(tuple(columns), [*rows, *feet], notes=notes, feet=len(feet))


def _weight(summary: Summary) -> int:
    return summary.total.size if summary.total.resident is None else summary.total.resident


def _use_of(summary: Summary, use: Use) -> int:
    return summary.uses[use].size if use in summary.uses else 0


def total_json(total: Total) -> dict[str, Any]:
    """A total; bytes."""
    return {
        "regions": total.regions,
        "size": total.size,
        "resident": total.resident,
        "private_resident": total.private_resident,
        "proportional": total.proportional,
        "memory": memory_json(total.memory.use),
    }


def summary_json(summary: Summary) -> dict[str, Any]:
    """All totals."""
    return {
        "total": total_json(summary.total),
        "uses": {use.value: total_json(total) for use, total in summary.uses.items()},
        "kinds": {kind.label: total_json(total) for kind, total in summary.kinds.items()},
        "names": {name: total_json(total) for name, total in summary.names.items()},
        "files": [
            {"path": file.path, "deleted": file.deleted, "library": file.is_library}
            | total_json(file.total)
            | {"uses": {use.value: total_json(total) for use, total in file.uses.items()}}
            for file in summary.files
        ],
    }


def space_json(space: AddressSpace, summary: Summary) -> dict[str, Any]:
    """All totals of a process, and where they come from."""
    return origin_json(space) | summary_json(summary)


CSV_COLUMNS = ("by", "of", "deleted", "regions", "size", "resident", "private_resident", "proportional", *MEMORY_CSV)


def summary_csv(summary: Summary) -> list[dict[str, Any]]:
    """A row for each total: by "use", "kind", "file" or "name", and of which."""
    rows = [{"by": "total", "of": "", **_total_csv(summary.total)}]
    rows += [{"by": "use", "of": use.value, **_total_csv(total)} for use, total in summary.uses.items()]
    rows += [{"by": "kind", "of": kind.label, **_total_csv(total)} for kind, total in summary.kinds.items()]
    rows += [
        {"by": "file", "of": file.path, "deleted": file.deleted, **_total_csv(file.total)} for file in summary.files
    ]
    rows += [{"by": "name", "of": name, **_total_csv(total)} for name, total in summary.names.items()]
    return rows


def _total_csv(total: Total) -> dict[str, Any]:
    return total_json(total) | memory_csv(total.memory.use)


PROCESSES_CSV_COLUMNS = (
    "pid",
    "name",
    "regions",
    "size",
    "resident",
    "private_resident",
    "proportional",
    *(use.value for use in Use),
    "error",
)


def processes_json(found: Sequence[tuple[ProcessInfo, Summary]], unread: Unread) -> dict[str, Any]:
    """A dictionary for each process, and who could not be read; of one that did not answer in time `error` says so, and
    the totals are null."""
    told = [
        {"pid": process.pid, "name": process.known_name, "error": None} | summary_json(totals)
        for process, totals in found
    ]
    untold = dict.fromkeys(("total", "uses", "kinds", "names", "files"))
    told += [{"pid": who.pid, "name": who.name, "error": str(error)} | untold for who, error in unread.unanswered]
    return together_json(told, unread)


def processes_csv(found: Sequence[tuple[ProcessInfo, Summary]], unread: Unread) -> list[dict[str, Any]]:
    """A row for each process; bytes. Of one that could not be read there is `error`, and nothing else."""
    rows: list[dict[str, Any]] = [
        {"pid": process.pid, "name": process.known_name, **total_json(summary.total)}
        | {use.value: _use_of(summary, use) for use in Use}
        for process, summary in found
    ]
    return rows + [{"pid": whose.pid, "name": whose.name, "error": reason} for whose, reason in unread_of(unread)]
