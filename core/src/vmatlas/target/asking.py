"""Asking an agent over a byte stream: a request and its whole answer, asked again on a bad line, given up in time.

Knows frames and nothing of what is asked; never waits without a limit.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from vmatlas.errors import OperationFailed, TargetLost, Unanswered, Unsupported
from vmatlas.target.streams import ByteStream, StreamEnded
from vmatlas.target.wire import (
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


@dataclass(frozen=True, slots=True)
class Limits:
    """How patient the host is, in seconds. A slow machine (emulated) multiplies them."""

    silence: float = 10.0
    """No frame for so long: the target is lost."""
    again: float = 2.0
    """No frame for so long: the request is sent again."""
    attempts: int = 16
    """How many damaged answers to one question make a target lost."""

    def times(self, factor: float) -> Limits:
        """The same, for a machine that is so many times slower."""
        return replace(self, silence=self.silence * factor, again=self.again * factor)


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
        self._heard_at = 0.0
        self._asked_at = 0.0
        self._received = 0
        self._limit: float | None = None
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

    def ask(
        self,
        operation: Operation,
        payload: bytes = b"",
        *,
        process: int = 0,
        patience: float = 0.0,
        limit: float | None = None,
    ) -> Answer:
        """One request and its whole answer.

        `process` is the pid of a child of the agent that shall do the work, or 0. `patience`: how many seconds the
        work itself may take without a sign of life. `limit`: after so many seconds without one the question is given
        up, and the target is not lost.

        Raises Unanswered, AgentRefused, TargetLost, MalformedData, Unsupported (another protocol).
        """
        with self._lock:
            if self._lost is not None:
                raise TargetLost(self._lost, last_words=self._words, target=self.name)
            self._asked_at, self._received, self._limit = time.monotonic(), 0, limit
            try:
                return self._ask(operation, payload, process, patience)
            except StreamEnded as error:
                self._hear_it_out()
                asked = operation.name.lower()
                raise self._lose(f"the target was lost while it was asked to {asked}: {error}") from None
            finally:
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
            raise Unanswered(f"no answer came for {silent:.3g} s", seconds=silent, target=self.name)
        return data

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
        self._heard_at = time.monotonic()
        for _ in range(self.limits.attempts):
            asked = Frame(Kind.REQUEST, operation, request, process=process, payload=payload)
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
        self._stream.send(encode(asked), self.limits.silence)

    def _collect(self, asked: Frame, patience: float) -> Assembly | None:
        """Ask, and ask the same again after each silence; gives the answer, or None when it came damaged."""
        self._send(asked)
        assembly = Assembly(asked.request)
        again = self.limits.again + patience
        moved = time.monotonic()  # when any byte at all came
        due = moved + again  # when to ask again
        while True:
            now = time.monotonic()
            if now >= due:
                if now - self._heard_at > self.limits.silence + patience:
                    raise self._lose(f"the target did not answer for {now - self._heard_at:.0f} s")
                self._send(asked)
                due = now + again
            data = self._receive(min(due - now, _CUT_SECONDS) + 0.001)
            now = time.monotonic()
            if data:
                moved = now
                found = self._decoder.feed(data)
            elif self._decoder.partial and now - moved >= _CUT_SECONDS:
                found = self._decoder.cut()
            else:
                continue
            for each in found:
                if isinstance(each, Damage):
                    if each.request == asked.request:
                        return None
                    continue
                if each.kind == Kind.REQUEST:
                    continue  # our own words: the line echoes
                self._heard_at = now
                self.frames_received += 1
                if each.request == 0 and _is_plea(each):
                    due = min(due, now + _PLEA_SECONDS)  # often several at once, after one burst of noise
                if each.request != asked.request:
                    continue
                due = now + again
                try:
                    complete = assembly.add(each)
                except Gap:
                    if each.sequence != 0:
                        return None
                    assembly = Assembly(asked.request)  # the agent was done, and answers a repeat from the beginning
                    complete = assembly.add(each)
                if complete:
                    return None if _is_plea(each) else assembly

    def _ask_for_pieces(self, process: int) -> None:
        """Let answers come in small frames, which the agent remembers."""
        payload = pack("I", PIECE)
        for _ in range(self.limits.attempts):
            asked = Frame(Kind.REQUEST, Operation.PIECES, self._new_request(), process=process, payload=payload)
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
        moved = time.monotonic()
        due = moved + self.limits.again + patience
        mending = 0  # the request by which missing frames are being asked for
        attempts = 0
        while True:
            now = time.monotonic()
            if now >= due:
                if now - self._heard_at > self.limits.silence + patience:
                    raise self._lose(f"the target did not answer for {now - self._heard_at:.0f} s")
                if puzzle.has_begun:
                    if attempts == self.limits.attempts:
                        return None
                    attempts += 1
                    mending = self._ask_for_missing(puzzle, asked)
                    due = now + quiet
                else:
                    self._send(asked)
                    due = now + self.limits.again + patience
            data = self._receive(max(min(due - now, _CUT_SECONDS), 0) + 0.001)
            now = time.monotonic()
            if data:
                moved = now
                found = self._decoder.feed(data)
            elif self._decoder.partial and now - moved >= _CUT_SECONDS:
                found = self._decoder.cut()
            else:
                continue
            for each in found:
                if isinstance(each, Damage) or each.kind == Kind.REQUEST:
                    continue
                self._heard_at = now
                self.frames_received += 1
                if _is_plea(each):
                    due = min(due, now + _PLEA_SECONDS)
                elif each.request == asked.request or (mending and each.request == mending):
                    if each.kind == Kind.ERROR and (each.request == mending or _is_forgotten(each)):
                        return None
                    is_mended = each.request == mending and each.kind == Kind.END
                    pieces = [each] if each.request == asked.request else _resent(each, asked.request)
                    attempts = 0 if sum(puzzle.put(piece) for piece in pieces) else attempts
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
