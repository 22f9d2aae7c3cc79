"""A real sshd on loopback, with keys and configuration of its own, and an `ssh` that reads them."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from vmatlas.conformance.patience import PATIENCE

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")


def why_not() -> str | None:
    """Why there can be none here."""
    if SSHD is None or shutil.which("ssh") is None:
        return "no sshd or no ssh here: apt-get install openssh-server openssh-client"
    shell = pwd.getpwuid(os.geteuid()).pw_shell
    if Path(shell).name in ("nologin", "false"):
        return f"this user has no shell to log in to ({shell})"
    return None


def key(path: Path) -> None:
    """A new one in its place."""
    path.unlink(missing_ok=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True, timeout=PATIENCE)


def prepare(folder: Path) -> Path:
    """Keys and configuration in a folder, and a folder for PATH in which `ssh` reads them."""
    (folder / "tmp").mkdir()
    for name in ("host", "user"):
        key(folder / name)
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/user.pub\nStrictModes no\n"
        f"UsePAM no\nPasswordAuthentication no\nPidFile none\nPermitRootLogin yes\nMaxStartups 1000\n"
        f"SetEnv TMPDIR={folder}/tmp\n"
    )
    (folder / "ssh_config").write_text(
        f"Host *\nIdentityFile {folder}/user\nIdentitiesOnly yes\nStrictHostKeyChecking accept-new\n"
        f"UserKnownHostsFile {folder}/known\nLogLevel ERROR\n"
    )
    path = folder / "bin" / "ssh"
    path.parent.mkdir()
    path.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {folder}/ssh_config "$@"\n')
    path.chmod(0o755)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    return path.parent


@contextlib.contextmanager
def serving(folder: Path, port: int = 0) -> Iterator[int]:
    """An sshd of that folder; its port, free or the one that is wanted."""
    for _ in range(20):
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", port))
            chosen = free.getsockname()[1]
        log = folder / "log"
        with log.open("wb") as said:
            command = [str(SSHD), "-D", "-e", "-f", folder / "sshd_config", "-p", str(chosen)]
            child = subprocess.Popen(command, stderr=said)
        try:
            until = time.monotonic() + PATIENCE
            while f"Server listening on 127.0.0.1 port {chosen}." not in (text := log.read_text()):
                if child.poll() is not None:
                    break
                assert time.monotonic() < until, text
                time.sleep(0.05)
            else:
                yield chosen
                return
        finally:
            child.terminate()
            child.wait(PATIENCE)
    raise AssertionError(log.read_text())
