"""The agent's frames, as bytes and back (core/agent/PROTOCOL.md). Pure: no I/O, and nothing that waits.

Bytes from outside are never trusted: no length is believed beyond `MAX_PAYLOAD`, no bytes make `Decoder` raise, and
what it keeps is bounded.
"""

from __future__ import annotations

import enum
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from vmatlas.errors import MalformedData, legible

VERSION = 1
SYNC = b"\x9dVM\xa5"
MAX_PAYLOAD = 32768
"""Bytes: no frame has a longer payload."""

_HEADER = struct.Struct("<4sBBHIIII")
_CHECK = struct.Struct("<I")
HEADER_SIZE = _HEADER.size + _CHECK.size
TRAILER_SIZE = _CHECK.size

STREAM = "agent's answer"
"""The name under which MalformedData speaks of payloads."""

HELLO = "agent's hello"
"""Likewise, of what an agent says of itself."""

_LONGEST_VALUE = 4096
"""Bytes of a text that an agent sends."""


class Kind(enum.IntEnum):
    """What a frame is for."""

    REQUEST = 1
    DATA = 2
    END = 3
    ERROR = 4


class Operation(enum.IntEnum):
    """What an agent can be asked."""

    HELLO = 1
    PING = 2
    SLEEP = 3
    PROCESSES = 4
    ACQUIRE = 5
    QUERY = 6
    ADVISE_PROCESS = 7
    SHUTDOWN = 8
    PIECES = 9
    RESEND = 10
    MAP = 16
    UNMAP = 17
    PROTECT = 18
    LOCK = 19
    UNLOCK = 20
    ADVISE = 21
    MOVE = 22
    TOUCH = 23
    NAME = 24
    PEEK = 25
    POKE = 26
    LOCK_ALL = 27
    PROTECT_EVERY = 28
    FLUSH = 29
    WATCH = 30
    UNWATCH = 31
    WRITE_FILE = 32
    UNLINK = 33
    READ_FILE = 34
    LIST_FOLDER = 35
    STAT_FILE = 36
    READ_LINK = 37
    LOOK_UP = 38
    SPAWN = 48
    END = 49
    REAP = 50
    BECOME = 51
    LIMIT = 52


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame. `kind` and `operation` may be numbers that this version does not know."""

    kind: int
    operation: int
    request: int
    """The id that ties an answer to its request; 0 in an error about bytes that the agent could not read."""
    sequence: int = 0
    process: int = 0
    """0: the agent itself; otherwise the pid of its child that does the work."""
    payload: bytes = b""
    version: int = VERSION

    @property
    def content(self) -> int:
        """Bytes that it brings: of a DATA frame those behind its part's number and its stream's name."""
        if self.kind != Kind.DATA:
            return len(self.payload)
        return max(len(self.payload) - 2 - self.payload[1], 0) if len(self.payload) > 1 else 0


class Flaw(enum.Enum):
    """What was wrong with bytes that began like a frame."""

    CHECK = "wrong CRC"
    LENGTH = "longer than a frame may be"
    CUT = "cut short"


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes that began like a frame and were none.

    `request` is that of its header, or 0 when the header did not hold.
    """

    flaw: Flaw
    request: int = 0


def encode(frame: Frame) -> bytes:
    """The bytes of a frame. Raises ValueError for a number or a payload that does not fit."""
    if len(frame.payload) > MAX_PAYLOAD:
        raise ValueError(f"a payload of {len(frame.payload):,} bytes: at most {MAX_PAYLOAD:,} fit in a frame")
    try:
        header = _HEADER.pack(
            SYNC,
            frame.version,
            frame.kind,
            frame.operation,
            frame.request,
            frame.sequence,
            frame.process,
            len(frame.payload),
        )
    except struct.error as error:
        raise ValueError(f"a frame's number does not fit: {error}") from error
    return b"".join((header, _CHECK.pack(zlib.crc32(header)), frame.payload, _CHECK.pack(zlib.crc32(frame.payload))))


