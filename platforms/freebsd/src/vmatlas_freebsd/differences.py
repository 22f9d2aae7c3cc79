"""Where the two backends differ about one and the same region, as data. The tests hold both to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from vmatlas.model import Kind, Region
from vmatlas_freebsd.flags import KvmeFlags


@dataclass(frozen=True, slots=True)
class Difference:
    """One field of `Region` in which the text may differ from the sysctl."""

    field: str
    why: str
    allows: Callable[[Region, Region], bool]
    """Whether this difference between the sysctl's region and the text's is the one meant."""


def _lacks(field: str, why: str) -> Difference:
    return Difference(field, why, lambda sysctl, text: getattr(text, field) is None)


_IN_TEXT = KvmeFlags.COW | KvmeFlags.NEEDS_COPY

DIFFERENCES = (
    _lacks("offset", "the text has no file offset"),
    _lacks("device", "the text has no device"),
    _lacks("inode", "the text has no inode"),
    _lacks("max_protection", "the text has no maximum protection"),
    _lacks(
        "private_resident",
        "the text's column is something else, the pages of an object that exactly one other shadows: it is in "
        "details['shadowed_resident']",
    ),
    Difference(
        "flags",
        "the text has copy on write and needs copy alone, not SUPER, NOCOREDUMP, GROWS_DOWN, USER_WIRED",
        lambda sysctl, text: sysctl.flags is not None and text.flags == sysctl.flags & _IN_TEXT,
    ),
    Difference(
        "kind",
        "a stack is known by GROWS_DOWN, which the text lacks; anonymous memory that a fork shared by the object's "
        "flags, which the sysctl lacks",
        lambda sysctl, text: (
            (sysctl.kind, text.kind) in ((Kind.STACK, Kind.ANONYMOUS), (Kind.ANONYMOUS, Kind.SHARED_MEMORY))
        ),
    ),
    Difference(
        "shared",
        "a guard and memory never touched both read 'none' in the text: only the sysctl knows a guard as private; the "
        "text alone has the object's flags, which tell that a fork shared anonymous memory",
        lambda sysctl, text: (
            (sysctl.shared, text.shared, sysctl.kind) == (False, None, Kind.GUARD)
            or (sysctl.shared, text.shared, text.kind) == (None, True, Kind.SHARED_MEMORY)
        ),
    ),
    Difference("details", "each tells the kernel's own words", lambda sysctl, text: True),
)
"""Everything else is the same in both."""
