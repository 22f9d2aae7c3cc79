"""The README's table of what ran on which kernel, made from records of runs. It keeps the rows of machines that
those do not tell of, since no one run has all: a licensed system runs where its licence is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from ..describe.machine import Machine, natural
from ..errors import ImagesError
from ..files import replace_file
from ..run.results import CaseState, MachineResult, State
from .record import Record

BEGIN = "<!-- machines: `invoke table --results FILE` writes what follows -->"
END = "<!-- end of machines -->"
NOT_YET = "not run yet"

_HEAD = "| machine | kernel | processor | backends that answer | refuse, as declared | passed | failed | not run | on |"
_STRANGE = re.compile(r"[^\w .,:;+~/()-]", re.ASCII)


def rewrite(readme: Path, records: Iterable[Record], known: Sequence[Machine]) -> None:
    """Write the table anew between its marks: a row for each machine that is known, ran or stood there.

    Raises `ImagesError` for a file without the marks.
    """
    try:
        text = readme.read_text("utf-8")
    except OSError as error:
        raise ImagesError(f"{readme}: cannot be read: {error.strerror}") from error
    rows = read_rows(text, readme)
    for machine in known:
        row = rows.get(machine.name)
        if row is None or NOT_YET in row[1]:
            rows[machine.name] = _row_of_none(machine)
    for record in sorted(records, key=lambda record: record.report.made):
        for result in record.report.results:
            if result.state is not State.NOT_RUN:
                rows[result.machine.name] = _row(result, f"{record.report.made:%Y-%m-%d}")
    lines = [f"| {' | '.join(rows[name])} |" for name in sorted(rows, key=natural)]
    before, _, rest = text.partition(BEGIN)
    table = "\n".join([_HEAD, "|---" * _HEAD.count(" | ") + "|---|", *lines])
    replace_file(readme, f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}".encode())


def read_rows(text: str, readme: Path) -> dict[str, list[str]]:
    """The rows that stand between the marks, each by its machine. Raises `ImagesError` where there are none."""
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ImagesError(f"{readme}: the table goes between the lines '{BEGIN}' and '{END}', once each, in this order")
    block = text.partition(BEGIN)[2].partition(END)[0]
    lines = [line for line in block.splitlines() if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: row for row in rows}


def _row_of_none(machine: Machine) -> list[str]:
    return [machine.name, NOT_YET, _processor(machine), "", "", "", "", "", ""]


def _row(result: MachineResult, day: str) -> list[str]:
    counts = [str(result.count(state)) for state in (CaseState.PASSED, CaseState.FAILED, CaseState.NOT_RUN)]
    lost = " (the machine was lost)" if result.state is State.LOST else ""
    return [
        result.machine.name,
        _plain(result.kernel or "not known") + lost,
        _processor(result.machine),
        _plain(", ".join(result.outcome.answered)),
        _plain(", ".join(result.outcome.refused)),
        *counts,
        day,
    ]


def _processor(machine: Machine) -> str:
    process = f", process {machine.agent_processor}" if machine.agent_processor != machine.processor else ""
    return machine.processor + process


def _plain(text: str) -> str:
    """What a guest said, without what means something to Markdown."""
    return _STRANGE.sub("?", text)