class Decoder:
    """Finds frames in a stream that may hold anything: garbage, cut frames, wrong lengths."""

    def __init__(self, *, keep: int = 4096) -> None:
        """`keep`: how many of the last bytes outside of frames are kept for `stray`."""
        self._buffer = bytearray()
        self._keep = keep
        self._stray = bytearray()

    @property
    def partial(self) -> bool:
        """Whether a frame has begun whose rest is awaited."""
        return bool(self._buffer)

    def coming_of(self, request: int) -> int:
        """How many bytes have come of a frame that has begun, if that is one of this request's answer."""
        return len(self._buffer) if self._buffer and self._request_of_head() == request else 0

    @property
    def stray(self) -> bytes:
        """The last bytes that stood outside of frames: what a console says beside the agent."""
        return bytes(self._stray)

    def feed(self, data: bytes) -> list[Frame | Damage]:
        """Take the next bytes; gives the frames, and the damage, that they complete."""
        self._buffer += data
        return self._drain()

    def cut(self) -> list[Frame | Damage]:
        """The rest of the frame that has begun will not come: look for others inside it."""
        if not self._buffer:
            return []
        damage = Damage(Flaw.CUT, self._request_of_head())
        self._drop(1)
        return [damage, *self._drain()]

    def _request_of_head(self) -> int:
        head = bytes(self._buffer[:HEADER_SIZE])
        if len(head) < HEADER_SIZE or not _head_holds(head):
            return 0
        request: int = _HEADER.unpack_from(head)[4]
        return request

    def _drop(self, count: int) -> None:
        self._stray += self._buffer[:count]
        del self._stray[: max(0, len(self._stray) - self._keep)]
        del self._buffer[:count]

    def _drain(self) -> list[Frame | Damage]:
        found: list[Frame | Damage] = []
        while (one := self._next()) is not None:
            found.append(one)
        return found

    def _next(self) -> Frame | Damage | None:
        start = self._buffer.find(SYNC)
        if start < 0:  # the end may be the start of a sync
            tail = next((size for size in (3, 2, 1) if self._buffer.endswith(SYNC[:size])), 0)
            start = len(self._buffer) - tail
        if start:
            self._drop(start)
        if len(self._buffer) < HEADER_SIZE:
            return None
        head = bytes(self._buffer[:HEADER_SIZE])
        if not _head_holds(head):
            self._drop(1)
            return Damage(Flaw.CHECK)
        _, version, kind, operation, request, sequence, process, length = _HEADER.unpack_from(head)
        if length > MAX_PAYLOAD:
            self._drop(1)
            return Damage(Flaw.LENGTH, request)
        end = HEADER_SIZE + length
        if len(self._buffer) < end + TRAILER_SIZE:
            return None
        payload = bytes(self._buffer[HEADER_SIZE:end])
        if _CHECK.unpack_from(self._buffer, end)[0] != zlib.crc32(payload):
            self._drop(1)
            return Damage(Flaw.CHECK, request)
        del self._buffer[: end + TRAILER_SIZE]
        return Frame(kind, operation, request, sequence, process, payload, version)


def _head_holds(head: bytes) -> bool:
    expected: int = _CHECK.unpack_from(head, _HEADER.size)[0]
    return zlib.crc32(head[: _HEADER.size]) == expected


# ---- payloads ----


def text8(text: bytes) -> bytes:
    """A short text. Raises ValueError above 255 bytes."""
    if len(text) > 255:
        raise ValueError(f"a text of {len(text)} bytes: at most 255 fit here")
    return bytes((len(text),)) + text


def text16(text: bytes) -> bytes:
    """A text, mostly a path. Raises ValueError above 4,096 bytes."""
    if len(text) > 4096:
        raise ValueError(f"a text of {len(text):,} bytes: the agent takes at most 4,096")
    return struct.pack("<H", len(text)) + text


def pack(layout: str, *values: int) -> bytes:
    """Numbers by `struct` letters, little-endian. Raises ValueError for one that does not fit."""
    try:
        return struct.pack("<" + layout, *values)
    except struct.error as error:
        raise ValueError(f"a number does not fit in the request: {error} ({', '.join(map(str, values))})") from error


