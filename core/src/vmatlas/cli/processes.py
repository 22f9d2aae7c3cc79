"""`vmatlas processes`: the processes of a target."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import ProcessType, csv_option, json_option, reaching_options, shape_options
from vmatlas.cli.words import Asked, Chooses, reach, refuse_both

if TYPE_CHECKING:
    from vmatlas.model import ProcessInfo
    from vmatlas.selection.resolving import Selected


@click.command("processes", short_help="The processes that may be seen, or that words choose.")
@click.argument("words", metavar="[PROCESS...]", type=ProcessType(), nargs=-1)
@json_option
@csv_option
@shape_options
@reaching_options
def command(
    words: tuple[Asked | Chooses, ...], as_json: bool, as_csv: bool, patience: float | None, target: str
) -> int:
    """List the processes that may be seen, or those that words choose, by process id, the kernel's own last.

    \b
    Examples:
      vmatlas processes
      vmatlas processes --json
      vmatlas processes children:1234

    A process of the kernel has no memory of its own, and its map is empty. State Z is a zombie: it has ended; Z+threads
    has not: its first thread has, and others of it live on. RESIDENT is the memory in use as the system counts it for
    such lists, which is not exact: see summary --residency.
    'vmatlas --help' has the words that choose some. Exit 7 when the system hides processes, or what they are; standard
    error says so.
    """
    refuse_both(as_json, as_csv)
    from vmatlas import api
    from vmatlas.cli.asking import in_time, patience_for_lists
    from vmatlas.cli.render import output, processes
    from vmatlas.cli.render.text import count
    from vmatlas.cli.whom import choose, tell

    with reach(target, patience) as place:

        def ask(on_the_way: Callable[[], None]) -> tuple[list[ProcessInfo], str | None]:
            listing, found = api.processes(place), []
            for process in listing:
                found.append(process)
                on_the_way()
            return found, listing.incomplete

        selected = choose(words, place, patience) if words else None
        found, unlisted = in_time(ask, place, patience_for_lists(patience), "the list of processes")
    unmatched = False
    if selected is not None:
        found, unlisted = _of(selected, found), selected.incomplete
        unmatched = bool(selected.unmatched)
        tell(selected, memory=False)
    known = _names_of(found) if target == "local" else {}
    if as_json:
        output.show_json(processes.processes_dicts(found, known))
    elif as_csv:
        output.show_csv(processes.CSV_COLUMNS, processes.processes_dicts(found, known))
    else:
        output.show(processes.processes_table(found, known))
    nameless = sum(process.kernel is None for process in found)
    if nameless:
        say(f"what {count(nameless, 'process is', 'processes are')} may not be looked at")
    if unlisted is not None:
        say(unlisted)
    return Exit.INCOMPLETE if nameless or unmatched or unlisted is not None else Exit.OK


def _of(selected: Selected, listed: list[ProcessInfo]) -> list[ProcessInfo]:
    """Those that were chosen, with all that a list tells; one that no list has is as it was when it was chosen."""
    from vmatlas.backend import may_be

    now = {process.pid: process for process in listed}
    found = [(each, now.get(each.pid, each)) for each in selected]
    return [process for each, process in found if may_be(process, each)]


def _names_of(found: list[ProcessInfo]) -> dict[int, str]:
    """What this machine calls the users."""
    import pwd

    names: dict[int, str] = {}
    for user in {process.user for process in found if process.user is not None}:
        with contextlib.suppress(KeyError):  # a user that has no name here
            names[user] = pwd.getpwuid(user).pw_name
    return names
