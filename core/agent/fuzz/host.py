"""The host's half eats arbitrary bytes: frames, payloads, whole conversations, what a socket gives.

`python core/agent/fuzz/host.py SEED ROUNDS SECONDS FOLDER`: the corpus, then inputs until one of the bounds (0: none);
guided by coverage where atheris is installed and time is the bound. Claims: nothing but the errors that are documented;
what is kept stays bounded; pieces make no difference; a conversation ends, whatever the other side says. Time is the
harness's own, so nothing waits.
"""

from __future__ import annotations

import contextlib
import os
import random
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import vmatlas.target.asking as asking
from vmatlas.errors import MalformedData, VmatlasError
from vmatlas.target.agent import Agent, AgentTarget, MapFlag
from vmatlas.target.streams import SocketStream, StreamEnded
from vmatlas.target.wire import (
    MAX_PAYLOAD,
    Assembly,
    Damage,
    Decoder,
    Fields,
    Frame,
    Gap,
    Kind,
    Operation,
    encode,
    read_failure,
    read_hello,
    read_processes,
    read_result,
    text8,
    text16,
)

HERE = Path(__file__).parent
KEEP = 512


class Input:
    """The fuzzer's bytes, taken from the front; after the end everything is 0."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes not yet taken."""
        return len(self.data) - self.at

    def byte(self) -> int:
        """The next one."""
        self.at += 1
        return self.data[self.at - 1] if self.at <= len(self.data) else 0

    def word(self) -> int:
        """The next two."""
        return self.byte() | self.byte() << 8

    def bytes(self, size: int) -> bytes:
        """At most so many."""
        self.at += size
        return self.data[self.at - size : self.at]


def damaged(given: Input, whole: bytes) -> bytes:
    """A frame, sometimes cut, flipped or with another length that its header's CRC confirms."""
    oddity = given.byte()
    if oddity == 255:
        return whole[: given.word() % len(whole)]
    if oddity == 254:
        at = given.word() % len(whole)
        return whole[:at] + bytes((whole[at] ^ 1 << given.byte() % 8,)) + whole[at + 1 :]
    return whole


# ---- frames ----


def some_stream(given: Input) -> bytes:
    """Frames and bytes that are none."""
    pieces = []
    while given.left > 0:
        kind, size = given.byte(), given.byte()
        if kind < 64:
            pieces.append(given.bytes(size))
            continue
        payload = given.bytes(size) if size < 250 else bytes(MAX_PAYLOAD - (size - 250))
        frame = Frame(kind % 8, given.byte(), given.byte(), given.byte() % 4, 0, payload, 1 + (kind == 255))
        pieces.append(damaged(given, encode(frame)))
    return b"".join(pieces)


def decoded(stream: bytes, sizes: bytes) -> list[Frame]:
    """The frames of a stream that comes in pieces of these sizes, and then in one."""
    decoder = Decoder(keep=KEEP)
    found: list[Frame | Damage] = []
    at = 0
    for size in sizes:
        found += decoder.feed(stream[at : at + size * 7 + 1])
        at += size * 7 + 1
    found += decoder.feed(stream[at:])
    while decoder.partial:
        found += decoder.cut()
    assert len(decoder.stray) <= KEEP
    frames = [each for each in found if isinstance(each, Frame)]
    for frame in frames:
        assert encode(frame) in stream, "what was given out stood in the stream"
    return frames


def eat_frames(given: Input) -> None:
    """Pieces make no difference; nothing is made up."""
    sizes = given.bytes(given.byte() % 32)
    stream = some_stream(given)
    assert decoded(stream, sizes) == decoded(stream, b"")


# ---- payloads ----


def eat_payloads(given: Input) -> None:
    """Each reader takes any bytes, or says that they are malformed."""
    payload = given.bytes(given.left)
    readers: tuple[Callable[[bytes], object], ...] = (read_result, read_failure, read_hello, read_processes)
    for reader in readers:
        with contextlib.suppress(MalformedData):
            reader(payload)
    assembly = Assembly(7)
    fields = Fields(payload)
    try:
        while fields.left:
            kind, sequence = fields.numbers("BB")
            assembly.add(Frame(kind % 4 + 1, 5, 7, sequence, 0, fields.text8()))
    except (MalformedData, Gap):
        pass
    assert sum(map(len, assembly.streams.values())) <= len(payload)


# ---- conversations ----


class Clock:
    """Time that passes when something is waited for."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Seconds."""
        return self.now


