"""Asking an agent over a byte stream: a request and its whole answer, asked again on a bad line, given up in time.

Knows frames and nothing of what is asked; never waits without a limit, and never keeps more than an answer may have.
All limits on what a board may take of us stand here: `Limits` for a question, `LOGIN_SECONDS` and `MOST_GREETING` for
what comes before the first.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from vmatlas.capture import LARGEST
from vmatlas.errors import MalformedData, OperationFailed, TargetLost, Unanswered, Unsupported, VmatlasError
from vmatlas.target.streams import ByteStream, StreamEnded
from vmatlas.target.wire import (
    HEADER_SIZE,
    STREAM,
    TRAILER_SIZE,
    VERSION,
    Assembly,
    Damage,
    Decoder,
    Failure,
    Fields,
    Frame,
    Gap,
    Kind,
    Operation,
    Origin,
    Puzzle,
    encode,
    pack,
    read_failure,
)

_CHANGING = frozenset(Operation) - {
    Operation.HELLO,
    Operation.PING,
    Operation.SLEEP,
    Operation.PROCESSES,
    Operation.ACQUIRE,
    Operation.QUERY,
    Operation.PIECES,
    Operation.RESEND,
    Operation.PEEK,
    Operation.READ_FILE,
    Operation.LIST_FOLDER,
    Operation.STAT_FILE,
    Operation.READ_LINK,
    Operation.LOOK_UP,
}
"""Operations that must not be done twice: they are asked again under the same id, and the agent remembers."""

_ASK_AGAIN = ("EBADMSG", "EMSGSIZE")
_CUT_SECONDS = 1.0
"""How long the rest of a frame is awaited."""
_PLEA_SECONDS = 0.1
"""How soon to ask again when the agent says that something reached it damaged."""


PIECE = 512
"""Bytes in a frame where larger ones do not come through: at one flipped bit in 10,000 bytes, 95 of 100 do."""
_MOST_RANGES = 32
_QUIET_SECONDS = 1.0
"""No frame for so long within an answer: what is missing is asked for. An agent speaks each half second."""
_WHOLE = frozenset({Operation.HELLO, Operation.PIECES, Operation.RESEND}) | _CHANGING
"""Operations whose answers are never asked for in pieces: they are small, and what changes something is remembered."""


LOGIN_SECONDS = 120.0
"""How long ssh may take until a shell speaks, and again until the agent is there: somebody may type a password."""
MOST_GREETING = 65536
"""The most bytes that a login may print before an agent speaks."""

_TALK = 6.0
"""A board may talk for so many times its silence without bringing an answer further."""
_LONGEST = 720.0
"""No question takes longer than so many times the silence, however well its answer comes: two hours."""
_READINGS = 4
"""The answers to all that one question asks may have so many times the bytes of the largest answer."""
_A_FRAME = 256
"""Bytes that a frame counts at least: so much is kept for the smallest."""

_MOST = {
    Operation.ACQUIRE: LARGEST,
    Operation.QUERY: LARGEST,
    Operation.PEEK: LARGEST,
    Operation.READ_FILE: LARGEST,
    Operation.PROCESSES: 1 << 24,  # 400,000 processes: each is an object here
    Operation.LIST_FOLDER: 1 << 22,  # likewise
    Operation.RESEND: LARGEST,
}
MOST_OF_SOURCE = {"linux.smaps_rollup": 1 << 16}
"""Bytes that an answer of a source may have that is short by nature, whatever it is asked about."""
_MOST_ELSE = 1 << 17
"""Bytes that an answer may have; what a caller knows better, it says (`most`)."""


class Deadline:
    """When a whole conversation is over, however well it goes: after some seconds, or as soon as anybody ends it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = time.monotonic() + seconds
        self.why = f"the {seconds:g} s that it may take in all are over"
        """What an error says."""

    def end(self, why: str) -> None:
        """From now on it is over; from any thread. `why` is told in the error."""
        self.why, self._until = why, min(self._until, time.monotonic())

    @property
    def left(self) -> float:
        """Seconds until then; 0 when it is over."""
        return max(self._until - time.monotonic(), 0.0)

    @property
    def over(self) -> float:
        """Seconds since then; 0 before."""
        return max(time.monotonic() - self._until, 0.0)

    def check(self, name: str) -> None:
        """Raises TargetLost when it is over; `name` is the target's."""
        if not self.left:
            raise TargetLost(self.why, target=name)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much patience and how much room a board is given.

    A question is what the user asked, however many requests it takes. It is given up
    - when no frame came for `silence` seconds (TargetLost);
    - after `talk` seconds in which the board talked and brought no answer, where each `slowest` bytes of an answer, and
      of requests, are one second more, and work that is known to be long has its time, once; after `longest` seconds at
      the very most (Unanswered);
    - when an answer has more bytes than one of its kind may have, `most` at the most (MalformedData), or when all
      answers together have four times `most` (Unanswered).

    So a line that is slow and honest is waited for, and one that only looks alive is not. The connection is closed
    then, but in a list for the first 16 answers that do not come to an end, and for those that are too long, which the
    next question ends. A slow machine (emulated) multiplies the seconds.
    """

    silence: float = 10.0
    """No frame for so long: the target is lost."""
    again: float = 2.0
    """No frame for so long: the request is sent again."""
    attempts: int = 16
    """How many damaged answers to one question make a target lost."""
    slowest: float = 480.0
    """Bytes a second: an answer that comes no faster (half of a line of 9,600 baud) is not waited for."""
    most: int = LARGEST
    """Bytes that an answer may have: as many as a capture."""
    deadline: Deadline | None = None
    """When the whole conversation is over, from the connecting on, whatever else these limits allow (TargetLost)."""

    def connecting(self) -> float:
        """Seconds that connecting may take."""
        return self.silence if self.deadline is None else min(self.silence, max(self.deadline.left, 0.001))

    @property
    def talk(self) -> float:
        """Seconds: how long a board may talk and bring no answer."""
        return _TALK * self.silence

    @property
    def longest(self) -> float:
        """Seconds: how long a question may take whose answer comes well."""
        return _LONGEST * self.silence

    def times(self, factor: float) -> Limits:
        """The same, for a machine that is so many times slower."""
        return replace(
            self, silence=self.silence * factor, again=self.again * factor, slowest=self.slowest / max(factor, 1.0)
        )


class Question:
    """What a question has taken of its limits so far. A context manager, entered for each part of it.

    What is asked in the thread that has entered it, of the same conversation, is part of it.
    """

    def __init__(self, current: threading.local) -> None:
        """`current`: where the conversation looks for it."""
        self.seconds = 0.0
        """How long answers were waited for."""
        self.patience = 0.0
        """The longest time that work of it was said to take without a sign of life: given once, however many requests
        say so."""
        self.kept = 0
        """Bytes of answers, each frame counted with what it costs here."""
        self.useful = 0
        """Bytes of requests, and of what brought an answer further: of a frame at most twice what it holds, so that
        frames which hold nothing earn nothing."""
        self._current = current
        self._depth = 0
        self._outer: Question | None = None

    def __enter__(self) -> Question:
        if not self._depth:
            self._outer = getattr(self._current, "question", None)
            if self._outer is None:
                self._current.question = self
        self._depth += 1
        return self

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if not self._depth and self._outer is None:
            self._current.question = None


_LONG = 1.0
"""Seconds after which an answer is worth a word to who waits for it."""


class Listener(Protocol):
    """Who shows that an answer is still waited for."""

    def waiting(self, name: str, received: int, seconds: float) -> None:
        """The target's name, the bytes that came since it was asked, and how long that is ago."""
        ...

    def done(self) -> None:
        """It has come, or will not."""
        ...


