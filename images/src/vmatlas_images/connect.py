"""`vmatlas.connect("qemu:NAME")`: a machine booted for one connection, and ended with it; or one that is held and stays
(keep.py).
"""

from __future__ import annotations

import contextlib
import os
import sys
import weakref
from functools import partial
from pathlib import Path

from rich.console import Console

from vmatlas.target.agent import Agent, AgentTarget, Limits
from vmatlas.target.streams import KEPT, SocketStream, StreamEnded

from .describe.machine import find
from .errors import StageError
from .report.shown import LiveLines
from .run.boot import RunningMachine, boot
from .run.handshake import greet
from .run.keep import Kept, kept, turn
from .terminal import line


def connect_machine(name: str, limits: Limits) -> AgentTarget:
    """Boot the machine and reach its agent. Close the target to end it; it never outlives this process. One that is
    held (keep.py) is joined instead, in its turn, and left.

    On a terminal its stages are shown on standard error. Raises MachineError for an unknown name, NotRunnable,
    FetchError, and StageError for a machine that does not come up, or whose agent others have for too long.
    """
    machine = find(name)
    if (held := kept(name)) is not None:
        return _join(held, limits)
    with contextlib.ExitStack() as stages:
        lines = LiveLines([machine], Console(stderr=True, quiet=not sys.stderr.isatty()))
        with lines:
            running = stages.enter_context(
                boot(
                    machine,
                    hello=greet,
                    progress=partial(lines.fetching, machine),
                    watch=partial(lines.follow, machine),
                )
            )
        patience = limits.times(running.accelerator.scale)
        agent = Agent(_MachineStream(running), f"qemu:{name}", patience)
        target = AgentTarget(agent, on_close=lambda: end())
        # Also when nobody closes it: with the target, or before the interpreter takes threads away from under it.
        end = weakref.finalize(target, stages.pop_all().close)
        return target


def _join(held: Kept, limits: Limits) -> AgentTarget:
    Console(stderr=True, quiet=not sys.stderr.isatty()).print(line(f"{held.name}: is up, {held.words}"), soft_wrap=True)
    with contextlib.ExitStack() as having:
        having.enter_context(turn(held, limits.silence))
        stream = _KeptStream(held, limits.connecting())
        target = AgentTarget(Agent(stream, f"qemu:{held.name}", limits.times(held.scale)), on_close=lambda: end())
        end = weakref.finalize(target, having.pop_all().close)
        return target


class _KeptStream(SocketStream):
    """The wire to the agent of a machine that another process holds."""

    def __init__(self, held: Kept, limit: float) -> None:
        """Raises TargetLost."""
        try:
            super().__init__(held.socket, limit)
        except StreamEnded as error:
            raise StageError("agent", f"no connection: {error}", target=held.name) from None
        self._console = Path(held.console)

    def last_words(self) -> str:
        """The end of its console's file."""
        try:
            with self._console.open("rb") as file:
                file.seek(max(0, file.seek(0, os.SEEK_END) - KEPT))
                return file.read(KEPT).decode("utf-8", "backslashreplace").strip()
        except OSError:
            return ""


class _MachineStream(SocketStream):
    """The agent's wire; when it breaks, what the machine said last stands on its console."""

    def __init__(self, running: RunningMachine) -> None:
        super().__init__(running.stream.dup())
        self._running = running

    def last_words(self) -> str:
        """The end of the console."""
        return self._running.console.last_words()
