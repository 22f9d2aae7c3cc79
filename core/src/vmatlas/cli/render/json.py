"""JSON for people and programs: the text of `json.dumps(value, indent=2)`, soon and in one piece. Pure.

Where Python's encoder indents, it works without its C part. What a map is made of are records of the same keys: here
they are told column by column, a text that comes again is encoded once, and all is put together at the end.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain, repeat
from json import JSONEncoder
from json.encoder import encode_basestring_ascii
from operator import itemgetter
from types import NoneType
from typing import Any

from vmatlas.values import NamedTuple

_STEP = "  "
_CONTAINERS = frozenset([dict, list, tuple])
_PLAIN = JSONEncoder()


class Records(NamedTuple):
    """A list of dictionaries of the same keys, told by their columns: each as long as the list, one at least."""

    columns: Mapping[str, Sequence[Any]]


def pretty(value: Any, end: str = "") -> str:
    """A value of dictionaries with text as keys, lists, tuples, texts, numbers, truths, None, `Records`; then `end`."""
    parts: list[str] = []
    _tell(value, "\n", parts)
    parts.append(end)
    return "".join(parts)


def _tell(value: Any, line: str, parts: list[str]) -> None:
    """The parts of the text of a value; `line` is a line break, and the indentation where the value begins."""
    kind = type(value)
    if kind is Records:
        _tell_records(value.columns, line, parts)
    elif kind not in _CONTAINERS or not value:
        parts.append(_scalar(value))
    elif kind is dict:
        inner = line + _STEP
        between = "{"
        for key, part in value.items():
            parts.append(f"{between}{inner}{encode_basestring_ascii(key)}: ")
            _tell(part, inner, parts)
            between = ","
        parts.append(line + "}")
    elif set(map(type, value)) == {dict} and value[0] and len(set(map(tuple, value))) == 1:
        _tell_records({key: list(map(itemgetter(key), value)) for key in value[0]}, line, parts)
    else:
        inner = line + _STEP
        between = "["
        for part in value:
            parts.append(between + inner)
            _tell(part, inner, parts)
            between = ","
        parts.append(line + "]")


def _scalar(value: Any) -> str:
    """A value in which nothing is contained."""
    kind = type(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is int:
        return repr(value)
    if value is None:
        return "null"
    if kind in _CONTAINERS:
        return "{}" if kind is dict else "[]"
    return _PLAIN.encode(value)


def _tell_records(columns: Mapping[str, Sequence[Any]], line: str, parts: list[str]) -> None:
    """What stands before a value that differs from record to record is one part, and so is that value."""
    inner = line + _STEP
    field = inner + _STEP
    varying: list[Iterable[str]] = []
    before = f",{inner}{{"
    between = field
    count = 0
    for key, column in columns.items():
        texts = _texts(column, field)
        count = len(texts)
        before += f"{between}{encode_basestring_ascii(key)}: "
        between = f",{field}"
        if count and texts.count(texts[0]) == count:  # what the system does not tell of any region, above all
            before += texts[0]
        else:
            varying += repeat(before, count), texts
            before = ""
    if not count:
        parts.append("[]")
        return
    varying.append(repeat(f"{before}{inner}}}", count))
    first = len(parts)
    parts.extend(chain.from_iterable(zip(*varying, strict=True)))
    parts[first] = f"[{parts[first][1:]}"
    parts.append(line + "]")


def _texts(column: Sequence[Any], line: str) -> list[str]:
    """Each value. Values of these types are equal where their texts are, so equal ones are encoded once."""
    kinds = set(map(type, column))
    if kinds == {int}:
        return list(map(repr, column))
    if kinds <= {NoneType, int} or kinds <= {NoneType, bool, str}:
        told = {value: _scalar(value) for value in set(column)}
        return list(map(told.__getitem__, column))
    if not any(column):
        return list(map(_scalar, column))
    texts: list[str] = []
    for value in column:
        parts: list[str] = []
        _tell(value, line, parts)
        texts.append("".join(parts))
    return texts
