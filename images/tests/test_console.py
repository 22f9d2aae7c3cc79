"""Consoles against scripted guests: dialogues, panics, floods, the VGA screen and its keys."""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from vmatlas.conformance.patience import PATIENCE
from vmatlas_images.describe.machine import Step
from vmatlas_images.errors import ImagesError
from vmatlas_images.run.console import HEAD, TAIL, SerialConsole, Transcript, VgaConsole, converse, keys_of, screen_text


class Guest:
    """A scripted guest at the other end of a serial line: says something, and answers each line that is typed."""

    def __init__(self, tmp_path: Path, answers: dict[str, str], first: str = "", panic: Sequence[str] = ()) -> None:
        self.line, ours = socket.socketpair()
        self.console = SerialConsole(ours, Transcript(tmp_path / "console.log"), panic)
        self.typed: list[str] = []
        self._answers, self._first = answers, first
        self._thread = threading.Thread(target=self._play, daemon=True)
        self._thread.start()

    def _play(self) -> None:
        self.line.sendall(self._first.encode())
        heard = ""
        while said := self.line.recv(100):
            heard += said.decode()
            self.line.sendall(said)  # a terminal echoes
            while "\r" in heard:
                line, heard = heard.split("\r", 1)
                self.typed.append(line)
                self.line.sendall(f"\r\n{self._answers.get(line, '')}".encode())


def check_nothing() -> None:
    """The machine lives."""


def test_a_dialogue_logs_in_and_starts_the_agent(tmp_path: Path) -> None:
    guest = Guest(
        tmp_path, {"root": "Password:", "": "# ", "mount /cd": "# ", "/cd/agent &": "[1] 77\r\n# "}, "login: "
    )
    steps = [
        Step(wait="login:", type="root"),
        Step(wait="Password:", type=""),
        Step(wait="# ", at="last_line", type="mount /cd"),
        Step(wait="#", at="last_line", type="/cd/agent &"),
        Step(wait=r"\[1\] \d+"),
    ]
    converse(steps, guest.console, scale=1, check=check_nothing)
    assert guest.typed == ["root", "", "mount /cd", "/cd/agent &"]
    guest.console.close()
    assert b"[1] 77" in (tmp_path / "console.log").read_bytes()


def test_the_echo_of_a_command_is_no_prompt(tmp_path: Path) -> None:
    guest = Guest(tmp_path, {}, "# ")
    steps = [Step(wait="#", at="last_line", type="sleep 9"), Step(wait="#", at="last_line", within=0.3)]
    with pytest.raises(ImagesError, match=r"step 2 of the dialogue: nothing like '#' came within 0.3 s"):
        converse(steps, guest.console, scale=1, check=check_nothing)
    guest.console.close()


def test_words_from_before_a_step_do_not_satisfy_the_next(tmp_path: Path) -> None:
    guest = Guest(tmp_path, {"a": "nothing"}, "ready ready")
    steps = [Step(wait="ready ready", type="a"), Step(wait="ready", within=0.3)]
    with pytest.raises(ImagesError, match="step 2"):
        converse(steps, guest.console, scale=1, check=check_nothing)
    guest.console.close()


def test_limits_of_a_dialogue_scale_with_the_accelerator(tmp_path: Path) -> None:
    guest = Guest(tmp_path, {})
    started = time.monotonic()
    with pytest.raises(ImagesError, match=r"within 0.5 s"):
        converse([Step(wait="never", within=2 * PATIENCE)], guest.console, scale=0.25 / PATIENCE, check=check_nothing)
    assert 0.5 <= time.monotonic() - started < PATIENCE
    guest.console.close()


def test_a_lost_machine_ends_a_dialogue_at_once(tmp_path: Path) -> None:
    def check() -> None:
        raise EOFError("QEMU has ended")

    guest = Guest(tmp_path, {})
    with pytest.raises(EOFError):
        converse([Step(wait="never", within=2 * PATIENCE)], guest.console, scale=1, check=check)
    guest.console.close()


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_panic_is_found_wherever_its_bytes_are_cut(tmp_path: Path, cut: int) -> None:
    guest = Guest(tmp_path, {}, panic=["Kernel panic"])
    said = b"fine\r\n[1.0] Kernel panic - not syncing: no init\r\n"
    at = said.index(b"Kernel") + cut
    guest.line.sendall(said[:at])
    time.sleep(0.02)
    guest.line.sendall(said[at:])
    end = time.monotonic() + PATIENCE
    while guest.console.panic is None and time.monotonic() < end:
        guest.console.wait(0.1)
    assert (guest.console.panic or "").startswith("[1.0] Kernel panic")
    guest.console.close()


