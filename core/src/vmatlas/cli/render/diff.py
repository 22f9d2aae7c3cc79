"""What changed between two maps."""

from __future__ import annotations

from typing import Any

from vmatlas.analysis import Change, ChangeKind, Difference, Total, growth_by
from vmatlas.cli.render.maps import alarms, origin_json, where_and_when, who
from vmatlas.cli.render.memory import MEMORY_CSV, memory_csv, memory_json
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, foot, growth_text, label_of, range_text, size_text
from vmatlas.model import AddressSpace, MemoryUse, Protection, Region
from vmatlas.model.export import region_to_dict
from vmatlas.series.when import shown_time

_COLUMNS = (
    Column("CHANGE"),
    Column("RANGE"),
    Column("PERM"),
    Column("SIZE", right=True),
    Column("GROWTH", right=True),
    Column("MEMORY", right=True),
    Column("KIND", leaves=2, stands_in=True),
    Column("FIELDS", leaves=1, asked=True, below=True),
    Column("NAME", crops=True),
)
_IMPLIED = frozenset(["start", "end", "offset", "details", "flags"])
"""Fields that the change itself tells of, where it grew, shrank or moved; or that are too long for a line."""


_TIME = Column("TIME", leaves=3)


def difference_table(difference: Difference, *, exact: bool, timed: bool = False, by: str | None = None) -> Table:
    """A line for each change; `timed` puts before each when it was seen, for tables that follow others. `by`: a line
    for each kind, use, file or name instead."""
    moment = (shown_time(difference.after.time),) if timed else ()
    if by is not None:
        return _growth_table(difference, by, moment, exact=exact)
    first = len(moment)
    told = difference.memory is not None
    rows = []
    for change in difference.changes:
        region = change.region
        cells = (
            *moment,
            change.kind.value,
            range_text(region.start, region.end),
            region.permissions,
            size_text(region.size, exact=exact),
            growth_text(change.growth, exact=exact),
            *[_gain(change.memory, exact=exact)] * told,
            region.kind.label,
            _fields(change, exact=exact) or NOTHING,
            label_of(region),
        )
        style = f"change.{change.kind.value}"
        last = len(cells) - 1
        emphasis = {first: style, first + 4: style, last: f"kind.{region.kind.label}"}
        rows.append(Row(cells, "", emphasis | alarms(region, first + 2, last)))
    columns = [each for each in _COLUMNS if told or each.title != "MEMORY"]
    return Table(
        (*[_TIME] * timed, *columns),
        rows,
        title=_headline(difference),
        empty="no difference",
        notes=(_totals(difference),),
    )


def _gain(memory: MemoryUse | None, *, exact: bool) -> str:
    return NOTHING if memory is None or memory.held is None else growth_text(memory.held, exact=exact)


def _growth_table(difference: Difference, by: str, moment: tuple[str, ...], *, exact: bool) -> Table:
    """A line for each that changed, the most gained first, and one for all."""
    found = growth_by(difference, by)
    told = difference.memory is not None

    def row(name: str, after: Total | None, size: int, memory: MemoryUse | None, style: str = "") -> Row:
        use = None if after is None else after.memory.use
        cells = (
            *moment,
            size_text(after.size if after else 0, exact=exact),
            growth_text(size, exact=exact),
            *[size_text(use.held if use else 0, exact=exact), _gain(memory, exact=exact)] * told,
            name,
        )
        return Row(cells, style)

    rows = [row(escape(each.key) or NOTHING, each.after, each.size, each.memory) for each in found]
    space = difference.after
    whole = Total(len(space), space.total, space.memory)
    rows.append(row(foot("total"), whole, space.total - difference.before.total, difference.memory, "heading"))
    columns = [
        *[_TIME] * len(moment),
        Column("SIZE", right=True),
        Column("GROWTH", right=True),
        *[Column("IN-USE", right=True), Column("MEMORY", right=True)] * told,
        Column(by.upper(), crops=True),
    ]
    return Table(tuple(columns), rows, title=_headline(difference), feet=1)


def _headline(difference: Difference) -> tuple[str, ...]:
    before, after = _side(difference.before), _side(difference.after)
    if len(before) != len(after):  # on different targets
        return (*before, "->", *after)
    return tuple(old if old == new else f"{old} -> {new}" for old, new in zip(before, after, strict=True))


