"""What became of advice: bytes asked and advised, and the memory in use before and after."""

from __future__ import annotations

from typing import Any, NamedTuple

from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import count, range_text, size_text
from vmatlas.model import AddressSpace
from vmatlas.operations import Advised
from vmatlas.operations.mapping import clip

_COLUMNS = (
    Column("PID", right=True),
    Column("ADVICE"),
    Column("REGIONS", right=True),
    Column("ASKED", right=True),
    Column("ADVISED", right=True),
    Column("RESIDENT-BEFORE", right=True),
    Column("RESIDENT-AFTER", right=True),
    Column("STOPPED-AT", leaves=1),
)


class Told(NamedTuple):
    """Advice and what it did."""

    advised: Advised
    regions: AddressSpace
    """What was asked for."""
    before: int | None
    """Bytes of it in memory; None where the system does not tell."""
    after: int | None
    """The same afterwards; None also when nothing was done."""


def resident(regions: AddressSpace, space: AddressSpace | None) -> int | None:
    """The memory in use by regions in a reading of the map; None where it is not told of just these addresses."""
    if space is None:
        return None
    total = 0
    for region in regions:
        for part in clip(space, region.start, region.end):
            if part.resident is None:  # not told, or of a region that has grown together with a neighbour since
                return None
            total += part.resident
    return total


def advised_table(told: Told, *, exact: bool) -> Table:
    """One line."""
    advised = told.advised
    stopped = "-" if advised.stopped_at is None else range_text(*advised.stopped_at)
    if advised.refused:
        stopped = f"{count(len(advised.refused), 'range')} refused"
    row = Row(
        (
            str(advised.pid),
            advised.advice.value,
            str(len(told.regions)),
            size_text(advised.asked, exact=exact),
            size_text(advised.advised, exact=exact),
            size_text(told.before, exact=exact),
            size_text(told.after, exact=exact),
            stopped,
        ),
        "",
        {0: "heading"} | ({7: "warning"} if stopped != "-" else {}),
    )
    notes = []
    if advised.dry_run:
        notes.append(f"dry run: {count(len(told.regions), 'region')} would be advised; nothing was done")
    if advised.unasked is not None:
        notes.append(f"the kernel was not asked: {advised.unasked}")
    return Table(_COLUMNS, [row], notes=tuple(notes))


def advised_json(told: Told) -> dict[str, Any]:
    """Everything that is known, sizes in bytes."""
    advised = told.advised
    return {
        "pid": advised.pid,
        "start_time": told.regions.start_time,
        "target": told.regions.origin.target,
        "advice": advised.advice.value,
        "dry_run": advised.dry_run,
        "unasked": advised.unasked,
        "regions": len(told.regions),
        "asked": advised.asked,
        "advised": advised.advised,
        "resident_before": told.before,
        "resident_after": told.after,
        "stopped_at": None
        if advised.stopped_at is None
        else {"start": advised.stopped_at[0], "end": advised.stopped_at[1]},
        "refused": [{"start": start, "end": end} for start, end in advised.refused],
        "reason": advised.reason,
        "errno": None if advised.failure is None else advised.failure.errno_name,
    }
