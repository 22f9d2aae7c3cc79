"""What lies at addresses: a line for each, with the place in the file that the address stands for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from vmatlas.cli.render.maps import alarms, headline, legend, style_of
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, hexadecimal, human, label_of, one_line, range_text, size_text
from vmatlas.model import AddressSpace, Neighbours, Region
from vmatlas.model.export import region_to_dict
from vmatlas.symbols.lines import Frames, SourceLine
from vmatlas.symbols.table import Symbol

_COLUMNS = (
    Column("ADDRESS", right=True),
    Column("RANGE"),
    Column("PERM"),
    Column("SIZE", right=True, leaves=1),
    Column("ELF-ADDRESS", right=True),
    Column("FILE-OFFSET", right=True, leaves=3),
    Column("KIND", leaves=2, stands_in=True),
    Column("NAME", crops=True),
)

_SYMBOL = Column("SYMBOL", crops=True)
_SOURCE = Column("SOURCE", crops=True)


class Named(NamedTuple):
    """The names of addresses, in their order."""

    symbols: Sequence[Symbol | None]
    lines: Sequence[Frames] | None
    """None where they were not asked for."""


def file_offset(region: Region, address: int) -> int | None:
    """The place in the file that an address of the region shows."""
    if region.offset is None or not region.covers(address):
        return None
    return region.offset + address - region.start


def found_table(
    addresses: Sequence[int],
    found: Sequence[Region | None],
    in_elf: Sequence[int | None],
    named: Named | None = None,
    *,
    exact: bool,
) -> Table:
    """A line for each address, in the order asked; `in_elf` are the addresses in the ELF files, where there are any,
    and `named` what lies there, if that was asked. Below an address what the function there was inlined into."""
    symbols = [None] * len(found) if named is None else named.symbols
    lines = [()] * len(found) if named is None or named.lines is None else named.lines
    more = () if named is None else (_SYMBOL,) if named.lines is None else (_SYMBOL, _SOURCE)
    columns = (*_COLUMNS[:5], *more, *_COLUMNS[5:])
    rows: list[Row] = []
    for address, region, own, symbol, frames in zip(addresses, found, in_elf, symbols, lines, strict=True):
        if region is None:
            rows.append(Row((f"{address:x}", *[NOTHING] * (len(columns) - 1)), "bad"))
            continue
        names = (NOTHING if symbol is None else one_line(str(symbol)), _source(frames[0]) if frames else NOTHING)
        cells = (
            f"{address:x}",
            range_text(region.start, region.end),
            region.permissions,
            size_text(region.size, exact=exact),
            hexadecimal(own),
            *names[: len(more)],
            hexadecimal(file_offset(region, address)),
            region.kind.label,
            label_of(region),
        )
        rows.append(Row(cells, style_of(region), {0: "heading"} | alarms(region, 2, len(columns) - 1)))
        for inner, outer in pairwise(frames):
            into = f"{one_line(inner.called)} inlined into {one_line(outer.called)}"
            rows.append(Row(("", "", "", "", "", into, _source(outer), "", "", ""), "note"))
    return Table(columns, rows, legend=legend(region.kind for region in found if region is not None))


def _source(line: SourceLine) -> str:
    if line.file is None:
        return NOTHING
    return one_line(line.file if line.line is None else f"{line.file}:{line.line}")


def symbol_json(symbol: Symbol | None) -> dict[str, Any] | None:
    """Its name, how far into it, and where the name stands."""
    if symbol is None:
        return None
    return {"name": symbol.name, "legible": symbol.legible, "offset": symbol.offset, "source": symbol.source}


def lines_json(frames: Frames) -> list[dict[str, Any]]:
    """The function, the file and the line of each, the innermost first."""
    return [each._asdict() for each in frames]


def found_json(
    addresses: Sequence[int],
    found: Sequence[Region | None],
    in_elf: Sequence[int | None],
    unread: Sequence[str | None],
    named: Named | None = None,
) -> list[dict[str, Any]]:
    """For each address its region, or null; `unread`: why nothing was read of its file."""
    symbols = [None] * len(found) if named is None else named.symbols
    lines = [None] * len(found) if named is None or named.lines is None else named.lines
    return [
        {
            "address": address,
            "elf_address": own,
            "symbol": symbol_json(symbol),
            "lines": None if frames is None else lines_json(frames),
            "file_offset": None if region is None else file_offset(region, address),
            "region": None if region is None else region_to_dict(region),
            "unread": why,
        }
        for address, region, own, why, symbol, frames in zip(
            addresses, found, in_elf, unread, symbols, lines, strict=True
        )
    ]


_WHERE_TITLES = ("before", "at", "after")


def neighbours_table(
    space: AddressSpace, addresses: Sequence[int], found: Sequence[Neighbours], *, exact: bool
) -> Table:
    """Three lines for each address: the region before, the one at it, the one after; and how far away they are."""
    columns = (
        Column("ADDRESS", right=True, leaves=3 if len(addresses) == 1 else 0),
        Column("WHERE"),
        Column("DISTANCE", right=True),
        Column("RANGE"),
        Column("PERM"),
        Column("SIZE", right=True, leaves=1),
        Column("KIND", leaves=2, stands_in=True),
        Column("NAME", crops=True),
    )
    rows: list[Row] = []
    shown: list[Region] = []
    for address, neighbours in zip(addresses, found, strict=True):
        for word, region in zip(_WHERE_TITLES, neighbours, strict=True):
            if region is None:
                rows.append(Row((f"{address:x}", word, *[NOTHING] * 6), "bad" if word == "at" else "note"))
                continue
            shown.append(region)
            cells = (
                f"{address:x}",
                word,
                size_text(distance(address, region), exact=exact),
                range_text(region.start, region.end),
                region.permissions,
                size_text(region.size, exact=exact),
                region.kind.label,
                label_of(region),
            )
            emphasis = ({0: "heading", 1: "heading"} if word == "at" else {0: "note"}) | alarms(region, 4, 7)
            rows.append(Row(cells, style_of(region), emphasis))
    notes = tuple(
        f"{address:x} lies in a hole of {human(around.after.start - around.before.end)}"
        for address, around in zip(addresses, found, strict=True)
        if around.at is None and around.before is not None and around.after is not None
    )
    return Table(columns, rows, title=headline(space), notes=notes, legend=legend(region.kind for region in shown))


def distance(address: int, region: Region) -> int:
    """Bytes from the address to the nearest byte of the region: 0 inside; the last byte below is 1 away."""
    if address < region.start:
        return region.start - address
    return max(address - region.end + 1, 0)


def neighbours_json(addresses: Sequence[int], found: Sequence[Neighbours]) -> list[dict[str, Any]]:
    """For each address the region before, at and after it, or null."""
    return [
        {"address": address}
        | {
            word: None if region is None else region_to_dict(region)
            for word, region in zip(_WHERE_TITLES, around, strict=True)
        }
        for address, around in zip(addresses, found, strict=True)
    ]
