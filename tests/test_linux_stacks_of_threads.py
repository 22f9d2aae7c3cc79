"""Threads of real processes: each tells its name and a stack pointer that lies in its own stack."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import vmatlas
from vmatlas.conformance.patience import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="it is the /proc of Linux that tells stack pointers")

THREADED = textwrap.dedent("""
    import ctypes, sys, threading, time
    libc = ctypes.CDLL(None, use_errno=True)
    libc.pthread_self.restype = ctypes.c_void_p
    libc.pthread_getattr_np.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    libc.pthread_attr_getstack.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p]
    lock = threading.Lock()
    ready = threading.Barrier(COUNT + 1)
    libc.malloc.restype = ctypes.c_void_p

    def work(name):
        libc.prctl(15, name.encode(), 0, 0, 0)
        attributes = ctypes.create_string_buffer(256)
        start, size = ctypes.c_void_p(), ctypes.c_size_t()
        libc.pthread_getattr_np(libc.pthread_self(), attributes)
        libc.pthread_attr_getstack(attributes, ctypes.byref(start), ctypes.byref(size))
        block = libc.malloc(50_000)
        with lock:
            print(threading.get_native_id(), name, start.value, size.value, block, flush=True)
        ready.wait()
        threading.Event().wait()

    for number in range(COUNT):
        threading.Thread(target=work, args=[f"worker {number}"], daemon=True).start()
    ready.wait()
    print("ready", flush=True)
    threading.Event().wait()
""")
"""Each of its threads tells its number, its name, where pthread_getattr_np says that its stack is, and where a block
lies that it allocated."""


@contextmanager
def threaded(count: int) -> Iterator[tuple[int, dict[int, list[str]]]]:
    """A process with so many threads, all waiting, and what each of them told."""
    program = THREADED.replace("COUNT", str(count))
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(PATIENCE, process.kill)
        limit.start()
        try:
            assert process.stdout is not None
            told = {}
            for line in process.stdout:
                if line == "ready\n":
                    break
                number, *rest = line.replace("worker ", "worker-").split()
                told[int(number)] = rest
            yield process.pid, told
        finally:
            limit.cancel()
            process.kill()


def has_glibc() -> bool:
    import platform

    return platform.libc_ver()[0] == "glibc"


needs_glibc = pytest.mark.skipif(not has_glibc(), reason="pthread_getattr_np is asked of glibc")


def asked(pid: int) -> vmatlas.AddressSpace:
    """Its map, with its threads once all of them wait."""
    import time

    until = time.monotonic() + PATIENCE
    while True:
        space = vmatlas.snapshot(pid, threads=True)
        told = [thread.untold for thread in space.origin.threads or ()]
        if any(word not in (None, "running") for word in told):
            pytest.skip(f"this kernel, or a security module, does not tell stack pointers: {told}")
        if not any(told) or time.monotonic() > until:
            return space
        time.sleep(0.01)


@needs_glibc
def test_a_threads_stack_pointer_lies_in_the_stack_that_glibc_gave_it() -> None:
    with threaded(3) as (pid, told):
        threads = {thread.number: thread for thread in asked(pid).origin.threads or ()}
    assert set(threads) == {pid, *told}
    for number, (name, start, size, _) in told.items():
        assert (threads[number].name or "").replace(" ", "-") == name
        pointer = threads[number].stack_pointer
        assert pointer is not None
        assert int(start) <= pointer < int(start) + int(size)


@needs_glibc
def test_a_capture_keeps_the_threads_and_one_without_says_that_they_were_not_asked() -> None:
    with threaded(2) as (pid, _):
        space = asked(pid)
        capture = vmatlas.capture(pid, threads=True)
        assert "threads" not in vmatlas.capture(pid).streams
        assert vmatlas.snapshot(pid).origin.threads is None
    replayed = vmatlas.replay(capture).origin.threads
    assert replayed is not None
    assert [(each.number, each.name) for each in replayed] == [
        (each.number, each.name) for each in space.origin.threads or ()
    ]


def test_one_who_may_not_trace_is_told_the_names_and_why_no_more() -> None:
    """Of a process that may not be dumped; to root everything is told."""
    program = "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            with vmatlas.open(process.pid) as opened:
                threads = opened.threads()
        finally:
            process.kill()
    assert threads is not None
    assert [thread.number for thread in threads] == [process.pid]
    assert threads[0].name
    assert threads[0].stack_pointer is not None or threads[0].untold in ("EPERM", "EACCES", "running")


def group_at(space: vmatlas.AddressSpace, address: int) -> str | None:
    region = space.find(address)
    guess = vmatlas.name_regions(space).get(region.start) if region is not None else None
    return None if guess is None else guess.group_label


@needs_glibc
def test_stacks_and_arenas_of_a_real_process_are_guessed_where_glibc_put_them() -> None:
    with threaded(3) as (pid, told):
        space = asked(pid)
    guesses = vmatlas.name_regions(space)
    for number, (name, start, size, block) in told.items():
        region = space.find(int(start) + int(size) - 1)
        assert region is not None
        guess = guesses[region.start]
        assert guess.group == "thread stack"
        assert f"thread {number} ({name.replace('-', ' ')})" in guess.name
        assert group_at(space, int(block)) == "?glibc malloc arena"
