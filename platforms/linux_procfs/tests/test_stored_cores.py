"""Cores that systemd-coredump stored: what it noted of them is told beside what they say."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from vmatlas import operations, remains
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program

from .core_files import saved
from .test_reports import capture_of, text

NAME = "core.thr.0.85f0b5d60b6847f8af09bc957541c175.14194.1795975400000000"
INFO = """           PID: 14194 (thr)
           UID: 0 (root)
        Signal: 11 (SEGV)
     Timestamp: Sat 2026-11-28 10:03:20 UTC (3h ago)
  Command Line: /tmp/sample/bin/thr 0 --and-all-that-the-core-cuts-off
    Executable: /tmp/sample/bin/thr
 Control Group: /system.slice/thr.service
          Unit: thr.service
         Slice: system.slice
       Boot ID: 85f0b5d60b6847f8af09bc957541c175
      Hostname: host.example
       Storage: {storage} (present)
       Message: Process 14194 (thr) of user 0 dumped core.
"""


@pytest.fixture
def core(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    found = tmp_path / NAME
    shutil.move(saved("linux-6.18-x86_64-crash-in-thread", tmp_path), found)
    return found


def coredumpctl(core: Path, says: str, code: int = 0) -> Path:
    """A stand-in that knows one core, and writes down how it was called."""
    stand_in, called = core.parent / "bin" / "coredumpctl", core.parent / "called"
    stand_in.write_text(
        f"#!{sys.executable}\nimport sys\nopen({str(called)!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        f"sys.stdout.write({says.format(storage=core)!r})\nsys.exit({code})\n"
    )
    stand_in.chmod(0o755)
    return called


def test_unit_command_line_and_host_are_told_by_coredumpctl(core: Path, capsys: pytest.CaptureFixture[str]) -> None:
    called = coredumpctl(core, INFO)
    found = operations.explain(core)
    assert found.text.startswith(
        "Process 14194 (/tmp/sample/bin/thr 0 --and-all-that-the-core-cuts-off) of thr.service was stopped by SIGSEGV"
    )
    assert f"COREDUMP_FILENAME={os.path.realpath(core)}" in called.read_text()
    assert program.run(["explain", str(core), "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["unit"], told["executable"], told["host"]) == ("thr.service", "/tmp/sample/bin/thr", "host.example")
    assert operations.explain(remains.load(core), file=core).text == found.text
    assert operations.explain(remains.load(core)).crash.unit is None


def test_label_that_a_command_line_may_have_made_is_not_believed(core: Path) -> None:
    coredumpctl(core, INFO.replace("thr 0 --and", "thr\n          Unit: evil.service\n --and"))
    assert operations.explain(core).crash.unit is None


@pytest.mark.parametrize("says", ["", INFO.replace("PID: 14194", "PID: 9")])
def test_what_coredumpctl_does_not_know_is_told_by_the_attributes(core: Path, says: str) -> None:
    try:
        for key, value in (("pid", "14194"), ("signal", "11"), ("exe", "/tmp/sample/bin/thr"), ("hostname", "other")):
            os.setxattr(core, f"user.coredump.{key}", value.encode())
    except OSError as error:
        pytest.skip(f"the file system of {core} keeps no extended attributes of users: {error.strerror}")
    coredumpctl(core, says, 0 if says else 1)
    found = operations.explain(core).crash
    assert (found.executable, found.host, found.unit, found.signal) == ("/tmp/sample/bin/thr", "other", None, 11)
    assert found.arguments == "/tmp/sample/bin/thr 0"


def test_core_with_another_name_is_not_asked_about(core: Path) -> None:
    called = coredumpctl(core, INFO)
    plain = core.with_name("core.14194")
    core.rename(plain)
    assert operations.explain(plain).crash.unit is None
    assert not called.exists()


def test_entry_of_the_journal_tells_its_unit() -> None:
    entry = json.loads(text("journal.json.xz"))
    crash = operations.explain(capture_of(json.dumps(entry).encode())).crash
    assert (crash.executable, crash.host, crash.unit) == ("/tmp/sample/bin/mini", "host.example", None)
    entry |= {"COREDUMP_UNIT": "a.service", "COREDUMP_USER_UNIT": "b.service"}
    found = operations.explain(capture_of(json.dumps(entry).encode()))
    assert "of a.service was stopped by SIGSEGV" in found.text
