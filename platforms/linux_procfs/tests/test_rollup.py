"""The text of smaps_rollup: what it means, and what is refused."""

from __future__ import annotations

import os
import tracemalloc
from array import array

import pytest

from vmatlas.errors import MalformedData, NoSuchProcess, Unsupported
from vmatlas.model import MemoryUse
from vmatlas.model.memory import UNTOLD
from vmatlas_linux_procfs.rollup import NATIVE, memory_apart, parse_rollup, read_rollups, totals_of_streams

TITLE = b"55d090837000-7ffe76cde000 ---p 00000000 00:00 0                          [rollup]\n"
LINES = (
    b"Rss:                1628 kB\nPss:                 214 kB\nPss_Dirty:           112 kB\n"
    b"Pss_Anon:            112 kB\nPss_File:            102 kB\nPss_Shmem:             0 kB\n"
    b"Shared_Clean:       1476 kB\nShared_Dirty:          0 kB\nPrivate_Clean:        40 kB\n"
    b"Private_Dirty:       112 kB\nReferenced:         1628 kB\nAnonymous:           112 kB\n"
    b"LazyFree:              0 kB\nAnonHugePages:         0 kB\nShared_Hugetlb:        0 kB\n"
    b"Private_Hugetlb:    2048 kB\nSwap:                  8 kB\nSwapPss:               4 kB\n"
    b"Locked:                0 kB\n"
)
K = 1024


def test_a_text_of_the_kernel_is_read_to_the_byte():
    expected = MemoryUse(
        resident=3676 * K, proportional=214 * K, private=2200 * K, swapped=8 * K, swapped_proportional=4 * K,
        dirty=112 * K, anonymous=112 * K, huge=0, hugetlb=2048 * K, locked=0,
        proportional_anonymous=112 * K, proportional_file=102 * K, proportional_shared_memory=0,
    )  # fmt: skip
    assert parse_rollup(TITLE + LINES) == expected
    assert parse_rollup(TITLE + LINES) == expected, "by the keys that are known now"


def test_an_older_kernel_tells_less():
    assert parse_rollup(TITLE + b"Rss: 4 kB\n") == MemoryUse(resident=4 * K)


@pytest.mark.parametrize(
    "text",
    [
        LINES,
        TITLE,
        TITLE.replace(b"[rollup]", b"[heap]") + LINES,
        TITLE + LINES[:-1],
        TITLE + LINES[:-4],
        TITLE + LINES.replace(b"214", b"2_4"),
        TITLE + LINES.replace(b"214 kB", b"214 MB"),
        TITLE + LINES.replace(b"214", b"-14"),
        TITLE + LINES.replace(b"Pss:  ", b"Pss  :"),
        TITLE + LINES.replace(b"Locked", b"Swap"),
        TITLE + LINES.replace(b"\n", b"\r\n"),
        TITLE + LINES.replace(b"214 kB\nPss_Dirty:", b"214\nkB Pss_Dirty:"),
        TITLE + LINES.replace(b"214", b"9" * 18),
        TITLE + LINES.replace(b"214", b"9" * 5000),  # more digits than Python makes a number of
    ],
)
def test_what_no_kernel_writes_is_refused(text):
    assert parse_rollup(TITLE + LINES) is not None  # whose keys are known then
    with pytest.raises(MalformedData) as refusal:
        parse_rollup(text, pid=7)
    assert refusal.value.pid == 7


def test_a_text_that_is_far_too_long_costs_nothing():
    text = TITLE + b"ab " * (1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedData, match="16,384 bytes"):
            parse_rollup(text)
        assert tracemalloc.get_traced_memory()[1] < len(text)
    finally:
        tracemalloc.stop()


def test_an_empty_text_is_explained_by_stat():
    kernel = b"2 (kthreadd) S 0 0 0 0 -1 2129984 " + b"0 " * 43
    zombie = b"9 (true) Z 1 0 0 0 -1 4194304 " + b"0 " * 43
    assert totals_of_streams({"smaps_rollup": b"", "stat": kernel}, pid=2) == UNTOLD
    with pytest.raises(NoSuchProcess, match="zombie"):
        totals_of_streams({"smaps_rollup": b"", "stat": zombie}, pid=9)
    with pytest.raises(Unsupported):
        totals_of_streams({"maps": b""}, pid=9)


@pytest.mark.skipif(NATIVE is None, reason="the compiled twin does not serve here")
def test_the_twin_reads_what_python_reads():
    pids = array("i", [os.getpid(), 2**31 - 1, -1])
    for described, counted in ((False, False), (True, False), (True, True)):
        mine, other, none = NATIVE.rollups(pids, described, counted)
        assert other == none == (None, None, -1, 0)
        known, *_ = read_rollups(pids, described, counted)
        for text in (mine[0], known[0]):
            assert memory_apart(text).resident > 0
        assert (mine[1] is None, mine[2] < 0) == (known[1] is None, known[2] < 0) == (not described, not counted)
        if described:
            assert mine[1].split()[:2] == known[1].split()[:2]
        if counted:
            assert abs(mine[2] - known[2]) < 10, "it is our own map that changes under the reading"
