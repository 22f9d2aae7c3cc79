"""The map of a process: regions, and the holes between them where they are asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import pairwise
from operator import sub

from vmatlas.cli.render.memory import MEMORY_CSV
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import (
    NOTHING,
    count,
    escape,
    hexadecimal,
    human,
    label_of,
    range_text,
    size_text,
)
from vmatlas.contracts import TypeVar
from vmatlas.model import AddressSpace, Gap, Kind, Protection, Region
from vmatlas.model.columns import Columns
from vmatlas.model.export import columns_to_values, region_to_dict
from vmatlas.model.region import UNKNOWN
from vmatlas.values import asdict

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias

    from vmatlas.analysis.naming import Guess

Guesses: TypeAlias = "Mapping[int, Guess] | None"
"""By the start of a region; None where nobody asked for them."""

Line: TypeAlias = Region | Gap
"""What a line of the table stands for."""

_Value = TypeVar("_Value", bound=Hashable)
_Told = TypeVar("_Told")

GAP = "gap"
_WX = Protection.WRITE | Protection.EXECUTE
_KERNEL_HALF = 2**63


def order(space: AddressSpace, *, gaps: bool, by: str) -> Sequence[Line]:
    """Regions, and holes if wanted: by address, the largest first, or by kind or path (and then by address).

    The space itself where it is in that order.
    """
    lines = sorted([*space, *space.gaps()], key=lambda line: line.start) if gaps else space
    return lines if by == "start" else sorted(lines, key=_KEYS[by])


def keys(lines: Iterable[Line], by: str) -> list[Any]:
    """What each line is put in order by."""
    return list(map(_KEYS[by], lines))


_KEYS: dict[str, Callable[[Line], Any]] = {
    "size": lambda line: -line.size,
    "resident": lambda line: -((line.resident or 0) if isinstance(line, Region) else -1),
    "private": lambda line: -((line.private_resident or 0) if isinstance(line, Region) else -1),
    "pss": lambda line: -((line.proportional or 0) if isinstance(line, Region) else -1),
    "swap": lambda line: -((_swapped(line) or 0) if isinstance(line, Region) else -1),
    "kind": lambda line: line.kind if isinstance(line, Region) else len(Kind),
    # Regions without a path last; a space sorts before every path that begins with a slash.
    "path": lambda line: (not isinstance(line, Region) or not line.label, getattr(line, "label", "")),
}


def _swapped(region: Region) -> int | None:
    use = region.memory
    return None if use is None else use.swapped


def style_of(region: Region) -> str:
    """The style of a region's kind."""
    return f"kind.{region.kind.label}"


def alarms(region: Region, permissions: int, label: int) -> dict[int, str]:
    """What deserves a look in a line: rights that allow injected code, a file that is gone."""
    found: dict[int, str] = {}
    if region.protection & _WX == _WX:
        found[permissions] = "alarm"
    if region.deleted is not False and region.kind is Kind.FILE:
        found[label] = "bad"
    return found


