"""Kernels that are programs of this host, and need no QEMU: what each is told, and the relay to its agent.

User-mode Linux is a kernel built as a program; our initramfs is its disk, and its serial line the agent's wire.
gVisor's runsc is a kernel in Go that answers the calls of what it runs: the agent, whose wire is its standard input and
output.
Neither takes a right of root's. This module starts nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import platform
import socket
import sys
import termios
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ..describe.machine import Machine
from ..errors import NotRunnable
from ..prepare.preparing import Prepared

_PIECE = 1 << 16  # bytes
_SIP = 512
"""Bytes. A serial line of User-mode Linux (6.1) that was throttled, since its 4,096 bytes were full, never goes on
(arch/um/drivers/line.c). Requests are made small for it (`vmatlas.payload=` on its command line); what is larger all
the same is given out in sips, each once the one before was taken, ..."""
_SWALLOW = 0.002
"""... and so many seconds later, in which it is read."""
_STUCK = 10.0
"""Seconds after which the next sip is given all the same."""
_HOSTS = {"amd64": "x86_64", "arm64": "aarch64"}
_ONTO = """
import os, sys
wire, console = map(int, sys.argv[1:3])
for descriptor, onto in ((wire, 0), (wire, 1), (console, 2)):
    os.dup2(descriptor, onto)
os.closerange(3, max(wire, console) + 1)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Gives a program its wire as standard input and output, and the console for what it complains of. No shell: some know
no descriptor above 9."""
_BEGUN = "Linux version "
"""What a kernel of Linux says first. Before it User-mode Linux asks what the host lets it do, and ends if that is too
little."""


@dataclass(frozen=True)
class Start:
    """What is run, and the whole of its environment."""

    command: list[str]
    environment: Mapping[str, str]


def check_host(machine: Machine) -> None:
    """Raises `NotRunnable` where a program for that processor cannot run."""
    host = platform.machine().lower()
    if platform.system() != "Linux" or _HOSTS.get(host, host) != machine.processor:
        raise NotRunnable(f"its kernel is a program for Linux on {machine.processor}, and this host is another")


def start_of(machine: Machine, prepared: Prepared, folder: Path, console: int, wire: int) -> Start:
    """The command for a machine; `console` and `wire` are sockets that it inherits, `folder` is its own."""
    assert prepared.kernel is not None
    # Its memory is a file there, and its sockets: what lies in the user's own folders is no machine's business.
    environment = {"PATH": os.defpath, "TMPDIR": str(folder), "HOME": str(folder)}
    words = machine.boot.command_line.split()
    if machine.boot.start == "user-mode":
        assert prepared.initramfs is not None
        command = [str(prepared.kernel), f"mem={machine.boot.memory}M", f"initrd={prepared.initramfs.absolute()}"]
        command += [f"uml_dir={folder}", "umid=machine", "con=null", f"con0=fd:{console}", f"ssl0=fd:{wire}", *words]
        return Start(command, environment)
    assert prepared.agent is not None
    options = [str(prepared.kernel), f"--root={folder / 'state'}", "--rootless", "--network=none", "--ignore-cgroups"]
    command = [*options, *words, "do", str(prepared.agent.absolute())]
    onto = [sys.executable, "-I", "-S", "-c", _ONTO, str(wire), str(console)]
    return Start([*onto, *command], environment)


def has_begun(machine: Machine, said: str) -> bool:
    """Whether the kernel itself has begun, by its console: what ends it from then on is its own doing.

    Of a sandbox nothing is heard before its agent's hello but what went wrong.
    """
    return machine.boot.start == "user-mode" and _BEGUN in said


class Relay:
    """Carries bytes between a machine's wire and whoever is connected to a socket, one at a time, as QEMU does.

    What the machine says while nobody is connected is dropped. It ends with the wire.
    """

    def __init__(self, listening: socket.socket, wire: socket.socket, *, slowly: bool = False) -> None:
        """`slowly`: the machine loses what comes faster than it reads."""
        self._listening, self._wire, self._slowly = listening, wire, slowly
        self._client: socket.socket | None = None
        self._spoke = False
        for work in (self._inwards, self._outwards):
            threading.Thread(target=work, name=f"relay{work.__name__}", daemon=True).start()

    def _inwards(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # one of the two is closed: the machine has ended
            while True:
                client = self._listening.accept()[0]
                with client:
                    self._client = client
                    with contextlib.suppress(ConnectionError):
                        while said := client.recv(_PIECE):
                            self._carry(said)
                    self._client = None

    def _carry(self, said: bytes) -> None:
        # Who has not said a word has not opened its end: it takes nothing, and will look when something new comes.
        if not (self._slowly and self._spoke):
            self._wire.sendall(said)
            return
        for start in range(0, len(said), _SIP):
            self._wire.sendall(said[start : start + _SIP])
            end = time.monotonic() + _STUCK
            time.sleep(_SWALLOW)
            while self._waits_to_be_read() and time.monotonic() < end:
                time.sleep(_SWALLOW)

    def _waits_to_be_read(self) -> bool:
        return fcntl.ioctl(self._wire, termios.TIOCOUTQ, bytes(4)) != bytes(4)

    def _outwards(self) -> None:
        with contextlib.suppress(OSError):
            while said := self._wire.recv(_PIECE):
                self._spoke = True
                client = self._client
                if client is not None:
                    with contextlib.suppress(OSError):  # it has gone
                        client.sendall(said)
        for end in (self._client, self._listening):
            if end is not None:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
