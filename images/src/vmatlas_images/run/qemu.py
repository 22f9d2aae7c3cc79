"""QEMU: which program runs which processor, its arguments, and its monitor (QMP, through the qemu.qmp library).

A table by processor and a description in, a command line out. This module starts nothing itself, and knows no
operating system.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from qemu.qmp import QMPClient, QMPError

from ..describe.machine import Firmware, Machine, version_numbers
from ..errors import ImagesError, NotRunnable
from ..prepare.preparing import Prepared


@dataclass(frozen=True)
class Emulator:
    """The program that runs a processor, and Debian's and Ubuntu's packages that have had it, newest name first."""

    program: str
    packages: tuple[str, ...]
    boards_have_ide: bool = False


EMULATORS: Mapping[str, Emulator] = {
    "x86_64": Emulator("qemu-system-x86_64", ("qemu-system-x86",), boards_have_ide=True),
    "i386": Emulator("qemu-system-i386", ("qemu-system-x86",), boards_have_ide=True),
    "aarch64": Emulator("qemu-system-aarch64", ("qemu-system-arm",)),
    "armhf": Emulator("qemu-system-arm", ("qemu-system-arm",)),
    "riscv64": Emulator("qemu-system-riscv64", ("qemu-system-riscv", "qemu-system-misc")),
    "s390x": Emulator("qemu-system-s390x", ("qemu-system-s390x", "qemu-system-misc")),
    "ppc64el": Emulator("qemu-system-ppc64", ("qemu-system-ppc",)),
    "loong64": Emulator("qemu-system-loongarch64", ("qemu-system-misc",)),
    "mips64el": Emulator("qemu-system-mips64el", ("qemu-system-mips",)),
}
# The library logs an error whenever QEMU goes away; who asked is told by an exception, so nothing shall be printed.
logging.getLogger("qemu.qmp").addHandler(logging.NullHandler())
_INSTALL = "apt-get install --no-install-recommends"
_BLOCK = "virtio-blk-device"
_DISKS = {"ide": "ide-hd", "virtio": "virtio-blk", "virtio-mmio": _BLOCK, "scsi": "scsi-hd"}
_CDS = {(True, True): "ide-cd", (True, False): "scsi-cd", (False, True): _BLOCK, (False, False): _BLOCK}
"""By whether there is PCI, and whether the boards have IDE."""
_SECOND_PORT = "isa-serial,chardev=agent,index=1"  # COM2: 0x2f8, interrupt 3


def find_qemu(processor: str) -> Path:
    """QEMU for a processor. Raises `NotRunnable` with the one command that installs it."""
    emulator = EMULATORS[processor]
    found = shutil.which(emulator.program)
    if found is None:
        raise NotRunnable(f"{emulator.program} is missing", hint=f"{_INSTALL} {_package(emulator)}")
    return Path(found).absolute()


def qemu_for(machine: Machine) -> Path:
    """QEMU for a machine, new enough and with its firmware. Raises `NotRunnable`, which says what to install."""
    found, wanted, firmware = find_qemu(machine.processor), machine.boot.qemu, machine.boot.firmware
    if wanted is not None:
        release = _release_of(found, found.stat().st_mtime)
        if version_numbers(release) < version_numbers(wanted.at_least):
            told = (
                f"{found.name} is {release or 'of no version that it tells'}, and it takes {wanted.at_least} or newer"
            )
            raise NotRunnable(told, hint=wanted.obtain)
    if firmware is not None and not Path(firmware.path).is_file():
        raise NotRunnable(f"no firmware at {firmware.path}", hint=f"{_INSTALL} {firmware.package}")
    return found


@functools.cache
def _release_of(qemu: Path, modified: float) -> str:
    """What it says of itself; asked again when the program was replaced."""
    done = subprocess.run([qemu, "--version"], capture_output=True, text=True, timeout=60, check=False)
    told = re.search(r"version ([0-9][0-9.]*)", done.stdout)
    return told[1] if told else ""


def missing(processors: set[str]) -> list[Emulator]:
    """The emulators of these processors that are not installed."""
    wanted = {EMULATORS[processor] for processor in processors}
    return sorted((e for e in wanted if shutil.which(e.program) is None), key=lambda e: e.program)


def _package(emulator: Emulator) -> str:
    """The package's name on this host: some emulators have moved to a package of their own."""
    if len(emulator.packages) > 1 and shutil.which("apt-cache") is not None:
        for name in emulator.packages:
            shown = subprocess.run(
                ["apt-cache", "show", "--no-all-versions", name], capture_output=True, timeout=60, check=False
            )
            if shown.returncode == 0 and shown.stdout.startswith(b"Package:"):
                return name
    return emulator.packages[0]


