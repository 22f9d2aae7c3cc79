"""A machine for a person: booted, its console and its agent's socket named, up until Ctrl-C."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from ..describe.machine import Machine
from ..errors import StageError
from ..fetch.cache import Cache
from ..prepare.agents import FindAgent, built_agent
from ..terminal import line
from .boot import Hello, RunningMachine, boot

Stay = Callable[[RunningMachine, Callable[[], None]], None]
"""How long a machine stays: returns when it shall end. It is given what waits a moment, and raises `StageError` when
the machine has ended by itself.
"""


def _until_interrupted(running: RunningMachine, wait: Callable[[], None]) -> None:
    while True:
        wait()


def attend(
    machine: Machine,
    *,
    hello: Hello,
    out: Console,
    cache: Cache | None = None,
    console: Path | None = None,
    find_agent: FindAgent = built_agent,
    stay: Stay = _until_interrupted,
    ends: str = "Ctrl-C ends it.",
) -> None:
    """Boots the machine, says where everything is and how it `ends`, and returns after Ctrl-C or when `stay` does, when
    it is ended.

    The agent's socket takes one connection at a time. Raises what `boot` raises, and `StageError` when the machine
    ends by itself.
    """
    stages = contextlib.ExitStack()
    with stages:
        running = stages.enter_context(
            boot(
                machine,
                hello=hello,
                cache=cache,
                console=console,
                find_agent=find_agent,
                watch=lambda stage: out.print(line(f"{machine.name}: {stage}")),
            )
        )
        running.stream.close()  # so that someone else can connect
        for words in (
            f"{machine.name} is up: {running.kernel}",
            f"  accelerator: {running.accelerator}",
            f"  console:     {running.console_path}   (tail -f shows it)",
            f"  agent:       {running.socket_path}   (a Unix socket, one connection at a time)",
            ends,
        ):
            out.print(line(words), soft_wrap=True)
        try:
            stay(running, lambda: _moment(running))
            out.print(line(f"{machine.name}: ended"))
        except KeyboardInterrupt:
            out.print(line(f"{machine.name}: ended"))
        except StageError as error:
            for words in error.last_words.splitlines():
                out.print(line(words))
            raise


def _moment(running: RunningMachine) -> None:
    running.check()
    running.console.wait(0.5)