def map_table(
    space: AddressSpace,
    lines: Sequence[Line],
    *,
    exact: bool,
    build_ids: bool = False,
    flags: bool = False,
    by: str = "start",
    guesses: Guesses = None,
) -> Table:
    """The table of a map. Residency has columns when the space tells it."""
    columns = _of_lines(space, lines)

    def sizes(column: Iterable[int | None]) -> list[str]:
        return _each_once(lambda size: size_text(None if size == UNKNOWN else size, exact=exact), list(column))

    rights = zip(columns.protection, columns.shared, strict=True)
    told = [
        (Column("RANGE"), list(map(range_text, columns.start, columns.end))),
        (Column("PERM"), _by_region(columns, rights, lambda each: each.permissions)),
        (Column("SIZE", right=True), sizes(map(sub, columns.end, columns.start))),
    ]
    if columns.resident is not None:
        told.append((Column("RESIDENT", right=True), sizes(columns.resident)))
    if columns.private_resident is not None:
        told.append((Column("PRIVATE", right=True, leaves=3, asked=True), sizes(columns.private_resident)))
    if by == "pss":
        shares = (region.proportional for region in columns.regions())
        told.append((Column("PSS", right=True, asked=True), sizes(shares)))
    if by == "swap":
        told.append((Column("SWAP", right=True, asked=True), sizes(map(_swapped, columns.regions()))))
    offsets = _each_once(lambda offset: hexadecimal(None if offset == UNKNOWN else offset), columns.offset)
    told.append((Column("OFFSET", right=True, leaves=5), offsets))
    kinds = _by_region(columns, columns.kind, lambda each: each.kind.label)
    told.append((Column("KIND", leaves=4, stands_in=True), kinds))
    if flags:
        texts = [NOTHING if each is None else str(each) or "none" for each in columns.flags or [None] * len(columns)]
        told.append((Column("FLAGS", leaves=2, asked=True), texts))
    if build_ids:
        texts = [NOTHING if each is None else each.hex() for each in columns.build_id or [None] * len(columns)]
        told.append((Column("BUILD-ID", leaves=1, asked=True), texts))
    if guesses is not None:
        found = map(guesses.get, columns.start)
        texts = [NOTHING if guess is None else escape(guess.label) for guess in found]
        told.append((Column("GUESS", leaves=1, asked=True, below=True), texts))
    told.append((Column("NAME", crops=True), _by_region(columns, columns.label, label_of)))

    styles = _by_region(columns, columns.kind, style_of)
    outliers = [start >= _KERNEL_HALF for start in columns.start]
    cells = zip(*(texts for _, texts in told), strict=True)
    rows = list(map(Row, cells, styles, _emphasis(columns, len(told) - 1), outliers))
    titles = tuple(column for column, _ in told)
    if len(rows) < len(lines):
        regions = iter(rows)
        rows = [_gap_row(each, titles, exact=exact) if isinstance(each, Gap) else next(regions) for each in lines]
    return Table(
        titles,
        rows,
        title=headline(space),
        notes=() if guesses is None else _what_threads_did_not_tell(space),
        legend=legend(map(Kind, set(columns.kind))),
        empty="no region",
    )


def _of_lines(space: AddressSpace, lines: Sequence[Line]) -> Columns:
    """The columns of the regions among the lines of a space, in their order."""
    if lines is space:
        return space.columns
    rows = {start: row for row, start in enumerate(space.columns.start)}
    return space.columns.take([rows[line.start] for line in lines if isinstance(line, Region)])


def _each_once(tell: Callable[[_Value], _Told], values: Sequence[_Value]) -> list[_Told]:
    """What each value tells: asked once for each that is different."""
    told = {value: tell(value) for value in set(values)}
    return list(map(told.__getitem__, values))


def _by_region(columns: Columns, facts: Iterable[Hashable], tell: Callable[[Region], _Told]) -> list[_Told]:
    """The same of what a region tells, where those of the same facts tell the same: few regions are made."""
    listed = list(facts)
    rows = {fact: row for row, fact in enumerate(listed)}
    told = {fact: tell(columns.region(row)) for fact, row in rows.items()}
    return list(map(told.__getitem__, listed))


def _emphasis(columns: Columns, last: int) -> list[dict[int, str]]:
    """For each row: what deserves a look, and a path that stands in the row above already."""
    facts = zip(columns.protection, columns.kind, columns.label, strict=True)
    found = _by_region(columns, facts, lambda region: alarms(region, 1, last))
    paths = [columns.labels[label].path for label in columns.label]
    return [
        {last: "repeated"} | each if path is not None and path == before else each
        for each, (before, path) in zip(found, pairwise([None, *paths]), strict=True)
    ]


def _what_threads_did_not_tell(space: AddressSpace) -> tuple[str, ...]:
    from vmatlas.cli.render.naming import threads_notes  # a plain map does not pay for it

    return threads_notes(space)


def _gap_row(gap: Gap, columns: Sequence[Column], *, exact: bool) -> Row:
    told = {"RANGE": range_text(*gap), "SIZE": size_text(gap.size, exact=exact), "KIND": GAP}
    return Row(tuple(told.get(column.title, NOTHING) for column in columns), "gap")


def legend(kinds: Iterable[Kind]) -> tuple[tuple[str, str], ...]:
    """The kinds that occur, each in its style."""
    return tuple((f"kind.{kind.label}", kind.label) for kind in sorted(set(kinds)))


