"""The memory in use of many processes: a line for each, or for each group of them, and one for all."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from vmatlas.cli.render.memory import MEMORY_CSV, memory_csv, memory_json, total_memory_json
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, foot, name_text, size_text
from vmatlas.cli.render.together import lacks, unread_json, unread_of
from vmatlas.model import MemoryTotal, MemoryUse
from vmatlas.model.cgroup import CgroupMemory
from vmatlas.totals import Group, ProcessMemory, sum_of, weight

if TYPE_CHECKING:
    from vmatlas.cli.survey import Unread
    from vmatlas.selection.resolving import Selected

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
    feet = _feet(found, survey, exact=exact)
    notes = [_fill(found, limit)] if limit is not None else []
    columns = _columns(Column("PID", right=True), last="NAME")
    return Table(columns, [*rows, *feet], notes=tuple(notes), feet=len(feet))


def _feet(found: Sequence[ProcessMemory], survey: Unread, *, exact: bool, counts: bool = False) -> list[Row]:
    """Who did not answer, the total, and what it lacks. `counts`: the first column is one of numbers, not of pids."""
    return [*_unanswered(survey, counts), _whole(found, exact=exact), *_rows_of_missing(survey)]


def groups_table(
    found: Sequence[ProcessMemory], survey: Unread, by: str, groups: Sequence[Group], *, exact: bool
) -> Table:
    """A line for each group, the largest first, and one for all. Where the system counts the memory of groups itself,
    what is charged to each, and of it what no process has mapped."""
    counted = any(each.untold is None for group in groups for each in group.cgroups)
    rows = [
        Row(
            (
                str(len(group.pids)),
                *_measures(group.total.use, exact=exact),
                _number(group.regions),
                *(_charged(group.cgroups, exact=exact) if counted else ()),
                name_text(group.key),
            ),
            "",
            {6 + 3 * counted: "heading"},
        )
        for group in groups
    ]
    feet = _feet(found, survey, exact=exact, counts=True)
    columns = list(_columns(Column("PROCESSES", right=True), last=by.upper()))
    if counted:
        columns[-1:-1] = _CHARGED
        feet = [_widened(row) for row in feet]
    return Table(tuple(columns), [*rows, *feet], feet=len(feet))


_CHARGED = (
    Column("CHARGED", right=True),
    Column("UNMAPPED", right=True, leaves=4),
    Column("KERNEL", right=True, leaves=5),
)


def _charged(cgroups: Sequence[CgroupMemory], *, exact: bool) -> list[str]:
    """`CHARGED`, and of it files that nobody has mapped, and the kernel's own."""
    kinds = [[getattr(each, name) for each in cgroups] for name in ("current", "unmapped_file", "kernel")]
    return [size_text(sum_of(numbers) if numbers else None, exact=exact) for numbers in kinds]


def _widened(row: Row) -> Row:
    """The same line of a table that has the columns `_CHARGED` before its last."""
    last = len(row.cells) - 1
    emphasis = {index + 3 * (index == last): style for index, style in (row.emphasis or {}).items()}
    return Row((*row.cells[:-1], *[NOTHING] * len(_CHARGED), row.cells[-1]), row.style, emphasis)


_BY_CGROUP = ("cgroup", "unit", "container")


def counters_tables(
    found: Sequence[ProcessMemory], among: Selected | None, counters: Sequence[CgroupMemory], *, exact: bool
) -> list[Table]:
    """What the system counts of the cgroups that were named, beside the sum of what their processes use."""
    words = [] if among is None else among.selection.words
    if not any(word.key in _BY_CGROUP for word in words):
        return []
    rows = [_counter(each, exact=exact) for each in counters]
    if not counters:
        together = "the memory controller has them together with others"
        left_out = "some of them are left out"
        why = f"{left_out if among and among.selection.left_out else together}: no counter is of these alone"
        rows = [Row((NOTHING, f"not counted: {why}"), "note")]
    elif all(word.key in _BY_CGROUP for word in words) and all(each.untold is None for each in counters):
        rows += _explained(found, _apart(counters), exact=exact)
    return [Table((Column("COUNTED", right=True), Column("WHAT", wraps=True)), rows, feet=len(rows))]


def _counter(counter: CgroupMemory, *, exact: bool) -> Row:
    if counter.untold is not None:
        return Row((NOTHING, f"not counted for {escape(counter.path)}: {counter.untold}"), "note")
    return Row((size_text(counter.current, exact=exact), f"charged to {escape(counter.path)}"), "heading")


def _apart(counters: Sequence[CgroupMemory]) -> list[CgroupMemory]:
    """Those that lie in none of the others, which count them too."""
    paths = {each.path.rstrip("/") for each in counters}
    return [
        each
        for each in counters
        if not any(each.path.rstrip("/") != path and each.path.startswith(f"{path}/") for path in paths)
    ]


_PARTS = (
    ("unmapped_file", "of it: the page cache of files that nobody has mapped"),
    ("kernel", "of it: the kernel's own (page tables, stacks, its objects)"),
    ("sockets", "of it: buffers of the network"),
)
_REST = "the rest: a page is charged, whole, to who touched it first, be it in this cgroup or another"


