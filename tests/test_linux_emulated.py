"""Processes that qemu-user runs: the map of the program, not the emulator's; and what cannot be told is said."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import cast

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE
from vmatlas.systems.linux import emulation
from vmatlas.systems.linux.emulation import _interpreter, _Mapped
from vmatlas.systems.linux.host import LinuxProcess
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
    ("/dev/.buildkit_qemu_emulator", ".buildkit_qemu_emulator"), ("/x/buildkit-qemu-arm", "buildkit-qemu-arm"),
    ("/usr/bin/qemu-riscv64-8.2", "qemu-riscv64-8.2"), ("/usr/bin/buildkitd", None), ("/bin/qemu-arm-setup", None),
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


def guest(machine: int, code: bytes) -> bytes:
    """A program of two segments, code and data, that is loaded at 4 MiB and 64 KiB above."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, 0x4000B0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    header += struct.pack("<IIQQQQQQ", 1, 5, 0, 0x400000, 0x400000, 0x1000, 0x1000, 0x1000)
    header += struct.pack("<IIQQQQQQ", 1, 6, 0x1000, 0x410000, 0x410000, 16, 16, 0x1000)
    return (header + code).ljust(0x1010, b"\0")


AARCH64, RISCV = 183, 243
PAUSES = {  # each asks for its files to be polled, none, for ever
    "aarch64": (AARCH64, "280980d2" "000080d2" "010080d2" "020080d2" "030080d2" "040080d2" "010000d4" "00000014"),
    "riscv64": (RISCV, "93089004" "13050000" "93050000" "13060000" "93060000" "13070000" "73000000" "6f000000"),
}  # fmt: skip


def test_emulator_of_any_name_is_known_by_the_program_of_another_processor_that_it_loaded(tmp_path: Path) -> None:
    foreign = next((each for each in PAUSES if each != os.uname().machine), "")
    found = shutil.which(f"qemu-{foreign}-static")
    if found is None:
        pytest.skip(f"qemu-{foreign}-static is missing: apt-get install qemu-user-static")
    emulator, program = tmp_path / "runner", tmp_path / "guest"
    shutil.copy(found, emulator)
    machine, code = PAUSES[foreign]
    program.write_bytes(guest(machine, bytes.fromhex(code)))
    program.chmod(0o755)
    running = subprocess.Popen([emulator, program])
    try:
        deadline = time.monotonic() + PATIENCE
        while True:
            space = vmatlas.snapshot(running.pid)
            if any(region.path == str(program) for region in space.where("w")):
                break
            assert time.monotonic() < deadline and running.poll() is None, list(space)
            time.sleep(0.01)
        if not space.incomplete and not any(map(is_interpreter, space)):
            space = vmatlas.snapshot(running.pid)  # the doubt was told before the guest was loaded
        if any(map(is_interpreter, space)):
            pytest.skip("this qemu is linked dynamically")
        assert "the map of the emulator runner, which runs a program of its own choice" in (space.incomplete or "")
    finally:
        running.kill()
        running.wait()


def is_interpreter(region: vmatlas.Region) -> bool:
    return "/ld-" in (region.path or "")


def test_a_file_of_another_processor_that_is_read_as_data_is_not_one_that_was_loaded() -> None:
    head = guest(AARCH64, b"")

    def mapped(*starts: int) -> _Mapped:
        return _Mapped([vmatlas.Region(start, start + 0x1000, vmatlas.Protection.READ) for start in starts])

    assert mapped(0x400000, 0x410000).is_loaded_as(head)
    assert mapped(0x7F0000400000, 0x7F0000410000).is_loaded_as(head)  # with a base
    assert not mapped(0x400000).is_loaded_as(head)  # whole, as a linker or a debugger has it
    assert not mapped(0x400000, 0x401000).is_loaded_as(head)
    assert not mapped(0x400000, 0x410000).is_loaded_as(head[:100])


@pytest.mark.parametrize("width", ["Q", "I"])
def test_whether_a_program_has_a_loader_is_told_by_its_auxiliary_vector(width: str) -> None:
    def vector(base: int) -> bytes:
        return b"".join(struct.pack(f"=2{width}", *each) for each in ((6, 4096), (7, base), (3, 0x400040), (0, 0)))

    assert _interpreter(vector(0x7F000000)) == 0x7F000000
    assert _interpreter(vector(0)) == 0
    assert [_interpreter(each) for each in (b"", bytes(16), b"\xff" * 32)] == [None] * 3


def test_program_of_which_nothing_is_told_yet_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of execve the vector is empty: what was seen then is not kept of all that run the same program."""

    class Beginning:
        def read_file(self, name: str) -> bytes:
            assert name == "auxv"
            return bytes(16)

    monkeypatch.setattr(emulation, "_with_interpreter", known := set[str]())
    assert not emulation.runs_another_machine(cast(LinuxProcess, Beginning()), "/runner")
    assert known == set()
