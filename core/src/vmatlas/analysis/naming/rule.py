"""What a rule is.

To add one: a function in a file of this folder, a `Rule` beside it, its place in `RULES`, a row in docs/names.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeAlias

from vmatlas.analysis.naming.guess import Certainty, Guess
from vmatlas.analysis.naming.layout import Layout


@dataclass(frozen=True, slots=True)
class Found:
    """What a rule says of one region."""

    row: int
    name: str
    evidence: tuple[str, ...]
    certainty: Certainty = Certainty.STRONG
    group: str = ""
    """Where it is another than the name."""


Finds: TypeAlias = "Callable[[Layout], Iterator[Found]]"


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to tell what nameless memory is."""

    name: str
    """In lower case, with hyphens."""
    speaks_for: str
    """Of which systems, libraries and versions it can tell; of others it says nothing."""
    find: Finds
    """What it finds in a map. Rows that are not nameless, or that an earlier rule has named, are passed over."""
    systems: frozenset[str] = frozenset({"linux"})
    wide_only: bool = False
    """It knows the layout of 64-bit processes alone."""

    def guesses(self, layout: Layout) -> Iterator[tuple[int, Guess]]:
        """By row, for what may be named at all."""
        if layout.space.system.system not in self.systems or (self.wide_only and not layout.is_wide):
            return
        for found in self.find(layout):
            if layout.is_nameless(found.row):
                group = found.group or found.name
                yield found.row, Guess(found.name, group, found.evidence, found.certainty, self.name)
