"""docs/examples/explain_crash.py: real crashes, explained from the captures that they leave."""

from __future__ import annotations

import re
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE

EXAMPLE = Path(__file__).parent.parent / "docs" / "examples" / "explain_crash.py"

PRELUDE = "import ctypes, mmap, resource\nfrom vmatlas import operations as o, Protection as P\n"
CRASHES = {
    "a null pointer": ("ctypes.memset(24, 1, 1)", "hole", "a null pointer and an offset of 24"),
    "the stack": (
        # The kernel lets a stack grow to its limit: with a limit below its size it may not grow at all.
        "limits = resource.getrlimit(resource.RLIMIT_STACK)\n"
        "resource.setrlimit(resource.RLIMIT_STACK, (65536, limits[1]))\n"
        "stack = next(line for line in open('/proc/self/maps') if '[stack]' in line)\n"
        "ctypes.memset(int(stack.split('-')[0], 16) - 100, 1, 1)",
        "stack-overflow",
        "lies 100 bytes below the stack [stack]",
    ),
    "a guard": (
        "b = o.guarded_buffer(100)\nctypes.memset(b.address, 1, 101)",
        "guard",
        "1 byte above the last byte of nameless memory",
    ),
    "rights": (
        "b = o.map_anonymous(4096, protection=P.READ)\nctypes.memset(b.address, 1, 1)",
        "protection",
        "it cannot be written",
    ),
    "a hole": (
        "b = o.map_anonymous(4096)\na = b.address\nb.close()\nctypes.memset(a, 1, 1)",
        "hole",
        "nothing is mapped at",
    ),
    "the end of a file": (
        "import tempfile\nf = tempfile.TemporaryFile()\nf.write(bytes(4096))\nf.flush()\n"
        "m = mmap.mmap(f.fileno(), 4096)\nf.truncate(0)\nm[0]",
        "protection",
        "the file behind it may be shorter",
    ),
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLE), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)


@pytest.mark.parametrize("crash", CRASHES)
def test_crash_is_explained_at_once_and_later_from_its_capture(
    crash: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code, cause, story = CRASHES[crash]
    saved = tmp_path / "crash.vmatlas"
    done = run(saved, sys.executable, "-c", PRELUDE + code)
    if "Operation not permitted" in done.stderr:
        pytest.skip("this user may not trace its own children (yama ptrace_scope)")
    expected = signal.SIGBUS if crash == "the end of a file" else signal.SIGSEGV
    assert done.returncode == 128 + expected, done.stderr
    assert done.stdout.startswith(f"{cause}: ")
    assert story in done.stdout
    address = re.search(r"0x[0-9a-f]+", done.stdout)
    assert address is not None
    runpy.run_path(str(EXAMPLE))["explain"](str(saved), int(address[0], 16))
    assert capsys.readouterr().out == done.stdout


def test_capture_of_a_crash_is_explained_by_the_command(tmp_path: Path) -> None:
    saved = tmp_path / "crash.vmatlas"
    vmatlas.capture(residency=True).save(saved)
    done = run("--read", saved, "0x18")
    assert (done.returncode, done.stderr) == (0, "")
    assert "a null pointer and an offset of 24" in done.stdout


def test_program_that_does_not_crash_leaves_nothing(tmp_path: Path) -> None:
    saved = tmp_path / "crash.vmatlas"
    done = run(saved, sys.executable, "-c", "raise SystemExit(7)")
    assert (done.returncode, saved.exists()) == (7, False)


def test_capture_of_a_process_holds_how_far_its_stack_may_grow(tmp_path: Path) -> None:
    with vmatlas.open() as process:
        limit = process.stack_limit()
    vmatlas.capture().save(tmp_path / "own.vmatlas")
    space = vmatlas.replay(tmp_path / "own.vmatlas")
    assert limit is not None
    assert space.origin.stack_limit == limit
    stack = next(region for region in space if region.name == "[stack]")
    fault = vmatlas.operations.classify_fault(stack.start - 8, space, access=vmatlas.Protection.WRITE)
    assert "its limit is not known" not in fault.text
    assert vmatlas.snapshot().origin.stack_limit is None
