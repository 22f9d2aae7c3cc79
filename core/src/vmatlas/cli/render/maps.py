"""The map of a process: regions, and the holes between them where they are asked for."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

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
from vmatlas.model import AddressSpace, Gap, Kind, Protection, Region
from vmatlas.model.export import region_to_dict

if TYPE_CHECKING:
    from vmatlas.analysis.naming import Guess

Guesses: TypeAlias = "Mapping[int, Guess] | None"
"""By the start of a region; None where nobody asked for them."""

Line: TypeAlias = Region | Gap
"""What a line of the table stands for."""

GAP = "gap"
_WX = Protection.WRITE | Protection.EXECUTE
_KERNEL_HALF = 2**63


def order(space: AddressSpace, *, gaps: bool, by: str) -> list[Line]:
    """Regions, and holes if wanted: by address, the largest first, or by kind or path (and then by address)."""
    lines: list[Line] = sorted([*space, *space.gaps()], key=lambda line: line.start) if gaps else list(space)
    if by == "start":
        return lines
    return sorted(lines, key=_KEYS[by])


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
    resident = space.columns.resident is not None
    private = space.columns.private_resident is not None
    columns = [Column("RANGE"), Column("PERM"), Column("SIZE", right=True)]
    columns += [Column("RESIDENT", right=True)] * resident
    columns += [Column("PRIVATE", right=True, leaves=3, asked=True)] * private
    columns += [Column("PSS", right=True, asked=True)] * (by == "pss")
    columns += [Column("SWAP", right=True, asked=True)] * (by == "swap")
    columns += [Column("OFFSET", right=True, leaves=5), Column("KIND", leaves=4, stands_in=True)]
    columns += [Column("FLAGS", leaves=2, asked=True)] * flags
    columns += [Column("BUILD-ID", leaves=1, asked=True)] * build_ids
    columns += [Column("GUESS", leaves=1, asked=True, below=True)] * (guesses is not None)
    columns += [Column("NAME", crops=True)]

    def cells(region: Region) -> Iterator[str]:
        yield range_text(region.start, region.end)
        yield region.permissions
        yield size_text(region.size, exact=exact)
        if resident:
            yield size_text(region.resident, exact=exact)
        if private:
            yield size_text(region.private_resident, exact=exact)
        if by == "pss":
            yield size_text(region.proportional, exact=exact)
        if by == "swap":
            yield size_text(_swapped(region), exact=exact)
        yield hexadecimal(region.offset)
        yield region.kind.label
        if flags:
            yield NOTHING if region.flags is None else str(region.flags) or "none"
        if build_ids:
            yield NOTHING if region.build_id is None else region.build_id.hex()
        if guesses is not None:
            guess = guesses.get(region.start)
            yield NOTHING if guess is None else escape(guess.label)
        yield label_of(region)

    rows: list[Row] = []
    last = len(columns) - 1
    before = None
    for line in lines:
        if isinstance(line, Gap):
            rows.append(_gap_row(line, columns, exact=exact))
            continue
        emphasis = alarms(line, 1, last)
        if line.path is not None and line.path == before:
            emphasis.setdefault(last, "repeated")
        before = line.path
        rows.append(Row(tuple(cells(line)), style_of(line), emphasis, line.start >= _KERNEL_HALF))
    return Table(
        tuple(columns),
        rows,
        title=headline(space),
        notes=() if guesses is None else _what_threads_did_not_tell(space),
        legend=legend(line for line in lines if isinstance(line, Region)),
        empty="no region",
    )


def _what_threads_did_not_tell(space: AddressSpace) -> tuple[str, ...]:
    from vmatlas.cli.render.naming import threads_notes  # a plain map does not pay for it

    return threads_notes(space)


def _gap_row(gap: Gap, columns: Sequence[Column], *, exact: bool) -> Row:
    told = {"RANGE": range_text(*gap), "SIZE": size_text(gap.size, exact=exact), "KIND": GAP}
    return Row(tuple(told.get(column.title, NOTHING) for column in columns), "gap")


def legend(regions: Iterable[Region]) -> tuple[tuple[str, str], ...]:
    """The kinds that occur, each in its style."""
    return tuple((f"kind.{kind.label}", kind.label) for kind in sorted({region.kind for region in regions}))


def headline(space: AddressSpace) -> tuple[str, ...]:
    """Whose map it is, how much, from where and when."""
    parts = [who(space)]
    if space.origin.thread is not None:
        parts[0] += f", thread {space.origin.thread}"
    parts.append(f"{count(len(space), 'region')}, {human(space.total)}")
    if space.columns.resident is not None:
        parts[-1] += f", {human(sum(region.resident or 0 for region in space))} resident"
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
    value["regions"] = [region_to_dict(line) for line in lines if isinstance(line, Region)]
    if guesses is not None:
        from vmatlas.cli.render.naming import guess_json, threads_json

        value["threads"] = threads_json(space)
        for told in value["regions"]:
            told["guess"] = guess_json(guesses.get(told["start"]))
    if gaps:
        value["gaps"] = [_line_to_dict(line) for line in lines if isinstance(line, Gap)]
    return value


def origin_json(space: AddressSpace) -> dict[str, Any]:
    """Where an address space comes from."""
    import dataclasses

    origin = space.origin
    return {
        "pid": origin.pid,
        "name": origin.name,
        "number_inside": origin.number_inside,
        "start_time": origin.start_time,
        "thread": origin.thread,
        "target": origin.target,
        "system": dataclasses.asdict(origin.system),
        "backend": origin.backend,
        "time": origin.time,
        "consistency": origin.consistency.value,
        "incomplete": origin.incomplete,
    }


def _line_to_dict(line: Line) -> dict[str, Any]:
    if isinstance(line, Region):
        return region_to_dict(line)
    return {"start": line.start, "end": line.end, "size": line.size, "kind": GAP}
