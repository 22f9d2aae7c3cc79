"""`vmatlas audit`: what is suspicious in one process, or in all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import (
    Asked,
    Chooses,
    asking_options,
    bytes_option,
    json_option,
    shape_options,
)
from vmatlas.cli.recorded import SourceType, replay

if TYPE_CHECKING:
    from vmatlas.analysis import Finding
    from vmatlas.backend import Target
    from vmatlas.cli.survey import Unread
    from vmatlas.model import AddressSpace, ProcessInfo
    from vmatlas.process import Process
    from vmatlas.selection.resolving import Selected


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
    7 when nothing was found but a process could not be read; the table, JSON and standard error say who and why, and
    one that did not answer in time (--patience) has a line of its own. Whether a deleted file was replaced is looked up
    for processes of this machine only.
    """
    from vmatlas.analysis import audit as judge
    from vmatlas.cli.render import audit, output
    from vmatlas.cli.survey import of_one, sources_of
    from vmatlas.cli.whom import several

    source = sources_of(sources, everyone, "audit")
    if not isinstance(source, (str, Asked)):
        with several(source, target, patience) as (place, selected):
            return _of_several(place, selected, as_json, exact, patience, backend)
    if isinstance(source, str):
        space = replay(source, residency=False, backend=backend, target=target)
        findings = judge(space)
    else:
        space, findings = of_one(source, target, backend, patience, _audit, residency=False)
    if as_json:
        output.show_json(audit.findings_json([(space.pid, finding) for finding in findings]))
    else:
        output.show(audit.finding_table([(space.pid, finding) for finding in findings], exact=exact))
    if findings:
        return Exit.FOUND
    # No clean bill, where the map may lack something, which was said.
    return Exit.OK if space.incomplete is None else Exit.INCOMPLETE


def _of_several(
    place: Target, selected: Selected | None, as_json: bool, exact: bool, patience: float | None, backend: str | None
) -> int:
    from vmatlas.cli.survey import Survey, judging, telling

    found: list[tuple[ProcessInfo, list[Finding]]] = []
    survey = Survey(place, backend, patience, judging(_audit, residency=False), selected)
    with telling(survey, lambda: _show(found, survey, as_json=as_json, exact=exact)):
        found += survey
    _show(found, survey, as_json=as_json, exact=exact)
    code = survey.tell()
    return Exit.FOUND if any(findings for _, findings in found) else code


def _show(found: Sequence[tuple[ProcessInfo, list[Finding]]], survey: Unread, *, as_json: bool, exact: bool) -> None:
    from vmatlas.cli.render import audit, output

    if as_json:
        output.show_json(audit.processes_json(found, survey))
    elif survey.among is None:
        output.show(audit.everybodys_table(found, survey, exact=exact))
    else:
        output.show(audit.processes_table(found, survey, exact=exact))


def _audit(space: AddressSpace, asked: Process) -> list[Finding]:
    from vmatlas.analysis import audit

    return audit(space, asked.file_lookup(), partial(_with_flags, asked), asked.guard_at)


def _with_flags(asked: Process) -> AddressSpace | None:
    """The map again, with what tells the parts of a stack; None where the backend that was named does not tell it."""
    from vmatlas.errors import Unsupported, UsageError

    try:
        return asked.snapshot(residency=True)
    except (Unsupported, UsageError):
        return None
