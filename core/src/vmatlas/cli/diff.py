"""`vmatlas diff`: what changed between two maps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import (
    Asked,
    all_of,
    asking_options,
    bytes_option,
    csv_option,
    json_option,
    refuse_both,
    residency_option,
    shape_options,
    warn_if_incomplete,
    where_option,
)
from vmatlas.cli.recorded import STDIN, SourceType, check_residency, load, refuse_asking
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.analysis import Difference
    from vmatlas.capture import Capture
    from vmatlas.cli.asking import Patiently
    from vmatlas.model import AddressSpace, Filter, Query

_LONGEST = 86400.0 * 366
_Command = TypeVar("_Command", bound=Callable[..., object])


def growth_options(command: _Command) -> _Command:
    """Which changes, in which order, or put together by what: `diff` and `watch` share them."""
    command = click.option(
        "--by",
        type=click.Choice(("kind", "use", "file", "name")),
        help="What each of these gained or lost, in place of single regions; by name: with guesses (?).",
    )(command)
    command = click.option(
        "--sort",
        type=click.Choice(("start", "growth", "memory", "size")),
        default="start",
        help="By address (the default), or the most first: address space gained, memory gained, size.",
    )(command)
    with_filter: _Command = where_option(command)
    return with_filter


def chosen(difference: Difference, wheres: tuple[Filter, ...], sort: str, by: str | None) -> Difference:
    """The changes of regions that pass a filter, as they are or as they were, in the order that is wanted.

    By name, what has none is put together by what it seems to be, which the whole maps tell.
    """
    from vmatlas.model import ANY

    if by == "name":
        difference = difference.with_guesses()
    wanted = all_of(wheres)
    changes = difference.changes
    before, after = difference.before, difference.after
    if wanted != ANY:
        before, after = before.part(wanted), after.part(wanted)
        kept = {region.start for region in before}, {region.start for region in after}
        changes = tuple(
            change
            for change in changes
            if (change.before is not None and change.before.start in kept[0])
            or (change.after is not None and change.after.start in kept[1])
        )
    if sort == "growth":
        changes = tuple(sorted(changes, key=lambda change: -change.growth))
    elif sort == "memory":
        changes = tuple(sorted(changes, key=lambda change: -((change.memory and change.memory.held) or 0)))
    elif sort == "size":
        changes = tuple(sorted(changes, key=lambda change: -change.region.size))
    return dataclasses.replace(difference, before=before, after=after, changes=changes)


@click.command("diff", short_help="What changed between two captures or processes, or with time.")
@click.argument("a", metavar="A", type=SourceType())
@click.argument("b", metavar="[B]", type=SourceType(), required=False)
@click.option("--after", "seconds", metavar="SECONDS", type=float, help="Of one process: now, and after that time.")
@click.option("--ignore", metavar="FIELD", multiple=True, help="Do not compare this field; may be repeated.")
@click.option("--others", is_flag=True, help="Also what other processes change: the share of pages that they map too.")
@growth_options
@residency_option
@json_option
@csv_option
@shape_options
@bytes_option
@asking_options
def command(
    a: Asked | str,
    b: Asked | str | None,
    seconds: float | None,
    ignore: tuple[str, ...],
    others: bool,
    by: str | None,
    sort: str,
    wheres: tuple[Filter, ...],
    residency: bool,
    as_json: bool,
    as_csv: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Show what changed between two captures, a capture and a process, or in a process after some time.

    \b
    Examples:
      vmatlas diff 1234 --after 1
      vmatlas diff 1234 --after 60 --residency --by kind
      vmatlas diff before.vmatlas after.vmatlas
      vmatlas diff before.vmatlas 1234
      vmatlas diff before.vmatlas after.vmatlas --ignore flags --json

    A number is a process, - a capture on standard input, anything else a file (./1234 for a file of such a name). A
    process is asked as the capture that it is compared with was: by the same backend, with or without residency. Exit 1
    when there is a difference, as diff does.
    """
    from vmatlas.analysis import diff
    from vmatlas.analysis.diff import check_fields
    from vmatlas.cli.render import diff as render
    from vmatlas.cli.render import output

    refuse_both(as_json, as_csv)
    check_fields(ignore)  # before anything is waited for
    if seconds is not None:
        before, after = _watched(a, b, seconds, residency, by == "name", patience, backend, target)
    else:
        before, after = _two(a, b, residency, by == "name", patience, backend, target)
    for space in (before, after):
        warn_if_incomplete(space)
    difference = chosen(diff(before, after, ignore=ignore, others=others), wheres, sort, by)
    if as_json:
        output.show_json(render.difference_json(difference, by))
    elif as_csv:
        output.show_csv(*render.difference_csv(difference, by))
    else:
        output.show(render.difference_table(difference, exact=exact, by=by))
    return Exit.FOUND if difference else Exit.OK


def _watched(
    a: Asked | str,
    b: Asked | str | None,
    seconds: float,
    residency: bool,
    threads: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> tuple[AddressSpace, AddressSpace]:
    from vmatlas.cli.asking import opened

    if b is not None or not isinstance(a, Asked):
        raise UsageError("--after goes with one process", hint="vmatlas diff 1234 --after 10")
    if not (math.isfinite(seconds) and 0 <= seconds <= _LONGEST):
        raise UsageError(f"--after {seconds:g} is no time that can be waited for", hint="a number of seconds from 0")
    with opened(a, target, backend, patience) as asked:
        before = asked.snapshot(residency=residency, threads=threads)
        time.sleep(seconds)
        return before, asked.snapshot(residency=residency, threads=threads)


def _two(
    a: Asked | str,
    b: Asked | str | None,
    residency: bool,
    threads: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> tuple[AddressSpace, AddressSpace]:
    from vmatlas import api
    from vmatlas.cli.asking import opened

    if b is None:
        raise UsageError("two maps are needed", hint="vmatlas diff A B, or of one process: vmatlas diff PID --after 10")
    if a == b == STDIN:
        raise UsageError("- is standard input, which can be read once", hint="name one of the captures by its file")
    captures = [load(side) for side in (a, b) if isinstance(side, str)]
    if len(captures) == 2:
        refuse_asking(backend, target)
    sides: list[AddressSpace] = []
    for side in (a, b):
        if isinstance(side, str):
            sides.append(api.replay(captures[0] if side is a else captures[-1]))
            if residency:
                check_residency(sides[-1], side)
            continue
        chosen, how = _like(captures, residency, backend)
        with opened(side, target, chosen, patience) as asked:
            known = all("threads" in capture.streams for capture in captures)  # else the two would be guessed apart
            sides.append(_asked(asked, how, threads and known))
    return sides[0], sides[1]


def _asked(asked: Patiently, how: Query, threads: bool) -> AddressSpace:
    return asked.snapshot(residency=how.residency, build_ids=how.build_ids, threads=threads)


def _like(captures: list[Capture], residency: bool, backend: str | None) -> tuple[str | None, Query]:
    """By which backend, and how, to ask a process that is compared with a capture: the same way."""
    from vmatlas.model import Query

    if not captures:
        return backend, Query(residency=residency)
    query = captures[0].query
    how = Query(residency=residency or query.residency, build_ids=query.build_ids)
    return backend or captures[0].backend, how
