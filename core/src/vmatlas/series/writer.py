"""A series as it is written: one moment after another, by one writer, of one process."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import time
from types import TracebackType

from vmatlas import arguments
from vmatlas.capture import Capture, most
from vmatlas.errors import UsageError
from vmatlas.series import moments
from vmatlas.series.frames import MAGIC, SESSION, append, packed, to_disk
from vmatlas.series.moments import State, Work
from vmatlas.series.reader import Series
from vmatlas.writing import open_regular, write_whole

_WHO = ("pid", "start_time", "target", "system")
"""Fields of the manifest that tell a process from any other, together with the start of the system."""


class SeriesWriter:
    """Appends moments to a file; it alone, as long as it is open. A context manager.

    What was appended is on the disk when `add` comes back. A crash within leaves a cut last moment, which readers pass
    over and the next writer cuts away; a full disk (OSError) leaves what was there, also of a file that is replaced:
    that stands until the first moment has been written.
    """

    _replacing: bytes | None = None
    """How the file begins, where an older one stands in its place until there is a moment."""

    def __init__(self, path: str | os.PathLike[str], *, replace: bool = False, boot: str | None = None) -> None:
        """A new file. Raises FileExistsError where there is one and it is not to be replaced, UsageError where another
        writer has it open, OSError (a link of somebody else's, too: see `vmatlas.writing`)."""
        self._begin(path, boot)
        self._descriptor = open_regular(self._path, os.O_RDWR | os.O_CREAT | (0 if replace else os.O_EXCL))
        begin = MAGIC + packed(SESSION, self._session())
        try:
            self._lock()
            if os.fstat(self._descriptor).st_size:
                self._replacing, self._at = begin, len(begin)
            else:
                self._at = append(self._descriptor, begin, 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    @classmethod
    def appending(cls, path: str | os.PathLike[str], *, boot: str | None = None) -> SeriesWriter:
        """To a series that is there; a cut last moment is cut away (`cut_away` has its bytes).

        Raises UsageError where another writer has it open, and for a capture of format 1; MalformedData for what is no
        series; OSError.
        """
        self = cls.__new__(cls)
        self._begin(path, boot)
        self._descriptor = open_regular(self._path, os.O_RDWR)
        try:
            self._lock()
            begin = os.pread(self._descriptor, len(MAGIC), 0)
            if begin.startswith(b"PK"):
                raise UsageError(f"{path} is a single capture", hint="a series goes into a file of its own")
            size = os.fstat(self._descriptor).st_size
            with Series(open(os.dup(self._descriptor), "rb"), os.path.basename(self._path), size) as before:
                self._before, self._done = before.last()
                self._boot_before = before.boot
                self._at, self.cut_away = before.end, size - before.end
                self.recorded = len(before)
        except BaseException:
            os.close(self._descriptor)
            raise
        return self

    def _begin(self, path: str | os.PathLike[str], boot: str | None) -> None:
        self._path = arguments.path(path, "series")
        self._boot = boot
        self._boot_before: str | None = None
        self._before: State | None = None
        self._done = Work()
        self._told_since = 0
        self._whole_took = 0
        self._has_begun = False
        self.recorded = 0
        """How many moments the file has."""
        self.is_same = False
        """What was added last has the bytes of the moment before."""
        self.cut_away = 0
        """Bytes of a moment that an earlier writer could not finish."""

    def _lock(self) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"{self._path} is being written by another program", hint="one writer at a time; name another file"
            ) from None
        if not self._is_there():
            raise UsageError(f"{self._path} was replaced meanwhile", hint="try again")

    def _is_there(self) -> bool:
        """Whether the path still leads to the file that is written."""
        try:
            there = os.stat(self._path)
        except OSError:
            return False
        ours = os.fstat(self._descriptor)
        return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)

    def _session(self) -> bytes:
        return json.dumps({"boot": self._boot}).encode()

    def check(self, capture: Capture) -> None:
        """Raises UsageError for a capture of another process than the one that the file is of."""
        before = self._before
        if before is None:
            return
        now = State.of(capture).manifest
        differing = [name for name in _WHO if now[name] != before.manifest.get(name)]
        if differing or (not self._has_begun and self._boot != self._boot_before):
            what = ", ".join(name.replace("_", " ") for name in differing) or "another start of the system"
            raise UsageError(
                f"{self._path} is of another process: pid {before.manifest.get('pid')} ({what})",
                hint="a series is of one process: name another file",
            )
        if now["start_time"] is None and not self._has_begun:
            raise UsageError(
                f"whether process {capture.pid} is the one that {self._path} is of cannot be told",
                hint="its system does not tell when it started: name another file",
            )

    def add(self, capture: Capture, clock: float | None = None) -> int:
        """One more moment; how many bytes it takes. `clock`: seconds of one that nobody sets (`time.monotonic`).

        Raises UsageError for another process, and for what no file may hold; OSError, and then nothing was added: also
        where the file was removed meanwhile, or another one was put in its place.
        """
        self.check(capture)
        if not self._is_there():
            what = "it was removed, or another file was put in its place: nothing more is written"
            raise OSError(errno.ESTALE, what, self._path)
        now = time.monotonic() if clock is None else clock
        state = State.of(capture)
        try:
            if self.recorded and not self._has_begun:
                os.ftruncate(self._descriptor, self._at)
                self._at = append(self._descriptor, packed(SESSION, self._session()), self._at)
            frame, is_whole, done = self._frame(state, now)
            if self._replacing is not None:
                self._replace(self._replacing + frame)
                self._at += len(frame)
            else:
                self._at = append(self._descriptor, frame, self._at)
        except OSError as error:
            error.filename = error.filename or self._path
            raise
        self._has_begun = True
        self.is_same = self._before is not None and moments.is_alike(self._before, state)
        self._before, self._done = state, done
        if is_whole:
            self._told_since, self._whole_took = 0, len(frame)
        else:
            self._told_since += len(frame)
        self.recorded += 1
        return len(frame)

    def _replace(self, content: bytes) -> None:
        """Puts the new file in the place of the old one, which stays whole if that fails."""
        write_whole(self._path, content)
        descriptor = open_regular(self._path, os.O_RDWR)
        os.close(self._descriptor)
        self._descriptor = descriptor
        self._lock()
        to_disk(descriptor)
        self._replacing = None

    @property
    def size(self) -> int:
        """Bytes of the file that is written, wherever it is now."""
        return self._at

    def _frame(self, state: State, clock: float) -> tuple[bytes, bool, Work]:
        """The frame, whether the moment stands by itself, and what a reader does to come to it."""
        before = self._before
        if before is not None and moments.is_alike(before, state):
            return packed(*moments.same(state, clock)), False, self._done
        if before is not None:
            kind, content, work = moments.changed(before, state, clock)
            frame, done = packed(kind, content), self._done + work
            # So a file is at most twice as large as its deltas, and no moment is far from one that stands alone.
            is_worth_it = not self._whole_took or self._told_since + len(frame) <= self._whole_took
            if is_worth_it and done.is_bounded(self._largest(frame)) and state.size <= self._largest(frame):
                return frame, False, done
        frame = packed(*moments.whole(state, clock))
        if state.size > self._largest(frame):  # denser than a reader takes from anybody
            frame = packed(*moments.whole(state, clock, stored=True))
        return frame, True, Work()

    def _largest(self, frame: bytes) -> int:
        """How many bytes a reader takes of a moment, when this is in the file."""
        return most(self._at + len(frame))

    def close(self) -> None:
        """Let others write. Safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> SeriesWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
