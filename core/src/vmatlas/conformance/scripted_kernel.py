"""Runs a plugin's source (native/acquire.c) on this machine, under the sanitizers, against a kernel that a test plays.

The plugin's tests bring a driver in C that answers for the kernel (`native/scripted_kernel.h` has what drivers share)
and, beside it, as much of the system's headers as the source includes. It needs a source tree, with vmatlas-agents: a
source is compiled with the headers and the warnings of the agent.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from vmatlas.conformance.compiling import compile_test
from vmatlas.conformance.patience import PATIENCE


class Asked(NamedTuple):
    """What came of a question to a source."""

    streams: dict[str, bytes]
    """What it put, in the order in which the streams began."""
    error: int
    """An errno; 0: it answered."""
    refused: bool
    """The error is the source's own, not the kernel's."""
    failed: str
    """Which call failed, in the source's words."""
    calls: list[str]
    """The lines that the driver's kernel printed."""


class ScriptedKernel:
    """A driver and what it drives, built into `folder`. Skips where there is no C compiler, or no vmatlas-agents.

    `driver` comes first in the search for headers, then `headers`.
    """

    def __init__(self, folder: Path, driver: Path, *sources: Path, headers: Sequence[Path] = ()) -> None:
        build = pytest.importorskip("vmatlas_agents.build", reason="vmatlas-agents is not installed")
        flags = [*build.COMMON, *(f"-Wl,--wrap={name}" for name in ("mmap", "mmap64", "munmap"))]
        self._program = compile_test([driver, *sources], flags, [driver.parent, *headers, build.NATIVE], folder)

    def ask(self, pid: int, **script: int | Sequence[int]) -> Asked:
        """One question, with the numbers of the script by their names: `ask(46, size=1000, growth=[5, 6])`.

        `scripted_kernel.h` says which names there are. Asserts that the sanitizers found nothing, and no other mistake.
        """
        lists = {name: [said] if isinstance(said, int) else said for name, said in {"pid": pid, **script}.items()}
        words = [f"{name}={','.join(map(str, said))}" for name, said in lists.items()]
        done = subprocess.run([self._program, *words], capture_output=True, timeout=PATIENCE, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        return _asked(done.stdout)


def _asked(printed: bytes) -> Asked:
    parts: dict[tuple[str, int], bytearray] = {}
    calls: list[str] = []
    at = 0
    while True:
        end = printed.index(b"\n", at)
        line, at = printed[at:end].decode(), end + 1
        match line.split(" ", 3):
            case ["put", stream, part, size]:
                parts.setdefault((stream, int(part)), bytearray()).extend(printed[at : at + int(size)])
                at += int(size) + 1
            case ["end", error, refused, failed]:
                assert at == len(printed), "the driver went on after its end"
                return Asked(_joined(parts), int(error), refused == "1", failed, calls)
            case _:
                calls.append(line)


def _joined(parts: dict[tuple[str, int], bytearray]) -> dict[str, bytes]:
    """A stream is its part 0, then its part 1."""
    streams = dict.fromkeys([stream for stream, _ in parts], b"")
    assert all((stream, 0) in parts for stream in streams), f"a stream without a part 0: {list(parts)}"
    for (stream, _), content in sorted(parts.items()):
        streams[stream] += bytes(content)
    return streams
