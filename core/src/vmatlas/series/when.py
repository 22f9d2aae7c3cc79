"""Words for a moment of a series: `last`, `#5`, `+90s`, `10:00`. Pure, but for the local time zone."""

from __future__ import annotations

import itertools
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from vmatlas import arguments
from vmatlas.errors import UsageError

GRAMMAR = "last, first, #5, +90s, -5m, 10:00, 10:00:30, 2026-11-30T10:00"

_TIME_OF_DAY = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)(?::([0-5]\d(?:\.\d+)?))?", re.ASCII)
_DAY = 86400.0
_WHOLE_MINUTE = 60.0
_LEAST_SLACK = 1.0
_MOST_DIGITS = 15


class Times(NamedTuple):
    """When the moments were, by the wall clock (since 1970) and by a clock that nobody sets (since the first)."""

    wall: Sequence[float]
    elapsed: Sequence[float]


def nearest(times: Times, when: str) -> int:
    """The index of the moment that the words name. Raises UsageError."""
    word = when.strip() if isinstance(when, str) else ""
    count = len(times.wall)
    if word == "last":
        return count - 1
    if word == "first":
        return 0
    if word.startswith("#") and word[1:].isascii() and word[1:].isdigit() and len(word) <= _MOST_DIGITS:
        if not 1 <= int(word[1:]) <= count:
            raise UsageError(f"there is no moment {word}", hint=f"there are #1 to #{count}")
        return int(word[1:]) - 1
    if word[:1] in ("+", "-") and len(word) > 1:
        passed = arguments.duration(word[1:], "time of a moment")
        wanted = passed if word[0] == "+" else times.elapsed[-1] - passed
        distances = [abs(each - wanted) for each in times.elapsed]
        return _near(times, word, distances, _LEAST_SLACK)
    if found := _TIME_OF_DAY.fullmatch(word):
        hours, minutes, seconds = found.groups()
        wanted = int(hours) * 3600 + int(minutes) * 60 + float(seconds or 0)
        late_by = [_around_the_clock(_of_day(each) - wanted) for each in times.wall]
        slack = _LEAST_SLACK if seconds else _WHOLE_MINUTE
        meant = [each - late for each, late in zip(times.wall, late_by, strict=True)]
        return _near(times, word, list(map(abs, late_by)), slack, meant=meant)
    return _near(times, word, *_of_date(times, word))


def _of_date(times: Times, word: str) -> tuple[list[float], float]:
    from datetime import datetime

    try:
        if "T" not in word and " " not in word:
            raise ValueError
        told = datetime.fromisoformat(word)
        # In the night in which the clock goes back an hour is there twice: the nearer one is meant.
        meant = {told.timestamp(), told.replace(fold=1 - told.fold).timestamp()}
    except (ValueError, OverflowError, OSError):
        raise UsageError(f"{arguments.shown(word)} is no moment of a series", hint=f"say one as {GRAMMAR}") from None
    has_seconds = word.count(":") > 1
    distances = [min(abs(each - wanted) for wanted in meant) for each in times.wall]
    return distances, _LEAST_SLACK if has_seconds else _WHOLE_MINUTE


def _near(
    times: Times, word: str, distances: list[float], least: float, *, meant: Sequence[float] | None = None
) -> int:
    """The nearest, the first of those as near. Raises UsageError where none lies near.

    `meant`: of a time of day, when that was on the day of each moment. Of several days that have it the last is meant:
    a series that ends shortly before it has it not on its last day, unless it has it on no other.
    """
    slack = max(least, _usual_step(times.elapsed))
    near = [index for index, distance in enumerate(distances) if distance <= slack]
    if not near:
        index = distances.index(min(distances))
        clock = shown_time(times.wall[index])
        raise UsageError(
            f"no moment of the series lies near {word}: the nearest is #{index + 1}, of {clock}",
            hint="--moments lists them",
        )
    if meant is not None:
        first, last = min(times.wall) - least, max(times.wall) + least
        near = [index for index in near if first <= meant[index] <= last] or near
        latest = times.wall[near[-1]]
        near = [index for index in near if abs(times.wall[index] - latest) < _DAY / 2]
    return min(near, key=lambda index: (distances[index], index))


def _usual_step(elapsed: Sequence[float]) -> float:
    steps = [later - earlier for earlier, later in itertools.pairwise(elapsed)]
    return sorted(steps)[len(steps) // 2] if steps else 0.0


def _of_day(seconds: float) -> float:
    told = time.localtime(seconds)
    return told.tm_hour * 3600 + told.tm_min * 60 + told.tm_sec + seconds % 1


def _around_the_clock(late: float) -> float:
    """By how much one time of day is later than another, the shorter way round: below 0 where it is earlier."""
    return (late + _DAY / 2) % _DAY - _DAY / 2


def shown_time(seconds: float) -> str:
    """Local time to the millisecond, in one word."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(seconds)) + f".{int(seconds % 1 * 1000):03d}"
