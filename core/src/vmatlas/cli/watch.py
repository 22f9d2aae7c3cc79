"""`vmatlas watch`: what changes in a process, as it changes."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from typing import TYPE_CHECKING

import click

from vmatlas.cli.diff import chosen, growth_options
from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import asking_options, bytes_option, csv_option, processes_argument
from vmatlas.cli.words import Asked, Chooses, only_one, refuse_both
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.analysis import Difference
    from vmatlas.cli.render.together import Whose
    from vmatlas.model import Filter


@click.command("watch", short_help="What changes in a process, live.")
@processes_argument
@click.option("--interval", metavar="SECONDS", type=float, default=1.0, help="Look this often. Default: 1.")
@click.option("--count", "most", metavar="N", type=click.IntRange(1), help="End after N times that something changed.")
@click.option("--for", "seconds", metavar="SECONDS", type=float, help="End after this time.")
@click.option("--json", "as_json", is_flag=True, help="JSON: an object in a line for each time.")
@csv_option
@click.option("--others", is_flag=True, help="Also what other processes change: the share of pages that they map too.")
@growth_options
@click.option(
    "--residency/--no-residency",
    default=None,
    help="The memory in use as well, or the map alone (cheaper). Default: as well, where the system tells it.",
)
@bytes_option
@asking_options
def command(
    processes: tuple[Asked | Chooses, ...],
    interval: float,
    most: int | None,
    seconds: float | None,
    as_json: bool,
    as_csv: bool,
    others: bool,
    by: str | None,
    sort: str,
    wheres: tuple[Filter, ...],
    residency: bool | None,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Show what changes in the map of a process, each time that something does.

    \b
    Examples:
      vmatlas watch 1234
      vmatlas watch 1234 --interval 0.1 --for 60
      vmatlas watch 1234 --count 1 --json

    Ends with the process, with Ctrl-C, or as --count and --for say. What changes and changes back between two looks
    is not seen, nor, with --no-residency, what fills or leaves memory in regions that stay as large (`filled`,
    `emptied`; MEMORY tells how much). --csv is one table with one line of titles, each row with its time. Looking at a
    map that does not change costs little more than reading it.

    Of several processes (or words that choose them: 'vmatlas --help'), at most 64, each line says whose it is; it ends
    with the last of them. Those that begin later are not among them.
    """
    from vmatlas.cli.asking import named, opened, tells_memory

    refuse_both(as_json, as_csv)
    if seconds is not None and not 0 <= seconds < float("inf"):
        raise UsageError(f"--for {seconds:g} is no time", hint="a number of seconds from 0")
    end = None if seconds is None else time.monotonic() + seconds
    process = only_one(processes)
    if process is None:
        from vmatlas.cli.watching import Told, watch_several

        def show(told: Told, titled: bool) -> bool:
            shown = chosen(told.difference, wheres, sort, by)
            if shown:
                _show(shown, told.whose, as_json=as_json, as_csv=as_csv, titled=titled, exact=exact, by=by)
            return bool(shown)

        how = {"interval": interval, "residency": residency, "others": others}
        return watch_several(processes, how, most, end, show, patience, backend, target)
    found = 0
    try:
        with opened(process, target, backend, patience) as asked:

            def rest(pause: float) -> None:
                asked.rest(lambda: _wait(pause, end))

            told = tells_memory(asked.process) if residency is None else residency
            changes = asked.process.watch(interval, residency=told, others=others, wait=rest)
            while (difference := asked.ask(lambda: next(changes, None))) is not None:
                before, after = (named(side, asked.process) for side in (difference.before, difference.after))
                shown = chosen(dataclasses.replace(difference, before=before, after=after), wheres, sort, by)
                if not shown:
                    continue
                _show(shown, None, as_json=as_json, as_csv=as_csv, titled=not found, exact=exact, by=by)
                found += 1
                if found == most:
                    return Exit.OK
            say(f"process {asked.process.pid} has ended")
    except (KeyboardInterrupt, _TimeIsOver):
        pass
    return Exit.OK


class _TimeIsOver(Exception):
    """What `--for` allows."""


def _wait(pause: float, end: float | None) -> None:
    if end is None:
        time.sleep(pause)
        return
    left = end - time.monotonic()
    time.sleep(max(min(pause, left), 0))
    if pause >= left:
        raise _TimeIsOver


def _show(
    difference: Difference,
    whose: Whose | None,
    *,
    as_json: bool,
    as_csv: bool,
    titled: bool,
    exact: bool,
    by: str | None,
) -> None:
    from vmatlas.cli.render import diff as render
    from vmatlas.cli.render import output
    from vmatlas.cli.render.together import of_each

    if as_json:
        sys.stdout.write(json.dumps(render.difference_json(difference, by)) + "\n")
    elif as_csv:
        titles, rows = render.difference_csv(difference, by, timed=True)
        if whose is not None:
            titles = ["pid", "process", *titles]
            rows = [{"pid": whose.pid, "process": whose.name, **row} for row in rows]
        output.show_csv(titles, rows, titled=titled)
    else:
        table = render.difference_table(difference, exact=exact, timed=True, by=by)
        output.show(table if whose is None else of_each([(whose, table)]))
        sys.stdout.write("\n")
    sys.stdout.flush()
