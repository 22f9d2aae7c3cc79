"""The memory in use of many processes: a line for each, or for each group of them, and one for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmatlas.cli.render.memory import MEMORY_CSV, memory_csv, memory_json, total_memory_json
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, size_text
from vmatlas.model import MemoryTotal, MemoryUse
from vmatlas.totals import Group, ProcessMemory, sum_of, weight

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread

_NEARLY = 0.8
"""Of the regions that a process may have: worth a word."""


def _measures(use: MemoryUse, *, exact: bool) -> list[str]:
    numbers = use.proportional, use.private, use.resident, use.swapped
    return [size_text(number, exact=exact) for number in numbers]


def _columns(*before: Column, last: str) -> tuple[Column, ...]:
    return (
        *before,
        Column("PSS", right=True),
        Column("PRIVATE", right=True, leaves=1),
        Column("RESIDENT", right=True),
        Column("SWAP", right=True, leaves=2),
        Column("REGIONS", right=True, leaves=3),
        Column(last, crops=True),
    )


def totals_table(found: Sequence[ProcessMemory], survey: Unread, limit: int | None, *, exact: bool) -> Table:
    """A line for each process, the largest first; one for all; those that did not answer."""
    rows = []
    for each in sorted(found, key=_order):
        assert each.memory is not None
        near = limit is not None and each.regions is not None and each.regions > _NEARLY * limit
        cells = str(each.process.pid), *_measures(each.memory, exact=exact), _number(each.regions), _name(each)
        rows.append(Row(cells, "", {0: "heading"} | ({5: "bad"} if near else {})))
    rows += _unanswered(survey, 5)
    rows.append(_whole(found, exact=exact))
    rows += _rows_of_missing(survey)
    notes = [_fill(found, limit)] if limit is not None else []
    return Table(_columns(Column("PID", right=True), last="NAME"), rows, notes=tuple(notes))


def groups_table(
    found: Sequence[ProcessMemory], survey: Unread, by: str, groups: Sequence[Group], *, exact: bool
) -> Table:
    """A line for each group, the largest first, and one for all."""
    rows = [
        Row(
            (
                str(len(group.pids)),
                *_measures(group.total.use, exact=exact),
                _number(group.regions),
                escape(group.key) if group.key else NOTHING,
            ),
            "",
            {6: "heading"},
        )
        for group in groups
    ]
    rows += _unanswered(survey, 5)
    rows.append(_whole(found, exact=exact))
    rows += _rows_of_missing(survey)
    return Table(_columns(Column("PROCESSES", right=True), last=by.upper()), rows)


def _order(each: ProcessMemory) -> tuple[int, int]:
    assert each.memory is not None
    return -weight(each.memory), each.process.pid


def _name(each: ProcessMemory) -> str:
    return escape(each.process.name) or NOTHING


def _number(number: int | None) -> str:
    return NOTHING if number is None else str(number)


def _whole(found: Sequence[ProcessMemory], *, exact: bool) -> Row:
    """What is not told of one of them is a sum of the others, with a mark."""
    total = MemoryTotal.of(each.memory for each in found)
    cells = _measures(total.at_least, exact=exact)
    fields = ("proportional", "private", "resident", "swapped")
    marked = [f">={cell}" if name in total.untold else cell for name, cell in zip(fields, cells, strict=True)]
    regions = _number(sum_of([each.regions for each in found]))
    return Row((str(len(found)), *marked, regions, "total"), "heading")


def _unanswered(survey: Unread, between: int) -> list[Row]:
    return [
        Row(
            (
                str(process.pid),
                *[NOTHING] * between,
                escape(f"{process.name}: no answer in {error.seconds:.3g} s".lstrip(": ")),
            ),
            "",
            {0: "heading", between + 1: "bad"},
        )
        for process, error in survey.unanswered
    ]


def _fill(found: Sequence[ProcessMemory], limit: int) -> str:
    most = max(found, key=lambda each: each.regions or 0, default=None)
    if most is None or most.regions is None:
        return f"a process may have {count(limit, 'region')}"
    who = f"{most.process.pid} {_name(most)}"
    return f"a process may have {count(limit, 'region')}; the most has {who}: {most.regions:,}"


def _rows_of_missing(survey: Unread) -> list[Row]:
    """What the total lacks: how many processes, and why."""
    reasons = [(str(len(who)), f"not read: {reason}") for reason, who in survey.unread.items()]
    reasons += [(NOTHING, survey.unlisted)] if survey.unlisted is not None else []
    return [Row((who, *[NOTHING] * 5, escape(why)), "", {6: "bad"}) for who, why in reasons]


def totals_json(
    found: Sequence[ProcessMemory], survey: Unread, by: str | None, groups: Sequence[Group] | None, limit: int | None
) -> dict[str, Any]:
    """Each process, the largest first, the total, the groups, and who could not be read; bytes."""
    told = [
        {
            "pid": each.process.pid,
            "name": each.process.name,
            "parent": each.process.parent,
            "start_time": each.process.start_time,
            "regions": each.regions,
            "memory": memory_json(each.memory),
            "error": None,
        }
        for each in sorted(found, key=_order)
    ]
    told += [_unread(process, str(error)) for process, error in survey.unanswered]
    unread = {reason: [process.pid for process in who] for reason, who in survey.unread.items()}
    value: dict[str, Any] = {
        "processes": told,
        "total": total_memory_json(MemoryTotal.of(each.memory for each in found)),
        "unread": unread,
        "incomplete": survey.unlisted,
        "most_regions": limit,
    }
    if groups is not None:
        value["by"] = by
        value["groups"] = [
            {"key": group.key, "pids": list(group.pids), "regions": group.regions} | total_memory_json(group.total)
            for group in groups
        ]
    return value


def _unread(process: Any, error: str) -> dict[str, Any]:
    untold = dict.fromkeys(("parent", "start_time", "regions", "memory"))
    return {"pid": process.pid, "name": process.name, **untold, "error": error}


def totals_csv(
    found: Sequence[ProcessMemory], survey: Unread, by: str | None, groups: Sequence[Group] | None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles, and a row for each process or group; bytes. Who could not be read has a row with `error` alone."""
    if groups is not None:
        titles = [by or "", "processes", "regions", *MEMORY_CSV]
        return titles, [
            {by or "": group.key, "processes": len(group.pids), "regions": group.regions, **memory_csv(group.total.use)}
            for group in groups
        ]
    rows: list[dict[str, Any]] = [
        {"pid": each.process.pid, "name": each.process.name, "regions": each.regions, **memory_csv(each.memory)}
        for each in sorted(found, key=_order)
    ]
    silent = {process.pid: str(error) for process, error in survey.unanswered}
    rows += [
        {"pid": process.pid, "name": process.name, "error": silent.get(process.pid, reason)}
        for reason, who in survey.unread.items()
        for process in who
    ]
    return ["pid", "name", "regions", *MEMORY_CSV, "error"], rows
