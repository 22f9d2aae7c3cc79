"""Showing the map of a process, of several, or of a file: what `maps` does once it is known what is wanted, and with it
`replay`. Nothing here needs a parser of options.
"""

from __future__ import annotations

from collections.abc import Sequence

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.words import (
    Asked,
    Chooses,
    all_of,
    only_file,
    only_one,
    processes_of,
    refuse_both,
    tell_if_kernels,
    tell_unguessed,
    warn_if_incomplete,
)
from vmatlas.errors import UsageError
from vmatlas.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vmatlas.cli.render.maps import Guesses, Line
    from vmatlas.cli.render.table import Table
    from vmatlas.model import AddressSpace, Filter
    from vmatlas.process import Process

_BY_USE = ("resident", "private", "pss", "swap")
SORTS = ("start", "size", *_BY_USE, "kind", "path")


class View(NamedTuple):
    """How a map is to be shown: the options that `maps` and `replay` share."""

    wheres: tuple[Filter, ...] = ()
    at: tuple[int, ...] = ()
    gaps: bool = False
    sort: str = "start"
    entries: bool = False
    flags: bool = False
    names: bool = False
    as_json: bool = False
    as_csv: bool = False
    exact: bool = False

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


class Seen(NamedTuple):
    """What a view shows of an address space."""

    space: AddressSpace
    shown: AddressSpace
    missed: list[int]
    """Addresses at which nothing is shown."""
    guesses: Guesses
    """What its nameless regions seem to be; None: nobody asked."""

    def tell_missed(self, ask: str | None, whose: str = "") -> None:
        """A line for each; `ask` is the command that tells more of an address."""
        for address in self.missed:
            if self.space.find(address) is not None:
                say(f"the region at {address:#x}{whose} does not pass the filter")
            else:
                hint = f"{ask} {address:x} --neighbours" if ask else None
                say(f"no region{whose} covers {address:#x}", hint=hint)

    def table(self, lines: Sequence[Line], view: View, *, build_ids: bool) -> Table:
        """As the view wants it."""
        from vmatlas.cli.render import maps

        how = {"exact": view.exact, "build_ids": build_ids, "flags": view.flags}
        return maps.map_table(self.shown, lines, **how, by=view.sort, guesses=self.guesses)

    def json(self, lines: Sequence[Line], view: View) -> dict[str, Any]:
        """All of it."""
        from vmatlas.cli.render import maps

        return maps.map_json(self.shown, lines, gaps=view.gaps, guesses=self.guesses)


def see(space: AddressSpace, view: View, instead: str | None = None) -> Seen:
    """What the view wants of a whole address space; says what may be missing in it, and whom to ask instead."""
    from vmatlas.model import ANY

    warn_if_incomplete(space)
    if view.where == ANY:
        tell_if_kernels(space, instead)
    if view.entries:
        space = space.entries()
    guesses = None
    if view.names:
        from vmatlas.analysis.naming import name_regions

        guesses = name_regions(space)  # of the whole map: it is what lies beside that tells
        tell_unguessed(space)
    shown = space.where(view.where)
    missed = [address for address in view.at if shown.find(address) is None]
    if view.at:
        shown = type(space).of(dict.fromkeys(region for region in shown.find_many(view.at) if region), space.origin)
    return Seen(space, shown, missed, guesses)


def show_map(
    space: AddressSpace,
    view: View,
    *,
    build_ids: bool = False,
    ask: str | None = None,
    instead: str | None = None,
) -> Exit:
    """Show a whole address space as the view wants it. `ask` is the command that tells more of an address, `instead`
    whom to ask where there is nothing.
    """
    from vmatlas.cli.render import maps, output

    seen = see(space, view, instead)
    lines = maps.order(seen.shown, gaps=view.gaps, by=view.sort)
    if view.as_json:
        output.show_json(seen.json(lines, view))
    elif view.as_csv:
        output.show_csv(*maps.map_csv(lines, seen.guesses))
    else:
        output.show(seen.table(lines, view, build_ids=build_ids))
    seen.tell_missed(ask)
    return Exit.FOUND if seen.missed else Exit.OK


