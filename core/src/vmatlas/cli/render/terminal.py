"""Tables on a terminal: as wide as it is, in colours where it has them.

Rich's styles and cell widths are used without its Console, whose import takes longer than reading a map. The palette
holds only the sixteen colours of every terminal, so there is nothing to detect but whether colours are wanted.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TextIO

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style

from vmatlas.cli.render.colour import wants_colours
from vmatlas.cli.render.palette import STYLES
from vmatlas.cli.render.table import Cell, Table, terminal_lines

if TYPE_CHECKING:
    from vmatlas.picture.text import Span


def print_tables(tables: Iterable[Table], stream: TextIO, *, width: int | None = None) -> None:
    """Each table with its title, its legend and its notes; an empty line between two."""
    columns = width or shutil.get_terminal_size().columns
    colours = wants_colours()
    paint = _Painter() if colours else None
    for number, table in enumerate(tables):
        if number:
            stream.write("\n")
        for line in _lines(table, columns, legend=colours):
            stream.write("".join(paint(cell) if paint else cell.text for cell in line) + "\n")


def print_spans(lines: Iterable[Iterable[Span]], stream: TextIO) -> None:
    """Lines of a picture, in colours."""
    paint = _Painter()
    for line in lines:
        stream.write("".join(paint(Cell(span.text, span.style)) for span in line) + "\n")


def _lines(table: Table, width: int, *, legend: bool) -> Iterator[list[Cell]]:
    yield from terminal_lines(table, width, cell_len)
    used, line = 0, list[Cell]()
    for style, word in table.legend if legend else ():
        if line and used + len(word) + 2 > width:
            yield line
            used, line = 0, []
        line += [Cell("  ", ""), Cell(word, style)] if line else [Cell(word, style)]
        used += len(word) + (2 if used else 0)
    if line:
        yield line


class _Painter:
    """Puts a cell's text between the escape sequences of its style."""

    def __init__(self) -> None:
        self._around: dict[str, tuple[str, str]] = {"": ("", "")}

    def __call__(self, cell: Cell) -> str:
        around = self._around.get(cell.style)
        if around is None:
            before, _, after = (
                Style.parse(STYLES[cell.style]).render("\0", color_system=ColorSystem.STANDARD).partition("\0")
            )
            around = self._around[cell.style] = before, after
        return cell.text.join(around)
