"""What Linux tells of threads: the stream is parsed on any host, and asked for with a bound."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import vmatlas
from vmatlas.errors import MalformedData
from vmatlas.model import Thread
from vmatlas.systems.linux.threads import MOST_LISTED, parse_threads, stream_of

WAITS = b"202 0x7fd77403df70 0x189 0x0 0x0 0x0 0xffffffff 0x7fd77b126d30 0x7fd77cf52f16\n"


def one(call: bytes, comm: bytes = b"worker\n") -> Thread:
    (thread,) = parse_threads(b"7\0" + comm + b"\0" + call + b"\0")
    return thread


@pytest.mark.parametrize(("call", "pointer", "untold"), [
    (WAITS, 0x7FD77B126D30, None),
    (b"-1 0x7ffd00001000 0x401000\n", 0x7FFD00001000, None),  # in a page fault, say: no call
    (b"0 0x3 0x0 0x0 0x0 0x0 0x0 0xbe8f1a40 0xb6e2d1d0\n", 0xBE8F1A40, None),  # 32 bits
    (b"running\n", None, "running"),
    (b"!EPERM", None, "EPERM"),
    (b"!LIMIT", None, "LIMIT"),
    (b"-1 0x0 0x0\n", None, "-1"),  # a thread of the kernel has no stack in user space
    (b"", None, "untold"),
])  # fmt: skip
def test_the_last_two_numbers_are_stack_pointer_and_program_counter(
    call: bytes, pointer: int | None, untold: str | None
) -> None:
    assert one(call) == Thread(7, "worker", pointer, untold)


def test_a_name_is_whatever_bytes_a_thread_gives_itself() -> None:
    assert one(WAITS, b"!ENOENT\n").name == "!ENOENT"
    assert one(WAITS, b"a b\n\xff\n").name == "a b\n\udcff"
    assert one(WAITS, b"\n").name == ""
    assert one(WAITS, b"!EACCES").name is None


@pytest.mark.parametrize("stream", [
    b"7", b"7\0x\n\0", b"7\0x\n\0running\n", b"x\0x\n\0running\n\0", b"0\0x\n\0running\n\0", b"07\0x\n\0running\n\0",
    b"7\0x\n\0running\n\0" * 2, b"\xb2\0x\n\0running\n\0", b"9" * 5000 + b"\0x\n\0running\n\0",
    b"7\0" + b"x" * 5000 + b"\n\0running\n\0", b"7\0x\n\0" + b"-1" + b" 0x1" * 5000 + b"\0", b"\0" * 4_000_000,
])  # fmt: skip
def test_what_is_no_list_of_threads_is_malformed(stream: bytes) -> None:
    with pytest.raises(MalformedData, match="'threads' at byte"):
        parse_threads(stream)


def test_threads_are_asked_in_order_and_those_that_ended_meanwhile_are_left_out() -> None:
    files = {"3/comm": b"a\n", "3/syscall": WAITS, "9/comm": b"b\n", "9/syscall": "EPERM"}
    stream = stream_of([9, 3, 5, 3], lambda name: files.get(name, "ENOENT"), most=10)
    assert parse_threads(stream) == (Thread(3, "a", 0x7FD77B126D30), Thread(9, "b", None, "EPERM"))


def test_no_more_threads_are_asked_than_the_bound_and_the_others_are_told_by_number() -> None:
    asked: list[str] = []

    def read(name: str) -> bytes:
        asked.append(name)
        return b"running\n"

    threads = parse_threads(stream_of(range(1, 1000), read, most=5))
    assert len(asked) == 10
    assert len(threads) == 999
    assert threads[5] == Thread(6, None, None, "LIMIT")


def test_no_more_threads_are_listed_than_a_reader_takes() -> None:
    stream = stream_of(range(1, MOST_LISTED + 100), lambda name: b"running\n", most=1)
    assert len(parse_threads(stream)) == MOST_LISTED


pieces = st.sampled_from([b"1", b"22", b"\0", b"x\n", WAITS, b"running\n", b"!EPERM", b"-1 0x0", b"\xff"]) | st.binary(
    max_size=5
)


@given(st.lists(pieces, max_size=12).map(b"".join))
def test_whatever_a_stream_holds_it_gives_threads_or_is_malformed(stream: bytes) -> None:
    try:
        threads = parse_threads(stream)
    except MalformedData:
        return
    assert [thread.number for thread in threads] == sorted({thread.number for thread in threads})
    assert all((thread.stack_pointer is None) == (thread.untold is not None) for thread in threads)


def test_a_space_with_what_are_no_threads_is_refused() -> None:
    space = vmatlas.snapshot()
    with pytest.raises(vmatlas.UsageError, match="7 is no thread"):
        space.with_threads([7])  # type: ignore[list-item]
    assert space.with_threads(None).origin.threads is None
