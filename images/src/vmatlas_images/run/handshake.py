"""What a machine's hello is: the agent's own, asked until it comes. Gives the product's target over the same stream."""

from __future__ import annotations

import socket

from vmatlas.target.agent import Agent, Limits
from vmatlas.target.streams import SocketStream

from .boot import Greeting

_AGAIN = 0.5  # seconds between two questions to a guest that may still be booting


def greet(stream: socket.socket, limit: float) -> Greeting:
    """The agent's hello, within `limit` seconds. Leaves the stream open. Raises TargetLost."""
    patience = Limits(silence=limit, again=_AGAIN, attempts=int(limit / _AGAIN) + 1)
    with Agent(SocketStream(stream.dup()), "machine", patience) as agent:
        hello = agent.hello
        return Greeting(hello.fields.get("release", "unknown"), hello.pointer_bits, dict(hello.fields))
