"""Another process that does what it is told with its memory, and what this one may do."""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import IO

import pytest

from vmatlas.conformance.patience import PATIENCE

_PROGRAM = r"""
import ctypes, mmap, os, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
libc.mlock.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
PAGE = mmap.PAGESIZE
def lay(pages, protection=3):
    address = libc.mmap(None, pages * PAGE, protection, 0x22, -1, 0)
    assert address != 2**64 - 1
    if protection & 2:
        ctypes.memset(address, 1, pages * PAGE)
    return address
for line in sys.stdin:
    print(eval(line), flush=True)
"""


class Child:
    """A process that evaluates what it is told, with PAGE, lay(pages) and libc at hand."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        self.pid = self._process.pid
        self.ask("0")

    def ask(self, expression: str) -> int:
        input, output = self._pipe(self._process.stdin), self._pipe(self._process.stdout)
        input.write(expression.encode() + b"\n")
        line = b""
        while not line.endswith(b"\n"):
            assert select.select([output], [], [], PATIENCE)[0], "the child does not answer"
            piece = output.read(1)
            assert piece, "the child has ended"
            line += piece
        return int(line)

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None
        return pipe

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def child() -> Iterator[Child]:
    started = Child()
    yield started
    started.end()


@pytest.fixture
def may_advise() -> None:
    """Skips where this process may not advise others."""
    if not _has(23):
        pytest.skip("advising another process takes CAP_SYS_NICE, which this user has not")


@pytest.fixture
def has_capability() -> Callable[[int], bool]:
    return _has


def _has(capability: int) -> bool:
    with open("/proc/self/status") as file:
        effective = next(int(line.split()[1], 16) for line in file if line.startswith("CapEff:"))
    return bool(effective >> capability & 1)
