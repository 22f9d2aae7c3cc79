"""Why an access faults, against what the kernel does with it."""

from __future__ import annotations

import ctypes
import os
import resource
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

import vmatlas
from vmatlas import Protection, operations
from vmatlas.conformance.patience import PATIENCE
from vmatlas.operations import FaultCause

PAGE = resource.getpagesize()
LIMIT = 64 * 65536

# Bytes are touched by a child of its own each: it grows the stack of that child alone, or dies.
_STACKS = """
import ctypes, os, resource, sys

START, LIMIT, PAGE = map(int, sys.argv[1:])
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
def place(address, flags):
    if libc.mmap(address, PAGE, 3, 0x22 | 0x100000 | flags, -1, 0) != address:  # MAP_FIXED_NOREPLACE
        sys.exit("no room at %#x: %s" % (address, os.strerror(ctypes.get_errno())))
    ctypes.memset(address, 1, PAGE)
place(START, 0x100)  # MAP_GROWSDOWN
place(START + (1 << 30), 0x100)
place(START + (1 << 30) - 260 * PAGE, 0)
resource.setrlimit(resource.RLIMIT_STACK, (LIMIT, resource.getrlimit(resource.RLIMIT_STACK)[1]))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
print("ready", flush=True)
for line in sys.stdin:
    if not (child := os.fork()):
        ctypes.memset(int(line), 1, 1)
        os._exit(0)
    print("died" if os.waitpid(child, 0)[1] else "grew", flush=True)
"""

START = 0x2000000000
"""Far from everything, and within the addresses of every 64-bit processor."""


@pytest.fixture
def stacks() -> Iterator[subprocess.Popen[str]]:
    """A process with two pages that grow downward; the second one has a neighbour 260 pages below its own."""
    if sys.maxsize < 2**32:
        pytest.skip("no room at such addresses in 32 bits")
    hard = resource.getrlimit(resource.RLIMIT_STACK)[1]
    if hard != resource.RLIM_INFINITY and hard < LIMIT:
        pytest.skip(f"the limit of stacks is below {LIMIT:,} bytes here")
    command = [sys.executable, "-S", "-c", _STACKS, str(START), str(LIMIT), str(PAGE)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert select.select([process.stdout], [], [], PATIENCE)[0]
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()
            process.wait(PATIENCE)


def test_growth_of_a_stack_and_its_overflow_are_told_as_the_kernel_decides(stacks: subprocess.Popen[str]) -> None:
    """Within RLIMIT_STACK of that process, and the 256 pages that stay free above a neighbour."""
    second = START + (1 << 30)
    addresses = [
        START - 8,
        START + PAGE - LIMIT,
        START + PAGE - LIMIT - 8,
        START - LIMIT - (LIMIT >> 1),
        second - 3 * PAGE,
        second - 4 * PAGE,
    ]
    with vmatlas.open(stacks.pid) as asked:
        assert asked.stack_limit() == LIMIT
        told = [operations.classify_fault(address, asked, access=Protection.WRITE) for address in addresses]
        gap = operations.classify_fault(second - 5 * PAGE, asked)
        assert "which may not grow to within" in gap.text
        saved = asked.snapshot(residency=True)
    fault = operations.classify_fault(START - 8, saved)
    assert (fault.cause, fault.certain) == (FaultCause.STACK_OVERFLOW, False)
    answers = stacks.communicate("".join(f"{address}\n" for address in addresses), timeout=PATIENCE)[0].split()
    kernel = [{"grew": FaultCause.STACK_GROWTH, "died": FaultCause.STACK_OVERFLOW}[answer] for answer in answers]
    assert [(fault.cause, fault.certain) for fault in told] == [(cause, True) for cause in kernel], told


def test_memory_under_a_protection_key_is_said_to_have_one() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if not hasattr(libc, "pkey_alloc"):
        pytest.skip("this C library has no protection keys")
    key = libc.pkey_alloc(0, 0)
    if key <= 0:
        pytest.skip(f"no protection keys here: {os.strerror(ctypes.get_errno())}")
    try:
        with operations.map_anonymous(2 * PAGE) as mine:
            assert libc.pkey_mprotect(ctypes.c_void_p(mine.start), ctypes.c_size_t(PAGE), 3, key) == 0
            fault = operations.classify_fault(mine.start, access=Protection.READ)
            assert fault.cause is FaultCause.NOT_BY_THE_MAP
            assert f"protection key {key} may forbid it" in fault.text
            beside = operations.classify_fault(mine.start + PAGE, access=Protection.READ)
            assert "key" not in beside.text
    finally:
        libc.pkey_free(key)