def _side(space: AddressSpace) -> tuple[str, ...]:
    return (who(space), *where_and_when(space))


def _totals(difference: Difference) -> str:
    told = [f"{len(changes)} {kind.value}" for kind in ChangeKind if (changes := difference.of(kind))]
    if not told:
        return f"{count(len(difference.after), 'region')} unchanged"
    memory = difference.memory
    gained = "" if memory is None or memory.held is None else f", {growth_text(memory.held, exact=False)} in use"
    return f"{', '.join(told)}; {growth_text(difference.growth, exact=False)} of address space{gained}"


def _fields(change: Change, *, exact: bool) -> str:
    """`field=before:after`, without spaces; for bounds the one that changed, for a moved region where it was."""
    before, after = change.before, change.after
    if before is None or after is None:
        return ""
    told = []
    if change.kind is ChangeKind.MOVED:
        told.append(f"from={before.start:x}")
    else:
        told += [
            f"{name}={getattr(before, name):x}:{getattr(after, name):x}"
            for name in ("start", "end")
            if name in change.fields
        ]
    for name in change.fields:
        if name not in _IMPLIED or (name == "offset" and change.kind is ChangeKind.CHANGED):
            values = _value(before, name, exact=exact), _value(after, name, exact=exact)
            if values[0] == values[1]:  # rounded alike: what is a change is shown as one
                values = _value(before, name, exact=True), _value(after, name, exact=True)
            told.append(f"{name}={values[0]}:{values[1]}")
    told += [name for name in ("flags", "details") if name in change.fields]
    return ",".join(told)


def _value(region: Region, name: str, *, exact: bool) -> str:
    value: Any = getattr(region, name)
    match value:
        case None:
            return NOTHING
        case bool():
            return "yes" if value else "no"
        case Protection():
            return value.letters
        case bytes():
            return value.hex()
        case _ if name == "kind":
            return region.kind.label
        case _ if name in ("resident", "private_resident", "page_size"):
            return size_text(value, exact=exact)
        case int():
            return f"{value:x}"
        case _:
            return escape(str(value)).replace(" ", "\\x20")


def difference_json(difference: Difference, by: str | None = None) -> dict[str, Any]:
    """Both origins and each change with both regions; with `by` what each group gained, too."""
    value: dict[str, Any] = {
        "before": origin_json(difference.before),
        "after": origin_json(difference.after),
        "growth": difference.growth,
        "memory": memory_json(difference.memory),
        "changes": [
            {
                "change": change.kind.value,
                "kind": change.kind.value,  # its older name
                "fields": list(change.fields),
                "growth": change.growth,
                "memory": memory_json(change.memory),
                "before": None if change.before is None else region_to_dict(change.before),
                "after": None if change.after is None else region_to_dict(change.after),
            }
            for change in difference.changes
        ],
    }
    if by is not None:
        value["by"] = by
        value["groups"] = [
            {"key": each.key, "growth": each.size, "memory": memory_json(each.memory)}
            for each in growth_by(difference, by)
        ]
    return value


def difference_csv(
    difference: Difference, by: str | None, *, timed: bool = False
) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles, and a row for each change or group: bytes; `memory.FIELD` is what was gained.

    `timed` puts before each when it was seen, in seconds since 1970, for rows that follow others.
    """
    titles, rows = _groups_csv(difference, by) if by is not None else _changes_csv(difference)
    if not timed:
        return titles, rows
    return ["time", *titles], [{"time": difference.after.time} | row for row in rows]


def _groups_csv(difference: Difference, by: str) -> tuple[list[str], list[dict[str, Any]]]:
    return [by, "growth", *MEMORY_CSV], [
        {by: each.key, "growth": each.size, **memory_csv(each.memory)} for each in growth_by(difference, by)
    ]


def _changes_csv(difference: Difference) -> tuple[list[str], list[dict[str, Any]]]:
    titles = ["change", "start", "end", "size", "growth", "protection", "kind", "path", "name", "fields", *MEMORY_CSV]
    rows = []
    for change in difference.changes:
        told = region_to_dict(change.region)
        rows.append(
            {name: told[name] for name in ("start", "end", "size", "protection", "kind", "path", "name")}
            | {"change": change.kind.value, "growth": change.growth, "fields": list(change.fields)}
            | memory_csv(change.memory)
        )
    return titles, rows
