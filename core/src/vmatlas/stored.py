"""What systemd-coredump noted of a core that it stored: in extended attributes of the file (`user.coredump.*`), and in
the journal, of which coredumpctl tells where it is installed.

Both are words of others on a file: they are told beside what the core itself says, and never instead of it.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from typing import NamedTuple

SECONDS = 10.0
"""How long coredumpctl may take: it goes through the journal."""
_MOST = 1 << 20
"""Bytes of its answer that are looked at: a stack trace of each thread stands in it."""
_NAME = re.compile(r"core\..+\.\d+\.[0-9a-f]{32}\.\d+\.\d+(?:\.(?:zst|lz4|xz))?")
"""core.COMM.UID.BOOT-ID.PID.MICROSECONDS"""
_LABELS = {
    "PID": re.compile(r"(\d{1,10})\b"),
    "Signal": re.compile(r"(\d{1,3})\b"),
    "Command Line": re.compile(r"(.+)"),
    "Executable": re.compile(r"(.+)"),
    "Unit": re.compile(r"(.+)"),
    "User Unit": re.compile(r"(.+)"),
    "Hostname": re.compile(r"(.+)"),
}
_LINE = re.compile(r" *([A-Z][A-Za-z ]+): (.*)")


class Noted(NamedTuple):
    """What was noted; None where nothing was."""

    pid: int | None = None
    signal: int | None = None
    arguments: str | None = None
    """The command line."""
    executable: str | None = None
    unit: str | None = None
    """The unit of systemd that the process was of: "nginx.service"."""
    host: str | None = None


def noted(path: str | os.PathLike[str]) -> Noted:
    """By the file's attributes, and by coredumpctl where the file has a name as systemd-coredump gives it."""
    attributes = _attributes(path)
    if _NAME.fullmatch(os.path.basename(os.fspath(path))) is None:
        return attributes
    journal = _by_coredumpctl(os.path.realpath(path))
    if attributes.pid is not None and journal.pid not in (None, attributes.pid):
        return attributes  # of another crash
    return attributes._replace(**{key: value for key, value in journal._asdict().items() if value is not None})


def _attributes(path: str | os.PathLike[str]) -> Noted:
    told: dict[str, str] = {}
    for key in ("pid", "signal", "exe", "hostname"):
        with contextlib.suppress(OSError, AttributeError):  # no such attribute, file system or function
            told[key] = os.getxattr(path, f"user.coredump.{key}").decode("utf-8", "surrogateescape")
    return Noted(
        pid=_number(told.get("pid")),
        signal=_number(told.get("signal")),
        executable=told.get("exe") or None,
        host=told.get("hostname") or None,
    )


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and re.fullmatch(r"[0-9]{1,10}", text) else None


def _by_coredumpctl(path: str) -> Noted:
    program = shutil.which("coredumpctl")
    if program is None:
        return Noted()
    command = [program, "info", "--no-pager", "--quiet", f"COREDUMP_FILENAME={path}"]
    environment = {**os.environ, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False, env=environment
        )
    except (OSError, subprocess.TimeoutExpired):
        return Noted()
    if done.returncode:  # it knows of no such core, or may not read the journal
        return Noted()
    found: dict[str, list[str]] = {}
    for line in done.stdout[:_MOST].decode("utf-8", "surrogateescape").split("\n"):
        if (parts := _LINE.fullmatch(line)) is not None and parts[1] in _LABELS:
            found.setdefault(parts[1], []).append(parts[2])
    # A command line may hold a newline and what looks like another label: what stands there twice is not believed.
    told = {
        label: matched[1]
        for label, values in found.items()
        if len(values) == 1 and (matched := _LABELS[label].match(values[0])) is not None
    }
    return Noted(
        _number(told.get("PID")),
        _number(told.get("Signal")),
        told.get("Command Line"),
        told.get("Executable"),
        told.get("Unit", told.get("User Unit")),
        told.get("Hostname"),
    )


__all__ = ["SECONDS", "Noted", "noted"]
