"""`vmatlas growth`: what grows over time, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    Asked,
    Chooses,
    DurationType,
    asking_options,
    format_options,
    reach,
    refuse_both,
    shape_options,
)
from vmatlas.cli.recorded import SourceType, opened, refuse_asking, split
from vmatlas.errors import NoSuchProcess, UsageError

if TYPE_CHECKING:
    from vmatlas.analysis.trend import Trends
    from vmatlas.model import AddressSpace

_EVERY, _FOR = 1.0, 60.0
"""Seconds, of a process that is watched now."""


@click.command("growth", short_help="What grows over time: leaks first, with slope and confidence.")
@click.argument("source", metavar="PID|FILE", type=SourceType())
@click.option("--every", metavar="TIME", type=DurationType(), help="Of a process: look this often. Default: 1s.")
@click.option("--for", "seconds", metavar="TIME", type=DurationType(), help="Of a process: so long. Default: 60s.")
@click.option("--from", "begin", metavar="MOMENT", help="Of a series: from there, e.g. +10m, 10:00, #5.")
@click.option("--to", "end", metavar="MOMENT", help="Of a series: up to there.")
@click.option(
    "--by",
    type=click.Choice(("kind", "use", "file", "name", "nameless", "guess")),
    help="Only what has this in common. Default: all of them.",
)
@click.option(
    "--measure",
    metavar="NUMBER",
    default="held",
    help="What is followed: held (in memory or swap, the default), resident, proportional, private, anonymous, ...",
)
@click.option("--all", "everything", is_flag=True, help="Also what stays as it is.")
@format_options
@shape_options
@asking_options
def command(
    source: Asked | Chooses | str,
    every: float | None,
    seconds: float | None,
    begin: str | None,
    end: str | None,
    by: str | None,
    measure: str,
    everything: bool,
    exact: bool,
    as_json: bool,
    as_csv: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Show what grows in a process over time: of a series ('vmatlas record --every'), or of a process from now on.

    \b
    Examples:
      vmatlas growth leak.vmatlas
      vmatlas growth leak.vmatlas --from +10m --by nameless
      vmatlas growth 1234 --every 1s --for 60s
      vmatlas growth leak.vmatlas --json

    What grows stands first: single groups (nameless memory, names, files), then guesses at what has no name, then the
    kinds and uses that they are part of. PER-HOUR is the slope, AT-LEAST what it is with a confidence of 95 %,
    CONFIDENCE that of there being a trend at all; what a garbage collector gives back is no growth, nor is a start. No
    verdict says why. Nameless memory is told by its addresses, or, of what came or went meanwhile, by rights and size.

    Exit 1 when something grows. Ctrl-C ends the watching of a process, and what was seen is shown.
    """
    refuse_both(as_json, as_csv)
    from vmatlas.analysis.trend import MEASURES

    if measure not in MEASURES:
        raise UsageError(f"--measure '{measure}' is not followed", hint=f"there are {', '.join(MEASURES)}")
    if isinstance(source, str):
        if every is not None or seconds is not None:
            raise UsageError("--every and --for go with a process", hint="--from and --to choose moments of a series")
        refuse_asking(backend, target)
        found = _of_series(source, measure, begin, end)
    else:
        if begin is not None or end is not None:
            raise UsageError("--from and --to go with a series", hint="--every and --for are for a process")
        process, often = _one(source, target), _EVERY if every is None else every
        found = _live(process, measure, often, seconds, patience, backend, target)
    return _show(found, by, everything=everything, exact=exact, as_json=as_json, as_csv=as_csv)


def _of_series(path: str, measure: str, begin: str | None, end: str | None) -> Trends:
    from vmatlas.capture import Capture
    from vmatlas.recording import trends_of

    file, when = split(path)
    if when is not None:
        raise UsageError(f"growth takes a whole series, not its moment '{when}'", hint="--from and --to choose moments")
    with opened(file) as series:
        if isinstance(series, Capture):
            raise UsageError(f"{file} is a single capture", hint="vmatlas record --every makes a series")
        first = 0 if begin is None else series.index_at(begin)
        last = len(series) - 1 if end is None else series.index_at(end)
        return trends_of(series, measure, first=first, last=last)


def _one(source: Asked | Chooses, target: str) -> Asked:
    """The one process that a word chooses. Raises UsageError where they are several, and what `select` raises."""
    if isinstance(source, Asked):
        return source
    from vmatlas.selection.resolving import select

    with reach(target) as place:
        found = select(source.text, target=place)
    if len(found) > 1:
        pids = ", ".join(str(each.pid) for each in found[:8])
        raise UsageError(
            f"growth follows one process, and {source.text} chooses {len(found)}: {pids}{', ...' * (len(found) > 8)}",
            hint="vmatlas summary --by program shows which is the largest",
        )
    return Asked(found[0].pid)


def _live(
    source: Asked,
    measure: str,
    every: float,
    seconds: float | None,
    patience: float | None,
    backend: str | None,
    target: str,
) -> Trends:
    from vmatlas.analysis.trend import trends
    from vmatlas.cli.asking import opened as opened_process
    from vmatlas.cli.watch import tells_memory
    from vmatlas.recording import next_look

    wanted = _FOR if seconds is None else seconds
    with opened_process(source, target, backend, patience) as asked:
        told = tells_memory(asked.process)

        def spaces() -> Iterator[tuple[float, AddressSpace]]:
            due = begun = time.monotonic()
            number = 0
            while True:
                now = time.monotonic()
                try:
                    space = asked.snapshot(residency=told)
                except NoSuchProcess:
                    if not number:
                        raise
                    say(f"process {asked.process.pid} has ended")
                    return
                number += 1
                yield now, space
                following = next_look(due, every, time.monotonic(), begun + wanted)
                if following is None:
                    return
                due = following
                try:
                    time.sleep(max(due - time.monotonic(), 0))
                except KeyboardInterrupt:
                    if number < 2:
                        raise
                    return

        return trends(spaces(), measure)


def _show(found: Trends, by: str | None, *, everything: bool, exact: bool, as_json: bool, as_csv: bool) -> int:
    from vmatlas.analysis.slopes import Verdict
    from vmatlas.cli.render import growth, output

    if as_json:
        output.show_json(growth.trends_json(found, by))
    elif as_csv:
        output.show_csv(growth.CSV_COLUMNS, growth.trends_csv(found, by))
    else:
        output.show(growth.trends_table(found, by, everything=everything, exact=exact))
    return Exit.FOUND if any(each.verdict is Verdict.GROWS for each in found) else Exit.OK
