"""`vmatlas picture`: an address space, drawn."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from vmatlas.cli.exits import Exit
from vmatlas.cli.options import DurationType, asking_options
from vmatlas.cli.recorded import STDIN, AnySourceType, refuse_asking
from vmatlas.cli.words import Asked, Chooses, only_file, only_one, processes_of
from vmatlas.errors import Unsupported, UsageError

if TYPE_CHECKING:
    from vmatlas.picture.drawn import Picture
    from vmatlas.picture.scene import Scene
    from vmatlas.process import Process


@click.command("picture", short_help="Draw an address space: in the terminal, as HTML or SVG.")
@click.argument("sources", metavar="PROCESS...|FILE", type=AnySourceType(), nargs=-1, required=True)
@click.option(
    "-o", "--output", metavar="FILE", help="Write it there: .html (interactive), .svg or .txt; never over another file."
)
@click.option(
    "--before",
    metavar="FILE|PID",
    type=AnySourceType(),
    help="Compare: what became of everything since; of a process --after draws what changes.",
)
@click.option(
    "--after", "seconds", metavar="TIME", type=DurationType(), help="Of a process: compare it now, and later."
)
@click.option("--force", is_flag=True, help="Replace what stands at FILE.")
@click.option("--names/--no-names", default=True, help="Without: no guesses at what nameless memory is.")
@click.option("--pages/--no-pages", default=True, help="Without: single pages are not asked about.")
@asking_options
def command(
    sources: tuple[Asked | Chooses | str, ...],
    output: str | None,
    before: Asked | Chooses | str | None,
    seconds: float | None,
    force: bool,
    names: bool,
    pages: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """Draw an address space to scale, with long gaps folded: what lies where, as what, and how much of it is in memory.

    \b
    Examples:
      vmatlas picture 1234
      vmatlas picture 1234 -o atlas.html
      vmatlas picture worker.vmatlas -o worker.svg
      vmatlas picture children:1234 -o tree.html
      vmatlas picture leak.vmatlas -o leak.html
      vmatlas picture 1234 --before worker.vmatlas -o since.html
      vmatlas picture 1234 --after 1s

    Without -o it is drawn here, as blocks where there are colours and as letters where there are none. An HTML file
    has everything in it and asks nobody: totals, the map to zoom and to search, a treemap of what is in memory, the
    list of regions; of several processes one is shown, and the others to be chosen. FILE is a capture, a core file, a
    minidump or the text of a map, or a series: what became of each sort, file and name, a slider through its moments,
    and the last one; @ names a single one. - is standard input.
    Nameless memory is called what it seems to be, ? before it. --before and --after compare: what was added, removed,
    grown, filled, moved is drawn in the colours of changes, beside what each kind, file and name gained. Exit 7 when
    one of several could not be read.
    """
    from vmatlas.picture.drawn import format_of

    if output is not None:
        format_of(output)  # before anything is asked
        refuse_taken(output, force)
    if before is not None or seconds is not None:
        compared = _compared(sources, before, seconds, names, patience, backend, target)
        show_picture(compared, output, force)
        return Exit.OK
    file = only_file(sources)
    if file is not None:
        refuse_asking(backend, target)
        show_picture(_of_file(file, names, output), output, force)
        return Exit.OK
    words = processes_of(sources)
    asked = only_one(words)
    if asked is not None:
        return _show([_of_process(asked, names, pages, patience, backend, target)], output, force)
    return _of_several(words, names, pages, output, force, patience, backend, target)


def _compared(
    sources: Sequence[Asked | Chooses | str],
    before: Asked | Chooses | str | None,
    seconds: float | None,
    names: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> Picture:
    """By the ways of `vmatlas diff`, of which this is the picture. Raises what they raise."""
    from vmatlas.analysis import diff
    from vmatlas.cli.diff import two_maps, watched
    from vmatlas.picture.comparison import comparison
    from vmatlas.picture.drawn import Picture

    if len(sources) != 1 or (before is not None and seconds is not None):
        raise UsageError("one process or file is compared with one before, or with itself", hint="--before or --after")
    if seconds is not None:
        if not isinstance(sources[0], Asked):
            raise UsageError("--after goes with one process, by its number", hint="vmatlas picture PID --after 10s")
        try:
            spaces = watched(sources[0], seconds, True, names, patience, backend, target)
        except Unsupported:  # nothing tells the memory in use there
            spaces = watched(sources[0], seconds, False, names, patience, backend, target)
    else:
        assert before is not None
        spaces = two_maps(before, sources[0], False, names, patience, backend, target)
    found = diff(*spaces)
    return Picture((comparison(found.with_guesses() if names else found),))


def _of_file(file: str, names: bool, output: str | None) -> Picture:
    """Of a series of which no moment is named all of it, and its last moment; an SVG has room for one of them."""
    from vmatlas import api
    from vmatlas.capture import Capture
    from vmatlas.cli.recorded import load, opened, split
    from vmatlas.cli.words import warn_if_incomplete
    from vmatlas.picture.drawn import Picture, SpaceView
    from vmatlas.picturing import course_of_series, scene_of_space

    path, when = split(file)
    if when is None:
        with opened(path) as found:
            if not isinstance(found, Capture) and len(found) > 1:
                view = course_of_series(found, names=names)
                warn_if_incomplete(view.last.space)
                only = output is not None and output.lower().endswith(".svg")
                return Picture((view,) if only else (view, SpaceView(view.last)))
            capture = found if isinstance(found, Capture) else found[-1]
    else:
        capture = load(file)
    space = api.replay(capture)
    warn_if_incomplete(space)
    return Picture((SpaceView(scene_of_space(space, names=names)),))


def _of_process(
    source: Asked, names: bool, pages: bool, patience: float | None, backend: str | None, target: str
) -> Scene:
    from vmatlas.cli.asking import opened
    from vmatlas.cli.words import warn_if_incomplete
    from vmatlas.picturing import scene_of_process

    with opened(source, target, backend, patience) as asked:
        scene = asked.ask(lambda: scene_of_process(asked.process, names=names, pages=pages))
    warn_if_incomplete(scene.space)
    return scene


def _of_several(
    words: Sequence[Asked | Chooses],
    names: bool,
    pages: bool,
    output: str | None,
    force: bool,
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    from vmatlas.cli.survey import Survey
    from vmatlas.cli.whom import chosen
    from vmatlas.picturing import scene_of_process

    def ask(asked: Process) -> tuple[str | None, Scene]:
        scene = scene_of_process(asked, names=names, pages=pages)
        return scene.space.incomplete, scene

    with chosen(words, target, patience) as (place, selected):
        survey = Survey(place, backend, patience, ask, selected)
        found = {process.pid: scene for process, scene in survey}
    if found:
        largest = sorted(found.values(), key=lambda scene: -(scene.whole.total.resident or scene.space.total))
        _show(largest, output, force)
    return survey.tell()


def _show(scenes: Sequence[Scene], output: str | None, force: bool) -> int:
    from vmatlas.picture.drawn import pictures

    show_picture(pictures(scenes), output, force)
    return Exit.OK


def show_picture(picture: Picture, output: str | None, force: bool) -> None:
    """Into a file, or here. Raises UsageError, OSError."""
    if output is None:
        from vmatlas.cli.render.output import show_spans

        for number, view in enumerate(picture.views):
            show_spans(view.lines, apart=number > 0)
        return
    from vmatlas.cli.render.text import count, one_line

    try:
        picture.save(output, replace=force)
    except FileExistsError:
        if force:
            raise
        raise _taken(output) from None
    sys.stdout.write(one_line(f"{output}: {picture.title}, {count(os.path.getsize(output), 'byte')}") + "\n")


def refuse_taken(path: str, force: bool) -> None:
    """Raises UsageError for a file that is there, and may not be replaced."""
    if not force and os.path.lexists(path):
        raise _taken(path)


def _taken(path: str) -> UsageError:
    """It was there, or came there meanwhile."""
    if path == STDIN:
        return UsageError("a picture goes into a file", hint="-o FILE.html")
    is_no_file = os.path.exists(path) and not os.path.isfile(path)
    hint = "name a file: this is a folder, a device or a pipe" if is_no_file else "--force writes over it"
    return UsageError(f"{path} exists already", hint=hint)
