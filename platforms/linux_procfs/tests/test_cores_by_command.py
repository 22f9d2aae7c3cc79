"""A core file in the place of a process, on the command line."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest

from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program

from .core_files import saved

NAME = "linux-6.18-x86_64-crash-in-thread"


@pytest.fixture
def core(tmp_path: Path) -> str:
    return str(saved(NAME, tmp_path))


def told(capsys: pytest.CaptureFixture[str], *words: str, code: Exit = Exit.OK) -> str:
    assert program.run(list(words)) == code
    printed = capsys.readouterr()
    assert printed.err.count("neither what is shared") == 1, printed.err
    return printed.out


def test_maps_shows_a_core(core: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = told(capsys, "maps", core, "--where", "x,file")
    assert "7f8a94aad000-7f8a94c03000  r-x?  1.3M   26000  file  /usr/lib/x86_64-linux-gnu/libc.so.6" in shown
    told_json = json.loads(told(capsys, "maps", core, "--json"))
    assert (told_json["consistency"], told_json["pid"], len(told_json["regions"])) == ("frozen", 14194, 26)
    assert {region["shared"] for region in told_json["regions"]} == {None}


def test_maps_names_the_stacks_of_a_cores_threads(core: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "?stack of thread 14195" in told(capsys, "maps", core, "--names")


def test_find_summary_audit_and_diff_take_a_core(core: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert "26100" in told(capsys, "find", core, "7f8a94aad100")
    assert "libc.so.6" in told(capsys, "find", core, "7f8a94aad100", "--neighbours")
    assert "stacks" in told(capsys, "summary", core)
    assert "code-in-temporary-folder" in told(capsys, "audit", core, code=Exit.FOUND)
    assert program.run(["diff", core, core]) == Exit.OK


@pytest.mark.parametrize("command", ["picture", "report"])
def test_core_is_drawn(command: str, core: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.html"
    assert program.run([command, core, "-o", str(page)]) == Exit.OK
    assert "libc.so.6" in page.read_text()
    assert "a core file tells neither what is shared" in capsys.readouterr().err


def test_core_on_standard_input_is_read(
    core: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Piped:
        buffer = io.BytesIO(Path(core).read_bytes())

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(sys, "stdin", Piped())
    assert "[stack]" in told(capsys, "maps", "-")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("--residency",), "tell the memory in use"),
        (("--build-ids",), "build ids"),
        (("--backend", "x"), "a process"),
        (("--guards",), "with a process"),
    ],
)
def test_what_a_core_cannot_be_asked_is_refused(
    words: tuple[str, ...], hint: str, core: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.run(["maps", core, *words]) == Exit.USAGE
    assert hint in capsys.readouterr().err


def test_file_goes_alone(core: str, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (("maps", core, "self"), ("find", core, "pid:1", "1000")):
        assert program.run(list(words)) == Exit.USAGE
        assert "goes alone" in capsys.readouterr().err


def test_word_that_is_no_file_is_a_process_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.run(["maps", "no-such-core"]) == Exit.USAGE
    assert "is no process id" in capsys.readouterr().err


def test_fifo_is_refused_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "core")
    assert program.run(["maps", str(tmp_path / "core")]) == Exit.FAILED
    assert "a pipe or a device" in capsys.readouterr().err


def test_capture_is_shown_by_maps_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(tmp_path / "own.vmatlas")
    assert program.run(["record", "self", "-o", file]) == Exit.OK
    capsys.readouterr()
    assert program.run(["maps", file]) == Exit.OK
    assert "[stack]" in capsys.readouterr().out
    assert program.run(["maps", __file__]) == Exit.MALFORMED_DATA
    assert "no capture of vmatlas" in capsys.readouterr().err
