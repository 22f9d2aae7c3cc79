"""`vmatlas growth`: what grows over time, and how sure that is."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import DurationType, asking_options, format_options, shape_options
from vmatlas.cli.recorded import SourceType, opened, refuse_asking, split
from vmatlas.cli.words import Asked, Chooses, only_one, refuse_both
from vmatlas.errors import NoSuchProcess, UsageError, VmatlasError

if TYPE_CHECKING:
    from vmatlas.analysis.trend import Trends
    from vmatlas.cli.survey import Unread
    from vmatlas.model import AddressSpace
    from vmatlas.process import Process

_EVERY, _FOR = 1.0, 60.0
"""Seconds, of a process that is watched now."""


@click.command("growth", short_help="What grows over time: leaks first, with slope and confidence.")
@click.argument("sources", metavar="PROCESS...|FILE...", type=SourceType(), nargs=-1, required=True)
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
    sources: tuple[Asked | Chooses | str, ...],
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
      vmatlas growth leak.vmatlas worker-leak.vmatlas
      vmatlas growth children:1234 --for 60s

    What grows stands first: single groups (nameless memory, names, files), then guesses at what has no name, then the
    kinds and uses that they are part of. PER-HOUR is the slope, AT-LEAST what it is with a confidence of 95 %,
    CONFIDENCE that of there being a trend at all; what a garbage collector gives back is no growth, nor is a start. No
    verdict says why. Nameless memory is told by its addresses, or, of what came or went meanwhile, by rights and size.
    Of several series, or processes (words choose them: 'vmatlas --help'), each line says whose it is, and what grows
    first is the first of them all; processes that begin later are not among them.

    Exit 1 when something grows, else 7 when one of several could not be read. Ctrl-C ends the watching of a process,
    and what was seen is shown.
    """
    refuse_both(as_json, as_csv)
    from vmatlas.analysis.trend import MEASURES

    if measure not in MEASURES:
        raise UsageError(f"--measure '{measure}' is not followed", hint=f"there are {', '.join(MEASURES)}")
    files = [source for source in sources if isinstance(source, str)]
    words = [source for source in sources if not isinstance(source, str)]
    if files and words:
        raise UsageError(
            f"series and processes do not go together: '{files[0]}'", hint=f"by a program's name: name:{files[0]}"
        )
    show = {"everything": everything, "exact": exact, "as_json": as_json, "as_csv": as_csv}
    if files:
        if every is not None or seconds is not None:
            raise UsageError("--every and --for go with a process", hint="--from and --to choose moments of a series")
        refuse_asking(backend, target)
        if len(files) > 1:
            return _show_several(_of_several_series(files, measure, begin, end), by, **show)
        found = _of_series(files[0], measure, begin, end)
    else:
        if begin is not None or end is not None:
            raise UsageError("--from and --to go with a series", hint="--every and --for are for a process")
        often, wanted = _EVERY if every is None else every, _FOR if seconds is None else seconds
        process = only_one(words)
        if process is None:
            several = _live_of_several(words, measure, often, wanted, patience, backend, target)
            return _show_several(several, by, **show)
        found = _live(process, measure, often, wanted, patience, backend, target)
    return _show(found, by, **show)


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


def _of_several_series(
    paths: Sequence[str], measure: str, begin: str | None, end: str | None
) -> tuple[list[tuple[str | None, Trends]], Unread]:
    """Of each file, by its name; one that cannot be read, or has too few moments, is left out. Raises its error where
    there is no other."""
    from vmatlas.cli.survey import Unread

    found: list[tuple[str | None, Trends]] = []
    failed: list[VmatlasError | OSError] = []
    reasons: list[str] = []
    for path in paths:
        try:
            found.append((path, _of_series(path, measure, begin, end)))
        except (VmatlasError, OSError) as error:
            failed.append(error)
            told = error.message if isinstance(error, VmatlasError) else error.strerror or str(error)
            reasons.append(told if path in told else f"{path}: {told}")
    if not found:
        raise failed[0]
    unread = Unread()
    unread.unlisted = "; ".join(reasons) or None
    return found, unread


def _live(
    source: Asked,
    measure: str,
    every: float,
    seconds: float,
    patience: float | None,
    backend: str | None,
    target: str,
) -> Trends:
    from vmatlas.analysis.trend import trends
    from vmatlas.cli.asking import opened as opened_process
    from vmatlas.cli.asking import tells_memory
    from vmatlas.recording import next_look

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
                following = next_look(due, every, time.monotonic(), begun + seconds)
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


def _live_of_several(
    words: Sequence[Asked | Chooses],
    measure: str,
    every: float,
    seconds: float,
    patience: float | None,
    backend: str | None,
    target: str,
) -> tuple[list[tuple[str | None, Trends]], Unread]:
    from vmatlas.analysis.trend import Followed
    from vmatlas.cli.asking import named, tells_memory
    from vmatlas.cli.looking import Looks
    from vmatlas.cli.whom import chosen

    def ask(asked: Process) -> AddressSpace:
        return named(asked.snapshot(residency=tells_memory(asked)), asked)

    followed: dict[int, Followed] = {}
    with chosen(words, target, patience) as whom:
        looks = Looks(ask, whom, backend, patience, every, seconds)
        try:
            for now, process, space in looks:
                followed.setdefault(process.pid, Followed(measure)).look(now, space)
        except KeyboardInterrupt:
            if not followed:
                raise
        found: list[tuple[str | None, Trends]] = []
        for process in [each for each in whom.selected if each.pid in followed]:
            try:
                found.append((None, followed[process.pid].trends()))
            except UsageError as error:  # one look alone
                looks.drop(process, error)
        return found, looks


def _show_several(
    several: tuple[Sequence[tuple[str | None, Trends]], Unread],
    by: str | None,
    *,
    everything: bool,
    exact: bool,
    as_json: bool,
    as_csv: bool,
) -> int:
    from vmatlas.cli.render import growth, output

    found, unread = several
    if as_json:
        output.show_json(growth.several_json(found, by, unread))
    elif as_csv:
        output.show_csv(*growth.several_csv(found, by, unread))
    else:
        output.show(growth.several_table(found, by, unread, everything=everything, exact=exact))
    code = unread.tell()
    return Exit.FOUND if any(map(_grows, (each for _, each in found))) else code


def _grows(found: Trends) -> bool:
    from vmatlas.analysis.slopes import Verdict

    return any(each.verdict is Verdict.GROWS for each in found)


def _show(found: Trends, by: str | None, *, everything: bool, exact: bool, as_json: bool, as_csv: bool) -> int:
    from vmatlas.cli.render import growth, output

    if as_json:
        output.show_json(growth.trends_json(found, by))
    elif as_csv:
        output.show_csv(growth.CSV_COLUMNS, growth.trends_csv(found, by))
    else:
        output.show(growth.trends_table(found, by, everything=everything, exact=exact))
    return Exit.FOUND if _grows(found) else Exit.OK
