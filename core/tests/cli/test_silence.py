"""How long a command waits for an answer, and what it says then."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import click
import pytest

from vmatlas import registry
from vmatlas.backend import Feature, Totals
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import COMMANDS, program
from vmatlas.conformance.patience import PATIENCE
from vmatlas.process import Process

from .conftest import PROGRAM, Child, Run


@pytest.fixture
def mute(child: Child, monkeypatch: pytest.MonkeyPatch) -> Iterator[Child]:
    """A process about which no question is answered."""
    let_go = threading.Event()

    def silence(name: str) -> None:
        real: Any = getattr(Process, name)

        def asked(process: Process, *arguments: Any, **more: Any) -> Any:
            if process.pid == child.pid:
                let_go.wait()
            return real(process, *arguments, **more)

        monkeypatch.setattr(Process, name, asked)

    for name in ("snapshot", "find", "find_many", "capture", "watch", "memory"):
        silence(name)
    if Feature.TOTALS in (backend := registry.backend("linux-procfs")).features:
        real = type(backend).totals_of

        def totals_of(self: object, pids: list[int], **how: bool) -> list[Totals]:
            """As where nobody knows yet which of them it is that does not answer."""
            found = zip(pids, real(self, pids, **how), strict=True)
            return [Totals(None, None, None) if pid == child.pid else told for pid, told in found]

        monkeypatch.setattr(type(backend), "totals_of", totals_of)
    yield child
    let_go.set()


@pytest.mark.parametrize(
    "words",
    [
        ("maps", "PID"),
        ("maps", "PID", "--json"),
        ("find", "PID", "400000"),
        ("find", "PID", "400000", "--neighbours"),
        ("summary", "PID"),
        ("audit", "PID"),
        ("diff", "PID", "--after", "0"),
        ("record", "PID", "-o", "OUT"),
        ("advise", "PID", "--cold", "--dry-run"),
        ("recover", "PID", "400000", "-o", "OUT"),
    ],
)
def test_a_command_about_a_process_that_does_not_answer_ends_with_one_line(mute: Child, run: Run, words) -> None:
    out = mute.folder / "capture"
    words = [{"PID": str(mute.pid), "OUT": str(out)}.get(word, word) for word in words]
    done = run(*words, "--patience", "0.3")
    assert done.exit_code == Exit.INCOMPLETE
    assert done.stdout == ""
    line, hint = done.stderr.splitlines()
    assert line.startswith(f"vmatlas: process {mute.pid} (python")
    assert "did not answer in" in line
    assert "waits for another thread of this program" in line, "what a thread here waits for is known on Linux"
    assert "--patience" in hint
    assert not out.exists()


def test_a_watch_of_a_process_that_no_longer_answers_ends(child: Child, run: Run, monkeypatch) -> None:
    def watch(process: Process, interval: float, **how: Any) -> Iterator[None]:
        how["wait"](0.5)  # a pause is no silence
        threading.Event().wait()
        yield None

    monkeypatch.setattr(Process, "watch", watch)
    done = run("watch", child.pid, "--patience", "0.3")
    assert done.exit_code == Exit.INCOMPLETE
    assert "did not answer" in done.stderr


def test_who_never_answered_a_watch_of_several_is_told_when_its_time_is_over(
    child: Child, run: Run, monkeypatch
) -> None:
    never = threading.Event()
    real = Process.watch

    def watch(process: Process, *arguments: Any, **how: Any) -> Iterator[Any]:
        if process.pid == child.pid:
            never.wait()
        yield from real(process, *arguments, **how)

    monkeypatch.setattr(Process, "watch", watch)
    try:
        done = run("watch", child.pid, os.getpid(), "--interval", "0.1", "--for", "1", "--patience", "60")
    finally:
        never.set()
    assert done.exit_code == Exit.INCOMPLETE
    assert done.stderr.count(f"process {child.pid} (") == 1


def test_all_go_on_without_a_process_that_does_not_answer_and_give_it_a_line(mute: Child, run: Run) -> None:
    done = run("summary", "--all", "--patience", "0.5")
    assert done.exit_code == Exit.INCOMPLETE
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == [str(mute.pid)])
    assert "no answer in" in row
    assert f"process {mute.pid} (python" in done.stderr
    assert "did not answer in time" in done.stderr
    assert len(done.stdout.splitlines()) > 2, "others are told"


def test_json_and_csv_of_all_tell_who_did_not_answer(mute: Child, run: Run) -> None:
    told = json.loads(run("summary", "--all", "--patience", "0.5", "--json").stdout)
    entry = next(each for each in told["processes"] if each["pid"] == mute.pid)
    assert "did not answer" in entry["error"] and entry["memory"] is None
    assert all(each["error"] is None for each in told["processes"] if each["memory"] is not None)
    assert mute.pid in told["unread"]["did not answer in time"]
    rows = run("summary", "--all", "--patience", "0.5", "--csv").stdout.splitlines()
    assert rows[0].endswith(",error")
    assert next(row for row in rows if row.startswith(f"{mute.pid},")).count("did not answer") == 1


def test_an_audit_that_looks_again_says_once_who_did_not_answer_and_ends_so(mute: Child, run: Run) -> None:
    words = ["audit", mute.pid, os.getpid(), "--only", "many-regions", "--patience", "0.3"]
    done = run(*words, "--watch", "--interval", "0.05", "--for", "1.5", "--json")
    assert done.exit_code == Exit.INCOMPLETE
    assert done.stderr.count(f"process {mute.pid} (python") == done.stderr.count("did not answer in time") == 1
    (line,) = [json.loads(line) for line in done.stdout.splitlines()]
    assert line["unread"] == {"did not answer in time": [mute.pid]} and line["findings"] == []


def test_an_audit_of_all_gives_it_a_line_too(mute: Child, run: Run, rows_of) -> None:
    done = run("audit", "--all", "--patience", "0.5")
    assert done.exit_code in (Exit.INCOMPLETE, Exit.FOUND)
    row = next(line for line in done.stdout.splitlines() if line.split()[:1] == [str(mute.pid)])
    assert row.split()[2] == "no-answer"
    told = json.loads(run("audit", "--all", "--patience", "0.5", "--json").stdout)
    entry = next(each for each in told["processes"] if each["pid"] == mute.pid)
    assert "did not answer" in entry["error"] and entry["findings"] is None
    assert mute.pid in told["unread"]["did not answer in time"]


def test_every_command_that_asks_somebody_takes_patience() -> None:
    for name in COMMANDS:
        command = program.get_command(click.Context(program), name)
        assert command is not None
        options = {option for each in command.params for option in each.opts}
        asks_here_alone = name == "recover"
        assert ("--patience" in options) is ("--target" in options or asks_here_alone), name


@pytest.mark.parametrize(
    ("command", "asked", "what"),
    [
        ("processes", "vmatlas.api.processes", "the list of processes"),
        ("doctor", "vmatlas.cli.checkup.check_up", "the answer about this machine"),
    ],
)
def test_a_machine_that_does_not_answer_is_given_up(
    run: Run, monkeypatch: pytest.MonkeyPatch, command: str, asked: str, what: str
) -> None:
    let_go = threading.Event()
    monkeypatch.setattr(asked, lambda _: let_go.wait())
    try:
        done = run(command, "--patience", "0.3")
    finally:
        let_go.set()
    assert (done.exit_code, done.stdout) == (Exit.INCOMPLETE, "")
    line, hint = done.stderr.splitlines()
    assert line.startswith(f"vmatlas: {what} did not come in ")
    assert "--patience" in hint


@pytest.mark.parametrize("word", ["0", "-1", "nan", "inf", "soon", ""])
def test_what_is_no_time_is_refused(run: Run, word: str) -> None:
    done = run("maps", "self", "--patience", word)
    assert done.exit_code == Exit.USAGE
    assert "is no time to wait" in done.stderr


_MUTE = """
import os, sys, threading
from vmatlas.process import Process
def silent(*_, **__):
    os.write(1, b"asked")  # no lock that a thread could hold when the interpreter ends
    threading.Event().wait()
