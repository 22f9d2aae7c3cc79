"""From a URL to a target: `connect("ssh:user@board")`. Which word starts the URL decides who reaches the machine.

A distribution adds a word of its own under the entry-point group `vmatlas.targets`: a function that takes what follows
the colon and the limits, and gives a target (so `qemu:` comes with vmatlas-images).
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias
from urllib.parse import parse_qsl

from vmatlas.arguments import shown
from vmatlas.backend import Target
from vmatlas.errors import TargetLost, UsageError
from vmatlas.registry import TARGETS, entries
from vmatlas.target import hints
from vmatlas.target.agent import Agent, AgentTarget, Limits
from vmatlas.target.streams import ByteStream, ChildStream, SocketStream, StreamEnded, TtyStream

Connector: TypeAlias = Callable[[str, Limits], Target]
"""Takes what follows the colon of a URL; gives a target. Raises UsageError, Unsupported, TargetLost."""


def connect(url: str, limits: Limits | None = None) -> Target:
    """The target of a URL. Close it when done: what was started for it ends with it.

        agent:COMMAND              an agent on the stdio of a command: agent:docker exec -i box vmatlas-agent
        ssh:USER@HOST              puts an agent there by ssh, runs it, removes it (also ssh:HOST, ssh:USER@HOST:PORT;
                                   ?folder=/run behind it: where programs may be run, if not in /tmp)
        serial:DEVICE[?baud=N]     an agent that serves the other end of a serial line; 115200 baud
        unix:PATH, tcp:HOST:PORT   an agent behind a socket
        local                      this machine

    `limits` is how patient to be; a slow machine needs more. Raises UsageError for a URL that is none, TargetLost when
    nobody answers, Unsupported when what answers cannot be used.
    """
    if limits is not None and not isinstance(limits, Limits):
        raise UsageError(f"limits={shown(limits)} are no limits", hint="give vmatlas.Limits(silence=30), say")
    if not isinstance(url, str):
        raise UsageError(f"{shown(url)} is no target", hint=f"give text that begins with: {', '.join(words())}")
    word, colon, rest = url.partition(":")
    if url == "local":
        from vmatlas.target.local import LOCAL

        return LOCAL
    connector = _CONNECTORS.get(word) if colon else None
    if connector is None and colon and word in entries(TARGETS):
        connector = entries(TARGETS)[word].load()
    if connector is None:
        raise UsageError(f"'{url}' is no target", hint=f"targets begin with: {', '.join(['local', *words()])}")
    if not rest.strip():
        raise UsageError(f"'{url}' does not say what to connect to", hint=_EXAMPLES.get(word))
    return connector(rest, limits or Limits())


def over_stream(
    opened: Callable[[], ByteStream], name: str, limits: Limits, hint: Callable[[str], str | None] = lambda words: None
) -> AgentTarget:
    """The target of an agent at the other end of a stream. `hint` is what to do, by the words heard instead of one.

    Raises TargetLost.
    """
    try:
        stream = opened()
    except StreamEnded as error:
        raise TargetLost(f"no connection: {error}", target=name, hint=hints.of_program(str(error))) from None
    try:
        return AgentTarget(Agent(stream, name, limits))
    except TargetLost as error:
        error.hint = error.hint or hint(error.last_words)
        raise


def _agent(command: str, limits: Limits) -> Target:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"'{command}' is no command: {error}") from None
    return over_stream(lambda: ChildStream(words), f"agent:{command}", limits, hints.of_program)


def _serial(rest: str, limits: Limits) -> Target:
    device, _, options = rest.partition("?")
    asked = dict(parse_qsl(options, keep_blank_values=True))
    baud = asked.pop("baud", "115200")
    if asked or not baud.isdecimal():
        raise UsageError(f"'serial:{rest}' is no serial line", hint="for example serial:/dev/ttyUSB0?baud=115200")
    speed = int(baud) if len(baud) < 10 else 0
    # Half of what comes at best: 10 bits a byte.
    slow = replace(limits, slowest=min(limits.slowest, max(speed, 20) / 20))
    return over_stream(
        lambda: TtyStream(device, speed), f"serial:{rest}", slow, lambda words: hints.of_line(words, baud=speed)
    )


def _unix(path: str, limits: Limits) -> Target:
    return over_stream(lambda: SocketStream(path, limits.connecting()), f"unix:{path}", limits)


def _tcp(rest: str, limits: Limits) -> Target:
    host, _, port = rest.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"'tcp:{rest}' is no address", hint="for example tcp:board:4000")
    address = host.strip("[]"), int(port)
    return over_stream(lambda: SocketStream(address, limits.connecting()), f"tcp:{rest}", limits)


def _ssh(rest: str, limits: Limits) -> Target:
    from vmatlas.target.ssh import connect_by_ssh

    return connect_by_ssh(rest, limits)


_CONNECTORS: dict[str, Connector] = {"agent": _agent, "ssh": _ssh, "serial": _serial, "unix": _unix, "tcp": _tcp}


def words() -> list[str]:
    """What URLs of targets begin with, the colon included."""
    return [f"{word}:" for word in sorted({*_CONNECTORS, *entries(TARGETS)})]


_EXAMPLES = {
    "agent": "for example agent:/usr/local/bin/vmatlas-agent",
    "ssh": "for example ssh:root@board",
    "serial": "for example serial:/dev/ttyUSB0",
    "unix": "for example unix:/run/agent.sock",
    "tcp": "for example tcp:board:4000",
}
