"""Starts commands under the guard, so that none of them outlives this process; see guard.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_GUARD = Path(__file__).with_name("guard.py")
_CWD = Path("/")
"""Where commands run: the current folder may be somebody else's. QEMU takes its firmware from there before all others
(`qemu_find_file`, system/datadir.c), Python its modules."""


class Guarded:
    """A command that ends when this process does, or at `end()`.

    `folder`, if given, is removed when the command has ended for whatever reason.
    """

    def __init__(
        self,
        command: Sequence[str | Path],
        *,
        folder: Path | None = None,
        output: int | IO[bytes] = subprocess.DEVNULL,
        cwd: Path = _CWD,
        environment: Mapping[str, str] | None = None,
        keep: Sequence[int] = (),
    ) -> None:
        reading, self._lifeline = os.pipe()
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-S", _GUARD, str(reading), str(os.getpid()), str(folder or "-"), *command],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=environment,
                pass_fds=(reading, *keep),
            )
        except BaseException:
            os.close(self._lifeline)
            self._lifeline = -1
            raise
        finally:
            os.close(reading)

    def wait(self, limit: float) -> int | None:
        """The exit status (128 + N for signal N), or None when it still runs after `limit` seconds."""
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            return None

    def end(self) -> int:
        """Kills the command if it still runs; returns when it is gone. May be called again."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        return self.process.wait(30)


def run(
    command: Sequence[str | Path],
    limit: float,
    *,
    cwd: Path = _CWD,
    environment: Mapping[str, str] | None = None,
) -> tuple[int | None, str]:
    """Runs a command to its end, or for `limit` seconds: its status (None: the limit passed) and what it said, of which
    the last mebibyte is read.
    """
    with tempfile.TemporaryFile() as output:
        guarded = Guarded(command, output=output, cwd=cwd, environment=environment)
        try:
            status = guarded.wait(limit)
        finally:
            guarded.end()
        output.seek(max(0, output.seek(0, os.SEEK_END) - (1 << 20)))
        return status, output.read(1 << 20).decode("utf-8", "replace")
