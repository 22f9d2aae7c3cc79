"""The processes that are measured, and the C program of the floors. All that is started here is ended here."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).parent
LIMIT = 120
"""Seconds that a started program may take for one thing."""


@contextlib.contextmanager
def child(regions: int) -> Iterator[int]:
    """The pid of a process with so many regions.

    It ends with the context; and when we are killed, since its input ends then.
    """
    program = [sys.executable, "-I", "-S", str(HERE / "child.py"), str(regions)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            said = process.stdout.readline()
            if not said.strip().isdigit():
                raise RuntimeError(f"the child with {regions} regions did not come up (is vm.max_map_count smaller?)")
            yield process.pid
        finally:
            process.kill()
            process.wait(LIMIT)


class Floors:
    """The bare system calls, in C."""

    def __init__(self, folder: Path) -> None:
        """Builds the program in a folder. `missing` says why there is none."""
        self.missing: str | None = None
        self._program = folder / "floors"
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            self.missing = "no C compiler (cc, gcc, clang) in PATH"
            return
        command = [compiler, "-O2", "-o", str(self._program), str(HERE / "floors.c")]
        built = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
        if built.returncode:
            self.missing = f"floors.c does not build here: {built.stderr.strip().splitlines()[-1]}"

    def run(self, what: str, file: str, *, addresses: list[int] | None = None) -> float:
        """Nanoseconds of the thing done once, after it was done once unmeasured. Raises Missing."""
        if self.missing is not None:
            raise Missing(self.missing)
        given = "\n".join(map(hex, addresses or [])).encode()
        done = subprocess.run([self._program, what, file, "2"], input=given, capture_output=True, timeout=LIMIT)
        if done.returncode == 3:
            raise Missing("this kernel has no PROCMAP_QUERY (older than Linux 6.11)")
        if done.returncode:
            raise RuntimeError(f"floors {what} {file}: {done.stderr.decode().strip()}")
        return float(done.stdout.split()[-1])


class Missing(Exception):
    """Something cannot be measured on this machine; the message says why."""
