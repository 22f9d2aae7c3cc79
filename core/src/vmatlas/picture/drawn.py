"""A picture: what is drawn, as a value that any renderer shows."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from vmatlas import arguments
from vmatlas.errors import UsageError
from vmatlas.picture import html, svg, text
from vmatlas.picture.scene import Scene
from vmatlas.picture.text import Line, plain

FORMATS = ("html", "svg", "txt")
"""By the ending of a file's name."""


class View(Protocol):
    """What one of the pictures on a page shows."""

    @property
    def title(self) -> str:
        """Whose, safe to show."""
        ...

    def article(self) -> str:
        """In HTML."""
        ...

    def drawing(self) -> str:
        """As one SVG file."""
        ...

    def lines(self, width: int, *, colours: bool) -> Iterator[Line]:
        """As text."""
        ...


@dataclass(frozen=True, slots=True)
class SpaceView:
    """One address space."""

    scene: Scene

    @property
    def title(self) -> str:
        """Whose, safe to show."""
        return self.scene.title

    def article(self) -> str:
        """In HTML."""
        return html.space_article(self.scene)

    def drawing(self) -> str:
        """As one SVG file."""
        return svg.drawing(self.scene)

    def lines(self, width: int, *, colours: bool) -> Iterator[Line]:
        """As text."""
        return text.picture(self.scene, width, colours=colours)


@dataclass(frozen=True, slots=True, repr=False)
class Picture:
    """A picture of one address space or of several, of two compared, or of a series.

        vmatlas.picture(vmatlas.snapshot(1234, residency=True)).save("atlas.html")

    A notebook shows it as it is.
    """

    views: tuple[View, ...]

    def __repr__(self) -> str:
        titles = ", ".join(view.title for view in self.views[:3])
        return f"<Picture of {titles}{', ...' if len(self.views) > 3 else ''}>"

    @property
    def title(self) -> str:
        """What it is of, safe to show."""
        if len(self.views) > 1 and all(isinstance(view, SpaceView) for view in self.views):
            return f"{len(self.views):,} processes"
        return self.views[0].title

    def html(self) -> str:
        """One page that needs nothing else, nor asks for anything."""
        return html.page(self.title, [(view.title, view.article()) for view in self.views])

    def svg(self) -> str:
        """One still drawing. Raises UsageError where there are several to draw."""
        if len(self.views) != 1:
            raise UsageError(f"one SVG file shows one picture, not {len(self.views):,}", hint="html shows several")
        return self.views[0].drawing()

    def text(self, width: int = 100) -> str:
        """Lines of text: a letter for what a cell of the map is of."""
        lines: list[Line] = []
        for view in self.views:
            lines += [[]] if lines else []
            lines += view.lines(width, colours=False)
        return plain(lines)

    def save(self, path: str | os.PathLike[str], *, replace: bool = True) -> None:
        """Write it to a file, as the ending of its name says: .html, .svg or .txt.

        As a capture it is made for its owner alone to read: see `write_whole`. Raises UsageError for another ending,
        OSError, and FileExistsError where there is a file, and it is not to be replaced.
        """
        from vmatlas.writing import write_whole

        name = arguments.path(path, "picture")
        write_whole(name, self.rendered(format_of(name)).encode("utf-8"), replace=arguments.flag(replace, "replace"))

    def rendered(self, format: str) -> str:
        """In one of `FORMATS`."""
        return {"html": self.html, "svg": self.svg, "txt": self.text}[format]()

    def _repr_html_(self) -> str:
        """For a notebook: in a frame of its own, which reaches nothing of the notebook."""
        from html import escape as quoted

        return (
            f'<iframe title="{quoted(self.title)}" sandbox="allow-scripts" srcdoc="{quoted(self.html())}" '
            'style="width:100%;height:860px;border:0"></iframe>'
        )


def format_of(name: str) -> str:
    """One of `FORMATS`, by the ending of a file's name. Raises UsageError."""
    ending = os.path.splitext(name)[1].lower().removeprefix(".")
    ending = "html" if ending == "htm" else ending
    if ending not in FORMATS:
        raise UsageError(f"'{os.path.basename(name)[:60]}' is no name of a picture", hint="name it .html, .svg or .txt")
    return ending


def pictures(scenes: Sequence[Scene]) -> Picture:
    """Of address spaces, one or several. Raises UsageError for none."""
    if not scenes:
        raise UsageError("there is nothing to draw")
    return Picture(tuple(SpaceView(scene) for scene in scenes))
