"""Bad frames, bad lines, repeated and interrupted requests, sent to a real agent byte by byte."""

from __future__ import annotations

import os
import random
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples
from vmatlas.target.streams import ChildStream
from vmatlas.target.wire import (
    SYNC,
    Decoder,
    Failure,
    Frame,
    Kind,
    Operation,
    encode,
    pack,
    read_failure,
    read_result,
    text16,
)

PING = Frame(Kind.REQUEST, Operation.PING, 7, payload=b"payload")
FOR_LONG = 60_000  # milliseconds: the most that an agent sleeps


class Line:
    """A raw line to an agent."""

    def __init__(self, binary: Path) -> None:
        self.stream = ChildStream([str(binary)])
        self.decoder = Decoder()
        self.waiting: list[Frame] = []

    def send(self, *pieces: bytes | Frame) -> None:
        """Frames and raw bytes, in one go."""
        self.stream.send(b"".join(encode(each) if isinstance(each, Frame) else each for each in pieces), PATIENCE)

    def next(self, limit: float = PATIENCE) -> Frame:
        """The next frame."""
        until = time.monotonic() + limit
        while not self.waiting:
            assert time.monotonic() < until, "no frame came"
            found = self.decoder.feed(self.stream.receive(0.2))
            assert all(isinstance(each, Frame) for each in found), "the agent never sends a bad frame"
            self.waiting += [each for each in found if isinstance(each, Frame)]
        return self.waiting.pop(0)

    def failure(self) -> tuple[int, Failure]:
        """The next frame, which is an error: its request and what it says."""
        frame = self.next()
        assert frame.kind == Kind.ERROR
        return frame.request, read_failure(frame.payload)

    def is_silent(self, seconds: float = 0.3) -> bool:
        """Whether nothing comes."""
        return not self.waiting and self.stream.receive(seconds) == b""


@pytest.fixture
def line(binary: Path) -> Iterator[Line]:
    raw = Line(binary)
    yield raw
    raw.stream.close()


def good_answer(line: Line) -> None:
    """The line still works."""
    line.send(PING)
    frame = line.next()
    while frame.kind == Kind.ERROR and frame.request == 0:
        frame = line.next()
    assert (frame.kind, frame.request, frame.payload) == (Kind.END, 7, b"payload")


def head(length: int, *, request: int = 5, version: int = 1, operation: int = Operation.PING) -> bytes:
    """A sound header that announces a payload of any length."""
    header = struct.pack("<4sBBHIIII", SYNC, version, Kind.REQUEST, operation, request, 0, 0, length)
    return header + struct.pack("<I", zlib.crc32(header))


def test_garbage_between_frames_is_dropped_without_a_word(line: Line) -> None:
    line.send(PING, b"garbage \r\n" * 1000, PING, bytes(10_000), PING)
    assert [line.next().payload for _ in range(3)] == [b"payload"] * 3
    assert line.is_silent()


def test_a_wrong_crc_of_the_payload_gets_an_error_and_the_next_frame_its_answer(line: Line) -> None:
    bad = bytearray(encode(PING))
    bad[30] ^= 1
    line.send(bytes(bad), PING)
    request, failure = line.failure()
    assert (request, failure.errno_name, failure.origin) == (7, "EBADMSG", 0)
    assert line.next().payload == b"payload"


@pytest.mark.parametrize("position", range(4, 28))
def test_any_wrong_byte_of_a_header_gets_an_error_and_the_next_frame_its_answer(line: Line, position: int) -> None:
    bad = bytearray(encode(PING))
    bad[position] ^= 0x10
    line.send(bytes(bad), PING)
    request, failure = line.failure()
    assert (request, failure.errno_name) == (0, "EBADMSG")
    assert line.next().payload == b"payload"


