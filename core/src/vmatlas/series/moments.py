"""What a frame holds of a moment: the capture's manifest and its streams, whole or told by the moment before. Pure.

Numbers are LEB128, texts UTF-8 behind their length. A moment begins with two times (64-bit floating point, little-
endian): seconds since 1970, and seconds of a clock that nobody sets. Then, but for one that is the same: the manifest
as in a capture's file (docs/captures.md), without `format`, `time` and `streams`, of one that changed only the fields
that did, as JSON deflated by zlib, empty for none; and each stream: `_SAME`, `_DELTA`, `_DEFLATED` or `_STORED`.
"""

from __future__ import annotations

import dataclasses
import struct
import zlib
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from vmatlas.capture import LARGEST, LARGEST_MANIFEST, Capture, manifest_of, manifest_packed
from vmatlas.errors import MalformedData, UsageError
from vmatlas.series import delta
from vmatlas.series.frames import CHANGED, SAME, WHOLE

MOST_REBUILT = 2**30
"""Bytes that moments told by the one before may make together, since the last whole one: what one of them costs."""

MOST_STEPS = 2**23
"""Bytes of deltas, before they are deflated, since the last whole one: how much work it is to come to a moment."""

MOST_FIELDS = 2**20
"""Bytes of what changed in manifests, as JSON, since the last whole one."""

_TIMES = struct.Struct("<dd")
_SAME, _DELTA, _DEFLATED, _STORED = range(4)
_MOST_STREAMS = 1000
_DICTIONARY = 1 << 14
"""Bytes of the earlier stream that zlib may refer to in a delta."""

_Manifest = Mapping[str, Any]


class Moment(NamedTuple):
    """When a map was recorded, without the map."""

    number: int
    """From 1, in the order in which they were recorded."""
    time: float
    """Seconds since 1970, by a clock that may have been set in between."""
    elapsed: float
    """Seconds since the first moment, by a clock that nobody sets."""
    is_same: bool
    """The kernel's bytes are those of the moment before."""
    size: int
    """Bytes that it takes of the file."""


class Work(NamedTuple):
    """What it takes to come to a moment from the last that stands by itself: all that frames make a reader do.

    That one itself costs what a single capture does. What grows with the bytes of the file alone (how many frames there
    are, how many streams are named) is not counted.
    """

    rebuilt: int = 0
    """Bytes of streams that were made of the moment before."""
    steps: int = 0
    """Bytes of deltas."""
    brought: int = 0
    """Bytes of streams that stand there themselves, deflated or as they are."""
    fields: int = 0
    """Bytes of fields of manifests."""

    def __add__(self, other: object) -> Work:
        """Both."""
        assert isinstance(other, Work)
        return Work(*(here + there for here, there in zip(self, other, strict=True)))

    def is_bounded(self, largest: int) -> bool:
        """Whether a reader does so much, of a file whose moments may have so many bytes."""
        return (
            self.rebuilt <= MOST_REBUILT
            and self.steps <= MOST_STEPS
            and self.brought <= largest
            and self.fields <= MOST_FIELDS
        )


class State(NamedTuple):
    """All of a moment, before a capture is made of it: what the next one may be told by."""

    manifest: _Manifest
    streams: tuple[tuple[str, bytes], ...]
    time: float

    @property
    def size(self) -> int:
        """Bytes of all streams."""
        return sum(len(content) for _, content in self.streams)

    @classmethod
    def of(cls, capture: Capture) -> State:
        """Raises UsageError for a time in no calendar."""
        manifest = capture.manifest()
        for name in ("format", "time", "streams"):
            del manifest[name]
        return cls(manifest, tuple(capture.streams.items()), capture.time)

    def capture(self) -> Capture:
        """As `capture` of the API gave it. Raises MalformedData."""
        from datetime import UTC, datetime

        told = dict(self.manifest)
        try:
            told["time"] = datetime.fromtimestamp(self.time, UTC).isoformat()
        except (ValueError, OverflowError, OSError):
            raise MalformedData("manifest", 0, f"a time of some calendar, not {self.time!r}") from None
        told |= {"format": 1, "streams": {name: len(content) for name, content in self.streams}}
        return dataclasses.replace(Capture.of_manifest(told, dict(self.streams)), time=self.time)


