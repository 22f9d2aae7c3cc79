"""An agent on a serial line: a pair of ptys, with a noisy line between them where the test wants one."""

from __future__ import annotations

import os
import pty
import random
import select
import signal
import subprocess
import termios
import threading
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas.errors import TargetLost
from vmatlas.target.agent import Agent, Limits
from vmatlas.target.asking import PIECE
from vmatlas.target.streams import StreamEnded, TtyStream


class Wire:
    """Two ptys, joined: what one side writes the other reads, now and then with bytes added, lost or flipped."""

    def __init__(self) -> None:
        self.masters, self.paths = [], []
        self._kept_open = []
        for _ in range(2):
            master, end = pty.openpty()
            tty.setraw(end)
            self.masters.append(master)
            self.paths.append(os.ttyname(end))
            self._kept_open.append(end)
        self.noise = 0.0
        """The probability that a chunk is damaged."""
        self.flips = 0.0
        """The probability that a byte has a bit flipped, or (one time in four) is lost."""
        self.damaged = 0
        self._random = random.Random(1)
        self._stop_reading, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._carry, daemon=True)
        self._thread.start()

    def _carry(self) -> None:
        while True:
            ready, _, _ = select.select([*self.masters, self._stop_reading], [], [])
            if self._stop_reading in ready:
                return
            for index, master in enumerate(self.masters):
                if master in ready:
                    try:
                        data = bytearray(os.read(master, 4096))
                    except OSError:
                        continue
                    if self._random.random() < self.noise:
                        data = self._damage(data)
                    data = self._flip(data)
                    while data:
                        del data[: os.write(self.masters[1 - index], data)]

    def _flip(self, data: bytearray) -> bytearray:
        at = 0
        while self.flips and (at := at + int(self._random.expovariate(self.flips))) < len(data):
            self.damaged += 1
            if self._random.random() < 0.25:
                del data[at]
            else:
                data[at] ^= 1 << self._random.randrange(8)
            at += 1
        return data

    def _damage(self, data: bytearray) -> bytearray:
        self.damaged += 1
        at = self._random.randrange(len(data))
        match self._random.randrange(4):
            case 0:
                data[at] ^= 1 << self._random.randrange(8)
            case 1:
                del data[at : at + self._random.randrange(1, 20)]
            case 2:
                data[at:at] = self._random.randbytes(self._random.randrange(1, 40))
            case _:
                data[at:at] = b"\x9dVM\xa5[   12.34] usb 1-1: new device\r\n"
        return data

    def close(self) -> None:
        os.write(self._stop, b".")
        self._thread.join(PATIENCE)
        for descriptor in (*self.masters, *self._kept_open, self._stop, self._stop_reading):
            os.close(descriptor)


@pytest.fixture
def wire() -> Iterator[Wire]:
    joined = Wire()
    yield joined
    joined.close()


@pytest.fixture
def served(wire: Wire, binary: Path) -> Iterator[subprocess.Popen[bytes]]:
    """An agent that serves the far end of the wire."""
    child = subprocess.Popen([binary, "--port", wire.paths[1], "--baud", "115200"], stderr=subprocess.PIPE)
    assert child.stderr
    assert child.stderr.readline() == f"vmatlas-agent: ready on {wire.paths[1]}\n".encode()
    yield child
    child.terminate()
    child.communicate(timeout=PATIENCE)


def test_an_agent_answers_over_a_line(wire: Wire, served: subprocess.Popen[bytes]) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test") as agent:
        assert agent.hello.pid == served.pid
        assert agent.ping(bytes(range(256)) * 128) == bytes(range(256)) * 128


def test_the_settings_of_a_line_are_put_back(wire: Wire, served: subprocess.Popen[bytes]) -> None:
    end = wire._kept_open[0]
    settings = termios.tcgetattr(end)
    settings[3] |= termios.ECHO | termios.ICANON
    termios.tcsetattr(end, termios.TCSANOW, settings)
    settings = termios.tcgetattr(end)
    stream = TtyStream(wire.paths[0])
    assert not termios.tcgetattr(end)[3] & termios.ECHO
    stream.close()
    assert termios.tcgetattr(end) == settings