@pytest.mark.parametrize("length", [32769, 2**31, 2**32 - 1])
def test_a_frame_of_4_gb_is_refused_at_once_and_takes_no_memory(line: Line, length: int) -> None:
    line.send(PING)
    line.next()
    status = Path(f"/proc/{line.stream.pid}/status")
    before = [text for text in status.read_text().splitlines() if text.startswith("VmSize")]
    line.send(head(length), PING)
    request, failure = line.failure()
    assert (request, failure.errno_name) == (5, "EMSGSIZE")
    assert line.next().payload == b"payload"
    assert [text for text in status.read_text().splitlines() if text.startswith("VmSize")] == before


@pytest.mark.parametrize("kept", [3, 10, 27, 28, 31, 38])
def test_a_frame_cut_short_costs_itself_and_not_the_next(line: Line, kept: int) -> None:
    line.send(encode(PING)[:kept], Frame(Kind.REQUEST, Operation.PING, 8, payload=b"next"))
    frame = line.next()
    if frame.kind == Kind.ERROR:
        assert read_failure(frame.payload).errno_name == "EBADMSG"
        frame = line.next()
    assert (frame.request, frame.payload) == (8, b"next")


def test_half_a_frame_is_given_up_after_a_second(line: Line) -> None:
    line.send(head(30_000) + b"only this much")
    began = time.monotonic()
    _, failure = line.failure()
    assert failure.errno_name == "EBADMSG"
    assert time.monotonic() - began > 0.5
    good_answer(line)


def test_a_frame_that_comes_byte_by_byte_is_taken(line: Line) -> None:
    for byte in encode(PING):
        line.send(bytes((byte,)))
    assert line.next().payload == b"payload"


def test_the_longest_frame_is_taken_and_given(line: Line) -> None:
    payload = os.urandom(32768)
    line.send(Frame(Kind.REQUEST, Operation.PING, 9, payload=payload))
    assert line.next().payload == payload


def test_another_version_is_named(line: Line) -> None:
    line.send(head(0, version=2) + struct.pack("<I", 0), PING)
    request, failure = line.failure()
    assert (request, failure.errno_name) == (5, "EPROTONOSUPPORT")
    assert line.next().payload == b"payload"


def test_an_unknown_operation_is_refused(line: Line) -> None:
    line.send(head(0, operation=9999) + struct.pack("<I", 0))
    request, failure = line.failure()
    assert (request, failure.errno_name, failure.origin) == (5, "ENOSYS", 0)


def test_request_id_0_is_refused(line: Line) -> None:
    line.send(head(0, request=0) + struct.pack("<I", 0))
    assert line.failure()[1].errno_name == "EBADMSG"


def test_frames_that_are_no_requests_are_ignored(line: Line) -> None:
    for kind in (Kind.DATA, Kind.END, Kind.ERROR, 77):
        line.send(Frame(kind, Operation.PING, 5))
    assert line.is_silent()
    good_answer(line)


def test_after_eight_complaints_the_agent_is_silent_until_a_good_request(line: Line) -> None:
    bad = bytearray(encode(PING))
    bad[-1] ^= 1
    line.send(bytes(bad) * 30)
    assert [line.failure()[1].errno_name for _ in range(8)] == ["EBADMSG"] * 8
    assert line.is_silent()
    good_answer(line)
    line.send(bytes(bad))
    assert line.failure()[1].errno_name == "EBADMSG"


def test_a_line_that_echoes_does_not_make_it_talk_to_itself(line: Line) -> None:
    line.send(PING, b"\x9dVM\xa5 no frame, and long enough to be one")
    for _ in range(50):
        data = line.stream.receive(0.2)
        if not data:
            break
        line.stream.send(data, 5)
    assert line.is_silent()


def test_a_repeated_operation_is_answered_again_and_not_done_twice(line: Line) -> None:
    request = Frame(Kind.REQUEST, Operation.MAP, 21, payload=pack("QQIIIBQ", 0, 4096, 3, 1, 0, 0, 0) + text16(b""))
    line.send(Frame(Kind.REQUEST, Operation.HELLO, 20), request, request)
    line.next()
    first, second = line.next(), line.next()
    assert first == second and read_result(first.payload).value > 0
    line.send(Frame(Kind.REQUEST, Operation.MAP, 22, payload=request.payload))
    assert read_result(line.next().payload).value != read_result(first.payload).value
    line.send(Frame(Kind.REQUEST, Operation.HELLO, 23), request)
    line.next()
    assert read_result(line.next().payload).value != read_result(first.payload).value, "after a hello it is forgotten"


