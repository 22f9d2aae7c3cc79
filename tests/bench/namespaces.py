"""Real sshd's, each in a network namespace of its own, on one bridge: hosts that this machine has to itself (root).

All of it is in a network namespace of the caller's too, so nothing that others see is changed, and nothing is left.
`python -P -m tests.bench.namespaces FOLDER COUNT` has them, each with processes of its own as well, until its input
ends: FOLDER/sshd/bin holds an `ssh` that reaches them from anywhere.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

_CLONE_NEWNET = 0x40000000
_PATIENCE = 120.0


def _sshd() -> ModuleType:
    """Keys and configuration, as the tests have them."""
    path = Path(__file__).parents[2] / "core/fleet/tests/sshd.py"
    spec = importlib.util.spec_from_file_location("sshd", path)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def alone() -> None:
    """Leave the network for one that is empty; for the calling thread, and those that it makes from now on."""
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNET):
        sys.exit(f"no network namespace: {os.strerror(ctypes.get_errno())} (it takes root)")
    _ip("link set lo up", "link add vmbridge type bridge", "addr add 10.77.0.1/16 dev vmbridge", "link set vmbridge up")


def _ip(*lines: str, inside: int | None = None) -> None:
    enter = [] if inside is None else ["nsenter", "-t", str(inside), "-n"]
    subprocess.run([*enter, "ip", "-batch", "-"], input="\n".join(lines), text=True, check=True, timeout=_PATIENCE)


class Sshds:
    """So many, at 10.77.1.1:22, 10.77.1.2:22, ...; `ssh` of PATH has their key and one to log in by, from now on."""

    def __init__(self, folder: Path, count: int, *, apart: bool = False) -> None:
        """`apart`: each sees processes of its own alone."""
        sshd = _sshd()
        if (why := sshd.why_not()) is not None:
            sys.exit(why)
        alone()
        folder.mkdir()
        os.environ["PATH"] = f"{sshd.prepare(folder)}:{os.environ['PATH']}"
        config = folder / "sshd_config"
        lines = [line for line in config.read_text().split("\n") if not line.startswith("ListenAddress")]
        config.write_text("\n".join(lines))
        self.hosts = [f"10.77.{1 + number // 250}.{1 + number % 250}" for number in range(count)]
        alike = ["setpriv", "--pdeathsig", "KILL", "unshare", "-n"]
        own = ["-p", "-m", "--mount-proc", "--fork", "--kill-child"] if apart else []
        waits = [*alike, *own, "sh", "-c", 'read -r address; exec "$0" -D -e -f "$1" -o "ListenAddress=$address"']
        log = (folder / "log").open("wb")
        self.programs = [
            subprocess.Popen([*waits, str(sshd.SSHD), str(config)], stdin=subprocess.PIPE, stderr=log)
            for _ in self.hosts
        ]
        log.close()
        for number, (host, program) in enumerate(zip(self.hosts, self.programs, strict=True)):
            self._join(number, host, program)
        for host in self.hosts:
            _await(host, 22)

    @staticmethod
    def _join(number: int, host: str, program: subprocess.Popen[bytes]) -> None:
        mine, until = os.readlink("/proc/thread-self/ns/net"), time.monotonic() + _PATIENCE
        while os.readlink(f"/proc/{program.pid}/ns/net") == mine:  # it is still on its way
            assert program.poll() is None and time.monotonic() < until
            time.sleep(0.005)
        there = f"w{number}"
        _ip(
            f"link add v{number} type veth peer name {there} netns {program.pid}",
            f"link set v{number} master vmbridge up",
        )
        _ip(f"addr add {host}/16 dev {there}", f"link set {there} up", "link set lo up", inside=program.pid)
        assert program.stdin is not None
        program.stdin.write(host.encode() + b"\n")
        program.stdin.flush()

    def end(self) -> None:
        """End them; their namespaces go with them."""
        for program in self.programs:
            program.kill()  # unshare does not end by SIGTERM while it has a child
        for program in self.programs:
            program.communicate()


def _await(host: str, port: int) -> None:
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            socket.create_connection((host, port), timeout=5).close()
            return
        except OSError:
            assert time.monotonic() < until, f"no sshd at {host}"
            time.sleep(0.05)


def main() -> None:
    """See the head of this file."""
    folder, count = Path(sys.argv[1]) / "sshd", int(sys.argv[2])
    sshds = Sshds(folder, count, apart=True)
    ssh = folder / "bin" / "ssh"
    enters = f"exec nsenter -t {os.getpid()} -n "
    ssh.write_text(ssh.read_text().replace("exec ", enters))
    print(json.dumps(sshds.hosts), flush=True)
    sys.stdin.read()
    sshds.end()


if __name__ == "__main__":
    main()