def install_qemu(processors: set[str], firmware: Iterable[Firmware] = ()) -> list[str]:
    """Installs the emulators and firmware that are missing, with apt-get; the names of the packages installed.

    Raises `NotRunnable` where that cannot be done (not root, no apt-get) and when apt-get fails.
    """
    emulators = missing(processors)
    packages = {_package(emulator) for emulator in emulators}
    packages |= {each.package for each in firmware if not Path(each.path).is_file()}
    if not packages:
        return []
    command = f"{_INSTALL} {' '.join(sorted(packages))}"
    if shutil.which("apt-get") is None:
        names = ", ".join([emulator.program for emulator in emulators] or sorted(packages))
        raise NotRunnable(f"{names} missing, and this host has no apt-get", hint="install QEMU with its own packages")
    if os.geteuid() != 0:
        raise NotRunnable("QEMU can be installed by root alone", hint=f"sudo {command}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for words in (["apt-get", "-q", "update"], [*command.split(), "-y", "-q"]):
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200, env=environment, check=False
        )
        if done.returncode != 0:
            said = " ".join(line for line in done.stderr.splitlines() if line.startswith("E:")) or done.stderr[-300:]
            raise NotRunnable(f"{' '.join(words)} failed: {said}", hint=f"run it by hand: {command}")
    return sorted(packages)


@dataclass(frozen=True)
class Sockets:
    """Descriptors of listening sockets that QEMU inherits, one for each stream to the outside."""

    console: int
    agent: int
    monitor: int


def arguments(machine: Machine, prepared: Prepared, accelerator: str, sockets: Sockets) -> list[str]:
    """QEMU's arguments. The machine starts paused (-S), so that nothing is said before someone listens.

    Nothing of QEMU's defaults is there (no network, no second display), so that a machine is what its description says.
    With a serial console the agent's wire is the second serial port, with a VGA console the first.
    """
    boot = machine.boot
    words = ["-name", f"vmatlas-{machine.name}", "-nodefaults", "-no-user-config", "-no-reboot", "-S"]
    words += ["-display", "none", "-machine", boot.board, "-accel", accelerator]
    words += ["-cpu", _cpu(boot.cpu, machine.processor, accelerator)]
    words += ["-m", str(boot.memory), "-smp", str(boot.processors)]
    for name, descriptor in (("console", sockets.console), ("agent", sockets.agent), ("monitor", sockets.monitor)):
        words += ["-chardev", f"socket,id={name},fd={descriptor},server=on,wait=off"]
    words += ["-mon", "chardev=monitor,mode=control"]
    words += ["-vga", "std"] if boot.console == "vga" else ["-vga", "none", "-serial", "chardev:console"]
    words += {
        "serial": ["-serial", "chardev:agent"],
        "isa-serial": ["-device", _SECOND_PORT],
        "pci-serial": ["-device", "pci-serial,chardev=agent"],
        "virtio-serial": ["-device", "virtio-serial", "-device", "virtserialport,chardev=agent,name=vmatlas"],
    }[machine.agent.wire]
    if boot.firmware is not None:
        words += ["-bios", boot.firmware.path]
    if prepared.kernel is not None:
        words += ["-kernel", str(prepared.kernel.absolute())]
        if prepared.initramfs is not None:
            words += ["-initrd", str(prepared.initramfs.absolute())]
        if boot.command_line:
            words += ["-append", boot.command_line]
    has_ide = EMULATORS[machine.processor].boards_have_ide
    has_pci = boot.disk != "virtio-mmio"
    if boot.disk == "scsi" or (prepared.cd is not None and not has_ide and has_pci):
        words += ["-device", "virtio-scsi"]
    if prepared.disk is not None:
        words += ["-drive", f"id=disk,if=none,format={boot.format},snapshot=on,file={_escaped(prepared.disk)}"]
        first = ",bootindex=0" if prepared.kernel is None else ""  # a kernel is first by itself
        words += ["-device", f"{_DISKS[boot.disk]},drive=disk{first}"]
    if prepared.cd is not None:
        media = "media=cdrom," if has_pci else ""  # there it is a disk that cannot be written to
        words += ["-drive", f"id=cd,if=none,{media}format=raw,readonly=on,file={_escaped(prepared.cd)}"]
        words += ["-device", f"{_CDS[has_pci, has_ide]},drive=cd"]
    return [*words, *boot.arguments]