def test_an_agent_that_was_not_greeted_changes_nothing(line: Line, tmp_path: Path) -> None:
    path = tmp_path / "made"
    line.send(Frame(Kind.REQUEST, Operation.WRITE_FILE, 21, payload=text16(bytes(path)) + pack("II", 0o644, 0)))
    request, failure = line.failure()
    assert (request, failure.errno_name, failure.origin) == (21, "ENOTCONN", 0)
    assert not path.exists()


def test_a_new_request_ends_the_one_in_progress(line: Line) -> None:
    line.send(Frame(Kind.REQUEST, Operation.SLEEP, 31, payload=pack("I", FOR_LONG)))
    line.send(Frame(Kind.REQUEST, Operation.SLEEP, 31, payload=pack("I", FOR_LONG)))
    assert line.is_silent(), "a repeat of the request in progress is ignored"
    line.send(PING)
    request, failure = line.failure()
    assert (request, failure.errno_name) == (31, "ECANCELED")
    assert line.next().payload == b"payload"


def test_a_long_answer_nobody_reads_is_ended_by_a_new_request(line: Line, tmp_path: Path) -> None:
    large = tmp_path / "large"
    large.write_bytes(bytes(50 << 20))
    line.send(Frame(Kind.REQUEST, Operation.READ_FILE, 41, payload=text16(bytes(large)) + pack("Q", 0)))
    time.sleep(0.2)
    line.send(PING)
    taken, frame = 0, line.next()
    while frame.kind == Kind.DATA:
        assert frame.sequence == taken
        taken, frame = taken + 1, line.next()
    assert (frame.kind, frame.sequence, read_failure(frame.payload).errno_name) == (Kind.ERROR, taken, "ECANCELED")
    assert taken < 100 and line.next().payload == b"payload"


def test_protecting_nothing_forever_is_ended_by_a_new_request(line: Line) -> None:
    line.send(Frame(Kind.REQUEST, Operation.HELLO, 50))
    assert line.next().kind == Kind.END
    line.send(Frame(Kind.REQUEST, Operation.PROTECT_EVERY, 51, payload=pack("QQQQI", 0, 2**60, 2**16, 0, 1)))
    assert line.is_silent()
    line.send(PING)
    request, failure = line.failure()
    assert (request, failure.errno_name) == (51, "ECANCELED")
    assert line.next().payload == b"payload"


FRAMES = st.builds(
    Frame,
    kind=st.sampled_from([Kind.REQUEST, Kind.REQUEST, Kind.DATA, 9]),
    # what neither ends the agent nor takes memory or rights from it
    operation=st.sampled_from([1, 2, 4, 5, 6, 18, 24, 25, 34, 35, 36, 49, 50, 51, 99]),
    request=st.integers(1, 2**32 - 1),
    process=st.sampled_from([0, 0, 1, 2**32 - 1]),
    payload=st.binary(max_size=80),
)


def test_no_stream_of_bytes_stops_it(line: Line) -> None:
    noise = random.Random(20)

    @settings(
        max_examples=examples(150),
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.too_slow],
    )
    @given(st.lists(st.one_of(FRAMES.map(encode), st.binary(max_size=60)), max_size=6), st.integers(0, 3))
    def attack(pieces: list[bytes], flips: int) -> None:
        stream = bytearray(b"".join(pieces))
        for _ in range(flips if stream else 0):
            stream[noise.randrange(len(stream))] ^= 1 << noise.randrange(8)
        line.stream.send(bytes(stream), PATIENCE)
        sync = noise.randrange(1, 2**31)
        line.send(Frame(Kind.REQUEST, Operation.PING, sync, payload=b"still there"))
        while True:
            frame = line.next()
            if frame.request == sync and frame.kind == Kind.END:
                break
        assert frame.payload == b"still there"

    attack()
