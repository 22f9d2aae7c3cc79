"""Whether numbers grow with time, how fast, and how sure that is: what outliers and steps do not mislead. Pure.

The slope is the median of the slopes between all pairs (Theil 1950, Sen 1968), its bounds are Sen's from the variance
of Kendall's S, and how likely the order is by chance is told by the test of Mann (1945) and Kendall (1975), corrected
for ties. Nothing is assumed of how the numbers are spread; that they do not depend on one another is, so they are
thinned to the least of each stretch of time before, or to what was left after each great fall. What wanders depends on
itself all the same: it is told from what grows by its changes, which lean to no side (docs/leak-hunt.md, with rates).
"""

from __future__ import annotations

import enum
import itertools
import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

CONFIDENCE = 0.95
"""Of the bounds of a slope, and what a trend has to have to be one."""

STRETCHES = 20
"""The time is divided into so many, and the least of each counts: what is there after memory was given back."""

LEAST_MOMENTS = 8
"""Of fewer nothing is said."""

NOISE = 16 << 10
"""Bytes: what is less is no growth."""

_LEANS = 2.1
"""Student's quantile for `CONFIDENCE` on both sides, of 19 changes between 20 stretches."""

_LAGS = 2
"""So many changes before it a change is taken to depend on."""

_RETURNS = -0.25
"""The correlation of neighbouring changes of what comes back to its line: -0.5, if nothing but noise lies on it; that
of what wanders is 0."""

_Z = 1.959963984540054
"""The quantile of the normal distribution for `CONFIDENCE` on both sides."""


class Verdict(enum.Enum):
    """What becomes of some memory, as far as the moments tell. None of them says why."""

    GROWS = "grows"
    """More and more through all of the time: what is left after giving back grows as well, and it has not stopped."""
    UNCLEAR = "unclear"
    """It became more, but of late only, or there are too few moments."""
    SWINGS = "comes and goes"
    """Half of what came, or more, was given back: a garbage collector, a cache."""
    ROSE = "rose, stands"
    """It became more and stopped: a start, a warm-up."""
    SHRINKS = "shrinks"
    """Less and less."""
    STEADY = "steady"
    """No more than a few pages came or went."""


class Slope(NamedTuple):
    """Bytes a second, and the bounds of it with a confidence of 95 %."""

    middle: float
    low: float
    high: float


class Judgement(NamedTuple):
    """What is said of one row of numbers."""

    verdict: Verdict
    slope: Slope
    chance: float | None
    """How likely such an order is where nothing grows nor shrinks; None where there are too few moments."""


