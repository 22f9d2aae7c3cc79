"""`vmatlas diff`: what changed between two maps."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import (
    Asked,
    asking_options,
    bytes_option,
    json_option,
    residency_option,
    warn_if_incomplete,
)
from vmatlas.cli.recorded import STDIN, SourceType, check_residency, load, refuse_asking
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.cli.asking import Patiently
    from vmatlas.model import AddressSpace, Query

_LONGEST = 86400.0 * 366


@click.command("diff", short_help="What changed between two captures or processes, or with time.")
@click.argument("a", metavar="A", type=SourceType())
@click.argument("b", metavar="[B]", type=SourceType(), required=False)
@click.option("--after", "seconds", metavar="SECONDS", type=float, help="Of one process: now, and after that time.")
@click.option("--ignore", metavar="FIELD", multiple=True, help="Do not compare this field; may be repeated.")
@residency_option
@json_option
@bytes_option
@asking_options
def command(
    a: Asked | str,
    b: Asked | str | None,
    seconds: float | None,
    ignore: tuple[str, ...],
    residency: bool,
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Show what changed between two captures, a capture and a process, or in a process after some time.

    \b
    Examples:
      vmatlas diff 1234 --after 1
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

    check_fields(ignore)  # before anything is waited for
    if seconds is not None:
        before, after = _watched(a, b, seconds, residency, patience, backend, target)
    else:
        before, after = _two(a, b, residency, patience, backend, target)
    for space in (before, after):
        warn_if_incomplete(space)
    difference = diff(before, after, ignore=ignore)
    if as_json:
        output.show_json(render.difference_json(difference))
    else:
        output.show(render.difference_table(difference, exact=exact))
    return Exit.FOUND if difference else Exit.OK


def _watched(
    a: Asked | str,
    b: Asked | str | None,
    seconds: float,
    residency: bool,
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
        before = asked.snapshot(residency=residency)
        time.sleep(seconds)
        return before, asked.snapshot(residency=residency)


def _two(
    a: Asked | str,
    b: Asked | str | None,
    residency: bool,
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
            sides.append(_asked(asked, how))
    return sides[0], sides[1]


def _asked(asked: Patiently, how: Query) -> AddressSpace:
    return asked.snapshot(residency=how.residency, build_ids=how.build_ids)


def _like(captures: list[Capture], residency: bool, backend: str | None) -> tuple[str | None, Query]:
    """By which backend, and how, to ask a process that is compared with a capture: the same way."""
    from vmatlas.model import Query

    if not captures:
        return backend, Query(residency=residency)
    query = captures[0].query
    how = Query(residency=residency or query.residency, build_ids=query.build_ids)
    return backend or captures[0].backend, how
