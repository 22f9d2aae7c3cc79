"""A table as a value, and how it is laid out as lines. Pure.

The same layout serves plain text (every column, at its full width) and terminals (as wide as the terminal, and styled).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from vmatlas.cli.render.text import NOTHING
from vmatlas.values import NamedTuple

GAP = "  "
ELLIPSIS = "…"


class Column(NamedTuple):
    """One column."""

    title: str
    right: bool = False
    """Numbers stand to the right."""
    leaves: int = 0
    """When a terminal is too narrow, the columns with the highest number leave first; 0 never does."""
    crops: bool = False
    """When that was not enough, this one is cut at its beginning: the end of a path tells more."""
    stands_in: bool = False
    """When it has left, its text takes the place of an empty cell of the column that crops."""
    asked: bool = False
    """The user asked for it by an option: it stays as long as the column that crops has the least room."""
    wraps: bool = False
    """The last column may go on below itself, on a terminal."""
    below: bool = False
    """When it has left, what stands in it goes on a line below its row."""


class Row(NamedTuple):
    """One line of a table: safe text for each column, and how it looks on a terminal."""

    cells: tuple[str, ...]
    style: str = ""
    """The name of a style (`palette`), for the whole line."""
    emphasis: dict[int, str] | None = None
    """Styles for single cells, by column."""
    outlier: bool = False
    """Its first cell may stick out on a terminal, rather than widen the column for all."""


class Table(NamedTuple):
    """Rows under columns. `title`, `notes` and `legend` are for people: they are not part of plain text."""

    columns: tuple[Column, ...]
    rows: Sequence[Row]
    title: tuple[str, ...] = ()
    """In parts, so that a narrow terminal shows them on several lines."""
    notes: tuple[str, ...] = ()
    legend: tuple[tuple[str, str], ...] = ()
    """(style, what it stands for)."""
    empty: str = ""
    """What to say for no rows."""
    feet: int = 0
    """So many of the rows, the last ones, are no rows like the others: a total, what it lacks."""


class Cell(NamedTuple):
    """A piece of a laid out line."""

    text: str
    style: str


def plain_lines(table: Table) -> Iterator[str]:
    """The title line and a line for each row: aligned, complete, without colours."""
    cells = [tuple(column.title for column in table.columns), *(row.cells for row in table.rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    aligned = [f"%{'' if column.right else '-'}{width}s" for column, width in zip(table.columns, widths, strict=True)]
    if not table.columns[-1].right:
        aligned[-1] = "%s"
    yield from map(GAP.join(aligned).__mod__, cells)


LEAST = 15
"""A column that crops has this much room, or every column that can leave has left."""


_NARROWEST = 12
_SHORTEST = 3
"""Of a cell in a row whose first one sticks out: so much is left of any text."""


class Layout(NamedTuple):
    """Which columns a terminal of some width has room for, and how wide each is."""

    kept: tuple[int, ...]
    left: tuple[int, ...]
    """The columns that have left for want of room."""
    widths: dict[int, int]
    stand_in: int | None
    """A column that left, and whose text replaces an empty cell of the one that crops."""
    pushed: tuple[int, ...] = ()
    """Columns for which the terminal is too narrow all the same: told below each row, with their titles."""


def lay_out(table: Table, width: int, length: Callable[[str], int] = len) -> Layout:
    """Make columns leave, from the highest `leaves` on, until the one that crops has room for what is in it.

    It is given up to two fifths of the terminal, or just `LEAST` before a column leaves that was asked for. What does
    not fit then, however few are left, is pushed below the rows: from the right, the first and the cropped one last.
    No line is longer than the terminal but for a first cell that is.
    """
    widths = {
        index: max(
            [length(column.title), *(length(row.cells[index]) for row in table.rows if index or not row.outlier)]
        )
        for index, column in enumerate(table.columns)
    }
    kept = list(range(len(table.columns)))
    left: list[int] = []
    cropping = next((index for index, column in enumerate(table.columns) if column.crops), None)
    most = 0 if cropping is None else widths[cropping]
    stand_in = None

    def room() -> int:
        fixed = sum(widths[index] for index in kept if index != cropping)
        return width - fixed - len(GAP) * (len(kept) - 1)

    for index in sorted((i for i in kept if table.columns[i].leaves), key=lambda i: -table.columns[i].leaves):
        share = LEAST if table.columns[index].asked else max(width * 2 // 5, LEAST)
        if room() >= min(most, share):
            continue
        kept.remove(index)
        left.append(index)
        if table.columns[index].stands_in:
            stand_in = index

    def least(index: int) -> int:
        column = table.columns[index]
        return min(widths[index], _NARROWEST if column.crops else LEAST if column.wraps else widths[index])

    pushed: list[int] = []
    while len(kept) > 1 and sum(map(least, kept)) + len(GAP) * (len(kept) - 1) > width:
        index = next((each for each in reversed(kept[1:]) if each != cropping), kept[-1])
        kept.remove(index)
        pushed.append(index)
    if cropping is not None:
        widths[cropping] = max(min(widths[cropping], room()), _NARROWEST)
    return Layout(tuple(kept), tuple(sorted(left)), widths, stand_in, tuple(sorted(pushed)))


def crop(text: str, width: int, length: Callable[[str], int] = len) -> str:
    """A path cut to a width of at least 3: folders go first; then the middle of the file's own name."""
    if length(text) <= width:
        return text
    name = text.rpartition("/")[2] or text
    if length(name) < width:
        return ELLIPSIS + _ending(text, width - 1, length)
    end = (width - 1) // 2
    beginning = name
    while length(beginning) > width - 1 - end:
        beginning = beginning[:-1]
    return beginning + ELLIPSIS + _ending(name, end, length)


