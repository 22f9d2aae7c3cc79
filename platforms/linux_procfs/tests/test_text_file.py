"""The reader of a text, in C, alone, under the sanitizers: against files whose every read is scripted."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from errno import E2BIG, EINTR, EIO, ESPIPE, ESRCH
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vmatlas.conformance.fuzz import build_driver
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples

HERE = Path(__file__).parent


class Read(NamedTuple):
    pieces: list[str]
    """What the taker was given; the last with a dot when it was told that nothing follows."""
    end: str
    error: int
    reads: int
    seeks: int


Reader = Callable[..., Read]


@pytest.fixture(scope="session")
def read(tmp_path_factory: pytest.TempPathFactory) -> Reader:
    """Reads a scripted file: the room, what the taker does, what each read gives (see read_text.c)."""
    program = build_driver(HERE / "read_text.c", HERE.parent / "native", tmp_path_factory.mktemp("text"))

    def run(room: int, taker: str, *steps: str | int) -> Read:
        command = [program, str(room), taker, *(f"-{step}" if isinstance(step, int) else step for step in steps)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr
        *pieces, last = done.stdout.splitlines()
        end, *counts = last.split()
        return Read(pieces, end, *map(int, counts))

    return run


def test_each_piece_is_handed_on_as_it_came(read: Reader) -> None:
    assert read(9, "all", "ab", "c", "|", "ab") == Read(["ab", "c"], "whole", 0, 4, 2)


def test_no_more_is_read_than_there_is_room_for(read: Reader) -> None:
    assert read(4, "all", "abcdefghi", "|", "a").pieces == ["abcd", "efgh", "i"]


def test_what_the_taker_leaves_comes_again_before_what_follows(read: Reader) -> None:
    found = read(9, "lines", "a;b", "c", "d;", "e;f", "|", "a")
    assert found.pieces == ["a;b", "bc", "bcd;", "e;f", "f."]
    assert found.end == "whole"


def test_what_is_left_until_the_end_comes_whole_with_the_word_that_it_is_the_end(read: Reader) -> None:
    assert read(9, "end", "ab", "c", "|", "a").pieces == ["ab", "abc", "abc."]


@pytest.mark.parametrize("taker", ["lines", "none", "end"])
def test_line_longer_than_the_room_ends_the_reading(read: Reader, taker: str) -> None:
    found = read(4, taker, "abc", "defgh;")
    assert (found.pieces, found.end, found.error) == (["abc", "abcd"], "failed", E2BIG)


def test_line_as_long_as_the_room_is_read(read: Reader) -> None:
    found = read(4, "lines", "ab", "c;de", "f;", "|", "a")
    assert (found.pieces, found.end) == (["ab", "abc;", "de", "def;"], "whole")


def test_taker_that_stops_is_handed_no_more(read: Reader) -> None:
    assert read(9, "second", "a", "b", "c", "|", "a") == Read(["a", "b"], "stopped", 0, 2, 1)


def test_signals_end_no_reading_and_no_second_look(read: Reader) -> None:
    found = read(9, "all", EINTR, EINTR, "ab", EINTR, "c", EINTR, "|", EINTR, EINTR, "a")
    assert (found.pieces, found.end) == (["ab", "c"], "whole")


@pytest.mark.parametrize("before", [[], ["ab"]])
def test_error_of_the_kernel_is_told_and_nothing_is_read_after_it(read: Reader, before: list[str]) -> None:
    assert read(9, "all", *before, EIO, "c") == Read(before, "failed", EIO, len(before) + 1, 1)


def test_text_whose_start_is_gone_after_its_end_is_cut(read: Reader) -> None:
    assert read(9, "all", "ab", "|") == Read(["ab"], "cut", ESRCH, 3, 2)


@pytest.mark.parametrize(("step", "error"), [(EIO, EIO), (ESRCH, ESRCH), ("seek", ESPIPE)])
def test_text_that_cannot_be_looked_at_again_is_cut_and_the_kernel_says_why(
    read: Reader, step: str | int, error: int
) -> None:
    found = read(9, "all", "ab", "|", step)
    assert (found.end, found.error) == ("cut", error)


def test_where_the_taker_knows_the_end_there_is_no_second_look(read: Reader) -> None:
    assert read(9, "sure", "ab", "|") == Read(["ab"], "whole", 0, 2, 1)


def test_empty_text_is_whole_and_no_piece(read: Reader) -> None:
    assert read(9, "all") == Read([], "whole", 0, 1, 1)


def test_file_without_a_start_is_not_read(read: Reader) -> None:
    assert read(9, "all", "seek", "ab") == Read([], "failed", ESPIPE, 0, 1)


STEPS = st.lists(st.text("ab;", min_size=1, max_size=6) | st.just(EINTR), max_size=8)


@given(room=st.integers(1, 9), steps=STEPS, is_there=st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_whatever_the_pieces_the_lines_are_those_of_the_file(
    read: Reader, room: int, steps: list[str | int], is_there: bool
) -> None:
    text = "".join(step for step in steps if isinstance(step, str))
    found = read(room, "lines", *steps, "|", *(["a"] if is_there else []))
    lines, left = [], ""
    for piece in found.pieces:
        assert piece.startswith(left)
        *whole, left = piece.rstrip(".").split(";")
        lines += whole
    if any(len(line) >= room for line in text.split(";")):
        assert (found.end, found.error) == ("failed", E2BIG)
        assert text.startswith(";".join(lines))
    else:
        assert [*lines, left] == text.split(";")
        assert found.end == ("whole" if is_there or not text else "cut")
