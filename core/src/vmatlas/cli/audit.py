"""`vmatlas audit`: what is suspicious in one process, or in all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import (
    Asked,
    Chooses,
    asking_options,
    bytes_option,
    json_option,
    reach,
    shape_options,
)
from vmatlas.cli.recorded import SourceType, replay

if TYPE_CHECKING:
    from vmatlas.analysis import Finding
    from vmatlas.cli.survey import Unread
    from vmatlas.errors import Unanswered
    from vmatlas.model import AddressSpace, ProcessInfo
    from vmatlas.process import Process

    _Findings: TypeAlias = list[tuple[ProcessInfo | int, Finding]]


@click.command("audit", short_help="Writable code, executable stacks, deleted and replaced files.")
@click.argument("sources", metavar="[PROCESS...|FILE]", type=SourceType(), nargs=-1)
@click.option("--all", "everyone", is_flag=True, help="Every process that may be read.")
@json_option
@bytes_option
@shape_options
@asking_options
def command(
    sources: tuple[Asked | Chooses | str, ...],
    everyone: bool,
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Find memory that is writable and executable, executable stacks and heaps, files that are deleted or replaced,
    and stacks with no guard below.

    \b
    Examples:
      vmatlas audit 1234
      vmatlas audit --all
      vmatlas audit --all --json
      vmatlas audit worker.vmatlas

    A number is a process, - a capture on standard input, anything else the file of one (./1234 for a file of such a
    name); words choose several processes ('vmatlas --help' has them).
    Exit 1 when something is found, 7 when nothing was but the map may lack something. Of several, and with --all, exit
    7 when nothing was found but a process could not be read; standard error says how many and why, and one that did not
    answer in time (--patience) has a line. Whether a deleted file was replaced is looked up for processes of this
    machine only.
    """
    from vmatlas.analysis import audit as judge
    from vmatlas.cli.survey import Survey, judging, of_one, sources_of, telling

    source = sources_of(sources, everyone, "audit")
    if source is not None and not isinstance(source, (str, Asked)):
        return _of_several(source, as_json, exact, patience, backend, target)
    found: _Findings = []
    silent: list[tuple[ProcessInfo, Unanswered]] = []
    unread = Exit.OK
    if isinstance(source, str):
        space = replay(source, residency=False, backend=backend, target=target)
        found += [(space.pid, finding) for finding in judge(space)]
        unread = _judged(space)
    elif isinstance(source, Asked):
        space, findings = of_one(source, target, backend, patience, _audit, residency=False)
        found += [(space.pid, finding) for finding in findings]
        unread = _judged(space)
    else:
        with reach(target) as place:
            survey = Survey(place, backend, patience, judging(_audit, residency=False))
            with telling(survey, lambda: _show(found, survey.unanswered, as_json=as_json, exact=exact)):
                for info, findings in survey:
                    found += [(info, finding) for finding in findings]
            silent = survey.unanswered
            unread = survey.tell()
    _show(found, silent, as_json=as_json, exact=exact)
    return Exit.FOUND if found else unread


def _judged(space: AddressSpace) -> Exit:
    """What a map without a finding is: no clean bill, where it may lack something, which was said."""
    return Exit.OK if space.incomplete is None else Exit.INCOMPLETE


def _show(found: _Findings, silent: Sequence[tuple[ProcessInfo, Unanswered]], *, as_json: bool, exact: bool) -> None:
    from vmatlas.cli.render import audit, output

    if as_json:
        output.show_json(audit.findings_json(found, silent))
    else:
        lines = [(each if isinstance(each, int) else each.pid, finding) for each, finding in found]
        output.show(audit.finding_table(lines, silent, exact=exact))


def _of_several(
    words: Sequence[Asked | Chooses],
    as_json: bool,
    exact: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.survey import Survey, judging, telling
    from vmatlas.cli.whom import chosen

    found: list[tuple[ProcessInfo, list[Finding]]] = []
    with chosen(words, target, patience) as (place, selected):
        survey = Survey(place, backend, patience, judging(_audit, residency=False), selected)
        with telling(survey, lambda: _show_several(found, survey, as_json=as_json, exact=exact)):
            found += survey
    _show_several(found, survey, as_json=as_json, exact=exact)
    code = survey.tell()
    return Exit.FOUND if any(each_of for _, each_of in found) else code


def _show_several(
    found: Sequence[tuple[ProcessInfo, list[Finding]]], survey: Unread, *, as_json: bool, exact: bool
) -> None:
    from vmatlas.cli.render import audit, output
    from vmatlas.cli.render.together import Whose, together, together_json

    if as_json:
        told = [
            {
                "pid": info.pid,
                "process": info.name,
                "findings": audit.findings_json([(info, each) for each in each_of], []),
            }
            for info, each_of in found
        ]
        output.show_json(together_json(told, survey))
    else:
        tables = [
            (Whose(info.pid, info.name), audit.finding_table([(info.pid, each) for each in each_of], [], exact=exact))
            for info, each_of in found
        ]
        output.show(together(tables, survey))


def _audit(space: AddressSpace, asked: Process) -> list[Finding]:
    from vmatlas.analysis import audit

    return audit(space, asked.file_lookup(), partial(_with_flags, asked))


def _with_flags(asked: Process) -> AddressSpace | None:
    """The map again, with what tells the parts of a stack; None where the backend that was named does not tell it."""
    from vmatlas.errors import Unsupported, UsageError

    try:
        return asked.snapshot(residency=True)
    except (Unsupported, UsageError):
        return None
