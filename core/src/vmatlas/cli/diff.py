"""`vmatlas diff`: what changed between two maps."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from vmatlas import arguments
from vmatlas.cli.exits import Exit
from vmatlas.cli.options import (
    asking_options,
    bytes_option,
    csv_option,
    json_option,
    residency_option,
    shape_options,
    where_option,
)
from vmatlas.cli.recorded import STDIN, SourceType, check_residency, load, refuse_asking
from vmatlas.cli.words import Asked, Chooses, all_of, only_one, refuse_both, warn_if_incomplete
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.analysis import Difference
    from vmatlas.capture import Capture
    from vmatlas.cli.asking import Patiently
    from vmatlas.model import AddressSpace, Filter, Query
    from vmatlas.process import Process

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
@click.argument("more", metavar="[B]", type=SourceType(), nargs=-1)
@click.option("--after", "seconds", metavar="SECONDS", type=float, help="Of a process, or several: now, and later.")
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
    a: Asked | Chooses | str,
    more: tuple[Asked | Chooses | str, ...],
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
      vmatlas diff children:1234 --after 1
      vmatlas diff before.vmatlas after.vmatlas
      vmatlas diff before.vmatlas 1234
      vmatlas diff before.vmatlas after.vmatlas --ignore flags --json

    A number is a process, - a capture on standard input, anything else a file (./1234 for a file of such a name). A
    process is asked as the capture that it is compared with was: by the same backend, with or without residency. With
    --after several processes are compared, each with itself, and words choose them ('vmatlas --help' has them). Exit 1
    when there is a difference, as diff does.
    """
    from vmatlas.analysis import diff
    from vmatlas.analysis.diff import check_fields
    from vmatlas.cli.render import diff as render
    from vmatlas.cli.render import output

    refuse_both(as_json, as_csv)
    check_fields(ignore)  # before anything is waited for
    if seconds is not None:
        check_time(seconds)
        words = [each for each in (a, *more) if not isinstance(each, str)]
        if len(words) <= len(more):
            raise UsageError("--after goes with processes", hint="vmatlas diff 1234 --after 10")
        if only_one(words) is None:

            def compare(before: AddressSpace, after: AddressSpace) -> Difference:
                return chosen(diff(before, after, ignore=ignore, others=others), wheres, sort, by)

            how = {"residency": residency, "threads": by == "name"}
            return _of_several(words, seconds, how, compare, by, as_json, as_csv, exact, patience, backend, target)
    if len(more) > 1:
        raise UsageError(
            "two maps are compared", hint="vmatlas diff A B; of several processes, each with itself: --after 10"
        )
    b = more[0] if more else None
    if seconds is not None:
        before, after = watched(a, seconds, residency, by == "name", patience, backend, target)
    else:
        before, after = two_maps(a, b, residency, by == "name", patience, backend, target)
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


def check_time(seconds: float) -> None:
    """Raises UsageError."""
    if not (math.isfinite(seconds) and 0 <= seconds <= arguments.LONGEST):
        raise UsageError(f"--after {seconds:g} is no time that can be waited for", hint="a number of seconds from 0")


def _of_several(
    words: Sequence[Asked | Chooses],
    seconds: float,
    how: dict[str, Any],
    compare: Callable[[AddressSpace, AddressSpace], Difference],
    by: str | None,
    as_json: bool,
    as_csv: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Each is compared with itself. Who ends meanwhile is told as such."""
    from vmatlas.cli.asking import named
    from vmatlas.cli.render import diff as render
    from vmatlas.cli.render import output
    from vmatlas.cli.render.together import Whose, together, together_csv, together_json
    from vmatlas.cli.survey import Survey
    from vmatlas.cli.whom import chosen as choose

    def ask(asked: Process) -> tuple[None, AddressSpace]:
        return None, named(asked.snapshot(**how), asked)

    with choose(words, target, patience) as (place, selected):
        survey = Survey(place, backend, patience, ask, selected)
        before = {info.pid: space for info, space in survey}
        time.sleep(seconds)
        survey.ask_again(before)
        found = [(Whose(info.pid, info.known_name), compare(before[info.pid], space)) for info, space in survey]
    for _, difference in found:
        warn_if_incomplete(difference.after)
    if as_json:
        output.show_json(together_json([render.difference_json(each, by) for _, each in found], survey))
    elif as_csv:
        output.show_csv(*together_csv([(whose, *render.difference_csv(each, by)) for whose, each in found], survey))
    else:
        tables = [(whose, render.difference_table(each, exact=exact, by=by)) for whose, each in found]
        output.show(together(tables, survey))
    code = survey.tell()
    return Exit.FOUND if any(difference for _, difference in found) else code


def watched(
    a: Asked | Chooses | str,
    seconds: float,
    residency: bool,
    threads: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> tuple[AddressSpace, AddressSpace]:
    """One process, now and after some seconds."""
    from vmatlas.cli.asking import opened

    assert isinstance(a, Asked)
    with opened(a, target, backend, patience) as asked:
        before = asked.snapshot(residency=residency, threads=threads)
        time.sleep(seconds)
        return before, asked.snapshot(residency=residency, threads=threads)


def two_maps(
    a: Asked | Chooses | str,
    b: Asked | Chooses | str | None,
    residency: bool,
    threads: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> tuple[AddressSpace, AddressSpace]:
    """Two maps, of captures or processes; a process is asked as the capture beside it was.

    Raises UsageError, and what reading either raises.
    """
    from vmatlas import api
    from vmatlas.cli.asking import opened

    if b is None:
        raise UsageError("two maps are needed", hint="vmatlas diff A B, or of one process: vmatlas diff PID --after 10")
    if a == b == STDIN:
        raise UsageError("- is standard input, which can be read once", hint="name one of the captures by its file")
    if isinstance(a, Chooses) or isinstance(b, Chooses):
        a, b = (_the_one(side, patience, target) if isinstance(side, Chooses) else side for side in (a, b))
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


def _the_one(word: Chooses, patience: float | None, target: str) -> Asked:
    """Whom a word chooses. Raises UsageError for several."""
    from vmatlas.cli.whom import chosen

    with chosen([word], target, patience) as (_, selected):
        if len(selected) > 1:
            some = ", ".join(str(each.pid) for each in selected[:8])
            raise UsageError(
                f"'{word.text}' chooses {len(selected)} processes, and one is compared", hint=f"one of {some}"
            )
        return Asked(selected[0].pid)


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
