"""What a board may take of us, in seconds and in bytes: whatever it says, a question ends within its limits.

Time is the tests' own: nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

import vmatlas.target.asking as asking
from vmatlas.errors import MalformedData, TargetLost, Unanswered, VmatlasError
from vmatlas.target.asking import Answer, Conversation, Limits
from vmatlas.target.program import AgentProcess
from vmatlas.target.streams import StreamEnded
from vmatlas.target.wire import MOST_STREAMS, Decoder, Frame, Kind, Operation, encode, pack, text8, text16

Coming = Iterator[tuple[float, bytes]]
LIMITS = Limits(silence=10, again=2)


class Clock:
    """Time that passes when something is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(asking, "time", made)
    return made


class Board:
    """A stream whose other side says what `answer` gives for each request: bytes, each after some seconds."""

    def __init__(self, clock: Clock, answer: Callable[[Frame], Coming]) -> None:
        self.clock, self.answer = clock, answer
        self.coming: Coming = iter(())
        self.next: tuple[float, bytes] | None = None
        self.request = 0
        self.closed = False

    def send(self, data: bytes, limit: float) -> None:
        for frame in Decoder().feed(data):
            assert isinstance(frame, Frame)
            if frame.request != self.request:  # a repeat of what is being answered is passed over, as agents do
                self.coming, self.next = self.answer(frame), None
            self.request = frame.request

    def receive(self, limit: float) -> bytes:
        if self.closed:
            raise StreamEnded("it was closed")
        if self.next is None:
            seconds, data = next(self.coming, (1e9, b""))
            self.next = self.clock.now + seconds, data
        due, data = self.next
        if due > self.clock.now + limit:
            self.clock.now += limit
            return b""
        self.clock.now, self.next = max(due, self.clock.now), None
        return data

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


def data(asked: Frame, sequence: int, content: bytes = b"x", stream: bytes = b"maps", request: int = 0) -> bytes:
    payload = b"\0" + text8(stream) + content
    return encode(Frame(Kind.DATA, asked.operation, request or asked.request, sequence, payload=payload))


def end(asked: Frame, sequence: int) -> bytes:
    return encode(Frame(Kind.END, asked.operation, asked.request, sequence))


def refused(asked: Frame, name: bytes, request: int) -> bytes:
    payload = pack("BI", 0, 74) + text8(name) + text16(b"cut")
    return encode(Frame(Kind.ERROR, asked.operation, request, payload=payload))


def endless(asked: Frame) -> Coming:
    for sequence in range(10**9):
        yield 0.001, data(asked, sequence, bytes(32000))


def empty_pieces(asked: Frame) -> Coming:
    for sequence in range(10**9):
        yield 0.001, data(asked, sequence, b"")


def a_frame_each_five_seconds(asked: Frame) -> Coming:
    for sequence in range(10**9):
        yield 5.0, data(asked, sequence)


def answers_to_somebody_else(asked: Frame) -> Coming:
    for sequence in range(10**9):
        yield 0.5, data(asked, sequence, request=asked.request ^ 0x5555)


def pleas(asked: Frame) -> Coming:
    while True:
        yield 0.05, refused(asked, b"EBADMSG", 0)


def the_beginning_again_and_again(asked: Frame) -> Coming:
    while True:
        yield 0.2, data(asked, 0)


def byte_by_byte(asked: Frame) -> Coming:
    for byte in data(asked, 0, bytes(30000)):
        yield 0.5, bytes((byte,))


def noise(asked: Frame) -> Coming:
    while True:
        yield 0.01, bytes(range(1, 255)) * 16


def a_frame_that_is_never_whole(asked: Frame) -> Coming:
    yield 0.0, data(asked, 0, bytes(32000))[:200]
    while True:
        yield 0.9, b"\0"


TALKERS = [
    endless,
    empty_pieces,
    a_frame_each_five_seconds,
    answers_to_somebody_else,
    pleas,
    the_beginning_again_and_again,
    byte_by_byte,
    noise,
    a_frame_that_is_never_whole,
]


def a_byte_in_each_frame(asked: Frame) -> Coming:
    for sequence in range(10**9):
        yield 0.01, data(asked, sequence)


