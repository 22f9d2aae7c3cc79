"""`vmatlas advise`: tell the kernel what a process will do with its memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from vmatlas.cli.exits import Exit, say
from vmatlas.cli.options import asking_options, bytes_option, json_option, processes_argument, where_option
from vmatlas.cli.words import Asked, Chooses, all_of, only_one, warn_if_incomplete
from vmatlas.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from vmatlas.cli.render import advise
    from vmatlas.model import AddressSpace, Filter
    from vmatlas.process import Process

_ADVICES = {
    "cold": "Take these pages first when memory is short.",
    "pageout": "Write these pages to swap, or to their files, now.",
    "willneed": "Read these pages from swap, or from their files, now.",
    "collapse": "Make huge pages of these now.",
}


@click.command("advise", short_help="Page memory of a process out, or in; make huge pages of it.")
@processes_argument
@click.option("--cold", is_flag=True, help=_ADVICES["cold"])
@click.option("--pageout", is_flag=True, help=_ADVICES["pageout"])
@click.option("--willneed", is_flag=True, help=_ADVICES["willneed"])
@click.option("--collapse", is_flag=True, help=_ADVICES["collapse"])
@where_option
@click.option("--go-on", is_flag=True, help="Stop at no range that the kernel refuses; tell how many did.")
@click.option("--dry-run", is_flag=True, help="Ask the kernel whether it would take the advice; do nothing.")
@json_option
@bytes_option
@asking_options
def command(
    processes: tuple[Asked | Chooses, ...],
    wheres: tuple[Filter, ...],
    go_on: bool,
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
    before the end, or refused a range (--go-on); standard error says where and why. To leave out what would refuse:
    --where '!flag=lo' (locked). Words choose several processes ('vmatlas --help' has them), each
    of which has a line.
    """
    chosen_advices = [each for each in _ADVICES if advices[each]]
    if len(chosen_advices) != 1:
        said = "say which advice" if not chosen_advices else "more than one advice"
        raise UsageError(said, hint="one of " + ", ".join(f"--{each}" for each in _ADVICES))
    [advice] = chosen_advices
    from vmatlas.cli.asking import opened
    from vmatlas.cli.render import advise, output

    where = all_of(wheres)
    process = only_one(processes)
    if process is None:
        return _of_several(processes, where, advice, go_on, dry_run, as_json, exact, patience, backend, target)
    with opened(process, target, backend, patience) as asked:
        told = _advise(asked.process, asked.ask, where, advice, go_on, dry_run)
    if as_json:
        output.show_json(advise.advised_json(told))
    else:
        output.show(advise.advised_table(told, exact=exact))
    failure = told.advised.failure
    if failure is not None:
        say(failure.message, hint=failure.hint)
        return Exit.INCOMPLETE
    return Exit.OK


def _of_several(
    words: Sequence[Asked | Chooses],
    where: Filter,
    advice: str,
    go_on: bool,
    dry_run: bool,
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.render import advise, output
    from vmatlas.cli.render.together import Whose, together, together_json
    from vmatlas.cli.survey import Survey
    from vmatlas.cli.whom import chosen

    def ask(asked: Process) -> tuple[None, advise.Told]:
        return None, _advise(asked, lambda question: question(), where, advice, go_on, dry_run)

    with chosen(words, target, patience) as (place, selected):
        survey = Survey(place, backend, patience, ask, selected)
        found = list(survey)
    if as_json:
        output.show_json(together_json([advise.advised_json(told) for _, told in found], survey))
    else:
        tables = [(Whose(info.pid, info.known_name), advise.advised_table(told, exact=exact)) for info, told in found]
        output.show(together(tables, survey))
    failed = [(told.advised.pid, told.advised.failure) for _, told in found if told.advised.failure is not None]
    for pid, failure in failed:
        say(f"process {pid}: {failure.message}", hint=failure.hint if failure is failed[-1][1] else None)
    code = survey.tell()
    return Exit.INCOMPLETE if failed else code


def _advise(
    asked: Process, ask: Callable[[Callable[[], Any]], Any], where: Filter, advice: str, go_on: bool, dry_run: bool
) -> advise.Told:
    """What became of the advice; each question is asked by `ask`."""
    from vmatlas import operations
    from vmatlas.cli.render import advise
    from vmatlas.model import Kind

    before: AddressSpace = ask(lambda: _read(asked, needs_residency=asked.needs_residency(where)))
    warn_if_incomplete(before)
    own = (Kind.VDSO, Kind.VVAR, Kind.VSYSCALL)
    chosen = before.where(where)
    chosen = type(chosen).of([region for region in chosen if region.kind not in own], chosen.origin)
    advised = ask(lambda: operations.advise(asked, chosen, operations.Advice(advice), dry_run=dry_run, go_on=go_on))
    after = None if dry_run else ask(lambda: _read(asked, needs_residency=False))
    return advise.Told(advised, chosen, advise.resident(chosen, before), advise.resident(chosen, after))


def _read(asked: Process, *, needs_residency: bool) -> AddressSpace:
    """With the memory in use, where the system tells it."""
    try:
        return asked.snapshot(residency=True)
    except Unsupported:
        if needs_residency:
            raise
        return asked.snapshot()
