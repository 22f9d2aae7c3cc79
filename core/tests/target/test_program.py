"""What an agent says of itself and of its children is checked before it is believed."""

from __future__ import annotations

import pytest

from vmatlas.errors import MalformedData, Unsupported
from vmatlas.target.agent import Agent
from vmatlas.target.wire import Decoder, Frame, Kind, Operation, encode, pack, text8, text16


class Scripted:
    """A stream whose other side says hello with one field changed, and answers every spawn with one number."""

    def __init__(self, key: str, value: str, spawned: int = 8) -> None:
        self.fields = {"pid": "7", "page_size": "4096", "pointer_bits": "64", key: value}
        self.spawned = spawned
        self.coming: list[bytes] = []
        self.closed = False

    def send(self, data: bytes, limit: float) -> None:
        for asked in Decoder().feed(data):
            assert isinstance(asked, Frame)
            pairs = b"".join(text8(key.encode()) + text16(value.encode()) for key, value in self.fields.items())
            hello = pack("H", len(self.fields)) + pairs
            payload = (
                hello if asked.operation == Operation.HELLO else pack("qI", self.spawned, 0) + text8(b"") + bytes(8)
            )
            self.coming.append(encode(Frame(Kind.END, asked.operation, asked.request, payload=payload)))

    def receive(self, limit: float) -> bytes:
        return self.coming.pop(0)

    def last_words(self) -> str:
        return ""

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("said", ["", "-5", "0", "1e9", "4294967296", "\u00b2", "9" * 300, " 7", "1_0"])
def test_a_pid_that_is_none_ends_the_conversation(said: str) -> None:
    stream = Scripted("pid", said)
    with pytest.raises(Unsupported, match=r"hello (lacks a number|says) 'pid'"):
        Agent(stream, "agent:test")
    assert stream.closed


@pytest.mark.parametrize("said", ["-4096", "0", "x"])
def test_a_page_size_that_is_none_is_said(said: str) -> None:
    agent = Agent(Scripted("page_size", said), "agent:test")
    with pytest.raises(Unsupported, match="'page_size'"):
        assert agent.hello.page_size


@pytest.mark.parametrize("spawned", [0, -5, 2**32, 2**62])
def test_a_child_with_no_pid_is_malformed(spawned: int) -> None:
    agent = Agent(Scripted("pid", "7", spawned), "agent:test")
    with pytest.raises(MalformedData, match="the pid of a child"):
        agent.spawn()
