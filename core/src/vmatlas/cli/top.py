"""`vmatlas top`: who uses how much memory, again and again, and one of them opened."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vmatlas.cli.options import DurationType, ProcessType, asking_options
from vmatlas.cli.words import Asked, Chooses, reach
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.cli.screen.pages import Top

_SORTS = ("pss", "private", "resident", "swap", "since", "pid", "name")


@click.command("top", short_help="Who uses how much memory, again and again; opens one.")
@click.argument("processes", metavar="[PROCESS...]", type=ProcessType(), nargs=-1)
@click.option(
    "--every",
    metavar="TIME",
    type=DurationType(),
    default=2.0,
    show_default="2 seconds",
    help="How often it is looked.",
)
@click.option("--sort", type=click.Choice(_SORTS), default="pss", help="By which column. Default: pss.")
@asking_options
def command(
    processes: tuple[Asked | Chooses, ...],
    every: float,
    sort: str,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Show on a terminal who uses how much memory, the largest first, and look again and again.

    \b
    Examples:
      vmatlas top
      vmatlas top user:www-data --every 10s
      vmatlas top unit:nginx.service --sort since
      vmatlas top --target ssh:root@board

    The numbers are those of 'vmatlas summary --all': PSS, of it what came SINCE it was first seen here, PRIVATE,
    RESIDENT, SWAP. Words choose whom, each time anew ('vmatlas --help' has them); none: everybody. A look that takes
    long is followed by a rest as long, so that it takes half of a processor's time at the most.

    \b
    Keys: arrows, page and Home, End   to a row; it stays chosen where it moves
          Enter                        opens it: its map by kind and region, what is in use, what grew since
          /                            words: whom to show; of one that is open: which regions (FILTER)
          s, r                         sort by the next column; turn the order round
          b, k                         of one that is open: growth from now on; kinds or more room
          Space                        pause
          Esc, q, Ctrl-C               back; the end

    It needs a terminal, and the package textual: pip install textual.
    """
    if every <= 0:
        raise UsageError("--every 0 is no time between two looks", hint="a time above 0: 0.5, 10s")
    app_of = _app_class()
    for name, stream in (("input", sys.stdin), ("output", sys.stdout), ("error", sys.stderr)):
        if stream is None or not stream.isatty():
            raise UsageError(f"top draws on a terminal, and standard {name} is none", hint="vmatlas summary --all")
    if os.environ.get("TERM", "dumb") in ("dumb", "unknown", ""):
        raise UsageError("top moves about a terminal, and TERM says that this one cannot", hint="vmatlas summary --all")
    from vmatlas.cli.render.colour import wants_colours
    from vmatlas.cli.screen.pages import How
    from vmatlas.cli.screen.running import run

    words = tuple(each.text for each in processes)
    with reach(target, patience, quietly=True) as place:
        return run(app_of(How(words, every, sort, place, backend, patience), colours=wants_colours()))


def _app_class() -> type[Top]:
    """Imported first: what is missing is said wherever it is called."""
    from vmatlas.cli.screen.pages import Top

    return Top
