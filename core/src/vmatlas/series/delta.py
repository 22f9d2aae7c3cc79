"""One byte stream told by an earlier one: what stays is named by its place, what is new stands there. Pure.

    delta = encode(before, after)
    decode(before, delta, len(after), ...) == after

A delta is a row of steps, each of three numbers (LEB128: seven bits a byte, the lowest first): how many new bytes
follow, and then those bytes; how many bytes to copy from `before`; how far from the end of the last copy they lie (in
zigzag: 0, -1, 1, -2, ... as 0, 1, 2, 3, ...). A copy is of `LEAST_COPY` bytes or more, but that of the last step, which
may be of none. It is made for the texts of Linux (smaps): numbers change in place, regions come and go. Streams of
records without lines (PROCMAP_QUERY, kinfo_vmentry) are told as well.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from vmatlas.errors import MalformedData
from vmatlas.once import cached_property

LEAST_COPY = 16
"""Bytes. A step costs more than a few bytes are worth, and so the number of steps is bounded."""

_CHUNK = 1 << 16
_KEY = 32
"""Bytes by which a place is found again."""
_STEP = 8
"""Where there are no lines: places are tried so far apart."""
_MOST_PLACES = 1 << 18
"""Of one stream: what is kept of a place takes some 200 bytes."""
_TRIES = 40
"""How many lines (or steps) that changed in their place may stand together: a region of smaps has some 25 lines."""
_LONGEST = 4096
"""Bytes of a line. Where none ends, there are no lines."""
_LINES = re.compile(rb"^(?=[^\n]{%d})" % _KEY, re.MULTILINE)
_TEXT = 200
"""Bytes to a line at the most, on average, of what is taken for text."""


def encode(before: bytes, after: bytes) -> bytes:
    """How `after` differs. In time that grows with both lengths, whatever they hold."""
    steps = bytearray()
    literal_from = old = new = end_of_copy = 0
    places = _Places(before, after)
    while new < len(after):
        same = _common(before, old, after, new)
        if same >= LEAST_COPY:
            steps += number(new - literal_from) + after[literal_from:new]
            steps += number(same) + number(_zigzag(old - end_of_copy))
            old, new = old + same, new + same
            literal_from, end_of_copy = new, old
            continue
        begin = places.begin(new + same)
        at = places.of(begin)
        place = max(begin, new)
        if at is not None and _common(before, at + place - begin, after, place) >= LEAST_COPY:
            old, new = at + place - begin, place
            continue
        if (found := _in_place(places, before, old + same, after, new + same)) is not None:
            old, new = found
            continue
        found = places.next(new)
        if found is None:
            break
        old, new = found
        while new > literal_from and old > 0 and before[old - 1] == after[new - 1]:
            old, new = old - 1, new - 1
    if literal_from < len(after):
        steps += number(len(after) - literal_from) + after[literal_from:] + number(0) + number(0)
    return bytes(steps)


def decode(before: bytes, delta: bytes, length: int, *, stream: str, offset: int) -> bytes:
    """The later stream, which has `length` bytes. Raises MalformedData, of what lies at `offset` of a file."""
    made, end_of_copy, at, size = bytearray(), 0, 0, len(delta)

    def wrong(what: str, step: int) -> MalformedData:
        return MalformedData(stream, offset, f"a delta with {what} at its byte {step}")

    while at < size:
        step = at
        new, at = (delta[at], at + 1) if delta[at] < 0x80 else read_number(delta, at)
        if at < 0 or new > size - at:
            raise wrong("as many new bytes as it says", step)
        if new:
            made += delta[at : at + new]
            at += new
        copied, at = (delta[at], at + 1) if at < size and delta[at] < 0x80 else read_number(delta, at)
        far, at = (delta[at], at + 1) if 0 <= at < size and delta[at] < 0x80 else read_number(delta, at)
        if at < 0:
            raise wrong("three numbers a step", step)
        if copied < LEAST_COPY and not (copied == 0 and at == size):
            raise wrong(f"copies of {LEAST_COPY} bytes and more", step)
        start = end_of_copy + (far >> 1 ^ -(far & 1))
        end_of_copy = start + copied
        if start < 0 or end_of_copy > len(before) or len(made) + copied > length:
            raise wrong("copies of what there is", step)
        made += before[start:end_of_copy]
    if len(made) != length:
        raise wrong(f"{length} bytes in all", size)
    return bytes(made)


def _common(before: bytes, old: int, after: bytes, new: int) -> int:
    """How many bytes are alike from there on."""
    most = min(len(before) - old, len(after) - new)
    size = LEAST_COPY
    done = 0
    while done < most:
        size = min(size, most - done)
        if before[old + done : old + done + size] == after[new + done : new + done + size]:
            done += size
            size = min(4 * size, _CHUNK)
        elif size <= 8:
            while before[old + done] == after[new + done]:
                done += 1
            return done
        else:
            size //= 4
    return done


def _in_place(places: _Places, before: bytes, old: int, after: bytes, new: int) -> tuple[int, int] | None:
    """Where both go on alike behind something that changed in its place; None where they do not soon."""
    for _ in range(_TRIES):
        line_old = before.find(b"\n", old, old + _LONGEST) + 1 or old + _STEP
        line_new = after.find(b"\n", new, new + _LONGEST) + 1 or new + _STEP
        ahead = after[line_new : line_new + _KEY]
        if len(ahead) < LEAST_COPY:
            return None
        if (at := places.of(line_new)) is not None:
            return at, line_new
        if before.startswith(ahead, line_old):
            return line_old, line_new
        old, new = line_old, line_new
    return None


class _Places:
    """Where bytes of the later stream stand in the earlier one: by those that stand there once.

    In a text the beginnings of lines that are not short, elsewhere whatever stands at a multiple of eight.
    """

    def __init__(self, before: bytes, after: bytes) -> None:
        self._before, self._after = before, after
        self._is_text = before.count(b"\n") * _TEXT >= len(before)
        self._ahead = self._candidates(after, _STEP)

    def _candidates(self, content: bytes, step: int) -> Iterator[int]:
        if self._is_text:
            return (found.start() for found in _LINES.finditer(content))
        return iter(range(0, len(content) - _KEY + 1, step))

    @cached_property
    def _at(self) -> dict[bytes, int]:
        places: dict[bytes, int] = {}
        often: set[bytes] = set()
        step = _STEP * (1 + len(self._before) // (_STEP * _MOST_PLACES))
        for place in itertools.islice(self._candidates(self._before, step), _MOST_PLACES):
            key = self._before[place : place + _KEY]
            if key in places:
                often.add(key)
            places[key] = place
        for key in often:
            del places[key]
        return places

    def begin(self, new: int) -> int:
        """Where that begins what stands there in the later stream: its line, its eight bytes."""
        if not self._is_text:
            return new // _STEP * _STEP
        return self._after.rfind(b"\n", max(new - _LONGEST, 0), new) + 1

    def of(self, new: int) -> int | None:
        """Where in the earlier stream the bytes stand that begin there in the later one."""
        key = self._after[new : new + _KEY]
        return None if self._is_text and b"\n" in key else self._at.get(key)

    def next(self, new: int) -> tuple[int, int] | None:
        """The first place after `new` of the later stream that stands in the earlier: where there, where here."""
        for place in self._ahead:
            if place > new and (at := self._at.get(self._after[place : place + _KEY])) is not None:
                return at, place
        return None


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def number(value: int) -> bytes:
    """As it is written: LEB128."""
    told = bytearray()
    while value >= 0x80:
        told.append(value & 0x7F | 0x80)
        value >>= 7
    told.append(value)
    return bytes(told)


_MOST_BYTES = 6
"""Of a number: 42 bits."""


def read_number(delta: bytes, at: int) -> tuple[int, int]:
    """A number, and where the next thing stands; -1 there where no whole one stands."""
    value = shift = 0
    for _ in range(_MOST_BYTES):
        if not 0 <= at < len(delta):
            return 0, -1
        byte = delta[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    return 0, -1