def test_a_line_is_for_one_host(wire: Wire, served: subprocess.Popen[bytes]) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test"), pytest.raises(StreamEnded, match="in use by another program"):
        TtyStream(wire.paths[0])


def test_the_next_host_on_a_line_is_served(wire: Wire, served: subprocess.Popen[bytes]) -> None:
    for _ in range(3):
        with Agent(TtyStream(wire.paths[0]), "serial:test") as agent:
            agent.ping()


def test_a_program_does_not_inherit_that_the_agent_of_a_line_ignores_its_end(
    wire: Wire, served: subprocess.Popen[bytes], ignored_by_a_program: Callable[[Agent], set[int]]
) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test") as agent:
        assert not {signal.SIGPIPE, signal.SIGHUP} & ignored_by_a_program(agent)


def test_a_host_that_gave_up_within_an_answer_leaves_the_next_no_trouble(
    wire: Wire, served: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    from vmatlas.target.wire import Frame, Kind, Operation, encode, pack, text16

    large = tmp_path / "large"
    large.write_bytes(os.urandom(2 << 20))
    stream = TtyStream(wire.paths[0])
    stream.send(
        encode(Frame(Kind.REQUEST, Operation.READ_FILE, 9, payload=text16(bytes(large)) + pack("Q", 0))), PATIENCE
    )
    assert stream.receive(PATIENCE)
    stream.close()
    with Agent(TtyStream(wire.paths[0]), "serial:test") as agent:
        assert agent.ping(b"served") == b"served"


@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_noise_costs_time_and_nothing_else(wire: Wire, served: subprocess.Popen[bytes], noise: float) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test", Limits(silence=PATIENCE, again=0.4, attempts=60)) as agent:
        child = agent.spawn()
        page = agent.hello.page_size
        text = Path(f"/proc/{child.pid}/maps").read_bytes()
        wire.noise = noise
        made = []
        for number in range(30):
            assert agent.ping(b"%d" % number) == b"%d" % number
            assert agent.itself.acquire("linux.maps", child.pid)["maps"] == text
            made.append(child.map(page, protection=child_protection(number)).value)
            assert child.unmap(made[-1], page).ok
        wire.noise = 0.0
        assert wire.damaged > 3, "the line was noisy"
        assert agent.itself.acquire("linux.maps", child.pid)["maps"] == text, "nothing was mapped or unmapped twice"


def test_a_long_answer_comes_through_a_line_that_damages_each_large_frame(
    wire: Wire, served: subprocess.Popen[bytes]
) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test", Limits(silence=60, again=1)) as agent:
        child = agent.spawn()
        page = agent.hello.page_size
        block = child.map(2000 * page).value
        assert child.protect_every(block, 2000 * page, 2 * page, page, child_protection(0)).value == 1000
        text = Path(f"/proc/{child.pid}/maps").read_bytes()
        assert text.count(b"\n") > 2000
        wire.flips = 1e-4
        before = agent.talk.frames_received
        assert agent.itself.acquire("linux.maps", child.pid)["maps"] == text
        assert wire.damaged > 8, "the line was bad"
        needed = len(text) / PIECE
        assert agent.talk.frames_received - before < 3 * needed + 60, "what was lost came again, and not the whole"
        # A child's answers are asked for in pieces as well.
        assert child.acquire("linux.maps")["maps"] == text


def test_an_agent_that_cannot_send_pieces_is_asked_for_the_whole_again(
    wire: Wire, served: subprocess.Popen[bytes]
) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test", Limits(silence=20, again=0.4, attempts=60)) as agent:
        agent.talk.can_resend = False  # as its hello would have said
        text = Path(f"/proc/{served.pid}/maps").read_bytes()
        wire.flips = 1e-4
        for _ in range(10):
            assert agent.itself.acquire("linux.maps")["maps"] == text
        assert not agent.talk._in_pieces


def child_protection(number: int):  # type: ignore[no-untyped-def]
    from vmatlas.model import Protection

    return Protection(number % 4)


def test_a_dead_line_is_a_lost_target_with_what_it_said(wire: Wire, served: subprocess.Popen[bytes]) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test") as agent:
        agent.talk.limits = Limits(silence=1.5, again=0.5)
        os.kill(served.pid, signal.SIGSTOP)
        end = os.open(wire.paths[1], os.O_WRONLY | os.O_NOCTTY)
        os.write(end, b"Kernel panic - not syncing: Attempted to kill init!\r\n")
        os.close(end)
        began = time.monotonic()
        with pytest.raises(TargetLost, match="did not answer") as lost:
            agent.ping()
        assert time.monotonic() - began < PATIENCE
        assert "Kernel panic" in lost.value.last_words
        os.kill(served.pid, signal.SIGCONT)


def test_an_agent_that_died_and_was_started_anew_is_a_lost_target(
    wire: Wire, served: subprocess.Popen[bytes], binary: Path
) -> None:
    with Agent(TtyStream(wire.paths[0]), "serial:test") as agent:
        os.kill(served.pid, signal.SIGKILL)
        served.wait()
        again = subprocess.Popen([binary, "--port", wire.paths[1]], stderr=subprocess.PIPE)
        assert again.stderr and again.stderr.readline()
        try:
            with pytest.raises(TargetLost, match="started anew"):
                agent.spawn()
            with pytest.raises(TargetLost, match="started anew"):
                agent.ping()
        finally:
            again.terminate()
            again.communicate(timeout=PATIENCE)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/no/such/tty", "cannot open /no/such/tty: No such file"),
        ("/dev/null", "/dev/null is no serial line"),
    ],
)
def test_what_is_no_line_is_said(path: str, said: str) -> None:
    with pytest.raises(StreamEnded, match=said):
        TtyStream(path)


