"""`vmatlas pages`: what lies inside the regions of a process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    AddressType,
    ParameterType,
    asking_options,
    format_options,
    process_argument,
    shape_options,
    where_option,
)
from vmatlas.cli.words import Asked, Chooses, all_of, only_one, refuse_both, tell_if_kernels, warn_if_incomplete
from vmatlas.errors import MalformedData, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from vmatlas.model import Filter
    from vmatlas.model.pages import PageState


class StateType(ParameterType):
    """States of pages in words, separated by commas."""

    name = "states"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> PageState:
        """Raises UsageError."""
        from vmatlas.model.pages import PageState

        return value if isinstance(value, PageState) else PageState.of(filter(None, map(str.strip, value.split(","))))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The word that is begun, behind those that stand already."""
        from click.shell_completion import CompletionItem

        from vmatlas.model.pages import PageState

        before, comma, begun = incomplete.rpartition(",")
        words = [word for state in PageState for word in state.words]
        return [CompletionItem(f"{before}{comma}{word}") for word in words if word.startswith(begun)]


@click.command("pages", short_help="What lies inside regions: touched, swapped, zeros, huge pages, guards.")
@process_argument
@where_option
@click.option(
    "--at",
    metavar="ADDRESS",
    type=AddressType(),
    help="The region at this hexadecimal address, run by run; exit 1 when there is none.",
)
@click.option(
    "--state",
    metavar="STATES",
    type=StateType(),
    help="These states alone, e.g. 'guard' or 'present,exclusive'. Without it: all that costs little.",
)
@format_options
@shape_options
@asking_options
def command(
    process: Asked | Chooses,
    wheres: tuple[Filter, ...],
    at: int | None,
    state: PageState | None,
    exact: bool,
    as_json: bool,
    as_csv: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Tell what lies inside the regions of a process: how much of each is in memory, in swap, zeros, huge, guards.

    \b
    Examples:
      vmatlas pages self
      vmatlas pages 1234 --where stack
      vmatlas pages 1234 --at 7f0012345678
      vmatlas pages 1234 --state guard
      vmatlas pages 1234 --state file,anonymous
      vmatlas pages 1234 --json

    STATES: present swapped file anonymous zero huge guard soft-dirty written exclusive. A guard is one that no map
    shows (Linux: MADV_GUARD_INSTALL). What this kernel does not tell has no column, and a line on standard error says
    so; where it is named, exit 5. A page may be in several states: it counts in each.

    BLOCKS (--at) draws the region from its start to its end, a letter for each page, or for as many as make 64 letters:
    # present, H huge, 0 zeros, S swapped, G a guard, d another state, . none of them (never touched); + pages of
    several kinds, g a guard among others.
    """
    from vmatlas.cli.asking import instead_of, named, opened
    from vmatlas.cli.render import output, pages
    from vmatlas.model.columns import MOST_REGIONS

    refuse_both(as_json, as_csv)
    where = all_of(wheres)
    one = only_one([process])
    if one is None:
        raise UsageError("pages asks one process, by its number", hint="vmatlas pages PID")
    with opened(one, target, backend, patience) as asked:
        handle = asked.process
        space = asked.ask(lambda: named(handle.snapshot(where=where), handle))
        if at is not None:
            found = space.find(at)
            space = type(space).of([] if found is None else [found], space.origin)
        runs = asked.ask(lambda: handle.pages_in(space, of=state))
        instead = instead_of(space, handle) if at is None and not wheres else None
    if (as_json or at is not None) and len(runs) > MOST_REGIONS:
        expected = f"at most {MOST_REGIONS:,} runs of pages where each is shown, not {len(runs):,}"
        hint = "without --json and --at they are counted; --where and --state ask for fewer"
        raise MalformedData("pages", 0, expected, pid=space.pid, hint=hint)
    warn_if_incomplete(space)
    if at is None and not wheres:
        tell_if_kernels(space, instead)
    if state is None and (untold := pages.untold(runs)):
        say(f"not told by {runs.origin.backend} here: {', '.join(untold)}")
    if as_json:
        output.show_json(pages.pages_json(space, runs))
    elif as_csv:
        output.show_csv(*pages.pages_csv(space, runs, by_run=at is not None))
    elif at is not None:
        output.show(*pages.region_tables(space, runs, exact=exact))
    else:
        output.show(pages.pages_table(space, runs, exact=exact))
    if at is not None and not len(space):
        say(f"no region{' that passes the filter' if wheres else ''} covers {at:#x}")
        return Exit.FOUND
    return Exit.OK
