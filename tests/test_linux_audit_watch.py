"""`vmatlas audit --watch` while processes end and others get their numbers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import vmatlas
from vmatlas.cli import audit as audit_command
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program as command_line
from vmatlas.cli.render.audit import Audited
from vmatlas.cli.render.together import Whose

from .conftest import as_root, born_with_pid, wait_until

RULE = "writable-and-executable"
_SCRIPT = (
    "import mmap, pathlib, sys, time; memory = mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, 7); "
    "pathlib.Path(sys.argv[1]).touch(); time.sleep(3600)"
)


class Reused:
    """A process with a finding, and another one like it that comes to have its number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._first = subprocess.Popen(self._command("first"))
        self.pid = self._first.pid
        self.is_another = False
        wait_until((folder / "first").exists)

    def _command(self, name: str) -> list[str]:
        return [sys.executable, "-c", _SCRIPT, str(self._folder / name)]

    def reuse(self) -> None:
        """End the first, and start the other one under its number."""
        self._first.kill()
        self._first.wait()
        time.sleep(0.05)  # start times are counted in hundredths of a second
        if not born_with_pid(self.pid, self._command("second")):
            pytest.skip("clone3(2) with set_tid is refused here")
        self.is_another = True
        wait_until((self._folder / "second").exists)

    def end(self) -> None:
        if self.is_another:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        elif self._first.poll() is None:
            self._first.kill()
            self._first.wait()


@pytest.fixture
def reused(tmp_path: Path) -> Iterator[Reused]:
    as_root("choosing a pid takes CAP_CHECKPOINT_RESTORE")
    process = Reused(tmp_path)
    yield process
    process.end()


@pytest.fixture
def between_looks(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], None]], None]:
    """What is done after the first look; after the next ones nothing is, and nobody waits."""

    def do(once: Callable[[], None]) -> None:
        left = [once, lambda: None]

        def sleep(_: float) -> None:
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        monkeypatch.setattr(audit_command, "time", SimpleNamespace(monotonic=time.monotonic, sleep=sleep))

    return do


def test_who_has_the_number_of_another_is_another(
    reused: Reused,
    between_looks: Callable[[Callable[[], None]], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is found in it is new, though it is the same in words."""
    between_looks(reused.reuse)
    words = ["audit", str(reused.pid), str(os.getpid()), "--only", RULE, "--watch", "--json"]
    assert command_line.run(words) == Exit.FOUND
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = [each for line in lines for each in line["findings"] if each["pid"] == reused.pid]
    assert [each["explanation"] for each in found] == ["nameless memory is rwxp"] * 2


def test_the_one_that_was_watched_has_ended_when_its_number_is_another_s(
    reused: Reused, between_looks: Callable[[Callable[[], None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    between_looks(reused.reuse)
    assert command_line.run(["audit", str(reused.pid), "--only", RULE, "--watch", "--json"]) == Exit.FOUND
    told = capsys.readouterr()
    assert len(told.out.splitlines()) == 1
    assert "the process has ended: its number is another's now" in told.err


_GROWING = (
    "import mmap, sys; kept = [mmap.mmap(-1, 4096, mmap.MAP_PRIVATE, 7)]; print('ready', flush=True)\n"
    "for line in sys.stdin: kept += [mmap.mmap(-1, 65536, mmap.MAP_PRIVATE, 3), "
    "mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE, 7)]; "
    "print('done', flush=True)"
)


def test_more_memory_of_a_kind_that_was_found_is_new(
    between_looks: Callable[[Callable[[], None]], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """A process that compiles has nameless code as it is; what comes to it later is told, and that alone."""
    command = [sys.executable, "-c", _GROWING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdout.readline()

        def more() -> None:
            process.stdin.write("more\n")
            process.stdin.flush()
            process.stdout.readline()

        between_looks(more)
        try:
            assert command_line.run(["audit", str(process.pid), "--only", RULE, "--watch", "--json"]) == Exit.FOUND
        finally:
            process.kill()
    first, second = (json.loads(line)["findings"] for line in capsys.readouterr().out.splitlines())
    assert [[each["size"] for each in one["regions"]] for one in first] == [[4096]]
    assert [[each["size"] for each in one["regions"]] for one in second] == [[1 << 20]]


def test_what_is_kept_of_a_process_does_not_grow_with_what_was_told_of_it() -> None:
    """Neither of one that renames its files again and again, nor of those that have ended."""
    seen: dict[object, object] = {}
    space = vmatlas.snapshot()
    region = space[0]._replace(path="/a", protection=vmatlas.Protection(7))
    for number in range(5):
        gone = region._replace(path=f"/a{number}", deleted=True)
        report = vmatlas.audit(vmatlas.AddressSpace.of([gone], space.origin))
        found = [Audited(Whose(100 + number % 2, "x"), report, start_time=7)]
        assert len(audit_command._new_of(found, seen, set())) == 1  # type: ignore[arg-type]
        assert len(seen) == 1 and len(next(iter(seen.values()))) == len(report.findings)  # type: ignore[arg-type]
    assert audit_command._new_of(found, seen, set()) == []  # type: ignore[arg-type]
    assert audit_command._new_of([], seen, {(100, 7)}) == [] and len(seen) == 1, "who was not read is remembered"  # type: ignore[arg-type]