def show(
    sources: Sequence[Asked | Chooses | str],
    view: View,
    *,
    residency: bool = False,
    build_ids: bool = False,
    guards: bool = False,
    thread: int | None = None,
    lenient: bool = False,
    patience: float | None = None,
    backend: str | None = None,
    target: str = "local",
) -> int:
    """What `vmatlas maps` does; each argument is what its option says, and its default is the option's."""
    from vmatlas.cli.asking import instead_of, opened
    from vmatlas.model import ANY

    if (file := only_file(sources)) is not None:
        return _of_file(file, view, residency, build_ids, guards, thread, lenient, backend, target)
    if lenient:
        raise UsageError("--lenient goes with the text of a map", hint="vmatlas maps - --lenient < TEXT")
    processes = processes_of(sources)
    process = only_one(processes)
    if process is None:
        if thread is not None:
            raise UsageError("--thread goes with one process, by its number")
        return _of_several(processes, view, residency, build_ids, guards, patience, backend, target)
    with opened(process, target, backend, patience, thread=thread) as asked:
        how = _how(view, residency, build_ids, guards, asked.process)
        space = asked.snapshot(**how)
        instead = instead_of(space, asked.process) if view.where == ANY else None
    ask = f"vmatlas find {space.pid}" if target == "local" else None
    return show_map(space, view, build_ids=build_ids, ask=ask, instead=instead)


def _of_file(
    path: str,
    view: View,
    residency: bool,
    build_ids: bool,
    guards: bool,
    thread: int | None,
    lenient: bool,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas import api
    from vmatlas.cli.recorded import check_build_ids, check_residency, load, refuse_asking

    refuse_asking(backend, target)
    if thread is not None or guards:
        raise UsageError(f"--{'guards' if guards else 'thread'} goes with a process", hint="a file cannot be asked")
    space = api.replay(load(path, lenient=lenient))
    if residency or view.needs_residency:
        check_residency(space, path)
    if build_ids:
        check_build_ids(space, path)
    return show_map(space, view, build_ids=space.columns.build_id is not None)


def _how(view: View, residency: bool, build_ids: bool, guards: bool, process: Process) -> dict[str, Any]:
    """What is asked of a process for a view: the whole map where that needs it whole; else the kernel may filter."""
    whole = view.entries or view.gaps or view.names or bool(view.at)
    where = view.where
    residency = residency or view.needs_residency or process.needs_residency(where)
    return {
        "residency": residency,
        "build_ids": build_ids,
        "where": None if whole else where,
        "threads": view.names,
        "guards": guards,
    }


def _of_several(
    words: Sequence[Asked | Chooses],
    view: View,
    residency: bool,
    build_ids: bool,
    guards: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.asking import named
    from vmatlas.cli.render import maps, output
    from vmatlas.cli.render.together import Whose, together, together_csv, together_json
    from vmatlas.cli.survey import Survey
    from vmatlas.cli.whom import chosen

    def ask(asked: Process) -> tuple[None, AddressSpace]:
        return None, named(asked.snapshot(**_how(view, residency, build_ids, guards, asked)), asked)

    with chosen(words, target, patience) as (place, selected):
        survey = Survey(place, backend, patience, ask, selected)
        found = [(info, see(space, view)) for info, space in survey]
    each = [
        (Whose(info.pid, info.known_name), seen, maps.order(seen.shown, gaps=view.gaps, by=view.sort))
        for info, seen in found
    ]
    if view.as_json:
        output.show_json(together_json([seen.json(lines, view) for _, seen, lines in each], survey))
    elif view.as_csv:
        rows = [(whose, *maps.map_csv(lines, seen.guesses)) for whose, seen, lines in each]
        output.show_csv(*together_csv(rows, survey))
    else:
        tables = [(whose, seen.table(lines, view, build_ids=build_ids)) for whose, seen, lines in each]
        order = None if view.sort == "start" else [maps.keys(lines, view.sort) for _, _, lines in each]
        output.show(together(tables, survey, order=order))
    for whose, seen, _ in each:
        seen.tell_missed(None, f" of process {whose.pid}")
    code = survey.tell()
    return Exit.FOUND if any(seen.missed for _, seen, _ in each) else code
