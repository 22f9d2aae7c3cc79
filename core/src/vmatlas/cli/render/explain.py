"""An explanation: a paragraph, a table of threads, JSON."""

from __future__ import annotations

import textwrap
from typing import Any

from vmatlas.cli.render.find import lines_json, symbol_json
from vmatlas.cli.render.table import Column, Row, Table
from vmatlas.cli.render.text import NOTHING, hexadecimal, label_of, one_line, range_text, size_text
from vmatlas.model.export import region_to_dict
from vmatlas.operations.explaining import Explanation, Place, ThreadStack

_COLUMNS = (
    Column("THREAD", right=True),
    Column("INSTRUCTION", right=True),
    Column("FILE-OFFSET", right=True, leaves=2),
    Column("STACK"),
    Column("SIZE", right=True, leaves=1),
    Column("USED", right=True),
    Column("FULL", right=True),
    Column("IN", crops=True),
)
_WIDTH = 100


def paragraph(found: Explanation) -> list[str]:
    """The text, in lines that can be read."""
    return textwrap.wrap(one_line(found.text), _WIDTH, break_long_words=False, break_on_hyphens=False)


def threads_table(found: Explanation, *, exact: bool) -> Table:
    """A line for each thread, the one that the signal went to first."""
    rows = [Row(_cells(each, exact=exact)) for each in found.threads]
    return Table(_COLUMNS, rows, empty="no thread is told")


def _cells(thread: ThreadStack, *, exact: bool) -> tuple[str, ...]:
    at, stack, full = thread.instruction, thread.stack, thread.full
    return (
        NOTHING if thread.number is None else str(thread.number),
        NOTHING if at is None else f"{at.address:x}",
        hexadecimal(None if at is None else at.file_offset),
        NOTHING if stack is None else range_text(stack.start, stack.end),
        NOTHING if stack is None else size_text(stack.size, exact=exact),
        NOTHING if thread.used is None else size_text(thread.used, exact=exact),
        NOTHING if full is None else f"{full:.0%}",
        _name_of(at),
    )


def unread_lines(found: Explanation) -> list[str]:
    """A line for each file of which nothing was read where a thread stood, or the one that the signal went to."""
    places = [found.instruction, *(each.instruction for each in found.threads)]
    lines = {
        f"no symbols of {label_of(at.region)}: {at.unread}": None
        for at in places
        if at is not None and at.region is not None and at.unread is not None
    }
    return list(lines)


def _name_of(at: Place | None) -> str:
    where = _where(at)
    return where if at is None or at.symbol is None else one_line(f"{at.symbol} of {where}")


def _where(at: Place | None) -> str:
    if at is None or (at.region is None and at.module is None):
        return NOTHING
    return label_of(at.region) if at.region is not None else one_line(at.module.name if at.module else "")


def explanation_json(found: Explanation) -> dict[str, Any]:
    """All of it, but for the map."""
    crash, fault, space = found.crash, found.fault, found.space
    return {
        "pid": space.pid,
        "program": crash.program,
        "arguments": crash.arguments,
        "executable": crash.executable,
        "unit": crash.unit,
        "host": crash.host,
        "signal": crash.signal,
        "signal_name": crash.signal_name,
        "code": crash.code,
        "fault_address": crash.fault_address,
        "fault_span": crash.fault_span,
        "no_address": crash.no_address,
        "cause": None if fault is None else fault.cause.value,
        "fault": None if fault is None else fault.text,
        "before": None if fault is None or fault.before is None else region_to_dict(fault.before),
        "at": None if fault is None or fault.at is None else region_to_dict(fault.at),
        "after": None if fault is None or fault.after is None else region_to_dict(fault.after),
        "instruction": _place(found.instruction),
        "threads": [
            {
                "number": each.number,
                "instruction": _place(each.instruction),
                "stack_pointer": each.stack_pointer,
                "stack": None if each.stack is None else region_to_dict(each.stack),
                "used": each.used,
            }
            for each in found.threads
        ],
        "modules": [
            {
                "start": each.start,
                "size": each.size,
                "name": each.name,
                "build_id": None if each.build_id is None else each.build_id.hex(),
            }
            for each in crash.modules
        ],
        "said": crash.said,
        "no_map": crash.no_map or None,
        "text": found.text,
        "incomplete": space.incomplete,
    }


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    region = None if place.region is None else region_to_dict(place.region)
    module = None if place.module is None else place.module.name
    return {
        "address": place.address,
        "file_offset": place.file_offset,
        "region": region,
        "module": module,
        "elf_address": place.elf_address,
        "symbol": symbol_json(place.symbol),
        "lines": lines_json(place.lines),
        "no_lines": place.no_lines,
        "unread": place.unread,
    }
