"""`explain`: each way to die is told by its right cause, from a core file alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest

import vmatlas
from vmatlas import operations, remains
from vmatlas.cli.exits import Exit
from vmatlas.cli.program import program
from vmatlas.operations import Explanation, FaultCause

from .core_files import PAGE, Load, Made, saved

CODE, DATA, GUARD, STACK, MAIN = 0x400000, 0x500000, 0x7F0000000000, 0x7F0000001000, 0x7FFF00000000
STACK_SIZE, MAIN_SIZE = 16 * PAGE, 32 * PAGE
LOADS = [
    Load(CODE, 4 * PAGE, 5),
    Load(DATA, 4 * PAGE, 6),
    Load(GUARD, PAGE, 0),
    Load(STACK, STACK_SIZE, 6),
    Load(MAIN, MAIN_SIZE, 6),
]
FILES = [(CODE, CODE + 4 * PAGE, 1, b"/bin/program"), (DATA, DATA + 4 * PAGE, 5, b"/bin/program")]
NAMES = {"SIGILL": 4, "SIGABRT": 6, "SIGBUS": 7, "SIGFPE": 8, "SIGSEGV": 11}


def status(by: Made, thread: int, counter: int, pointer: int, number: int = 11) -> bytes:
    """NT_PRSTATUS of x86-64 with two registers of our own."""
    note = bytearray(by.status(thread, number))
    at = len(by.note(1, b"")) + 112
    note[at + 8 * 16 : at + 8 * 17] = counter.to_bytes(8, "little")
    note[at + 8 * 19 : at + 8 * 20] = pointer.to_bytes(8, "little")
    return bytes(note)


def died(
    folder: Path, name: str, code: int, address: int, *, counter: int = CODE + 0x123, pointer: int = 0
) -> Explanation:
    by, number = Made(), NAMES[name]
    pointer = pointer or MAIN + MAIN_SIZE - 0x800
    notes = status(by, 7, counter, pointer, number) + by.psinfo(pid=7) + by.siginfo(number, code, address)
    notes += by.auxv(pagesz=PAGE, random=MAIN + MAIN_SIZE - 64, execfn=MAIN + MAIN_SIZE - 16) + by.files(FILES)
    notes += status(by, 8, CODE + 0x10, STACK + STACK_SIZE - 0x100)
    path = folder / "core"
    path.write_bytes(by.core(LOADS, notes))
    return operations.explain(path)


DEATHS = {
    "a null pointer": (("SIGSEGV", 1, 0x18), FaultCause.HOLE, "a null pointer and an offset of 24"),
    "unmapped memory": (("SIGSEGV", 1, 0x600000), FaultCause.HOLE, "nothing is mapped at 0x600000"),
    "read-only memory": (("SIGSEGV", 2, CODE + 8), FaultCause.PROTECTION, "it cannot be written"),
    "a guard": (("SIGSEGV", 2, GUARD + 0x10), FaultCause.GUARD, "lies in a guard"),
    "beyond the end of a file": (
        ("SIGBUS", 2, DATA + 8),
        FaultCause.BEYOND_FILE,
        "the file behind it may be shorter",
    ),
    "the same, by the signal's code": (
        ("SIGBUS", 2, DATA + 8),
        FaultCause.BEYOND_FILE,
        "its file is shorter, or could not be read",
    ),
    "a guard page that no map shows": (
        ("SIGSEGV", 1, DATA + 8),
        FaultCause.GUARD,
        "most likely a guard page that the map does not show (MADV_GUARD_INSTALL), or the memory was mapped since",
    ),
    "an address that is not aligned": (("SIGBUS", 1, DATA + 3), FaultCause.NOT_BY_THE_MAP, "is not aligned"),
    "a protection key": (("SIGSEGV", 4, DATA + 8), FaultCause.NOT_BY_THE_MAP, "a protection key forbids it"),
}


@pytest.mark.parametrize("how", DEATHS)
def test_cause_of_a_death_is_told(how: str, tmp_path: Path) -> None:
    death, cause, words = DEATHS[how]
    found = died(tmp_path, *death)
    assert found.fault is not None
    assert (found.fault.cause, found.fault.address) == (cause, death[2])
    assert words in found.text.replace("Nothing", "nothing")
    assert found.instruction is not None
    assert found.instruction.region is not None
    assert (found.instruction.region.path, found.instruction.file_offset) == ("/bin/program", PAGE + 0x123)
    assert "0x1123 bytes into the file" in found.text


def test_overflow_of_the_first_threads_stack_is_told(tmp_path: Path) -> None:
    found = died(tmp_path, "SIGSEGV", 1, MAIN - 8, pointer=MAIN - 8)
    assert found.fault is not None
    assert found.fault.cause is FaultCause.STACK_OVERFLOW
    assert "a possible overflow" in found.text  # the limit of the stack is in no core
    assert "it has overflowed" in found.text.rpartition("stack pointer")[2]


def test_overflow_of_another_threads_stack_is_told(tmp_path: Path) -> None:
    found = died(tmp_path, "SIGSEGV", 2, GUARD + PAGE - 8, pointer=STACK + 16)
    assert found.fault is not None
    assert found.fault.cause is FaultCause.GUARD
    assert found.fault.stack is not None
    assert found.fault.stack.start == STACK
    assert "it has overflowed" in found.text


def test_guard_that_a_stray_pointer_hit_is_no_overflow(tmp_path: Path) -> None:
    assert "it has overflowed" not in died(tmp_path, "SIGSEGV", 2, GUARD + 8).text


def test_jump_to_what_cannot_be_executed_is_told(tmp_path: Path) -> None:
    found = died(tmp_path, "SIGSEGV", 2, DATA + 16, counter=DATA + 16)
    assert "it cannot be executed" in found.text
    assert "lies in no region: the program jumped" in died(tmp_path, "SIGSEGV", 1, 0x99, counter=0x99).text


HOW_QEMUS_DIED = {
    "qemu-user-7.2-aarch64-stack": "0x5500000f70, lies in no memory that can be a stack, but just below some",
    "qemu-user-7.2-s390x-thread-stack": "just below some (0x400100d000-0x400180e000): most likely that stack has",
    "qemu-user-7.2-aarch64-jump": "That memory cannot be executed: the program jumped into it",
}


@pytest.mark.parametrize("name", HOW_QEMUS_DIED)
def test_where_no_address_is_told_the_registers_tell_an_overflow_and_a_jump(name: str, tmp_path: Path) -> None:
    found = operations.explain(saved(name, tmp_path))
    assert (found.fault, found.crash.fault_address) == (None, None)
    assert HOW_QEMUS_DIED[name] in found.text
    assert (found.threads[0].stack is None) == ("stack" in name)


def test_signal_without_an_access_has_no_fault(tmp_path: Path) -> None:
    abort = died(tmp_path, "SIGABRT", -6, 0x3E8)
    assert (abort.fault, abort.crash.fault_address) == (None, None)
    assert "That is what abort() sends" in abort.text
    protection = died(tmp_path, "SIGSEGV", 128, 0).text
    assert "canonical" in protection
    assert "not aligned as its instruction needs it (movaps)" in protection  # the processor traps alike for both
    divided = died(tmp_path, "SIGFPE", 1, CODE + 0x123)
    assert divided.fault is None
    assert "SIGFPE" in divided.text


def test_signal_by_which_gdb_stopped_a_process_that_lived_is_none(tmp_path: Path) -> None:
    by = Made()
    notes = status(by, 7, CODE + 0x123, MAIN + MAIN_SIZE - 64, 19) + by.siginfo(19, -6, 0) + by.psinfo(pid=7)
    for more, number in ((by.note(0xFF000000, b"", b"GDB\0"), None), (b"", 19)):
        path = tmp_path / "core"
        path.write_bytes(by.core(LOADS, notes + more))
        assert operations.explain(path).crash.signal == number


def test_gap_in_what_gdb_wrote_is_not_said_to_be_a_hole(tmp_path: Path) -> None:
    """It leaves regions out: a core of the kernel has them all."""
    by = Made()
    notes = status(by, 7, CODE + 0x123, MAIN + MAIN_SIZE - 64) + by.siginfo(11, 1, 0x600000) + by.psinfo(pid=7)
    for more, certain in ((by.note(0xFF000000, b"", b"GDB\0"), False), (b"", True)):
        path = tmp_path / "core"
        path.write_bytes(by.core(LOADS, notes + more))
        found = operations.explain(path)
        assert found.fault is not None
        assert (found.fault.cause, found.fault.certain) == (FaultCause.HOLE, certain)
        assert ("Something may have been there all the same: gdb wrote the file" in found.text) is not certain


def test_each_threads_stack_is_told_and_how_full_it_is(tmp_path: Path) -> None:
    crashed, other = died(tmp_path, "SIGSEGV", 1, 0).threads
    assert crashed.stack is not None
    assert (crashed.number, crashed.used, crashed.stack.name) == (7, 0x800, "[stack]")
    assert other.full == 0x100 / STACK_SIZE
    assert (other.number, other.instruction and other.instruction.address) == (8, CODE + 0x10)


def test_page_of_an_address_that_the_processor_cuts_is_told_as_one(tmp_path: Path) -> None:
    found = operations.explain(saved("linux-6.12-s390x", tmp_path))
    assert found.crash.fault_span == 4096
    assert "The processor tells the page alone" in found.text


@pytest.mark.parametrize("name", ["linux-6.18-x86_64", "linux-6.18-i386", "linux-7.3-x86_64", "linux-6.12-s390x"])
def test_recorded_crash_is_an_access_to_nothing_from_the_programs_own_code(name: str, tmp_path: Path) -> None:
    found = operations.explain(saved(name, tmp_path))
    assert found.fault is not None
    assert (found.crash.signal_name, found.fault.cause) == ("SIGSEGV", FaultCause.HOLE)
    assert found.instruction is not None
    assert found.instruction.region is not None
    assert (found.instruction.region.path or "").rpartition("/")[2].startswith("mini")


def test_command_tells_it_in_words_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(saved("linux-6.18-x86_64-crash-in-thread", tmp_path))
    assert program.run(["explain", path]) == Exit.OK
    shown = capsys.readouterr().out
    assert "was stopped by SIGSEGV" in shown
    assert " 14195  55b028280207         1207" in shown
    assert program.run(["explain", path, "--json"]) == Exit.OK
    told = json.loads(capsys.readouterr().out)
    assert (told["signal_name"], told["fault_address"], told["cause"]) == ("SIGSEGV", 0x1234, "hole")
    assert [thread["number"] for thread in told["threads"]] == [14195, 14194]


def test_stopped_process_is_explained_without_a_signal() -> None:
    child = subprocess.Popen(["sleep", "600"])
    try:
        os.kill(child.pid, signal.SIGSTOP)
        os.waitid(os.P_PID, child.pid, os.WSTOPPED)
        found = operations.explain(child.pid)
        assert found.crash.signal is None
        assert found.threads[0].number == child.pid
        assert "not stopped by a signal, as far as that is told" in found.text
        with vmatlas.open(child.pid) as process:
            capture = process.capture(threads=True)
        assert operations.explain(capture).threads == found.threads
    finally:
        child.kill()
        child.wait()


def test_capture_of_a_core_explains_as_the_core_does(tmp_path: Path) -> None:
    path = saved("linux-6.18-x86_64-crash-in-thread", tmp_path)
    remains.load(path).save(tmp_path / "kept.vmatlas")
    assert operations.explain(tmp_path / "kept.vmatlas").text == operations.explain(path).text
