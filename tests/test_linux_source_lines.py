"""Lines of source code for addresses, held to what addr2line says of programs that are compiled here."""

from __future__ import annotations

import importlib.util
import json
import random
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Unsupported, debug_lines, symbolizing
from vmatlas.conformance.patience import PATIENCE
from vmatlas.debug_lines import Unreadable, lines_of
from vmatlas.model.crash import Crash, CrashedThread
from vmatlas.operations.explaining import Named, explain_crash
from vmatlas.symbols.lines import SourceLine

SOURCE = """#include <stdio.h>
static inline __attribute__((always_inline)) int deepest(volatile int *p) {
    return *p + 1;
}
static inline __attribute__((always_inline)) int middle(volatile int *p) {
    return deepest(p) * 2;
}
__attribute__((noinline)) int outer(volatile int *p) {
    return middle(p) + 3;
}
int main(int c, char **v) {
    volatile int x = c;
    printf("%p\\n", (void *)outer);
    fflush(stdout);
    getchar();
    return outer(&x);
}
"""
CC = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
TOOLS = all(map(shutil.which, ("nm", "objcopy", "strip", "addr2line")))
pytestmark = [
    pytest.mark.skipif(CC is None or not TOOLS, reason="no C compiler, or no binutils, is installed here"),
    pytest.mark.skipif(importlib.util.find_spec("symbolic") is None, reason="the package symbolic is not installed"),
]


@pytest.fixture(scope="module", params=["-pie", "-no-pie"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lines")
    (folder / "program.c").write_text(SOURCE)
    command = [str(CC), "-O1", "-g", "-fPIE" if request.param == "-pie" else "-fno-pie", request.param]
    words = [*command, "-Wl,--build-id=sha1", "-o", str(folder / "program"), str(folder / "program.c")]
    subprocess.run(words, check=True, timeout=PATIENCE)
    return folder / "program"


class Run:
    """A program that waits, and where its function `outer` lies."""

    def __init__(self, program: Path) -> None:
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.outer = int(self.process.stdout.readline(), 16)
        self.pid = self.process.pid

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=PATIENCE)


@pytest.fixture
def run(program: Path) -> Iterator[Run]:
    with Run(program) as started:
        yield started


def told_by_addr2line(program: Path, addresses: list[int]) -> list[list[tuple[str, int]]]:
    """Function and line of each frame of each address."""
    words = ["addr2line", "-a", "-i", "-f", "-e", str(program), *map(hex, addresses)]
    text = subprocess.run(words, check=True, capture_output=True, text=True, timeout=PATIENCE).stdout
    pieces = re.split(r"^0x[0-9a-f]+\n", text, flags=re.MULTILINE)[1:]
    return [[(name, int(line)) for name, line in re.findall(r"(\S+)\n\S+:(\d+)", piece)] for piece in pieces]


def test_every_instruction_has_the_lines_that_addr2line_tells(program: Path, run: Run) -> None:
    with vmatlas.open(run.pid) as process:
        own = process.elf_address(run.outer)
        assert own is not None
        told = process.snapshot()
        region = told.find(run.outer)
        assert region is not None
    size = next(
        int(found[1], 16)
        for found in re.finditer(
            r"^[0-9a-f]+ ([0-9a-f]+) T outer$",
            subprocess.run(["nm", "-S", program], check=True, capture_output=True, text=True, timeout=PATIENCE).stdout,
            re.MULTILINE,
        )
    )
    places = range(size)
    expected = told_by_addr2line(program, [own + place for place in places])
    found = vmatlas.source_lines(run.pid, [run.outer + place for place in places])
    assert [[(each.function, each.line) for each in frames] for frames in found] == expected
    assert [each[0] for each in expected[0]] == ["deepest", "middle", "outer"]
    assert {each.file for frames in found for each in frames} == {str(program.with_suffix(".c"))}
    assert vmatlas.source_lines(told, [run.outer]) == found[:1]


def test_a_stripped_program_is_told_by_its_debug_file(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tool(*words: object) -> None:
        subprocess.run(list(map(str, words)), check=True, timeout=PATIENCE)

    debug, stripped = tmp_path / "debug", tmp_path / "stripped"
    tool("objcopy", "--only-keep-debug", program, debug)
    tool("strip", "-o", stripped, program)
    monkeypatch.setattr(symbolizing, "DEBUG_FOLDERS", (str(tmp_path),))
    with Run(stripped) as run:
        assert vmatlas.source_lines(run.pid, [run.outer]) == [()]
        build_id = vmatlas.snapshot(run.pid, build_ids=True).find(run.outer)
        assert build_id is not None and build_id.build_id is not None
        name = build_id.build_id.hex()
        (tmp_path / ".build-id" / name[:2]).mkdir(parents=True)
        debug.rename(tmp_path / ".build-id" / name[:2] / f"{name[2:]}.debug")
        (frames,) = vmatlas.source_lines(run.pid, [run.outer])
        assert [each.function for each in frames] == ["deepest", "middle", "outer"]


def test_the_command_line_shows_what_was_inlined_and_says_who_tells_nothing(run: Run) -> None:
    stack = next(region for region in vmatlas.snapshot(run.pid) if region.name == "[stack]")
    libc = next(region for region in vmatlas.snapshot(run.pid) if "libc" in (region.path or ""))
    words = [sys.executable, "-m", "vmatlas", "find", str(run.pid), hex(run.outer), hex(stack.start), "--lines"]
    told = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert re.search(r"outer\+0x0 +\S+/program\.c:3 ", told.stdout)
    assert re.search(r"deepest inlined into middle +\S+/program\.c:6", told.stdout)
    assert re.search(r"middle inlined into outer +\S+/program\.c:9", told.stdout)
    words = [
        sys.executable,
        "-m",
        "vmatlas",
        "find",
        str(run.pid),
        hex(run.outer),
        hex(libc.start),
        "--lines",
        "--json",
    ]
    told = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=True)
    first, second = json.loads(told.stdout)
    assert [each["line"] for each in first["lines"]] == [3, 6, 9]
    assert second["lines"] == []
    assert f"no lines of {libc.path}: " in told.stderr


def test_a_reading_that_takes_too_long_is_ended_and_said(program: Path) -> None:
    with program.open("rb") as file, pytest.raises(Unreadable, match=r"more than 0\.0001 seconds"):
        lines_of(file.fileno(), 0, [1], seconds=0.0001)


def test_damaged_debug_information_is_told_or_refused_and_nothing_else(program: Path, tmp_path: Path) -> None:
    content = program.read_bytes()
    draw = random.Random(1)
    answered = refused = 0
    for trial in range(12):
        damaged = bytearray(content[: len(content) if trial % 3 else draw.randrange(64, len(content))])
        for _ in range(trial * 40):
            damaged[draw.randrange(64, len(damaged))] = draw.randrange(256)
        path = tmp_path / "damaged"
        path.write_bytes(damaged)
        with path.open("rb") as file:
            try:
                found = lines_of(file.fileno(), 0, [0, 0x1159, 2**64 - 1], seconds=PATIENCE)
                assert len(found) == 3
                answered += 1
            except Unreadable as error:
                assert str(error).startswith(("its debug information", "reading its debug information"))
                refused += 1
    assert answered and refused


def test_without_the_package_it_is_said_how_to_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="symbolic") as raised:
        debug_lines.check_installed()
    assert raised.value.hint == "pip install symbolic"


