"""A saved capture in the place of a process: how commands take one, and what cannot be asked of it."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from vmatlas.cli.options import Asked, ParameterType, ProcessType, asked_of, warn_if_incomplete
from vmatlas.errors import UsageError, VmatlasError

if TYPE_CHECKING:
    from vmatlas.capture import Capture
    from vmatlas.model import AddressSpace

STDIN = "-"

KEEPS_RESIDENCY = "vmatlas record --residency keeps it"


class SourceType(ParameterType):
    """A process, or else a capture's file."""

    name = "source"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Asked | str:
        """A number or `self` is a process; anything else a file."""
        return value if isinstance(value, Asked) else asked_of(value) or str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The processes of this machine, and files: these first, since bash's script forgets what came before them."""
        return [CompletionItem(incomplete, type="file"), *ProcessType().shell_complete(ctx, param, incomplete)]


def load(path: str) -> Capture:
    """The capture in a file, or on standard input, which - stands for.

    Raises OSError, MalformedData, UsageError; VmatlasError where there is no such file.
    """
    from vmatlas.capture import Capture

    if path == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise UsageError("- is a capture on standard input", hint="vmatlas record PID -o - | vmatlas replay -")
        return Capture.read(sys.stdin.buffer, "standard input")
    try:
        return Capture.load(path)
    except FileNotFoundError as error:
        hint = "give a number, 'self' or a capture's file; a program's name becomes a number by: pidof NAME"
        raise VmatlasError(f"'{path}' is neither a process id nor a file that is there", hint=hint) from error


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