Process.snapshot = silent
from vmatlas.cli import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    ("end", "code"),
    [(signal.SIGINT, Exit.INTERRUPTED), (signal.SIGTERM, Exit.TERMINATED), (signal.SIGHUP, Exit.HUNG_UP)],
)
@pytest.mark.parametrize("words", [("maps", "PID"), ("summary", "--all", "--uses", "--patience", "1000")])
def test_a_signal_ends_a_command_that_waits_at_once(child: Child, words, end: int, code: int) -> None:
    command = [str(child.pid) if word == "PID" else word for word in words]
    process = subprocess.Popen([sys.executable, "-c", _MUTE, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        assert process.stdout is not None and process.stdout.read(5) == b"asked"
        began = time.monotonic()
        process.send_signal(end)
        assert process.wait(PATIENCE) == code
        assert time.monotonic() - began < PATIENCE, "it did not wait for its own patience"
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_is_ignored_from_the_start_stays_so(child: Child, end: int) -> None:
    """As nohup has it: who logs out leaves what was begun."""
    ignoring = f"import signal; signal.signal({int(end)}, signal.SIG_IGN)\n{_MUTE}"
    process = subprocess.Popen(
        [sys.executable, "-c", ignoring, "maps", str(child.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.read(5) == b"asked"
        process.send_signal(end)
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == Exit.INTERRUPTED
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_what_was_started_for_a_target_ends_with_the_command(tmp_path, child: Child, end: int) -> None:
    """Whatever it is: a shell that ignores the end of its input is ended as well."""
    ours = f"echo $$ >{tmp_path}/pid; trap '' HUP INT PIPE; while :; do sleep 0.05; done"
    (script := tmp_path / "script").write_text(ours)
    command = [*PROGRAM, "maps", str(child.pid), "--target", f"agent:sh {script}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + PATIENCE
        while not (told := (tmp_path / "pid").read_text() if (tmp_path / "pid").exists() else "").endswith("\n"):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(end)
        assert process.wait(PATIENCE) == 128 + end
        assert b"Traceback" not in process.communicate()[1]
        assert not os.path.exists(f"/proc/{int(told)}")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_that_come_at_once_are_one(child: Child, end: int) -> None:
    """A terminal that repeats Ctrl-C, a service that is ended and its terminal too: the second interrupts no ending."""
    patient = f"from vmatlas.cli import ending; ending._AT_ONCE = {PATIENCE}; ending._last = -{PATIENCE}\n{_MUTE}"
    process = subprocess.Popen(
        [sys.executable, "-c", patient, "maps", str(child.pid)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        assert process.stdout is not None and process.stdout.read(5) == b"asked"
        for number in (end, signal.SIGHUP, end, signal.SIGTERM, end):
            process.send_signal(number)
        ends = (end, signal.SIGHUP, signal.SIGTERM)
        # One that comes when all is done ends the interpreter itself; to a shell it is the same.
        assert process.wait(PATIENCE) in [code for number in ends for code in (128 + number, -number)]
        assert process.communicate()[1] == b""
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(("signalled", "code"), [(KeyboardInterrupt(), 130), (SystemExit(143), 143)])
def test_a_signal_that_python_makes_another_error_of_is_no_defect(
    run: Run, monkeypatch: pytest.MonkeyPatch, signalled: BaseException, code: int
) -> None:
    """Before Python 3.12 whatever comes while a class is made is the cause of a RuntimeError."""

    def making(*_: object) -> None:
        raise RuntimeError("Error calling __set_name__ on 'cached_property' instance") from signalled

    monkeypatch.setattr("vmatlas.api.processes", making)
    done = run("processes")
    assert (done.exit_code, done.stderr) == (code, "")
    monkeypatch.setattr("vmatlas.api.processes", lambda *_: 1 / 0)
    assert run("processes").exit_code == Exit.BUG