_listeners: list[Listener] = []


@contextlib.contextmanager
def heard_by(listener: Listener) -> Iterator[None]:
    """While this lasts, the listener is told of every answer that takes longer than a second."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


class AgentRefused(OperationFailed):
    """The agent, or its kernel, answered with an error. `streams` is what came before it."""

    def __init__(self, failure: Failure, streams: Mapping[str, bytes], target: str) -> None:
        who = "the agent" if failure.origin == Origin.AGENT else "the kernel"
        super().__init__(
            f"{who} refused: {failure.what or 'no reason given'}: {failure.errno_name}",
            errno=failure.errno,
            errno_name=failure.errno_name,
            target=target,
        )
        self.failure = failure
        self.streams = dict(streams)

    @property
    def by_kernel(self) -> bool:
        """Whether the errno is the kernel's own, not the agent's."""
        return self.failure.origin == Origin.KERNEL

    @property
    def other_numbers(self) -> Unsupported | None:
        """What it means when the agent refuses all questions about processes: EXDEV, see PROTOCOL.md. Else None."""
        if self.by_kernel or self.errno_name != "EXDEV":
            return None
        return Unsupported(
            f"{self.failure.what}: a number means another process there than to the agent",
            target=self.target,
            hint="run the agent where /proc is of its own pid namespace: mount -t proc proc /proc in its mount "
            "namespace, or let nsenter enter that as well (-m)",
        )


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer: its streams, and the payload of its last frame."""

    streams: Mapping[str, bytes]
    payload: bytes