@pytest.mark.parametrize("talk", [empty_pieces, a_byte_in_each_frame])
@pytest.mark.parametrize("in_pieces", [False, True])
def test_frames_that_bring_next_to_nothing_earn_no_time(
    clock: Clock, talk: Callable[[Frame], Coming], in_pieces: bool
) -> None:
    limits = Limits(silence=1, again=0.25)
    conversation = Conversation(Board(clock, talk), "board", limits)
    if in_pieces:
        conversation.can_resend = True
        conversation._in_pieces.add(0)
    with pytest.raises(Unanswered):
        conversation.ask(Operation.ACQUIRE)
    assert limits.talk <= clock.now - 1000 < 2 * limits.talk


@pytest.mark.parametrize("operation", [Operation.HELLO, Operation.PROCESSES, Operation.READ_FILE, Operation.UNLINK])
@pytest.mark.parametrize("talk", TALKERS, ids=lambda talk: talk.__name__)
def test_a_board_that_never_ends_is_left_in_time(
    clock: Clock, talk: Callable[[Frame], Coming], operation: Operation
) -> None:
    limits = Limits(silence=10, again=2, most=1 << 20)
    board = Board(clock, talk)
    conversation = Conversation(board, "board", limits)
    with pytest.raises((Unanswered, MalformedData, TargetLost)) as left:
        conversation.ask(operation)
    assert clock.now - 1000 <= 2 * limits.talk
    assert len(str(left.value)) < 400 and left.value.target == "board"
    with pytest.raises(TargetLost):
        conversation.ask(Operation.PING)
    if not isinstance(left.value, TargetLost):
        assert board.closed, "the connection is closed, and what was started for it is ended"


def test_what_was_waited_for_and_how_much_came_is_told(clock: Clock) -> None:
    conversation = Conversation(Board(clock, a_frame_each_five_seconds), "board", LIMITS)
    with pytest.raises(Unanswered, match=r"did not answer to acquire in 6\d.* s, though it talked: \d+ bytes") as left:
        conversation.ask(Operation.ACQUIRE)
    assert left.value.waits_for == "the end of the answer to acquire"
    assert 60 <= left.value.seconds < 70
    assert left.value.hint and "--patience" in left.value.hint


@pytest.mark.parametrize(("patience", "seconds"), [(2.0, 12), (100.0, 600)])
def test_patience_scales_the_whole(clock: Clock, patience: float, seconds: float) -> None:
    conversation = Conversation(Board(clock, answers_to_somebody_else), "board", Limits(silence=patience))
    with pytest.raises(Unanswered):
        conversation.ask(Operation.ACQUIRE)
    assert seconds <= clock.now - 1000 < seconds + 10


@pytest.mark.parametrize(
    ("operation", "most"),
    [(Operation.HELLO, 1 << 17), (Operation.LIST_FOLDER, 1 << 22), (Operation.PROCESSES, 1 << 24)],
)
def test_an_answer_has_no_more_bytes_than_one_of_its_kind_may(clock: Clock, operation: Operation, most: int) -> None:
    conversation = Conversation(Board(clock, endless), "board", LIMITS)
    with pytest.raises(MalformedData, match=f"an answer to {operation.name.lower()}: it may have {most:,} bytes"):
        conversation.ask(operation)
    assert conversation._received < 1.1 * most + 70_000


def test_what_the_caller_knows_of_the_size_is_the_bound(clock: Clock) -> None:
    conversation = Conversation(Board(clock, endless), "board", LIMITS)
    with pytest.raises(MalformedData, match="it may have 1,000 bytes"):
        conversation.ask(Operation.READ_FILE, most=1000)


def test_streams_without_number_are_malformed(clock: Clock) -> None:
    def many(asked: Frame) -> Coming:
        for sequence in range(10**6):
            yield 0.001, data(asked, sequence, b"x", b"%x" % sequence)

    conversation = Conversation(Board(clock, many), "board", LIMITS)
    with pytest.raises(MalformedData, match=f"at most {MOST_STREAMS} streams"):
        conversation.ask(Operation.ACQUIRE)


