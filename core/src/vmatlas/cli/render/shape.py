"""Which rows and columns of tables and CSV are shown: what --columns, --limit and --reverse say. JSON is never cut.

What is imported for each command is this: no table yet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from vmatlas.contracts import TypeVar
from vmatlas.errors import UsageError
from vmatlas.values import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from vmatlas.cli.render.table import Row, Table

_Item = TypeVar("_Item")


class Shape(NamedTuple):
    """What is wanted of each table."""

    columns: tuple[str, ...] = ()
    """Titles, in the order in which they are to stand; empty: all."""
    limit: int | None = None
    """The most rows."""
    reverse: bool = False

    def _some(self, rows: Sequence[_Item]) -> Sequence[_Item]:
        rows = rows[::-1] if self.reverse else rows
        return rows if self.limit is None else rows[: self.limit]

    def tables(self, tables: Sequence[Table]) -> list[Table]:
        """The same cut to it; the rows at their feet (a total) stay, and of several those stay that have a column.

        Raises UsageError for a column that none of them has.
        """
        if self == Shape():
            return list(tables)
        self._check([column.title for table in tables for column in table.columns])
        return [self._table(table) for table in tables if self._places([each.title for each in table.columns])]

    def _table(self, table: Table) -> Table:
        places = self._places([column.title for column in table.columns])
        feet = len(table.rows) - table.feet
        body = self._some(table.rows[:feet])
        notes = table.notes
        if left := feet - len(body):
            notes = (*notes, f"{left:,} more {'row' if left == 1 else 'rows'}: --limit")
        return table._replace(
            columns=tuple(table.columns[place] for place in places),
            rows=[_placed(row, places) for row in (*body, *table.rows[feet:])],
            notes=notes,
        )

    def csv(
        self, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> tuple[Sequence[str], Sequence[Mapping[str, Any]]]:
        """Titles and rows. Raises UsageError for a column that is not there."""
        self._check(columns)
        return [columns[place] for place in self._places(columns)], self._some(rows)

    def _places(self, titles: Sequence[str]) -> list[int]:
        if not self.columns:
            return list(range(len(titles)))
        known = {title.casefold(): place for place, title in enumerate(titles)}
        return [known[name] for name in map(str.casefold, self.columns) if name in known]

    def _check(self, titles: Sequence[str]) -> None:
        known = {title.casefold() for title in titles}
        for name in self.columns:
            if name.casefold() not in known:
                raise UsageError(
                    f"there is no column '{name[:40]}'", hint=f"there are {', '.join(dict.fromkeys(titles))}"
                )


def _placed(row: Row, places: Sequence[int]) -> Row:
    styles = row.emphasis
    if styles is not None:
        styles = {new: styles[old] for new, old in enumerate(places) if old in styles}
    return row._replace(cells=tuple(row.cells[place] for place in places), emphasis=styles)


_chosen = Shape()


def choose_shape(shape: Shape) -> None:
    """What the options say, of the command that runs now."""
    global _chosen
    _chosen = shape


def chosen_shape() -> Shape:
    """What the options say."""
    return _chosen