class Conversation:
    """One host's talk with one agent. For one question at a time: others wait for their turn."""

    def __init__(self, stream: ByteStream, name: str, limits: Limits) -> None:
        """`name` is the target's, for errors."""
        self.name = name
        self.limits = limits
        self.frames_received = 0
        """Counted over the talk; so tests see what a question costs."""
        self.requests_sent = 0
        """Likewise; one for each way there and back."""
        self._stream = stream
        self._decoder = Decoder()
        self._lock = threading.Lock()
        self._lost: str | None = None
        self._words = ""
        self._current = threading.local()
        self._question = Question(self._current)
        self._asked: Frame
        self._most = 0
        self._kept = 0
        """Bytes of the answer that is coming, as `Question.kept`."""
        self._answered = 0
        """The same, as the board counts them."""
        self._heard_at = 0.0
        """When a frame came, or bytes of one of the answer."""
        self._moved_at = 0.0
        """When any byte came."""
        self._asked_at = 0.0
        self._received = 0
        self._patience = 0.0
        self._limit: float | None = None
        self._given_up = 0
        self._in_vain = 0.0
        """Seconds for which questions were waited for that were given up."""
        self.can_resend = False
        """Whether the agent says that it can send what was lost again."""
        self._in_pieces: set[int] = set()
        """The processes there (0: the agent) that answer in pieces since answers came damaged."""
        self._next_request = random.randrange(1, 2**31)

    def close(self) -> None:
        """End it, and what was started for it. Safe to call twice."""
        if self._lost is None:
            self._lost = "the connection was closed"
        self._stream.close()

    def question(self) -> Question:
        """What is asked while it is entered, in this thread, is one question: the limits are for all of it."""
        return Question(self._current)

    def ask(
        self,
        operation: Operation,
        payload: bytes = b"",
        *,
        process: int = 0,
        patience: float = 0.0,
        limit: float | None = None,
        most: int | None = None,
    ) -> Answer:
        """One request and its whole answer.

        `process` is the pid of a child of the agent that shall do the work, or 0. `patience`: how many seconds the
        work itself may take without a sign of life; a question has the longest of its requests' once. `limit`: after so
        many seconds without one the question is given up, and the target is not lost. `most`: bytes that the answer may
        have, where the caller knows that.

        Raises Unanswered, AgentRefused, TargetLost, MalformedData, Unsupported (another protocol).
        """
        with self._lock:
            if self._lost is not None:
                raise TargetLost(self._lost, last_words=self._words, target=self.name)
            self._question = getattr(self._current, "question", None) or Question(self._current)
            self._question.patience = max(self._question.patience, patience)
            self._question.useful += HEADER_SIZE + len(payload) + TRAILER_SIZE
            self._asked_at, self._received = time.monotonic(), 0
            self._patience, self._limit = patience, limit
            self._most = min(_MOST.get(operation, _MOST_ELSE) if most is None else most, self.limits.most)
            try:
                return self._ask(operation, payload, process, patience)
            except StreamEnded as error:
                self._hear_it_out()
                asked = operation.name.lower()
                raise self._lose(f"the target was lost while it was asked to {asked}: {error}") from None
            except MalformedData as error:
                raise error.located(target=self.name) from None
            finally:
                self._question.seconds += time.monotonic() - self._asked_at
                for listener in _listeners:
                    listener.done()

    def _receive(self, limit: float) -> bytes:
        """What comes within so long; who waits for it is told."""
        data = self._stream.receive(limit)
        self._received += len(data)
        if _listeners and (seconds := time.monotonic() - self._asked_at) > _LONG:
            for listener in _listeners:
                listener.waiting(self.name, self._received, seconds)
        if not data and self._limit is not None and (silent := time.monotonic() - self._heard_at) > self._limit:
            error = Unanswered(f"no answer came for {silent:.3g} s", seconds=silent, target=self.name)
            self._in_vain += silent
            if self._in_vain > self.limits.longest:
                self._give_up(error)
            raise error
        return data

    def _hear(self, until: float) -> list[Frame | Damage]:
        """The frames and the damage of one reading; nothing when it is time to ask again. The one place that waits.

        What the line echoes is left out. Raises Unanswered when the question is to be given up, StreamEnded.
        """
        now = time.monotonic()
        self._check_time(now)
        data = self._receive(min(max(until - now, 0.0), _CUT_SECONDS) + 0.001)
        now = time.monotonic()
        if data:
            self._moved_at = now
            found = self._decoder.feed(data)
            if self._decoder.coming_of(self._asked.request):
                self._heard_at = now
        elif self._decoder.partial and now - self._moved_at >= _CUT_SECONDS:
            found = self._decoder.cut()
        else:
            return []
        heard = [each for each in found if isinstance(each, Damage) or each.kind != Kind.REQUEST]
        frames = sum(isinstance(each, Frame) for each in heard)
        if frames:
            self._heard_at = now
            self.frames_received += frames
        return heard

    def _check_time(self, now: float) -> None:
        """Raises TargetLost when nothing came for too long, Unanswered when the question takes more than it may."""
        question, limits = self._question, self.limits
        if limits.deadline is not None and not limits.deadline.left:
            lost = self._lose(limits.deadline.why)
            self._stream.close()
            raise lost
        if now - self._heard_at > limits.silence + self._patience:
            raise self._lose(f"the target did not answer for {now - self._heard_at:.0f} s")
        taken = question.seconds + now - self._asked_at
        usual = limits.talk if self._limit is None else min(limits.talk, _TALK * self._limit)
        coming = question.useful + self._decoder.coming_of(self._asked.request)
        if taken <= min(question.patience + usual + coming / limits.slowest, limits.longest):
            return
        self._given_up += 1
        what = self._asked_for()
        error = Unanswered(
            f"the target did not answer to {what} in {taken:.3g} s, though it talked: {self._received:,} bytes came, "
            f"of them {self._answered:,} of the answer",
            seconds=taken,
            waits_for=f"the end of the answer to {what}",
            target=self.name,
            hint="to wait longer: --patience SECONDS (in Python: Limits(silence=))",
        )
        if self._limit is None or self._given_up > limits.attempts:
            self._give_up(error)
        raise error

    def _keep(self, frame: Frame) -> None:
        """Count a frame that brought the answer further. Raises MalformedData, Unanswered when that is too much."""
        question = self._question
        size = len(frame.payload)
        question.useful += min(HEADER_SIZE + size + TRAILER_SIZE, 2 * frame.content)
        question.kept += size + _A_FRAME
        self._kept += size + _A_FRAME
        self._answered += size
        seconds = time.monotonic() - self._asked_at
        if self._kept > self._most + _A_FRAME:
            what = f"the end of an answer to {self._asked_for()}: it may have {self._most:,} bytes"
            error = MalformedData(STREAM, self._answered, f"{what} ({seconds:.3g} s)", target=self.name)
            if self._limit is None:
                self._give_up(error)
            # Of a list one process is given up, which may have that much to tell on an honest board: the next request
            # ends what is still coming.
            raise error
        if question.kept > _READINGS * self.limits.most:
            what = self._asked_for()
            told = f"{question.kept:,} bytes came in {question.seconds + seconds:.3g} s, the last in answer to {what}"
            self._give_up(
                Unanswered(
                    f"the target answered without an end: {told}",
                    seconds=question.seconds + seconds,
                    waits_for=f"the end of the answers to {what}",
                    target=self.name,
                )
            )

    def _asked_for(self) -> str:
        return Operation(self._asked.operation).name.lower()

    def _give_up(self, error: VmatlasError) -> None:
        """Let nothing of the conversation live on. Raises the error."""
        self._lost = f"the connection was closed: {error.message}"
        self._stream.close()
        raise error

    def _hear_it_out(self) -> None:
        """What the target said last may still be on its way; bounded, for one that never stops talking."""
        with contextlib.suppress(StreamEnded):
            for _ in range(64):
                if not (data := self._stream.receive(0)):
                    return
                self._decoder.feed(data)

    def _lose(self, message: str) -> TargetLost:
        self._words = "\n".join(
            filter(None, (self._decoder.stray.decode("utf-8", "backslashreplace").strip(), self._stream.last_words()))
        )
        self._lost = message
        return TargetLost(message, last_words=self._words, target=self.name)

    def _new_request(self) -> int:
        self._next_request = self._next_request % 0xFFFFFFFF + 1
        return self._next_request

    def _ask(self, operation: Operation, payload: bytes, process: int, patience: float) -> Answer:
        request = self._new_request()
        self._heard_at = self._moved_at = time.monotonic()
        for _ in range(self.limits.attempts):
            asked = Frame(Kind.REQUEST, operation, request, process=process, payload=payload)
            self._asked, self._kept, self._answered = asked, 0, 0
            if operation not in _WHOLE and process in self._in_pieces:
                assembly = self._collect_pieces(asked, patience)
            else:
                assembly = self._collect(asked, patience)
            if assembly is not None:
                return self._finish(assembly)
            if operation not in _CHANGING:
                if operation not in _WHOLE and self.can_resend:
                    self._ask_for_pieces(process)
                request = self._new_request()  # ends what may still be coming of the damaged answer
        raise self._lose(f"no undamaged answer in {self.limits.attempts} attempts to {operation.name.lower()}")

    def _send(self, asked: Frame) -> None:
        self.requests_sent += 1
        self._stream.send(encode(asked), self.limits.connecting())

    def _collect(self, asked: Frame, patience: float) -> Assembly | None:
        """Ask, and ask the same again after each silence; gives the answer, or None when it came damaged."""
        self._send(asked)
        assembly = Assembly(asked.request)
        again = self.limits.again + patience
        due = time.monotonic() + again
        while True:
            if time.monotonic() >= due:
                self._send(asked)
                due = time.monotonic() + again
            for each in self._hear(due):
                if isinstance(each, Damage):
                    if each.request == asked.request:
                        return None
                    continue
                if each.request == 0 and _is_plea(each):
                    due = min(due, time.monotonic() + _PLEA_SECONDS)  # often several at once, after one burst of noise
                if each.request != asked.request:
                    continue
                due = time.monotonic() + again
                try:
                    complete = assembly.add(each)
                except Gap:
                    # From the beginning: the agent was done, and answers a repeat. That counts as an attempt.
                    return None
                self._keep(each)
                if complete:
                    return None if _is_plea(each) else assembly

    def _ask_for_pieces(self, process: int) -> None:
        """Let answers come in small frames, which the agent remembers."""
        payload = pack("I", PIECE)
        for _ in range(self.limits.attempts):
            asked = Frame(Kind.REQUEST, Operation.PIECES, self._new_request(), process=process, payload=payload)
            self._asked, self._kept, self._answered = asked, 0, 0
            assembly = self._collect(asked, 0.0)
            if assembly is not None:
                if assembly.last is not None and assembly.last.kind == Kind.END:
                    self._in_pieces.add(process)
                return

    def _collect_pieces(self, asked: Frame, patience: float) -> Assembly | None:
        """Ask, and ask again for what is missing; gives the answer, or None when that is no longer to be had."""
        self._send(asked)
        puzzle = Puzzle(asked.request)
        quiet = max(_QUIET_SECONDS, self.limits.again / 2)
        due = time.monotonic() + self.limits.again + patience
        mending = 0  # the request by which missing frames are being asked for
        attempts = 0
        while True:
            if time.monotonic() >= due:
                if puzzle.has_begun:
                    if attempts == self.limits.attempts:
                        return None
                    attempts += 1
                    mending = self._ask_for_missing(puzzle, asked)
                    due = time.monotonic() + quiet
                else:
                    self._send(asked)
                    due = time.monotonic() + self.limits.again + patience
            for each in self._hear(due):
                if isinstance(each, Damage):
                    continue
                if _is_plea(each):
                    due = min(due, time.monotonic() + _PLEA_SECONDS)
                elif each.request == asked.request or (mending and each.request == mending):
                    if each.kind == Kind.ERROR and (each.request == mending or _is_forgotten(each)):
                        return None
                    is_mended = each.request == mending and each.kind == Kind.END
                    for piece in [each] if each.request == asked.request else _resent(each, asked.request):
                        if puzzle.put(piece):
                            attempts = 0
                            self._keep(piece)
                    now = time.monotonic()
                    due = now if is_mended or (puzzle.has_ended and not mending) else now + quiet
            if puzzle.is_whole:
                return puzzle.assembled()

    def _ask_for_missing(self, puzzle: Puzzle, asked: Frame) -> int:
        """Send the request for it; gives its id."""
        ranges = b"".join(pack("II", *each) for each in puzzle.missing(_MOST_RANGES))
        payload = pack("I", asked.request) + ranges
        request = self._new_request()
        self._send(Frame(Kind.REQUEST, Operation.RESEND, request, process=asked.process, payload=payload))
        return request

    def _finish(self, assembly: Assembly) -> Answer:
        assert assembly.last is not None
        if assembly.last.kind != Kind.ERROR:
            return Answer(assembly.streams, assembly.last.payload)
        failure = read_failure(assembly.last.payload)
        if failure.errno_name == "EPROTONOSUPPORT" and failure.origin == Origin.AGENT:
            raise Unsupported(
                f"the agent speaks another protocol than version {VERSION}: {failure.what}",
                target=self.name,
                hint="use an agent and a vmatlas of the same version",
            )
        if failure.errno_name == "ENOTCONN" and failure.origin == Origin.AGENT:
            raise self._lose("the agent has died and was started anew; what was made through it is gone")
        raise AgentRefused(failure, assembly.streams, self.name)


def _resent(frame: Frame, request: int) -> list[Frame]:
    """The frames of an answer that stand, as they were, in the answer to a resend."""
    if frame.kind != Kind.DATA:
        return []
    fields = Fields(frame.payload)
    fields.number("B")
    fields.text8()
    found = Decoder().feed(fields.take(fields.left))
    return [each for each in found if isinstance(each, Frame) and each.request == request]


def _is_forgotten(frame: Frame) -> bool:
    """Whether the agent says that it gave this answer, and does not remember it."""
    failure = read_failure(frame.payload)
    return failure.origin == Origin.AGENT and failure.errno_name == "ENOBUFS"


def _is_plea(frame: Frame) -> bool:
    """Whether the agent says that the request reached it damaged."""
    if frame.kind != Kind.ERROR:
        return False
    failure = read_failure(frame.payload)
    return failure.origin == Origin.AGENT and failure.errno_name in _ASK_AGAIN
