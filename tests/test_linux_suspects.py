"""Each rule of `vmatlas audit` on programs with its trait, and on their twins without it."""

from __future__ import annotations

import fcntl
import json
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Policy
from vmatlas.analysis.audit import RULES
from vmatlas.cli import audit as audit_command
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program as command_line
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux import files
from vmatlas.systems.linux.host import LinuxProcess

from .conftest import Program, Start
from .programs.suspect import TRAITS

STRICT = Policy.preset("strict")


@pytest.fixture
def folder() -> Iterator[Path]:
    """In /tmp, whatever TMPDIR says; others may not look in there."""
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="vmatlas-") as path:
        yield Path(path)


def suspect(start: Start, trait: str, which: str, folder: Path) -> Program:
    program = start("suspect", trait, which, folder)
    if (said := program.hear()) != "ready":
        pytest.skip(said)
    if trait.endswith("/executed"):
        assert program.tell("there") == "there"  # it executes another program, which is there now
    return program


def found(pid: int) -> vmatlas.AuditReport:
    with vmatlas.open(pid) as process:
        return vmatlas.audit(process.snapshot(), process.evidence(), STRICT)


@pytest.mark.parametrize("trait", TRAITS)
def test_a_trait_is_found_and_its_twin_is_not(start: Start, trait: str, folder: Path) -> None:
    rule = trait.partition("/")[0]
    for which, expected in (("bad", True), ("good", False)):
        program = suspect(start, trait, which, folder)
        report = found(program.pid)
        ids = {each.id for each in report}
        assert rule not in {each.rule.id for each in report.untold if "of them" not in each.why} or rule in ids
        assert (rule in ids) is expected, (which, report.findings)


@pytest.mark.parametrize(
    ("seals", "words"),
    [
        (0, "it is not sealed: who has it open may write it"),
        (fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SHRINK, "it is sealed: nobody can write it any more"),
        (0x10, "it is sealed but for who had mapped it to write it before"),  # F_SEAL_FUTURE_WRITE, since Linux 5.1
    ],
)
def test_whether_code_in_memory_is_sealed_is_told_to_whom_its_descriptors_are(seals: int, words: str) -> None:
    """By the mapping itself as root, by the descriptor that the process has kept as anybody else."""
    fd = os.memfd_create("sealed", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, mmap.PAGESIZE)
    try:
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
        mapped = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
    except OSError as error:
        pytest.skip(f"not to be had here: {error}")
    finally:
        kept = os.dup(fd)
        os.close(fd)
    try:
        explained = [each.explanation for each in found(os.getpid()) if each.thing == "/memfd:sealed"]
        assert [each.rpartition("; ")[2] for each in explained] == [words]
    finally:
        mapped.close()
        os.close(kept)


def test_a_rule_that_a_program_shows_is_named_by_the_command(start: Start, folder: Path) -> None:
    program = suspect(start, "dual-mapping", "bad", folder)
    command = [sys.executable, "-m", "vmatlas", "audit", str(program.pid), "--only", "dual-mapping"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.count("dual-mapping")) == (1, 1), done.stderr
    assert done.stdout.splitlines()[1].split()[1:3] == ["high", "dual-mapping"]


@contextmanager
def shared_by_two(*files: Path) -> Iterator[list[int]]:
    """The numbers of two processes: one may write the files, the other one executes them."""
    for code in files:
        code.write_bytes(b"\xc3" * os.sysconf("SC_PAGESIZE"))
    script = (
        "import mmap, sys; files = [open(each, 'r+b') for each in sys.argv[2:]]; "
        "mapped = [mmap.mmap(each.fileno(), 0, mmap.MAP_SHARED, int(sys.argv[1])) for each in files]; "
        "print('ready', flush=True); sys.stdin.read()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, str(rights), *files], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for rights in (3, 5)
    ]
    try:
        for each in started:
            assert each.stdout is not None and each.stdout.readline() == b"ready\n"
        yield [each.pid for each in started]
    finally:
        for each in started:
            each.kill()
            each.communicate()


def test_one_process_writes_what_another_executes(folder: Path) -> None:
    """Each of them alone is innocent."""
    with shared_by_two(folder / "shared.bin") as (writes, executes):
        numbers = [str(writes), str(executes)]
        command = [sys.executable, "-m", "vmatlas", "audit", "--only", "dual-mapping", "--json"]
        together = subprocess.run([*command, *numbers], capture_output=True, text=True, timeout=PATIENCE)
        told = {each["pid"]: each["findings"] for each in json.loads(together.stdout)["processes"]}
        assert [len(told[each]) for each in (writes, executes)] == [0, 1]
        assert f"process {writes} " in told[executes][0]["explanation"]
        for number in numbers:
            assert subprocess.run([*command, number], capture_output=True, timeout=PATIENCE).returncode == 0