def headline(space: AddressSpace) -> tuple[str, ...]:
    """Whose map it is, how much, from where and when."""
    parts = [who(space)]
    if space.origin.thread is not None:
        parts[0] += f", thread {space.origin.thread}"
    parts.append(f"{count(len(space), 'region')}, {human(space.total)}")
    if space.columns.resident is not None:
        parts[-1] += f", {human(sum(size for size in space.columns.resident if size != UNKNOWN))} resident"
    return (*parts, *where_and_when(space))


def who(space: AddressSpace) -> str:
    """The process, by its number and what it is called."""
    inside = space.origin.number_inside
    return (
        f"process {space.pid}"
        + (f" ({escape(space.origin.name)})" if space.origin.name else "")
        + (f", {inside} in its own pid namespace" if inside is not None else "")
    )


def where_and_when(space: AddressSpace) -> tuple[str, ...]:
    """The system, the target where it is not this machine, the backend, and the time."""
    system = space.system
    target = () if space.origin.target == "local" else (escape(space.origin.target),)
    moment = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(space.time))
    told = escape(f"{system.system} {system.release} {system.machine}")
    return (*target, told, space.backend, moment)


CSV_COLUMNS = (
    *("start", "end", "size", "protection", "max_protection", "shared", "offset", "device", "inode", "path", "name"),
    *("deleted", "kind", "flags", "resident", "private_resident", "page_size", "build_id"),
)
"""The columns of `vmatlas.model.export`; the memory in use (`memory.FIELD`), where it is told, and the
system's own keys (`detail.KEY`) follow."""


def map_csv(lines: Sequence[Line], guesses: Guesses = None) -> tuple[list[str], list[dict[str, Any]]]:
    """Titles and rows for CSV; sizes and addresses are decimal numbers."""
    rows = [_line_to_dict(line) for line in lines]
    keys = dict.fromkeys(key for row in rows for key in row.get("details", ()))
    for row in rows:
        row.update({f"detail.{key}": value for key, value in row.get("details", {}).items()})
        row.update({f"memory.{key}": value for key, value in (row.get("memory") or {}).items()})
    memory = MEMORY_CSV if any(row.get("memory") for row in rows) else ()
    guessed: tuple[str, ...] = ()
    if guesses is not None:
        from vmatlas.cli.render.naming import GUESS_CSV, guess_csv

        guessed = GUESS_CSV
        for row in rows:
            row.update(guess_csv(guesses.get(row["start"])))
    return [*CSV_COLUMNS, *guessed, *memory, *(f"detail.{key}" for key in keys)], rows


def map_json(space: AddressSpace, lines: Sequence[Line], *, gaps: bool, guesses: Guesses = None) -> dict[str, Any]:
    """The whole of it: where the map comes from, its regions in the order of the lines, and the holes if wanted."""
    value = origin_json(space)
    regions = columns_to_values(_of_lines(space, lines))
    from vmatlas.cli.render.json import Records  # the table does not pay for it

    value["regions"] = Records(regions)
    if guesses is not None:
        from vmatlas.cli.render.naming import guess_json, threads_json

        value["threads"] = threads_json(space)
        regions["guess"] = [guess_json(guesses.get(start)) for start in regions["start"]]
    if gaps:
        value["gaps"] = [_line_to_dict(line) for line in lines if isinstance(line, Gap)]
    return value


def origin_json(space: AddressSpace) -> dict[str, Any]:
    """Where an address space comes from."""
    origin = space.origin
    return {
        "pid": origin.pid,
        "name": origin.name,
        "number_inside": origin.number_inside,
        "start_time": origin.start_time,
        "thread": origin.thread,
        "target": origin.target,
        "system": asdict(origin.system),
        "backend": origin.backend,
        "time": origin.time,
        "consistency": origin.consistency.value,
        "incomplete": origin.incomplete,
    }


def _line_to_dict(line: Line) -> dict[str, Any]:
    if isinstance(line, Region):
        return region_to_dict(line)
    return {"start": line.start, "end": line.end, "size": line.size, "kind": GAP}
