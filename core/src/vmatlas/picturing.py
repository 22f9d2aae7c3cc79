"""Pictures of processes: what is asked for one, and the short way from anything that has a map."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vmatlas import arguments
from vmatlas.analysis.diff import Difference
from vmatlas.analysis.summary import Summary, summarize
from vmatlas.capture import Capture
from vmatlas.errors import Unsupported, UsageError, VmatlasError
from vmatlas.model import AddressSpace
from vmatlas.model.pages import PageRuns
from vmatlas.picture.comparison import comparison
from vmatlas.picture.course import CourseView, course
from vmatlas.picture.drawn import Picture, SpaceView
from vmatlas.picture.scene import Scene, scene_of
from vmatlas.series.reader import Series

if TYPE_CHECKING:
    from vmatlas.process import Process


def picture(
    what: AddressSpace | Capture | Difference | Series | Process | int | None = None,
    *,
    names: bool = True,
    pages: PageRuns | None = None,
) -> Picture:
    """A picture of an address space: to be saved as HTML or SVG, or shown by a notebook.

        vmatlas.picture(1234).save("atlas.html")
        vmatlas.picture(vmatlas.snapshot(1234, residency=True))

    `what` is a map, a capture, a difference, a series, an open process, or the number of one (None: this process). Of a
    process its memory in use, its threads and its pages are asked for, as far as they are told; of a map is drawn what
    it tells. `names`: nameless memory is called what it seems to be (guesses, each with a mark). `pages`: of a map,
    what `Process.pages_in` gave of it: then memory in use is drawn where it is.

    Raises UsageError for what is none of these, and what `snapshot` or `replay` raise.
    """
    from vmatlas import api
    from vmatlas.process import Process

    wants_names = arguments.flag(names, "names")
    if pages is not None and not isinstance(pages, PageRuns):
        raise UsageError(f"{arguments.shown(pages)} are no runs of pages", hint="Process.pages_in(space) gives them")
    if isinstance(what, Capture):
        what = api.replay(what)
    if isinstance(what, Difference):
        found = what.with_guesses() if wants_names and what.guesses is None else what
        return Picture((comparison(found),))
    if isinstance(what, Series):
        view = course_of_series(what, names=wants_names)
        return Picture((view, SpaceView(view.last)))
    if isinstance(what, AddressSpace):
        return Picture((SpaceView(scene_of_space(what, names=wants_names, pages=pages)),))
    if pages is not None:
        raise UsageError("pages go with the map that they were asked for", hint="of a process they are asked for here")
    if isinstance(what, Process):
        return Picture((SpaceView(scene_of_process(what, names=wants_names)),))
    with api.open(what) as process:
        return Picture((SpaceView(scene_of_process(process, names=wants_names)),))


def course_of_series(series: Series, *, names: bool = True) -> CourseView:
    """What became of an address space over the moments of a series.

    Raises UsageError for a single moment, and what `Series` and `replay` raise.
    """
    from vmatlas import api
    from vmatlas.analysis.naming import name_regions

    held: tuple[int, Capture, AddressSpace] | None = None

    def read(index: int) -> AddressSpace:
        """The same object again where the kernel's bytes are the same."""
        nonlocal held
        capture = series[index]
        if held is not None and held[1].streams == capture.streams:
            held = index, capture, held[2]
        else:
            held = index, capture, api.replay(capture)
        return held[2]

    moments = series.moments
    elapsed, times = [each.elapsed for each in moments], [each.time for each in moments]
    return course(read, elapsed, times, names=name_regions if names else None)


def scene_of_space(space: AddressSpace, *, names: bool = True, pages: PageRuns | None = None) -> Scene:
    """The scene of a whole map, with what nameless memory in it seems to be."""
    from vmatlas.analysis.naming import name_regions

    return scene_of(space, guesses=name_regions(space) if names else None, pages=pages)


def scene_of_process(process: Process, *, names: bool = True, pages: bool = True) -> Scene:
    """The scene of a process: its map with the memory in use, its threads, and which pages are in memory, as far as
    they are told. What is refused is told beside the picture.

    Raises what `Process.snapshot` raises.
    """
    from vmatlas.analysis.naming import name_regions

    try:
        space = process.snapshot(residency=True, threads=names)
    except Unsupported:
        space = process.snapshot(threads=names)
    space = space.named(process.name, process.number_inside)
    runs, notes = None, []
    if pages and len(space):
        try:
            runs = process.pages_in(space)
        except Unsupported:  # the legend says how regions are filled then
            pass
        except VmatlasError as error:
            notes.append(f"which pages are in memory is not told: {error.message}")
        else:
            if runs.incomplete is not None:
                notes.append(f"of the pages something may be missing: {runs.incomplete}")
    return scene_of(space, guesses=name_regions(space) if names else None, pages=runs, notes=notes)


def summary_of(scene: Scene) -> Summary:
    """The totals of what is drawn, by the same guesses."""
    guesses = {piece.region.start: piece.guess for piece in scene.pieces if piece.guess is not None}
    return summarize(scene.space, guesses)
