"""Every error ends as a line, a hint and its exit code; bugs too; and none as a traceback."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import marshal
import os
import py_compile
import re
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import vmatlas
from vmatlas.cli.exits import Exit, exit_of, story_of
from vmatlas.cli.program import COMMANDS, MEANT
from vmatlas.conformance.patience import PATIENCE
from vmatlas.model import IncompleteResult, Origin

ORIGIN = Origin(vmatlas.SystemInfo("linux", "6", "", "x86_64", "little", 64, 4096), 1, "linux-procfs", 0.0)

ERRORS = [
    (vmatlas.UsageError("a"), 2),
    (vmatlas.NoSuchProcess("a"), 3),
    (vmatlas.AccessDenied("a"), 4),
    (vmatlas.Unsupported("a"), 5),
    (vmatlas.MalformedData("maps", 7, "a region"), 6),
    (vmatlas.Disordered("maps", 7, "a region"), 6),
    (vmatlas.TornRead("a"), 7),
    (IncompleteResult("a", vmatlas.AddressSpace.of([], ORIGIN), target="local"), 7),
    (vmatlas.TargetLost("a", last_words="Kernel panic\n"), 8),
    (vmatlas.OperationFailed("a", errno=5, errno_name="EIO"), 9),
    (vmatlas.VmatlasError("a"), 9),
    (OSError(errno.EIO, "Input/output error", "/some/file"), 9),
    (KeyboardInterrupt(), 130),
    (OSError(errno.EMFILE, "Too many open files", "/some/file"), 9),
    (MemoryError(), 9),
    (ImportError("libx.so: failed to map segment from shared object", name="x"), 5),
    (ModuleNotFoundError("No module named 'vmatlas.x'", name="vmatlas.x"), 70),
    (RuntimeError("a bug"), 70),
    (AssertionError(), 70),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_each_error_has_its_exit_code_and_one_line(run, monkeypatch, error, code):
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("vmatlas.api.open", fail)
    result = run("maps", "self")
    assert result.exit_code == code
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    lines = result.stderr.splitlines()
    if code == 130:
        assert lines == []
        return
    assert lines[0].startswith("vmatlas: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    assert len(lines) <= 2


def test_a_bug_asks_to_be_reported_and_shows_its_traceback_on_request(run, monkeypatch):
    monkeypatch.setattr("vmatlas.api.open", lambda *_, **__: 1 // 0)
    result = run("maps", "self")
    assert result.stderr.splitlines()[0] == "vmatlas: ZeroDivisionError: integer division or modulo by zero"
    assert "please report it" in result.stderr
    monkeypatch.setenv("VMATLAS_DEBUG", "1")
    assert "Traceback" in run("maps", "self").stderr


def test_a_traceback_does_nothing_to_a_terminal(run, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        try:
            raise ValueError("\x1b]0;pwned\x07\x9b31m\u202e\nvmatlas: all is well\r\u2028vmatlas: all is well")
        except ValueError as error:
            raise vmatlas.OperationFailed("\x1b[2J\nvmatlas: all is well", hint="x\nvmatlas: all is well") from error

    monkeypatch.setattr("vmatlas.api.open", fail)
    monkeypatch.setenv("VMATLAS_DEBUG", "1")
    said = run("maps", "self").stderr
    assert "Traceback" in said
    assert "\\x1b]0;pwned\\x07" in said
    assert not set(said) & set("\x1b\x07\x9b\u202e\r\u2028")
    assert not [line for line in said.splitlines() if line.startswith("vmatlas: all is well")]
    assert "This was the cause of the following:" in said


def test_last_words_of_a_target_are_told(run, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise vmatlas.TargetLost(
            "the machine is gone", target="qemu:x", last_words="booting\nKernel panic - not syncing\n"
        )

    monkeypatch.setattr("vmatlas.api.open", fail)
    assert "its last words: Kernel panic - not syncing" in run("maps", "self").stderr


@pytest.mark.parametrize(("words", "told"), [("x" * 5000, "x" * 200), ("\0" * 5000, ""), ("panic\0\0\r\n\0", "panic")])
def test_no_more_of_the_last_words_is_told_than_can_be_read(run, monkeypatch, words, told):
    def fail(*_: object, **__: object) -> None:
        raise vmatlas.TargetLost("the machine is gone", last_words=words)

    monkeypatch.setattr("vmatlas.api.open", fail)
    said = run("maps", "self").stderr
    assert said == "vmatlas: the machine is gone" + (f"; its last words: {told}" if told else "") + "\n"


def test_an_argument_of_thousands_of_letters_is_not_repeated_whole(run):
    said = run("find", "self", "f" * 5000).stderr
    assert "does not fit in 64 bits" in said
    assert len(said) < 2000


def test_a_message_with_control_characters_stays_one_harmless_line(run, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise vmatlas.OperationFailed("one\ntwo\x1b[31m", hint="three\nfour")

    monkeypatch.setattr("vmatlas.api.open", fail)
    assert run("maps", "self").stderr == "vmatlas: one\\ntwo\\x1b[31m\nhint: three\\nfour\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["maps", "bash"], "name:bash"),
        (["maps", "0x10"], "is no process id"),
        (["maps", "1_0"], "is no process id"),
        (["maps", "\uff11\uff12"], "is no process id"),
        (["maps", ""], "is no process id"),
        (["maps", "99999999999999999999"], "is no process id"),
        (["summary", "pid:4294996057"], "is no process id"),
        (["summary", "children:4294996057"], "is no process id"),
        (["maps", "children:2147483648"], "is no process id"),
        (["maps", "9" * 5000], "a number of 5000 digits is no process id"),
        (["summary", "9" * 5000], "a number of 5000 digits is no process id"),
        (["maps", "self", "--thread", "-1"], "is no thread id"),
        (["record", "self", "-o", ""], "names no file"),
        (["record", "self", "-o", "/"], "is a folder, a device or a pipe"),
        (["completion"], "Choose from: bash, zsh, fish"),
        (["maps"], "Missing argument"),
        (["maps", "self", "--nonsense"], "No such option"),
        (["maps", "self", "--sort", "colour"], "colour"),
        (["maps", "self", "--where", "colour=red"], "unknown filter condition"),
        (["maps", "self", "--where", ""], "the filter '' is empty"),
        (["find", "self", "0", "--where", " "], "the filter ' ' is empty"),
        (["advise", "self", "--pageout", "--where", ","], "the filter ',' is empty"),
        (["advise", "self", "--pageout", "--where", "x", "--where", ""], "the filter '' is empty"),
        (["maps", "self", "--where", "shared,private"], "two different values"),
        (["maps", "self", "--where", "shared", "--where", "private"], "two different values"),
        (["maps", "self", "--at", "xyz"], "is no address"),
        (["maps", "self", "--json", "--csv"], "exclude each other"),
        (["maps", "self", "--backend", "nonsense"], "no backend 'nonsense'"),
        (["maps", "self", "--target", "nonsense"], "nonsense"),
        (["find", "self"], "Missing argument"),
        (["find", "self", "10000000000000000"], "64 bits"),
        (["nonsense"], "there is no command 'nonsense'"),
        (["mpas"], "did you mean maps?"),
        (["ps"], "did you mean processes?"),
        (["dump", "1234"], "did you mean record?"),
        (["list"], "did you mean processes?"),
        (["info"], "did you mean summary?"),
        (["show"], "did you mean maps?"),
        (["map", "self"], "did you mean maps?"),
        (["pmap"], "did you mean maps?"),
        (["help"], "hint: vmatlas --help"),
        (["help", "maps"], "hint: vmatlas maps --help"),
        (["-help"], "hint: vmatlas --help"),
        (["maps", "help"], "hint: vmatlas maps --help"),
        (["maps", "-help"], "hint: vmatlas maps --help"),
        (["version"], "hint: vmatlas --version"),
        (["1234"], "hint: the map of a process: vmatlas maps 1234"),
        ([__file__], f"hint: the map in a capture: vmatlas replay {__file__}"),
        (["watch", __file__], f"a capture is read by: vmatlas maps {__file__}"),
        (["diff", "-", "-"], "can be read once"),
        (["maps", "self", "--residancy"], "--residency"),
        (["completion", "tcsh"], "tcsh"),
    ],
)
def test_wrong_usage_is_one_line_and_exit_2(run, arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2, result.stderr
    assert said in result.stderr
    assert 1 <= len(result.stderr.splitlines()) <= 2
    assert result.stdout == ""


def test_what_the_field_calls_a_command_is_told_of_one_command_alone():
    words = [word for text in MEANT.values() for word in text.split()]
    assert len(words) == len(set(words))
    assert not set(words) & set(COMMANDS)
    assert set(MEANT) == set(COMMANDS)


@pytest.mark.parametrize("command", [["maps", "self"], ["record", "self", "-o", "never-written"]])
def test_build_ids_that_would_silently_be_missing_are_refused(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    result = run(*command, "--residency", "--build-ids")
    assert result.exit_code == 5
    assert result.stderr == (
        "vmatlas: no backend tells both the memory in use and build ids here\n"
        "hint: ask twice, once for each: residency=True (--residency), build_ids=True (--build-ids)\n"
    )
    assert not list(tmp_path.iterdir())


def test_a_process_that_has_ended(run):
    ended = subprocess.Popen(["true"])
    ended.wait()
    result = run("maps", ended.pid)
    assert (result.exit_code, result.stderr) == (3, f"vmatlas: there is no process {ended.pid}\n")


def test_a_zombie_has_ended(run):
    with subprocess.Popen(["sh", "-c", "exit 0"]) as zombie:
        os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
        for backend in ("linux-procfs", "linux-ioctl"):
            assert run("maps", zombie.pid, "--backend", backend).exit_code in (3, 5)
        assert run("maps", zombie.pid).exit_code == 3


def test_a_process_of_the_kernel_is_an_empty_map(run):
    kernel = next((process for process in vmatlas.processes() if process.kernel), None)
    if kernel is None:
        pytest.skip("no process of the kernel can be seen here (a container)")
    result = run("maps", kernel.pid)
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1), result.stderr
    assert f"process {kernel.pid} belongs to the kernel" in result.stderr
    assert "has memory of its own; 'vmatlas processes' tells which others have" in result.stderr


@pytest.mark.parametrize(
    ("content", "code", "told"),
    [
        (b"", 6, "vmatlas: x.vmatlas is no capture of vmatlas: it is empty"),
        (b"not a zip", 6, "vmatlas: x.vmatlas is no capture of vmatlas: it is a file of another kind"),
        (b"PK\3\4 and no more", 6, "vmatlas: x.vmatlas is no whole capture of vmatlas: it is cut off or damaged"),
        (None, 9, "vmatlas: "),
    ],
    ids=["empty", "garbage", "cut", "absent"],
)
def test_a_file_that_is_no_capture(run, tmp_path, content, code, told):
    file = tmp_path / "x.vmatlas"
    if content is not None:
        file.write_bytes(content)
    for command in (["replay", file], ["diff", file, "self"], ["summary", file], ["audit", file]):
        result = run(*command)
        assert result.exit_code == code, result.stderr
        line, *hint = result.stderr.splitlines()
        assert "x.vmatlas" in line
        assert line.startswith(told)
        assert code != 6 or line == told  # none of zipfile's words
        assert bool(hint) is (content is None and command[0] != "replay"), "it may have been meant as a process"


@pytest.mark.parametrize("path", ["/no/such/folder/x", "/proc/x"])
def test_a_file_that_cannot_be_written(run, path):
    result = run("record", "self", "-o", path)
    assert result.exit_code == 9
    assert len(result.stderr.splitlines()) == 1
    assert path in result.stderr


def _read_no_others_files() -> None:
    """What root may beyond others, is given up for the program that is started next (Linux: capabilities(7))."""
    libc = ctypes.CDLL(None)
    for right in (1, 2):  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
        libc.prctl(24, right, 0, 0, 0)  # PR_CAPBSET_DROP


@pytest.mark.parametrize("command", [["replay"], ["summary"], ["audit"], ["diff", "self"]])
def test_a_capture_that_may_not_be_read(run, start, tmp_path, command):
    file = tmp_path / "it.vmatlas"
    run("record", "self", "-o", file)
    file.chmod(0)
    if os.geteuid() != 0:
        with contextlib.suppress(PermissionError), file.open():
            pytest.skip("this user keeps CAP_DAC_READ_SEARCH and may read every file")
    program = start(*command, file, preexec_fn=_read_no_others_files)
    said = program.communicate(timeout=PATIENCE)[1]
    assert (program.returncode, said.decode()) == (9, f"vmatlas: {file}: Permission denied\n")


def test_an_unreadable_file_is_written_over_when_forced(run, tmp_path):
    file = tmp_path / "it.vmatlas"
    file.write_bytes(b"")
    file.chmod(0)
    assert run("record", "self", "-o", file, "--force").exit_code == 0


def test_a_file_without_a_name_is_told_as_such(run):
    assert run("replay", "").stderr == "vmatlas: '': No such file or directory\n"


@pytest.mark.parametrize("library", ["click", "rich", "yaml", "prometheus_client.registry"])
def test_a_library_of_the_command_line_that_is_missing_is_named(run, monkeypatch, library):
    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError(f"No module named '{library}'", name=library)

    monkeypatch.setattr("vmatlas.api.open", fail)
    result = run("maps", "self")
    assert result.exit_code == 5
    assert result.stderr.splitlines()[0] == f"vmatlas: the command line needs {library}, which is not installed"


def test_a_folder_is_no_capture(run, tmp_path):
    for command in ("replay", "summary", "audit"):
        result = run(command, tmp_path)
        assert (result.exit_code, len(result.stderr.splitlines())) == (9, 1)
        assert "Is a directory" in result.stderr


def test_the_documentation_lists_each_exit_code():
    page = (Path(__file__).parents[3] / "docs" / "cli.md").read_text()
    listed = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    assert listed == {int(code) for code in Exit}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "is damaged ("),
        (b"\xe3" + bytes(4), "is damaged ("),
        (b"N", "is damaged ("),
        (None, "Too many open files"),
    ],
)
def test_a_part_of_the_program_that_cannot_be_loaded_is_told_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, told: str
) -> None:
    """By import itself, whenever a module is first needed: a cut file of __pycache__, no descriptor left."""
    source = tmp_path / "cut_short.py"
    source.write_text("answer = 42\n")
    compiled = Path(py_compile.compile(str(source), doraise=True) or "")
    if content is not None:
        compiled.write_bytes(compiled.read_bytes()[:16] + content)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("sys.dont_write_bytecode", True)

    def load() -> None:
        importlib.invalidate_caches()
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        lowest = os.dup(0)
        os.close(lowest)
        if content is None:
            resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limit[1]))
        try:
            importlib.import_module("cut_short")
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)

    with pytest.raises((EOFError, ValueError, TypeError, ImportError, OSError)) as raised:
        load()
    line, hint = story_of(raised.value)
    assert exit_of(raised.value) is Exit.FAILED
    assert line.startswith("a part of this program could not be loaded: ") and told in line
    assert ("cut_short" in line) is (content is not None), "a file that is well is no matter of the user's"
    assert hint is not None


def test_an_error_of_the_same_kind_that_is_not_of_loading_stays_a_defect() -> None:
    with pytest.raises(EOFError) as raised:
        marshal.loads(b"")
    assert exit_of(raised.value) is Exit.BUG


def test_a_damaged_file_that_the_command_needs_from_the_start_is_no_defect(tmp_path: Path) -> None:
    """Of the module that the errors are told by, too."""
    words = [sys.executable, "-m", "vmatlas", "--version"]
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(words, env=environment, check=True, capture_output=True, timeout=PATIENCE)
    (found,) = tmp_path.rglob("vmatlas/cli/program.*.pyc")
    found.write_bytes(found.read_bytes()[:60])
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    assert ran.returncode == Exit.FAILED
    assert ran.stderr.startswith("vmatlas: a part of this program could not be loaded: ")
    assert "program." in ran.stderr and "\nhint: delete the file" in ran.stderr and "Traceback" not in ran.stderr
