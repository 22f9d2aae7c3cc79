"""A run, kept as a file of JSON, so that its page and its table can be made later and elsewhere. It shows nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter, ValidationError

from ..describe.machine import natural
from ..errors import ImagesError
from ..files import replace_file
from ..run.results import MachineResult, Report, State, console_of


@dataclass(frozen=True)
class Record:
    """What is in the file."""

    report: Report
    vmatlas: str
    """The version of vmatlas that ran."""
    format: Literal[1] = 1


_RECORDS = TypeAdapter(Record)


def save(report: Report, path: Path) -> None:
    """Write a run's report; a file that was there is replaced at once."""
    replace_file(path, _RECORDS.dump_json(Record(report, version("vmatlas")), indent=1))


def load(path: Path) -> Record:
    """The run that a file keeps. Raises `ImagesError`, in one line, for a file that is not there or is none.

    It may be somebody else's, made to be published here with what lies on this machine. So the consoles that it names
    are those beside it, consoles/MACHINE.log, wherever it says that they were.
    """
    try:
        record = _RECORDS.validate_json(path.read_bytes())
    except OSError as error:
        raise ImagesError(f"{path}: cannot be read: {error.strerror}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise ImagesError(
            f"{path}: no record of a run: {where}: {first['msg']}",
            hint="a run of machines of this version writes one as results.json",
        ) from error
    if record.report.made.tzinfo is None:
        raise ImagesError(f"{path}: no record of a run: report.made: {record.report.made} is a time without a zone")
    return _beside(record, path.parent)


def _beside(record: Record, folder: Path) -> Record:
    report = record.report
    results = tuple(
        replace(result, console=result.console and console_of(folder, result.machine.name)) for result in report.results
    )
    return replace(record, report=replace(report, results=results))


def merge(records: Sequence[Record]) -> Record:
    """Several runs as one: of each machine the latest result in which it ran or was lost, else the latest there is.

    What one run leaves out and another has is not left out. No record at all is a fault of the caller's.
    """
    ordered = sorted(records, key=lambda record: record.report.made)
    latest = ordered[-1]
    if len(ordered) == 1:
        return latest
    told: dict[str, MachineResult] = {}
    for result in (result for record in ordered for result in record.report.results):
        name = result.machine.name
        if name not in told or result.state is not State.NOT_RUN or told[name].state is State.NOT_RUN:
            told[name] = result
    away = {machine.name: machine for record in ordered for machine in record.report.left_out}
    left_out = tuple(away[name] for name in sorted(away, key=natural) if name not in told)
    by = "; ".join(dict.fromkeys(record.report.left_out_by for record in ordered if record.report.left_out_by))
    report = Report(
        tuple(told[name] for name in sorted(told, key=natural)),
        sum(record.report.seconds for record in ordered),
        left_out,
        by if left_out else "",
        latest.report.made,
    )
    return Record(report, latest.vmatlas)
