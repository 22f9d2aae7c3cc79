"""`vmatlas working-set`: which memory a process looks at meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
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


@click.command("working-set", short_help="Which memory a process uses meanwhile, read or written.")
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
    """Tell how much of each region a process reads or writes in some seconds, by the kernel's marks of its pages.

    \b
    Examples:
      vmatlas working-set 1234 --during 10 --force
      vmatlas working-set 1234 --during 1m --where anonymous --force --json

    To begin with, the marks "referenced" of the whole process are cleared. That cannot be undone, and the kernel, which
    goes by them when memory is short, takes all of it for idle until it is used again: so it takes --force. REFERENCED
    is a least: of a page whose translation a processor still holds there may be no mark. Pages that others map too
    count when those use them. Where the system does not tell (Linux: smaps), exit 5 before anything is cleared.
    """
    import time

    from vmatlas import operations
    from vmatlas.cli.asking import named, opened
    from vmatlas.cli.render import output, tracking

    refuse_both(as_json, as_csv)
    where = all_of(wheres)
    one = only_one([process])
    if one is None:
        hint = "vmatlas working-set PID --during 10 --force"
        raise UsageError("working-set asks one process, by its number", hint=hint)
    with opened(one, target, backend, patience) as asked:

        def wait(seconds: float) -> None:
            asked.rest(lambda: time.sleep(seconds))

        handle = asked.process
        told = asked.ask(lambda: operations.working_set(handle, during, where=where, force=force, wait=wait))
        told = told._replace(space=asked.ask(lambda: named(told.space, handle)))
    warn_if_incomplete(told.space)
    if as_json:
        output.show_json(tracking.working_set_json(told))
    elif as_csv:
        output.show_csv(*tracking.working_set_csv(told))
    else:
        output.show(tracking.working_set_table(told, exact=exact))
    return Exit.OK