class ScriptedAgent:
    """The other side: a byte stream that answers each request as the fuzzer's bytes say."""

    def __init__(self, given: Input, clock: Clock) -> None:
        self.given, self.clock = given, clock
        self.requests = Decoder()
        self.coming = bytearray()
        self.closed = False

    def send(self, data: bytes, limit: float) -> None:
        """Whatever is asked has an answer of its own."""
        found = self.requests.feed(data)
        assert all(isinstance(each, Frame) for each in found), "the host never sends a bad frame"
        for asked in found:
            if isinstance(asked, Frame):
                self.coming += self.answer(asked)

    def answer(self, asked: Frame) -> bytes:
        """Frames that hold mostly."""
        given, pieces = self.given, []
        if asked.operation == Operation.HELLO and given.byte() < 240:
            return encode(Frame(Kind.END, 1, asked.request, 0, 0, self.hello()))
        count = given.byte() % 6
        for sequence in range(count + 1):
            oddity = given.byte()
            kind = Kind.DATA if sequence < count else Kind.ERROR if oddity % 3 == 0 else Kind.END
            payload = given.bytes(given.byte())
            if kind == Kind.DATA and oddity < 200:
                names = (b"processes", b"maps", b"vmas", b"stat", b"memory", b"names", b"link", b"file", b"errnos")
                payload = bytes((oddity % 3,)) + text8(names[oddity % len(names)]) + payload
            if kind == Kind.END and oddity < 200:
                payload = payload[:12].ljust(12, b"\0") + text8(b"EPERM"[: oddity % 6]) + payload[12:20].ljust(8, b"\0")
            if kind == Kind.ERROR and oddity < 200:
                payload = payload[:5].ljust(5, b"\1") + text8(b"ENOTCONN"[: oddity % 9]) + text16(payload[5:])
            request = asked.request if oddity < 250 else given.byte()
            frame = Frame(kind, asked.operation, request, sequence if oddity != 240 else 9, asked.process, payload)
            pieces.append(damaged(given, encode(frame)))
            if oddity == 241:
                pieces.append(given.bytes(given.byte()))
            if oddity == 242:
                pieces.pop()
        return b"".join(pieces)

    def hello(self) -> bytes:
        """Pairs; now and then a number is none, which ends the conversation."""
        given = self.given

        def one_of(right: tuple[bytes, ...], wrong: tuple[bytes, ...]) -> bytes:
            choice = given.byte()
            return wrong[choice % len(wrong)] if choice > 247 else right[choice % len(right)]

        values = {
            b"system": (b"Linux", b"FreeBSD", b"QNX", b"\xff")[given.byte() % 4],
            b"machine": (b"x86_64", b"s390x", b"")[given.byte() % 3],
            b"page_size": one_of((b"4096", b"65536"), (b"-1", b"x", b"9" * 300, b"3")),
            b"pointer_bits": one_of((b"64", b"32"), (b"", b"8")),
            b"pid": one_of((b"7", b"4294967295"), (b"-5", b"1e9")),
            b"byte_order": one_of((b"little", b"big"), (b"?",)),
            b"sources": b"linux.maps linux.smaps linux.smaps_rollup linux.procmap_query freebsd.vmmap qnx.mapinfo",
            b"operations": given.bytes(given.byte() % 16),
        }
        count = len(values) if given.byte() < 250 else given.word()
        return count.to_bytes(2, "little") + b"".join(text8(key) + text16(value) for key, value in values.items())

    def receive(self, limit: float) -> bytes:
        """What is coming, in pieces; or time passes."""
        oddity = self.given.byte()
        if oddity > 252 or self.closed:
            raise StreamEnded("it ended")
        if not self.coming or oddity > 245:
            self.clock.now += max(limit, 0.001)
            return b""
        size = len(self.coming) if oddity < 128 else oddity % 61 + 1
        data = bytes(self.coming[:size])
        del self.coming[:size]
        return data

    def last_words(self) -> str:
        """None."""
        return ""

    def close(self) -> None:
        """No more."""
        self.closed = True


def eat_conversation(given: Input) -> None:
    """Everything that an agent is asked ends, with a value or with an error of ours."""
    clock = Clock()
    stream = ScriptedAgent(given, clock)
    asking.time = clock  # type: ignore[assignment]
    try:
        agent = Agent(stream, "agent:fuzz")
        target = AgentTarget(agent)
        child = agent.itself
        steps: tuple[Callable[[], object], ...] = (
            lambda: agent.ping(b"ping"),
            lambda: agent.processes(given.byte()),
            lambda: child.acquire("linux.maps", 7),
            lambda: child.query("linux.procmap_query", [1, 2, 3]),
            lambda: child.map(4096, flags=MapFlag.SHARED),
            lambda: child.touch(4096, 4096),
            lambda: child.peek(4096, 100),
            lambda: child.move(4096, 4096, 8192, flags=1),
            lambda: agent.read_file(b"/file"),
            lambda: agent.write_file(b"/file", bytes(50_000)),
            lambda: agent.list_folder(b"/"),
            lambda: agent.read_link(b"/link"),
            lambda: agent.stat_file(b"/file"),
            lambda: agent.look_up(b"/", b"/file", {1: 2, 2: 3}),
            lambda: agent.advise_process(7, [(4096, 4096)], 20),
            lambda: agent.spawn().ask(Operation.PING, b"x"),
            lambda: list(target.processes()),
            lambda: target.open(given.byte()).inode(b"/file"),
            lambda: (target.system_info, target.rights()),
            lambda: child.reap(0.1),
            lambda: child.sleep(0.1),
        )
        for _ in range(given.byte() % 8):
            try:
                steps[given.byte() % len(steps)]()
            except VmatlasError as error:
                str(error)
        agent.shutdown()
    except VmatlasError as error:
        str(error)
    finally:
        asking.time = time
    assert clock.now < 1000 + 10_000, "every wait has a limit"


