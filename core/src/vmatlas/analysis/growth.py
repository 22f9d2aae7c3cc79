"""What grows from one map to another: address space and memory in use of each kind, use, file or name. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from vmatlas import arguments
from vmatlas.analysis.diff import NOTHING, Difference
from vmatlas.analysis.summary import Summary, Total, summarize
from vmatlas.errors import UsageError
from vmatlas.model import MemoryUse

GROUPS = ("kind", "use", "file", "name")
"""What regions can be put together by."""


@dataclass(frozen=True, slots=True, repr=False)
class Growth:
    """What became of the regions that have something in common. Bytes; negative where lost."""

    key: str
    """The label of a kind or a use, the path of a file (with " (deleted)" where it is), a name ("" for none, "?"
    before a guess)."""
    before: Total | None
    """None: there was none of it."""
    after: Total | None
    size: int
    """Address space gained."""
    memory: MemoryUse | None
    """The memory in use gained; None where it was not asked for, or is not told."""

    def __repr__(self) -> str:
        used = "" if self.held is None else f", {self.held:+,} in use"
        return f"<Growth of {self.key!r}: {self.size:+,} bytes{used}>"

    @property
    def held(self) -> int | None:
        """Of `memory`: what came into memory or swap and was not given back."""
        return None if self.memory is None else self.memory.held


def growth_by(difference: Difference, by: str) -> list[Growth]:
    """What grew and what shrank, by "kind", "use", "file" or "name" (of what has no file): those that did either.

    What has no name is put together by what it seems to be where the difference has guesses (`with_guesses`).

    The most memory gained first (where that is not told: the most address space). Raises UsageError for another word.
    """
    if not isinstance(difference, Difference):
        raise UsageError(
            f"{arguments.shown(difference)} is no difference", hint="vmatlas.diff(before, after) gives one"
        )
    if not isinstance(by, str) or by not in GROUPS:
        raise UsageError(f"{arguments.shown(by)} is nothing to put regions by", hint=f"there are {', '.join(GROUPS)}")
    guesses = difference.guesses or (None, None)
    spaces = difference.before, difference.after
    old, new = (_totals(summarize(space, known), by) for space, known in zip(spaces, guesses, strict=True))
    told = difference.memory is not None
    found = [_growth(key, old.get(key), new.get(key), told=told) for key in {**old, **new}]
    changed = [each for each in found if each.size or each.held]
    return sorted(changed, key=lambda each: (-(each.held or 0), -each.size, each.key))


def _totals(summary: Summary, by: str) -> dict[str, Total]:
    if by == "kind":
        return {kind.label: total for kind, total in summary.kinds.items()}
    if by == "use":
        return {use.value: total for use, total in summary.uses.items()}
    if by == "file":
        return {file.path + (" (deleted)" if file.deleted else ""): file.total for file in summary.files}
    return dict(summary.names)


def _growth(key: str, before: Total | None, after: Total | None, *, told: bool) -> Growth:
    size = (after.size if after else 0) - (before.size if before else 0)
    old, new = (NOTHING if total is None else total.memory.use for total in (before, after))
    return Growth(key, before, after, size, new.since(old) if told else None)
