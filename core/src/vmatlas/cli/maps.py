"""`vmatlas maps`: the map of a process; with what it shares with `replay`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    AddressType,
    Asked,
    all_of,
    asking_options,
    build_ids_option,
    format_options,
    process_argument,
    refuse_both,
    residency_option,
    tell_if_kernels,
    tell_if_not_traced,
    warn_if_incomplete,
    where_option,
)
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.model import AddressSpace, Filter

_Command = TypeVar("_Command", bound=Callable[..., Any])

_BY_USE = ("resident", "private", "pss", "swap")
_SORTS = ("start", "size", *_BY_USE, "kind", "path")


class View(NamedTuple):
    """How a map is to be shown: the options that `maps` and `replay` share."""

    wheres: tuple[Filter, ...]
    at: tuple[int, ...]
    gaps: bool
    sort: str
    entries: bool
    flags: bool
    names: bool
    as_json: bool
    as_csv: bool
    exact: bool

    @property
    def where(self) -> Filter:
        """The filter. Raises UsageError for what makes no sense together."""
        from vmatlas.model import ANY

        wanted = all_of(self.wheres)
        if self.gaps and (wanted != ANY or self.at):
            raise UsageError("--gaps goes with the whole map only: what a filter leaves out is no hole")
        refuse_both(self.as_json, self.as_csv)
        return wanted

    @property
    def needs_residency(self) -> bool:
        """Whether the order or the filter asks for the memory in use, on every system."""
        return self.sort in _BY_USE or self.where.asks_residency


def view_options(command: _Command) -> _Command:
    """The options of a `View`."""
    for option in reversed(
        (
            where_option,
            click.option(
                "--at",
                metavar="ADDRESS",
                type=AddressType(),
                multiple=True,
                help="Only the region at this hexadecimal address; exit 1 when there is none. May be repeated.",
            ),
            click.option("--gaps", is_flag=True, help="Also the holes between regions."),
            click.option(
                "--sort",
                type=click.Choice(_SORTS),
                default="start",
                help="By address (the default), by kind or path, or the most first: all but 'size' imply --residency.",
            ),
            click.option("--entries", is_flag=True, help="The kernel's own entries, where it splits regions further."),
            click.option("--flags", is_flag=True, help="The system's own flags, where it tells them."),
            click.option(
                "--names",
                is_flag=True,
                help="What the nameless seems to be: a guess (?, weak ones ??), see GUESS below.",
            ),
            format_options,
        )
    ):
        command = option(command)
    return command


def show_map(space: AddressSpace, view: View, *, build_ids: bool = False, ask: str | None = None) -> Exit:
    """Show a whole address space as the view wants it. `ask` is the command that tells more of an address."""
    from vmatlas.cli.render import maps, output
    from vmatlas.model import ANY

    warn_if_incomplete(space)
    if view.where == ANY:
        tell_if_kernels(space)
    if view.entries:
        space = space.entries()
    guesses = None
    if view.names:
        from vmatlas.analysis.naming import name_regions

        guesses = name_regions(space)  # of the whole map: it is what lies beside that tells
        tell_if_not_traced(space)
    shown = space.where(view.where)
    missed = [address for address in view.at if shown.find(address) is None]
    if view.at:
        shown = type(space).of(dict.fromkeys(region for region in shown.find_many(view.at) if region), space.origin)
    lines = maps.order(shown, gaps=view.gaps, by=view.sort)
    if view.as_json:
        output.show_json(maps.map_json(shown, lines, gaps=view.gaps, guesses=guesses))
    elif view.as_csv:
        output.show_csv(*maps.map_csv(lines, guesses))
    else:
        table = maps.map_table(
            shown, lines, exact=view.exact, build_ids=build_ids, flags=view.flags, by=view.sort, guesses=guesses
        )
        output.show(table)
    for address in missed:
        if space.find(address) is not None:
            say(f"the region at {address:#x} does not pass the filter")
        else:
            say(f"no region covers {address:#x}", hint=f"{ask} {address:x} --neighbours" if ask else None)
    return Exit.FOUND if missed else Exit.OK


@click.command("maps", short_help="The memory map of a process.")
@process_argument
@view_options
@residency_option
@build_ids_option
@click.option("--thread", metavar="TID", type=int, help="Ask through this thread of the process.")
@asking_options
def command(
    process: Asked,
    residency: bool,
    build_ids: bool,
    thread: int | None,
    patience: float | None,
    backend: str | None,
    target: str,
    **shown: Any,
) -> int:
    """Show the memory map of a process: its regions, by address.

    \b
    Examples:
      vmatlas maps self
      vmatlas maps 1234 --where 'x,file,size>64K'
      vmatlas maps 1234 --residency --sort resident
      vmatlas maps 1234 --at 7f0012345678
      vmatlas maps 1234 --gaps --bytes
      vmatlas maps 1234 --names
      vmatlas maps 1234 --json | jq '.regions[].path'

    PERM is protection and sharing as in /proc/PID/maps; SIZE counts in powers of 1024, and is exact with --bytes. A
    terminal that is narrow is shown fewer columns; what is piped is complete.

    GUESS (--names) is what memory without a name seems to be: the stack of a thread, an arena of malloc, the heap of a
    JVM. It is never a fact, and stands beside what the kernel tells: ? before a guess for which several signs speak, ??
    before a weak one, - where no rule knows. --json has the evidence of each, and the threads.
    """
    from vmatlas.cli.asking import opened

    view = View(**shown)
    where = view.where
    with opened(process, target, backend, patience, thread=thread) as asked:
        # The whole map is asked for where the view needs it whole; else the kernel may filter.
        whole = view.entries or view.gaps or view.names or bool(view.at)
        residency = residency or view.needs_residency or asked.process.needs_residency(where)
        passed = None if whole else where
        space = asked.snapshot(residency=residency, build_ids=build_ids, where=passed, threads=view.names)
    ask = f"vmatlas find {space.pid}" if target == "local" else None
    return show_map(space, view, build_ids=build_ids, ask=ask)