def sen(times: Sequence[float], values: Sequence[float]) -> Slope:
    """The median slope between all pairs at different times, and its bounds; 0 where there is no such pair."""
    slopes = sorted(
        (values[later] - values[earlier]) / (times[later] - times[earlier])
        for earlier, later in itertools.combinations(range(len(values)), 2)
        if times[later] != times[earlier]
    )
    if not slopes:
        return Slope(0.0, 0.0, 0.0)
    count = len(slopes)
    middle = (slopes[(count - 1) // 2] + slopes[count // 2]) / 2
    reach = _Z * math.sqrt(_variance(values))
    low = slopes[max(round((count - reach) / 2) - 1, 0)]
    high = slopes[min(round((count + reach) / 2), count - 1)]
    return Slope(middle, low, high)


def mann_kendall(values: Sequence[float]) -> float:
    """How likely it is that numbers in random order seem to grow or shrink as much as these: from 0 to 1."""
    score = sum((later > earlier) - (later < earlier) for earlier, later in itertools.combinations(values, 2))
    variance = _variance(values)
    if score == 0 or variance <= 0:
        return 1.0
    return math.erfc((abs(score) - 1) / math.sqrt(2 * variance))


def _variance(values: Sequence[float]) -> float:
    """Of Kendall's S, where nothing grows."""

    def of(count: int) -> int:
        return count * (count - 1) * (2 * count + 5)

    return (of(len(values)) - sum(map(of, Counter(values).values()))) / 18


def judged(times: Sequence[float], values: Sequence[float]) -> Judgement:
    """Of numbers at times that do not go back: bytes, seconds."""
    if not values or max(values) == min(values):
        return Judgement(Verdict.STEADY, Slope(0.0, 0.0, 0.0), 1.0)
    when, least = _low_points(times, values)
    slope = sen(when, least)
    chance = mann_kendall(least)
    if len(values) < LEAST_MOMENTS:
        return Judgement(_few(values), slope, None)
    return Judgement(_verdict(times[-1] - times[0], values, least, slope, chance), slope, chance)


def _few(values: Sequence[float]) -> Verdict:
    return Verdict.STEADY if max(values) - min(values) < NOISE else Verdict.UNCLEAR


def _verdict(took: float, values: Sequence[float], least: Sequence[float], slope: Slope, chance: float) -> Verdict:
    if max(values) - min(values) < NOISE:
        return Verdict.STEADY
    is_trend = chance < 1 - CONFIDENCE and abs(slope.middle) * took >= NOISE
    quarters = _kept_in_quarters(least)
    kept = sum(quarters)
    fair = [part * 12 >= kept > 0 for part in quarters]  # a third of an equal share
    is_kept = kept >= NOISE and sum(fair) >= 3 and fair[-1]
    if is_trend and slope.low > 0 and is_kept and not _wanders(least):
        return Verdict.GROWS
    if is_trend and slope.high < 0:
        return Verdict.SHRINKS
    came = sum(max(later - earlier, 0) for earlier, later in itertools.pairwise(values))
    went = sum(max(earlier - later, 0) for earlier, later in itertools.pairwise(values))
    if went >= NOISE and 10 * came <= went:  # at once or in steps, and not back
        return Verdict.SHRINKS
    if 2 * went >= came:
        return Verdict.SWINGS
    return Verdict.UNCLEAR if fair[-1] else Verdict.ROSE


def _wanders(values: Sequence[float]) -> bool:
    """Whether the changes from one to the next lean to no side by more than chance has them do, nor come back.

    The sum of the changes against its own spread, from their long-run variance (Newey and West 1987).
    """
    changes = [later - earlier for earlier, later in itertools.pairwise(values)]
    count, mean = len(changes), sum(changes) / len(changes)
    apart = [change - mean for change in changes]

    def together(lag: int) -> float:
        return sum(earlier * later for earlier, later in zip(apart, apart[lag:], strict=False)) / count

    variance = together(0)
    if variance <= 0 or together(1) < _RETURNS * variance:
        return False
    long_run = variance + 2 * sum((1 - lag / (_LAGS + 1)) * together(lag) for lag in range(1, _LAGS + 1))
    return sum(changes) <= _LEANS * math.sqrt(count * max(long_run, variance / count))


def _low_points(times: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """What is left after what was given back, and when: the least of each stretch; of great teeth, of which a stretch
    may have none, what was left after each fall."""
    after = _falls(values)
    if LEAST_MOMENTS <= len(after) < 2 * STRETCHES:
        times, values = [times[place] for place in after], [values[place] for place in after]
    return _least_of_stretches(times, values)


def _falls(values: Sequence[float]) -> list[int]:
    """Where each fall by half of the whole range ends, once a quarter of it has come back."""
    half = (max(values) - min(values)) / 2
    ends: list[int] = []
    falling, place = False, 0
    for number, value in enumerate(values):
        turn = values[place]
        if (value < turn) if falling else (value > turn):
            place = number
        elif falling and value - turn >= half / 2:
            ends.append(place)
            falling, place = False, number
        elif not falling and turn - value >= half > 0:
            falling, place = True, number
    return ends


def _least_of_stretches(times: Sequence[float], values: Sequence[float]) -> tuple[list[float], list[float]]:
    """The least of each stretch, and when it was so."""
    count = min(STRETCHES, len(values))
    edges = [len(values) * number // count for number in range(count + 1)]
    places = [min(range(begin, end), key=values.__getitem__) for begin, end in itertools.pairwise(edges)]
    return [times[place] for place in places], [values[place] for place in places]


def _kept_in_quarters(least: Sequence[float]) -> list[float]:
    """How much more there was at the end of each quarter of the time, of what was never given back afterwards."""
    kept = list(itertools.accumulate(reversed(least), min))[::-1]
    edges = [(len(kept) - 1) * number // 4 for number in range(5)]
    return [kept[end] - kept[begin] for begin, end in itertools.pairwise(edges)]
