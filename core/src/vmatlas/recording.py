"""Records one process again and again, into one file: when to look, when to end, whose file it is."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from vmatlas import api, arguments
from vmatlas.api import Pid
from vmatlas.backend import Target, TellsBoot
from vmatlas.capture import Capture
from vmatlas.errors import NoSuchProcess, UsageError
from vmatlas.model import AddressSpace
from vmatlas.series.moments import Moment
from vmatlas.series.reader import Series
from vmatlas.series.writer import SeriesWriter
from vmatlas.target.local import LOCAL

if TYPE_CHECKING:
    from vmatlas.analysis.trend import Trends

EVERY = 10.0
"""Seconds."""


def record_series(
    pid: Pid,
    path: str | os.PathLike[str],
    every: float = EVERY,
    *,
    seconds: float | None = None,
    append: bool = False,
    replace: bool = False,
    residency: bool = True,
    build_ids: bool = False,
    target: Target | None = None,
    backend: str | None = None,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Moment]:
    """The map of a process as the kernel's own bytes, every so many seconds, into one file: a `Series`.

        for moment in vmatlas.record_series(1234, "leak.vmatlas", every=10, seconds=3600):
            print(moment.number, moment.size)

    Each moment is told once it is on the disk; whoever does not go on to the next ends the recording. It ends with the
    process, or after `seconds`, of which the end has a moment as well. The moments are `every` seconds apart from the
    first on, and those for which it is too late are left out. `append` goes on with a file that is there, if it is of
    the same process; `replace` writes over it. `wait` sleeps for some seconds; what it raises ends the recording.
    `residency` and `build_ids`, `pid`, `target` and `backend` are as in `capture`.

    Raises, when the first moment is asked for: UsageError (another writer, another process, no length of time),
    FileExistsError, OSError (a full disk, which leaves what was there), and what `capture` raises.
    """
    name = _checked(path, every, seconds, wait)
    append, replace = arguments.flag(append, "append"), arguments.flag(replace, "replace")
    residency, build_ids = arguments.flag(residency, "residency"), arguments.flag(build_ids, "build_ids")
    with api.open(pid, target=target, backend=backend) as process:

        def take() -> Capture:
            return process.capture(residency=residency, build_ids=build_ids)

        boot = boot_of(process.target)
        yield from recorded(take, name, boot, every, seconds=seconds, append=append, replace=replace, wait=wait)


def recorded(
    take: Callable[[], Capture],
    path: str | os.PathLike[str],
    boot: str | None,
    every: float,
    *,
    seconds: float | None = None,
    append: bool = False,
    replace: bool = False,
    wait: Callable[[float], object] = time.sleep,
) -> Iterator[Moment]:
    """The same of what `take` gives. NoSuchProcess of it is the end, but at the first moment."""
    path = _checked(path, every, seconds, wait)
    if append and replace:
        raise UsageError("a file is either appended to or written over")
    is_there = os.path.lexists(path)
    if is_there and not append and not replace:
        raise FileExistsError(errno.EEXIST, "a file stands there", os.fspath(path))
    if append and is_there:
        with SeriesWriter.appending(path, boot=boot) as writer:
            yield from _moments(take, time.monotonic(), take(), writer, every, seconds, wait)
        return
    now = time.monotonic()
    first = take()  # before there is a file
    with SeriesWriter(path, replace=replace, boot=boot) as writer:
        yield from _moments(take, now, first, writer, every, seconds, wait)


def _moments(
    take: Callable[[], Capture],
    now: float,
    capture: Capture,
    writer: SeriesWriter,
    every: float,
    seconds: float | None,
    wait: Callable[[float], object],
) -> Iterator[Moment]:
    begun = due = now
    end = None if seconds is None else begun + seconds
    while True:
        size = writer.add(capture, now)
        yield Moment(writer.recorded, capture.time, now - begun, writer.is_same, size)
        late = time.monotonic()
        following = next_look(due, every, late, end)
        if following is None:
            return
        due = following
        wait(max(due - late, 0.0))
        now = time.monotonic()
        try:
            capture = take()
        except NoSuchProcess:
            return


def next_look(due: float, every: float, now: float, end: float | None) -> float | None:
    """When to look next, after a look that was due: the last time at the end; None where that was it.

    Those for which it is too late are left out.
    """
    if end is not None and due >= end:
        return None
    following = max(due + every, now) if every <= 0 else due + every * max(1, -(-(now - due) // every))
    return following if end is None else min(following, end)


def trends_of(series: Series, measure: str = "held", *, first: int = 0, last: int = -1) -> Trends:
    """What grows in a series, from its moment `first` to `last` (from 0; negative: from the end).

    See `trends`, for `measure` too.

    Of a long one as many moments are read as `trends` compares, evenly spread. Raises what `Series` raises where it is
    read, what `replay` raises, and UsageError for fewer than two moments.
    """
    from vmatlas.analysis.trend import MOST_MOMENTS, trends

    if not isinstance(series, Series):
        raise UsageError(f"{arguments.shown(series)} is no series", hint="vmatlas.Series.open(path) gives one")
    begin, end = arguments.whole(first, "first moment"), arguments.whole(last, "last moment")
    begin, end = (number + len(series) if number < 0 else number for number in (begin, end))
    numbers = range(max(begin, 0), min(end + 1, len(series)))
    wanted = sorted({round(each * (len(numbers) - 1) / (MOST_MOMENTS - 1)) for each in range(MOST_MOMENTS)})
    chosen = list(numbers) if len(numbers) <= MOST_MOMENTS else [numbers[each] for each in wanted]
    return trends(_spaces(series, chosen), measure)


def _spaces(series: Series, numbers: Sequence[int]) -> Iterator[tuple[float, AddressSpace]]:
    """The same object again, where the kernel's bytes are the same."""
    seen: Capture | None = None
    space: AddressSpace | None = None
    elapsed = [moment.elapsed for moment in series.moments]
    for number in numbers:
        capture = series[number]
        if seen is None or space is None or seen.streams != capture.streams:
            space = api.replay(capture)
        seen = capture
        yield elapsed[number], space


def boot_of(target: Target) -> str | None:
    """Which start of its system a target has had, where that is told: a start time is counted from there on Linux."""
    system: object = LOCAL.system if target is LOCAL else None
    return system.boot() if isinstance(system, TellsBoot) else None


def _checked(path: str | os.PathLike[str], every: float, seconds: float | None, wait: Callable[[float], object]) -> str:
    """Raises UsageError for what is no file, no length of time, no function."""
    arguments.function(wait, "wait")
    check_times(every, seconds)
    return arguments.path(path, "series")


def check_times(every: float, seconds: float | None) -> None:
    """Raises UsageError for what is no interval, and no time in all."""
    for value, what in ((every, "interval"), (0.0 if seconds is None else seconds, "time")):
        try:
            is_length = not isinstance(value, bool) and 0 <= value <= arguments.LONGEST
        except TypeError:
            is_length = False
        if not is_length:
            raise UsageError(f"{arguments.shown(value)} is no {what} of a recording", hint="seconds, from 0 to a year")