def test_a_flood_keeps_first_and_last_and_says_how_much_lies_between(tmp_path: Path) -> None:
    transcript = Transcript(tmp_path / "console.log")
    total = 0
    for number in range(200_000):
        line = b"line %8d of a flood that has no end in sight\n" % number
        transcript.add(line)
        total += len(line)
    transcript.close()
    kept = (tmp_path / "console.log").read_bytes()
    assert kept.startswith(b"line        0 ")
    assert kept.endswith(b"line   199999 of a flood that has no end in sight\n")
    found = re.search(rb"\n\[vmatlas: (\d+) bytes of this console are left out here\]\n", kept)
    assert found is not None
    assert len(kept) - len(found[0]) + int(found[1]) == total
    assert len(kept) < HEAD + TAIL + 200


def test_a_flood_takes_no_memory_and_hides_no_panic(tmp_path: Path) -> None:
    guest = Guest(tmp_path, {}, panic=["Kernel panic"])
    for _ in range(40):
        guest.line.sendall(b"x" * (1 << 18))
    guest.line.sendall(b"\nKernel panic - at last\n" + b"y" * (1 << 19))
    guest.line.close()
    guest.console.close()
    assert guest.console.panic == "Kernel panic - at last"
    assert len(guest.console.since(0)) <= TAIL


def vga(text: str) -> bytes:
    """VGA text memory that shows the text."""
    rows = [line.ljust(80) for line in text.split("\n")]
    cells = "".join(rows).ljust(80 * 25).encode("cp437")
    return bytes(byte for cell in cells for byte in (cell, 0x07))


class Screen:
    """A scripted VGA guest: a shell that echoes keys and answers a line."""

    def __init__(self, tmp_path: Path) -> None:
        self.text, self.keys = "QNX v6.4\nlogin: ", list[list[str]]()
        self.console = VgaConsole(lambda address, size: vga(self.text)[:size], self.press, Transcript(tmp_path / "c"))

    def press(self, keys: Sequence[str]) -> None:
        self.keys.append(list(keys))
        if keys == ["ret"]:
            self.text += "\n# " if self.text.endswith("root") else "\nagent is here\n# "
        else:
            self.text += keys[-1]


def test_a_vga_console_is_read_and_typed_on(tmp_path: Path) -> None:
    screen = Screen(tmp_path)
    steps = [Step(wait="login:", type="root"), Step(wait="#", at="last_line", type="X"), Step(wait="agent is here")]
    converse(steps, screen.console, scale=1, check=check_nothing)
    screen.console.close()
    assert screen.keys == [["r"], ["o"], ["o"], ["t"], ["ret"], ["shift", "x"], ["ret"]]
    assert "agent is here" in (tmp_path / "c").read_text()
    assert screen.console.last_words().endswith("agent is here\n#")


def test_screen_memory_reads_as_text_with_its_graphics() -> None:
    assert screen_text(vga("a\n  ö ║\n\nend")) == "a\n  ö ║\n\nend"
    assert screen_text(bytes(4000)) == ""


@pytest.mark.parametrize(
    ("character", "keys"),
    [("a", ["a"]), ("A", ["shift", "a"]), ("/", ["slash"]), ("?", ["shift", "slash"]), ("&", ["shift", "7"]),
     ("_", ["shift", "minus"]), (" ", ["spc"]), ("\n", ["ret"]), ("0", ["0"]), (">", ["shift", "dot"])],
)  # fmt: skip
def test_keys_of_a_us_keyboard(character: str, keys: list[str]) -> None:
    assert keys_of(character) == keys


def test_every_printable_ascii_character_has_keys() -> None:
    assert len({tuple(keys_of(chr(code))) for code in range(0x20, 0x7F)}) == 95
    with pytest.raises(ImagesError, match="no key for 'ö'"):
        keys_of("ö")
