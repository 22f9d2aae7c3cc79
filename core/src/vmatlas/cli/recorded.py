"""A saved capture in the place of a process: how commands take one, and what cannot be asked of it."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from vmatlas.cli.exits import say
from vmatlas.cli.options import ParameterType, ProcessType
from vmatlas.cli.words import Asked, Chooses, asked_of, chooses, warn_if_incomplete
from vmatlas.errors import UsageError, VmatlasError

if TYPE_CHECKING:
    from io import BytesIO

    from vmatlas.capture import Capture
    from vmatlas.model import AddressSpace
    from vmatlas.series.reader import Series

STDIN = "-"

KEEPS_RESIDENCY = "vmatlas record --residency keeps it"


class SourceType(ParameterType):
    """A process, or else a capture's file."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Asked | Chooses | str:
        """What chooses processes does so; anything else is a file. Raises UsageError."""
        return value if isinstance(value, (Asked, Chooses)) else asked_of(value) or chooses(value) or str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The processes of this machine, and files: these first, since bash's script forgets what came before them."""
        return [CompletionItem(incomplete, type="file"), *ProcessType().shell_complete(ctx, param, incomplete)]


class AnySourceType(SourceType):
    """The same where processes are meant first: a word that is no file that is there is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Asked | Chooses | str:
        """Raises UsageError."""
        if isinstance(value, str) and _is_there(value) and not (asked_of(value) or chooses(value)):
            return value
        return ProcessType().convert(value, param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The processes of this machine; files where none is called so."""
        return ProcessType().shell_complete(ctx, param, incomplete) or [CompletionItem(incomplete, type="file")]


def _is_there(word: str) -> bool:
    """Whether a word is a file, or a moment of one."""
    return word == STDIN or os.path.lexists(word) or os.path.lexists(word.rpartition("@")[0] or word)


def load(path: str, *, or_process: bool = True, lenient: bool = False) -> Capture:
    """The capture in a file, or on standard input (-); of a series the moment that @ names, else its last.

    Raises OSError, MalformedData, UsageError, and what `split` raises.
    """
    from vmatlas.capture import Capture

    file, when = split(path, or_process=or_process)
    with opened(file, lenient=lenient) as found:
        if isinstance(found, Capture):
            if when is not None:
                hint = "a series has moments: vmatlas record --every"
                raise UsageError(f"{file} is a single capture, without the moment '{when}'", hint=hint)
            return found
        return found.at(when or "last")


def split(path: str, *, or_process: bool = True) -> tuple[str, str | None]:
    """The file, and the moment of it that is named behind the last @; a file that is really called so has none.

    Raises VmatlasError where there is no such file, and FileNotFoundError where no process could have been meant.
    """
    if path == STDIN or os.path.lexists(path):
        return path, None
    file, at, when = path.rpartition("@")
    if at and when and (file == STDIN or os.path.lexists(file)):
        return file, when
    if not or_process:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
    hint = f"give a number, 'self' or a capture's file; by a program's name: name:{path}"
    raise VmatlasError(f"'{path}' is neither a process id nor a file that is there", hint=hint)


@contextlib.contextmanager
def opened(file: str, *, lenient: bool = False) -> Iterator[Capture | Series]:
    """What a file holds, or standard input (-); warns of a series that is cut. Raises what opening either raises."""
    from vmatlas import remains
    from vmatlas.capture import Capture

    with _read_in(lenient) if file == STDIN else remains.opened(file, lenient=lenient) as found:
        if not isinstance(found, Capture) and found.incomplete is not None:
            say(f"warning: {found.name}: {found.incomplete}")
        yield found


@contextlib.contextmanager
def _read_in(lenient: bool) -> Iterator[Capture | Series]:
    from vmatlas import remains
    from vmatlas.capture import SERIES, Capture

    stream, name = _standard_input(), "standard input"
    if stream.getbuffer()[: len(SERIES)] == SERIES:
        from vmatlas.series.reader import Series

        with Series.read(stream, name) as series:
            yield series
        return
    found = remains.read_bytes(stream.getvalue(), name, time.time(), lenient=lenient)
    yield Capture.read(stream, name) if found is None else found


def _standard_input() -> BytesIO:
    """All of it, but no more than a file may have: what it is, is seen then."""
    from io import BytesIO

    from vmatlas.capture import LARGEST_FILE

    if sys.stdin is None or sys.stdin.isatty():
        raise UsageError("- is a capture on standard input", hint="vmatlas record PID -o - | vmatlas replay -")
    return BytesIO(sys.stdin.buffer.read(LARGEST_FILE + 1))


def replay(path: str, *, residency: bool, backend: str | None, target: str) -> AddressSpace:
    """The map in a capture's file, for a command that has the options of a process too; warns when it is incomplete.

    Raises UsageError for what only a process can be asked, and what `load` raises.
    """
    from vmatlas import api

    refuse_asking(backend, target)
    space = api.replay(load(path))
    if residency:
        check_residency(space, path)
    warn_if_incomplete(space)
    return space


def refuse_asking(backend: str | None, target: str) -> None:
    """Raises UsageError when the options say how to ask, and there is only a capture."""
    if backend is not None or target != "local":
        raise UsageError(
            "--backend and --target go with a process", hint="a capture is read here, by the backend that made it"
        )


def check_residency(space: AddressSpace, path: str) -> None:
    """Raises UsageError when the capture does not tell the memory in use."""
    if len(space) and space.columns.resident is None:
        raise UsageError(f"{path} does not tell the memory in use", hint=KEEPS_RESIDENCY)


def check_build_ids(space: AddressSpace, path: str) -> None:
    """Raises UsageError when the file does not tell build ids."""
    if len(space) and space.columns.build_id is None:
        raise UsageError(f"{path} does not tell build ids", hint="vmatlas record --build-ids keeps them")
