"""A machine's console: kept in a file, watched for the words of a panic, read and typed on by a dialogue.

A console is a serial line, or a VGA text screen whose memory is read and whose keys are typed through QEMU's
monitor. A guest that floods it costs neither disk nor memory: the file keeps the first and the last of what was
said, and how much lies between. This module knows a guest's words only as patterns from its description.
"""

from __future__ import annotations

import contextlib
import re
import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from ..describe.machine import Step
from ..errors import ImagesError

HEAD = 4 << 20  # bytes of a console that are written to the file as they come
TAIL = 256 << 10  # bytes at its end that are kept when there were more
_VGA_MEMORY, _COLUMNS, _ROWS = 0xB8000, 80, 25
_VGA_INTERVAL = 0.5  # seconds between two looks at the screen


class Transcript:
    """A console's file: complete up to `HEAD` bytes, and beyond that with its last `TAIL` bytes, written at `close`."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("wb", buffering=0)
        self._written = 0
        self._left_out = 0
        self._tail = bytearray()
        self.problem = ""
        """Why the file is not whole; empty when it is."""

    def add(self, said: bytes) -> None:
        """Takes what the guest has just said."""
        if self._file.closed:
            return
        room = max(0, HEAD - self._written)
        if now := said[:room]:
            self._write(now)
            self._written += len(now)
        self._tail += said[room:]
        if len(self._tail) > TAIL:
            self._left_out += len(self._tail) - TAIL
            del self._tail[:-TAIL]

    def close(self) -> None:
        """Writes the end. May be called again."""
        if self._file.closed:
            return
        if self._left_out:
            self._write(b"\n[vmatlas: %d bytes of this console are left out here]\n" % self._left_out)
        self._write(self._tail)
        self._file.close()

    def _write(self, said: bytes | bytearray) -> None:
        """A disk that is full costs the file, not the machine: what it says is still watched."""
        try:
            self._file.write(said)
        except OSError as error:
            self.problem = error.strerror or str(error)


class Console(ABC):
    """What a dialogue and a watcher need of a console."""

    def __init__(self, transcript: Transcript, panic: Sequence[str]) -> None:
        self.transcript = transcript
        self._panic_words = [word.encode() for word in panic]
        self._changed = threading.Condition()
        self._recent = bytearray()  # the last TAIL bytes
        self._dropped = 0  # bytes that came before those
        self._panic_at: int | None = None  # where its word stands, in bytes from the start of the console
        self._panic = ""

    @abstractmethod
    def type(self, text: str) -> None:
        """Types; a newline is the enter key."""

    @abstractmethod
    def close(self) -> None:
        """Ends the watching; the transcript is whole afterwards."""

    def mark(self) -> int:
        """A position for `since`: now."""
        with self._changed:
            return self._dropped + len(self._recent)

    def since(self, mark: int) -> str:
        """What was said after a mark, as far as it is still kept."""
        with self._changed:
            return self._recent[max(0, mark - self._dropped) :].decode("utf-8", "replace")

    def said_anything(self) -> bool:
        """Whether the guest has said a word yet."""
        return self.mark() > 0

    @property
    def panic(self) -> str | None:
        """The line with a word of panic, once there was one."""
        with self._changed:
            return self._panic.strip() if self._panic_at is not None else None

    def settle(self, quiet: float = 0.2, limit: float = 1.0) -> None:
        """Returns when nothing was said for `quiet` seconds, at the latest after `limit`: last words are many."""
        end = time.monotonic() + limit
        mark = -1
        while mark != self.mark() and time.monotonic() < end:
            mark = self.mark()
            time.sleep(quiet)

    def last_words(self, size: int = 4000) -> str:
        """The end of what was said, as text."""
        with self._changed:
            return self._recent[-size:].decode("utf-8", "replace").replace("\r", "").strip()

    def wait(self, limit: float) -> None:
        """Returns when something was said, or after `limit` seconds."""
        with self._changed:
            self._changed.wait(limit)

    def _heard(self, said: bytes) -> None:
        self.transcript.add(said)
        with self._changed:
            overlap = max((len(word) for word in self._panic_words), default=0)
            start = max(0, len(self._recent) - overlap)
            self._recent += said
            self._look_for_panic(start)
            if len(self._recent) > TAIL:
                self._dropped += len(self._recent) - TAIL
                del self._recent[:-TAIL]
            self._changed.notify_all()

    def _look_for_panic(self, start: int) -> None:
        """Notes the first word of panic after `start`, and its line as far as it has come."""
        if self._panic_at is None:
            found = [at for word in self._panic_words if (at := self._recent.find(word, start)) >= 0]
            if not found:
                return
            self._panic_at = self._dropped + min(found)
        at = self._panic_at - self._dropped
        if at >= 0 and not self._panic.endswith("\n"):
            line = self._recent[self._recent.rfind(b"\n", 0, at) + 1 :]
            self._panic = line[: line.find(b"\n") + 1 or None].decode("utf-8", "replace")


class SerialConsole(Console):
    """A console at the other end of a byte stream."""

    def __init__(self, stream: socket.socket, transcript: Transcript, panic: Sequence[str] = ()) -> None:
        super().__init__(transcript, panic)
        self._stream = stream
        self._reader = threading.Thread(target=self._read, name="console", daemon=True)
        self._reader.start()

    def type(self, text: str) -> None:
        """Sends the text; a newline goes as a carriage return, as a terminal's enter key does."""
        try:
            self._stream.sendall(text.replace("\n", "\r").encode())
        except OSError as error:
            raise ImagesError(f"the console is gone: {error}") from error

    def close(self) -> None:
        """Ends the reading once what has come is read."""
        self._reader.join(0.2)  # when QEMU has ended, the last bytes are still on their way
        with contextlib.suppress(OSError):  # its other end may have gone first
            self._stream.shutdown(socket.SHUT_RDWR)
        self._reader.join(5)
        self._stream.close()
        self.transcript.close()

    def _read(self) -> None:
        while True:
            try:
                said = self._stream.recv(1 << 16)
            except OSError:
                said = b""
            if not said:
                with self._changed:
                    self._changed.notify_all()
                return
            self._heard(said)


