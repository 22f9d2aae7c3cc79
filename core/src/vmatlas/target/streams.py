"""Byte streams to an agent: a child's stdio, a serial line, a socket. Every wait has a limit; no threads.

A stream never interprets what it carries. It keeps its last words (what a child said on standard error) for the one who
has to explain why a target was lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import subprocess
import termios
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import Protocol

CHUNK = 65536
"""The most bytes of one reading."""

KEPT = 4096
"""How many bytes of last words are kept."""


class StreamEnded(Exception):
    """The other side is gone, or could not be reached; the text says how it ended."""


class ByteStream(Protocol):
    """Bytes there and back, each step with a limit in seconds."""

    def send(self, data: bytes, limit: float) -> None:
        """All of it. Raises StreamEnded when the other side is gone or does not take it in time."""
        ...

    def receive(self, limit: float) -> bytes:
        """What has come; waits for it at most so long. Empty: nothing came. Raises StreamEnded."""
        ...

    def last_words(self) -> str:
        """What was said beside the stream (standard error of a child)."""
        ...

    def close(self) -> None:
        """End it; what was started is ended too. Safe to call twice."""
        ...


class _Descriptors:
    """Non-blocking descriptors, polled."""

    def __init__(self, reading: int, writing: int, beside: int | None = None) -> None:
        """Raises StreamEnded where they cannot be made so; they stay open."""
        self.reading, self.writing, self.beside = reading, writing, beside
        self.words = bytearray()
        for descriptor in (reading, writing) if beside is None else (reading, writing, beside):
            try:  # os.set_blocking takes ioctl, which a sandbox may deny where it lets fcntl
                flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
                fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_NONBLOCK)
            except OSError as error:
                raise StreamEnded(f"no limit can be set to its answers: {error.strerror}") from None

    def send(self, data: bytes, limit: float) -> None:
        """Raises StreamEnded."""
        left = memoryview(data)
        until = time.monotonic() + limit
        poller = select.poll()
        poller.register(self.writing, select.POLLOUT)
        while left:
            try:
                left = left[os.write(self.writing, left) :]
                continue
            except BlockingIOError:
                pass
            except OSError as error:
                raise StreamEnded(f"writing failed: {error.strerror}") from None
            wait = until - time.monotonic()
            if wait <= 0:
                raise StreamEnded(f"it took no bytes for {limit:g} s")
            poller.poll(wait * 1000)

    def receive(self, limit: float) -> bytes:
        """Raises StreamEnded."""
        until = time.monotonic() + limit
        poller = select.poll()
        poller.register(self.reading, select.POLLIN)
        if self.beside is not None:
            poller.register(self.beside, select.POLLIN)
        while True:
            ready = dict(poller.poll(max(0.0, until - time.monotonic()) * 1000))
            if self.beside is not None and self.beside in ready and not self.listen():
                poller.unregister(self.beside)
                self.beside = None
            if self.reading in ready:
                try:
                    data = os.read(self.reading, CHUNK)
                except BlockingIOError:
                    continue
                except OSError as error:
                    raise StreamEnded(f"reading failed: {error.strerror}") from None
                if not data:
                    raise StreamEnded("it ended")
                return data
            if time.monotonic() >= until:
                return b""

    def listen(self) -> bool:
        """Take what was said beside; false at its end."""
        if self.beside is None:
            return False
        try:
            said = os.read(self.beside, CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        self.words += said
        del self.words[:-KEPT]
        return bool(said)

    def last_words(self) -> str:
        """What was said beside."""
        return self.words.decode("utf-8", "backslashreplace").strip()


_ENDING: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextlib.contextmanager
def _signals_held() -> Iterator[None]:
    """What comes meanwhile is raised at the end: a program that was just started is known to nobody yet who could end
    it, and who raises is not asked where."""
    came: list[int] = []
    before: dict[int, Callable[[int, FrameType | None], object]] = {}
    try:
        if threading.current_thread() is threading.main_thread():  # no other may, nor is interrupted
            for number in _ENDING:
                if callable(handler := signal.getsignal(number)):
                    before[number] = handler
                    signal.signal(number, lambda number, _: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came:
            signal.raise_signal(number)


def _end_child(child: subprocess.Popen[bytes], patience: float) -> None:
    """Closing its input ends an agent; what does not end by that is told to, then made to."""
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    for step in (None, child.terminate, child.kill):
        if step is not None:
            step()
        try:
            child.wait(patience)
            return
        except subprocess.TimeoutExpired:
            continue


class ChildStream:
    """The standard input and output of a program that is started here, and ended with the stream.

    When this process is killed, the program's input ends; an agent, and ssh in front of one, ends by that.
    """

    PATIENCE = 2.0
    """Seconds that a child is given after each step of ending it."""

    def __init__(self, command: Sequence[str]) -> None:
        """Start it. Raises StreamEnded when that is not possible."""
        self.command = tuple(command)
        child = None
        try:
            with _signals_held():
                self._child = child = subprocess.Popen(
                    self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
                )
                self._finalizer = weakref.finalize(self, _end_child, self._child, self.PATIENCE)
        except (OSError, ValueError, IndexError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            name = self.command[0] if self.command else ""
            raise StreamEnded(f"cannot start '{name}': {reason}") from None
        except BaseException:
            if child is not None:  # a signal, behind the start
                _end_child(child, self.PATIENCE)
            raise
        out, into, beside = self._child.stdout, self._child.stdin, self._child.stderr
        assert out and into and beside
        try:
            self._bytes = _Descriptors(out.fileno(), into.fileno(), beside.fileno())
        except BaseException:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """The process id of the program."""
        return self._child.pid

    def _ended(self, error: StreamEnded) -> StreamEnded:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(0.5)
        for _ in range(KEPT):  # what it said last may still be in the pipe; bounded, for one that never stops talking
            ready = self._bytes.beside is not None and select.select([self._bytes.beside], [], [], 0)[0]
            if not ready or not self._bytes.listen():
                break
        code = self._child.poll()
        if code is None:
            return error
        how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        return StreamEnded(f"'{self.command[0]}' {how}")

    def send(self, data: bytes, limit: float) -> None:
        """See ByteStream."""
        self._check_open()
        try:
            self._bytes.send(data, limit)
        except StreamEnded as error:
            raise self._ended(error) from None

    def receive(self, limit: float) -> bytes:
        """See ByteStream."""
        self._check_open()
        try:
            return self._bytes.receive(limit)
        except StreamEnded as error:
            raise self._ended(error) from None

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise StreamEnded("it was closed")

    def last_words(self) -> str:
        """What it said on standard error, the end of it."""
        return self._bytes.last_words()

    def close(self) -> None:
        """End the program."""
        self._finalizer()


def _end_tty(descriptor: int, settings: list[object]) -> None:
    with contextlib.suppress(termios.error, OSError):
        termios.tcsetattr(descriptor, termios.TCSANOW, settings)  # type: ignore[arg-type]
    with contextlib.suppress(OSError):
        os.close(descriptor)


class TtyStream:
    """A serial line, set raw; its settings are put back when it is closed."""

    def __init__(self, path: str, baud: int = 115200) -> None:
        """Open it, for ourselves alone. Raises StreamEnded."""
        speed = getattr(termios, f"B{baud}", None)
        if not isinstance(speed, int):
            raise StreamEnded(f"{baud} is no speed of a serial line here")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise StreamEnded(f"cannot open {path}: {error.strerror}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            before = termios.tcgetattr(descriptor)
            termios.tcsetattr(descriptor, termios.TCSANOW, _raw(before, speed))  # type: ignore[arg-type]
            termios.tcflush(descriptor, termios.TCIOFLUSH)
        except BlockingIOError:
            os.close(descriptor)
            raise StreamEnded(f"{path} is in use by another program") from None
        except (termios.error, OSError) as error:
            os.close(descriptor)
            raise StreamEnded(f"{path} is no serial line: {error.args[-1]}") from None
        self._finalizer = weakref.finalize(self, _end_tty, descriptor, before)
        try:
            self._bytes = _Descriptors(descriptor, descriptor)
        except BaseException:
            self.close()
            raise

    def send(self, data: bytes, limit: float) -> None:
        """See ByteStream."""
        self._check_open()
        self._bytes.send(data, limit)

    def receive(self, limit: float) -> bytes:
        """See ByteStream."""
        self._check_open()
        return self._bytes.receive(limit)

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise StreamEnded("it was closed")

    def last_words(self) -> str:
        """Nothing is said beside a line."""
        return ""

    def close(self) -> None:
        """Put the settings back and close."""
        self._finalizer()


def _raw(settings: list[object], speed: int) -> list[object]:
    """The settings of a line that passes every byte: 8 bits, no parity, no flow control, no carrier needed."""
    iflag, oflag, cflag, lflag, _, _, cc = settings
    assert isinstance(iflag, int) and isinstance(oflag, int) and isinstance(cflag, int) and isinstance(lflag, int)
    assert isinstance(cc, list)
    iflag &= ~(
        termios.IGNBRK
        | termios.BRKINT
        | termios.PARMRK
        | termios.INPCK
        | termios.ISTRIP
        | termios.INLCR
        | termios.IGNCR
        | termios.ICRNL
        | termios.IXON
        | termios.IXOFF
    )
    lflag &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
    cflag = cflag & ~(termios.CSIZE | termios.PARENB | termios.HUPCL) | termios.CS8 | termios.CLOCAL | termios.CREAD
    characters = list(cc)
    characters[termios.VMIN], characters[termios.VTIME] = 1, 0
    return [iflag, oflag & ~termios.OPOST, cflag, lflag, speed, speed, characters]


class SocketStream:
    """A socket: one that is connected, the path of a unix socket, or (host, port)."""

    def __init__(self, address: socket.socket | str | tuple[str, int], limit: float = 10.0) -> None:
        """Connect, within `limit` seconds, unless it is. The socket is closed with the stream. Raises StreamEnded."""
        try:
            if isinstance(address, socket.socket):
                self._socket = address
            elif isinstance(address, str):
                self._socket = _connect_unix(address, limit)
            else:
                self._socket = socket.create_connection(address, limit)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            shown = address if isinstance(address, str) else ":".join(map(str, address))  # type: ignore[arg-type]
            reason = "no answer" if isinstance(error, TimeoutError) else error.strerror or str(error)
            raise StreamEnded(f"cannot connect to {shown}: {reason}") from None
        except UnicodeError:  # what the encoding of domain names (idna) refuses: "a..b", a label of 64 letters
            raise StreamEnded(f"cannot connect to {address[0]}: that is no name of a host") from None  # type: ignore[index]
        self._closed = False
        try:
            self._bytes = _Descriptors(self._socket.fileno(), self._socket.fileno())
        except BaseException:
            self.close()
            raise

    def send(self, data: bytes, limit: float) -> None:
        """See ByteStream."""
        self._check_open()
        self._bytes.send(data, limit)

    def receive(self, limit: float) -> bytes:
        """See ByteStream."""
        self._check_open()
        return self._bytes.receive(limit)

    def _check_open(self) -> None:
        if self._closed:
            raise StreamEnded("it was closed")

    def last_words(self) -> str:
        """Nothing is said beside a socket."""
        return ""

    def close(self) -> None:
        """Close it."""
        self._closed = True
        self._socket.close()


def _connect_unix(path: str, limit: float) -> socket.socket:
    connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connecting.settimeout(limit)
        connecting.connect(path)
    except BaseException:
        connecting.close()
        raise
    return connecting


def open_patiently(opened: Callable[[], ByteStream], limit: float) -> ByteStream:
    """Try to open a stream until it succeeds or `limit` seconds are over; for what is just being started.

    Raises the StreamEnded of the last attempt.
    """
    until = time.monotonic() + limit
    while True:
        try:
            return opened()
        except StreamEnded:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)


__all__ = ["ByteStream", "ChildStream", "SocketStream", "StreamEnded", "TtyStream", "open_patiently"]
