"""What can go wrong, each with its story: what was asked, of whom, what the kernel said, what to do next.

Every error of the library is a `VmatlasError`. Each is a value: it can be pickled, and it carries the process id, the
target and the backend where they are known, and a hint where there is something to do about it. What it was made of (an
OSError, say) is its `__context__`: a traceback shows one error, not two.
This module imports nothing of vmatlas.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_HINT = "hint: "


def legible(text: str, most: int = 500) -> str:
    """Somebody else's words within an error: one line, nothing in it that does not print, and not without an end."""
    cut = text if len(text) <= most else f"{text[:most]}..."
    if cut.isprintable():
        return cut
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in cut)


def _rebuild(kind: type[VmatlasError], message: str, fields: dict[str, Any]) -> VmatlasError:
    error = kind.__new__(kind)
    Exception.__init__(error, message)
    error.__dict__.update(fields)
    return error


class VmatlasError(Exception):
    """The base of all errors that vmatlas raises on purpose."""

    def __init__(
        self,
        message: str,
        *,
        pid: int | None = None,
        target: str | None = None,
        backend: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.pid = pid
        self.target = target
        self.backend = backend
        self.hint = hint

    @property
    def hint(self) -> str | None:
        """What there is to do about it; a traceback shows it as a note below the message (PEP 678)."""
        return self._hint

    @hint.setter
    def hint(self, hint: str | None) -> None:
        notes = [note for note in getattr(self, "__notes__", ()) if not note.startswith(_HINT)]
        self._hint = hint
        self.__notes__ = notes if hint is None else [*notes, f"{_HINT}{hint}"]

    def __str__(self) -> str:
        where = [text for text in (self.target if self.target != "local" else None, self.backend) if text]
        return f"{self.message} [{', '.join(where)}]" if where else self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.message, self.__dict__)

    def located(self, *, pid: int | None = None, target: str | None = None, backend: str | None = None) -> VmatlasError:
        """The same error, with what was not yet known of its place filled in."""
        self.pid = pid if self.pid is None else self.pid
        self.target = target if self.target is None else self.target
        self.backend = backend if self.backend is None else self.backend
        return self


_SPARE = 4
"""Linux refuses what would split or make regions from the limit on, and to move some from three below (mm/mremap.c)."""


def no_region_left(count: int, most: int) -> str | None:
    """What to do where a process has so many regions that no call that takes another can succeed; None: it can."""
    if count + _SPARE <= most:
        return None
    return (
        f"this process has {count:,} of {most:,} regions that it may have (vm.max_map_count): there is none left; "
        "unmap some, give neighbours the same rights, or raise it"
    )


class UsageError(VmatlasError, ValueError):
    """A question that makes no sense: a pid that is no number, an unknown filter word, an unknown backend."""


class NoSuchProcess(VmatlasError):
    """There is no such process: it never was, it has ended, or it is a zombie whose memory is gone.

    `incomplete`: None, or why this is not sure: who was looked for may be among those that the system does not show.
    """

    def __init__(
        self,
        message: str,
        *,
        incomplete: str | None = None,
        pid: int | None = None,
        target: str | None = None,
        backend: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, pid=pid, target=target, backend=backend, hint=hint)
        self.incomplete = incomplete


class AccessDenied(VmatlasError):
    """The process exists, and the caller may not read it."""


class Unsupported(VmatlasError):
    """The system, its kernel or this installation cannot answer: the message says what, where and why."""


_MOST_FOUND = 4096


class MalformedData(VmatlasError):
    """Bytes that are not what their source promises.

    `stream` is the name of the byte stream, `offset` the position in it (bytes, from 0), `expected` what should
    have stood there, and `found` the first bytes that stood there instead.
    """

    def __init__(
        self,
        stream: str,
        offset: int,
        expected: str,
        *,
        found: bytes = b"",
        pid: int | None = None,
        target: str | None = None,
        backend: str | None = None,
        hint: str | None = None,
    ) -> None:
        shown = f", found {bytes(found[:40])!r}" if found else ""
        super().__init__(
            f"malformed data in stream '{legible(stream, 100)}' at byte {offset}: expected {legible(expected)}{shown}",
            pid=pid,
            target=target,
            backend=backend,
            hint=hint,
        )
        self.stream = stream
        self.offset = offset
        self.expected = expected
        self.found = bytes(found[:_MOST_FOUND])


CR_LF = "lines that end in LF; these end in CR LF: the text went through Windows or a terminal"
"""What is expected of a kernel's text, of one that is refused for its lines."""


class Disordered(MalformedData):
    """Well-formed regions that are not in order or overlap.

    A kernel that gives a map piece by piece can do this when the map changes in between; the API reads again. In a
    saved capture, and where reading again gives the same bytes, it is malformed data.
    """


class TornRead(VmatlasError):
    """The map changed during every one of the bounded attempts to read it, and no reading was consistent."""


class Unanswered(VmatlasError):
    """A question was given up: nothing came for as long as one was ready to wait. The process may be well.

    `seconds` is how long was waited, and `waits_for` what the question waits for, as far as the system tells.
    """

    def __init__(
        self,
        message: str,
        *,
        seconds: float = 0.0,
        waits_for: str | None = None,
        pid: int | None = None,
        target: str | None = None,
        backend: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, pid=pid, target=target, backend=backend, hint=hint)
        self.seconds = seconds
        self.waits_for = waits_for


class TargetLost(VmatlasError):
    """The machine or the wire died. `last_words` is what it said at the end (console, standard error)."""

    def __init__(
        self,
        message: str,
        *,
        last_words: str = "",
        pid: int | None = None,
        target: str | None = None,
        backend: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, pid=pid, target=target, backend=backend, hint=hint)
        self.last_words = last_words


class OperationFailed(VmatlasError):
    """The kernel refused for a reason that no other error names; `errno` is in the target's own numbering."""

    def __init__(
        self,
        message: str,
        *,
        errno: int = 0,
        errno_name: str = "",
        pid: int | None = None,
        target: str | None = None,
        backend: str | None = None,
        hint: str | None = None,
    ) -> None:
        super().__init__(message, pid=pid, target=target, backend=backend, hint=hint)
        self.errno = errno
        self.errno_name = errno_name


class NotStarted(OperationFailed):
    """No process could be started here to ask in this one's stead, or it ended before it had an answer.

    `errno` is that of starting it: it says nothing of what was to be asked.
    """
