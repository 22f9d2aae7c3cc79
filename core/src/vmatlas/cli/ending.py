"""How signals end a command: all contexts are left, so that what was started is ended and what is half written goes."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from types import FrameType

from vmatlas.cli.exits import Exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
else:
    import _signal as signal  # `signal` makes enums of all its numbers: a thirteenth of the start of Python

_AT_ONCE = 1.0
"""Seconds within which several signals are one: the next would end what the first one has set about."""

_last = -_AT_ONCE
_heeded: list[int] = []


class Ended(KeyboardInterrupt):
    """By a signal that ends a command as Ctrl-C does, but for the exit code."""

    def __init__(self, code: Exit) -> None:
        super().__init__(code)
        self.code = code


_USUAL: dict[int, Callable[[], BaseException]] = {
    signal.SIGINT: KeyboardInterrupt,
    signal.SIGTERM: lambda: SystemExit(Exit.TERMINATED),
    signal.SIGHUP: lambda: SystemExit(Exit.HUNG_UP),
}
_raises = dict(_USUAL)


def _end(number: int, frame: FrameType | None) -> None:
    global _last
    now = time.monotonic()
    if now - _last >= _AT_ONCE:
        _last = now
        raise _raises[number]()


def by_signal(error: BaseException | None) -> int | None:
    """The exit code, where it is a signal that stands behind an error; else None.

    Python before 3.12 wraps what comes while a class is made (an import, on the way) into a RuntimeError.
    """
    while error is not None:
        if isinstance(error, SystemExit) and isinstance(error.code, int):
            return error.code
        if isinstance(error, KeyboardInterrupt):
            return error.code if isinstance(error, Ended) else Exit.INTERRUPTED
        error = error.__cause__ or error.__context__
    return None


def begin() -> None:
    """From now on signals raise: KeyboardInterrupt, SystemExit. What who started us has ignored (nohup) stays so."""
    for number in _USUAL:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _end)
            _heeded.append(number)


def end() -> None:
    """From now on they end the program at once: the interpreter, on its way out, tells of exceptions as of defects."""
    for number in _heeded:
        signal.signal(number, signal.SIG_DFL)
    _heeded.clear()


@contextlib.contextmanager
def as_ctrl_c() -> Iterator[None]:
    """While this lasts, all of them raise KeyboardInterrupt: what is done then is whole, and the rest is left."""
    _raises[signal.SIGTERM] = lambda: Ended(Exit.TERMINATED)
    _raises[signal.SIGHUP] = lambda: Ended(Exit.HUNG_UP)
    try:
        yield
    finally:
        _raises.update(_USUAL)