def _explained(found: Sequence[ProcessMemory], counters: Sequence[CgroupMemory], *, exact: bool) -> list[Row]:
    """What makes the difference between what is charged and what the processes use."""
    summed = MemoryTotal.of(each.memory for each in found).at_least.proportional
    parts = [(sum_of([getattr(each, name) for each in counters]), told) for name, told in _PARTS]
    rows = [(summed, "used by the processes: PSS, as above"), *(part for part in parts if part[0] is not None)]
    charged = sum_of([each.current for each in counters])
    if charged is not None and summed is not None:
        rows.append((charged - summed - sum(size or 0 for size, _ in parts), _REST))
    swapped = sum_of([each.swapped for each in counters])
    if swapped is not None:
        rows.append((swapped, "beside it: in swap"))
    return [Row((_signed(size, exact=exact), told)) for size, told in rows]


def _signed(size: int | None, *, exact: bool) -> str:
    return f"-{size_text(-size, exact=exact)}" if size is not None and size < 0 else size_text(size, exact=exact)


def _order(each: ProcessMemory) -> tuple[int, int]:
    assert each.memory is not None
    return -weight(each.memory), each.process.pid


def _name(each: ProcessMemory) -> str:
    return name_text(each.process.known_name)


def _number(number: int | None) -> str:
    return NOTHING if number is None else str(number)


def _whole(found: Sequence[ProcessMemory], *, exact: bool) -> Row:
    """What is not told of one of them is a sum of the others, with a mark."""
    total = MemoryTotal.of(each.memory for each in found)
    cells = _measures(total.at_least, exact=exact)
    fields = ("proportional", "private", "resident", "swapped")
    marked = [f">={cell}" if name in total.untold else cell for name, cell in zip(fields, cells, strict=True)]
    regions = _number(sum_of([each.regions for each in found]))
    return Row((str(len(found)), *marked, regions, foot("total")), "heading")


def _unanswered(survey: Unread, counts: bool) -> list[Row]:
    rows = []
    for process, error in survey.unanswered:
        who = f"{process.pid} {process.name}".rstrip() if counts else process.name
        told = foot(f"{who}: no answer in {error.seconds:.3g} s".lstrip(": "))
        rows.append(Row(("1" if counts else str(process.pid), *[NOTHING] * 5, told), "", {0: "heading", 6: "bad"}))
    return rows


def _fill(found: Sequence[ProcessMemory], limit: int) -> str:
    most = max(found, key=lambda each: each.regions or 0, default=None)
    if most is None or most.regions is None:
        return f"a process may have {count(limit, 'region')}"
    who = f"{most.process.pid} {_name(most)}"
    return f"a process may have {count(limit, 'region')}; the most has {who}: {most.regions:,}"


def _rows_of_missing(survey: Unread) -> list[Row]:
    """What the total lacks: how many processes, and why."""
    return [Row((who, *[NOTHING] * 5, foot(why)), "", {6: "bad"}) for who, why in lacks(survey)]


def totals_json(
    found: Sequence[ProcessMemory],
    survey: Unread,
    by: str | None,
    groups: Sequence[Group] | None,
    limit: int | None,
    counters: Sequence[CgroupMemory] = (),
) -> dict[str, Any]:
    """Each process, the largest first, the total, the groups, and who could not be read; bytes."""
    told = [
        {
            "pid": each.process.pid,
            "name": each.process.known_name,
            "parent": each.process.parent,
            "start_time": each.process.start_time,
            "regions": each.regions,
            "memory": memory_json(each.memory),
            "error": None,
        }
        for each in sorted(found, key=_order)
    ]
    told += [_unread(process, str(error)) for process, error in survey.unanswered]
    value: dict[str, Any] = {
        "processes": told,
        "total": total_memory_json(MemoryTotal.of(each.memory for each in found)),
        **unread_json(survey),
        "most_regions": limit,
        "cgroups": [each._asdict() for each in counters],
    }
    if groups is not None:
        value["by"] = by
        value["groups"] = [
            {"key": group.key, "pids": list(group.pids), "regions": group.regions}
            | total_memory_json(group.total)
            | {"cgroups": [each._asdict() for each in group.cgroups]}
            for group in groups
        ]
    return value


_CGROUP_NUMBERS = tuple(name for name in CgroupMemory._fields if name not in ("path", "untold"))
_CGROUP_CSV = tuple(f"cgroup.{name}" for name in _CGROUP_NUMBERS)


def _cgroups_csv(cgroups: Sequence[CgroupMemory]) -> dict[str, int | None]:
    sums = [sum_of([getattr(each, name) for each in cgroups]) for name in _CGROUP_NUMBERS] if cgroups else []
    return dict(zip(_CGROUP_CSV, sums, strict=False))


def _unread(process: Any, error: str) -> dict[str, Any]:
    untold = dict.fromkeys(("parent", "start_time", "regions", "memory"))
    return {"pid": process.pid, "name": process.known_name, **untold, "error": error}


def totals_csv(
    found: Sequence[ProcessMemory], survey: Unread, by: str | None, groups: Sequence[Group] | None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles, and a row for each process or group; bytes. Who could not be read has a row with `error` alone."""
    if groups is not None:
        titles = [by or "", "processes", "regions", *MEMORY_CSV, *(_CGROUP_CSV if by in _BY_CGROUP else ())]
        return titles, [
            {by or "": group.key, "processes": len(group.pids), "regions": group.regions, **memory_csv(group.total.use)}
            | _cgroups_csv(group.cgroups)
            for group in groups
        ]
    rows: list[dict[str, Any]] = [
        {"pid": each.process.pid, "name": each.process.known_name, "regions": each.regions, **memory_csv(each.memory)}
        for each in sorted(found, key=_order)
    ]
    rows += [{"pid": whose.pid, "name": whose.name, "error": reason} for whose, reason in unread_of(survey)]
    return ["pid", "name", "regions", *MEMORY_CSV, "error"], rows
