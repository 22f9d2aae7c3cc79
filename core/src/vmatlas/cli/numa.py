"""`vmatlas numa`: on which memory nodes the pages of a process lie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import asking_options, format_options, process_argument, shape_options, where_option
from vmatlas.cli.words import Asked, Chooses, all_of, only_one, refuse_both, tell_if_kernels, warn_if_incomplete
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.model import Filter


@click.command("numa", short_help="On which memory nodes the pages of a process lie.")
@process_argument
@where_option
@format_options
@shape_options
@asking_options
def command(
    process: Asked | Chooses,
    wheres: tuple[Filter, ...],
    exact: bool,
    as_json: bool,
    as_csv: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Tell on which memory nodes the pages of a process lie, region by region, and by which policy they are taken.

    \b
    Examples:
      vmatlas numa 1234
      vmatlas numa 1234 --where heap
      vmatlas numa 1234 --json

    The kernel walks all page tables of the process for it. Where there are no memory nodes (Linux: CONFIG_NUMA), exit
    5. A region that came after the map was read is left out.
    """
    from vmatlas.cli.asking import instead_of, named, opened
    from vmatlas.cli.render import numa, output

    refuse_both(as_json, as_csv)
    where = all_of(wheres)
    one = only_one([process])
    if one is None:
        raise UsageError("numa asks one process, by its number", hint="vmatlas numa PID")
    with opened(one, target, backend, patience) as asked:
        handle = asked.process
        space = asked.ask(lambda: named(handle.snapshot(where=where), handle))
        uses = asked.ask(handle.numa)
        instead = None if wheres else instead_of(space, handle)
    warn_if_incomplete(space)
    if not wheres:
        tell_if_kernels(space, instead)
    told = numa.of_regions(space, uses)
    if as_json:
        output.show_json(numa.numa_json(space, told))
    elif as_csv:
        output.show_csv(*numa.numa_csv(told))
    else:
        output.show(numa.numa_table(space, told, exact=exact))
    return Exit.OK
