"""How values show themselves in a notebook, and draw themselves. What does either stands above them (`picture/`), and
is looked up when it is asked for: no value knows it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from vmatlas.picture.drawn import Picture


def repr_html(value: object) -> str:
    """A value as a short table, for `_repr_html_`: self-contained, and what a process is called is text in it."""
    from importlib import import_module

    shown: str = import_module("vmatlas.picture.notebook").shown(value)
    return shown


def draw(self: object) -> Picture:
    """A picture of it, with guesses at what has no name: `vmatlas.picture` tells more."""
    from importlib import import_module

    drawn: Picture = import_module("vmatlas.picturing").picture(self)
    return drawn
