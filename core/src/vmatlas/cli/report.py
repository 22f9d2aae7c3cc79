"""`vmatlas report`: what is told of one process, as one page."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import asking_options
from vmatlas.cli.picture import refuse_taken
from vmatlas.cli.recorded import AnySourceType, refuse_asking
from vmatlas.cli.words import Asked, Chooses
from vmatlas.errors import UsageError

if TYPE_CHECKING:
    from vmatlas.picture.report import Report


@click.command("report", short_help="Findings, totals, growth and a picture of one process, in one page.")
@click.argument("source", metavar="PID|FILE", type=AnySourceType())
@click.option("-o", "--output", metavar="FILE", required=True, help="Where: FILE.html; never over another file.")
@click.option("--force", is_flag=True, help="Replace what stands at FILE.")
@asking_options
def command(
    source: Asked | Chooses | str,
    output: str,
    force: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Write what there is to tell of one process into one HTML page: what is suspicious, what its memory is for, its
    picture, and of a series what grows.

    \b
    Examples:
      vmatlas report 1234 -o report.html
      vmatlas report leak.vmatlas -o leak.html

    It is what 'vmatlas audit', 'summary', 'growth' and 'picture' tell, of one and the same map. FILE is a capture, a
    series, a core file, a minidump or the text of a map: of these is told what they hold, and what could not be told
    stands beside the findings. The page has everything in it, and asks nobody.
    """
    if os.path.splitext(output)[1].lower() not in (".html", ".htm"):
        raise UsageError("a report is a page", hint="-o FILE.html")
    refuse_taken(output, force)
    if isinstance(source, Chooses):
        raise UsageError("a report is on one process, by its number", hint="vmatlas report PID -o FILE.html")
    if isinstance(source, str):
        refuse_asking(backend, target)
        report = _of_file(source)
    else:
        report = _of_process(source, patience, backend, target)
    from vmatlas.cli.render.text import count, one_line
    from vmatlas.cli.words import warn_if_incomplete
    from vmatlas.writing import write_whole

    warn_if_incomplete(report.scene.space)
    try:
        write_whole(output, report.html().encode("utf-8"), replace=force)
    except FileExistsError:
        refuse_taken(output, force)
        raise
    told = f"{output}: {report.scene.title}, {count(len(report.audit), 'finding')}"
    sys.stdout.write(one_line(f"{told}, {count(os.path.getsize(output), 'byte')}") + "\n")
    return Exit.OK


def _of_process(source: Asked, patience: float | None, backend: str | None, target: str) -> Report:
    from vmatlas.analysis import audit
    from vmatlas.cli.asking import opened
    from vmatlas.picture.report import Report
    from vmatlas.picturing import scene_of_process, summary_of

    with opened(source, target, backend, patience) as asked:

        def ask() -> Report:
            scene = scene_of_process(asked.process)
            return Report(scene, summary_of(scene), audit(scene.space, asked.process.evidence()))

        return asked.ask(ask)


def _of_file(file: str) -> Report:
    from vmatlas import api
    from vmatlas.analysis import audit
    from vmatlas.capture import Capture
    from vmatlas.cli.recorded import load, opened, split
    from vmatlas.picture.report import Report
    from vmatlas.picturing import course_of_series, scene_of_space, summary_of
    from vmatlas.recording import trends_of

    path, when = split(file)
    if when is None:
        with opened(path) as found:
            if not isinstance(found, Capture) and len(found) > 1:
                course = course_of_series(found)
                trends = trends_of(found)
                return Report(course.last, summary_of(course.last), audit(course.last.space), trends, course)
            capture = found if isinstance(found, Capture) else found[-1]
    else:
        capture = load(file)
    scene = scene_of_space(api.replay(capture))
    return Report(scene, summary_of(scene), audit(scene.space))
