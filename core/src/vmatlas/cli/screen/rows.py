"""Rows under titles, of which one is chosen. Only those that are seen are made: a million are as quick as ten."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Sequence

from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.events import Resize
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from vmatlas.cli.render.palette import STYLES
from vmatlas.cli.render.table import Cell, Column, Layout, Row, Table, lay_out, styled_line

_PLAIN, _CHOSEN = Style(), Style(reverse=True)


class Rows(Widget, can_focus=True):
    """A table whose rows are made when they are drawn."""

    BINDINGS = [  # noqa: RUF012  (as textual declares it)
        ("up", "move(-1)"),
        ("down", "move(1)"),
        ("pageup", "turn(-1)"),
        ("pagedown", "turn(1)"),
        ("home", "first"),
        ("end", "last"),
        ("enter", "choose"),
    ]

    class Chosen(Message):
        """The user asks for the row of a key."""

        def __init__(self, key: Hashable) -> None:
            super().__init__()
            self.key = key

    def __init__(self, columns: tuple[Column, ...], widest: tuple[str, ...]) -> None:
        """`widest`: for each column a text as wide as any in it."""
        super().__init__()
        self._table = Table(columns, [Row(widest)])
        self._keys: Sequence[Hashable] = ()
        self._row: Callable[[int], Row] = lambda index: Row(())
        self._at = self._top = 0
        self._is_moved = False
        self._layout_of: tuple[int, Layout] | None = None

    def fill(self, keys: Sequence[Hashable], row: Callable[[int], Row]) -> None:
        """What there is now, by keys, each once. Whoever was chosen stays chosen, wherever it is now."""
        chosen = self.chosen
        self._keys, self._row = keys, row
        if self._is_moved and chosen is not None:
            with contextlib.suppress(ValueError):  # it is gone: its place is kept
                self._at = keys.index(chosen)
        self._move_to(self._at)

    @property
    def chosen(self) -> Hashable | None:
        """The key of the row that is chosen."""
        return self._keys[self._at] if self._at < len(self._keys) else None

    @property
    def seen(self) -> range:
        """Which rows are seen."""
        return range(self._top, min(self._top + self._room, len(self._keys)))

    @property
    def _room(self) -> int:
        return max(self.size.height - 1, 1)

    def _move_to(self, at: int) -> None:
        self._at = max(min(at, len(self._keys) - 1), 0)
        if not self._at:
            self._is_moved = False  # who looks at the first looks at whoever is the first
        least = self._at - self._room + 1
        self._top = max(min(self._top, self._at, len(self._keys) - self._room), least, 0)
        self.refresh()

    def on_resize(self, event: Resize) -> None:
        """The chosen row stays in sight."""
        self._layout_of = None
        self._move_to(self._at)

    def action_move(self, rows: int) -> None:
        """Up or down."""
        self._is_moved = True
        self._move_to(self._at + rows)

    def action_turn(self, pages: int) -> None:
        """As many as are seen."""
        self.action_move(pages * self._room)

    def action_first(self) -> None:
        """To the first."""
        self._move_to(0)

    def action_last(self) -> None:
        """To the last."""
        self.action_move(len(self._keys))

    def action_choose(self) -> None:
        """Ask for it."""
        if (chosen := self.chosen) is not None:
            self.post_message(self.Chosen(chosen))

    def render_line(self, y: int) -> Strip:
        """A line of what is seen; the first has the titles."""
        width = self.size.width
        if self._layout_of is None or self._layout_of[0] != width:
            self._layout_of = width, lay_out(self._table, width, cell_len)
        index = self._top + y - 1
        if y and index >= len(self._keys):
            return Strip.blank(width)
        titles = Row(tuple(column.title for column in self._table.columns), "title")
        row = titles if not y else self._row(index)
        line = styled_line(self._table, row, self._layout_of[1], cell_len)
        is_chosen = bool(y) and index == self._at
        strip = Strip([_segment(cell, is_chosen) for cell in line]).crop(0, width)
        return strip.extend_cell_length(width, _CHOSEN if is_chosen else None)


def _segment(cell: Cell, is_chosen: bool) -> Segment:
    if is_chosen:
        return Segment(cell.text, _CHOSEN)
    return Segment(cell.text, Style.parse(STYLES[cell.style]) if cell.style else _PLAIN)
