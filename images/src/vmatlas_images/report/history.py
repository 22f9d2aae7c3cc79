"""What passed on which kernel on which day, kept in the project: a file of lines, one a machine and day, as JSON.

Runs are added to it (`invoke table`); nothing that stands there is taken away but by a later run of the same machine on
the same kernel and day. A page draws it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from ..describe.machine import natural
from ..errors import ImagesError
from ..files import replace_file
from ..run.results import CaseState, State
from .record import Record

NAME = "history.jsonl"
DAYS = 12
"""How many days a page draws: the last on which anything ran."""


@dataclass(frozen=True)
class Entry:
    """A machine's run on a day (UTC), on the kernel that it told. `refused`: as declared; None: that was not kept."""

    day: datetime.date
    machine: str
    kernel: str
    passed: int
    failed: int
    not_run: int
    refused: int | None = None
    lost: bool = False

    @property
    def state(self) -> CaseState:
        """Whether it passed, failed, or showed nothing. One that was lost has failed."""
        if self.lost or self.failed:
            return CaseState.FAILED
        return CaseState.PASSED if self.passed else CaseState.NOT_RUN


@dataclass(frozen=True)
class Course:
    """A machine through the days that are drawn: an entry for each, or None where it did not run."""

    machine: str
    entries: tuple[Entry | None, ...]
    is_new: tuple[bool, ...]
    """Whether the kernel is another than when it ran before."""


_ENTRY = TypeAdapter(Entry)


def read_history(path: Path) -> tuple[Entry, ...]:
    """The entries of a file; none where there is no file. Raises `ImagesError`, which names the line."""
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise ImagesError(f"{path}: cannot be read: {error.strerror}") from error
    entries = []
    for number, text in enumerate(lines, 1):
        try:
            entries.append(_ENTRY.validate_json(text))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the line"
            raise ImagesError(f"{path}:{number}: no entry of the history: {where}: {first['msg']}") from error
    return tuple(entries)


def entries_of(records: Iterable[Record]) -> list[Entry]:
    """What runs came to. What did not run has no entry."""
    return [
        Entry(
            record.report.made.astimezone(datetime.UTC).date(),
            result.machine.name,
            result.kernel or "not known",
            result.count(CaseState.PASSED),
            result.count(CaseState.FAILED),
            result.count(CaseState.NOT_RUN),
            result.count(CaseState.REFUSED),
            result.state is State.LOST,
        )
        for record in sorted(records, key=lambda each: each.report.made)
        for result in record.report.results
        if result.state is not State.NOT_RUN
    ]


def with_runs(history: Iterable[Entry], records: Iterable[Record]) -> tuple[Entry, ...]:
    """The history and these runs: of a machine on a kernel and day the later one."""
    found = {(entry.day, entry.machine, entry.kernel): entry for entry in (*history, *entries_of(records))}
    return tuple(sorted(found.values(), key=lambda each: (each.day, natural(each.machine), each.kernel)))


def write_history(path: Path, entries: Iterable[Entry]) -> None:
    """Write the file anew; the one that was there is replaced at once. Raises OSError."""
    replace_file(path, b"".join(_ENTRY.dump_json(entry, exclude_defaults=True) + b"\n" for entry in entries))


def courses(history: Sequence[Entry]) -> tuple[tuple[datetime.date, ...], tuple[Course, ...]]:
    """The days to draw, the latest at the end, and each machine's course through them, by name.

    Of several kernels on a day the last is drawn, and one that failed before all others.
    """
    days = tuple(sorted({entry.day for entry in history})[-DAYS:])
    drawn = []
    for machine in sorted({entry.machine for entry in history}, key=natural):
        own = sorted((entry for entry in history if entry.machine == machine), key=lambda each: each.day)
        of_day = {entry.day: entry for entry in sorted(own, key=lambda each: each.state is CaseState.FAILED)}
        before = [entry.kernel for entry in own if not days or entry.day < days[0]]
        told, is_new = before[-1] if before else "", []
        for day in days:
            kernel = of_day[day].kernel if day in of_day else told
            is_new.append(kernel != told)
            told = kernel
        if any(day in of_day for day in days):
            drawn.append(Course(machine, tuple(map(of_day.get, days)), tuple(is_new)))
    return days, tuple(drawn)
