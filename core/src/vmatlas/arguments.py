"""What callers hand over, judged before anything is done with it: what is of another kind is a UsageError in one line.

This module imports nothing of vmatlas but its errors.
"""

from __future__ import annotations

import functools
import operator
import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence

from vmatlas.contracts import ParamSpec, TypeVar
from vmatlas.errors import UsageError
from vmatlas.patterns import pattern

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_Arguments = ParamSpec("_Arguments")
_Answer = TypeVar("_Answer")
_Each = TypeVar("_Each")

LONGEST = 86400.0 * 366
"""Seconds that anything may be asked to last, or to wait for: a year."""

_MOST_BITS = 128
"""A larger number is told by its bits: nobody reads its digits, and Python makes no text of some thousands of them."""


_MOST_LETTERS = 4096
"""So much of a text is looked at: blanks beside each other are shown as one."""


def shown(value: object, most: int = 100) -> str:
    """A value as a part of a line, whatever it is."""
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        return f"a number of {value.bit_length()} bits"
    text = ""
    for piece in _pieces(value, most + 1):
        text += piece
        if len(text) > most and len(" ".join(text.split())) > most:
            break
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 3] + "..."


def _pieces(value: object, most: int) -> Iterator[str]:
    """Its `repr`, of which the begin is made and no more: lists that hold one list nine times over, nine levels deep,
    are some lines in YAML, and 400 million words."""
    if type(value) in (list, tuple):
        yield "[" if isinstance(value, list) else "("
        for at, each in enumerate(value):  # type: ignore[arg-type, var-annotated]
            yield ", " if at else ""
            yield from _pieces(each, most)
        yield "]" if isinstance(value, list) else ",)" if len(value) == 1 else ")"  # type: ignore[arg-type]
    elif type(value) is dict:
        yield "{"
        for at, (key, each) in enumerate(value.items()):
            yield ", " if at else ""
            yield from _pieces(key, most)
            yield ": "
            yield from _pieces(each, most)
        yield "}"
    elif type(value) in (str, bytes) and len(value) > _MOST_LETTERS:  # type: ignore[arg-type]
        yield repr(value[:_MOST_LETTERS])  # type: ignore[index]
        yield "..." * most
    else:
        try:
            yield repr(value)
        except Exception:  # a repr of somebody else's
            yield f"a {type(value).__name__}"


def in_hex(number: int) -> str:
    """An address or a size, whatever it is."""
    return f"{number:#x}" if number.bit_length() <= _MOST_BITS else shown(number)


def number(value: object) -> int:
    """A whole number, which True is not: who hands it over has mixed something up. Raises TypeError."""
    if isinstance(value, bool):
        raise TypeError
    return operator.index(value)  # type: ignore[arg-type]


_LIKE_BOOLEANS = bytes(8), array("Q", [1]).tobytes()


def numbers(values: Sequence[int]) -> array[int]:
    """Whole numbers of 64 bits. Raises TypeError, OverflowError.

    Made without a look at each of them, for there may be millions: only where a 0 or a 1 is among them, True may be.
    """
    made = array("Q", values)
    held = made.tobytes()
    if any(each in held for each in _LIKE_BOOLEANS) and any(isinstance(each, bool) for each in values):
        raise TypeError
    return made


def whole(value: object, what: str) -> int:
    """A whole number. Raises UsageError."""
    try:
        return number(value)
    except TypeError:
        raise UsageError(f"the {what} {shown(value)} is no whole number") from None


def flag(value: object, what: str) -> bool:
    """True or False, or 1 or 0: of another value, text such as "no", nobody can tell what it means.

    Raises UsageError.
    """
    if value is True or value is False:
        return value
    if not (isinstance(value, int) and value in (0, 1)):
        raise UsageError(f"{what}={shown(value)} is neither True nor False")
    return bool(value)


def function(value: object, what: str) -> None:
    """Raises UsageError for what cannot be called."""
    if not callable(value):
        raise UsageError(f"{what}={shown(value)} cannot be called", hint=f"{what} is a function")


def iterated(values: Iterable[_Each], wrong: UsageError) -> Iterator[_Each]:
    """Raises `wrong` for what cannot be iterated over."""
    try:
        return iter(values)
    except TypeError:
        raise wrong from None


def path(value: object, what: str) -> str:
    """The name of what lies at a path. Raises UsageError."""
    try:
        name = os.fsdecode(value)  # type: ignore[arg-type]
        os.fsencode(name)
    except TypeError:
        raise UsageError(f"{shown(value)} is no path of a {what}", hint="give a str, bytes or os.PathLike") from None
    except UnicodeError:
        raise UsageError(
            f"{shown(value)} is no path of a {what}: it has characters that no file name can have",
            hint="name it without them, or as os.fsdecode gives it",
        ) from None
    if "\0" in name:
        raise UsageError(f"{shown(value)} is no path of a {what}: it has a null byte", hint="no file name has one")
    return name


_UNITS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = pattern(r"(?a)(\d{1,15}(?:\.\d{0,15})?|\.\d{1,15})(ms|min|s|m|h|d|)")


def duration(text: str, what: str) -> float:
    """Seconds, of a number of them ("1.5") or with units ("10s", "5m", "1h30m", "2d", "250ms"). Raises UsageError."""
    parts = _DURATION.findall(text) if isinstance(text, str) else []
    is_plain = len(parts) == 1 or all(unit for _, unit in parts)
    if not parts or "".join(number + unit for number, unit in parts) != text or not is_plain:
        raise UsageError(
            f"the {what} {shown(text)} is no length of time", hint="seconds, or with a unit: 10s, 5m, 1h30m, 2d, 250ms"
        )
    return sum(float(number) * _UNITS[unit] for number, unit in parts)


def flags_checked(asked: Callable[_Arguments, _Answer]) -> Callable[_Arguments, _Answer]:
    """Judges, before the function runs, all that it takes by keyword and that is True or False when it is left out."""
    defaults: dict[str, object] = getattr(asked, "__kwdefaults__", None) or {}
    flags = [name for name, default in defaults.items() if isinstance(default, bool)]

    @functools.wraps(asked)
    def checked(*arguments: _Arguments.args, **keywords: _Arguments.kwargs) -> _Answer:
        given: dict[str, Any] = keywords
        for name in flags:
            if name in given:
                given[name] = flag(given[name], name)
        return asked(*arguments, **keywords)

    return checked
