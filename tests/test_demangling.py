"""Names of C++ and Rust, legible: by c++filt, which is a program of its own with limits, and the raw ones stay."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import demangling
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas.conformance.patience import PATIENCE
from vmatlas.demangling import is_mangled, legible

CC = next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
needs_program = pytest.mark.skipif(not demangling.is_possible(), reason="neither c++filt nor llvm-cxxfilt is installed")
SOURCE = """
#include <stdio.h>
__attribute__((noinline)) int work(int x) __asm__("_ZN3foo3barEi");
int work(int x) { return x * 3; }
int main(void) { printf("%p\\n", (void *)work); fflush(stdout); getchar(); return work(1); }
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if CC is None:
        pytest.skip("no C compiler is installed here")
    folder = tmp_path_factory.mktemp("mangled")
    (folder / "program.c").write_text(SOURCE)
    command = [CC, "-O1", "-fPIE", "-pie", "-o", folder / "program", folder / "program.c"]
    subprocess.run(command, check=True, timeout=PATIENCE)
    return folder / "program"


@pytest.fixture
def run(built: Path) -> Iterator[tuple[int, int]]:
    with subprocess.Popen([built], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.pid, int(process.stdout.readline(), 16) + 1
        process.communicate("\n", timeout=PATIENCE)


@needs_program
def test_names_of_cpp_and_rust_are_made_legible_and_others_left() -> None:
    told = legible(
        ["_ZN3foo3barEi", "_RNvC7mycrate3foo", "main", "_Z3foov@@V1", "_Zwhat", "_ZN3foo3barEi", "_Z\nx", ""]
    )
    assert told == {
        "_ZN3foo3barEi": "foo::bar(int)",
        "_RNvC7mycrate3foo": told["_RNvC7mycrate3foo"],
        "_Z3foov@@V1": "foo()@@V1",
    }
    assert told["_RNvC7mycrate3foo"].startswith("mycrate")
    assert told["_RNvC7mycrate3foo"].endswith("::foo")


def test_what_looks_like_a_mangled_name_is_asked_about_and_nothing_else() -> None:
    assert all(map(is_mangled, ("_ZN3foo3barEi", "_RNvC7mycrate3foo", "__ZN3fooE", "_Z3foov.cold", "_Z3foov@V")))
    assert not any(map(is_mangled, ("main", "_Z", "_R", "", "_Z a", "_Z3foo\n_Z3bar", "x_Z3foov", "_Z3foov\x80")))
    assert legible(["main", ""]) == {}


@needs_program
def test_command_shows_what_is_legible_and_json_has_both(
    run: tuple[int, int], capsys: pytest.CaptureFixture[str]
) -> None:
    pid, address = run
    (found,) = vmatlas.symbolize_many(pid, [address], demangle=True)
    assert (str(found), found and found.name) == ("foo::bar(int)+0x1", "_ZN3foo3barEi")
    assert [str(each) for each in vmatlas.symbolize_many(pid, [address])] == ["_ZN3foo3barEi+0x1"]
    assert program.run(["find", str(pid), f"{address:x}", "--symbol"]) == Exit.OK
    assert "foo::bar(int)+0x1" in capsys.readouterr().out
    assert program.run(["find", str(pid), f"{address:x}", "--symbol", "--json"]) == Exit.OK
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["symbol"]["name"], told["symbol"]["legible"]) == ("_ZN3foo3barEi", "foo::bar(int)")


def test_where_no_program_is_there_the_names_stay_and_it_is_said(
    run: tuple[int, int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    pid, address = run
    assert program.run(["find", str(pid), f"{address:x}", "--symbol"]) == Exit.OK
    shown = capsys.readouterr()
    assert "_ZN3foo3barEi+0x1" in shown.out
    assert "neither c++filt nor llvm-cxxfilt is here" in shown.err


@pytest.mark.parametrize("does", ["print('x' * 100, flush=True); time.sleep(600)", "while True: print('y' * 9999)"])
def test_program_that_does_not_end_is_ended(does: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in = tmp_path / "c++filt"
    stand_in.write_text(f"#!{sys.executable}\nimport time\n{does}\n")
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(demangling, "SECONDS", 1)
    monkeypatch.setattr(demangling, "LARGEST_ANSWER", 1 << 16)
    begin = time.monotonic()
    assert set(legible(["_ZN3foo3barEi"])) <= {"_ZN3foo3barEi"}
    assert time.monotonic() - begin < PATIENCE