def test_what_is_found_across_processes_is_settled_once_for_each(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A process may execute thousands of files that another one writes."""
    policy = folder / "policy.yaml"
    policy.write_text(f"allow: [{{rules: dual-mapping, path: {folder}/0*, reason: known}}]")
    asked, settled = [], audit_command._settled

    def counted(place, process, findings, policy):  # type: ignore[no-untyped-def]
        asked.append((process.pid, len(findings)))
        return settled(place, process, findings, policy)

    monkeypatch.setattr(audit_command, "_settled", counted)
    with shared_by_two(*(folder / f"{number:02}" for number in range(20))) as (writes, executes):
        words = ["audit", "--only", "dual-mapping", "--policy", str(policy), "--json"]
        assert command_line.run([*words, str(writes), str(executes)]) == Exit.FOUND
        told = {each["pid"]: each for each in json.loads(capsys.readouterr().out)["processes"]}
    assert asked == [(executes, 20)]
    assert (len(told[executes]["findings"]), len(told[executes]["allowed"])) == (10, 10)


def test_who_does_not_answer_any_more_is_allowed_nothing_and_holds_nobody(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    policy = folder / "policy.yaml"
    policy.write_text(f"allow: [{{rules: dual-mapping, path: {folder}/*, reason: known}}]")
    never = threading.Event()
    monkeypatch.setattr(LinuxProcess, "misnamed", lambda *_: never.wait())
    monkeypatch.setattr(audit_command, "_FOR_ALLOWANCES", 0.2)
    try:
        with shared_by_two(folder / "shared.bin") as (writes, executes):
            words = ["audit", "--only", "dual-mapping", "--policy", str(policy), "--json"]
            assert command_line.run([*words, str(writes), str(executes)]) == Exit.FOUND
    finally:
        never.set()
    told = {each["pid"]: each for each in json.loads(capsys.readouterr().out)["processes"]}
    assert "does not answer any more" in told[executes]["doubted"][0]["why"] and not told[executes]["allowed"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) in PATH")
def test_a_program_at_a_fixed_place_is_told_from_one_that_moves(folder: Path) -> None:
    source = folder / "waits.c"
    source.write_text(
        '#include <unistd.h>\nint main(void) { return (int)(write(1, "", 1) + read(0, &(char){0}, 1)); }\n'
    )
    for options, expected in ((["-no-pie", "-fno-pie"], True), (["-pie", "-fPIE"], False)):
        program = folder / f"waits{expected}"
        made = subprocess.run(["cc", *options, "-o", program, source], capture_output=True, text=True, timeout=PATIENCE)
        if made.returncode != 0:
            pytest.skip(f"cc {' '.join(options)}: {made.stderr.splitlines()[0]}")
        with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
            assert waiting.stdout is not None and waiting.stdout.read(1)  # it runs: it was loaded before
            assert ("fixed-program" in {each.id for each in found(waiting.pid)}) is expected


@pytest.mark.skipif(not Path("/var/lib/dpkg/info/coreutils.list").exists(), reason="no package coreutils of dpkg here")
def test_a_file_that_no_package_brought_is_told_from_one_that_came_with_one(folder: Path) -> None:
    ours = shutil.copy("/bin/cat", folder / "cat")
    for program, expected in ((ours, True), ("/bin/cat", False)):
        with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as waiting:
            assert waiting.stdin is not None and waiting.stdout is not None
            waiting.stdin.write(b"it runs\n")
            waiting.stdin.flush()
            assert waiting.stdout.readline()
            unknown = [each.thing for each in found(waiting.pid) if each.id == "unknown-code"]
        assert unknown == ([str(ours)] if expected else [])


def test_every_rule_is_held_to_a_program() -> None:
    """The rest have tests of their own here; for threads there is a file (core/tests/test_audit_threads.py)."""
    by_hand = {"fixed-program", "unknown-code", "thread-stack-with-no-guard"}
    held = {trait.partition("/")[0] for trait in TRAITS} | by_hand
    assert held == {rule.id for rule in RULES}


def test_a_file_of_code_is_looked_up_once_for_all_who_have_it_and_again_after_a_while(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[bytes] = []
    stands = files.ProcessFiles._stands

    def counted(self, name, *others):  # type: ignore[no-untyped-def]
        asked.append(name)
        return stands(self, name, *others)

    found(os.getpid())  # whatever that imports is mapped then
    monkeypatch.setattr(files, "_standing", {})
    monkeypatch.setattr(files, "_STANDS", PATIENCE)
    monkeypatch.setattr(files.ProcessFiles, "_stands", counted)
    found(os.getpid())
    standing = {path for path, *_ in files._standing}
    if not standing:
        pytest.skip("the file systems of this machine are none that are asked")
    assert standing <= set(asked)
    asked.clear()
    found(os.getpid())
    assert not standing & set(asked)
    monkeypatch.setattr(files, "_STANDS", 0.0)
    found(os.getpid())
    assert standing <= set(asked)
