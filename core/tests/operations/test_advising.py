"""Batches, and what is concluded from a kernel's short answers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmatlas.errors import AccessDenied, OperationFailed
from vmatlas.operations.advising import LARGEST, MOST, Adviser, batches, go_through, going_on, pieces
from vmatlas.operations.values import Advice, Advised
from vmatlas.target.local import LOCAL
from vmatlas.target.program import Hello

from .kernel import PAGE, refusal

GIGABYTE = 2**30


class Kernel:
    """process_madvise as seen on Linux 6.18: bytes of whole ranges, an errno only for the first."""

    def __init__(self, bad: dict[int, str] | None = None, *, once: bool = False) -> None:
        self.bad = bad or {}
        self.once = once
        self.asked: list[list[tuple[int, int]]] = []
        self.done: list[tuple[int, int]] = []

    def __call__(self, ranges: Sequence[tuple[int, int]]) -> int:
        self.asked.append(list(ranges))
        assert len(ranges) <= MOST
        assert sum(size for _, size in ranges) <= LARGEST
        if any(self.bad.get(address) == "EFAULT" for address, _ in ranges):
            raise refusal("EFAULT")  # the vector is not even read
        total = 0
        for number, (address, size) in enumerate(ranges):
            name = self.bad.pop(address, None) if self.once else self.bad.get(address)
            if name is not None:
                if number == 0:
                    raise refusal(name)
                return total
            total += size
            self.done.append((address, size))
        return total


ranges_of = st.lists(st.integers(0, 4 * GIGABYTE // PAGE), unique=True, min_size=2, max_size=40).map(
    lambda edges: [(low * PAGE, high * PAGE) for low, high in pairwise(sorted(edges))]
)


@given(ranges_of)
def test_pieces_are_the_ranges_and_none_is_larger_than_a_gigabyte(ranges):
    found = list(pieces(ranges))
    assert all(0 < size <= GIGABYTE for _, size in found)
    joined: list[tuple[int, int]] = []
    for start, size in found:
        if joined and joined[-1][1] == start:
            joined[-1] = joined[-1][0], start + size
        else:
            joined.append((start, start + size))
    assert joined == [(ranges[0][0], ranges[-1][1])]  # they lie side by side
    assert all(address % GIGABYTE == 0 for address, _ in found if address not in {start for start, _ in ranges})


@given(ranges_of, st.integers(1, 5))
def test_batches_hold_every_piece_in_order_and_no_more_than_a_call_takes(ranges, most):
    found = list(batches(ranges, most=most))
    assert [piece for batch in found for piece in batch] == list(pieces(ranges))
    assert all(len(batch) <= most and sum(size for _, size in batch) <= LARGEST for batch in found)


def test_more_than_1024_ranges_go_in_batches():
    kernel = Kernel()
    ranges = [(2 * number * PAGE, (2 * number + 1) * PAGE) for number in range(2500)]
    assert go_through(kernel, ranges) == (2500 * PAGE, None, None)
    assert [len(batch) for batch in kernel.asked] == [1024, 1024, 452]


def test_range_of_many_gigabytes_is_done_whole():
    kernel = Kernel()
    assert go_through(kernel, [(PAGE, 5 * GIGABYTE)]) == (5 * GIGABYTE - PAGE, None, None)


@given(st.data())
def test_stop_is_told_at_its_range_with_its_errno_and_what_was_done_before(data):
    count = data.draw(st.integers(1, 3000))
    bad = data.draw(st.integers(0, count - 1))
    name = data.draw(st.sampled_from(["ENOMEM", "EINVAL", "EFAULT"]))
    ranges = [(2 * number * PAGE, (2 * number + 1) * PAGE) for number in range(count)]
    kernel = Kernel({2 * bad * PAGE: name})
    done, stopped, failure = go_through(kernel, ranges)
    assert done == bad * PAGE
    assert stopped == (2 * bad * PAGE, PAGE)
    assert failure is not None
    assert failure.errno_name == name
    assert kernel.done == [(2 * number * PAGE, PAGE) for number in range(bad)]  # nothing twice, nothing behind it


def test_trouble_that_passes_is_gone_through():
    kernel = Kernel({4 * PAGE: "EAGAIN"}, once=True)
    ranges = [(2 * number * PAGE, (2 * number + 1) * PAGE) for number in range(5)]
    assert go_through(kernel, ranges) == (5 * PAGE, None, None)


def test_going_on_takes_up_behind_the_piece_that_was_refused():
    asked: list[list[tuple[int, int]]] = []

    def advise(ranges: list[tuple[int, int]]) -> Advised:
        asked.append(ranges)
        stops = [(GIGABYTE, 2 * GIGABYTE), (50, 60), None]
        stopped = stops[len(asked) - 1]
        failure = None if stopped is None else OperationFailed(f"refused {len(asked)}", errno_name="EINVAL")
        return Advised(Advice.COLD, 7, len(ranges), 0, len(asked), stopped, failure)

    told = going_on(advise, [(0, 3 * GIGABYTE), (50, 60), (90, 99)], go_on=True)  # in the order given, not sorted
    assert asked[1:] == [[(2 * GIGABYTE, 3 * GIGABYTE), (50, 60), (90, 99)], [(90, 99)]]
    assert (told.advised, told.refused, told.stopped_at) == (6, ((GIGABYTE, 2 * GIGABYTE), (50, 60)), None)
    assert told.reason == "refused 1" and told.ranges == 3


@pytest.mark.skipif(sys.platform != "linux", reason="other processes are advised on Linux")
@pytest.mark.parametrize("name", ["EINVAL", "ENOMEM"])
def test_as_many_refusals_as_a_process_likes_cost_their_number(monkeypatch, name):
    """A map is read for the first alone, and what is behind is not handed over again and again."""
    number = 3000
    kernel = Kernel({2 * row * PAGE: name for row in range(0, number, 2)})
    adviser = Adviser(_Advised(), Advice.COLD, None)
    kernel.asked.clear()
    monkeypatch.setattr(adviser, "ask", kernel)
    ranges = [(2 * row * PAGE, (2 * row + 1) * PAGE) for row in range(number)]
    told = going_on(adviser.advise, ranges, go_on=True)
    assert told.refused == tuple(ranges[::2]) and told.advised == number // 2 * PAGE
    assert (told.ranges, told.asked) == (number, number * PAGE)
    assert kernel.done == [(start, PAGE) for start, _ in ranges[1::2]], "each once, in order"
    assert adviser._process.readings <= 1 and told.reason.startswith("advice 'cold' stopped at 0x0-")
    assert sum(map(len, kernel.asked)) < 8 * number + 2 * MOST


class _Advised:
    """A process of this machine, which counts how often its map is read."""

    target, pid, start_time, readings = LOCAL, 7, None, 0

    def snapshot(self, **_):
        self.readings += 1
        raise AccessDenied("not now")


def test_all_goes_well_in_one_call_for_as_many_as_the_kernel_takes():
    asked = []

    def advise(some):
        asked.append(len(some))
        return Advised(Advice.COLD, 7, len(some), 0, len(some))

    told = going_on(advise, [(row, row + 1) for row in range(2 * MOST + 5)], go_on=True)
    assert asked == [MOST, MOST, 5] and told.complete
    assert (told.ranges, told.asked, told.advised) == (2 * MOST + 5,) * 3
    assert going_on(advise, [], go_on=True).complete


def test_kernel_that_does_not_say_why_is_quoted_so():
    def silent(ranges: Sequence[tuple[int, int]]) -> int:
        return 0

    done, stopped, failure = go_through(silent, [(0, PAGE), (PAGE, 2 * PAGE)])
    assert (done, stopped) == (0, (0, PAGE))
    assert isinstance(failure, OperationFailed)
    assert "does not say why" in str(failure)


def test_no_ranges_ask_nothing():
    kernel = Kernel()
    assert go_through(kernel, []) == (0, None, None)
    assert kernel.asked == []


def test_no_more_ranges_go_at_once_than_a_line_holds() -> None:
    kernel = Kernel()
    ranges = [(number * 2 * PAGE, (number * 2 + 1) * PAGE) for number in range(1, 301)]
    assert go_through(kernel, ranges, 126) == (300 * PAGE, None, None)
    assert [len(batch) for batch in kernel.asked] == [126, 126, 48]


@pytest.mark.parametrize(("told", "most"), [("2048", 2048), ("32768", 32768), ("4000000", 32768), ("1", 1024)])
def test_what_an_agent_says_that_its_line_holds_is_believed_within_bounds(told: str, most: int) -> None:
    assert Hello({"max_payload": told}).max_payload == most
    assert Hello({}).max_payload == 32768


def test_a_region_of_the_whole_address_space_is_handed_over_piece_by_piece_and_not_laid_out_before() -> None:
    asked = 0

    def ask(batch: Sequence[tuple[int, int]]) -> int:
        nonlocal asked
        asked += 1
        if asked == 100:
            raise OperationFailed("no more", errno_name="EPERM")
        return sum(size for _, size in batch)

    done, stopped, failure = go_through(ask, [(0, 2**64)])
    assert failure is not None and stopped is not None and done == stopped[0] and asked == 100
