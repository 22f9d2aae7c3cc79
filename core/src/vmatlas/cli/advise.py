"""`vmatlas advise`: tell the kernel what a process will do with its memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import (
    Asked,
    all_of,
    asking_options,
    bytes_option,
    json_option,
    process_argument,
    warn_if_incomplete,
    where_option,
)
from vmatlas.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from vmatlas.model import AddressSpace, Filter
    from vmatlas.process import Process

_ADVICES = {
    "cold": "Take these pages first when memory is short.",
    "pageout": "Write these pages to swap, or to their files, now.",
    "willneed": "Read these pages from swap, or from their files, now.",
    "collapse": "Make huge pages of these now.",
}


@click.command("advise", short_help="Page memory of a process out, or in; make huge pages of it.")
@process_argument
@click.option("--cold", is_flag=True, help=_ADVICES["cold"])
@click.option("--pageout", is_flag=True, help=_ADVICES["pageout"])
@click.option("--willneed", is_flag=True, help=_ADVICES["willneed"])
@click.option("--collapse", is_flag=True, help=_ADVICES["collapse"])
@where_option
@click.option("--dry-run", is_flag=True, help="Ask the kernel whether it would take the advice; do nothing.")
@json_option
@bytes_option
@asking_options
def command(
    process: Asked,
    wheres: tuple[Filter, ...],
    dry_run: bool,
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
    **advices: bool,
) -> int:
    """Tell the kernel what a process will do with its memory, and show the memory in use before and after.

    \b
    Examples:
      vmatlas advise 1234 --cold --where anonymous --dry-run
      vmatlas advise 1234 --cold --where 'anonymous,size>16K'
      vmatlas advise 1234 --willneed --where file --json

    Nothing is lost: pages that were taken come back when they are touched. The kernel's own regions ([vdso], [vvar],
    [vsyscall]) are left out. It takes CAP_SYS_NICE and the right to read the process. Exit 7 when the kernel stopped
    before the end; standard error says where and why.
    """
    chosen_advices = [each for each in _ADVICES if advices[each]]
    if len(chosen_advices) != 1:
        said = "say which advice" if not chosen_advices else "more than one advice"
        raise UsageError(said, hint="one of " + ", ".join(f"--{each}" for each in _ADVICES))
    [advice] = chosen_advices
    from vmatlas import operations
    from vmatlas.cli.asking import opened
    from vmatlas.cli.render import advise, output
    from vmatlas.model import Kind

    where = all_of(wheres)
    with opened(process, target, backend, patience) as asked:
        before = asked.ask(lambda: _read(asked.process, needs_residency=asked.process.needs_residency(where)))
        warn_if_incomplete(before)
        own = (Kind.VDSO, Kind.VVAR, Kind.VSYSCALL)
        chosen = before.where(where)
        chosen = type(chosen).of([region for region in chosen if region.kind not in own], chosen.origin)
        advised = asked.ask(
            lambda: operations.advise(asked.process, chosen, operations.Advice(advice), dry_run=dry_run)
        )
        after = None if dry_run else asked.ask(lambda: _read(asked.process, needs_residency=False))
    told = advise.Told(advised, chosen, advise.resident(chosen, before), advise.resident(chosen, after))
    if as_json:
        output.show_json(advise.advised_json(told))
    else:
        output.show(advise.advised_table(told, exact=exact))
    if advised.failure is not None:
        say(advised.failure.message, hint=advised.failure.hint)
        return Exit.INCOMPLETE
    return Exit.OK


def _read(asked: Process, *, needs_residency: bool) -> AddressSpace:
    """With the memory in use, where the system tells it."""
    try:
        return asked.snapshot(residency=True)
    except Unsupported:
        if needs_residency:
            raise
        return asked.snapshot()
