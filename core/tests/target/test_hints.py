"""What to do when no agent answers: the hint goes by what was heard instead."""

from __future__ import annotations

import os
import pty
import threading
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmatlas.errors import TargetLost, UsageError
from vmatlas.target import hints
from vmatlas.target.asking import Limits
from vmatlas.target.connect import connect
from vmatlas.target.ssh import command_for


@pytest.fixture
def line() -> Iterator[tuple[int, str]]:
    """A serial line: our end of it, and the path of the other."""
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    yield ours, os.ttyname(theirs)
    os.close(ours)
    os.close(theirs)


@pytest.mark.parametrize(
    ("heard", "hint"),
    [
        (b"", "nothing came: start one at the other end: vmatlas-agent --port DEVICE --baud 9600"),
        (b"\r\nDebian GNU/Linux 13 board ttyS0\r\n\r\nboard login: ", "a login or a shell is at the other end"),
        (b"\r\nroot@board:~# ", "a login or a shell is at the other end"),
        (b"\x00\xfe\xf8\x80\xe6\x98\x06\x9e\x00\x80\x80", "is the speed of the other end another"),
        (b"[ 1.2] usb 1-1: new device\r\n[ 3.4] eth0: link up\r\n", "something else talks on that line"),
    ],
)
def test_a_serial_line_without_an_agent_says_what_to_do(line: tuple[int, str], heard: bytes, hint: str) -> None:
    ours, path = line

    def answer() -> None:
        os.read(ours, 4096)
        os.write(ours, heard)

    talker = threading.Thread(target=answer)
    talker.start()
    with pytest.raises(TargetLost) as lost:
        connect(f"serial:{path}?baud=9600", Limits(silence=2.0, again=0.5))
    talker.join()
    assert lost.value.hint is not None and hint in lost.value.hint


def test_a_program_for_another_processor_is_told_as_such(tmp_path: Path) -> None:
    other = tmp_path / "agent"
    other.write_bytes(b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xff\xfe" + bytes(60))
    other.chmod(0o755)
    with pytest.raises(TargetLost, match="Exec format error") as lost:
        connect(f"agent:{other}")
    assert lost.value.hint is not None and "another processor" in lost.value.hint
    assert hints.of_program("sh: 1: agent: not found") is None


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command `ssh` that runs here what it is to run there; gives the folder that is first in its PATH."""
    programs = tmp_path / "bin"
    programs.mkdir()
    there = tmp_path / "tmp"
    there.mkdir()
    ssh = programs / "ssh"
    ssh.write_text(f'#!/bin/bash\nexport TMPDIR={there}\nexec sh -c "${{@: -1}}"\n')
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    return programs


def test_a_board_that_runs_no_program_from_there_gets_a_hint_though_it_has_greeted(board: Path, binary: Path) -> None:
    (board / "chmod").write_text("#!/bin/sh\n")  # as if the folder were mounted noexec: the agent cannot be run
    (board / "chmod").chmod(0o755)
    with pytest.raises(TargetLost, match="exit code 126") as lost:
        connect("ssh:board")
    assert "Permission denied" in lost.value.last_words
    assert lost.value.hint is not None and "?folder=/run" in lost.value.hint
    assert not list((board.parent / "tmp").iterdir())


def test_another_folder_there_can_be_named(board: Path, binary: Path) -> None:
    folder = board.parent / "with 'quotes' and blanks"
    folder.mkdir()
    with connect(f"ssh:board?folder={folder}"):
        assert len(list(folder.iterdir())) == 1, "the agent is put there"
    assert not list(folder.iterdir())
    assert not list((board.parent / "tmp").iterdir())


def test_a_folder_there_that_is_not_there_gets_a_hint(board: Path, binary: Path) -> None:
    with pytest.raises(TargetLost) as lost:
        connect("ssh:board?folder=/nowhere/at/all")
    assert lost.value.hint is not None and "?folder=" in lost.value.hint


@pytest.mark.parametrize("options", ["folder=run", "folder=", "folder", "x=1", "folder=/run&x=1", "folder=/a%0ab"])
def test_an_option_that_is_none_is_refused(options: str) -> None:
    with pytest.raises(UsageError, match="an option that is none"):
        connect(f"ssh:board?{options}")


def test_the_folder_is_made_after_what_removes_it_is_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: "/usr/bin/ssh")
    steps = command_for("board")[-1]
    assert steps.index("EXIT") < steps.index("PIPE") < steps.index("mktemp")