def is_alike(before: State, after: State) -> bool:
    """Whether nothing but the time differs."""
    return before.streams == after.streams and before.manifest == after.manifest


def same(after: State, clock: float) -> tuple[bytes, bytes]:
    """The kind and the content of a frame for what did not change."""
    return SAME, _TIMES.pack(after.time, clock)


def whole(after: State, clock: float, *, stored: bool = False) -> tuple[bytes, bytes]:
    """The same for what stands by itself. Raises UsageError for what is too much for a file."""
    if after.size > LARGEST:
        raise UsageError(
            f"the moment has {after.size:,} bytes, and a file takes {LARGEST:,} of one", hint="record without residency"
        )
    told = bytearray(_TIMES.pack(after.time, clock))
    told += _text(zlib.compress(manifest_packed(after.manifest)))
    told += delta.number(len(after.streams))
    for name, content in after.streams:
        told += bytes([_STORED if stored else _DEFLATED]) + _text(name.encode()) + delta.number(len(content))
        told += content if stored else _text(zlib.compress(content))
    return WHOLE, bytes(told)


def changed(before: State, after: State, clock: float) -> tuple[bytes, bytes, Work]:
    """The same for what differs from the moment before, and how much work it will be to read it."""
    new = {key: value for key, value in after.manifest.items() if before.manifest.get(key, _ABSENT) != value}
    fields = manifest_packed(new) if new else b""
    told = bytearray(_TIMES.pack(after.time, clock))
    told += _text(zlib.compress(fields) if new else b"") + delta.number(len(after.streams))
    index = {name: number for number, (name, _) in enumerate(before.streams)}
    work = Work(fields=len(fields))
    for name, content in after.streams:
        number = index.get(name)
        if number is None:
            told += bytes([_DEFLATED]) + _text(name.encode()) + delta.number(len(content))
            told += _text(zlib.compress(content))
            work += Work(brought=len(content))
            continue
        old = before.streams[number][1]
        if old == content:
            told += bytes([_SAME]) + delta.number(number)
            continue
        steps = delta.encode(old, content)
        deflate = zlib.compressobj(zdict=old[:_DICTIONARY])
        deflated = deflate.compress(steps) + deflate.flush()
        told += bytes([_DELTA]) + delta.number(number) + delta.number(len(content)) + delta.number(len(steps))
        told += _text(deflated)
        work += Work(len(content), len(steps))
    return CHANGED, bytes(told), work


_ABSENT = object()


def times(content: bytes, shown: str, offset: int) -> tuple[float, float]:
    """When a moment was, by the two clocks. Raises MalformedData."""
    if len(content) < _TIMES.size:
        raise MalformedData(shown, offset, "a moment with its two times")
    wall, clock = _TIMES.unpack_from(content)
    if not -1e15 < wall < 1e15 or not -1e15 < clock < 1e15:  # which no number is that is none
        raise MalformedData(shown, offset, f"two times in seconds, not {wall!r} and {clock!r}")
    return wall, clock


def decode(
    kind: bytes, content: bytes, before: State | None, *, shown: str, offset: int, largest: int, done: Work
) -> tuple[State, Work]:
    """The moment of a frame, and what was done to come to it.

    `largest`: the most bytes that its streams may have; `done`: what was done for the moment before. Raises
    MalformedData.
    """
    wall, _ = times(content, shown, offset)
    if kind == WHOLE:
        before, done = State({}, (), wall), Work()
    elif before is None:
        raise MalformedData(shown, offset, "a moment that stands by itself before one that is told by it")
    read = _Reader(content, _TIMES.size, shown, offset, largest, done)
    if kind == SAME:
        read.end()
        return before._replace(time=wall), done
    made = State({**before.manifest, **read.manifest()}, tuple(read.streams(before)), wall)
    return made, Work() if kind == WHOLE else read.done