def _ending(text: str, width: int, length: Callable[[str], int]) -> str:
    kept = text[-width:]
    while length(kept) > width:
        kept = kept[1:]
    return kept


def fill(parts: Sequence[str], width: int, between: str) -> list[str]:
    """Parts put together on as few lines as have room for them."""
    lines: list[str] = []
    for part in parts:
        if lines and len(lines[-1]) + len(between) + len(part) <= width:
            lines[-1] += between + part
        else:
            lines.append(part)
    return lines


def terminal_lines(table: Table, width: int, length: Callable[[str], int] = len) -> Iterator[list[Cell]]:
    """The lines for a terminal of some width, each a list of styled cells with the space between them."""
    for line in fill(table.title, width, " · "):
        yield from _text(line, width, "heading")
    if not table.rows:
        yield [Cell(table.empty or "nothing", "note")]
    else:
        layout = lay_out(table, width, length)
        titles = Row(tuple(column.title for column in table.columns), "title")
        for row in [titles, *table.rows]:
            yield from _wrapped(table, row, layout, width, length)
            if row is not titles:
                yield from _below(table, row, layout, width)
        if lost := [table.columns[index].title for index in layout.left if not table.columns[index].below]:
            yield from _text(f"(no room here for: {', '.join(lost)})", width, "note")
    for note in table.notes:
        yield from _text(note, width, "note")


def _text(text: str, width: int, style: str) -> Iterator[list[Cell]]:
    """On as many lines as it takes."""
    import textwrap

    for line in [text] if len(text) <= width else textwrap.wrap(text, max(width, _NARROWEST), break_on_hyphens=False):
        yield [Cell(line, style)]


_INDENT = "    "


def _below(table: Table, row: Row, layout: Layout, width: int) -> Iterator[list[Cell]]:
    """What had no room in a row and is told all the same."""
    room = width - len(_INDENT)
    told = [index for index in layout.left if table.columns[index].below]
    texts = [(row.cells[index], (row.emphasis or {}).get(index, "note")) for index in told]
    pairs = [
        f"{table.columns[index].title} {row.cells[index]}" for index in layout.pushed if row.cells[index] != NOTHING
    ]
    texts += [(line, "note") for line in fill(pairs, room, GAP)]
    for text, style in texts:
        if text != NOTHING:
            for line in _text(text, room, style):
                yield [Cell(_INDENT, ""), *line]


def _wrapped(table: Table, row: Row, layout: Layout, width: int, length: Callable[[str], int]) -> Iterator[list[Cell]]:
    last = layout.kept[-1]
    indent = sum(layout.widths[index] for index in layout.kept[:-1]) + len(GAP) * (len(layout.kept) - 1)
    room = width - indent
    if not table.columns[last].wraps or length(row.cells[last]) <= room or len(layout.kept) == 1:
        yield styled_line(table, row, layout, length)
        return
    import textwrap

    first, *others = textwrap.wrap(row.cells[last], room, break_on_hyphens=False) or [""]
    yield styled_line(table, row._replace(cells=(*row.cells[:last], first, *row.cells[last + 1 :])), layout, length)
    style = (row.emphasis or {}).get(last, row.style)
    for other in others:
        yield [Cell(" " * indent, ""), Cell(other, style)]


def styled_line(table: Table, row: Row, layout: Layout, length: Callable[[str], int]) -> list[Cell]:
    """A row as its layout has room for it, in styled cells."""
    line: list[Cell] = []
    owed = 0  # how far an outlier has pushed the rest of its line to the right
    for index in layout.kept:
        column, text, room = table.columns[index], row.cells[index], layout.widths[index]
        if column.crops:
            if text == NOTHING and layout.stand_in is not None and row.cells[layout.stand_in] != NOTHING:
                text = f"({row.cells[layout.stand_in]})"
            text = crop(text, max(room - owed, _SHORTEST), length)
        missing = room - length(text)
        if missing < 0:
            owed -= missing
        elif owed and column.right:
            owed, missing = max(owed - missing, 0), max(missing - owed, 0)
        padding = " " * max(missing, 0)
        style = (row.emphasis or {}).get(index, row.style)
        if line:
            line.append(Cell(GAP, ""))
        if column.right:
            line += [Cell(padding, ""), Cell(text, style)]
        else:
            line += [Cell(text, style), Cell(padding, "")]
    while line and not line[-1].text.strip():
        line.pop()
    return [cell for cell in line if cell.text]
