"""`python -m tests.bench`: measures all cases, prints one table, keeps the figures as JSON when told where."""

from __future__ import annotations

import argparse
import gc
import json
import platform
import signal
import statistics
import sys
import tempfile
from array import array
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import vmatlas
from tests.bench.cases import MAPS, Case, cases, machine
from tests.bench.processes import Floors, Missing, child

Row = dict[str, Any]


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample in this file")
    parser.add_argument("--rounds", type=int, default=7, help="measurements of each, interleaved (default: 7)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, and no map of 60,000 regions")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    rounds, sizes = (3, MAPS[:2]) if options.quick else (options.rounds, MAPS)
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows: list[Row] = []
    about = machine() | {"python": platform.python_version(), "vmatlas": vmatlas.__version__}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        floors = Floors(Path(folder))
        for case in cases(floors, sizes, stack):
            print(f"measuring: {case.name}", file=sys.stderr)
            rows += measure(case, rounds)
    about["memory"] = memory()
    report(console, rows, about)
    if options.json is not None:
        kept = {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "rounds": rounds,
            "machine": about,
            "rows": rows,
        }
        options.json.write_text(json.dumps(kept, indent=1) + "\n")


def measure(case: Case, rounds: int) -> list[Row]:
    """The subjects in turn, again and again, so that what disturbs the machine disturbs all alike."""
    samples: dict[str, list[float]] = {subject.name: [] for subject in case.subjects}
    missing: dict[str, str] = {}
    for number in range(rounds + 1):
        for subject in case.subjects:
            if subject.name in missing:
                continue
            gc.collect()
            try:
                taken = subject.measure()
            except Missing as error:
                missing[subject.name] = str(error)
                continue
            if number:  # the first round warms up
                samples[subject.name].append(taken / case.units)
    floor = statistics.median(samples[case.subjects[0].name]) if samples[case.subjects[0].name] else None
    return [
        {
            "case": case.name,
            "subject": name,
            "unit": f"ns a {case.unit}",
            "median": (median := statistics.median(values) if values else None),
            "spread": spread(values),
            "ratio": median / floor if median is not None and floor else None,
            "missing": missing.get(name),
            "samples": values,
        }
        for name, values in samples.items()
    ]


def spread(values: list[float]) -> float | None:
    """How far apart the middle half of the samples lies, as a part of the median."""
    if len(values) < 2:
        return None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def memory() -> str:
    """What the columns of 60,000 regions hold."""
    with child(60_000) as pid:
        columns = vmatlas.snapshot(pid, backend="linux-procfs").columns
    arrays = [getattr(columns, name) for name in columns.__slots__]
    held = sum(sys.getsizeof(each) for each in arrays if isinstance(each, array))
    return f"{held / len(columns):.1f} bytes a region in columns, {len(columns.labels)} distinct names"


def report(console: Console, rows: list[Row], about: dict[str, str]) -> None:
    """One table, and what it was measured on."""
    table = Table(title="Reading memory maps: medians, against the first line of each block")
    table.add_column("who")
    for heading in ("median", "spread", "ratio"):
        table.add_column(heading, justify="right")
    for case, unit in dict.fromkeys((row["case"], row["unit"]) for row in rows):
        table.add_section()
        table.add_row(f"[bold]{case}[/bold]", unit)
        add_rows(table, [row for row in rows if row["case"] == case])
    console.print(table)
    for what, said in about.items():
        console.print(f"{what}: {said}", highlight=False)


def add_rows(table: Table, rows: list[Row]) -> None:
    """The subjects of one case."""
    for row in rows:
        if row["missing"]:
            table.add_row(f"  {row['subject']}", f"not here: {row['missing']}")
            continue
        share = "" if row["spread"] is None else f"{row['spread']:.0%}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:.2f}"
        table.add_row(f"  {row['subject']}", f"{row['median']:,.0f}", share, ratio)


if __name__ == "__main__":
    main()