class Fields:
    """Reads a payload from front to back. Each method raises MalformedData when it is too short."""

    def __init__(self, payload: bytes) -> None:
        self._payload = payload
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes not yet read."""
        return len(self._payload) - self._at

    def numbers(self, layout: str) -> tuple[int, ...]:
        """Numbers by `struct` letters, little-endian."""
        return struct.unpack("<" + layout, self.take(struct.calcsize("<" + layout)))

    def number(self, letter: str) -> int:
        """One number by its `struct` letter."""
        return self.numbers(letter)[0]

    def text8(self) -> bytes:
        """A short text."""
        return self.take(self.number("B"))

    def text16(self) -> bytes:
        """A text."""
        return self.take(self.number("H"))

    def take(self, size: int) -> bytes:
        """So many bytes."""
        if size > self.left:
            raise MalformedData(STREAM, self._at, f"{size} more bytes", found=self._payload[self._at :])
        self._at += size
        return self._payload[self._at - size : self._at]


@dataclass(frozen=True, slots=True)
class Result:
    """What a call gave on the target: its own value and errno."""

    value: int
    """As the call returned it; -1 is failure. Of calls that give an address, the address."""
    errno: int = 0
    """In the target's numbering; 0 when the call succeeded."""
    errno_name: str = ""
    """What the number is called there: "EINVAL"."""
    detail: int = 0
    """See PROTOCOL.md: of `touch`, the address of the fault; of `reap`, the wait status."""

    @property
    def ok(self) -> bool:
        """Whether the call succeeded."""
        return self.errno == 0


def _errno_name(fields: Fields) -> str:
    """Made legible here, since errors repeat it."""
    return legible(fields.text8().decode("ascii", "replace"), 40)


def read_result(payload: bytes) -> Result:
    """The END payload of most operations. Raises MalformedData."""
    fields = Fields(payload)
    value, errno = fields.numbers("qI")
    name = _errno_name(fields)
    return Result(value, errno, name, fields.number("Q"))


@dataclass(frozen=True, slots=True)
class Looked:
    """What `look_up` found: see PROTOCOL.md."""

    errno_name: str
    """Why there is nothing; empty where there is."""
    inode: int
    mode: int
    links: int
    device: tuple[int, int]
    mount: int | None
    """The number of its mount; None where the kernel does not tell it."""

    @property
    def ok(self) -> bool:
        """Whether something is there."""
        return not self.errno_name


def read_looked(payload: bytes) -> Looked:
    """The END payload of `look_up`. Raises MalformedData."""
    fields = Fields(payload)
    value, errno = fields.numbers("qI")
    name = _errno_name(fields)
    inode, mode, links, major, minor, mount = fields.numbers("QIIIIQ")
    failed = (name or str(errno)) if errno or value < 0 else ""
    return Looked(failed, inode, mode, links, (major, minor), None if mount == 2**64 - 1 else mount)


class Origin(enum.IntEnum):
    """Who refused."""

    AGENT = 0
    KERNEL = 1


@dataclass(frozen=True, slots=True)
class Failure:
    """An ERROR frame: why a request has no answer."""

    origin: int
    errno: int
    errno_name: str
    what: str
    """What was being done: "open /proc/7/maps"."""


def read_failure(payload: bytes) -> Failure:
    """Raises MalformedData."""
    fields = Fields(payload)
    origin, errno = fields.numbers("BI")
    name = _errno_name(fields)
    return Failure(origin, errno, name, legible(fields.text16().decode("utf-8", "backslashreplace")))


def read_hello(payload: bytes) -> dict[str, str]:
    """The keys and values of a hello. Raises MalformedData."""
    fields = Fields(payload)
    told: dict[str, str] = {}
    for _ in range(fields.number("H")):
        key = fields.text8().decode("ascii", "replace")
        value = fields.text16()
        if key in told:
            raise MalformedData(HELLO, 0, f"each key once, and not '{key[:40]}' again", found=value)
        if len(value) > _LONGEST_VALUE or b"\0" in value:
            expected = f"'{key[:40]}' to be a text of at most {_LONGEST_VALUE:,} bytes, none of them NUL"
            raise MalformedData(HELLO, 0, expected, found=value)
        told[key] = value.decode("utf-8", "surrogateescape")
    return told


@dataclass(frozen=True, slots=True)
class ListedProcess:
    """One record of the stream `processes`."""

    pid: int
    parent: int
    start_time: int | None
    """In the system's own unit (Linux: clock ticks since boot); None of one about which the kernel does not answer."""
    user: int
    state: str
    """The system's letter; "Z" is a zombie."""
    kernel: bool
    zombie: bool
    name: bytes
    hidden: bool = False
    """It is there, and may not be looked at: all but the pid is empty or 0."""
    number_inside: int | None = None
    """Its number in its own pid namespace, where that is another."""
    lives_on: bool = False
    """Its first thread has ended, and others of it live on."""
    gone: bool = False
    """It was listed, and had ended when it was looked at: all but the pid is empty or 0."""
    thread: bool = False
    """The number that was asked for is that of a thread of the process `parent`: all else is empty or 0."""