# ---- sockets ----


def eat_socket(given: Input) -> None:
    """What goes in comes out, in order; then the end is told."""
    ours, theirs = socket.socketpair()
    stream = SocketStream(ours)
    try:
        sent, received = b"", b""
        while given.left > 0:
            piece = given.bytes(1 + given.byte() * 8)
            theirs.sendall(piece)
            sent += piece
            if given.byte() % 3 == 0:
                received += stream.receive(0)
        theirs.close()
        try:
            while True:
                received += stream.receive(1)
        except StreamEnded:
            pass
        assert received == sent
    finally:
        theirs.close()
        stream.close()


EATERS = (eat_frames, eat_payloads, eat_conversation, eat_conversation, eat_socket)


def one_input(data: bytes) -> None:
    """Raises when a claim does not hold."""
    given = Input(data)
    EATERS[given.byte() % len(EATERS)](given)


def some_input(corpus: list[bytes], draw: random.Random) -> bytes:
    """A mutation, or something new."""
    data = bytearray(draw.choice(corpus) if corpus and draw.random() < 0.7 else draw.randbytes(draw.randrange(400)))
    for _ in range(draw.randrange(10) if data else 0):
        at = draw.randrange(len(data) or 1)
        match draw.randrange(4):
            case 0:
                data[at : at + 1] = draw.randbytes(1)
            case 1:
                del data[at : at + draw.randrange(20)]
            case 2:
                data[at:at] = data[at : at + draw.randrange(40)]
            case _:
                data[at : at + 4] = draw.choice((b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x01\0\0\0", b"\x9dVM\xa5"))
    return bytes(data)


Eats = Callable[[bytes], None]


def run(name: str, corpus: list[bytes], eat: Eats, seed: int, rounds: int, seconds: int, found: Path) -> int:
    """Without atheris. 0, or 1 when an input was kept for which a claim does not hold."""
    draw = random.Random(seed)
    until = time.monotonic() + seconds
    runs, waiting = 0, list(corpus)
    while waiting or ((not rounds or runs < rounds) and (not seconds or time.monotonic() < until)):
        data = waiting.pop() if waiting else some_input(corpus, draw)
        try:
            eat(data)
        except Exception:
            kept = found / f"crash-{seed}-{runs}"
            kept.write_bytes(data)
            sys.stderr.write(f"fuzz: {name}: FOUND something; its input is {kept}\n")
            raise
        runs += 1
    sys.stdout.write(f"fuzz: {name} (python, not guided): {runs:,} runs, nothing found\n")
    return 0


def run_guided(name: str, corpus: list[bytes], largest: int, eater: str, seed: int, seconds: int, found: Path) -> int:
    """With atheris, in a process of its own, since libFuzzer ends the one that it runs in."""
    module = eater.partition(".")[0]
    program = (
        "import sys, atheris\n"
        f"sys.path.insert(0, {str(HERE)!r})\n"
        f"with atheris.instrument_imports(include=['vmatlas', {module!r}]):\n"
        f"    import {module}\n"
        f"atheris.Setup(sys.argv, {eater})\n"
        "atheris.Fuzz()\n"
    )
    arguments = [f"-max_total_time={seconds}", f"-seed={seed}", f"-max_len={largest}", "-timeout=60"]
    arguments += ["-print_final_stats=1", f"-artifact_prefix={found}/", "-verbosity=0", "-rss_limit_mb=2048"]
    with tempfile.TemporaryDirectory(prefix="vmatlas-fuzz-") as first:
        for number, content in enumerate(corpus):
            Path(first, f"{number:04}").write_bytes(content)
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments, str(found), first],
            capture_output=True,
            text=True,
            timeout=seconds + 300,
            check=False,
            env={**os.environ, "PYTHONHASHSEED": "0"},
        )
    if done.returncode != 0:
        sys.stderr.write(f"{done.stdout}{done.stderr}\nfuzz: {name}: FOUND something; its input is in {found}\n")
        return 1
    runs = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "0")
    sys.stdout.write(f"fuzz: {name} (atheris, guided by coverage): {int(runs):,} runs, nothing found\n")
    return 0 if int(runs) else 1


def main(name: str, corpus: list[bytes], eat: Eats, largest: int, eater: str) -> int:
    """The command of a target in Python: `corpus` is run first. `eater`: what `eat` is called, its module before it."""
    seed, rounds, seconds = map(int, sys.argv[1:4])
    found = Path(sys.argv[4])
    try:
        import atheris  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
    except ImportError:
        return run(name, corpus, eat, seed, rounds, seconds, found)
    if not seconds:
        return run(name, corpus, eat, seed, rounds, seconds, found)
    return run_guided(name, corpus, largest, eater, seed, seconds, found)


if __name__ == "__main__":
    recorded = [path.read_bytes() for path in sorted((HERE / "corpus" / "host").glob("*"))]
    sys.exit(main("host", recorded, one_input, 2048, "host.one_input"))