def test_a_process_that_cannot_be_started_is_the_reason(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "run", refuse)
    with program.open("rb") as file, pytest.raises(Unreadable, match="no process could be started"):
        lines_of(file.fileno(), 0, [1])


def test_threads_ask_side_by_side(run: Run) -> None:
    found: list[object] = []
    threads = [
        threading.Thread(target=lambda: found.append(vmatlas.source_lines(run.pid, [run.outer]))) for _ in range(3)
    ]
    for each in threads:
        each.start()
    for each in threads:
        each.join(PATIENCE)
    assert len(found) == 3 and found[0] == found[1] == found[2] != [()]


def test_an_explanation_says_the_line_or_why_there_is_none() -> None:
    space = vmatlas.snapshot()
    at = next(region for region in space if "x" in region.permissions)
    crash = Crash(
        signal=11, signal_name="SIGSEGV", code=1, fault_address=16, fault_span=1, no_address="",
        threads=(CrashedThread(1, at.start, None),), program="p", arguments=None,
    )  # fmt: skip
    lines = (SourceLine("inner", "a.c", 3), SourceLine("outer", None, None))
    told = explain_crash(crash, space, names=lambda asked: [Named(1, None, lines)] * len(asked))
    assert ": inner (a.c:3), inlined into outer." in told.text
    assert told.instruction is not None and told.instruction.lines == lines
    told = explain_crash(crash, space, names=lambda asked: [Named(1, None, (), "for a reason")] * len(asked))
    assert "(no line of source code is told: for a reason)" in told.text