def _cpu(model: str, processor: str, accelerator: str) -> str:
    """The processor model; where QEMU emulates it, without what it does badly (x86-64) or dearly (aarch64).

    Seen with QEMU 7.2 and Linux 6.12: about one boot in forty ended in a fault within a few instructions of a
    `gs cmpxchg16b` in the slab allocator, EFLAGS holding the low half of RAX. Without the feature Linux uses none.
    Pointers are signed at each call of Linux on ARM; by a cipher of QEMU's own in place of QARMA, taken step by
    step, the whole machine costs half (54 s of a processor, 27 s). No program can tell the two apart.
    """
    without = {"x86_64": "-cx16", "aarch64": "pauth-impdef=on"}.get(processor)
    return f"{model},{without}" if without is not None and (accelerator, model) == ("tcg", "max") else model


def _escaped(path: Path) -> str:
    return str(path.absolute()).replace(",", ",,")


class Monitor:
    """QEMU's monitor. Calls may come from any thread; each has a limit, after which the monitor counts as lost."""

    def __init__(self, connection: socket.socket, *, limit: float = 20) -> None:
        self._loop = asyncio.new_event_loop()
        self._client = QMPClient("vmatlas")
        self._thread = threading.Thread(target=self._loop.run_forever, name="qmp", daemon=True)
        self._thread.start()
        self._closed = False
        try:
            connection.setblocking(False)
            self._run(self._client.connect(connection), limit, "connect")
        except BaseException:
            self.close()
            raise

    def execute(self, command: str, arguments: dict[str, object] | None = None, *, limit: float = 20) -> object:
        """What QEMU returns. Raises `ImagesError` when it refuses, is gone, or does not answer within `limit`
        seconds.
        """
        return self._run(self._client.execute(command, arguments), limit, command)

    def close(self) -> None:
        """Lets go of QEMU; it may be gone already. May be called again."""
        if self._closed:
            return
        self._closed = True
        future = asyncio.run_coroutine_threadsafe(self._client.disconnect(), self._loop)
        try:
            future.result(5)
        except Exception:
            future.cancel()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        if not self._thread.is_alive():
            self._loop.close()

    def _run(self, task: object, limit: float, what: str) -> object:
        future = asyncio.run_coroutine_threadsafe(_await(task), self._loop)
        try:
            return future.result(limit)
        except TimeoutError:
            future.cancel()
            raise ImagesError(f"QEMU's monitor did not answer to {what} within {limit:g} s") from None
        except (QMPError, OSError, EOFError) as error:
            raise ImagesError(f"QEMU's monitor: {what}: {error}") from error


async def _await(task: object) -> object:
    return await task  # type: ignore[misc]