class _Reader:
    """Takes the content of a frame apart."""

    def __init__(self, content: bytes, at: int, shown: str, offset: int, largest: int, done: Work) -> None:
        self._content, self._at = content, at
        self._largest, self.done = largest, done
        self._shown, self._offset = shown, offset

    def _do(self, work: Work) -> None:
        """Count it, before it is done. Raises MalformedData where it is too much."""
        self.done += work
        if not self.done.is_bounded(self._largest):
            raise self._wrong("a moment that stands by itself, after so many that are told by the one before")

    def _wrong(self, expected: str) -> MalformedData:
        return MalformedData(self._shown, self._offset, f"in the moment there: {expected}")

    def number(self) -> int:
        value, self._at = delta.read_number(self._content, self._at)
        if self._at < 0:
            raise self._wrong("a whole number")
        return value

    def bytes_of(self, size: int) -> bytes:
        if size > len(self._content) - self._at:
            raise self._wrong("as many bytes as it says")
        begin, self._at = self._at, self._at + size
        return self._content[begin : self._at]

    def text(self) -> bytes:
        return self.bytes_of(self.number())

    def end(self) -> None:
        if self._at != len(self._content):
            raise self._wrong("its end")

    def inflated(self, size: int, zdict: bytes = b"") -> bytes:
        """What the next text was before it was deflated: that many bytes, and no more are made."""
        inflate = zlib.decompressobj(zdict=zdict)
        try:
            made = inflate.decompress(self.text(), size + 1)
        except zlib.error as error:
            raise self._wrong(f"what zlib has made ({error})") from None
        if len(made) != size or not inflate.eof or inflate.unused_data:
            raise self._wrong(f"{size:,} bytes, deflated")
        return made

    def manifest(self) -> dict[str, Any]:
        text = self.text()
        if not text:
            return {}
        inflate = zlib.decompressobj()
        try:
            told = inflate.decompress(text, LARGEST_MANIFEST)
        except zlib.error as error:
            raise self._wrong(f"a manifest ({error})") from None
        if not inflate.eof:
            raise self._wrong(f"a manifest of at most {LARGEST_MANIFEST:,} bytes")
        self._do(Work(fields=len(told)))
        try:
            return manifest_of(told)
        except ValueError as error:
            raise self._wrong(f"a manifest: {error}") from None

    def streams(self, before: State) -> Iterator[tuple[str, bytes]]:
        count, left, names = self.number(), self._largest, set()
        if count > _MOST_STREAMS:
            raise self._wrong(f"at most {_MOST_STREAMS} streams")
        for _ in range(count):
            name, content = self._stream(before, left)
            left -= len(content)
            if left < 0 or name in names:
                raise self._wrong(f"streams of different names, of {self._largest:,} bytes together at the most")
            names.add(name)
            yield name, content
        self.end()

    def _stream(self, before: State, left: int) -> tuple[str, bytes]:
        (how,) = self.bytes_of(1)
        if how in (_SAME, _DELTA):
            number = self.number()
            if number >= len(before.streams):
                raise self._wrong("a stream that the moment before has")
            name, old = before.streams[number]
            if how == _SAME:
                return name, old
            return name, self._by_delta(old, left)
        try:
            name = self.text().decode()
        except UnicodeDecodeError:
            raise self._wrong("the name of a stream, in UTF-8") from None
        size = self.number()
        if size > left or how not in (_DEFLATED, _STORED):
            raise self._wrong(f"a stream of at most {left:,} bytes, deflated or as it is")
        self._do(Work(brought=size))
        return name, self.bytes_of(size) if how == _STORED else self.inflated(size)

    def _by_delta(self, old: bytes, left: int) -> bytes:
        size, steps = self.number(), self.number()
        if size > left:
            raise self._wrong(f"a stream of at most {left:,} bytes")
        self._do(Work(size, steps))
        told = self.inflated(steps, old[:_DICTIONARY])
        return delta.decode(old, told, size, stream=self._shown, offset=self._offset)


def _text(content: bytes) -> bytes:
    return delta.number(len(content)) + content
