"""A sign of life on a terminal while an answer comes over a wire, or does not; nothing in a pipe."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator

_REDRAW = 0.25  # seconds
_ERASE = "\r\x1b[K"


class Line:
    """One line on standard error, written over itself and gone at the end."""

    def __init__(self) -> None:
        self._drawn = 0.0

    def waiting(self, name: str, received: int, seconds: float) -> None:
        """See `vmatlas.target.asking.Listener`."""
        from vmatlas.cli.render.text import one_line

        if time.monotonic() - self._drawn < _REDRAW:
            return
        self._drawn = time.monotonic()
        what = f"{received:,} bytes so far" if received else "no answer yet"
        self._write(f"{_ERASE}{one_line(name)[:40]}: {what}, {seconds:.0f} s")

    def done(self) -> None:
        """See `vmatlas.target.asking.Listener`."""
        if self._drawn:
            self._drawn = 0.0
            self._write(_ERASE)

    def _write(self, text: str) -> None:
        with contextlib.suppress(OSError):  # the terminal went away; the command itself will say so
            sys.stderr.write(text)
            sys.stderr.flush()


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """While this lasts, long answers are shown to come, where standard error is a terminal that can erase."""
    if sys.stderr is None or not sys.stderr.isatty() or os.environ.get("TERM", "dumb") == "dumb":
        yield
        return
    from vmatlas.target.asking import heard_by

    with heard_by(Line()):
        yield
