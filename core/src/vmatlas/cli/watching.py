"""Watching several processes at once: a thread for each, since each may keep its question waiting; one shows."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vmatlas.cli.exits import say
from vmatlas.cli.render.together import Whose
from vmatlas.cli.survey import Unread
from vmatlas.cli.whom import Whom, chosen
from vmatlas.cli.words import Asked, Chooses
from vmatlas.errors import NoSuchProcess, OperationFailed, UsageError, VmatlasError

if TYPE_CHECKING:
    from vmatlas.analysis import Difference
    from vmatlas.model import ProcessInfo

MOST = 64
"""Processes that are watched at once, each by a thread."""

_LOOK = 0.25
"""Seconds between two looks at whether one of them answers."""


class Told(NamedTuple):
    """What one of them told."""

    whose: Whose
    difference: Difference


_Told: TypeAlias = "tuple[_Watcher, Difference | BaseException | None]"


class _Over(Exception):
    """Nobody waits any more."""


class _Watcher(threading.Thread):
    """Watches one process, and puts into a queue what changes; None: it has ended, or why it cannot be watched."""

    def __init__(
        self,
        info: ProcessInfo,
        whom: Whom,
        backend: str | None,
        how: dict[str, Any],
        told: queue.SimpleQueue[_Told],
        wire: threading.Lock | None,
    ) -> None:
        """`wire`: held while a question is asked, of an agent, which answers one at a time."""
        super().__init__(name="vmatlas", daemon=True)
        self.info, self.whose = info, Whose(info.pid, info.known_name)
        self._whom, self._backend, self._how, self._told, self._wire = whom, backend, how, told, wire
        self._is_over = threading.Event()
        self.asking: float | None = None
        """Since when it asks; None: it waits until it is time to look again."""
        self.is_done = False
        self.has_looked = False

    def run(self) -> None:
        """Watch until the process ends, or `stop`."""
        from vmatlas import api
        from vmatlas.cli.asking import named, tells_memory
        from vmatlas.survey import check_identity

        found: BaseException | None = None
        try:
            with self._wire or contextlib.nullcontext():
                self.asking = time.monotonic()
                with api.open(self.info.pid, target=self._whom.place, backend=self._backend) as process:
                    check_identity(self.info, process.start_time)
                    how = dict(self._how)
                    if how["residency"] is None:
                        how["residency"] = tells_memory(process)
                    for difference in process.watch(**how, wait=self._rest):
                        sides = {side: named(getattr(difference, side), process) for side in ("before", "after")}
                        self._told.put((self, _replaced(difference, sides)))
        except _Over:
            return
        except BaseException as error:  # told to the one who shows
            found = error
        self._told.put((self, found))

    def _rest(self, seconds: float) -> None:
        self.asking, self.has_looked = None, True
        if self._wire is not None:
            self._wire.release()
        try:
            if self._is_over.wait(seconds):
                raise _Over
        finally:
            if self._wire is not None:
                self._wire.acquire()
            self.asking = time.monotonic()

    def stop(self) -> None:
        """Let it end, when it has its answer."""
        self._is_over.set()


def _replaced(difference: Difference, sides: dict[str, Any]) -> Difference:
    import dataclasses

    return dataclasses.replace(difference, **sides)


def watch_several(
    words: Sequence[Asked | Chooses],
    how: dict[str, Any],
    most: int | None,
    end: float | None,
    show: Callable[[Told, bool], bool],
    patience: float | None,
    backend: str | None,
    target: str,
) -> int:
    """`show` shows what changed, and says whether that was anything; its second argument: whether it is the first."""
    from vmatlas.cli.asking import PATIENCE
    from vmatlas.target.local import LOCAL

    with chosen(words, target, patience) as whom:
        watched = [info for info in whom.selected if not info.kernel]
        if len(watched) > MOST:
            raise UsageError(f"{len(watched)} processes are too many to watch at once", hint=f"at most {MOST}")
        told: queue.SimpleQueue[_Told] = queue.SimpleQueue()
        wire = None if whom.place is LOCAL else threading.Lock()
        watchers = [_Watcher(info, whom, backend, how, told, wire) for info in watched]
        unread = Unread(whom.selected)
        unread.read = len(watchers)
        try:
            _start(watchers)
            _show_all(watchers, told, unread, most, end, show, PATIENCE if patience is None else patience)
        except KeyboardInterrupt:
            pass
        finally:
            for watcher in watchers:
                watcher.stop()
            for watcher in watchers:
                if watcher.is_alive() and watcher.asking is None:
                    watcher.join(_LOOK)
    return unread.tell()


def _start(watchers: Sequence[_Watcher]) -> None:
    for watcher in watchers:
        try:
            watcher.start()
        except RuntimeError:
            raise OperationFailed(
                f"there is no thread to be had for each of {len(watchers)} processes", hint="watch fewer (ulimit -u)"
            ) from None


def _show_all(
    watchers: Sequence[_Watcher],
    told: queue.SimpleQueue[_Told],
    unread: Unread,
    most: int | None,
    end: float | None,
    show: Callable[[Told, bool], bool],
    patience: float,
) -> None:
    found = 0
    while not all(watcher.is_done for watcher in watchers):
        left = None if end is None else end - time.monotonic()
        if left is not None and left <= 0:
            _give_up([each for each in watchers if not each.has_looked], unread, 0)  # of them nothing was told at all
            return
        try:
            watcher, what = told.get(timeout=_LOOK if left is None else min(_LOOK, left))
        except queue.Empty:
            _give_up(watchers, unread, patience)
            continue
        if what is None or isinstance(what, BaseException):
            _ended(watcher, what, unread)
        elif not watcher.is_done and show(Told(watcher.whose, what), not found):
            found += 1
            if found == most:
                return


def _ended(watcher: _Watcher, error: BaseException | None, unread: Unread) -> None:
    if watcher.is_done:
        return
    watcher.is_done = True
    if error is None or isinstance(error, NoSuchProcess):
        say(f"process {watcher.info.pid} ({watcher.info.name}) has ended")
    elif isinstance(error, UsageError) or not isinstance(error, VmatlasError):
        raise error  # the same for each
    else:
        unread.read -= 1
        unread.miss(watcher.info, error)


def _give_up(watchers: Sequence[_Watcher], unread: Unread, patience: float) -> None:
    """Those whose question has been asked for too long are watched no more."""
    from vmatlas.survey import unanswered, waits_of
    from vmatlas.target.local import LOCAL

    for watcher in watchers:
        since = watcher.asking
        seconds = 0.0 if since is None or watcher.is_done else time.monotonic() - since
        if seconds > patience:
            watcher.is_done = True
            why = waits_of(LOCAL, watcher.native_id) if watcher._wire is None else None
            unread.read -= 1
            unread.miss(
                watcher.info, unanswered(watcher.info.pid, watcher.info.name, seconds, why, watcher._whom.place)
            )
