"""A series as it is read: which moments there are, and the capture of each."""

from __future__ import annotations

import json
import os
from array import array
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import BinaryIO, overload

from vmatlas import arguments
from vmatlas.capture import DENSEST, LARGEST, LARGEST_FILE, Capture, most
from vmatlas.errors import MalformedData
from vmatlas.extents import occupied, open_plain
from vmatlas.notebook import draw
from vmatlas.series import moments
from vmatlas.series.frames import MAGIC, MOST_BEGIN, SAME, SESSION, WHOLE, Cut, Frame, check_begin, content_of, frames
from vmatlas.series.moments import Moment, State, Work
from vmatlas.series.when import Times, nearest


class Series(Sequence[Capture]):
    """The moments of one process in a file, in the order in which they were recorded: each a `Capture`.

        with vmatlas.Series.open("leak.vmatlas") as series:
            print(len(series), series.moments[0].time)
            space = vmatlas.replay(series[-1])
            before, after = series.at("10:00"), series.at("+90s")

    A file whose end was cut (a crash, a full disk) is read up to there: `incomplete` says so. What was appended after
    it was opened is not seen. A context manager. To read one in order costs least.
    """

    def __init__(self, file: BinaryIO, shown: str, size: int) -> None:
        """Use `open` or `read`."""
        self._file, self._shown = file, shown
        self._offsets, self._ends = array("Q"), array("Q")
        self._kinds = bytearray()
        self._times, self._elapsed = array("d"), array("d")
        self._boot: str | None = None
        self._cut: Cut | None = None
        self._end = len(MAGIC)
        self._held: tuple[int, State, Work] | None = None
        check_begin(file, shown)
        on_disk = occupied(file, size, max(LARGEST, size) // DENSEST + 1)
        self._largest = most(on_disk)
        self._look_through(size, on_disk)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Series:
        """The series in a file.

        Raises OSError when it cannot be read or is a pipe or a device, MalformedData when it is no series, is damaged
        (but at its end) or holds no moment, and UsageError when it was written in a newer format.
        """
        shown = os.path.basename(arguments.path(path, "series"))
        file = open_plain(path, "a series")
        try:
            return cls.of_file(file, shown)
        except BaseException:
            file.close()
            raise

    @classmethod
    def of_file(cls, file: BinaryIO, shown: str) -> Series:
        """The same of a regular file that was opened, and is closed with the series; errors call it `shown`."""
        return cls(file, shown, os.fstat(file.fileno()).st_size)

    @classmethod
    def read(cls, file: BinaryIO, name: str = "the stream") -> Series:
        """The series in a stream, a pipe too, to its end: kept whole, so of at most `capture.LARGEST_FILE` bytes.

        Raises what `open` raises.
        """
        from io import BytesIO

        content = file.read(LARGEST_FILE + 1)
        if len(content) > LARGEST_FILE:
            expected = f"the end of a series, which from a stream has at most {LARGEST_FILE:,} bytes"
            raise MalformedData(name, LARGEST_FILE, expected)
        return cls(BytesIO(content), name, len(content))

    def _look_through(self, size: int, on_disk: int) -> None:
        clock = 0.0
        for frame in frames(self._file, self._shown, size, on_disk):
            if isinstance(frame, Cut):
                self._cut = frame
                break
            self._end = frame.end
            if frame.kind == SESSION:
                self._boot = self._boot_of(frame)
                continue
            wall, now = moments.times(frame.begin, self._shown, frame.offset)
            if not self._kinds and frame.kind != WHOLE:
                raise MalformedData(self._shown, frame.offset, "a moment that stands by itself, as the first")
            passed = 0.0
            if (
                self._kinds
            ):  # a clock that goes back is another one: of a time namespace, of another start of the system
                passed = now - clock if now >= clock else max(wall - self._times[-1], 0.0)
            self._elapsed.append(self._elapsed[-1] + passed if self._elapsed else 0.0)
            clock = now
            self._offsets.append(frame.offset)
            self._ends.append(frame.end)
            self._kinds += frame.kind
            self._times.append(wall)
        if not self._kinds:
            raise MalformedData(self._shown, self._end, "a moment: there is none yet, or what there was is cut off")

    def _boot_of(self, frame: Frame) -> str | None:
        """Other fields, as later versions may have, are passed over."""
        try:
            told = json.loads(frame.begin) if frame.length <= MOST_BEGIN else None
        except (ValueError, RecursionError):
            told = None
        boot = told.get("boot") if isinstance(told, dict) else 0
        if boot is not None and not isinstance(boot, str):
            raise MalformedData(self._shown, frame.offset, "who recorded: an object with text or null in 'boot'")
        return boot

    @property
    def name(self) -> str:
        """What errors call it: the name of the file."""
        return self._shown

    @property
    def incomplete(self) -> str | None:
        """None, or why moments may be missing at the end."""
        if self._cut is None:
            return None
        return f"it is cut off within its last moment, at byte {self._cut.offset:,} ({self._cut.size:,} bytes are left)"

    @property
    def end(self) -> int:
        """Where in the file the last whole frame ends."""
        return self._end

    @property
    def boot(self) -> str | None:
        """Which start of the system the last moments are of, where the recorder was told."""
        return self._boot

    @property
    def moments(self) -> list[Moment]:
        """When each was recorded; the maps are not read for it."""
        return [self._moment(index) for index in range(len(self))]

    def _moment(self, index: int) -> Moment:
        return Moment(
            index + 1,
            self._times[index],
            self._elapsed[index],
            self._kinds[index] == SAME[0],
            self._ends[index] - self._offsets[index],
        )

    def __len__(self) -> int:
        return len(self._kinds)

    def __repr__(self) -> str:
        took = f" in {self._elapsed[-1]:.3g} s" if len(self) > 1 else ""
        cut = "" if self._cut is None else ", cut off"
        return f"<Series {self._shown!r}: {len(self):,} moment{'s' * (len(self) != 1)}{took}{cut}>"

    @overload
    def __getitem__(self, index: int) -> Capture: ...

    @overload
    def __getitem__(self, index: slice) -> list[Capture]: ...

    def __getitem__(self, index: int | slice) -> Capture | list[Capture]:
        """The capture of a moment, from 0. Raises IndexError, MalformedData, OSError."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = arguments.whole(index, "number of a moment")
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"the series has {len(self):,} moments")
        return self.state(number).capture()

    def __iter__(self) -> Iterator[Capture]:
        return (self[number] for number in range(len(self)))

    def at(self, when: str) -> Capture:
        """The capture of the moment that words name: see `index`."""
        return self[self.index_at(when)]

    def index_at(self, when: str) -> int:
        """The index of the moment that words name.

        "last", "first"; "#5" (the fifth); "+90s", "+5m", "+1h30m" after the first; "-90s" before the last; "10:00",
        "10:00:30", "2026-11-30T10:00" by the wall clock, in local time: the nearest, which must lie near (within the
        usual step; a minute where no seconds are said). Of several days, a time of day is that of the last that has it.

        Raises UsageError for other words, and where no moment lies near.
        """
        return nearest(Times(self._times, self._elapsed), when)

    def state(self, index: int) -> State:
        """A moment, before a capture is made of it: streams that stayed the same are the same objects."""
        after = self._kinds.rfind(WHOLE, 0, index + 1)
        state, done = None, Work()
        if self._held is not None and after <= self._held[0] <= index:
            after, state, done = self._held[0] + 1, self._held[1], self._held[2]
        for number in range(after, index + 1):
            kind, offset = bytes(self._kinds[number : number + 1]), self._offsets[number]
            state, done = moments.decode(
                kind, self._content(number), state, shown=self._shown, offset=offset, largest=self._largest, done=done
            )
        assert state is not None
        self._held = index, state, done
        return state

    def last(self) -> tuple[State, Work]:
        """The last moment, and what it takes to come to it: for who goes on from there."""
        state = self.state(len(self) - 1)
        assert self._held is not None
        return state, self._held[2]

    def _content(self, number: int) -> bytes:
        return content_of(self._file, self._shown, self._offsets[number], self._ends[number])

    picture = draw

    def close(self) -> None:
        """Let go of the file. Safe to call twice."""
        self._file.close()

    def __enter__(self) -> Series:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
