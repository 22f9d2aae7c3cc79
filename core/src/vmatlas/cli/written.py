"""`vmatlas written`: which memory a process writes meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    asking_options,
    during_option,
    force_option,
    format_options,
    process_argument,
    shape_options,
    where_option,
)
from vmatlas.cli.words import Asked, Chooses, all_of, only_one, refuse_both, warn_if_incomplete
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.model import Filter


@click.command("written", short_help="Which memory a process writes meanwhile.")
@process_argument
@during_option
@where_option
@force_option
@format_options
@shape_options
@asking_options
def command(
    process: Asked | Chooses,
    during: float,
    wheres: tuple[Filter, ...],
    force: bool,
    exact: bool,
    as_json: bool,
    as_csv: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Tell how much of each region a process writes in some seconds, by the kernel's soft-dirty marks of its pages.

    \b
    Examples:
      vmatlas written 1234 --during 10 --force
      vmatlas written 1234 --during 1m --where heap --force --json

    To begin with, the marks of the whole process are cleared. That cannot be undone, and misleads whoever else goes by
    them (CRIU, debuggers): so it takes --force. Nothing else of the process changes; each page's first write costs it
    a fault. Where the kernel keeps no such marks (Linux: CONFIG_MEM_SOFT_DIRTY), exit 5 before anything is cleared.

    A region that was made, grown or merged meanwhile is marked as a whole: all of its pages that hold something count,
    and "?" stands behind the number. Regions in which nothing was written are left out.
    """
    import time

    from vmatlas import operations
    from vmatlas.cli.asking import named, opened
    from vmatlas.cli.render import output, tracking

    refuse_both(as_json, as_csv)
    where = all_of(wheres)
    one = only_one([process])
    if one is None:
        raise UsageError("written asks one process, by its number", hint="vmatlas written PID --during 10 --force")
    with opened(one, target, backend, patience) as asked:

        def wait(seconds: float) -> None:
            asked.rest(lambda: time.sleep(seconds))

        handle = asked.process
        told = asked.ask(lambda: operations.written(handle, during, where=where, force=force, wait=wait))
        told = told._replace(space=asked.ask(lambda: named(told.space, handle)))
    warn_if_incomplete(told.space)
    if unsure := sum(told.is_sure(each) is False and told.in_region(each) > 0 for each in told.space):
        say(f"{unsure} region(s) were made, grown or merged meanwhile (?): all of their pages in use count as written")
    if as_json:
        output.show_json(tracking.written_json(told))
    elif as_csv:
        output.show_csv(*tracking.written_csv(told))
    else:
        output.show(tracking.written_table(told, exact=exact))
    return Exit.OK