@pytest.mark.parametrize("talk", [endless, empty_pieces, a_frame_each_five_seconds, pleas, byte_by_byte])
def test_lost_pieces_that_are_mended_without_end_are_left_in_time(
    clock: Clock, talk: Callable[[Frame], Coming]
) -> None:
    limits = Limits(silence=10, again=2, most=1 << 20)
    conversation = Conversation(Board(clock, talk), "board", limits)
    conversation.can_resend = True
    conversation._in_pieces.add(0)
    with pytest.raises((Unanswered, MalformedData, TargetLost)):
        conversation.ask(Operation.ACQUIRE)
    assert clock.now - 1000 <= 2 * limits.talk


def test_pieces_far_apart_are_bounded_in_number(clock: Clock) -> None:
    def scattered(asked: Frame) -> Coming:
        for sequence in range(10**6):
            yield 0.0001, data(asked, sequence * 1000 + 1)

    conversation = Conversation(Board(clock, scattered), "board", Limits(most=1 << 20))
    conversation._in_pieces.add(0)
    with pytest.raises(MalformedData, match="it may have"):
        conversation.ask(Operation.ACQUIRE)
    assert conversation.frames_received < (1 << 20) / 256 + 10


def line(asked: Frame, baud: int, size: int, content: int) -> Coming:
    """An answer as a serial line brings it."""
    for sequence in range(size // content):
        whole = data(asked, sequence, bytes(content))
        step = min(4096, baud // 20)
        for start in range(0, len(whole), step):
            piece = whole[start : start + step]
            yield len(piece) * 10 / baud, piece
    yield 0.001, end(asked, size // content)


@pytest.mark.parametrize(
    ("baud", "size", "content"),
    [
        (115200, 6_000_000, 32000),  # the map of 60,000 regions: nine minutes
        (115200, 6_000_000, 500),
        (9600, 1_000_000, 32000),  # a frame takes 33 seconds
    ],
)
def test_a_line_that_is_slow_and_honest_is_waited_for(clock: Clock, baud: int, size: int, content: int) -> None:
    conversation = Conversation(Board(clock, lambda asked: line(asked, baud, size, content)), "serial:x", LIMITS)
    answer = conversation.ask(Operation.ACQUIRE)
    assert len(answer.streams["maps"]) == size // content * content
    assert clock.now - 1000 > size * 10 / baud * 0.99 > 500


def test_no_answer_comes_for_longer_than_the_longest(clock: Clock) -> None:
    conversation = Conversation(
        Board(clock, lambda asked: line(asked, 9600, 10_000_000, 32000)), "serial:x", Limits(silence=1)
    )
    with pytest.raises(Unanswered, match="though it talked"):
        conversation.ask(Operation.ACQUIRE)
    assert Limits(silence=1).longest <= clock.now - 1000 < Limits(silence=1).longest + 10


def short(asked: Frame) -> Coming:
    yield 1.0, data(asked, 0)
    yield 0.0, end(asked, 1)


def test_many_requests_are_one_question_with_one_limit(clock: Clock) -> None:
    conversation = Conversation(Board(clock, short), "board", LIMITS)
    question = conversation.question()

    def ask_on() -> Answer:
        with question, conversation.question():  # one within the other is a part of it
            return conversation.ask(Operation.ACQUIRE)

    with pytest.raises(Unanswered):
        for _ in range(1000):
            ask_on()
            clock.now += 100  # what is done between its parts is none of it
    assert LIMITS.talk <= question.seconds < LIMITS.talk * 2


def test_questions_after_one_another_have_each_their_own_limit(clock: Clock) -> None:
    conversation = Conversation(Board(clock, short), "board", LIMITS)
    for _ in range(300):
        with conversation.question():
            conversation.ask(Operation.ACQUIRE)
    assert clock.now - 1000 >= 300


def test_answers_without_end_to_one_question_are_bounded_in_bytes(clock: Clock) -> None:
    def large(asked: Frame) -> Coming:
        for sequence in range(20):
            yield 0.001, data(asked, sequence, bytes(30000))
        yield 0.0, end(asked, 20)

    conversation = Conversation(Board(clock, large), "board", Limits(most=1 << 20))
    with pytest.raises(Unanswered, match="answered without an end: 4,") as left, conversation.question():
        for _ in range(1000):
            conversation.ask(Operation.ACQUIRE)
    assert left.value.waits_for


def test_work_that_is_said_to_take_long_has_that_time_too(clock: Clock) -> None:
    def late(asked: Frame) -> Coming:
        yield 300.0, end(asked, 0)

    conversation = Conversation(Board(clock, late), "board", LIMITS)
    conversation.ask(Operation.SLEEP, patience=300)
    with pytest.raises(TargetLost, match="did not answer for"):
        conversation.ask(Operation.SLEEP, patience=100)


def test_work_has_its_time_once_in_a_question_however_many_requests_say_so(clock: Clock) -> None:
    def soon(asked: Frame) -> Coming:
        yield 1.0, end(asked, 0)

    conversation = Conversation(Board(clock, soon), "board", LIMITS)
    with pytest.raises(Unanswered), conversation.question():
        for _ in range(1000):
            conversation.ask(Operation.SLEEP, patience=5)
    assert LIMITS.talk + 5 <= clock.now - 1000 < 1.5 * LIMITS.talk


def test_no_work_is_said_to_take_longer_than_the_longest(clock: Clock) -> None:
    limits = Limits(silence=1)
    conversation = Conversation(Board(clock, answers_to_somebody_else), "board", limits)
    with pytest.raises(Unanswered):
        conversation.ask(Operation.SLEEP, patience=10 * limits.longest)
    assert limits.longest <= clock.now - 1000 < limits.longest + 10


def test_a_child_that_only_talks_is_given_up_and_so_is_a_board_whose_children_all_do(clock: Clock) -> None:
    board = Board(clock, answers_to_somebody_else)
    conversation = Conversation(board, "board", LIMITS)
    kinds: list[type[VmatlasError]] = []
    while not board.closed:
        with pytest.raises(VmatlasError) as left:
            conversation.ask(Operation.ACQUIRE, process=7, limit=5.0)
        kinds.append(left.type)
    assert set(kinds) == {Unanswered} and len(kinds) == LIMITS.attempts + 1


def test_children_that_are_silent_one_after_another_are_waited_for_no_longer_than_one_question(clock: Clock) -> None:
    board = Board(clock, lambda asked: iter(()))
    conversation = Conversation(board, "board", LIMITS)
    asked = 0
    while not board.closed:
        asked += 1
        with pytest.raises(Unanswered):
            conversation.ask(Operation.ACQUIRE, process=7, limit=5.0)
    assert LIMITS.longest / 10 < asked < LIMITS.longest / 5 + 1
    assert clock.now - 1000 < LIMITS.longest + 10


def test_a_slow_machine_multiplies_the_seconds_and_not_the_bytes() -> None:
    slow = Limits().times(10)
    assert (slow.talk, slow.longest) == (Limits().talk * 10, Limits().longest * 10)
    assert slow.slowest == Limits().slowest / 10 and slow.most == Limits().most


def test_of_a_list_an_answer_that_is_too_long_ends_with_the_next_question(clock: Clock) -> None:
    """One process of an honest board may have more to tell than is taken: the others are asked all the same."""

    def talk(asked: Frame) -> Coming:
        if asked.operation == Operation.ACQUIRE:
            yield from endless(asked)
        yield 0.0, end(asked, 0)

    conversation = Conversation(Board(clock, talk), "board", Limits(most=1 << 20))
    for _ in range(20):
        with pytest.raises(MalformedData, match="an answer to acquire: it may have 1,048,576 bytes"):
            conversation.ask(Operation.ACQUIRE, limit=5.0)
        conversation.ask(Operation.PING, limit=5.0)
    with pytest.raises(MalformedData):
        conversation.ask(Operation.ACQUIRE)
    with pytest.raises(TargetLost):
        conversation.ask(Operation.PING)


def test_a_source_that_is_short_by_nature_may_have_no_map_s_bytes(clock: Clock) -> None:
    told: list[int | None] = []

    class Asked:
        def ask(self, *_: object, most: int | None = None, **__: object) -> Answer:
            told.append(most)
            return Answer({}, b"")

    process = AgentProcess(Asked(), 7, 0)  # type: ignore[arg-type]
    process.acquire("linux.smaps_rollup")
    process.acquire("linux.smaps")
    assert told == [1 << 16, None]
