"""The command line as a program of its own: pipes, signals, terminals, and what its start imports."""

from __future__ import annotations

import fcntl
import importlib
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE

COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def test_output_into_a_pipe_is_plain_and_stable(start, child):
    first, second = (start("maps", child.pid).communicate(timeout=PATIENCE)[0] for _ in range(2))
    assert first == second
    assert b"\x1b" not in first
    assert first.startswith(b"RANGE")


def test_a_reader_that_goes_away_is_no_error(start, child):
    reading = start("maps", child.pid, "--json")
    assert reading.stdout is not None
    reading.stdout.read(1)
    reading.stdout.close()
    assert reading.stderr is not None
    said = reading.stderr.read()
    assert (reading.wait(timeout=PATIENCE), said) in ((141, b""), (0, b""))


def test_a_reader_that_was_never_there_is_no_error(start):
    ours, theirs = os.pipe()
    os.close(ours)
    ended = start("maps", "self", stdout=theirs)
    os.close(theirs)
    _, said = ended.communicate(timeout=PATIENCE)
    assert (ended.returncode, said) == (141, b"")


def test_a_full_disk_is_one_line(start):
    with open("/dev/full", "wb") as full:
        ended = start("maps", "self", stdout=full)
        _, said = ended.communicate(timeout=PATIENCE)
    assert ended.returncode == 9
    assert said == b"vmatlas: No space left on device\n"


@pytest.mark.parametrize("arguments", ["maps self", "maps self --json", "maps self --csv", "--help"])
def test_a_closed_output_is_one_line(start, arguments):
    ended = start(*arguments.split(), stdout=None, preexec_fn=lambda: os.close(1))
    _, said = ended.communicate(timeout=PATIENCE)
    assert (ended.returncode, said) == (9, b"vmatlas: standard output is closed\n")


def test_where_errors_cannot_be_told_the_exit_code_tells(start):
    closed = start("maps", "bash", stderr=None, preexec_fn=lambda: os.close(2))
    with open("/dev/full", "wb") as full:
        unheard = start("maps", "bash", stderr=full)
    assert [each.wait(timeout=PATIENCE) for each in (closed, unheard)] == [2, 2]


def test_interrupting_ends_with_130_and_silence(start, until_asleep, child):
    waiting = start("diff", child.pid, "--after", "60")
    until_asleep(waiting.pid)
    waiting.send_signal(signal.SIGINT)
    out, said = waiting.communicate(timeout=PATIENCE)
    assert (waiting.returncode, out, said) == (130, b"", b"")


def test_terminating_ends_what_was_started_for_a_target(start, tmp_path):
    mute = tmp_path / "mute"  # no agent: it heeds neither its input nor its end
    mute.write_text(
        f"#!/bin/sh\necho $$ >{tmp_path}/pid.part\nmv {tmp_path}/pid.part {tmp_path}/pid\nexec sleep 3600\n"
    )
    mute.chmod(0o755)
    asking = start("maps", "1", "--target", f"agent:{mute}")
    until = time.monotonic() + PATIENCE
    while not (tmp_path / "pid").exists() and time.monotonic() < until:
        time.sleep(0.05)
    started = int((tmp_path / "pid").read_text())
    asking.terminate()
    out, said = asking.communicate(timeout=PATIENCE)
    assert (asking.returncode, out, said) == (143, b"", b"")
    until = time.monotonic() + PATIENCE
    while is_running(started) and time.monotonic() < until:  # it is killed, and may be on its way out
        time.sleep(0.05)
    assert not is_running(started)


