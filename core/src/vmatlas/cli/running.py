"""A command runs: where what it says goes, and what becomes of what goes wrong. No parser of options is needed."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterator

from vmatlas.cli.ending import by_signal
from vmatlas.cli.exits import Exit, drop, exit_of, say, story_of
from vmatlas.cli.render.shape import Shape, choose_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

REPORT = "this is a defect of vmatlas: please report it with the output of the same command under VMATLAS_DEBUG=1"


def run(command: Callable[[], int]) -> int:
    """Do it, and tell what went wrong: the exit code."""
    if sys.stderr is None:  # closed by who started us: there is nobody to tell
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115  (it stays until the end)
    if sys.stdout is None:
        say("standard output is closed")
        return Exit.FAILED
    try:
        # What a terminal of another encoding cannot show is escaped, not an error.
        codecs.register_error(_ESCAPING, _escaped)
        sys.stdout = _written_whole(sys.stdout)
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors=_ESCAPING)
        choose_shape(Shape())
        code = command()
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        drop(sys.stdout)
        return Exit.BROKEN_PIPE
    except KeyboardInterrupt as error:
        return by_signal(error) or Exit.INTERRUPTED
    except SystemExit:  # by a signal: the output may be gone with the terminal
        try:
            sys.stdout.flush()
        except OSError:
            drop(sys.stdout)
        raise
    except Exception as error:  # every error ends here, as a line and a code
        ended = by_signal(error) if exit_of(error) is Exit.BUG else None
        return _tell(error) if ended is None else ended


def _written_whole(stream: TextIO) -> TextIO:
    """Standard output of which nothing is lost where it is taken in parts: a pipe whose reader is slow, a disk that
    fills up.

    Unbuffered (PYTHONUNBUFFERED, -u) Python's stream writes once, and how much of it was taken nobody looks at.
    """
    raw = getattr(stream, "buffer", None)
    if not isinstance(stream, io.TextIOWrapper) or not isinstance(raw, io.RawIOBase):
        return stream
    # The stream itself stays, as sys.__stdout__: to close it would close what lies below.
    return io.TextIOWrapper(
        io.BufferedWriter(raw), encoding=stream.encoding, errors=stream.errors, newline="\n", write_through=True
    )


_ESCAPING = "vmatlas.escaped"


def _escaped(error: UnicodeError) -> tuple[str, int]:
    """Characters as \\uNNNN: "backslashreplace" writes those below 256 as \\xNN, which stands for a byte here."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    told = map(ord, error.object[error.start : error.end])
    return "".join(f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}" for code in told), error.end


def _traceback(error: BaseException) -> Iterator[str]:
    """As Python's own, with each message in one line: what stands in it is whoever's, a board's or a name."""
    import traceback

    from vmatlas.cli.render.text import one_line

    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _traceback(before)
        how = "the cause of" if before is error.__cause__ else "what was dealt with at"
        yield f"This was {how} the following:"
    yield "Traceback (most recent call last):"
    for frame in traceback.format_tb(error.__traceback__):
        yield from map(one_line, frame.rstrip("\n").split("\n"))
    yield f"{type(error).__module__}.{type(error).__qualname__}: {one_line(str(error))}"
    yield from map(one_line, getattr(error, "__notes__", ()))


def _tell(error: Exception) -> int:
    code = exit_of(error)
    if os.environ.get("VMATLAS_DEBUG") == "1":
        sys.stderr.writelines(f"{line}\n" for line in _traceback(error))
    if isinstance(error, MemoryError):
        error.__traceback__ = error.__context__ = None  # whose frames hold what took the memory
    line, hint = story_of(error)
    if isinstance(error, OSError) and error.filename is None:
        try:
            sys.stdout.flush()  # what was told before it failed
        except (OSError, ValueError):
            drop(sys.stdout)  # it is the output itself: a full disk, say
    say(line, hint=REPORT if code is Exit.BUG else hint)
    return code
