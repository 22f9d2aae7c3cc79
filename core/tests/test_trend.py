"""What grows is told from what comes and goes, rose and stands, or stays; with a slope, its bounds and a confidence."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas import UsageError, Verdict
from vmatlas.analysis.naming import Certainty, Guess
from vmatlas.analysis.slopes import NOISE, judged, mann_kendall, sen
from vmatlas.analysis.trend import MOST_MOMENTS, held_of, trends
from vmatlas.model import Details, Kind, Protection, Region

from .strategies import space_of, spaces

MIB = 1 << 20
CHANCE = random.Random(7)
RW = Protection.READ | Protection.WRITE

TIMES = [0.0, 10.5, 20.25, 31.0, 40.0, 52.0, 60.0, 69.5, 80.0, 91.0]
VALUES = [3.0, 5.0, 4.0, 4.0, 7.0, 6.0, 9.0, 8.0, 8.0, 12.0]


def test_slopes_and_their_bounds_are_those_of_scipy():
    """scipy 1.17.1: stats.theilslopes(VALUES, TIMES, 0.95)."""
    assert sen(TIMES, VALUES) == pytest.approx((0.08121827411167512, 0.04316546762589928, 0.11307420494699646))


def test_the_chance_of_an_order_is_that_of_mann_and_kendall():
    """By hand: S is 33; the variance, with two ties of two, (2250 - 36) / 18 = 123; the chance erfc(32 / sqrt(246))."""
    assert mann_kendall(VALUES) == pytest.approx(0.003909876, rel=1e-6)
    assert mann_kendall([1.0] * 9) == mann_kendall([1.0]) == 1.0


@given(st.lists(st.integers(0, 2**40), min_size=1, max_size=40))
def test_any_numbers_have_a_slope_within_its_bounds_and_a_chance(numbers):
    times = [float(number) for number in range(len(numbers))]
    found = judged(times, numbers)
    assert found.slope.low <= found.slope.middle <= found.slope.high
    assert found.chance is None or 0 <= found.chance <= 1
    mirrored = sen(times, [-number for number in numbers])
    assert mirrored.middle == pytest.approx(-found.slope.middle) or len(numbers) > 20


def sawtooth(period: int, leak: float = 0.0, count: int = 120) -> list[float]:
    return [50 * MIB * (each % period) / period + leak * MIB * each for each in range(count)]


def noise(height: float) -> float:
    return height * MIB * CHANCE.random()


SHAPES = {
    "line": ([MIB * each for each in range(60)], Verdict.GROWS),
    "line of a few": ([MIB * each for each in range(10)], Verdict.GROWS),
    "line with noise": ([0.2 * MIB * each + noise(5) for each in range(120)], Verdict.GROWS),
    "stairs": ([MIB * (each // 12) for each in range(96)], Verdict.GROWS),
    "garbage is collected": (sawtooth(10), Verdict.SWINGS),
    "garbage is collected seldom": (sawtooth(40), Verdict.SWINGS),
    "garbage is collected, and some stays": (sawtooth(10, leak=0.5), Verdict.GROWS),
    "a start": ([0 if each < 9 else 80 * MIB + noise(0.05) for each in range(90)], Verdict.ROSE),
    "a warm-up": ([80 * MIB * (1 - 0.8**each) for each in range(90)], Verdict.ROSE),
    "a cache that is filled": ([80 * MIB * min(each / 45, 1) for each in range(90)], Verdict.ROSE),
    "a step of late": ([0 if each < 75 else 80 * MIB for each in range(90)], Verdict.UNCLEAR),
    "noise": ([noise(5) for _ in range(120)], Verdict.SWINGS),
    "less and less": ([100 * MIB - MIB * each for each in range(60)], Verdict.SHRINKS),
    "given back at once": ([80 * MIB if each < 30 else 0 for each in range(60)], Verdict.SHRINKS),
    "given back in steps": ([80 * MIB - 20 * MIB * (each // 15) for each in range(60)], Verdict.SHRINKS),
    "given back and taken again": ([80 * MIB * (each // 15 % 2) for each in range(60)], Verdict.SWINGS),
    "a few pages": ([4096 * (each % 3) for each in range(60)], Verdict.STEADY),
    "a line of a few pages": ([NOISE / 100 * each for each in range(60)], Verdict.STEADY),
    "nothing": ([7 * MIB] * 60, Verdict.STEADY),
    "few moments": ([MIB * each for each in range(5)], Verdict.UNCLEAR),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_each_shape_has_its_verdict(shape):
    values, verdict = SHAPES[shape]
    assert judged([10.0 * each for each in range(len(values))], values).verdict is verdict


def wandering(draw: random.Random) -> list[float]:
    return list(itertools.accumulate((draw.gauss(0, MIB) for _ in range(239)), initial=2000 * MIB))


def teeth(draw: random.Random, period: int, leak: float) -> list[float]:
    """A collector that comes sooner or later, and leaves more or less; `leak`: in the end, as a part of a tooth."""
    values: list[float] = []
    while len(values) < 240:
        length, left = round(period * draw.uniform(0.8, 1.2)), draw.gauss(0, 0.02)
        values += [left + step / length + leak * (len(values) + step) / 240 for step in range(length)]
    return [200 * MIB * (1 + value) for value in values[:240]]


@pytest.mark.parametrize(("make", "least", "most"), [
    pytest.param(wandering, 0, 0.09, id="what wanders at random"),  # 5.7 % of 300; 21 % while its changes did not count
    pytest.param(lambda draw: teeth(draw, 25, 0), 0, 0.05, id="great teeth"),  # 2.3 %
    pytest.param(lambda draw: teeth(draw, 17, 0), 0, 0.05, id="teeth"),  # 1 %
    # 94 %; 69 % while each stretch was looked at, whether or not it had the foot of a tooth
    pytest.param(lambda draw: teeth(draw, 25, 0.3), 0.88, 1, id="a slow leak beneath great teeth"),
    pytest.param(lambda draw: teeth(draw, 12, 0.3), 0.95, 1, id="a slow leak beneath teeth"),
    pytest.param(lambda draw: teeth(draw, 17, 0.1), 0.45, 1, id="a leak of a tenth of a tooth"),  # 58 %
    pytest.param(lambda draw: [value + 0.5 * MIB * step for step, value in enumerate(wandering(draw))], 0.95, 1,
                 id="what wanders and grows"),
])  # fmt: skip
def test_how_often_it_is_told_that_something_grows(make, least, most):
    draw = random.Random(11)
    rows = [make(draw) for _ in range(120)]
    verdicts = [judged([10.0 * each for each in range(len(row))], row).verdict for row in rows]
    assert least <= verdicts.count(Verdict.GROWS) / len(rows) <= most


@given(st.lists(st.integers(0, 2**12), min_size=2, max_size=120), st.integers(0, 16), st.integers(0, 2**40))
def test_what_a_thing_grows_on_and_in_which_unit_makes_no_difference(numbers, power, floor):
    times = [float(each) for each in range(len(numbers))]
    large = [(1 << 20) * each for each in numbers]  # more than noise
    other = [(each << power) + floor for each in large]
    if max(numbers) > min(numbers):
        assert judged(times, other).verdict is judged(times, large).verdict


def test_a_slope_is_what_stays_not_what_swings():
    found = judged([float(each) for each in range(120)], sawtooth(10, leak=0.5))
    assert found.slope.middle == pytest.approx(0.5 * MIB)
    assert found.slope.low > 0.4 * MIB and found.chance is not None and found.chance < 1e-5


# ---- groups ----


def told(region: Region, held: int) -> Region:
    details = Details({"Rss": held, "Pss": held, "Swap": 0, "Anonymous": held, "Private_Clean": 0, "Private_Dirty": 0})
    return region._replace(resident=held, private_resident=held, details=details)


ROOM = Region(0x10000000, 0x18000000, RW, False, kind=Kind.ANONYMOUS)
OTHER = Region(0x20000000, 0x21000000, RW, False, kind=Kind.ANONYMOUS)
HEAP = Region(0x40000000, 0x48000000, RW, False, name="[heap]", kind=Kind.HEAP)
FILE = Region(0x50000000, 0x51000000, RW, False, path="/data", kind=Kind.FILE, offset=0)


def over_time(make, count: int = 30):
    return trends((10.0 * step, space_of(make(step))) for step in range(count))


def test_the_group_that_grows_is_the_first_line_and_what_it_is_part_of_comes_after():
    found = over_time(
        lambda step: [told(ROOM, MIB * step), told(OTHER, MIB), told(HEAP, 5 * MIB * (step % 3)), told(FILE, MIB)]
    )
    first = found[0]
    assert (first.by, first.key, first.verdict) == ("nameless", "10000000-18000000", Verdict.GROWS)
    assert first.slope == pytest.approx(360 * MIB) and first.where == (ROOM.start, ROOM.end)
    assert first.gained == 29 * MIB and first.space_slope == 0
    grows = [(each.by, each.key) for each in found if each.verdict is Verdict.GROWS]
    assert set(grows[1:]) == {("kind", "anonymous"), ("use", "data"), ("all", "total")}
    verdicts = {(each.by, each.key): each.verdict for each in found}
    assert verdicts["name", "[heap]"] is Verdict.SWINGS
    assert verdicts["file", "/data"] is verdicts["nameless", "20000000-21000000"] is Verdict.STEADY
    assert (found.measure, found.moments, found.seconds) == ("held", 30, 290.0)


def test_memory_that_grows_by_new_ranges_that_touch_is_one_group():
    def maps(step: int) -> list[Region]:
        return [told(ROOM._replace(start=ROOM.start - MIB * (part + 1), end=ROOM.start - MIB * part), MIB)
                for part in range(step, -1, -1)] + [told(ROOM, 0)]  # fmt: skip

    found = over_time(maps)
    assert (found[0].by, found[0].key) == ("nameless", "e200000-18000000") and found[0].verdict is Verdict.GROWS
    assert found[0].space_slope == pytest.approx(360 * MIB)


def test_what_seems_to_be_of_one_sort_is_a_group_marked_as_a_guess(monkeypatch):
    extents = [Region(base, base + 0x200000, RW, False, kind=Kind.ANONYMOUS) for base in range(0x60000000, 0x68000000, 0x800000)]  # fmt: skip  # noqa: E501
    guess = Guess("x extent", "x extent", ("a sign",), Certainty.WEAK, "x")
    monkeypatch.setattr("vmatlas.analysis.naming.name_regions", lambda _: {each.start: guess for each in extents})
    found = over_time(lambda step: [told(each, MIB) for each in extents[: step // 2 + 1]] + [told(OTHER, MIB)])
    (extent,) = found.of("guess")
    assert (extent.key, extent.verdict, extent.gained) == ("?x extent", Verdict.GROWS, 14 * MIB)


def test_a_range_that_came_later_and_grows_is_one_group():
    def maps(step: int) -> list[Region]:
        later = ROOM._replace(end=ROOM.start + 2 * MIB * (step - 3)) if step > 3 else None
        return [told(OTHER, MIB), *([told(later, MIB * (step - 3))] if later is not None else [])]

    found = over_time(maps)
    assert (found[0].by, found[0].key, found[0].verdict) == ("nameless", "10000000-13400000", Verdict.GROWS)


def test_memory_that_grows_by_ranges_far_apart_is_told_by_rights_and_size():
    def maps(step: int) -> list[Region]:
        chunks = [Region(base, base + 0x40000, RW, False, kind=Kind.ANONYMOUS) for base in range(0x60000000, 0x60000000 + (step + 1) * 0x200000, 0x200000)]  # fmt: skip  # noqa: E501
        return [told(ROOM, MIB), *(told(each, 0x40000) for each in chunks)]

    found = over_time(maps)
    assert (found[0].key, found[0].verdict) == ("rw-p of 256K to 512K", Verdict.GROWS)
    assert found[0].where is not None and found[0].where[0] >= 0x60000000


def test_without_memory_in_use_the_address_space_is_followed():
    found = over_time(lambda step: [HEAP._replace(end=HEAP.end + MIB * step)])
    assert found.measure == "size" and found[0].key == "[heap]" and found[0].slope == pytest.approx(360 * MIB)


def test_a_moment_that_does_not_tell_all_is_left_out_where_others_do():
    """A region that changed while the text was read: its memory would seem to be given back."""

    def maps(step: int) -> list[Region]:
        return [told(ROOM, MIB * step), told(OTHER, 50 * MIB) if step % 5 != 2 else OTHER]

    found = over_time(maps)
    assert (found.measure, found.moments) == ("held", 24)
    assert found[0].verdict is Verdict.GROWS and found.of("all")[0].verdict is Verdict.GROWS
    guard = ROOM._replace(start=0x70000000, end=0x70001000, protection=Protection(0), kind=Kind.GUARD)
    assert over_time(lambda step: [told(ROOM, MIB * step), guard]).measure == "held"
    assert over_time(lambda step: [told(ROOM, MIB * step), OTHER]).measure == "held"


@given(spaces)
def test_what_is_held_by_columns_is_what_is_held_by_regions(space):
    by_regions = [None if region.memory is None else region.memory.held for region in space]
    resident = [region.resident for region in space]
    assert [None if one is None else other for one, other in zip(resident, held_of(space.columns), strict=True)] == [
        None if one is None else other for one, other in zip(resident, by_regions, strict=True)
    ]
    assert all(other is None for one, other in zip(resident, held_of(space.columns), strict=True) if one is None)


@pytest.mark.parametrize("swap", [0, 8192, None])
def test_what_is_in_swap_is_held(swap):
    region = told(HEAP, 4096)
    details = {key: value for key, value in region.details.items() if key != "Swap"} | (
        {} if swap is None else {"Swap": swap}
    )
    space = space_of([region._replace(details=Details(details)), told(ROOM, 1)])
    assert list(held_of(space.columns)) == [each.memory.held for each in space]


def test_another_number_may_be_followed():
    found = trends(((float(n), space_of([told(HEAP, MIB * n)])) for n in range(20)), "proportional")
    assert found.measure == "proportional" and found[0].last == 19 * MIB


def test_of_many_moments_some_are_compared_the_first_and_the_last_among_them():
    found = over_time(lambda step: [told(HEAP, 4096 * step)], 5 * MOST_MOMENTS + 3)
    assert MOST_MOMENTS / 2 <= found.moments <= MOST_MOMENTS + 1
    assert (found[0].first, found[0].last) == (0, 4096 * (5 * MOST_MOMENTS + 2))
    assert found.seconds == 10 * (5 * MOST_MOMENTS + 2)


def test_a_map_that_did_not_change_is_added_up_once(monkeypatch):
    space = space_of([told(HEAP, MIB)])
    monkeypatch.setattr("vmatlas.analysis.trend.use_of", lambda region, seen=[]: seen.append(1) or pytest.fail() if seen else (seen.append(1), vmatlas.Use.DATA)[1])  # fmt: skip  # noqa: E501
    assert trends((float(n), space) for n in range(9)).of("name")[0].verdict is Verdict.STEADY


@given(st.lists(spaces, min_size=2, max_size=5))
def test_groups_that_are_all_memory_add_up_to_all(given_spaces):
    found = trends(zip(itertools.count(), given_spaces, strict=False))
    sums = {by: sum(each.space_last for each in found.of(by)) for by in ("kind", "use")}
    sums["single"] = sum(each.space_last for by in ("nameless", "name", "file") for each in found.of(by))
    assert set(sums.values()) == {sum(each.space_last for each in found.of("all"))}


@pytest.mark.parametrize(
    ("given_spaces", "words"),
    [
        ([], "two moments"),
        ([(0.0, space_of([HEAP]))], "two moments"),
        ([(1.0, space_of([HEAP])), (0.0, space_of([HEAP]))], "go back"),
        ([space_of([HEAP])], "no series of times"),
        (5, "no series of times"),
    ],
)
def test_what_is_no_series_is_refused(given_spaces, words):
    with pytest.raises(UsageError, match=words):
        trends(given_spaces)
    with pytest.raises(UsageError, match="no measure"):
        trends([], "colour")
