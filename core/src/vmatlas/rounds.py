"""Who has to be asked, while processes come and go: rounds of those that are new in a list, until there was one all of
whose processes were asked, or had ended before it. This module imports nothing of vmatlas.

One list is not enough: a process may end before it is asked, and live on in a child that no list had (a few lines of
code do that for ever). Where nobody listed has ended there is one list.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping

from vmatlas.contracts import Protocol

MOST = 32
"""Lists of this machine. The first takes as long as everybody takes to answer; those after it, a few milliseconds each,
have the few that are new. Most often one of the first of them finds everybody; on a machine that begins hundreds of
programs a second, and has no processor to spare, one in ten does."""

MOST_REMOTE = 8
"""Lists of a machine at the other end of a wire, each of which is a whole answer."""


class Numbered(Protocol):
    """Who lists processes by their numbers alone."""

    def numbers(self) -> dict[int, int]:
        """Each with a mark, which is another when the number is another process's (and may become another besides).

        Raises Unsupported where they cannot be listed.
        """

    def moment(self) -> int:
        """Now, in the unit of start times."""

    def began_since(self, pid: int, moment: int) -> bool:
        """Whether the process of that number began at that moment or later; no where it is not told."""


class Rounds:
    """Iterate over it for the numbers that are new in each list, in order; tell it of those that had `ended`."""

    def __init__(
        self,
        listed: Callable[[], Mapping[int, Hashable]],
        is_another: Callable[[int], bool] | None = None,
        most: int = MOST_REMOTE,
    ) -> None:
        """`listed`: the number of each process, and a mark, which is another when the number is another process's.

        `is_another`: whether it really is, where marks may change besides: whether the process of that number began
        since the list before this one. `most`: lists.
        """
        self._listed = listed
        self._is_another = is_another
        self._most = most
        self._marks: Mapping[int, Hashable] = {}
        self.missed = 0
        """Of the last list: how many ended before they were asked. After the last round: nobody knows of them, nor of
        whoever goes on in their place."""
        self.asked = 0
        """How many there were to ask so far."""

    def __iter__(self) -> Iterator[list[int]]:
        for _ in range(self._most):
            marks = self._listed()
            new = sorted(number for number, mark in marks.items() if self._is_new(number, mark))
            self._marks = marks
            self.missed = 0
            self.asked += len(new)
            if new:
                yield new
            if not self.missed:
                return

    def _is_new(self, number: int, mark: Hashable) -> bool:
        if number not in self._marks:
            return True
        return self._marks[number] != mark and (self._is_another is None or self._is_another(number))

    def ended(self) -> None:
        """One of this round had ended before it could be asked: it is gone, or a zombie (which is not asked again)."""
        self.missed += 1

    @property
    def gap(self) -> str | None:
        """What is to be told after the last round; None where there was a list all of whose processes were asked."""
        if not self.missed:
            return None
        who = "1 process" if self.missed == 1 else f"{self.missed:,} processes"
        return (
            f"{who} came and went faster than could be asked, in each of {self._most} lists: others may go on for them"
        )


def rounds_of(system: Numbered) -> Rounds:
    """The rounds of a system's processes."""
    before = after = 0

    def listed() -> dict[int, int]:
        nonlocal before, after
        before, after = after, system.moment()
        return system.numbers()

    return Rounds(listed, lambda pid: system.began_since(pid, before), MOST)
