"""A guess: what a region without a name seems to be, and what speaks for it. No I/O."""

from __future__ import annotations

import enum
from typing import NamedTuple


class Certainty(enum.Enum):
    """How much speaks for a guess. None is a fact: only the kernel tells those."""

    STRONG = "strong"
    """Several signs that hardly come together by chance."""
    WEAK = "weak"
    """One sign, or several that other memory shows too."""


class Guess(NamedTuple):
    """What a region that the kernel gives no name seems to be."""

    name: str
    """Of this one: "stack of thread 4003 (worker)"."""
    group: str
    """Of all of its sort: "thread stack". Totals are made by it."""
    evidence: tuple[str, ...]
    """What speaks for it, each in words."""
    certainty: Certainty
    rule: str
    """The rule that found it: see `vmatlas.analysis.naming.RULES`."""

    @property
    def label(self) -> str:
        """The name as tables show it: `?` before it, `??` where the guess is weak."""
        return f"{MARKS[self.certainty]}{self.name}"

    @property
    def group_label(self) -> str:
        """The group as totals show it: one `?` before it, whichever guesses of it are weak."""
        return f"{MARKS[Certainty.STRONG]}{self.group}"


MARKS = {Certainty.STRONG: "?", Certainty.WEAK: "??"}
