"""What an agent says of itself and of its children is checked before it is believed."""

from __future__ import annotations

import pytest

from vmatlas.errors import MalformedData, Unsupported
from vmatlas.target.agent import Agent
from vmatlas.target.wire import Decoder, Frame, Kind, Operation, encode, pack, read_hello, text8


def text16(text: bytes) -> bytes:
    """A text of any length: what the host sends is bounded, what it hears is not."""
    return pack("H", len(text)) + text


class Scripted:
    """A stream whose other side says hello with one field changed, and answers every spawn with one number."""

    def __init__(self, key: str, value: str, spawned: int = 8) -> None:
        self.fields = {"pid": "7", "page_size": "4096", "pointer_bits": "64", "byte_order": "little", key: value}
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


NO_NUMBERS = ["-5", "0", "1e9", "4294967296", "\u00b2", "9" * 4000, " 7", "1_0", "7\n", "\u0664"]


@pytest.mark.parametrize(
    ("key", "said"),
    [
        *(("pid", said) for said in NO_NUMBERS),
        *(("page_size", said) for said in [*NO_NUMBERS, "1", "3", "4095", "256", "4294967295", "2147483648"]),
        *(("pointer_bits", said) for said in [*NO_NUMBERS, "8", "33", "128"]),
        *(("byte_order", said) for said in ["middle", "Little", "\x1b[31m"]),
        *(("system", said) for said in ["a\0b", "x" * 4097]),
    ],
)
def test_what_a_hello_says_wrong_is_malformed_by_its_name(key: str, said: str) -> None:
    stream = Scripted(key, said)
    with pytest.raises(MalformedData, match=f"expected '{key}' to be") as wrong:
        Agent(stream, "agent:test")
    assert stream.closed
    assert wrong.value.target == "agent:test" and len(str(wrong.value)) < 400


@pytest.mark.parametrize("key", ["pid", "page_size", "pointer_bits", "byte_order"])
def test_a_hello_that_lacks_what_it_is_read_by_is_of_another_version(key: str) -> None:
    stream = Scripted(key, "")
    with pytest.raises(Unsupported, match=f"hello lacks '{key}'"):
        Agent(stream, "agent:test")
    assert stream.closed


def test_a_hello_that_says_something_twice_is_malformed() -> None:
    pair = text8(b"pid") + text16(b"7")
    with pytest.raises(MalformedData, match="each key once, and not 'pid' again"):
        read_hello(pack("H", 2) + pair + pair)


@pytest.mark.parametrize("spawned", [0, -5, 2**32, 2**62])
def test_a_child_with_no_pid_is_malformed(spawned: int) -> None:
    agent = Agent(Scripted("pid", "7", spawned), "agent:test")
    with pytest.raises(MalformedData, match="the pid of a child"):
        agent.spawn()
