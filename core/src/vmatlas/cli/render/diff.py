"""What changed between two maps."""

from __future__ import annotations

import time
from typing import Any

from vmatlas.analysis import Change, ChangeKind, Difference
from vmatlas.cli.render.maps import alarms, origin_json, where_and_when, who
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, count, escape, growth_text, label_of, range_text, size_text
from vmatlas.model import AddressSpace, Protection, Region
from vmatlas.model.export import region_to_dict

_COLUMNS = (
    Column("CHANGE"),
    Column("RANGE"),
    Column("PERM"),
    Column("SIZE", right=True),
    Column("GROWTH", right=True),
    Column("KIND", leaves=2, stands_in=True),
    Column("FIELDS", leaves=1, asked=True, below=True),
    Column("NAME", crops=True),
)
_IMPLIED = frozenset(["start", "end", "offset", "details", "flags"])
"""Fields that the change itself tells of, where it grew, shrank or moved; or that are too long for a line."""


_TIME = Column("TIME", leaves=3)


def difference_table(difference: Difference, *, exact: bool, timed: bool = False) -> Table:
    """A line for each change, by address; `timed` puts before each when it was seen, for tables that follow others."""
    moment = (_moment(difference.after.time),) if timed else ()
    first = len(moment)
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
            region.kind.label,
            _fields(change, exact=exact) or NOTHING,
            label_of(region),
        )
        style = f"change.{change.kind.value}"
        emphasis = {first: style, first + 4: style, first + 7: f"kind.{region.kind.label}"}
        rows.append(Row(cells, "", emphasis | alarms(region, first + 2, first + 7)))
    columns = (_TIME, *_COLUMNS) if timed else _COLUMNS
    return Table(columns, rows, title=_headline(difference), empty="no difference", notes=(_totals(difference),))


def _moment(seconds: float) -> str:
    """Local time to the millisecond, in one word."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{int(seconds % 1 * 1000):03d}"


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
    return f"{', '.join(told)}; {growth_text(difference.growth, exact=False)} of address space"


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
            told.append(f"{name}={_value(before, name, exact=exact)}:{_value(after, name, exact=exact)}")
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


def difference_json(difference: Difference) -> dict[str, Any]:
    """Both origins and each change with both regions."""
    return {
        "before": origin_json(difference.before),
        "after": origin_json(difference.after),
        "growth": difference.growth,
        "changes": [
            {
                "change": change.kind.value,
                "kind": change.kind.value,  # its older name
                "fields": list(change.fields),
                "growth": change.growth,
                "before": None if change.before is None else region_to_dict(change.before),
                "after": None if change.after is None else region_to_dict(change.after),
            }
            for change in difference.changes
        ],
    }
