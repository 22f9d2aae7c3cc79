"""Holds two that tell of one process to each other, at a moment at which nothing of it changed."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable
from typing import TypeVar

LOOKS = 30
"""How often a process is looked at. On a busy machine the private part of what is in use changes with whoever else maps
the same files, so it does for processes that do nothing."""

ALIKE = 3
"""How often the same map and the same answer must disagree, where the process is seen to move at other looks."""

PATIENCE = 5.0
"""Seconds after which a process that never stood still is left alone: to read a map of 60,000 regions takes one."""

Map = TypeVar("Map")
Answer = TypeVar("Answer")


def agree_while_still(
    read: Callable[[], Map],
    ask: Callable[[], Answer | None],
    check: Callable[[Map, Answer], None],
    *,
    same: Callable[[Map, Map], bool] = operator.eq,
    looks: int = LOOKS,
) -> bool:
    """Whether `read` and `ask` could be compared; that they agree is what `check` asserts.

    They are compared where `read` gives the same before `ask` and after. That is no proof that nothing changed: the
    stack of a thread may have grown and shrunk in between. So after a disagreement it is looked again, and one look at
    which they agree is enough. Else the last disagreement is raised, if it is real: the process was never seen to move,
    or disagreed ALIKE times in the same way. One that makes changes and undoes them all the time does neither.
    Until it stood still for the first time it is looked at `looks` times, for PATIENCE; for a disagreement to settle
    LOOKS times at least, however long that takes.

    False: the process did not stand still, or `ask` never had an answer (None).
    """
    disagreement: AssertionError | None = None
    disagreed: list[tuple[Map, Answer]] = []
    most_alike, moved = 0, False
    began = time.monotonic()
    for number in range(max(looks, LOOKS)):
        if disagreement is None and number > 0 and (number >= looks or time.monotonic() - began > PATIENCE):
            break
        before = read()
        answer = ask()
        if not same(before, read()):
            moved = True
            continue
        if answer is None:
            continue
        try:
            check(before, answer)
        except AssertionError as found:
            disagreement = found
            disagreed.append((before, answer))
            most_alike = max(most_alike, sum(same(a, before) and b == answer for a, b in disagreed))
        else:
            return True
    if disagreement is not None and (not moved or most_alike >= ALIKE):
        raise disagreement
    return False
