"""Tables on a terminal, with rich's help: colours where the terminal has them (NO_COLOR and TERM=dumb are heeded)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TextIO

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.style import Style

from vmatlas.cli.render.palette import STYLES
from vmatlas.cli.render.table import Cell, Table, terminal_lines

_AT_ONCE = 500
"""Lines given to rich together: quick, and what is read early is seen early."""


def print_tables(tables: Iterable[Table], stream: TextIO, *, width: int | None = None) -> None:
    """Each table with its title, its legend and its notes; an empty line between two."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False, width=width, soft_wrap=True)
    styles = {name: Style.parse(words) for name, words in STYLES.items()}
    for number, table in enumerate(tables):
        lines: list[list[Cell]] = [[]] if number else []
        lines += terminal_lines(table, console.width, cell_len)
        if table.legend and console.color_system is not None:
            lines.append([cell for style, word in table.legend for cell in (Cell(word, style), Cell("  ", ""))][:-1])
        for first in range(0, len(lines), _AT_ONCE):
            segments: list[Segment] = []
            for line in lines[first : first + _AT_ONCE]:
                segments += [Segment(text, styles.get(style)) for text, style in line]
                segments.append(Segment.line())
            console.print(Segments(segments), end="", soft_wrap=True)