class VgaConsole(Console):
    """A VGA text screen, looked at twice a second. The transcript has each screen that differs from the one before."""

    def __init__(
        self,
        memory: Callable[[int, int], bytes],
        press: Callable[[Sequence[str]], None],
        transcript: Transcript,
        panic: Sequence[str] = (),
    ) -> None:
        """`memory(address, size)` reads the guest's physical memory, `press` presses keys (QEMU's qcodes) at once."""
        super().__init__(transcript, panic)
        self._memory, self._press = memory, press
        self._screen = ""
        self._ended = threading.Event()
        self._looker = threading.Thread(target=self._look, name="screen", daemon=True)
        self._looker.start()

    def since(self, mark: int) -> str:
        """The screen as it is: it shows no order in time, so the mark says nothing."""
        with self._changed:
            return self._screen

    def last_words(self, size: int = 4000) -> str:
        """The screen as it last was."""
        return self.since(0).strip()[-size:]

    def type(self, text: str) -> None:
        """Presses the keys of a US keyboard, one after another."""
        for character in text:
            self._press(keys_of(character))

    def close(self) -> None:
        """Ends the looking."""
        self._ended.set()
        self._looker.join(5)
        self.transcript.close()

    def _look(self) -> None:
        while not self._ended.wait(_VGA_INTERVAL):
            try:
                screen = screen_text(self._memory(_VGA_MEMORY, _COLUMNS * _ROWS * 2))
            except (ImagesError, OSError):
                continue  # QEMU is busy or has ended; who waits for the console watches QEMU too
            if screen != self._screen and screen:
                self._screen = screen
                self._heard((screen + "\n" + "-" * _COLUMNS + "\n").encode())


def screen_text(memory: bytes) -> str:
    """The text of VGA text memory: two bytes a character (code page 437, attribute), 80 by 25, empty lines at the
    end cut.
    """
    cells = memory[: _COLUMNS * _ROWS * 2 : 2].replace(b"\0", b" ").decode("cp437")
    lines = [cells[start : start + _COLUMNS].rstrip() for start in range(0, len(cells), _COLUMNS)]
    return "\n".join(lines).rstrip()


_KEYS = {
    " ": "spc", "\n": "ret", "\t": "tab", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right",
    ";": "semicolon", "'": "apostrophe", "`": "grave_accent", "\\": "backslash", ",": "comma", ".": "dot", "/": "slash",
    "\x1b": "esc", "\b": "backspace",
}  # fmt: skip
_SHIFTED = dict(zip('!@#$%^&*()_+{}:"~|<>?', "1234567890-=[];'`\\,./", strict=True))


def keys_of(character: str) -> list[str]:
    """The keys of a US keyboard that type a character, as QEMU's qcodes. Raises `ImagesError` for one it does not
    have."""
    plain = _SHIFTED.get(character, character.lower() if character.isascii() else character)
    shift = ["shift"] if plain != character else []
    if plain in _KEYS:
        return [*shift, _KEYS[plain]]
    if plain.isascii() and plain.isalnum():
        return [*shift, plain]
    raise ImagesError(f"a US keyboard has no key for {character!r}")


def converse(steps: Sequence[Step], console: Console, *, scale: float, check: Callable[[], None]) -> None:
    """Holds a dialogue to its end. `check` is called often and raises when the machine is lost.

    Raises `ImagesError`, which names the step, when its words do not come within its limit (times `scale`).
    """
    mark = 0
    for number, step in enumerate(steps, 1):
        if step.wait is not None:
            mark = _await(step, number, console, mark, scale, check)
        if step.type is not None:
            mark = max(mark, console.mark())
            console.type(step.type + ("\n" if step.enter else ""))


def _await(step: Step, number: int, console: Console, mark: int, scale: float, check: Callable[[], None]) -> int:
    assert step.wait is not None
    limit = step.within * scale
    end = time.monotonic() + limit
    pattern = re.compile(step.wait if step.at == "anywhere" else f"(?:{step.wait})\\s*$")
    while True:
        text = console.since(mark).replace("\r", "")
        if step.at == "last_line":
            lines = [line for line in text.split("\n") if line.strip()]
            found = bool(lines) and pattern.search(lines[-1]) is not None
        else:
            found = pattern.search(text) is not None
        if found:
            return console.mark()
        check()
        if time.monotonic() > end:
            raise ImagesError(f"step {number} of the dialogue: nothing like {step.wait!r} came within {limit:g} s")
        console.wait(0.1)
