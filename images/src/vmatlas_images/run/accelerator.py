"""Which accelerator runs a machine: KVM where a probe guest has answered under it, TCG everywhere else.

A /dev/kvm can be there, be writable, accept KVM_CREATE_VM, and still hang the guest. So a guest decides: a boot sector
of nine bytes that writes to QEMU's isa-debug-exit device, which ends QEMU with a status that nothing else gives. The
answer is kept for as long as the host is up. This module never runs a machine of the user's.

Limits of machines are meant for a host at rest. One that is busy gives each program a share of its processors; the
limits are multiplied by what is lost so, as it is measured when a machine is to boot.
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from ..errors import MachineError
from ..fetch.cache import Cache, key_of
from ..fetch.guarded import Guarded
from .qemu import find_qemu

_SAMPLE = 0.1  # seconds of a processor
PROBE_LIMIT = 6.0  # seconds; under a working KVM the probe takes less than one
_ANSWER = 0x2A
# mov dx, 0x501; mov al, 0x2a; out dx, al; cli; hlt
_BOOT_SECTOR = (b"\xba\x01\x05\xb0" + bytes([_ANSWER]) + b"\xee\xfa\xf4").ljust(510, b"\0") + b"\x55\xaa"
_HOST_PROCESSORS = {"x86_64": ("x86_64", "i386"), "amd64": ("x86_64", "i386")}

Probe = Callable[[Path], str | None]
"""Tells why QEMU (the program at this path) cannot use KVM here, or None: a guest answered."""


@dataclass(frozen=True)
class Accelerator:
    """The accelerator to use, and why."""

    name: Literal["kvm", "tcg", "none"]
    reason: str
    pace: float = field(default=1.0, compare=False)
    """How many times longer work takes on this host now than on the same host at rest."""

    @property
    def scale(self) -> float:
        """What the limits of a description, meant for TCG on a host at rest, are multiplied by."""
        return (0.5 if self.name == "kvm" else 1.0) * self.pace

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def probe(qemu: Path, accelerator: str = "kvm", limit: float = PROBE_LIMIT) -> str | None:
    """Boots the probe guest; None when it answered, else what happened instead."""
    with tempfile.TemporaryDirectory(prefix="vmatlas-probe-") as folder:
        disk, said = Path(folder, "disk"), Path(folder, "said")
        disk.write_bytes(_BOOT_SECTOR.ljust(1 << 20, b"\0"))
        words = [
            qemu,
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-machine",
            "pc",
            "-cpu",
            "max",
            "-m",
            "32",
        ]
        words += ["-accel", accelerator, "-device", "isa-debug-exit,iobase=0x501,iosize=2"]
        words += ["-drive", f"format=raw,if=ide,snapshot=on,file={disk}"]
        with said.open("wb") as output:
            guest = Guarded([str(word) for word in words], output=output)
        try:
            status = guest.wait(limit)
        finally:
            guest.end()
        if status == _ANSWER << 1 | 1:
            return None
        if status is None:
            return f"a probe guest did not answer under it within {limit:g} s"
        words_said = " ".join(said.read_text("utf-8", "replace").split())
        return f"a probe guest ended with status {status}: {words_said or 'no word'}"


def is_tcg_wanted() -> bool:
    """Whether `VMATLAS_ACCELERATOR` asks for no KVM. Raises `MachineError` for what it cannot ask for."""
    wanted = os.environ.get("VMATLAS_ACCELERATOR", "")
    if wanted not in ("", "tcg"):
        raise MachineError(
            f"VMATLAS_ACCELERATOR is '{wanted}': it can be tcg, or not set",
            hint="KVM is used by itself where a probe guest answers under it",
        )
    return wanted == "tcg"


def host_pace() -> float:
    """How long work takes here now against the processor's time that it takes: 1 or more, to a tenth."""
    began, worked = time.monotonic(), time.thread_time()
    while time.thread_time() - worked < _SAMPLE:
        pass
    return max(1.0, round((time.monotonic() - began) / _SAMPLE, 1))


def without() -> Accelerator:
    """For a kernel that is a program of this host."""
    return Accelerator("none", "the kernel is a program of this host", pace=host_pace())


def choose(processor: str, cache: Cache | None = None, *, probe: Probe = probe) -> Accelerator:
    """The accelerator for machines of a processor on this host, and the host's pace as it is now.

    `VMATLAS_ACCELERATOR=tcg` skips the probe. The probe's answer holds until the host is booted again, QEMU is
    replaced, or the rights on /dev/kvm change. Raises `MachineError` for any other word in that variable.
    """
    return replace(_chosen(processor, cache, probe), pace=host_pace())


def _chosen(processor: str, cache: Cache | None, probe: Probe) -> Accelerator:
    if is_tcg_wanted():
        return Accelerator("tcg", "VMATLAS_ACCELERATOR says so")
    host = platform.machine().lower()
    if processor not in _HOST_PROCESSORS.get(host, ()):
        if processor in (host, {"arm64": "aarch64"}.get(host)):
            return Accelerator("tcg", f"there is no probe guest for {processor} yet, and KVM is not used unproven")
        return Accelerator("tcg", f"{processor} on a {host} host")
    device = Path("/dev/kvm")
    if not device.exists():
        return Accelerator("tcg", "no /dev/kvm")
    if not os.access(device, os.R_OK | os.W_OK):
        return Accelerator("tcg", "/dev/kvm is there, but not for this user")
    cache = cache or Cache()
    qemu = find_qemu(processor)
    with cache.lock("accelerator", limit=60):
        state = key_of(_boot_id(), os.geteuid(), str(qemu.resolve()), qemu.stat().st_mtime)
        found = cache.record("accelerator")
        if found is not None and found[0].get("state") == state:
            problem = found[0].get("problem") or None
        else:
            problem = probe(qemu)
            cache.write_record("accelerator", {"state": state, "problem": problem or ""})
    if problem is None:
        return Accelerator("kvm", "a probe guest answered under it")
    return Accelerator("tcg", f"/dev/kvm is there, but {problem}")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
    except OSError:
        return "unknown"
