"""Each rule of `vmatlas audit` on programs with its trait, and on their twins without it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Policy
from vmatlas.analysis.audit import RULES
from vmatlas.conformance.patience import PATIENCE

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


def test_a_rule_that_a_program_shows_is_named_by_the_command(start: Start, folder: Path) -> None:
    program = suspect(start, "dual-mapping", "bad", folder)
    command = [sys.executable, "-m", "vmatlas", "audit", str(program.pid), "--only", "dual-mapping"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stdout.count("dual-mapping")) == (1, 1), done.stderr
    assert done.stdout.splitlines()[1].split()[1:3] == ["high", "dual-mapping"]


def test_one_process_writes_what_another_executes(start: Start, folder: Path) -> None:
    """Each of them alone is innocent."""
    code = folder / "shared.bin"
    code.write_bytes(b"\xc3" * os.sysconf("SC_PAGESIZE"))
    script = (
        "import mmap, sys; file = open(sys.argv[1], 'r+b'); "
        "mapped = mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, int(sys.argv[2])); print('ready', flush=True); "
        "sys.stdin.read()"
    )
    started = [
        subprocess.Popen(
            [sys.executable, "-c", script, code, str(rights)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        for rights in (3, 5)
    ]
    try:
        for each in started:
            assert each.stdout is not None and each.stdout.readline() == b"ready\n"
        numbers = [str(each.pid) for each in started]
        command = [sys.executable, "-m", "vmatlas", "audit", "--only", "dual-mapping", "--json"]
        together = subprocess.run([*command, *numbers], capture_output=True, text=True, timeout=PATIENCE)
        told = {each["pid"]: each["findings"] for each in json.loads(together.stdout)["processes"]}
        assert [len(told[each.pid]) for each in started] == [0, 1]
        assert f"process {started[0].pid} " in told[started[1].pid][0]["explanation"]
        for number in numbers:
            assert subprocess.run([*command, number], capture_output=True, timeout=PATIENCE).returncode == 0
    finally:
        for each in started:
            each.kill()
            each.communicate()


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc) in PATH")
def test_a_program_at_a_fixed_place_is_told_from_one_that_moves(folder: Path) -> None:
    source = folder / "waits.c"
    source.write_text("#include <unistd.h>\nint main(void) { return (int)read(0, &(char){0}, 1); }\n")
    for options, expected in ((["-no-pie", "-fno-pie"], True), (["-pie", "-fPIE"], False)):
        program = folder / f"waits{expected}"
        made = subprocess.run(["cc", *options, "-o", program, source], capture_output=True, text=True, timeout=PATIENCE)
        if made.returncode != 0:
            pytest.skip(f"cc {' '.join(options)}: {made.stderr.splitlines()[0]}")
        with subprocess.Popen([program], stdin=subprocess.PIPE) as waiting:
            assert ("fixed-program" in {each.id for each in found(waiting.pid)}) is expected


@pytest.mark.skipif(not Path("/var/lib/dpkg/info/coreutils.list").exists(), reason="no package coreutils of dpkg here")
def test_a_file_that_no_package_brought_is_told_from_one_that_came_with_one(folder: Path) -> None:
    ours = shutil.copy("/bin/cat", folder / "cat")
    for program, expected in ((ours, True), ("/bin/cat", False)):
        with subprocess.Popen([program], stdin=subprocess.PIPE) as waiting:
            unknown = [each.thing for each in found(waiting.pid) if each.id == "unknown-code"]
        assert unknown == ([str(ours)] if expected else [])


def test_every_rule_is_held_to_a_program() -> None:
    """The rest: a stack with no guard is made of regions by hand, in core's tests; for threads there is a file."""
    by_hand = {"fixed-program", "unknown-code", "stack-with-no-guard", "thread-stack-with-no-guard"}
    held = {trait.partition("/")[0] for trait in TRAITS} | by_hand
    assert held == {rule.id for rule in RULES}
