"""Boards that lie: they answer as a real agent did, or as another system's would, and what they say is damaged.

Everything is drawn from one source of chance, so a conversation is told by its seed. Time is the board's own: nothing
waits.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace

from vmatlas.target.streams import ByteStream, StreamEnded
from vmatlas.target.wire import MAX_PAYLOAD, Decoder, Fields, Frame, Kind, Operation, encode, pack, text8

Script = Callable[[Frame], list[Frame]]
"""What an honest board answers to a request."""

ERRORS = (
    b"ESRCH EPERM EACCES ENOENT ENOTTY EINVAL ENOSYS ENOTSUP ENOBUFS ENOTCONN EXDEV EBADMSG EMSGSIZE ECHILD EAGAIN "
    b"EPROTONOSUPPORT ECANCELED E2BIG EFAULT ENXIO EOPNOTSUPP ENOMEM"
).split()
TEXTS = (
    *(b"\0", b"\n", b"\r\n", b"\x1b[31m", b"\x1b]0;x\x07", b"\xff\xfe", b"\xed\xa0\x80", b"\xe2\x80\xae"),
    *(b" (deleted)", b"\\012", b"//deleted", b"[heap]", b"(", b") ", b"-", b" ", b"[/]", b"/memfd:x (deleted)"),
    *(b"9" * 30, b"0" * 5000, b"9" * 5000, b"A" * 300),
)
NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFF, 0x1000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 2**63 - 1, 2**63, 2**64 - 1)


class Clock:
    """Time that passes when something is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Nobody sleeps."""
        self.now += seconds


class Recorder:
    """Stands before a real agent, and keeps what it answers to what."""

    def __init__(self, agent: ByteStream) -> None:
        self._agent = agent
        self._asked, self._answered = Decoder(), Decoder()
        self._requests: dict[int, Frame] = {}
        self.answers: dict[tuple[int, int, bytes], list[Frame]] = {}

    def send(self, data: bytes, limit: float) -> None:
        """To the agent."""
        for frame in self._asked.feed(data):
            assert isinstance(frame, Frame)
            self._requests[frame.request] = frame
            self.answers[_key(frame)] = []
        self._agent.send(data, limit)

    def receive(self, limit: float) -> bytes:
        """From the agent."""
        data = self._agent.receive(limit)
        for frame in self._answered.feed(data):
            assert isinstance(frame, Frame)
            self.answers[_key(self._requests[frame.request])].append(frame)
        return data

    def last_words(self) -> str:
        """Of the agent."""
        return self._agent.last_words()

    def close(self) -> None:
        """End the agent."""
        self._agent.close()

    def script(self) -> Script:
        """The same answers again; to another question that to the one which begins most like it."""
        nothing = [Frame(Kind.ERROR, 0, 0, payload=refusal(0, 38, b"ENOSYS", b"unknown operation"))]
        answers = {key: frames for key, frames in self.answers.items() if frames}

        def answer(asked: Frame) -> list[Frame]:
            if (found := answers.get(_key(asked))) is not None:
                return found
            alike = [key for key in answers if key[0] == asked.operation]
            nearest = max(alike, key=lambda key: _shared(key[2], asked.payload), default=None)
            return nothing if nearest is None else answers[nearest]

        return answer


def _key(frame: Frame) -> tuple[int, int, bytes]:
    return frame.operation, frame.process, frame.payload


def _shared(one: bytes, other: bytes) -> int:
    """How many bytes they begin alike."""
    shortest = min(len(one), len(other))
    return next((at for at in range(shortest) if one[at] != other[at]), shortest)


def long16(text: bytes) -> bytes:
    """A text, however long."""
    return pack("H", len(text) % 65536) + text


def refusal(origin: int, errno: int, name: bytes, what: bytes) -> bytes:
    """The payload of an ERROR."""
    return pack("BI", origin, errno) + text8(name) + long16(what)


def of_system(hello: Mapping[str, str], pid: int, started: int, sources: Mapping[str, Mapping[str, bytes]]) -> Script:
    """A board of a system that is not at hand, from streams that were recorded on it."""
    pairs = b"".join(text8(key.encode()) + long16(value.encode()) for key, value in hello.items())

    def answer(asked: Frame) -> list[Frame]:
        streams: Mapping[str, bytes] = {}
        payload = b""
        if asked.operation == Operation.HELLO:
            payload = pack("H", len(hello)) + pairs
        elif asked.operation == Operation.PROCESSES:
            record = pack("IIQIBB", pid, 1, started, 0, ord("S"), 0) + text8(b"board")
            streams = {"processes": pack("H", len(record)) + record}
        elif asked.operation == Operation.ACQUIRE:
            source = Fields(asked.payload).text8().decode("ascii", "replace")
            if source not in sources:
                payload = refusal(0, 2, b"ENOENT", b"unknown source")
                return [Frame(Kind.ERROR, 0, 0, payload=payload)]
            streams = sources[source]
        else:
            payload = pack("qI", 4096, 0) + text8(b"") + pack("Q", 5) + bytes(28)
        frames = [
            Frame(Kind.DATA, 0, 0, payload=b"\0" + text8(name.encode()) + content[start : start + 30000])
            for name, content in streams.items()
            for start in range(0, len(content), 30000)
        ]
        return [*frames, Frame(Kind.END, 0, 0, payload=payload)]

    return answer


class Lying:
    """A byte stream to such a board."""

    def __init__(self, script: Script, draw: random.Random | None, clock: Clock) -> None:
        """`draw` says what is a lie; None: nothing is."""
        self._script, self._draw, self._clock = script, draw or random.Random(0), clock
        self._rate = 0.0 if draw is None else draw.choice((0.0, 0.01, 0.05, 0.2, 0.6, 1.0))
        """How often an answer is damaged."""
        self._requests = Decoder()
        self._coming: deque[bytes] = deque()
        self._said: list[list[Frame]] = []
        self._over: list[bytes] = []
        """What it goes on to say for ever, hardly listening."""
        self._is_dead = False
        self.told = 0
        """Bytes that it said."""
        self.closed = False

    def send(self, data: bytes, limit: float) -> None:
        """Each request has its answer."""
        if self._is_dead:
            raise StreamEnded("writing failed: Broken pipe")
        for asked in self._requests.feed(data):
            assert isinstance(asked, Frame), "the host never sends a bad frame"
            self._coming.extend(self._answer(asked))

    def receive(self, limit: float) -> bytes:
        """What is coming, or time passes."""
        if self._is_dead or self.closed:
            raise StreamEnded("it ended")
        if not self._over and self._hits(0.02):
            match self._draw.randrange(8):
                case 0:
                    self._is_dead = True
                    raise StreamEnded("it ended")
                case 1:
                    return self._draw.randbytes(self._draw.randrange(1, 200))
                case _:
                    self._clock.now += self._draw.choice((0.1, 0.6, 1.5, 3.0, 12.0))
                    return b""
        if not self._coming and self._over:
            self._clock.now += 0.2
            self._coming.extend(self._over)
        if not self._coming:
            self._clock.now += max(limit, 0.001)
            return b""
        self._clock.now += 0.0005
        data = self._coming.popleft()
        self.told += len(data)
        return data

    def last_words(self) -> str:
        """None."""
        return ""

    def close(self) -> None:
        """No more is said."""
        self.closed = True

    def _hits(self, share: float = 1.0) -> bool:
        return self._draw.random() < self._rate * share

    def _answer(self, asked: Frame) -> list[bytes]:
        frames = [
            replace(frame, operation=asked.operation, request=asked.request, process=asked.process, sequence=sequence)
            for sequence, frame in enumerate(self._script(asked))
        ]
        if self._hits():
            for _ in range(self._draw.choice((1, 1, 1, 2, 5))):
                frames = self._otherwise(frames)
        self._said.append(frames[:20])
        said = []
        for frame in frames:
            whole = encode(frame)
            if self._hits(0.05):
                at = self._draw.randrange(len(whole))
                whole = self._draw.choice(
                    (whole[:at], whole[:at] + bytes((whole[at] ^ 1 << self._draw.randrange(8),)) + whole[at + 1 :])
                )
            said.append(whole)
        if self._over:
            return [] if self._draw.random() < 0.8 else said
        if self._hits(0.1) and said:
            self._over = said[-3:]
        return said

    def _otherwise(self, frames: list[Frame]) -> list[Frame]:
        draw = self._draw
        if not frames:
            return frames
        at = draw.randrange(len(frames))
        one = frames[at]
        before, behind = frames[:at], frames[at + 1 :]
        match draw.randrange(12):
            case 0:  # a frame is lost, the answer ends there, or nothing comes at all
                return draw.choice((before + behind, before, []))
            case 1:
                return [*before, one, *([one] * draw.choice((1, 3, 50))), *behind]
            case 2:
                return draw.sample(frames, len(frames)) if len(frames) < 50 else frames[::-1]
            case 3:
                others = draw.choice(self._said) if self._said else frames
                return [replace(frame, operation=one.operation, request=one.request) for frame in others] or frames
            case 4:
                return [*before, self._header(one), *behind]
            case 5:
                payload = refusal(
                    draw.randrange(3), draw.choice(NUMBERS) % 2**32, draw.choice(ERRORS), draw.choice(TEXTS) * 3
                )
                return [*before, replace(one, kind=Kind.ERROR, payload=payload)]
            case 6:  # numbered anew, so that only what is said is wrong
                return [replace(frame, sequence=number) for number, frame in enumerate([*before, *behind])]
            case _:
                return [*before, replace(one, payload=self._payload(one.payload)[:MAX_PAYLOAD]), *behind]

    def _header(self, frame: Frame) -> Frame:
        draw = self._draw
        number = draw.choice(NUMBERS) % 2**32
        return draw.choice(
            (
                replace(frame, kind=draw.randrange(6)),
                replace(frame, operation=number % 65536),
                replace(frame, request=draw.choice((number, (frame.request - 1) % 2**32))),
                replace(frame, sequence=number),
                replace(frame, process=number),
                replace(frame, version=draw.randrange(256)),
            )
        )

    def _payload(self, payload: bytes) -> bytes:
        draw = self._draw
        content = bytearray(payload)
        for _ in range(draw.choice((1, 1, 2, 4, 20))):
            at = draw.randrange(len(content) + 1)
            match draw.randrange(8):
                case 0:
                    size = draw.choice((1, 2, 4, 8))
                    content[at : at + size] = (draw.choice(NUMBERS) % 256**size).to_bytes(size, "little")
                case 1:
                    at -= at % 8
                    content[at : at + 8] = draw.choice(NUMBERS).to_bytes(8, draw.choice(("little", "big")))
                case 2:
                    content[at:at] = draw.choice(TEXTS)
                case 3:
                    del content[at : at + draw.choice((1, 2, 8, 100, len(content)))]
                case 4:
                    content[at:at] = content[draw.randrange(len(content) + 1) :][: draw.choice((1, 50, 5000))]
                case 5:
                    self._digits(content)
                case 6:
                    content[at : at + 1] = draw.randbytes(1)
                case _:
                    content[:] = content[:at] + bytes(draw.choice((0, 1, 104, 4096, 30000)))
        return bytes(content)

    def _digits(self, content: bytearray) -> None:
        """A number in a text becomes another one."""
        draw = self._draw
        places = [at for at, byte in enumerate(content[:2000]) if 0x30 <= byte <= 0x39]
        if not places:
            return
        start = end = draw.choice(places)
        while end < len(content) and 0x30 <= content[end] <= 0x39:
            end += 1
        number = str(draw.choice(NUMBERS)).encode()
        content[start:end] = draw.choice(
            (number, b"-" + number, b"%x" % draw.choice(NUMBERS), b"9" * 5000, b"", b"1_0")
        )
