"""A board's line without a board: a made-up agent with a real kernel's bytes, at the end of a line that fails.

The same was tried on the kernel itself (test_on_a_kernel).
"""

from __future__ import annotations

import random
import struct
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vmatlas
from vmatlas import NoSuchProcess, TargetLost
from vmatlas.conformance.patience import PATIENCE
from vmatlas.conformance.thorough import examples
from vmatlas.target.agent import Agent, AgentTarget, Limits
from vmatlas.target.streams import StreamEnded
from vmatlas.target.wire import Decoder, Frame, Kind, Operation, encode, pack, text8, text16
from vmatlas_qnx import PAGEDATA

from .recorded import FOLDER, captured

PID = 40964
STREAMS = {name: (FOLDER / f"pid{PID}_pipe_{name}.bin").read_bytes() for name in ("procinfo", "mapinfo", "pagedata")}
STARTED = struct.unpack_from("<Q", STREAMS["procinfo"], 112)[0]
WHOLE = list(PAGEDATA.decode(captured("pagedata", STREAMS["pagedata"], pid=PID)))
HELLO = {
    "protocol": "1", "agent": "0.1.0", "role": "agent", "system": "QNX", "release": "6.4.1", "version": "2009/06/08",
    "machine": "x86pc", "byte_order": "little", "pointer_bits": "32", "page_size": "4096", "pid": "49162", "user": "0",
    "sources": "qnx.mapinfo qnx.pagedata", "operations": "hello acquire", "ticks_per_second": "1000000000",
}  # fmt: skip
SOON = Limits(silence=0.3, again=0.1, attempts=40)
LATE = Limits(silence=PATIENCE, again=0.05, attempts=200)


class Board:
    """The other end of a line: answers like the agent, until it is told to stop."""

    def __init__(
        self, *, dies_after: int | None = None, stops_after: int | None = None, seed: int = 0, noise: float = 0.0
    ) -> None:
        self.decoder = Decoder()
        self.waiting = bytearray()
        self.sent = 0
        self.dies_after, self.stops_after = dies_after, stops_after
        self.random, self.noise = random.Random(seed), noise
        self.hit = 0

    def send(self, data: bytes, limit: float) -> None:
        """A request comes."""
        for frame in self.decoder.feed(self._spoil(data)):
            if isinstance(frame, Frame) and frame.kind == Kind.REQUEST:
                self._answer(frame)

    def receive(self, limit: float) -> bytes:
        """What is on the line, in pieces as a serial driver gives them."""
        piece = bytes(self.waiting[:64])
        del self.waiting[:64]
        for bound in (self.dies_after, self.stops_after):
            if bound is not None:
                piece = piece[: max(0, bound - self.sent)]
        self.sent += len(piece)
        if self.dies_after is not None and self.sent >= self.dies_after and not piece:
            raise StreamEnded("it ended")
        return self._spoil(piece)

    def last_words(self) -> str:
        """What stood on its console."""
        return "Shutdown[0,1] S/C/F=11/1/11"

    def close(self) -> None:
        """Nothing to end."""

    def _spoil(self, data: bytes) -> bytes:
        if not data or self.random.random() >= self.noise:
            return data
        self.hit += 1
        at = self.random.randrange(len(data))
        junk = self.random.randbytes(self.random.choice([0, 1, 9, 70]))
        return data[:at] + junk + data[at + self.random.choice([0, 1, 5]) :]

    def _answer(self, asked: Frame) -> None:
        parts: Mapping[str, bytes] = {}
        payload = b""
        if asked.operation == Operation.HELLO:
            fields = [text8(key.encode()) + text16(value.encode()) for key, value in HELLO.items()]
            payload = pack("H", len(fields)) + b"".join(fields)
        elif asked.operation == Operation.PROCESSES:
            pid = int.from_bytes(asked.payload[:4], "little") or PID
            record = pack("IIQIBB", pid, 1, STARTED, 0, ord("A"), 0) + text8(b"pipe")
            parts = {"processes": pack("H", len(record)) + record}
        else:
            name = asked.payload[1 : 1 + asked.payload[0]].decode().removeprefix("qnx.")
            parts = {"procinfo": STREAMS["procinfo"], name: STREAMS[name]}
        sequence = 0
        for stream, content in parts.items():
            for start in range(0, len(content), 200):
                data = b"\0" + text8(stream.encode()) + content[start : start + 200]
                self._put(asked, Kind.DATA, sequence, data)
                sequence += 1
        self._put(asked, Kind.END, sequence, payload)

    def _put(self, asked: Frame, kind: Kind, sequence: int, payload: bytes) -> None:
        self.waiting += encode(Frame(kind, asked.operation, asked.request, sequence, asked.process, payload))


def snapshot(board: Board, limits: Limits = LATE) -> list[vmatlas.Region]:
    with AgentTarget(Agent(board, "board", limits)) as target:
        return list(vmatlas.snapshot(PID, target=target, residency=True))


def measure() -> tuple[int, int]:
    """Bytes on the line up to the hello's end, and in all."""
    board = Board()
    with AgentTarget(Agent(board, "board", LATE)) as target:
        greeted = board.sent
        vmatlas.snapshot(PID, target=target, residency=True)
        return greeted, board.sent


GREETED, ALL = measure()


def test_quiet_line_gives_the_map() -> None:
    assert snapshot(Board()) == WHOLE


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_board_that_dies_in_the_middle_is_lost_with_its_last_words(part: float) -> None:
    with pytest.raises(TargetLost, match="it ended") as caught:
        snapshot(Board(dies_after=GREETED + int((ALL - GREETED) * part)), Limits(silence=PATIENCE, again=PATIENCE / 2))
    assert caught.value.last_words.endswith("Shutdown[0,1] S/C/F=11/1/11")
    assert caught.value.target == "board"


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_board_that_stops_in_the_middle_is_lost_in_time_and_stays_lost(part: float) -> None:
    board = Board(stops_after=GREETED + int((ALL - GREETED) * part))
    target = AgentTarget(Agent(board, "board", SOON))
    with pytest.raises(TargetLost, match="did not answer for"):
        vmatlas.snapshot(PID, target=target)
    board.stops_after = None
    with pytest.raises(TargetLost, match="did not answer for"):
        vmatlas.snapshot(PID, target=target)


@given(st.integers(0, 2**32), st.floats(0.0, 0.06))
@settings(max_examples=examples(40), deadline=None)
def test_noise_both_ways_gives_the_map_or_a_lost_target_and_never_another_map(seed: int, noise: float) -> None:
    board = Board(seed=seed, noise=noise)
    try:
        found = snapshot(board, Limits(silence=PATIENCE, again=0.05, attempts=60))
    except TargetLost:
        assert board.hit > 0
    else:
        assert found == WHOLE


@given(st.integers(0, ALL - 1))
@settings(max_examples=examples(60), deadline=None)
def test_board_that_dies_anywhere_is_lost_and_nothing_else(after: int) -> None:
    with pytest.raises(TargetLost):
        snapshot(Board(dies_after=after), Limits(silence=PATIENCE, again=PATIENCE / 2))


@pytest.mark.parametrize("seed", range(8))
def test_line_on_which_every_12th_piece_is_hit_is_borne(seed: int) -> None:
    board = Board(seed=seed, noise=0.08)
    assert snapshot(board) == WHOLE
    assert board.hit > 0


def test_board_that_answers_of_another_process_is_no_such_process() -> None:
    with AgentTarget(Agent(Board(), "board", LATE)) as target, pytest.raises(NoSuchProcess, match="another process's"):
        vmatlas.snapshot(7, target=target)