def read_processes(stream: bytes) -> list[ListedProcess]:
    """In the order in which the agent saw them. Raises MalformedData."""
    whole = Fields(stream)
    found: list[ListedProcess] = []
    while whole.left:
        record = Fields(whole.take(whole.number("H")))
        pid, parent, start_time, user, state, flags = record.numbers("IIQIBB")
        name = record.text8()
        inside = record.number("I") if record.left >= 4 else 0
        found.append(
            ListedProcess(
                pid,
                parent,
                None if flags & 8 else start_time,
                user,
                chr(state),
                bool(flags & 1),
                bool(flags & 2),
                name,
                bool(flags & 4),
                inside or None,
                bool(flags & 16),
                bool(flags & 32),
                bool(flags & 64),
            )
        )
    return found


MOST_STREAMS = 64
"""Parts of streams in one answer; the most that a source has are eight."""


class Gap(Exception):
    """Frames of an answer are missing: it has to be asked for again."""


@dataclass(slots=True)
class Assembly:
    """Puts the frames of one answer together, as they come."""

    request: int
    last: Frame | None = None
    """The END or ERROR, once it has come."""
    received: int = 0
    """Frames so far."""
    _parts: dict[tuple[str, int], bytearray] = field(default_factory=dict)

    def add(self, frame: Frame) -> bool:
        """Take a frame of the answer; true when it was the last one. Raises Gap, MalformedData."""
        if frame.sequence != self.received:
            raise Gap(f"frame {frame.sequence} came where {self.received} was due")
        self.received += 1
        if frame.kind != Kind.DATA:
            self.last = frame
            return True
        fields = Fields(frame.payload)
        part = fields.number("B")
        name = fields.text8().decode("ascii", "replace")
        if (name, part) not in self._parts and len(self._parts) == MOST_STREAMS:
            raise MalformedData(STREAM, 0, f"at most {MOST_STREAMS} streams and parts of them", found=frame.payload)
        self._parts.setdefault((name, part), bytearray()).extend(fields.take(fields.left))
        return False

    @property
    def streams(self) -> Mapping[str, bytes]:
        """The streams so far, by name: each its parts in the order of their numbers."""
        joined: dict[str, bytes] = {}
        for name in dict.fromkeys(name for name, _ in self._parts):
            joined[name] = b"".join(_ordered(self._parts, name))
        return joined


@dataclass(slots=True)
class Puzzle:
    """Puts the frames of one answer together in whatever order they come, and knows which are missing."""

    request: int
    _frames: dict[int, Frame] = field(default_factory=dict)
    _last: int | None = None

    def put(self, frame: Frame) -> bool:
        """Take a frame of the answer; whether it is a new one. What stands behind its end is none of it."""
        if frame.sequence in self._frames or (self._last is not None and frame.sequence > self._last):
            return False
        self._frames[frame.sequence] = frame
        if frame.kind != Kind.DATA:
            self._last = frame.sequence
            self._frames = {number: each for number, each in self._frames.items() if number <= self._last}
        return True

    @property
    def has_begun(self) -> bool:
        """Whether any frame has come."""
        return bool(self._frames)

    @property
    def has_ended(self) -> bool:
        """Whether the last one has come."""
        return self._last is not None

    @property
    def is_whole(self) -> bool:
        """Whether all have come."""
        return self._last is not None and len(self._frames) == self._last + 1

    def missing(self, most: int) -> list[tuple[int, int]]:
        """At most so many ranges of missing frames, as first and count; the last may go beyond the end."""
        ranges: list[tuple[int, int]] = []
        due = 0
        for sequence in sorted(self._frames):
            if sequence > due:
                ranges.append((due, sequence - due))
            due = sequence + 1
        if self._last is None and due < 2**32:
            ranges.append((due, 2**32 - 1))
        return ranges[:most]

    def assembled(self) -> Assembly:
        """The answer, when it is whole. Raises MalformedData, Gap."""
        assembly = Assembly(self.request)
        for sequence in sorted(self._frames):
            if assembly.add(self._frames[sequence]):
                break
        return assembly


def _ordered(parts: Mapping[tuple[str, int], bytearray], name: str) -> Iterable[bytearray]:
    for key in sorted(key for key in parts if key[0] == name):
        yield parts[key]
