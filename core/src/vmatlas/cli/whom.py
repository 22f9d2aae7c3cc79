"""Several processes: who is chosen by the words of a command, and what becomes of those that cannot be asked."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from vmatlas.cli.asking import in_time, patience_for_lists
from vmatlas.cli.exits import say
from vmatlas.cli.render.text import count
from vmatlas.cli.words import Asked, Chooses, reach

if TYPE_CHECKING:
    from vmatlas.backend import Target
    from vmatlas.selection.resolving import Selected


class Whom(NamedTuple):
    """Who was chosen, and where they live."""

    place: Target
    selected: Selected


@contextlib.contextmanager
def chosen(words: Sequence[Asked | Chooses], url: str, patience: float | None) -> Iterator[Whom]:
    """The processes that words choose, on the target of a URL. What is amiss with a word is said.

    Raises NoSuchProcess where nobody is chosen, and what `reach` and `vmatlas.select` raise.
    """
    with reach(url, patience) as place:
        selected = choose(words, place, patience)
        tell(selected)
        yield Whom(place, selected)


@contextlib.contextmanager
def several(
    words: Sequence[Asked | Chooses] | None, url: str, patience: float | None
) -> Iterator[tuple[Target, Selected | None]]:
    """The same, or everybody where there are no words: None."""
    if words is None:
        with reach(url) as place:
            yield place, None
    else:
        with chosen(words, url, patience) as whom:
            yield whom


def choose(words: Sequence[Asked | Chooses], place: Target, patience: float | None) -> Selected:
    """Raises what `vmatlas.select` raises, and Unanswered."""
    from vmatlas.selection.resolving import select

    def ask(_: object) -> Selected:
        return select(*(word.text for word in words), target=place)

    return in_time(ask, place, patience_for_lists(patience), "who is meant")


def tell(selected: Selected, *, memory: bool = True) -> None:
    """What is to be known of a selection, on standard error; `memory`: whether it is asked about."""
    for _, error in selected.unmatched:
        say(str(error), hint=error.hint)
    for note in selected.notes:
        say(f"warning: {note}")
    kernels = sum(process.kernel is True for process in selected)
    if memory and kernels and not any(word.key == "all" for word in selected.selection.chosen):
        say(f"{count(kernels, 'process', 'processes')} of the kernel's own chosen: those have no memory of their own")
