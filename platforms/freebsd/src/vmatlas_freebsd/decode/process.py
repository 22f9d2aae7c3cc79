"""`struct kinfo_proc` of a 64-bit FreeBSD: who a process is. Pure."""

from __future__ import annotations

import struct
from typing import NamedTuple

from vmatlas.errors import MalformedData, NoSuchProcess
from vmatlas_freebsd.layout import P_KPROC, P_WEXIT, PROC_FIELDS, PROC_SIZE, STATES, SZOMB, ByteOrder

STREAM = "proc"
"""The record beside a map that is empty: it tells a process of the kernel from a zombie."""
BOOT_TIME = "boottime"
"""The timeval of the sysctl kern.boottime, as the agent sends it beside `proc`."""


class Process(NamedTuple):
    """One process as the kernel lists it."""

    pid: int
    parent: int
    user: int
    started: int
    """Microseconds since 1970, by the clock of the moment: setting the clock moves it. See `start_time`."""
    state: str
    kernel: bool
    ending: bool
    name: str

    @property
    def is_zombie(self) -> bool:
        """It has ended, and its memory is gone."""
        return self.state == STATES[SZOMB]


def parse_processes(data: bytes, byte_order: ByteOrder, *, stream: str = STREAM) -> list[Process]:
    """Records, one after another. Raises MalformedData, also for the shorter records of a 32-bit kernel."""
    order = "<" if byte_order == "little" else ">"
    found: list[Process] = []
    for offset in range(0, len(data), PROC_SIZE):
        size = struct.unpack_from(order + "I", data, offset)[0] if len(data) - offset >= 4 else 0
        if size != PROC_SIZE or len(data) - offset < PROC_SIZE:
            expected = f"a struct kinfo_proc of {PROC_SIZE} bytes (of a 64-bit kernel)"
            raise MalformedData(stream, offset, expected, found=data[offset : offset + 8])
        fields = {name: struct.unpack_from(order + code, data, offset + at) for name, (at, code) in PROC_FIELDS.items()}
        seconds, microseconds = fields["start"]
        found.append(
            Process(
                pid=fields["pid"][0],
                parent=fields["ppid"][0],
                user=fields["uid"][0],
                started=seconds * 1_000_000 + microseconds,
                state=STATES.get(fields["stat"][0], "?"),
                kernel=bool(fields["flag"][0] & P_KPROC),
                ending=bool(fields["flag"][0] & P_WEXIT),
                name=fields["comm"][0].split(b"\0")[0].decode("utf-8", "surrogateescape"),
            )
        )
    return found


def parse_boot_time(data: bytes, byte_order: ByteOrder) -> int:
    """Microseconds since 1970. Raises MalformedData."""
    if len(data) != 16:
        raise MalformedData(BOOT_TIME, 0, "a timeval of 16 bytes (of a 64-bit kernel)", found=data)
    seconds, microseconds = struct.unpack(("<" if byte_order == "little" else ">") + "qq", data)
    return int(seconds * 1_000_000 + microseconds)


def start_time(process: Process, boot_time: int) -> int:
    """Microseconds from boot to the start of the process: with the pid, its identity.

    The kernel keeps the start as a time since boot and adds the boot's time of day when it is asked, so that a clock
    that is set moves both (sys/kern/kern_proc.c). The difference stays.
    """
    return max(process.started - boot_time, 0)


def judge_empty_map(proc: bytes | None, stream: str, byte_order: ByteOrder, *, pid: int) -> None:
    """What an empty map means: returns for a process of the kernel, whose address space is empty.

    Raises NoSuchProcess for a zombie, and MalformedData when there is nothing to tell by.
    """
    if proc is None:
        raise MalformedData(stream, 0, "at least one region (an empty map needs the stream 'proc' beside it)", pid=pid)
    found = parse_processes(proc, byte_order)
    if len(found) != 1:
        raise MalformedData(STREAM, 0, "one struct kinfo_proc", pid=pid)
    if found[0].is_zombie:
        raise NoSuchProcess(f"process {pid} ({found[0].name}) has ended; it is a zombie without memory", pid=pid)
    if not found[0].kernel:
        raise MalformedData(stream, 0, f"the regions of process {pid} ({found[0].name}), which is alive", pid=pid)
