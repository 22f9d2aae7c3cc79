"""Small texts: sizes, addresses, and names made safe to print. Pure."""

from __future__ import annotations

from vmatlas.legible import FOOT, count, escape, foot, human, one_line
from vmatlas.model import Region

__all__ = [
    "FOOT",
    "NOTHING",
    "count",
    "escape",
    "foot",
    "growth_text",
    "hexadecimal",
    "human",
    "label_of",
    "name_text",
    "one_line",
    "range_text",
    "size_text",
]

NOTHING = "-"
"""A cell without a value, so that each line has as many words as the table has columns."""


def size_text(size: int | None, *, exact: bool) -> str:
    """A size for people, or to the byte."""
    if size is None:
        return NOTHING
    return str(size) if exact else human(size)


def growth_text(growth: int, *, exact: bool) -> str:
    """A change of size with its sign; "0" for none."""
    sign = "+" if growth > 0 else "-" if growth < 0 else ""
    return sign + size_text(abs(growth), exact=exact)


def range_text(start: int, end: int) -> str:
    """Addresses as /proc/PID/maps writes them, so that they can be searched for there."""
    return f"{start:x}-{end:x}"


def hexadecimal(number: int | None) -> str:
    """A number that is no address of this process: an offset in a file."""
    return NOTHING if number is None else f"{number:x}"


def label_of(region: Region) -> str:
    """What the region is called, safe to print; "-" for nameless memory."""
    return escape(region.label) or NOTHING


_NO_LETTER = "''"
_LIKE_NOTHING = {"": _NO_LETTER, NOTHING: "\\x2d", _NO_LETTER: "\\x27'"}


def name_text(name: str | None) -> str:
    """What a process is called, or several are: `''` for the empty name, `-` where it is not told; a process that
    calls itself one of these is shown with an escape."""
    return NOTHING if name is None else _LIKE_NOTHING.get(name) or escape(name)
