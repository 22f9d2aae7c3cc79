"""`python -m tests.bench`: measures all cases, prints one table, keeps the figures as JSON when told where."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import signal
import statistics
import sys
import tempfile
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import vmatlas
from tests.bench.cases import SIZES, Bench, Case, cases, machine
from tests.bench.crash import read_of_a_large_one
from tests.bench.plot import plot_growth
from tests.bench.processes import Floors, Missing, Rust, Worker, child

Row = dict[str, Any]


def main() -> None:
    """Parses the command line, measures, reports."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep every sample in this file")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw time and memory against regions, as SVG")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table for the documents")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="then compare the ratios with those of this file")
    parser.add_argument("--rounds", type=int, default=11, help="measurements of each, interleaved (default: 11)")
    parser.add_argument("--quick", action="store_true", help="3 rounds, small maps, no machine booted")
    parser.add_argument("--no-remote", action="store_true", help="boot no machine")
    parser.add_argument("--only", default="", metavar="TEXT", help="the cases whose name contains it")
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    try:  # before the minutes of measuring
        before = None if options.compare is None else json.loads(options.compare.read_text())["rows"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        parser.error(f"--compare {options.compare}: no figures of an earlier run (--json): {error}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what was started is ended
    rounds = 3 if options.quick else options.rounds
    limit = int(Path("/proc/sys/vm/max_map_count").read_text()) - 100
    sizes = tuple(size for size in SIZES if size <= (1000 if options.quick else limit))
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows: list[Row] = []
    about = machine() | {"python": platform.python_version(), "vmatlas": vmatlas.__version__}
    if skipped := [f"{size:,}" for size in SIZES if size > limit]:
        about["not here"] = f"maps of {', '.join(skipped)} regions: vm.max_map_count is {limit + 100:,}"
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        print("building the floors and the peers", file=sys.stderr)
        bench = Bench(
            Floors(Path(folder)),
            Rust(Path(folder)),
            stack.enter_context(Worker(compiled=True)),
            stack.enter_context(Worker(compiled=False)),
        )
        about["rust"] = bench.rust.missing or f"crate {bench.rust.version} of Debian"
        found = cases(bench, sizes, stack, remote=not (options.quick or options.no_remote))
        chosen = [case for case in found if options.only in case.name]
        rows += measure(chosen, rounds, bench.pids)
        held = [] if options.only else held_by(bench, sizes)
        about |= memory(held) if held else {}
        if not options.only or "core" in options.only:
            about["read of a core of 60 GB"] = read_of_a_large_one()
    about["load after"] = machine()["load"]
    about |= growth(rows)
    report(console, rows, about)
    date = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {"date": date, "rounds": rounds, "machine": about, "held": held, "rows": rows}
    if options.json is not None:
        options.json.write_text(json.dumps(kept, indent=1) + "\n")
    if options.plot is not None:
        note = f"{about['kernel']}, {date}"
        options.plot.write_text(plot_growth(curves(rows), {"vmatlas: columns and names": held}, note))
    if options.markdown is not None:
        options.markdown.write_text(markdown(rows, about, date))
    if before is not None:
        compare(console, rows, before)


def measure(chosen: list[Case], rounds: int, pids: tuple[int, ...]) -> list[Row]:
    """All subjects of all cases in turn, again and again: a machine that is slow for a while is so for a few samples of
    each, and not for all of one. Each round on the next processor: one that shares its core is slow for all alike."""
    processors = sorted(os.sched_getaffinity(0))
    samples: dict[tuple[str, str], list[float]] = {(c.name, s.name): [] for c in chosen for s in c.subjects}
    missing: dict[tuple[str, str], str] = {}
    for number in range(rounds):
        print(f"round {number + 1} of {rounds}", file=sys.stderr)
        for case in chosen:
            for subject in case.subjects:
                key = case.name, subject.name
                if key in missing or (subject.rounds is not None and number >= subject.rounds):
                    continue
                stay_on(processors if subject.spreads else [processors[number % len(processors)]], pids)
                try:
                    samples[key].append(subject.measure() / case.units)
                except Missing as error:
                    missing[key] = str(error)
    stay_on(processors, pids)
    return [
        row_of(case, subject.name, samples[case.name, subject.name], missing.get((case.name, subject.name)), floor)
        for case in chosen
        for floor in [samples[case.name, case.subjects[0].name]]
        for subject in case.subjects
    ]


def stay_on(processors: list[int], pids: tuple[int, ...]) -> None:
    """Keep processes, and what they start from here on, on some processors."""
    for pid in pids:
        os.sched_setaffinity(pid, processors)


def row_of(case: Case, name: str, values: list[float], missing: str | None, floor: list[float]) -> Row:
    """The figures of one subject."""
    return {
        "case": case.name,
        "subject": name,
        "unit": f"ns a {case.unit}",
        "units": case.units,
        "median": statistics.median(values) if values else None,
        "least": min(values, default=None),
        "spread": spread(values),
        # The least of both: what else runs on the machine only ever adds.
        "ratio": min(values) / min(floor) if values and floor else None,
        "missing": missing,
        "samples": values,
    }


def spread(values: list[float]) -> float | None:
    """How far apart the middle half of the samples lies, as a part of the median."""
    if len(values) < 2:
        return None
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle


def held_by(bench: Bench, sizes: tuple[int, ...]) -> list[tuple[float, float]]:
    """Regions, and the bytes that the columns of such a map hold, its distinct names included."""
    held = []
    for size in sizes:
        with child(size) as pid:
            held.append((float(size), bench.compiled.do("held", pid=pid) * size))
    return held


def memory(held: list[tuple[float, float]]) -> dict[str, str]:
    """What the columns of the largest map hold, and how that grows."""
    regions, size = held[-1]
    told = f"{size / regions:.1f} bytes a region with its distinct names ({regions:,.0f} regions)"
    slope = slope_of(held[1:])
    return {"memory": told if math.isnan(slope) else f"{told}; slope {slope:.2f} on a log-log plot"}


def slope_of(points: list[tuple[float, float]]) -> float:
    """Of the line through the logarithms: 1 is growth in proportion."""
    if len(points) < 2:
        return float("nan")
    found = statistics.linear_regression([math.log(x) for x, _ in points], [math.log(y) for _, y in points])
    return found.slope


WHOLE_MAP = "whole map of "


def curves(rows: list[Row]) -> dict[str, list[tuple[float, float]]]:
    """For each subject: regions, and nanoseconds of the whole map."""
    found: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        if row["case"].startswith(WHOLE_MAP) and row["median"] is not None:
            found.setdefault(row["subject"], []).append((row["units"], row["median"] * row["units"]))
    return found


def growth(rows: list[Row]) -> dict[str, str]:
    """How the time of a whole map grows from 1,000 regions on."""
    slopes = {
        name: slope_of([point for point in points if point[0] >= 1000])
        for name, points in curves(rows).items()
        if name in ("vmatlas linux-procfs", "vmatlas linux-ioctl", "C: read(2), nothing parsed")
    }
    told = ", ".join(f"{name} {slope:.2f}" for name, slope in slopes.items() if not math.isnan(slope))
    return {"growth": f"slope of time on a log-log plot from 1,000 regions: {told}"} if told else {}


def compare(console: Console, rows: list[Row], before: list[Row]) -> None:
    """How far the ratios of two runs lie apart. A floor is not compared with itself."""
    known = ratios(before)
    apart = sorted(
        ((abs(ratio / known[key] - 1), *key, known[key], ratio) for key, ratio in ratios(rows).items() if key in known),
        reverse=True,
    )
    beyond = [each for each in apart if each[0] > AGREE]
    console.print(f"{len(apart)} ratios compared: {len(apart) - len(beyond)} agree within {AGREE:.0%}", highlight=False)
    for share, case, subject, old, new in beyond:
        console.print(f"  {share:.0%} apart: {case}: {subject}: {old:.2f} and {new:.2f}", highlight=False)


def ratios(rows: list[Row]) -> dict[tuple[str, str], float]:
    """By case and subject. What follows a case's comma is counted anew in each run, as the machine's processes are."""
    floors = {row["case"]: row["subject"] for row in reversed(rows)}  # the first of each case
    return {
        (row["case"].partition(", ")[0], row["subject"]): row["ratio"]
        for row in rows
        if row["ratio"] is not None and row["subject"] != floors[row["case"]]
    }


AGREE = 0.2


def report(console: Console, rows: list[Row], about: dict[str, str]) -> None:
    """One table, and what it was measured on."""
    table = Table(
        title="Reading memory maps: medians; ratios of the least to the least of the first line of each block"
    )
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


def markdown(rows: list[Row], about: dict[str, str], date: str) -> str:
    """The same table for docs/speed.md."""
    lines = [f"Measured {date}. " + "; ".join(f"{what}: {said}" for what, said in about.items()) + ".", ""]
    for case, unit in dict.fromkeys((row["case"], row["unit"]) for row in rows):
        lines += [f"| {case} | {unit} | spread | ratio |", "|---|---:|---:|---:|"]
        for row in rows:
            if row["case"] == case and row["missing"]:
                lines.append(f"| {row['subject']} | not here: {row['missing']} | | |")
            elif row["case"] == case:
                share = "" if row["spread"] is None else f"{row['spread']:.0%}"
                lines.append(f"| {row['subject']} | {row['median']:,.0f} | {share} | {row['ratio'] or 0:,.2f} |")
        lines.append("")
    return "\n".join(lines)


def add_rows(table: Table, rows: list[Row]) -> None:
    """The subjects of one case."""
    for row in rows:
        if row["missing"]:
            table.add_row(f"  {row['subject']}", f"not here: {row['missing']}")
            continue
        share = "" if row["spread"] is None else f"{row['spread']:.0%}"
        ratio = "" if row["ratio"] is None else f"{row['ratio']:,.2f}"
        table.add_row(f"  {row['subject']}", f"{row['median']:,.0f}", share, ratio)


if __name__ == "__main__":
    main()
