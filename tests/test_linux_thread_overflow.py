"""A thread that runs off the low end of its stack: from the live process and from a capture, whoever made the guard.

Up to glibc 2.41 the guard is a region. From 2.42 on, on Linux 6.13 and newer, no map shows it (MADV_GUARD_INSTALL): so
this file is run in guests with both.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import vmatlas
from vmatlas import Kind, PageState, Protection
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import FaultCause, classify_fault

STEPS = {  # takes 256 bytes of stack and writes to them, without end
    "x86_64": "4881ec0001000050ebf6",  # sub rsp, 256; push rax; jmp back
    "aarch64": "ff0304d1e00300f9feffff17",  # sub sp, sp, 256; str x0, [sp]; b back
}
pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="threads of Linux, followed by ptrace(2)"),
    pytest.mark.skipif(platform.machine() not in STEPS, reason=f"the code is of {' and '.join(STEPS)}"),
    pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the guards are those that glibc makes"),
]

PROGRAM = """
import ctypes, mmap, sys, threading
code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
code.write(bytes.fromhex(sys.argv[1]))
overflow = ctypes.CFUNCTYPE(None)(ctypes.addressof(ctypes.c_char.from_buffer(code)))
ctypes.pythonapi.prctl(0x59616d61, ctypes.c_ulong(-1), 0, 0, 0)  # PR_SET_PTRACER, where Yama asks for it

def work():
    print(threading.get_native_id(), flush=True)
    go.wait()
    overflow()

go = threading.Event()
threading.stack_size(256 << 10)
others = [threading.Thread(target=threading.Event().wait, daemon=True) for _ in range(3)]
threads = [*others, threading.Thread(target=work, daemon=True)]
for each in threads:
    each.start()
sys.stdin.readline()
go.set()
threading.Event().wait()
"""

SEIZE, CONT, GETSIGINFO = 0x4206, 7, 0x4202
WALL = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def ptrace(request: int, thread: int, data: object) -> None:
    """ptrace(2). Raises OSError."""
    _libc.ptrace.restype = ctypes.c_long
    if _libc.ptrace(ctypes.c_long(request), ctypes.c_long(thread), None, data) != 0:
        raise OSError(ctypes.get_errno(), "ptrace")


def until_it_faults(thread: int) -> int:
    """The address of the access that SIGSEGV is about."""
    until = time.monotonic() + PATIENCE
    while True:
        found, status = os.waitpid(thread, WALL | os.WNOHANG)
        if found and os.WIFSTOPPED(status) and os.WSTOPSIG(status) == signal.SIGSEGV:
            told = (ctypes.c_char * 128)()
            ptrace(GETSIGINFO, thread, told)
            return int(struct.unpack_from("=Q", told, 16)[0])
        assert not found or os.WIFSTOPPED(status), f"the thread ended ({status}) before it was seen to fault"
        assert time.monotonic() < until, "the thread did not fault"
        if found:
            ptrace(CONT, thread, None)
        time.sleep(0.01)


def reap(thread: int) -> None:
    """Of a thread that is traced it is the tracer who takes note that it has ended: else its process never has."""
    until = time.monotonic() + PATIENCE
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(thread, WALL | os.WNOHANG)[0] != thread or os.path.exists(f"/proc/{thread}"):
            assert time.monotonic() < until, "the traced thread does not end"
            time.sleep(0.01)


@contextmanager
def overflowed() -> Iterator[tuple[int, int, int]]:
    """A process that is held where a thread of it has run off its stack: its number, the thread's, the address."""
    command = [sys.executable, "-I", "-S", "-c", PROGRAM, STEPS[platform.machine()]]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdin is not None and process.stdout is not None
            thread = int(process.stdout.readline())
            try:
                ptrace(SEIZE, thread, None)
            except OSError as error:
                pytest.skip(f"this user may not trace its own children: {error.strerror}")
            process.stdin.write(b"\n")
            process.stdin.flush()
            yield process.pid, thread, until_it_faults(thread)
        finally:
            process.kill()
            reap(thread)


def guards_are_told(process: vmatlas.Process) -> bool:
    try:
        process.pages(of=PageState.GUARD)
    except vmatlas.Unsupported:
        return False
    return True


def test_a_thread_that_overflows_its_stack_is_explained_as_such_now_and_from_a_capture(tmp_path: Path) -> None:
    with overflowed() as (pid, thread, address), vmatlas.open(pid) as process:
        plain = process.find(address)
        assert plain is not None, "below a thread's stack stands its guard, with or without a region"
        told = guards_are_told(process)
        if plain.protection != Protection.NONE and not told:
            pytest.skip(
                "the C library's guard shows in no map, and this kernel does not tell such (Linux 6.13 to 6.15)"
            )
        (its,) = [each for each in process.threads() or () if each.number == thread]
        live = classify_fault(address, process, access=Protection.WRITE)
        saved = tmp_path / "overflow.vmatlas"
        process.capture(guards=told, threads=True).save(saved)
        later = classify_fault(address, vmatlas.replay(saved), access=Protection.WRITE)
    for fault in (live, later):
        assert (fault.cause, fault.certain) == (FaultCause.GUARD, True), fault.text
        assert "that stack has overflowed" in fault.text
        assert fault.stack is not None
        if its.stack_pointer is not None:
            assert abs(its.stack_pointer - address) <= 4096
    as_saved = vmatlas.replay(saved).find(address)
    assert as_saved is not None
    assert as_saved.kind is Kind.GUARD
    if plain.protection != Protection.NONE:  # glibc 2.42 and newer
        assert as_saved.end - as_saved.start < plain.size
