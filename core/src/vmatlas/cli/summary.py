"""`vmatlas summary`: what adds up to what."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import asking_options, format_options, residency_option, shape_options
from vmatlas.cli.recorded import SourceType, replay
from vmatlas.cli.words import Asked, Chooses, refuse_both
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.analysis import Summary
    from vmatlas.backend import Target
    from vmatlas.cli.survey import Survey, TotalsSurvey
    from vmatlas.model import AddressSpace
    from vmatlas.process import Process


@click.command("summary", short_help="Totals by use (code, data, stack), by kind, by file.")
@click.argument("sources", metavar="[PROCESS...|FILE]", type=SourceType(), nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every process that may be read, a line each: its memory in use.")
@click.option(
    "--by",
    type=click.Choice(("name", "user", "program", "cgroup", "unit", "container")),
    help="Of several: a line for each of these instead. Of one process: name, with guesses (?) at what has none.",
)
@click.option("--uses", is_flag=True, help="Of several: what is mapped, by use (code, data, stacks).")
@residency_option
@format_options
@shape_options
@asking_options
def command(
    sources: tuple[Asked | Chooses | str, ...],
    everyone: bool,
    by: str | None,
    uses: bool,
    residency: bool,
    exact: bool,
    as_json: bool,
    as_csv: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Show the totals of a process, or of a capture: by use (code, data, stack), by kind, and by file.

    \b
    Examples:
      vmatlas summary 1234
      vmatlas summary 1234 --residency
      vmatlas summary 1234 --by name
      vmatlas summary --all
      vmatlas summary --all --by user
      vmatlas summary children:1234
      vmatlas summary 1234 --json
      vmatlas summary worker.vmatlas

    A number is a process, - a capture on standard input, anything else the file of one (./1234 for a file of such a
    name).
    --all asks the system for the totals of each process, without a map (Linux: smaps_rollup), the largest first: PSS
    (each page divided by the number of its mappings, so that lines add up), PRIVATE (what is free when it ends),
    RESIDENT, SWAP. Exit 7 when a process could not be read that has memory; the table, JSON and standard error say who
    and why. One that does not answer in time (--patience) has a line of its own. Several processes, or words that
    choose them (name:postgres, unit:nginx.service; 'vmatlas --help' has them), are shown the same way; beside the sum
    stand the counters of the cgroups that were named, with what makes the difference.
    """
    refuse_both(as_json, as_csv)
    from vmatlas.cli.survey import Survey, TotalsSurvey, judging, of_one, sources_of
    from vmatlas.cli.whom import several

    source = sources_of(sources, everyone, "summary")
    if uses and by:
        raise UsageError("--uses and --by exclude each other")
    if by not in (None, "name") or uses:
        if isinstance(source, str):
            hint = "vmatlas summary --all --by user"
            raise UsageError(f"{'--by' if by else '--uses'} goes with processes, not with a file", hint=hint)
        if isinstance(source, Asked):  # one that is chosen is as good as several
            source = [source]
    if not isinstance(source, (str, Asked)) and not uses:
        with several(source, target, patience) as (place, selected):
            return _totals(TotalsSurvey(place, backend, patience, selected), place, by, exact, as_json, as_csv)
    from vmatlas.analysis import summarize
    from vmatlas.cli.render import output, summary

    if isinstance(source, str):
        space = replay(source, residency=residency, backend=backend, target=target)
        totals = _with_guesses(space) if by else summarize(space)
    elif isinstance(source, Asked):

        def judge(each: AddressSpace, process: Process) -> Summary:
            return _with_guesses(each.with_threads(process.threads())) if by else summarize(each)

        space, totals = of_one(source, target, backend, patience, judge, residency=residency)
    else:
        with several(source, target, patience) as (place, selected):
            ask = judging(lambda space, _: summarize(space), residency=residency)
            survey = Survey(place, backend, patience, ask, selected)
            return _of_all(survey, exact, as_json, as_csv)
    if as_json:
        output.show_json(summary.space_json(space, totals))
    elif as_csv:
        output.show_csv(summary.CSV_COLUMNS, summary.summary_csv(totals))
    elif by:
        output.show(summary.names_table(space, totals, exact=exact))
    else:
        output.show(*summary.summary_tables(space, totals, exact=exact))
    return Exit.OK


def _with_guesses(space: AddressSpace) -> Summary:
    from vmatlas.analysis import summarize
    from vmatlas.analysis.naming import name_regions

    return summarize(space, name_regions(space))


def _of_all(survey: Survey[Summary], exact: bool, as_json: bool, as_csv: bool) -> int:
    from vmatlas.cli.render import output, summary

    found = list({process.pid: (process, totals) for process, totals in survey}.values())  # see `totals.each_once`
    survey.read = len(found)
    if as_json:
        output.show_json(summary.processes_json(found, survey))
    elif as_csv:
        output.show_csv(summary.PROCESSES_CSV_COLUMNS, summary.processes_csv(found, survey))
    else:
        output.show(summary.processes_table(found, survey, exact=exact))
    return survey.tell()


def _totals(survey: TotalsSurvey, place: Target, by: str | None, exact: bool, as_json: bool, as_csv: bool) -> int:
    from vmatlas.cli.render import output, totals
    from vmatlas.totals import cgroup_memories, group_memories, most_regions

    found = survey.found()
    groups = None if by is None else group_memories(found, by, place)
    counters = [] if survey.among is None else cgroup_memories(survey.among)
    limit = most_regions(place)
    if as_json:
        output.show_json(totals.totals_json(found, survey, by, groups, limit, counters))
    elif as_csv:
        columns, rows = totals.totals_csv(found, survey, by, groups)
        output.show_csv(columns, rows)
    else:
        beside = totals.counters_tables(found, survey.among, counters, exact=exact)
        if by is None or groups is None:
            output.show(totals.totals_table(found, survey, limit, exact=exact), *beside)
        else:
            output.show(totals.groups_table(found, survey, by, groups, exact=exact), *beside)
    return survey.tell()
