"""What goes wrong, as exit codes and lines on standard error: the one place for both.

docs/cli.md shows the table to users; a test keeps the two alike.
"""

from __future__ import annotations

import enum
import os
import sys

from vmatlas.cli import unloaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

OF_COMMAND_LINE = {
    "click": "click",
    "rich": "rich",
    "yaml": "pyyaml",
    "prometheus_client": "prometheus-client",
    "textual": "textual",
}
"""What the command line takes of others', and the distribution that has it."""

_LOADS = "it takes memory (ulimit -v) and descriptors (ulimit -n); else what is installed does not fit together"
_LONGEST_LINE = 2000
_LAST_WORDS = 200  # what is no agent may write without an end
_BLANK = "\0 \t\r\n"


class Exit(enum.IntEnum):
    """The exit codes. The docstring of each is what users are told."""

    OK = 0
    FOUND = 1
    """The answer that a script waits for: a difference, a finding, an address that no region covers."""
    USAGE = 2
    NO_SUCH_PROCESS = 3
    ACCESS_DENIED = 4
    UNSUPPORTED = 5
    MALFORMED_DATA = 6
    INCOMPLETE = 7
    """A torn map, no answer in time, or something that could not be read and may matter."""
    TARGET_LOST = 8
    FAILED = 9
    """The kernel refused for another reason, a file could not be read or written, or there is not enough memory."""
    BUG = 70
    """A defect of vmatlas (sysexits.h: EX_SOFTWARE)."""
    HUNG_UP = 129
    """By SIGHUP, as its terminal or its connection ends: 128 + 1. What was started is ended first."""
    INTERRUPTED = 130
    """By SIGINT: 128 + 2."""
    TERMINATED = 143
    """By SIGTERM: 128 + 15. What was started is ended first."""
    BROKEN_PIPE = 141
    """Whoever read the output went away: 128 + SIGPIPE (13), as for any other program."""


def exit_of(error: BaseException) -> Exit:
    """The exit code for an error."""
    from vmatlas import errors
    from vmatlas.model import IncompleteResult

    if unloaded(error) is not None:
        return Exit.FAILED
    if isinstance(error, ModuleNotFoundError) and _library_of(error) in OF_COMMAND_LINE:
        return Exit.UNSUPPORTED
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return Exit.UNSUPPORTED  # a library that the system's loader refuses: for want of memory, or of descriptors
    if isinstance(error, errors.NoSuchProcess) and error.incomplete is not None:
        return Exit.INCOMPLETE  # it may be one of those that are not shown: a script must not take it for ended
    for kind, code in (
        (errors.UsageError, Exit.USAGE),
        (errors.NoSuchProcess, Exit.NO_SUCH_PROCESS),
        (errors.AccessDenied, Exit.ACCESS_DENIED),
        (errors.Unsupported, Exit.UNSUPPORTED),
        (errors.MalformedData, Exit.MALFORMED_DATA),
        (errors.TornRead, Exit.INCOMPLETE),
        (errors.Unanswered, Exit.INCOMPLETE),
        (IncompleteResult, Exit.INCOMPLETE),
        (errors.TargetLost, Exit.TARGET_LOST),
        (errors.VmatlasError, Exit.FAILED),
        (OSError, Exit.FAILED),
        (MemoryError, Exit.FAILED),
    ):
        if isinstance(error, kind):
            return code
    return Exit.BUG


def say(line: str, *, hint: str | None = None) -> None:
    """One line on standard error, and the hint below it. What would break the line is escaped."""
    from vmatlas.cli.render.text import one_line

    if sys.stdout is not None:
        sys.stdout.flush()  # so that the two streams keep their order on a terminal
    try:
        sys.stderr.write(f"vmatlas: {_cut(one_line(line))}\n")
        if hint:
            sys.stderr.write(f"hint: {_cut(one_line(hint))}\n")
        sys.stderr.flush()
    except OSError:  # a full disk, a reader that went away: the exit code still tells
        drop(sys.stderr)


def _library_of(error: ModuleNotFoundError) -> str:
    """Of a module of one, too: where a sandbox denies to look at files, the first that is missing may lie within."""
    return (error.name or "").partition(".")[0]


def _cut(line: str) -> str:
    """What can be read: an argument of thousands of letters, which an error repeats, loses those in the middle."""
    return line if len(line) <= _LONGEST_LINE else f"{line[:1500]} ... {line[-300:]}"


def drop(stream: TextIO) -> None:
    """Let the interpreter not try again, at its end, to write what a stream could not take."""
    try:
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, stream.fileno())
        os.close(descriptor)
    except (OSError, ValueError):
        return


def story_of(error: BaseException) -> tuple[str, str | None]:
    """An error in one line, and the hint."""
    from vmatlas.errors import TargetLost, VmatlasError

    if isinstance(error, TargetLost) and (words := error.last_words.strip(_BLANK)):
        last = words.rpartition("\n")[2][-_LAST_WORDS:]
        return f"{error}; its last words: {last}", error.hint
    if isinstance(error, VmatlasError):
        return str(error), error.hint
    if (found := unloaded(error)) is not None:
        return found
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        return (f"{error.filename or repr(error.filename)}: {reason}" if error.filename is not None else reason), None
    if isinstance(error, ModuleNotFoundError) and (library := _library_of(error)) in OF_COMMAND_LINE:
        return f"the command line needs {error.name}, which is not installed", f"pip install {OF_COMMAND_LINE[library]}"
    if isinstance(error, MemoryError):
        return "out of memory", "let it have more (ulimit -v), or ask for less: --where, VMATLAS_THREADS=1"
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return f"{error.name or 'a library'} cannot be loaded: {error}", _LOADS
    return f"{type(error).__name__}: {error}", None
