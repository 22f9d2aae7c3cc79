"""Processes that qemu-user runs: the map of the program, not the emulator's; and what cannot be told is said."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux.proc import emulator_called
from vmatlas_linux_procfs.emulated import without_repeats


@pytest.fixture
def emulator() -> str:
    """The qemu-user that runs programs of this machine's own processor: so this Python can be run by it."""
    machine = os.uname().machine
    for name in (f"qemu-{machine}-static", f"qemu-{machine}"):
        if (found := shutil.which(name)) is not None:
            return found
    pytest.skip(f"qemu-{machine} is missing: apt-get install qemu-user-static")


ASK_OF_ONESELF = """
import os, vmatlas
from vmatlas.cli import main
from vmatlas.target.local import LOCAL
space = vmatlas.snapshot()
text = open("/proc/self/maps").read()
starts = [int(line.partition("-")[0], 16) for line in dict.fromkeys(text.splitlines())]
told = {region.start for region in space}
print(len(told & set(starts)) > len(starts) * 0.8, any("qemu" in region.label for region in space))
print(space.find(id(vmatlas)) is not None, [region.kind.name for region in space if region.name == "[stack]"])
print(space.incomplete)
print(vmatlas.find(None, id(vmatlas)) is not None, vmatlas.find_many(None, [id(vmatlas)])[0] is not None)
listed = [each.start_time for each in vmatlas.processes() if each.pid == os.getpid()]
print(listed == [space.start_time])
print(dict(LOCAL.rights())["emulator"])
print(vmatlas.snapshot(os.getppid()).incomplete)
try:
    print(vmatlas.snapshot(residency=True).incomplete)
except vmatlas.Unsupported as error:
    print(error)
"""


def test_program_under_an_emulator_is_told_its_own_map_and_that_an_emulator_tells_it(emulator: str) -> None:
    done = subprocess.run(
        [emulator, sys.executable, "-c", ASK_OF_ONESELF], capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.returncode == 0, done.stderr
    told = done.stdout.splitlines()
    assert told[0] == "True False"
    assert told[1] == "True ['STACK']"
    name = os.path.basename(os.path.realpath(emulator))
    assert told[2].startswith(f"this process runs under an emulator ({name})")
    assert told[3] == "True True"
    assert told[4] == "True"
    assert told[5].startswith(f"this process runs under an emulator ({name})")
    assert told[6] == "None"
    assert "emulator" in told[7]  # QEMU before 8 does not tell smaps; newer ones do, and are named


def test_emulated_process_is_told_from_outside_to_be_the_emulators_map(emulator: str) -> None:
    script = "import sys; print(flush=True); sys.stdin.read()"
    program = subprocess.Popen([emulator, sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert program.stdout is not None
        program.stdout.readline()
        space = vmatlas.snapshot(program.pid)
        assert any("qemu" in region.label for region in space)
        assert space.incomplete is not None
        assert f"the map of the emulator {os.path.basename(os.path.realpath(emulator))}" in space.incomplete
    finally:
        program.kill()
        program.communicate()


def test_program_that_the_kernel_runs_has_no_emulator() -> None:
    assert vmatlas.snapshot().incomplete is None
    assert vmatlas.snapshot(os.getppid()).incomplete is None if os.geteuid() == 0 else True


@pytest.mark.parametrize(("program", "emulator"), [
    ("/usr/bin/qemu-aarch64-static", "qemu-aarch64-static"), ("/usr/libexec/qemu-binfmt/../qemu-arm", "qemu-arm"),
    ("/bin/qemu-ppc64le-static (deleted)", "qemu-ppc64le-static"), ("qemu-s390x", "qemu-s390x"),
    ("/usr/bin/qemu-system-x86_64", None), ("/usr/bin/qemu-img", None), ("/usr/bin/qemu-nbd", None),
    ("/usr/bin/qemu-ga", None), ("/usr/bin/qemu-arm/python", None), ("/usr/bin/python3", None), ("", None),
])  # fmt: skip
def test_emulators_are_known_by_the_name_of_their_program(program: str, emulator: str | None) -> None:
    assert emulator_called(program) == emulator


def test_line_that_is_told_twice_in_a_row_is_one() -> None:
    once = b"1000-2000 r--p 0 0:0 0\n2000-3000 r--p 0 0:0 0\n"
    last = b"ffffffffff600000-ffffffffff601000 --xp 0 0:0 0 [vsyscall]\n"
    assert without_repeats(once + last + last) == once + last
    assert without_repeats(once) == once
    assert without_repeats(b"") == b""
    named = b"400000-401000 r-xp 00000000 fe:00 12                             /a\rb\rb\r\v\vc\n"
    assert without_repeats(named) == named
    assert without_repeats(last + once + last) == last + once + last