def test_a_speed_that_no_line_has_is_said(wire: Wire) -> None:
    with pytest.raises(StreamEnded, match="12345 is no speed"):
        TtyStream(wire.paths[0], 12345)


def test_an_agent_on_a_terminal_sets_it_raw_and_puts_it_back(binary: Path) -> None:
    master, end = pty.openpty()
    before = termios.tcgetattr(end)
    child = subprocess.Popen([binary], stdin=end, stdout=end)
    until = time.monotonic() + PATIENCE
    while termios.tcgetattr(end)[3] & termios.ECHO:
        assert time.monotonic() < until
        time.sleep(0.01)
    agent = Agent(_Descriptor(os.dup(master)), "serial:test")
    assert agent.ping(b"\x03\x04\x11\x13") == b"\x03\x04\x11\x13"
    child.terminate()
    assert child.wait(PATIENCE) == 0
    assert termios.tcgetattr(end) == before
    agent.close()
    os.close(master)
    os.close(end)


def test_a_port_that_comes_late_and_goes_and_comes_again_is_served(binary: Path, tmp_path: Path) -> None:
    port = tmp_path / "port"
    child = subprocess.Popen([binary, "--port", port], stderr=subprocess.DEVNULL)
    try:
        for _ in range(2):
            time.sleep(0.3)
            near, far = pty.openpty()
            tty.setraw(far)
            port.unlink(missing_ok=True)
            port.symlink_to(os.ttyname(far))
            with Agent(_Descriptor(near), "serial:test", Limits(silence=PATIENCE)) as agent:
                assert agent.hello.pid == child.pid
            os.close(far)
    finally:
        child.terminate()
        assert child.wait(PATIENCE) == 0


class _Descriptor:
    """A pty's own side as a stream; closing it hangs the line up."""

    def __init__(self, descriptor: int) -> None:
        from vmatlas.target.streams import _Descriptors

        self._bytes, self._descriptor, self._open = _Descriptors(descriptor, descriptor), descriptor, True
        self.send, self.receive, self.last_words = self._bytes.send, self._bytes.receive, self._bytes.last_words

    def close(self) -> None:
        if self._open:
            os.close(self._descriptor)
        self._open = False