def is_running(pid: int) -> bool:
    """A zombie, which some parent has still to look at, is none."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_a_terminal_without_utf8_gets_escapes(start, child):
    environment = os.environ | {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
    ended = start("maps", child.pid, "--at", f"{child.at['weird']:x}", env=environment)
    out, said = ended.communicate(timeout=PATIENCE)
    assert (ended.returncode, said) == (0, b"")
    assert rb"caf\u00e9" in out, "\\x.. stands for a byte that is no character"
    assert out.isascii()


def test_a_terminal_gets_colours_a_title_and_a_legend(in_terminal, child):
    text, code = in_terminal(200, "maps", child.pid)
    assert code == 0
    lines = text.splitlines()
    plain = [COLOUR.sub("", line) for line in lines]
    space = vmatlas.snapshot(child.pid)
    with vmatlas.open(child.pid) as process:
        name = process.name
    assert plain[0].startswith(f"process {child.pid} ({name}) · {len(space)} regions")
    assert plain[1].split() == ["RANGE", "PERM", "SIZE", "OFFSET", "KIND", "NAME"]
    assert plain[-1].split() == [kind.label for kind in sorted({region.kind for region in space})]
    writable_code = next(line for line in lines if f"{child.at['wx']:x}-" in line)
    assert "\x1b[1;31mrwxp" in writable_code


@pytest.mark.parametrize("columns", [40, 80, 120, 200])
@pytest.mark.parametrize("command", ["maps", "maps --residency --gaps", "summary --residency", "audit"])
def test_no_line_is_wider_than_the_terminal(in_terminal, columns, command, child):
    name, *options = command.split()
    text, _ = in_terminal(columns, name, child.pid, *options)
    wide = [line for line in COLOUR.sub("", text).splitlines() if len(line) > columns]
    if columns == 40:
        assert text, "too narrow to promise anything but an answer"
    else:
        assert [line for line in wide if "[vsyscall]" not in line] == []


def test_a_narrow_terminal_says_what_it_has_no_room_for(in_terminal, child):
    text, _ = in_terminal(80, "maps", child.pid, "--build-ids")
    if "no backend answers" in text:
        pytest.skip(text)
    assert "(no room here for: OFFSET, KIND, BUILD-ID)" in COLOUR.sub("", text)
    assert "(anonymous)" in text, "the kind stands in for a missing name"


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colours_gets_none(in_terminal, environment):
    text, code = in_terminal(100, "maps", "self", **environment)
    assert code == 0
    assert "\x1b" not in text


def test_a_weird_path_does_nothing_to_a_terminal(in_terminal, child):
    text, _ = in_terminal(250, "maps", child.pid)
    visible = COLOUR.sub("", text)
    assert all(line.isprintable() for line in visible.splitlines())
    assert r"\x1b[31mred" in visible


def imported_by(*arguments: str) -> set[str]:
    """The modules that a command has imported at its end."""
    listing = "import sys; from vmatlas.cli import main; main(); sys.stderr.write(' '.join(sys.modules))"
    ended = subprocess.run(
        [sys.executable, "-c", listing, *arguments], capture_output=True, text=True, timeout=PATIENCE
    )
    return set(ended.stderr.split())


def test_a_start_imports_nothing_that_it_does_not_need():
    modules = imported_by("maps", "self")
    assert "vmatlas.model" in modules, "the listing works"
    unwanted = {"rich", "importlib.metadata", "zipfile", "email.message", "csv", "vmatlas.analysis", "pyarrow"}
    assert modules & (unwanted | {"vmatlas.cli.find", "vmatlas.cli.doctor", "asyncio", "socket"}) == set()


def test_importing_the_package_imports_none_of_it():
    code = "import sys, vmatlas; print(*[name for name in sys.modules if name.startswith('vmatlas')])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE).stdout
    assert out.split() == ["vmatlas"]


def test_every_name_of_the_package_is_there_and_is_the_one_of_its_home():
    importlib.import_module("vmatlas.capture")  # a module of the name of a function must not hide it
    assert callable(vmatlas.capture)
    for name in vmatlas.__all__:
        assert getattr(vmatlas, name) is getattr(importlib.import_module(vmatlas._HOME_OF[name]), name)
    assert set(vmatlas.__all__) == set(vmatlas._HOME_OF)
    assert set(vmatlas.__all__) <= set(dir(vmatlas))
    with pytest.raises(AttributeError):
        _ = vmatlas.nothing_of_that_name


def test_colours_are_there_when_they_are_asked_for_and_not_when_they_are_refused(start, in_terminal, child):
    def piped(*arguments, **environment):
        kept = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        return start(*arguments, env=kept | environment).communicate(timeout=PATIENCE)[0].decode()

    plain = piped("maps", child.pid)
    for coloured in (
        piped("maps", child.pid, "--color=always"),
        piped("maps", child.pid, "--colour", "always", NO_COLOR="1"),
        piped("maps", child.pid, FORCE_COLOR="1"),
    ):
        assert "\x1b[" in coloured
        without = re.sub(r"\x1b\[[0-9;]*m", "", coloured)
        assert [line.split() for line in plain.splitlines()] == [line.split() for line in without.splitlines()[1:-1]]
    assert "\x1b[" not in piped("maps", child.pid, "--color=never", FORCE_COLOR="1")
    assert "\x1b[" not in piped("maps", child.pid, FORCE_COLOR="0")
    assert "\x1b[" not in in_terminal(100, "maps", child.pid, "--color=never")[0]


def test_no_colour_is_one_that_cannot_be_read_on_white():
    from vmatlas.cli.render.palette import STYLES

    assert not [name for name, style in STYLES.items() if {"yellow", "white"} & set(style.split())]


@pytest.mark.parametrize("command", [("maps",), ("summary",), ("find", "0", "--neighbours"), ("diff", "--after", "0")])
def test_titles_have_the_name_of_the_process(in_terminal, child, command):
    with open(f"/proc/{child.pid}/comm") as file:
        name = file.read().strip()
    told, _ = in_terminal(120, command[0], child.pid, *command[1:])
    assert f"process {child.pid} ({name})" in told


def test_the_version_is_told(run):
    assert run("--version").stdout.strip() == f"vmatlas {vmatlas.__version__}"


def test_the_package_runs_as_the_program():
    ended = subprocess.run(
        [sys.executable, "-m", "vmatlas", "--version"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert ended.stdout.strip() == f"vmatlas {vmatlas.__version__}"
    ended = subprocess.run(
        [sys.executable, "-m", "vmatlas", "maps", "x"], capture_output=True, text=True, timeout=PATIENCE
    )
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (2, "vmatlas: 'x' is no process id")


def test_without_click_one_line_says_what_to_install():
    code = "import sys; sys.modules['click'] = None; from vmatlas.cli import main; sys.exit(main())"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE)
    assert ended.returncode == 5
    assert "hint: pip install click\n" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "words", [("maps", "self", "--json"), ("maps", "self", "--csv"), ("record", "self", "-o", "-")]
)
def test_output_that_is_taken_in_part_is_told(tmp_path, words, unbuffered):
    """A disk that fills up takes the beginning; unbuffered, Python's own stream would say nothing of it."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))

    command = [sys.executable, "-m", "vmatlas", *words]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered, "PYTHONDONTWRITEBYTECODE": "1"}
    with open(tmp_path / "out", "wb") as out:
        done = subprocess.run(
            command, stdout=out, stderr=subprocess.PIPE, env=environment, preexec_fn=limit, timeout=PATIENCE
        )
    assert done.returncode == 9
    assert done.stderr.startswith(b"vmatlas: ") and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_reaches_a_slow_reader_whole(unbuffered):
    """A stop and a continuation (Ctrl-Z, fg) end a write to a full pipe in its middle."""
    command = [sys.executable, "-m", "vmatlas", "schema", "maps"]
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    whole = subprocess.run(command, stdout=subprocess.PIPE, env=environment, timeout=PATIENCE, check=True).stdout
    script = "import sys; from vmatlas.cli import main; sys.argv = ['vmatlas', 'schema', 'maps']; sys.exit(main())"
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    with subprocess.Popen([sys.executable, "-c", script], stdout=writing, env=environment) as process:
        os.close(writing)
        with open(reading, "rb") as pipe:
            select.select([pipe], [], [], PATIENCE)
            for _ in range(3):
                process.send_signal(signal.SIGSTOP)
                process.send_signal(signal.SIGCONT)
            told = pipe.read()
        assert (process.wait(PATIENCE), told) == (0, whole)
