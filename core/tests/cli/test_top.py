"""`vmatlas top`: what it shows is what the other commands tell, its keys never wait, and the terminal is as it was."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas.backend import Target
from vmatlas.cli.render.text import human
from vmatlas.conformance.patience import PATIENCE
from vmatlas.target.local import LOCAL

from .conftest import PROGRAM, Child, Run

textual = pytest.importorskip("textual", reason="top is drawn by textual: pip install textual")

from textual.pilot import Pilot  # noqa: E402
from textual.widgets import Input  # noqa: E402

from vmatlas.cli.screen import pages, questions  # noqa: E402
from vmatlas.cli.screen.pages import How, Top  # noqa: E402
from vmatlas.cli.screen.rows import Rows  # noqa: E402

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="asks Linux about a process")

SIZE = (100, 40)


def shown(pilot: Pilot[int]) -> str:
    strips = pilot.app.screen._compositor.render_strips()
    return "\n".join("".join(segment.text for segment in strip).rstrip() for strip in strips)


async def enter(pilot: Pilot[int], words: str) -> None:
    """These words instead of those that stand in the field."""
    await pilot.press("slash", "ctrl+u")
    field = pilot.app.screen.query_one(Input)
    assert field.has_focus
    assert not field.value
    field.insert_text_at_cursor(words)
    await pilot.press("enter")


async def until(pilot: Pilot[int], *words: str) -> str:
    """What is shown, once these words are."""
    end = time.monotonic() + PATIENCE
    while not all(word in (text := shown(pilot)) for word in words):
        assert time.monotonic() < end, f"{words} do not come:\n{text}"
        await pilot.pause(0.02)
    return text


def look(
    *words: str,
    does: Callable[[Pilot[int]], Awaitable[object]],
    every: float = 0.2,
    sort: str = "pss",
    size: tuple[int, int] = SIZE,
    place: Target = LOCAL,
) -> None:
    """Top of whom these words choose, in a terminal that is none, while something is done to it."""

    async def run() -> None:
        app = Top(How(words, every, sort, place, None, None), colours=True)
        async with app.run_test(size=size) as pilot:
            await does(pilot)

    asyncio.run(run())


def row_of(text: str, beginning: str) -> list[str]:
    [row] = [line.split() for line in text.splitlines() if line.split()[:1] == [beginning]]
    return row


def test_a_process_has_the_numbers_that_the_system_tells(child: Child) -> None:
    async def does(pilot: Pilot[int]) -> None:
        text = await until(pilot, f"{child.pid} ")
        used = vmatlas.memory(child.pid)
        assert used.private is not None and used.resident is not None and used.swapped is not None
        row = row_of(text, str(child.pid))
        assert row[3:6] == [human(used.private), human(used.resident), human(used.swapped)]
        assert "1 process, PSS" in text

    look(str(child.pid), does=does)


def test_one_is_opened_with_its_kinds_and_regions_and_tells_what_grew_since(child: Child) -> None:
    async def does(pilot: Pilot[int]) -> None:
        await until(pilot, f"{child.pid} ")
        await pilot.press("enter")
        text = await until(pilot, "RANGE", "in memory")
        space = vmatlas.snapshot(child.pid)
        assert f"{len(space)} regions, {human(space.total)} mapped" in text
        assert row_of(text, "anonymous")[1] == str(sum(region.kind is vmatlas.Kind.ANONYMOUS for region in space))
        assert f"{space[0].start:x}-{space[0].end:x}" in text
        child.grow()
        await until(pilot, "+32M mapped", f"{len(vmatlas.snapshot(child.pid))} regions")
        await pilot.press("b")  # from now on
        await until(pilot, "0 in use, 0 mapped")
        await pilot.press("k")
        assert "anonymous " not in (await until(pilot, "RANGE")).partition("RANGE")[0]
        await pilot.press("escape")
        await until(pilot, "vmatlas top: ")

    look(str(child.pid), does=does)


def test_regions_go_by_a_filter_and_a_wrong_one_is_told_and_left_to_be_mended(child: Child) -> None:
    async def does(pilot: Pilot[int]) -> None:
        await until(pilot, f"{child.pid} ")
        await pilot.press("enter")
        await until(pilot, "RANGE")
        await enter(pilot, "rwx")
        text = await until(pilot, "rows 1 to 1;", f"{child.at['wx']:x}-")
        assert text.count("rwxp") == 1
        await enter(pilot, "rwx,size>")
        await until(pilot, "size")
        assert pilot.app.screen.query_one(Input).display
        await pilot.press("escape")
        assert not pilot.app.screen.query_one(Input).display
        await until(pilot, "rows 1 to 1;")

    look(str(child.pid), does=does)


def test_words_choose_whom_anew_and_a_plain_one_is_part_of_a_name(child: Child) -> None:
    async def does(pilot: Pilot[int]) -> None:
        await until(pilot, f"{child.pid} ")
        await enter(pilot, "no-such-name")
        text = await until(pilot, "vmatlas top: name:*no-such-name*", "0 processes")
        assert f"{child.pid} " not in text
        await enter(pilot, "user:")
        await until(pilot, "says not which")
        await pilot.press("escape")
        assert not pilot.app.screen.query_one(Input).display
        await enter(pilot, str(child.pid))
        await until(pilot, f"vmatlas top: {child.pid}", "1 process,")

    look(str(child.pid), does=does)


def test_rows_are_sorted_by_any_column_and_whoever_was_chosen_stays_chosen(child: Child) -> None:
    def order(text: str) -> list[int]:
        return [int(line.split()[0]) for line in text.splitlines() if line[:7].strip().isdigit()]

    async def does(pilot: Pilot[int]) -> None:
        both = sorted([child.pid, os.getpid()])
        await until(pilot, "2 processes", "by pid")
        assert order(shown(pilot)) == both
        await pilot.press("down")
        rows = pilot.app.screen.query_one(Rows)
        assert rows.chosen == both[1]
        await pilot.press("r")
        assert order(await until(pilot, "turned round")) == both[::-1]
        assert rows.chosen == both[1]
        await pilot.press("s")
        await until(pilot, "by name, turned round")
        await pilot.press("s", "r")
        assert "by pss" in await until(pilot, "rows 1 to 2; by pss")

    look(str(child.pid), str(os.getpid()), does=does, sort="pid")


HOSTILE = b"[red]\x1b[31m\xe2\x80\xaex\xff"


@pytest.fixture
def hostile() -> Iterator[subprocess.Popen[bytes]]:
    """A process that calls itself what would colour a terminal, turn writing round and is markup."""
    program = f"open('/proc/self/comm','wb').write({HOSTILE!r}); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_whatever_a_process_calls_itself_is_text(hostile: subprocess.Popen[bytes]) -> None:
    async def does(pilot: Pilot[int]) -> None:
        for key in ("", "enter"):
            if key:
                await pilot.press(key)
            text = await until(pilot, r"[red]\x1b[31m\u202ex\xff")
            assert not any((ord(each) < 32 and each != "\n") or each in "\u202e\udcff" for each in text)

    look(str(hostile.pid), does=does)


def test_a_process_that_ends_leaves_what_was_seen_last(hostile: subprocess.Popen[bytes]) -> None:
    async def does(pilot: Pilot[int]) -> None:
        await until(pilot, f"{hostile.pid} ")
        await pilot.press("enter")
        await until(pilot, "RANGE", "in use, ")
        hostile.kill()
        hostile.wait()
        assert "RANGE" in await until(pilot, "it has ended")
        await pilot.press("escape")
        await until(pilot, "0 processes")

    look(str(hostile.pid), does=does)


def test_keys_do_not_wait_for_an_answer(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    silent, is_asked = threading.Event(), threading.Event()

    def ask(*_: object) -> questions.Listed:
        is_asked.set()
        silent.wait(PATIENCE)
        return questions.Listed((), [], "")

    monkeypatch.setattr(pages, "totals_of", ask)

    async def does(pilot: Pilot[int]) -> None:
        while not is_asked.is_set():
            await pilot.pause(0.01)
        await until(pilot, "no answer for 1 s")
        await pilot.press("s")
        assert "by private" in shown(pilot)
        await pilot.press("q")
        await pilot.pause()
        assert pilot.app.return_value == 0

    try:
        look(str(child.pid), does=does)
    finally:
        silent.set()


def test_a_defect_ends_it_and_is_told(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(*_: object) -> questions.Listed:
        raise ZeroDivisionError("a defect")

    monkeypatch.setattr(pages, "totals_of", ask)

    async def does(pilot: Pilot[int]) -> None:
        end = time.monotonic() + PATIENCE
        while pilot.app.return_value is None:
            assert time.monotonic() < end
            await pilot.pause(0.01)
        assert isinstance(pilot.app, Top)
        assert isinstance(pilot.app.defect, ZeroDivisionError)
        assert pilot.app.return_value == 70

    look(str(child.pid), does=does)


@pytest.fixture
def board(binary: Path) -> Iterator[Target]:
    """This machine, as an agent tells of it."""
    with vmatlas.connect(f"agent:{shlex.quote(str(binary))}") as target:
        yield target


def test_a_board_has_the_numbers_that_its_system_tells_and_is_named(child: Child, board: Target) -> None:
    async def does(pilot: Pilot[int]) -> None:
        text = await until(pilot, f"{child.pid} ", f"vmatlas top: {child.pid} on {board.name}", "1 process, PSS")
        used = vmatlas.memory(child.pid)
        assert used.private is not None and used.resident is not None and used.swapped is not None
        assert row_of(text, str(child.pid))[3:6] == [human(used.private), human(used.resident), human(used.swapped)]
        await pilot.press("enter")
        text = await until(pilot, "RANGE", "in memory", f"on {board.name}")
        space = vmatlas.snapshot(child.pid)
        assert f"{len(space)} regions, {human(space.total)} mapped" in text
        assert f"{space[0].start:x}-{space[0].end:x}" in text
        child.grow()
        await until(pilot, "+32M mapped")

    look(str(child.pid), does=does, size=(400, 40), place=board)


@pytest.mark.parametrize("width", [40, 80, 200])
def test_no_line_is_wider_than_the_terminal_and_names_have_room(child: Child, width: int) -> None:
    async def does(pilot: Pilot[int]) -> None:
        text = await until(pilot, f"{child.pid} ")
        assert max(map(len, text.splitlines())) <= width
        assert "python" in text
        await pilot.press("enter")
        assert max(map(len, (await until(pilot, "RANGE", "in use, ")).splitlines())) <= width

    look(str(child.pid), does=does, size=(width, 24))


# In a real terminal


class Terminal:
    """`vmatlas top` in a pseudoterminal."""

    def __init__(self, *arguments: object, **environment: str) -> None:
        self._keeper, terminal = pty.openpty()
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.before = termios.tcgetattr(terminal)
        self._terminal = terminal
        known = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            [*PROGRAM, "top", *map(str, arguments)],
            stdin=terminal, stdout=terminal, stderr=terminal, start_new_session=True,
            env=known | {"TERM": "xterm-256color"} | environment,
        )  # fmt: skip
        self.written = b""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        for descriptor in (self._keeper, self._terminal):
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def until(self, words: bytes) -> None:
        end = time.monotonic() + PATIENCE
        while words not in self.written:
            assert time.monotonic() < end, self.written[-2000:]
            self.read()

    def read(self) -> None:
        if select.select([self._keeper], [], [], 0.05)[0]:
            self.written += os.read(self._keeper, 65536)

    def press(self, keys: bytes) -> None:
        os.write(self._keeper, keys)

    def end(self) -> int:
        """Its exit code, when all is written."""
        end = time.monotonic() + PATIENCE
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self.read()
        for _ in range(3):
            self.read()
        return self.process.returncode

    def is_as_before(self) -> bool:
        """The terminal: its modes, its screen, its cursor."""
        left, seen = self.written.rfind(b"\x1b[?1049l"), self.written.rfind(b"\x1b[?25h")
        return (
            termios.tcgetattr(self._terminal) == self.before and left > self.written.rfind(b"\x1b[?1049h") and seen > 0
        )


def colours(written: bytes) -> set[bytes]:
    """The colours that a terminal is told to take, but for its own (39, 49)."""
    told = {part for found in re.findall(rb"\x1b\[([0-9;:]*)m", written) for part in re.split(rb"[;:]", found)}
    return {part for part in told if re.fullmatch(rb"3[0-8]|4[0-8]|9[0-7]|10[0-7]", part)}


def test_in_a_terminal_it_opens_a_process_and_ends_by_a_key_with_the_terminal_as_it_was(child: Child) -> None:
    with Terminal(child.pid, "--every", "0.1") as terminal:
        terminal.until(b"Enter open")
        terminal.until(str(child.pid).encode())
        terminal.until(b"rows 1 to 1")
        terminal.press(b"\r")
        terminal.until(b"from now on")
        terminal.until(b"IN-MEMORY")  # there is an answer
        end = time.monotonic() + PATIENCE
        while not colours(terminal.written):
            assert time.monotonic() < end, "nothing is coloured"
            terminal.read()
        terminal.press(b"q")
        assert terminal.end() == 0
        assert terminal.is_as_before()


@pytest.mark.parametrize("how", [{"NO_COLOR": "1"}, {}], ids=["NO_COLOR", "--color never"])
def test_without_colours_there_are_none(child: Child, how: dict[str, str]) -> None:
    with Terminal(child.pid, *([] if how else ["--color", "never"]), **how) as terminal:
        terminal.until(b"rows 1 to 1")
        terminal.press(b"\r")
        terminal.until(b"IN-MEMORY")
        terminal.until(b"by address")
        terminal.press(b"\x03")  # Ctrl-C
        assert terminal.end() == 0
        assert colours(terminal.written) == set()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signals_end_it_with_the_codes_of_other_commands(child: Child, number: int, code: int) -> None:
    with Terminal(child.pid) as terminal:
        terminal.until(b"rows 1 to 1")
        terminal.process.send_signal(number)
        assert terminal.end() == code
        assert terminal.is_as_before()


def test_a_board_that_is_lost_leaves_what_was_seen_last_and_its_story(
    child: Child, binary: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "agent.pid"
    command = shlex.join(["sh", "-c", f"echo $$ >{shlex.quote(str(kept))}; exec {shlex.quote(str(binary))}"])
    with Terminal(child.pid, "--every", "0.1", "--target", f"agent:{command}") as terminal:
        terminal.until(f"vmatlas top: {child.pid} on agent:sh".encode())
        terminal.until(b"rows 1 to 1")
        os.kill(int(kept.read_text()), signal.SIGKILL)
        terminal.until(b"the target is lost: this is what was seen last")
        assert terminal.process.poll() is None
        terminal.press(b"q")
        assert terminal.end() == 8
        assert terminal.is_as_before()
        told = terminal.written[terminal.written.rfind(b"\x1b[?1049l") :]
        assert b"vmatlas: the target was lost while it was asked to" in told
        assert b"'sh' was ended by signal 9" in told, told


def test_what_is_no_terminal_is_told_in_one_line(run: Run, child: Child) -> None:
    ended = run("top", child.pid)
    assert ended.exit_code == 2
    assert ended.stderr == (
        "vmatlas: top draws on a terminal, and standard input is none\nhint: vmatlas summary --all\n"
    )


def test_a_terminal_that_cannot_move_its_cursor_is_told(in_terminal: Callable[..., tuple[str, int]]) -> None:
    text, code = in_terminal(80, "top", TERM="dumb")
    assert (code, text.count("\n")) == (2, 2)
    assert "TERM says that this one cannot" in text


def test_without_textual_it_says_what_to_install(tmp_path: Path, start: Callable[..., subprocess.Popen[bytes]]) -> None:
    (tmp_path / "textual.py").write_text("raise ModuleNotFoundError('no', name='textual')")
    process = start("top", env=os.environ | {"PYTHONPATH": str(tmp_path)})
    _, told = process.communicate(timeout=PATIENCE)
    assert process.returncode == 5
    assert told == b"vmatlas: the command line needs textual, which is not installed\nhint: pip install textual\n"
