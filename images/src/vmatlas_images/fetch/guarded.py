"""Starts commands under the guard, so that none of them outlives this process; see guard.py."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

_GUARD = Path(__file__).with_name("guard.py")
_LOOK = 0.05  # seconds between two looks at a command, at most
_GONE_WITHIN = 30.0  # seconds
_CWD = Path("/")
"""Where commands run: the current folder may be somebody else's. QEMU takes its firmware from there before all others
(`qemu_find_file`, system/datadir.c), Python its modules."""


class Guarded:
    """A command that ends when this process does, or at `end()`.

    `folder`, if given, is removed when the command has ended for whatever reason. `processor_seconds` is what it, and
    what it started and waited for, took of a processor; None until it has ended, and where its guard was killed.
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
        self.processor_seconds: float | None = None
        self._reaping = threading.Lock()
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
        end, pause = time.monotonic() + limit, 0.0005
        while (status := self._status()) is None:
            left = end - time.monotonic()
            if left <= 0:
                return None
            pause = min(pause * 2, left, _LOOK)
            time.sleep(pause)
        return status

    def _status(self) -> int | None:
        """As `subprocess` would, but that it drops what the kernel tells of a child that it reaps."""
        with self._reaping:
            if self.process.returncode is None:
                ended, status, used = os.wait4(self.process.pid, os.WNOHANG)
                if not ended:
                    return None
                self.process.returncode = os.waitstatus_to_exitcode(status)
                if self.process.returncode >= 0:  # else it was the guard that was killed, before it reaped the command
                    self.processor_seconds = used.ru_utime + used.ru_stime
            return self.process.returncode

    def spent(self) -> float | None:
        """Seconds of a processor that the command and its children have taken until now; None where that is not told.

        By /proc/PID/stat (proc_pid_stat(5): utime, stime, and those of children that were waited for). Of what ends
        while it is asked nothing is told.
        """
        ticks = [told for pid in _below(self.process.pid) if (told := _ticks(pid)) is not None]
        return sum(ticks) / os.sysconf("SC_CLK_TCK") if ticks else None

    def end(self) -> int:
        """Kills the command if it still runs; returns when it is gone. May be called again."""
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1
        status = self.wait(_GONE_WITHIN)
        if status is None:
            raise subprocess.TimeoutExpired(self.process.args, _GONE_WITHIN)
        return status


def _below(pid: int) -> Iterator[int]:
    """The children of a process, theirs, and so on."""
    try:
        lists = [path.read_text("ascii") for path in Path(f"/proc/{pid}/task").glob("*/children")]
    except OSError:  # it has ended
        return
    for child in map(int, " ".join(lists).split()):
        yield child
        yield from _below(child)


def _ticks(pid: int) -> int | None:
    try:
        told = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return None
    return sum(map(int, told.rpartition(")")[2].split()[11:15]))


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
